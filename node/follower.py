"""Follows the chain from a persisted cursor: heads, channels and members; feeds the driver.

Rule: logs only say what to read again; what is believed is `channel_state` at a confirmed head.
So reading a range twice, or once more after a reorg, is harmless. A head is taken in as a whole,
without waiting in between: nobody sees it before all that it changes was read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from ..channels.client.driver import Driver
from ..channels.client.heads import BlockContradicted, ChainChanging, check_time
from ..channels.client.ledger import Statement
from ..channels.client.settlements import SettledLook, Settlements
from ..channels.client.vanished import what_vanished
from ..channels.errors import ChainError
from ..channels.events import Elapsed, ObservedChannel
from ..channels.ids import Address, ChannelId
from ..channels.restoring import awaits_settlements
from ..channels.state import ChainStatus, ChainView, Channel, Moment
from ..channels.terms import Side
from ..contracts.members import MemberStatus
from .chain import LOG_BLOCKS_MAX, ChainWentBack, Head, MemberRow, OpenedChannel
from .desk import ChainDesk
from .store import HubStore, RecentBlock, Touched

POLL_SECONDS = 0.5
"""Half of a fast chain's block time: a new block is seen soon, and a poll is one small request."""
ELAPSE_SECONDS = 5
"""How often what waits for time goes on where no block comes: it may go by the local clock too."""
CHANGES_TOLD_MAX = 20
"""Channels named in the log after a reorganisation; the number of all is told too."""

log = logging.getLogger("farthing.hub.chain")


class Members:
    """Who may be paid: the registry's members, as its events up to the cursor say."""

    def __init__(self, rows: Iterable[MemberRow]) -> None:
        self._rows = {row.account: row for row in rows}

    def take(self, row: MemberRow) -> None:
        """Take in a change."""
        self._rows[row.account] = row

    def forget(self) -> None:
        """Forget everybody; all events are read again."""
        self._rows.clear()

    def is_active(self, account: Address, timestamp: int) -> bool:
        """Whether an account is an active member at a block's timestamp."""
        row = self._rows.get(account)
        if row is None or row.status is not MemberStatus.ACTIVE:
            return False
        return row.valid_until == 0 or timestamp <= row.valid_until


@dataclass(slots=True, kw_only=True)
class _News:
    """What a new head brings, all of it read before any of it is believed."""

    fork: int | None = None
    """The newest block that was read before and still stands, where later ones were replaced."""
    forgot: bool = False
    """Whether none of those that are remembered stands: all is read again, from the first block."""
    opened: list[OpenedChannel] = field(default_factory=list)
    touched: set[ChannelId] = field(default_factory=set)
    members: list[MemberRow] = field(default_factory=list)
    once_touched: set[ChannelId] | None = field(default_factory=set)
    """Channels of which the replaced blocks held logs; None for any."""
    views: dict[ChannelId, ChainView] = field(default_factory=dict)
    settled: SettledLook | None = None
    """By which payments lanes were settled of which we hold less."""


class Follower:
    """Keeps the hub's chain view: the head, its members, and every channel that it opened."""

    def __init__(
        self,
        desk: ChainDesk,
        store: HubStore,
        *,
        account: Address,
        signer: Address,
        first_block: int,
        ahead_seconds_max: int | None = None,
    ) -> None:
        """Nothing is read yet; see `run`.

        `ahead_seconds_max` is how far the chain's time may be ahead of this clock; None on a
        development chain, whose clock its owner moves.
        """
        self._desk = desk
        self._store = store
        self._account = account
        self._signer = signer
        self._first_block = first_block
        self._ahead_seconds_max = ahead_seconds_max
        self._elapsed_at = 0.0
        self.on_replaced: Callable[[int], None] = lambda _: None
        """Called when confirmed blocks were replaced, with the newest that stands (0 if none is
        known), after the new ones were taken in and in the same commit."""
        self._settlements = Settlements(first_block)
        self._head = Head(number=0, hash=b"", timestamp=0)
        self._head_seen = 0
        self._moved = trio.Event()
        self.members = Members(store.members())
        self.trouble: ChainError | None = None
        """Why the chain cannot be followed now; None while it can."""

    def moment(self) -> Moment:
        """The local clock and the newest confirmed head."""
        return Moment(
            now=int(time.time()),
            head_block=self._head.number,
            head_timestamp=self._head.timestamp,
            head_seen=self._head_seen,
        )

    async def wait_block(self, number: int) -> None:
        """Wait until a confirmed head of at least this number has been taken in.

        It has no timeout of its own: callers give one, or can do nothing before that block.
        """
        while self._head.number < number:
            await self._moved.wait()

    async def catch_up(self) -> None:
        """Wait until what is the chain's newest confirmed head now has been taken in."""
        head = await self._desk.read(lambda chain: chain.head())
        await self.wait_block(head.number)

    async def run(self, driver: Driver, on_opened: Callable[[Channel], None]) -> None:
        """Poll until cancelled; an endpoint that does not answer is reported and asked again."""
        while True:
            try:
                await self.poll(driver, on_opened)
            except ChainError as error:
                self._report(error)
            else:
                self._report(None)
            await trio.sleep(POLL_SECONDS)

    def _report(self, error: ChainError | None) -> None:
        """Log what changes, not each of the attempts of a long outage."""
        before, self.trouble = self.trouble, error
        if error is not None and (before is None or before.code != error.code):
            log.warning("%s", error)
        elif error is None and before is not None:
            log.info("the chain is followed again, at block %d", self._head.number)

    async def poll(self, driver: Driver, on_opened: Callable[[Channel], None]) -> None:
        """Take in everything up to the newest confirmed head; raises `ChainError`."""
        head = await self._desk.read(lambda chain: chain.head())
        seen = int(time.time())
        check_time(
            block=head.number,
            timestamp=head.timestamp,
            now=seen,
            ahead_seconds_max=self._ahead_seconds_max,
        )
        if head.hash != self._head.hash:
            news = await self._read(driver, head)
            # No waiting from here on: the head, its channels and its members change as one.
            self._head, self._head_seen = head, seen
            self._take_members(driver, news, head)
            self._take_channels(driver, news, on_opened)
            if news.fork is not None or news.forgot:
                self.on_replaced(0 if news.forgot else news.fork or 0)
            moved, self._moved = self._moved, trio.Event()
            moved.set()
        elif head != self._head:
            raise BlockContradicted(head.number, self._head.number)
        elif time.monotonic() - self._elapsed_at >= ELAPSE_SECONDS:
            self._elapse(driver, driver.channels)
        self._head_seen = seen

    # -- reading ----------------------------------------------------------------------------

    async def _read(self, driver: Driver, head: Head) -> _News:
        news = _News()
        first = await self._first_unread(head, news)
        while first <= head.number:
            last = min(first + LOG_BLOCKS_MAX - 1, head.number)
            logs = await self._desk.read(lambda chain, a=first, b=last: chain.logs(a, b))  # type: ignore[misc]  # defaults bind now
            news.opened.extend(o for o in logs.opened if self._is_ours(o))
            news.touched |= logs.touched
            news.members.extend(logs.members)
            first = last + 1
        known = driver.channels
        again = {c.id for c in known.values() if _is_restless(c)}
        again |= set(known) if news.once_touched is None else news.once_touched & set(known)
        wanted = (news.touched & set(known)) | again | {o.channel for o in news.opened}
        for channel in wanted:
            news.views[channel] = await self._desk.read(
                lambda chain, c=channel: chain.view(c, head)  # type: ignore[misc]  # as above
            )
        replaced = news.fork is not None or news.forgot
        news.settled = await self._settlements.look(
            self._desk, _with_views(driver, news), news.views, head.number, replaced=replaced
        )
        # Views and logs are read by number: all of one chain only if it is still this block.
        found = await self._desk.read(lambda chain: chain.block_hash(head.number))
        if found != head.hash:
            raise ChainChanging(head.number)
        return news

    async def _first_unread(self, head: Head, news: _News) -> int:
        """The block after the newest that was read and stands; finds what was replaced."""
        cursor = self._store.cursor()
        if cursor is None:
            return self._first_block
        number, block_hash = cursor
        if number > head.number:
            raise ChainWentBack(f"the chain is at block {head.number}, {number} was read before")
        if await self._desk.read(lambda chain: chain.block_hash(number)) == block_hash:
            return number + 1
        return await self._first_replaced(head, news)

    async def _first_replaced(self, head: Head, news: _News) -> int:
        """Where to read from after a reorganisation, and what must be read again (`news`)."""
        blocks = self._store.recent_blocks()  # oldest first; from some place on none stands
        standing, replaced = 0, len(blocks)
        while standing < replaced:
            middle = (standing + replaced) // 2
            if await self._stands(blocks[middle]):
                standing = middle + 1
            else:
                replaced = middle
        if standing == 0:
            log.warning("the newest blocks were replaced, deeply: reading everything again")
            news.forgot, news.once_touched = True, None
            return self._first_block
        news.fork = blocks[standing - 1].number
        log.warning("the blocks after %d were replaced: reading them again", news.fork)
        members: set[Address] = set()
        for block in blocks[standing:]:
            if block.touched is None or news.once_touched is None:
                news.once_touched = None
                news.forgot = True  # more of them than are remembered one by one
                return self._first_block
            news.once_touched |= block.touched.channels
            members |= block.touched.members
        for account in members:
            row = await self._desk.read(
                lambda chain, a=account: chain.member(a, head)  # type: ignore[misc]  # as above
            )
            news.members.append(row)
        return news.fork + 1

    async def _stands(self, block: RecentBlock) -> bool:
        found = await self._desk.read(lambda chain: chain.block_hash(block.number))
        return found == block.hash

    def _is_ours(self, opened: OpenedChannel) -> bool:
        """Whether this hub opened it itself: anybody may name it as a party, under any terms."""
        terms = opened.terms
        return (
            terms.account_a == self._account
            and terms.signer_a == self._signer
            and opened.funder == self._account
        )

    # -- taking in --------------------------------------------------------------------------

    def _take_members(self, driver: Driver, news: _News, head: Head) -> None:
        statements: list[Statement] = []
        if news.forgot:
            self.members.forget()
            statements.append(HubStore.forget_members())
        for row in news.members:
            self.members.take(row)
            statements.append(HubStore.remember_member(row))
        touched = Touched(
            channels=frozenset(news.touched), members=frozenset(r.account for r in news.members)
        )
        above = 0 if news.forgot else news.fork
        block = RecentBlock(number=head.number, hash=head.hash, touched=touched)
        driver.store([*statements, *HubStore.remember_block(block, replaces_above=above)])

    def _take_channels(
        self, driver: Driver, news: _News, on_opened: Callable[[Channel], None]
    ) -> None:
        new = [o for o in news.opened if o.channel not in driver.channels]
        for one in new:
            driver.add(_new(one))
        before = {channel: driver.channels[channel].chain for channel in news.views}
        found = {} if news.settled is None else self._settlements.take_in(news.settled)
        for channel, view in news.views.items():
            settlements = found.get(channel, ())
            driver.feed(channel, ObservedChannel(view=view, settlements=settlements))
        self._elapse(driver, driver.channels.keys() - news.views.keys())
        for one in new:
            on_opened(driver.channels[one.channel])
        _tell_losses(before, news.views)

    def _elapse(self, driver: Driver, channels: Iterable[ChannelId]) -> None:
        self._elapsed_at = time.monotonic()
        for channel in list(channels):
            if driver.channels[channel].waits_for_time:
                driver.feed(channel, Elapsed())


def _new(opened: OpenedChannel) -> Channel:
    return Channel(id=opened.channel, terms=opened.terms, side=Side.A)


def _with_views(driver: Driver, news: _News) -> list[Channel]:
    """The channels that were read, those among them that are new."""
    known = {one.channel: _new(one) for one in news.opened} | driver.channels
    return [known[channel] for channel in news.views]


def _tell_losses(
    before: Mapping[ChannelId, ChainView | None], after: Mapping[ChannelId, ChainView]
) -> None:
    """Name the channels of which something that was confirmed has vanished."""
    losses = [
        (channel, loss)
        for channel, view in after.items()
        if (known := before[channel]) is not None and (loss := what_vanished(known, view))
    ]
    for channel, loss in losses[:CHANGES_TOLD_MAX]:
        log.error("channel 0x%s: %s", channel.hex(), loss)
    if len(losses) > CHANGES_TOLD_MAX:
        log.error("and %d channels more have lost what was confirmed", len(losses))


def _is_restless(channel: Channel) -> bool:
    """Whether a channel has something pending on the chain, or was never read."""
    if channel.chain is None:
        return True
    if channel.chain.status is ChainStatus.OPEN:
        return channel.has_offers or awaits_settlements(channel)
    return channel.chain.status is not ChainStatus.CLOSED
