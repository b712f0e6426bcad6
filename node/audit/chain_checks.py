"""Checks of the chain's own books, channel by channel, account by account: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...channels.ids import Address, address_to_hex, to_hex
from ...channels.terms import Side
from .records import (
    STATUS_CLOSED,
    STATUS_CLOSING,
    STATUS_OPEN,
    Books,
    ChainView,
    Channel,
    ChannelState,
    Code,
    Deposited,
    Finding,
    LaneId,
    Withdrawn,
)


def check_events(channel: Channel) -> Iterator[Finding]:
    """Every event continues the figure that the one before it left."""
    for side in Side:
        yield from _check_settlements(channel, side)
        first = channel.opened.deposit_ucent if side is Side.A else 0
        yield from _check_running_total(channel, "deposit", first, channel.deposits[side])
        yield from _check_running_total(channel, "withdrawal", 0, channel.withdrawals[side])


def _check_settlements(channel: Channel, side: Side) -> Iterator[Finding]:
    total = 0
    for settled in channel.lanes[side].settlements:
        if settled.before_ucent != total or settled.transferred_ucent <= total:
            yield _of_channel(
                Code.EVENTS_DO_NOT_CHAIN,
                channel,
                f"the settlement in block {settled.block} raises the lane of "
                f"{address_to_hex(settled.payer)} from {settled.before_ucent} to "
                f"{settled.transferred_ucent} µ¢, but it stood at {total} µ¢",
            )
        total = settled.transferred_ucent


def _check_running_total(
    channel: Channel, kind: str, total: int, events: Sequence[Deposited] | Sequence[Withdrawn]
) -> Iterator[Finding]:
    for event in events:
        if event.total_ucent != total + event.amount_ucent:
            yield _of_channel(
                Code.EVENTS_DO_NOT_CHAIN,
                channel,
                f"the {kind} of {address_to_hex(event.account)} in block {event.block} adds "
                f"{event.amount_ucent} µ¢ to {total} µ¢ and gives {event.total_ucent} µ¢",
            )
        total = event.total_ucent


def check_state(channel: Channel, state: ChannelState) -> Iterator[Finding]:
    """What the contract holds is what its events add up to."""
    if channel.closed is not None:
        status = STATUS_CLOSED
    else:
        status = STATUS_CLOSING if channel.closing else STATUS_OPEN
    # After a cooperative close the lanes keep the last settled totals.
    told = {
        "status": (status, state.status),
        "transferred by A": (channel.settled_ucent(Side.A), state.transferred_ucent[0]),
        "transferred by B": (channel.settled_ucent(Side.B), state.transferred_ucent[1]),
        "deposit of A": (channel.deposited_ucent(Side.A), state.deposit_ucent[0]),
        "deposit of B": (channel.deposited_ucent(Side.B), state.deposit_ucent[1]),
        "withdrawn by A": (channel.withdrawn_ucent(Side.A), state.withdrawn_ucent[0]),
        "withdrawn by B": (channel.withdrawn_ucent(Side.B), state.withdrawn_ucent[1]),
    }
    for name, (by_events, held) in told.items():
        if by_events != held:
            yield _of_channel(
                Code.STATE_DIFFERS,
                channel,
                f"{name} is {held} in the contract and {by_events} by its events",
            )


def imbalance_ucent(channel: Channel, state: ChannelState) -> int:
    """Deposits − withdrawals − payouts − locked of one channel: 0 when it balances."""
    return (
        sum(
            channel.deposited_ucent(side)
            - channel.withdrawn_ucent(side)
            - channel.payout_ucent(side)
            for side in Side
        )
        - state.locked_ucent
    )


def check_conservation(channel: Channel, state: ChannelState) -> Iterator[Finding]:
    """Σ deposits = Σ withdrawals + Σ payouts + locked, locked as the contract holds it."""
    rest = imbalance_ucent(channel, state)
    if rest:
        yield _of_channel(
            Code.CHANNEL_UNBALANCED,
            channel,
            f"deposits exceed withdrawals, payouts and the locked {state.locked_ucent} µ¢ by "
            f"{rest} µ¢",
        )


def check_payout(channel: Channel) -> Iterator[Finding]:
    """A close pays A its balance within 0 and what is locked, and B the rest."""
    closed = channel.closed
    if closed is None:
        return
    locked = sum(channel.deposited_ucent(side) - channel.withdrawn_ucent(side) for side in Side)
    balance = (
        channel.deposited_ucent(Side.A)
        - channel.withdrawn_ucent(Side.A)
        + closed.transferred_ucent[Side.B]
        - closed.transferred_ucent[Side.A]
    )
    payout = min(max(balance, 0), locked)
    if payout != balance:
        short = abs(balance - payout)
        loser = channel.accounts[Side.B if balance < 0 else Side.A]
        yield _of_channel(
            Code.PAYOUT_CLAMPED,
            channel,
            f"the close in block {closed.block} held {short} µ¢ less than it owed to "
            f"{address_to_hex(loser)}: the other party paid or took out more than it had",
        )
    if closed.payout_ucent != (payout, locked - payout):
        yield _of_channel(
            Code.PAYOUT_DIFFERS,
            channel,
            f"the close in block {closed.block} paid {closed.payout_ucent[0]} and "
            f"{closed.payout_ucent[1]} µ¢ instead of {payout} and {locked - payout} µ¢",
        )


def _of_channel(code: Code, channel: Channel, text: str) -> Finding:
    return Finding(
        code=code,
        channel=channel.id,
        subject="channel",
        text=f"channel {to_hex(channel.id)}: {text}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one account put in, was paid, paid and took out over all its channels."""

    channels: int = 0
    deposited_ucent: int = 0
    received_ucent: int = 0
    paid_ucent: int = 0
    taken_ucent: int = 0
    """Withdrawals and payouts, those that wait to be claimed included."""


def accounts_of(
    channels: Iterable[Channel], finals_ucent: Mapping[LaneId, int]
) -> dict[Address, Account]:
    """Sum up each account; `finals_ucent` is what each lane transferred by its last receipt."""
    accounts: dict[Address, Account] = {}
    for channel in channels:
        for side in Side:
            taken = channel.withdrawn_ucent(side) + channel.payout_ucent(side)
            so_far = accounts.get(channel.accounts[side], Account())
            accounts[channel.accounts[side]] = Account(
                channels=so_far.channels + 1,
                deposited_ucent=so_far.deposited_ucent + channel.deposited_ucent(side),
                received_ucent=so_far.received_ucent + finals_ucent[channel.lanes[side.other].id],
                paid_ucent=so_far.paid_ucent + finals_ucent[channel.lanes[side].id],
                taken_ucent=so_far.taken_ucent + taken,
            )
    return accounts


def check_accounts(accounts: Mapping[Address, Account]) -> Iterator[Finding]:
    """No account took out more than it put in and received, less what it paid."""
    for address, account in accounts.items():
        own = account.deposited_ucent + account.received_ucent - account.paid_ucent
        if account.taken_ucent > own:
            yield Finding(
                code=Code.TOOK_TOO_MUCH,
                subject=f"account {address_to_hex(address)}",
                text=f"account {address_to_hex(address)} took {account.taken_ucent} µ¢ out of its "
                f"{account.channels} channels, but deposited {account.deposited_ucent}, received "
                f"{account.received_ucent} and paid {account.paid_ucent} µ¢: "
                f"{account.taken_ucent - own} µ¢ too much",
            )


def check_claimable(books: Books, view: ChainView) -> Iterator[Finding]:
    """What waits to be claimed is what was credited and not claimed."""
    for account, by_events in books.credited_ucent.items():
        held = view.claimable_ucent.get(account, 0)
        if held != by_events:
            yield Finding(
                code=Code.STATE_DIFFERS,
                subject=f"account {address_to_hex(account)}",
                text=f"account {address_to_hex(account)}: claimable is {held} µ¢ in the contract "
                f"and {by_events} µ¢ by its events",
            )


def check_balance(balance_ucent: int, locked_ucent: int, claimable_ucent: int) -> Iterator[Finding]:
    """The contract owns what it owes; more than that is a donation and nobody's loss."""
    surplus = balance_ucent - locked_ucent - claimable_ucent
    if surplus < 0:
        yield Finding(
            code=Code.BALANCE_SHORT,
            subject="contract",
            text=f"the contract owns {balance_ucent} µ¢ but owes {locked_ucent} µ¢ locked and "
            f"{claimable_ucent} µ¢ to be claimed: {-surplus} µ¢ are missing",
        )
    elif surplus:
        yield Finding(
            code=Code.DONATION,
            subject="contract",
            text=f"the contract owns {surplus} µ¢ more than it owes: somebody donated them",
        )
