"""What a wallet owns and where: pending, in channels, on the chain. All in µ¢."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..state import ChainStatus, Channel
from .follower import Funds
from .ledger import SENT, Ledger
from .payments import PaymentAsk, RequestState
from .results import chain_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A wallet's money at one moment; amounts in µ¢.

    `in_channel_ucent` can be spent now; of it the chain knows `settled_ucent`, the rest is
    `unsettled_ucent` (negative while our own payments are not settled).
    `sent_unacknowledged_ucent` is spent already, the hub has not said that it holds it;
    `withdrawing_ucent` is reserved for a withdrawal that is not on-chain yet and no part of
    `in_channel_ucent`; `requested_ucent` we asked for; `asked_ucent` the hub asks of us.
    `token_ucent` lies in the account and `claimable_ucent` waits for it at the contract, as of
    `block`; None before the chain has been read.
    """

    in_channel_ucent: int
    settled_ucent: int
    unsettled_ucent: int
    sent_unacknowledged_ucent: int
    withdrawing_ucent: int
    requested_ucent: int
    asked_ucent: int
    submissions_waiting: int
    token_ucent: int | None
    claimable_ucent: int | None
    block: int | None

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def unacknowledged_ucent(ledger: Ledger, channels: Iterable[Channel]) -> int:
    """What we have paid on channels that are not closed and the hub has not acknowledged."""
    return sum(
        stored.payment.amount_ucent
        for channel in channels
        if chain_status(channel) is not ChainStatus.CLOSED
        for stored in ledger.payments(
            channel.id, SENT, first_nonce=channel.sent.acknowledged_nonce + 1
        )
    )


def balance_of(
    channels: Iterable[Channel],
    *,
    requests: Iterable[PaymentAsk],
    submissions_waiting: int,
    sent_unacknowledged_ucent: int,
    funds: Funds | None,
) -> Balance:
    """Add everything up; a closed channel's money is in the account."""
    in_channel = settled = withdrawing = 0
    for channel in channels:
        if channel.chain is None or channel.chain.status is ChainStatus.CLOSED:
            continue
        in_channel += channel.our_balance_ucent()
        withdrawing += (
            channel.withdrawn_ucent(channel.side) - channel.chain.withdrawn_ucent[channel.side]
        )
        settled += (
            channel.owned_ucent(channel.side)
            + channel.chain.settled_ucent[channel.side.other]
            - channel.chain.settled_ucent[channel.side]
        )
    open_ones = [ask for ask in requests if ask.state is RequestState.OPEN]
    return Balance(
        in_channel_ucent=in_channel,
        settled_ucent=settled,
        unsettled_ucent=in_channel - settled,
        sent_unacknowledged_ucent=sent_unacknowledged_ucent,
        withdrawing_ucent=withdrawing,
        requested_ucent=sum(ask.amount_ucent for ask in open_ones if ask.ours),
        asked_ucent=sum(ask.amount_ucent for ask in open_ones if not ask.ours),
        submissions_waiting=submissions_waiting,
        token_ucent=None if funds is None else funds.token_ucent,
        claimable_ucent=None if funds is None else funds.claimable_ucent,
        block=None if funds is None else funds.block,
    )
