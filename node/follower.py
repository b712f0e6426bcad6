"""Follows the chain from a persisted cursor: heads, channels and members; feeds the driver.

Rule: logs only say what to read again; what is believed is `channel_state` at a confirmed head.
So reading a range twice, or once more after a reorg, is harmless.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import trio

from ..channels.client.driver import Driver
from ..channels.errors import ChainError
from ..channels.events import Elapsed, ObservedChannel
from ..channels.ids import Address, ChannelId
from ..channels.state import ChainStatus, Channel, Moment
from ..channels.terms import Side
from .chain import LOG_BLOCKS_MAX, Head, Logs, MemberRow, MemberStatus, OpenedChannel
from .desk import ChainDesk
from .store import HubStore

POLL_SECONDS = 0.5
"""Half of a fast chain's block time: a new block is seen soon, and a poll is one small request."""

log = logging.getLogger("farthing.hub.chain")


class Members:
    """Who may be paid: the registry's members, as its events up to the cursor say."""

    def __init__(self, rows: Iterable[MemberRow]) -> None:
        self._rows = {row.account: row for row in rows}

    def take(self, row: MemberRow) -> None:
        """Take in a change."""
        self._rows[row.account] = row

    def is_active(self, account: Address, timestamp: int) -> bool:
        """Whether an account is an active member at a block's timestamp."""
        row = self._rows.get(account)
        if row is None or row.status is not MemberStatus.ACTIVE:
            return False
        return row.valid_until == 0 or timestamp <= row.valid_until


class Follower:
    """Keeps the hub's chain view: the head, its members, and every channel that it is party to."""

    def __init__(
        self,
        desk: ChainDesk,
        store: HubStore,
        *,
        account: Address,
        signer: Address,
        first_block: int,
    ) -> None:
        self._desk = desk
        self._store = store
        self._account = account
        self._signer = signer
        self._first_block = first_block
        self._head = Head(number=0, hash=b"", timestamp=0)
        self._head_seen = 0
        self._moved = trio.Event()
        self._cursor: int | None = None
        self.members = Members(store.members())

    def moment(self) -> Moment:
        """The local clock and the newest confirmed head."""
        return Moment(
            now=int(time.time()),
            head_block=self._head.number,
            head_timestamp=self._head.timestamp,
            head_seen=self._head_seen,
        )

    async def wait_head(self) -> None:
        """Wait until a new head has been taken in, channels and all."""
        await self._moved.wait()

    async def run(self, driver: Driver, on_opened: Callable[[Channel], None]) -> None:
        """Poll until cancelled; an endpoint that does not answer is reported and asked again."""
        while True:
            try:
                await self.poll(driver, on_opened)
            except ChainError as error:
                log.warning("%s", error)
            await trio.sleep(POLL_SECONDS)

    async def poll(self, driver: Driver, on_opened: Callable[[Channel], None]) -> None:
        """Take in everything up to the newest confirmed head; raises `ChainError`."""
        head = await self._desk.read(lambda chain: chain.head())
        self._head_seen = int(time.time())
        if head.hash == self._head.hash:
            return
        first = await self._first_unread()
        opened: list[OpenedChannel] = []
        touched: set[ChannelId] = set()
        members: list[MemberRow] = []
        while first <= head.number:
            last = min(first + LOG_BLOCKS_MAX - 1, head.number)
            logs = await self._read_logs(first, last)
            opened.extend(logs.opened)
            touched |= logs.touched
            members.extend(logs.members)
            first = last + 1
        self._head = head
        await self._take_channels(driver, head, opened, touched, on_opened)
        self._take_members(members)
        driver.store(
            [
                *(HubStore.remember_member(row) for row in members),
                HubStore.remember_cursor(head.number, head.hash),
            ]
        )
        self._cursor = head.number
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def _read_logs(self, first: int, last: int) -> Logs:
        return await self._desk.read(lambda chain: chain.logs(first, last))

    async def _first_unread(self) -> int:
        """The block after the cursor; the deployment's again where the cursor's block is gone."""
        cursor = self._store.cursor()
        if cursor is None:
            return self._first_block
        number, block_hash = cursor
        if number > self._head.number and self._cursor is None:
            current = await self._desk.read(lambda chain: chain.head())
            if number > current.number:
                return self._first_block
        if await self._desk.read(lambda chain: chain.block_hash(number)) != block_hash:
            log.warning("block %d was replaced: reading all logs again", number)
            return self._first_block
        return number + 1

    def _take_members(self, members: list[MemberRow]) -> None:
        for row in members:
            self.members.take(row)

    async def _take_channels(
        self,
        driver: Driver,
        head: Head,
        opened: list[OpenedChannel],
        touched: set[ChannelId],
        on_opened: Callable[[Channel], None],
    ) -> None:
        ours = {o.channel: o for o in opened if self._is_ours(o)}
        new = [o for channel, o in ours.items() if channel not in driver.channels]
        for one in new:
            driver.add(Channel(id=one.channel, terms=one.terms, side=Side.A))
        restless = {c.id for c in driver.channels.values() if _needs_every_head(c)}
        for channel in (touched | restless) & driver.channels.keys():
            view = await self._desk.read(lambda chain, c=channel: chain.view(c, head))  # type: ignore[misc]
            driver.feed(channel, ObservedChannel(view=view))
        for channel in driver.channels.keys() - touched - restless:
            if driver.channels[channel].refusing:
                driver.feed(channel, Elapsed())
        for one in new:
            on_opened(driver.channels[one.channel])

    def _is_ours(self, opened: OpenedChannel) -> bool:
        terms = opened.terms
        return terms.account_a == self._account and terms.signer_a == self._signer


def _needs_every_head(channel: Channel) -> bool:
    """Whether a channel has something pending on the chain, or was never read."""
    if channel.chain is None or channel.close is not None:
        return True
    return channel.chain.status in (ChainStatus.NEVER, ChainStatus.CLOSING)
