"""What a wallet or a hub does with what its channels tell it: the port that the driver calls."""

from __future__ import annotations

from typing import Protocol

from ..errors import FarthingError
from ..state import Channel, SignedClose, Withdrawal, WithdrawalTerms
from ..voucher import Payment
from .ledger import Statement


class Application(Protocol):
    """What a wallet or a hub does with what the channels tell it; called after the commit."""

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        """Take note of payments that came in, verified and durable."""

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        """Take note that the peer holds our payments up to a nonce."""

    def on_stopped(self, channel: Channel, reason: str) -> None:
        """Take note that a channel signs and accepts nothing any more."""

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        """Submit a co-signed close to the chain, in a task of the application's own."""

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        """Submit a co-signed withdrawal to the chain, in a task of the application's own."""

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        """Take note that our own withdrawal is on-chain, or has died and is free again."""


class Countersigning(Protocol):
    """Which of the peers' withdrawals a party countersigns, of those that the core allows."""

    def refusal(self, channel: Channel, terms: WithdrawalTerms) -> FarthingError | None:
        """Why a withdrawal is not countersigned, or None where it is."""

    def countersigned(self, channel: Channel) -> list[Statement]:
        """What to commit with the signature on one."""
