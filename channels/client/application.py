"""What a wallet or a hub does with what its channels tell it: the port that the driver calls."""

from __future__ import annotations

from itertools import islice
from typing import Final, Protocol

from ..errors import FarthingError
from ..events import (
    Effect,
    TellAcknowledged,
    TellReceived,
    TellStopped,
    TellStored,
    TellWithdrawal,
)
from ..state import Channel, SignedClose, Withdrawal, WithdrawalTerms
from ..voucher import Payment
from .ledger import RECEIVED, Ledger, Statement

TOLD_AT_ONCE: Final = 512
"""Payments of one call: as many as an update that is sent again holds."""


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


def tell(application: Application, ledger: Ledger, channel: Channel, effect: Effect) -> None:
    """Tell of what is durable now; raises `TypeError` on an effect that tells nothing."""
    match effect:
        case TellReceived(first_nonce=first_nonce, payments=payments):
            application.on_received(channel, first_nonce, payments)
        case TellStored(first_nonce=first_nonce, last_nonce=last_nonce):
            _tell_stored(application, ledger, channel, first_nonce, last_nonce)
        case TellAcknowledged(nonce=nonce):
            application.on_acknowledged(channel, nonce)
        case TellWithdrawal(terms=terms, taken=taken):
            application.on_withdrawal(channel, terms, taken=taken)
        case TellStopped(reason=reason):
            application.on_stopped(channel, reason)
        case _:
            raise TypeError(f"{type(effect).__name__} is not carried out after a commit")


def _tell_stored(
    application: Application, ledger: Ledger, channel: Channel, first_nonce: int, last_nonce: int
) -> None:
    """Tell of received payments that were held back when they came in, part by part."""
    rows = ledger.payments(channel.id, RECEIVED, first_nonce=first_nonce, last_nonce=last_nonce)
    while part := tuple(islice(rows, TOLD_AT_ONCE)):
        payments = tuple(stored.payment for stored in part)
        application.on_received(channel, part[0].total.nonce, payments)
