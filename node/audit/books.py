"""Sorts the events of the chain by channel, and refuses logs that cannot be all of them."""

from __future__ import annotations

from typing import assert_never

from ...channels.ids import Address, ChannelId, address_to_hex, to_hex
from ...channels.terms import Side
from .errors import LogsIncomplete
from .records import (
    Books,
    ChainView,
    Channel,
    Claimed,
    Closed,
    CloseStarted,
    Credited,
    Deposited,
    Lane,
    LaneId,
    Opened,
    Settled,
    Withdrawn,
)


def build_books(view: ChainView) -> Books:
    """Sort all events by channel; raises `LogsIncomplete` where some must be missing."""
    drafts: dict[ChannelId, _Draft] = {}
    credited: dict[Address, int] = {}
    for event in view.events:
        match event:
            case Opened():
                drafts[event.channel] = _Draft(event)
            case Claimed():
                credited[event.account] = credited.get(event.account, 0) - event.amount_ucent
            case Credited():
                credited[event.account] = credited.get(event.account, 0) + event.amount_ucent
            case _ if event.channel not in drafts:
                raise LogsIncomplete(
                    f"the log that opened channel {to_hex(event.channel)} is missing"
                )
            case _:
                drafts[event.channel].add(event)
    _check_sequences(view, drafts)
    _check_memberships(view)
    return Books(
        channels={channel: draft.channel() for channel, draft in drafts.items()},
        credited_ucent=credited,
    )


class _Draft:
    """A channel while its events are being read."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.deposits: tuple[list[Deposited], list[Deposited]] = ([], [])
        self.withdrawals: tuple[list[Withdrawn], list[Withdrawn]] = ([], [])
        self.settlements: tuple[list[Settled], list[Settled]] = ([], [])
        self.closing = False
        self.closed: Closed | None = None

    def add(self, event: Deposited | Withdrawn | Settled | CloseStarted | Closed) -> None:
        match event:
            case Deposited():
                self.deposits[self._side(event.account)].append(event)
            case Withdrawn():
                self.withdrawals[self._side(event.account)].append(event)
            case Settled():
                self.settlements[self._side(event.payer)].append(event)
            case CloseStarted():
                self.closing = True
            case Closed():
                self.closing, self.closed = False, event
            case _:
                assert_never(event)

    def channel(self) -> Channel:
        return Channel(
            opened=self.opened,
            lanes=(self._lane(Side.A), self._lane(Side.B)),
            deposits=(tuple(self.deposits[0]), tuple(self.deposits[1])),
            withdrawals=(tuple(self.withdrawals[0]), tuple(self.withdrawals[1])),
            closing=self.closing,
            closed=self.closed,
        )

    def _lane(self, side: Side) -> Lane:
        accounts = (self.opened.account_a, self.opened.account_b)
        return Lane(
            id=LaneId(channel=self.opened.channel, payer=accounts[side]),
            side=side,
            payee=accounts[side.other],
            settlements=tuple(self.settlements[side]),
        )

    def _side(self, account: Address) -> Side:
        if account == self.opened.account_a:
            return Side.A
        if account == self.opened.account_b:
            return Side.B
        raise LogsIncomplete(
            f"a log of channel {to_hex(self.opened.channel)} is about {address_to_hex(account)}, "
            "who is no party of it"
        )


def _check_sequences(view: ChainView, drafts: dict[ChannelId, _Draft]) -> None:
    # The contract counts its channels from 1 without gaps.
    seen = {draft.opened.sequence for draft in drafts.values()}
    if seen != set(range(1, view.channels_opened + 1)):
        raise LogsIncomplete(
            f"the contract opened {view.channels_opened} channels, the logs tell of {len(seen)}"
        )


def _check_memberships(view: ChainView) -> None:
    told = {change.account: change for change in view.memberships}
    for account, now in view.members.items():
        last = told.get(account)
        by_logs = (last.status, last.valid_until) if last else (0, 0)
        if by_logs != (now.status, now.valid_until):
            raise LogsIncomplete(
                f"the registry holds another status of {address_to_hex(account)} than its last log"
            )
