"""Hands on payments that came in, one after the other, from what is durable."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final, Self

from ..ids import ChannelId
from .driver import Driver
from .ledger import Ledger
from .payments import IncomingPayment, incoming
from .pulse import Pulse

READ_AHEAD: Final = 64
"""Payments read at a time; a slow reader costs this much memory, whatever comes in."""


class Receiving:
    """An asynchronous iterator over incoming payments that never ends; cancelling loses none."""

    def __init__(self, ledger: Ledger, driver: Driver, pulse: Pulse, *, from_start: bool) -> None:
        self._ledger = ledger
        self._driver = driver
        self._pulse = pulse
        self._ready: deque[IncomingPayment] = deque()
        self._seen: dict[ChannelId, int] = {}
        if not from_start:
            self._seen = {c.id: c.told_nonce for c in driver.channels.values()}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> IncomingPayment:
        while True:
            self._read()
            if self._ready:
                return self._ready.popleft()
            await self._pulse.wait()

    def _read(self) -> None:
        if self._ready:
            return
        for channel in self._driver.channels.values():
            seen = self._seen.get(channel.id, 0)
            if channel.told_nonce > seen:
                rows = incoming(self._ledger, channel, first_nonce=seen + 1)
                found = list(islice(rows, READ_AHEAD))
                self._ready += found
                self._seen[channel.id] = found[-1].nonce if found else seen
