"""Sends a lane again from the store, slice by slice, as fast as its payee reads.

Rule: while a lane is being sent again, what is newly paid on it waits in the store, where the last
slice finds it: payments arrive in order and each of them once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..ids import ChannelId
from ..messages import Update
from ..packed import PAYMENTS_MAX, UPDATE_PAYMENT_BYTES_MAX, payment_bytes
from .ledger import SENT, Ledger, StoredPayment
from .wire import Wire

SLICE_PAYMENTS: Final = 512
"""Read, signed once and queued at a time: 5 ms, in which no other connection is served."""


@dataclass(slots=True, kw_only=True)
class _Lane:
    wire: Wire
    next_nonce: int
    last_nonce: int


class Resending:
    """The lanes that are being sent again, each on the connection that asked for it."""

    def __init__(
        self,
        ledger: Ledger,
        send: Callable[[ChannelId, list[StoredPayment], Wire], None],
    ) -> None:
        """Give each slice to `send`, which signs it and puts it on the connection."""
        self._ledger = ledger
        self._send = send
        self._lanes: dict[ChannelId, _Lane] = {}

    def start(self, channel: ChannelId, wire: Wire, first_nonce: int, last_nonce: int) -> None:
        """Send these payments; a peer that asks again before the end is sent them from there.

        Payments that follow those that are under way are sent after them.
        """
        lane = self._lanes.get(channel)
        if lane is not None and first_nonce == lane.last_nonce + 1:
            lane.last_nonce = last_nonce
            return
        self._lanes[channel] = _Lane(wire=wire, next_nonce=first_nonce, last_nonce=last_nonce)
        wire.refill = lambda: self._refill(wire)
        self._one_slice(channel)

    def takes(self, channel: ChannelId, update: Update) -> bool:
        """Whether these new payments are sent with the rest of a lane, not by themselves."""
        lane = self._lanes.get(channel)
        if lane is None:
            return False
        lane.last_nonce = update.first_nonce + len(update.payments) - 1
        return True

    def stop(self, channel: ChannelId) -> None:
        """Forget a lane whose connection no longer speaks for it."""
        self._lanes.pop(channel, None)

    def _refill(self, wire: Wire) -> None:
        """Give a peer that has read everything the next slice of each lane."""
        for channel in [c for c, lane in self._lanes.items() if lane.wire is wire]:
            if channel in self._lanes:  # a slice that could not be sent ends all of its connection
                self._one_slice(channel)

    def _one_slice(self, channel: ChannelId) -> None:
        lane = self._lanes[channel]
        last_nonce = min(lane.last_nonce, lane.next_nonce + min(SLICE_PAYMENTS, PAYMENTS_MAX) - 1)
        payments: list[StoredPayment] = []
        size = 0
        for stored in self._ledger.payments(
            channel, SENT, first_nonce=lane.next_nonce, last_nonce=last_nonce
        ):
            size += payment_bytes(stored.payment)
            if payments and size > UPDATE_PAYMENT_BYTES_MAX:
                break
            payments.append(stored)
        if payments:
            lane.next_nonce = payments[-1].total.nonce + 1
        if not payments or lane.next_nonce > lane.last_nonce:
            self.stop(channel)
        if payments:
            self._send(channel, payments, lane.wire)
