"""Notices that two processes use one wallet's key: they take each other's connection in turns.

Rule: a wallet has one connection, so that one that is told `replaced` and comes back was not alone.
It says so itself (`running-twice`); of one that does not, several takeovers within a minute do.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ..channels.ids import Address, address_to_hex

CODE: Final = "running-twice"
TEXT: Final = "another process uses this wallet's key at the same time"
REMEDY: Final = "stop one of the two; if you run only one, its key or its folder was copied"

TAKEOVERS: Final = 3
TAKEOVER_SECONDS: Final = 60.0
"""A lone wallet on a bad line dials again too, but not so often: it waits longer each time."""

REMEMBERED_SECONDS: Final = 24 * 3600.0
"""How long the operator is shown it after the last time; a second process may stay for hours."""

SIGNERS_MAX: Final = 10_000
"""Signers whose takeovers are remembered: as many as there are channels, unless told otherwise."""

log = logging.getLogger("farthing.hub")


class Doubles:
    """Which signers were seen to be used by two processes, and when last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._takeovers: dict[Address, deque[float]] = {}
        self._seen: dict[Address, float] = {}

    def took_over(self, signer: Address) -> bool:
        """Count that a connection replaced another one; whether two processes are behind it."""
        now = self._clock()
        times = self._takeovers.pop(signer, None) or deque(maxlen=TAKEOVERS)
        times.append(now)
        while len(self._takeovers) >= SIGNERS_MAX:
            del self._takeovers[next(iter(self._takeovers))]
        self._takeovers[signer] = times
        if len(times) == TAKEOVERS and now - times[0] <= TAKEOVER_SECONDS:
            self.found(signer)
        return self.is_double(signer)

    def found(self, signer: Address) -> None:
        """Note that two processes use a key, and tell the operator the first time."""
        if not self.is_double(signer):
            log.warning(
                "two processes use the key of wallet %s: one of them is to be stopped, or the key"
                " was copied",
                address_to_hex(signer),
            )
        self._seen.pop(signer, None)
        while len(self._seen) >= SIGNERS_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[signer] = self._clock()

    def is_double(self, signer: Address) -> bool:
        """Whether it was seen within the time that it is remembered."""
        seen = self._seen.get(signer)
        return seen is not None and self._clock() - seen <= REMEMBERED_SECONDS

    def listed(self) -> list[str]:
        """The signers to show to the operator."""
        return [address_to_hex(signer) for signer in self._seen if self.is_double(signer)]
