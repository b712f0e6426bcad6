"""The hub's top-ups on disk: each durable before it is sent, and settled in what became of it.

Rule: a top-up that was sent counts as on its way until a confirmed block says what became of its
nonce, and again once that block was replaced. So a crash, an endpoint that gives no answer or a
reorganisation never sends it a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from ..channels.client.ledger import Ledger, Statement
from ..channels.ids import Address, ChannelId

DAY_SECONDS: Final = 86_400
KEPT_DAYS: Final = 31
"""What has ended is kept for a month, for the operator; then it is in the chain's logs alone."""


class TopUpState(StrEnum):
    """What became of a top-up."""

    SENT = "sent"
    ARRIVED = "arrived"
    LOST = "lost"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """A deposit that the hub sends to one of its lanes.

    `nonce` is its transaction's, `deposit_before_ucent` what the lane's deposit was, `day` the day
    of chain time, and `block` the one that it was mined in, once that is known.
    """

    id: int
    channel: ChannelId
    account: Address
    amount_ucent: int
    deposit_before_ucent: int
    nonce: int
    day: int
    block: int | None = None
    state: TopUpState = TopUpState.SENT

    def arrived(self, deposit_ucent: int) -> bool:
        """Whether a lane's deposit shows it."""
        return deposit_ucent >= self.deposit_before_ucent + self.amount_ucent


class TopUps:
    """What is on its way, and what went today; every change comes with its statement."""

    def __init__(self, ledger: Ledger) -> None:
        """Read what an earlier process left; the tables are there (`HubStore`)."""
        self._ledger = ledger
        self._next_id = ledger.query("SELECT coalesce(max(id), 0) FROM top_up")[0][0] + 1
        self.on_their_way: dict[ChannelId, tuple[TopUp, ...]] = {}
        """Of each channel that has any, oldest first: several only after a reorganisation."""
        self.read_again()
        self._day = -1
        self._of_account: Counter[Address] = Counter()
        self._of_channel: Counter[ChannelId] = Counter()
        self._today = 0

    def on_its_way_ucent(self) -> int:
        """What was sent and is not known to have arrived, or not to."""
        return sum(one.amount_ucent for one in self.each_on_its_way())

    def on_its_way_to_ucent(self, channel: ChannelId) -> tuple[int, int]:
        """The same for one lane, and how much of that counts for today."""
        ours = self.on_their_way.get(channel, ())
        today_ucent = sum(one.amount_ucent for one in ours if one.day == self._day)
        return sum(one.amount_ucent for one in ours), today_ucent

    def each_on_its_way(self) -> list[TopUp]:
        """All of them, of all channels."""
        return [one for several in self.on_their_way.values() for one in several]

    def read_again(self) -> None:
        """Take in what is on its way from disk, where `taken_back` may have changed it."""
        self.on_their_way.clear()
        for one in _load(self._ledger, "WHERE state='sent' ORDER BY id", ()):
            self._append(one)

    def _append(self, one: TopUp) -> None:
        self.on_their_way[one.channel] = (*self.on_their_way.get(one.channel, ()), one)

    def turn_to(self, day: int) -> list[Statement]:
        """Begin a day of chain time; what it has seen already counts."""
        if day == self._day:
            return []
        self._day = day
        self._of_account.clear()
        self._of_channel.clear()
        self._today = 0
        for one in _load(self._ledger, "WHERE day=? AND state IN ('sent', 'arrived')", (day,)):
            self._count(one, 1)
        return [("DELETE FROM top_up WHERE day<? AND state<>'sent'", (day - KEPT_DAYS,))]

    def _count(self, one: TopUp, sign: int) -> None:
        if one.day == self._day:
            self._of_account[one.account] += sign * one.amount_ucent
            self._of_channel[one.channel] += sign * one.amount_ucent
            self._today += sign

    def today(self) -> tuple[int, int]:
        """How many lanes were topped up today, and with how many µ¢ in all."""
        return self._today, sum(self._of_channel.values())

    def member_today_ucent(self, account: Address) -> int:
        """What a member's lanes were topped up with today, on its way or there."""
        return self._of_account[account]

    def channel_today_ucent(self, channel: ChannelId) -> int:
        """What one lane was topped up with today."""
        return self._of_channel[channel]

    # -- what happens to them ---------------------------------------------------------------

    def send(self, rows: Iterable[TopUp]) -> list[Statement]:
        """Note top-ups that are about to be sent; one that had been lost on its way ends."""
        statements: list[Statement] = []
        for row in rows:
            for earlier in self.on_their_way.get(row.channel, ()):
                statements += self.end(earlier, TopUpState.LOST)
            one = replace(row, id=self._next_id)
            self._next_id += 1
            self._append(one)
            self._count(one, 1)
            statements.append(_insert(one))
        return statements

    def mined(self, channel: ChannelId, block: int) -> list[Statement]:
        """Note which block a top-up is in; it has arrived once that is confirmed."""
        *earlier, newest = self.on_their_way[channel]
        one = replace(newest, block=block)
        self.on_their_way[channel] = (*earlier, one)
        return [("UPDATE top_up SET block=? WHERE id=?", (block, one.id))]

    @staticmethod
    def taken_back(standing: int) -> list[Statement]:
        """Put those of blocks after `standing` on their way again: what becomes of them is open.

        `read_again` takes it in, once it is durable.
        """
        sql = (
            "UPDATE top_up SET state='sent', block=NULL"
            " WHERE state IN ('sent', 'arrived') AND (block IS NULL OR block>?)"
        )
        return [(sql, (standing,))]

    def end(self, one: TopUp, state: TopUpState) -> list[Statement]:
        """Note what became of a top-up; unless it arrived it counts for nothing."""
        left = tuple(each for each in self.on_their_way[one.channel] if each.id != one.id)
        if left:
            self.on_their_way[one.channel] = left
        else:
            del self.on_their_way[one.channel]
        if state is not TopUpState.ARRIVED:
            self._count(one, -1)
        return [("UPDATE top_up SET state=? WHERE id=?", (state.value, one.id))]


def _insert(one: TopUp) -> Statement:
    return "INSERT INTO top_up VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (
        one.id,
        one.channel,
        one.account,
        str(one.amount_ucent),
        str(one.deposit_before_ucent),
        one.nonce,
        one.day,
        one.block,
        one.state.value,
    )


def _load(ledger: Ledger, clause: str, parameters: Sequence[Any]) -> list[TopUp]:
    rows = ledger.query(
        f"SELECT * FROM top_up {clause}",  # noqa: S608 - the clauses are written in this file
        parameters,
    )
    return [
        TopUp(
            id=number,
            channel=ChannelId(channel),
            account=Address(account),
            amount_ucent=int(amount),
            deposit_before_ucent=int(before),
            nonce=nonce,
            day=day,
            block=block,
            state=TopUpState(state),
        )
        for number, channel, account, amount, before, nonce, day, block, state in rows
    ]
