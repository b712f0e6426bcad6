"""What steps of the core leave to be committed together, and then to be carried out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ..events import Effect
from ..ids import ChannelId
from ..state import Channel
from ..voucher import LaneTotal, Payment
from .ledger import Statement, StoredPayment
from .wire import Wire


@dataclass(slots=True, kw_only=True)
class Batch:
    """States, payments and statements of one commit; its effects follow once that is durable."""

    channels: dict[ChannelId, Channel] = field(default_factory=dict)
    payments: list[tuple[ChannelId, int, StoredPayment]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    effects: list[tuple[Channel, Effect, Wire | None]] = field(default_factory=list)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    offers: int = 0
    """Signatures on closes and withdrawals; each changes its channel too."""
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit or to do."""
        return not (
            self.channels or self.payments or self.statements or self.effects or self.callbacks
        )

    def record(
        self,
        channel: ChannelId,
        direction: int,
        payments: tuple[Payment, ...],
        totals: tuple[LaneTotal, ...],
    ) -> None:
        """Add a lane's payments, each with the lane's total after it."""
        self.payments.extend(
            (channel, direction, StoredPayment(payment=payment, total=total))
            for payment, total in zip(payments, totals, strict=True)
        )
