"""Keeps money in the hub's lanes: tops up what runs low, and says why where it cannot.

Rule: nothing is promised that the lane's confirmed deposit does not cover; the core checks that.
Here it is said in time, with the reason, and what may go into lanes is bounded: by the account's
balance, by what programmes have left to pay, and by a cap for each member and day.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from ..channels.client.driver import Driver
from ..channels.client.ledger import Ledger
from ..channels.client.outbox import GAP_MAX, NOT_SENT
from ..channels.errors import ChainError, LocalError
from ..channels.ids import Address, ChannelId, address_to_hex, to_hex
from ..channels.state import ChainStatus, Channel, Phase
from ..channels.terms import Side
from ..channels.units import DEPOSIT_MAX
from .chain import DepositRow, Mined
from .config import HubConfig
from .desk import ChainDesk
from .follower import Follower
from .rewards import Rewards
from .sender import TransactionFailed
from .shortage import BUDGET, DAY_CAP, LANE_FULL, OUT_OF_FUNDS, TOO_MUCH, TOPPING_UP, Shortage
from .top_ups import DAY_SECONDS, TopUp, TopUps, TopUpState

GATHER_SECONDS = 2
"""How long lanes that run low are gathered into one transaction; wallets ask again after one."""
AFTER_FAILURE_SECONDS: Final = 30
"""Until the next try after a transaction that failed as a whole, which the next would too."""
AFTER_REFUSAL_SECONDS: Final = 3600
"""Chain time until a lane is tried again whose row the contract refused: it costs gas each time."""

_SKIPPED: Final = {
    1: "the contract knows no such channel",
    2: "the channel is not open",
    10: "the deposit would be too large",
    11: "the hub's account or signer is not an active member",
    12: "the hub's account is not its party",
}
"""The contract's reasons for a deposit (contracts/requests.vy)."""

log = logging.getLogger("farthing.hub.liquidity")


class OutOfFunds(LocalError):
    """Channels that the hub's account cannot pay the deposits of."""

    code = "hub-out-of-funds"
    remedy = "mint credit to the hub's account, or lower deposit_ucent"

    def __init__(self, asked: int, affordable: int) -> None:
        super().__init__(f"{asked} channels are asked for and the account can fund {affordable}")
        self.asked = asked
        self.affordable = affordable


class _Moved(ChainError):
    """The account's nonce is not the one of the top-up that is to be replaced."""

    code = "top-up-moved"
    remedy = "nothing: it is looked at again"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """The hub's keys' addresses, and its ways to the chain."""

    desk: ChainDesk
    follower: Follower
    account: Address
    signer: Address


class Liquidity:
    """Tops up the hub's lanes in batches; knows what they cover and why not more."""

    def __init__(
        self,
        config: HubConfig,
        ledger: Ledger,
        driver: Driver,
        chain: OnChain,
        rewards: Rewards,
    ) -> None:
        self._config = config
        self._driver = driver
        self._desk = chain.desk
        self._follower = chain.follower
        self._account = chain.account
        self._rewards = rewards
        self.is_present: Callable[[ChannelId], bool] = lambda _: True
        """Whether a wallet was heard lately; a lane of one that was not waits for its need."""
        self._book = TopUps(ledger)
        self._needs: dict[ChannelId, int] = {}
        self._refused_until: dict[ChannelId, int] = {}
        self._funds_ucent: int | None = None
        self._funds_block = -1
        self._reserved_ucent = 0
        self._next_nonce = 0
        self._must_read_again = False
        self._must_look_back = False
        self._paused_until = float("-inf")
        self._trouble: frozenset[str] = frozenset()
        self.refusals: Counter[str] = Counter()
        """Payments that were refused for want of money in a lane, by reason, since the start."""

    # -- what a lane covers -----------------------------------------------------------------

    def shortage(
        self, channel: Channel, amount_ucent: int, *, counted_ucent: int = 0
    ) -> Shortage | None:
        """Why a payment is not covered now, or None where the core may decide; asks for nothing.

        `counted_ucent` of it count as spent by their programmes already.
        """
        short_ucent = amount_ucent - channel.our_balance_ucent()
        if short_ucent <= 0 or self._config.top_up_to_ucent == 0 or self._is_off:
            return None
        if not _can_be_topped_up(channel):
            return None
        if short_ucent > self._config.top_up_member_day_ucent:
            return TOO_MUCH
        if channel.id in self._book.on_their_way:
            return TOPPING_UP
        self._turn_day()
        budget = self._budget()
        budget = None if budget is None else budget + counted_ucent
        granted_ucent, why = self._grant(channel, short_ucent, self._free_ucent(), budget)
        return TOPPING_UP if granted_ucent >= short_ucent else why

    def refuse(
        self, channel: Channel, amount_ucent: int, *, counted_ucent: int = 0
    ) -> Shortage | None:
        """The same for a payment that is due: counts it, and has the lane topped up for it."""
        shortage = self.shortage(channel, amount_ucent, counted_ucent=counted_ucent)
        if shortage is not None:
            self.refusals[shortage.code] += 1
            if shortage.passing:
                needed = self._needs.get(channel.id, 0)
                self._needs[channel.id] = max(needed, amount_ucent)
        return shortage

    @property
    def _is_off(self) -> bool:
        return self._config.top_up_member_day_ucent == 0

    def _grant(
        self, channel: Channel, wanted_ucent: int, free_ucent: int | None, budget: int | None
    ) -> tuple[int, Shortage]:
        """How much of what is wanted may go in now, and what bounds it.

        What is on its way to the same lane, and seems lost, counts for nothing: it is replaced.
        """
        again_ucent, again_today_ucent = self._book.on_its_way_to_ucent(channel.id)
        used_ucent = self._book.member_today_ucent(channel.peer_account) - again_today_ucent
        deposit_ucent = channel.chain.deposit_ucent[Side.A] if channel.chain else 0
        bounds = [
            (wanted_ucent, TOPPING_UP),
            (self._config.top_up_member_day_ucent - used_ucent, DAY_CAP),
            (DEPOSIT_MAX - deposit_ucent, LANE_FULL),
        ]
        if budget is not None:
            bounds.append((budget + again_ucent, BUDGET))
        if free_ucent is not None:  # not known before the first look
            bounds.append((free_ucent + again_ucent, OUT_OF_FUNDS))
        return min(bounds, key=lambda bound: bound[0])

    def _free_ucent(self) -> int | None:
        """The account's balance less what is on its way out of it; None before the first look."""
        if self._funds_ucent is None:
            return None
        on_its_way_ucent = self._book.on_its_way_ucent() + self._reserved_ucent
        return max(self._funds_ucent - on_its_way_ucent, 0)

    def _budget(self) -> int | None:
        """What programmes may still pay and no top-up is on its way for; None if unlimited."""
        left_ucent = 0
        for budget in self._rewards.budgets():
            if budget.left_ucent is None:
                return None
            left_ucent += budget.left_ucent
        return max(left_ucent - self._book.on_its_way_ucent(), 0)

    # -- openings, out of the same money ----------------------------------------------------

    async def affordable(self) -> int | None:
        """How many channels the account can fund now; None for any. Raises `ChainError`."""
        if self._config.deposit_ucent == 0:
            return None
        await self._read_funds()
        return (self._free_ucent() or 0) // self._config.deposit_ucent

    @contextmanager
    def reserved(self, amount_ucent: int) -> Iterator[None]:
        """Keep that much from top-ups while it is being spent."""
        self._reserved_ucent += amount_ucent
        try:
            yield
        finally:
            self._reserved_ucent -= amount_ucent

    # -- topping up -------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again and again until cancelled; a chain that fails is asked again."""
        failed = False
        while True:
            await trio.sleep(GATHER_SECONDS)
            try:
                await self.look()
                failed = False
            except NOT_SENT as error:
                if not failed:  # once, not at each attempt of a long outage
                    log.warning("%s", error)
                failed = True

    def take_back(self, standing: int) -> None:
        """Know that the blocks after `standing` were replaced: what arrived there may not have."""
        self._driver.store(TopUps.taken_back(standing))
        self._must_read_again = True

    async def look(self) -> None:
        """Take in what became of earlier top-ups, then send what is due; raises `NOT_SENT`."""
        if self._must_read_again:
            self._must_read_again = False
            self._must_look_back = True
            await self._driver.wait_durable()
            self._book.read_again()
        self._turn_day()
        await self._take_in()
        await self._read_funds()
        if self._is_off or trio.current_time() < self._paused_until:
            return
        rows = self._plan()
        if rows:
            await self._send(rows)

    def _turn_day(self) -> None:
        statements = self._book.turn_to(self._day)
        if statements:
            self._driver.store(statements)

    @property
    def _day(self) -> int:
        return self._follower.moment().head_timestamp // DAY_SECONDS

    async def _read_funds(self) -> None:
        """Read the account's balance at the confirmed head, once a head."""
        block = self._follower.moment().head_block
        if block == self._funds_block and self._funds_ucent is not None:
            return
        account = self._account
        found = await self._desk.read(lambda chain: chain.balance_ucent(account, block))
        self._funds_ucent, self._funds_block = found, block

    async def _take_in(self) -> None:
        """End every top-up whose nonce a confirmed block has used: it is in the deposit or lost."""
        if not self._book.on_their_way:
            return
        block = self._follower.moment().head_block
        account = self._account
        used = await self._desk.read(lambda chain: chain.transactions(account, block))
        self._next_nonce = await self._desk.read(lambda chain: chain.next_nonce(account))
        statements = []
        for one in self._book.each_on_its_way():
            if one.block is not None and block < one.block:
                continue
            view = self._driver.get(one.channel).chain
            if one.nonce >= used or view is None:
                self._must_look_back = self._must_look_back or one.block is not None
                continue
            arrived = one.arrived(view.deposit_ucent[Side.A])
            state = TopUpState.ARRIVED if arrived else TopUpState.LOST
            statements += self._book.end(one, state)
            if not arrived:
                log.warning(
                    "a top-up of channel %s was lost: it is sent again", to_hex(one.channel)
                )
        if statements:
            self._driver.store(statements)
        if self._must_look_back:  # a block was replaced, and nobody else may send for hours
            await self._desk.send(lambda chain: chain.look_back())
            self._must_look_back = False

    def _plan(self) -> list[TopUp]:
        """Choose the lanes to top up now; those that a payment waits for come first."""
        free_ucent, budget = self._free_ucent(), self._budget()
        rows: list[TopUp] = []
        trouble: dict[str, str] = {}
        due = [c for c in self._driver.channels.values() if self._is_due(c)]
        due.sort(key=lambda c: (c.id not in self._needs, c.our_balance_ucent()))
        for channel in due:
            available_ucent = channel.our_balance_ucent()
            needed_ucent = self._needs.get(channel.id, 0)
            target_ucent = max(self._config.top_up_to_ucent, needed_ucent)
            wanted_ucent = target_ucent - available_ucent
            amount_ucent, why = self._grant(channel, wanted_ucent, free_ucent, budget)
            if amount_ucent < self._least_ucent(needed_ucent - available_ucent, why):
                trouble[why.code] = f"channel {to_hex(channel.id)} of {_member(channel)}"
                continue
            if len(rows) == self._config.top_up_rows_max:
                break  # the next look takes the others
            rows.append(self._row(channel, amount_ucent))
            free_ucent = None if free_ucent is None else free_ucent - amount_ucent
            budget = None if budget is None else budget - amount_ucent
        self._tell(trouble)
        return rows

    def _least_ucent(self, short_ucent: int, why: Shortage) -> int:
        """The smallest top-up that is worth its gas: what is needed, or the usual step.

        The end of a budget is spent to its last microcent.
        """
        if short_ucent > 0:
            return short_ucent
        if why is BUDGET:
            return 1
        return self._config.top_up_to_ucent - self._config.top_up_below_ucent

    def _is_due(self, channel: Channel) -> bool:
        """Whether a lane is low, or a payment waits for it, and nothing is on its way to it."""
        available_ucent = channel.our_balance_ucent()
        if available_ucent >= self._needs.get(channel.id, 0):
            self._needs.pop(channel.id, None)
        if not self.is_low(channel) and channel.id not in self._needs:
            return False
        moment = self._follower.moment()
        members = self._follower.members
        return (
            _can_be_topped_up(channel)
            and self._may_send_again(channel.id)
            and moment.head_timestamp >= self._refused_until.get(channel.id, 0)
            and (channel.id in self._needs or self.is_present(channel.id))
            and members.is_active(channel.terms.account_b, moment.head_timestamp)
            and members.is_active(channel.terms.signer_b, moment.head_timestamp)
        )

    def _may_send_again(self, channel: ChannelId) -> bool:
        """Whether nothing is on its way, or the endpoint has forgotten it (see `_send`)."""
        on_their_way = self._book.on_their_way.get(channel, ())
        return all(one.block is None and one.nonce >= self._next_nonce for one in on_their_way)

    def is_low(self, channel: Channel) -> bool:
        """Whether an open lane has less to spend than the low-water mark."""
        if channel.chain is None or channel.chain.status is not ChainStatus.OPEN:
            return False
        return channel.our_balance_ucent() < self._config.top_up_below_ucent

    def _row(self, channel: Channel, amount_ucent: int) -> TopUp:
        return TopUp(
            id=0,
            channel=channel.id,
            account=channel.peer_account,
            amount_ucent=amount_ucent,
            deposit_before_ucent=channel.chain.deposit_ucent[Side.A] if channel.chain else 0,
            nonce=0,
            day=self._day,
        )

    async def _send(self, rows: list[TopUp]) -> None:
        """Send a batch: durable first, under the nonce that its transaction will have.

        One that the endpoint has forgotten is sent again under its own nonce, or after a
        transaction that took that: only one of the two can ever be mined.
        """
        total_ucent = sum(row.amount_ucent for row in rows)
        await self._desk.send(lambda chain: chain.approve(total_ucent))
        ours = {row.channel for row in rows}
        earlier = [one for one in self._book.each_on_its_way() if one.channel in ours]
        noted: list[TopUp] = []

        async def note(nonce: int) -> None:
            if any(nonce != one.nonce and one.nonce - nonce <= GAP_MAX for one in earlier):
                raise _Moved("a top-up that seemed lost is on its way")
            noted.extend(replace(row, nonce=nonce) for row in rows)
            self._driver.store(self._book.send(noted))
            await self._driver.wait_durable()

        deposits = [
            DepositRow(
                terms=self._driver.get(row.channel).terms,
                amount_ucent=row.amount_ucent,
            )
            for row in rows
        ]
        try:
            mined = await self._desk.send_noted(
                note,
                lambda chain, nonce: chain.deposit_many(deposits, nonce=nonce),
                least=max((one.nonce for one in earlier), default=0),
            )
        except TransactionFailed:
            self._end(noted, TopUpState.LOST)
            self._paused_until = trio.current_time() + AFTER_FAILURE_SECONDS
            raise
        self._note_mined(rows, mined)

    def _end(self, rows: list[TopUp], state: TopUpState) -> None:
        for row in rows:
            for one in self._book.on_their_way.get(row.channel, ()):
                self._driver.store(self._book.end(one, state))

    def _note_mined(self, rows: list[TopUp], mined: Mined) -> None:
        """Take in a mined batch; rows that the contract refused are said and wait."""
        refused = dict(mined.refused)
        for index, row in enumerate(rows):
            self._needs.pop(row.channel, None)
            if index not in refused:
                self._driver.store(self._book.mined(row.channel, mined.block))
                continue
            self._end([row], TopUpState.SKIPPED)
            until = self._follower.moment().head_timestamp + AFTER_REFUSAL_SECONDS
            self._refused_until[row.channel] = until
            why = _SKIPPED.get(refused[index], f"reason {refused[index]}")
            log.warning("channel %s was not topped up: %s", to_hex(row.channel), why)
        text = "topped up %d lanes, skipped %d, gas %d"
        log.info(text, len(rows) - len(refused), len(refused), mined.gas_used)

    # -- telling the operator ---------------------------------------------------------------

    def _tell(self, trouble: dict[str, str]) -> None:
        """Say what keeps lanes from being topped up, once when it begins and once when it ends."""
        for code in trouble.keys() - self._trouble:
            log.warning(_BEGINS[code], trouble[code], self._funds_ucent)
        for code in self._trouble - trouble.keys():
            log.info("%s: over, lanes are topped up again", code)
        self._trouble = frozenset(trouble)

    def report(self) -> dict[str, Any]:
        """What an operator asks: what is left, what is low, what was done and refused."""
        self._turn_day()
        count, total_ucent = self._book.today()
        return {
            "programmes": {
                budget.programme: {
                    "budget_ucent": budget.budget_ucent,
                    "spent_ucent": budget.spent_ucent,
                    "left_ucent": budget.left_ucent,
                }
                for budget in self._rewards.budgets()
            },
            "account_ucent": self._funds_ucent,
            "free_ucent": self._free_ucent(),
            "channels_low": sum(1 for c in self._driver.channels.values() if self.is_low(c)),
            "on_their_way": len(self._book.each_on_its_way()),
            "top_ups_today": count,
            "topped_up_today_ucent": total_ucent,
            "trouble": sorted(self._trouble),
            "refusals": dict(sorted(self.refusals.items())),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row for each channel that is not closed: what its lane from the hub holds, in µ¢."""
        self._turn_day()
        return [
            {
                "channel": to_hex(channel.id),
                "account": address_to_hex(channel.peer_account),
                "deposit_ucent": channel.chain.deposit_ucent[Side.A],
                "spent_ucent": channel.sent.promised.transferred_ucent,
                "available_ucent": channel.our_balance_ucent(),
                "topped_up_today_ucent": self._book.channel_today_ucent(channel.id),
                "member_today_ucent": self._book.member_today_ucent(channel.peer_account),
                "low": self.is_low(channel),
                "on_its_way": channel.id in self._book.on_their_way,
            }
            for channel in self._driver.channels.values()
            if channel.chain is not None and channel.chain.status is not ChainStatus.CLOSED
        ]


_BEGINS: Final = {
    OUT_OF_FUNDS.code: "out of funds: %s waits for credit, the account holds %s µ¢: mint it some",
    BUDGET.code: "budgets exhausted: %s is not topped up for want of them (account: %s µ¢)",
    DAY_CAP.code: "cap of the day: %s is not topped up until tomorrow (account: %s µ¢)",
    LANE_FULL.code: "lane full: %s holds all that a channel can (account: %s µ¢)",
}


def _can_be_topped_up(channel: Channel) -> bool:
    """Whether a deposit would serve a payment: the channel is open and nobody is ending it."""
    return (
        channel.chain is not None
        and channel.chain.status is ChainStatus.OPEN
        and channel.stopped is None
        and channel.phase in (Phase.LIVE, Phase.DOWN, Phase.GREETING)
        and not (channel.we_want_close or channel.peer_wants_close)
    )


def _member(channel: Channel) -> str:
    return address_to_hex(channel.peer_account)
