"""Ordering payments to the hub, several under one signature, and waiting until it has them.

Rule: what is promised and the id under which it was asked for go into the same commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from ..ids import ChannelId
from ..state import Channel, Moment
from .driver import Driver
from .payment_ids import KeptPayment, PaymentIds
from .payments import usage_payment
from .pulse import Pulse
from .results import SentNoAnswer, SentPayment


class Paying:
    """Orders on the channel that `payable` gives."""

    def __init__(
        self,
        driver: Driver,
        payment_ids: PaymentIds,
        moment: Callable[[], Moment],
        pulse: Pulse,
        payable: Callable[[], Channel],
    ) -> None:
        self._driver = driver
        self._payment_ids = payment_ids
        self._moment = moment
        self._pulse = pulse
        self._payable = payable

    def once(self, amount_ucent: int, purpose: str, payment_id: bytes | None) -> KeptPayment:
        """Order a payment; under an id that was used before, it is that payment."""
        kept = None
        if payment_id is not None:
            kept = self._payment_ids.find(payment_id, amount_ucent, purpose)
        if kept is not None:
            return kept
        channel, nonce = self.many([(amount_ucent, purpose)])
        kept = KeptPayment(amount_ucent=amount_ucent, purpose=purpose, channel=channel, nonce=nonce)
        if payment_id is not None:  # into the same commit: nothing has been awaited
            statement, committed = self._payment_ids.keep(payment_id, kept)
            self._driver.store([statement], then=committed)
        return kept

    def many(self, orders: Sequence[tuple[int, str]]) -> tuple[ChannelId, int]:
        """Order amounts with their purposes, all or none; the channel and the first nonce."""
        channel, moment = self._payable(), self._moment()
        payments = tuple(
            usage_payment(amount, purpose, moment, channel.chain) for amount, purpose in orders
        )
        return channel.id, self._driver.pay(channel.id, payments, ())

    async def acknowledged(
        self,
        channel: ChannelId,
        first_nonce: int,
        amounts_ucent: Sequence[int],
        timeout_seconds: float,
    ) -> list[SentPayment]:
        """Wait until the hub has acknowledged all; raises `SentNoAnswer` if not in time."""
        last_nonce = first_nonce + len(amounts_ucent) - 1

        def acknowledged_nonce() -> int:
            return self._driver.get(channel).sent.acknowledged_nonce

        await self._driver.wait_durable()
        with trio.move_on_after(timeout_seconds):
            await self._pulse.until(lambda: acknowledged_nonce() >= last_nonce)
        held = acknowledged_nonce()
        payments = [
            SentPayment(
                channel=channel, nonce=nonce, amount_ucent=amount, acknowledged=nonce <= held
            )
            for nonce, amount in enumerate(amounts_ucent, first_nonce)
        ]
        if held < last_nonce:
            raise SentNoAnswer(*payments)
        return payments
