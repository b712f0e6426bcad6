"""The wallet's own view of the chain: polls heads and its channels' states, and feeds the driver.

Rule: the moment's head moves only after every channel has been read at that head, so that a fresh
moment never hides a close (rule 4). Nothing is read before the chain's identity is checked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import trio

from ..errors import ChainError
from ..events import Elapsed, ObservedChannel
from ..ids import Address, ChannelId
from ..restoring import awaits_settlements
from ..state import STALE_DIVISOR, ChainStatus, ChainView, Channel, Moment, Settlement
from .chain import Head
from .closings import Closings, Look
from .driver import Driver
from .heads import BlockContradicted, ChainChanging, check_time
from .ledger import Ledger, Statement
from .ports import ChainPort
from .pulse import Notices, Pulse
from .settlements import SettledLook, Settlements
from .vanished import what_vanished

POLL_SECONDS_MIN: Final = 1.0
POLL_SECONDS_MAX: Final = 15.0
POLLS_BEFORE_STALE: Final = 100
"""A view is stale after a quarter of the window; a hundred polls fit before."""

RETRY_SECONDS_MIN: Final = 0.5
RETRY_SECONDS_MAX: Final = 30.0


HEAD_KEPT_SECONDS: Final = 600
"""Between two times that the head is written down for the next start: flash wears out."""


class HeadWentBack(ChainError):
    """The endpoint answers with an older block than before."""

    code = "head-went-back"
    remedy = "wait until the node has caught up; if the chain was reset, make a new wallet"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """What the account owns outside channels, in µ¢, at a block."""

    block: int
    token_ucent: int
    claimable_ucent: int


class Follower:
    """Keeps head, channels and funds as this wallet itself has read them."""

    def __init__(  # noqa: PLR0913 - what an earlier process knew, and how far to believe
        self,
        chain: ChainPort,
        account: Address,
        pulse: Pulse,
        notices: Notices,
        clock: Callable[[], float] = time.time,
        *,
        known: Head | None = None,
        ahead_seconds_max: int | None = None,
        closings: Closings | None = None,
        settlements: Settlements | None = None,
    ) -> None:
        """Nothing is read yet; see `run`.

        `known` is the head that an earlier process wrote down, `closings` what it found.
        `ahead_seconds_max` is how far the chain's time may be ahead of this clock; None on a
        development chain, whose clock is moved.
        """
        self.chain = chain
        self._known = known
        self._kept_at = float("-inf")
        self._closings = closings or Closings()
        self._settlements = settlements or Settlements()
        self._ahead_seconds_max = ahead_seconds_max
        self.funds: Funds | None = None
        self.trouble: ChainError | None = None
        self._account = account
        self._pulse = pulse
        self._notices = notices
        self._clock = clock
        self._head = Head(block=0, block_hash=b"", timestamp=0)
        self._head_seen = 0
        self.identified = False
        """Whether the endpoint has shown that it serves our deployment's chain."""
        self._poked = trio.Event()
        self.looks = 0
        """How often the chain was looked at, with or without success."""
        self._polling = False

    def moment(self) -> Moment:
        """The local clock, and the newest confirmed head at which all channels were read."""
        return Moment(
            now=int(self._clock()),
            head_block=self._head.block,
            head_timestamp=self._head.timestamp,
            head_seen=self._head_seen,
        )

    def poke(self) -> None:
        """Look at the chain now instead of at the next poll."""
        self._poked.set()

    async def refresh(self) -> None:
        """Wait for a look at the chain that began after now; raises the `ChainError` it met."""
        # The one under way, if any, began before.
        target = self.looks + (2 if self._polling else 1)
        while self.looks < target:
            self.poke()
            await self._pulse.wait()
        if self.trouble is not None:
            raise self.trouble

    async def run(self, driver: Driver) -> None:
        """Poll until cancelled; an endpoint in trouble is asked again, ever more rarely."""
        retry_seconds = RETRY_SECONDS_MIN
        while True:
            self._poked = trio.Event()
            self._polling = True
            try:
                await self.poll(driver)
                pause_seconds = poll_seconds(driver.channels.values())
                retry_seconds = RETRY_SECONDS_MIN
            except ChainError as error:
                self._troubled(error)
                pause_seconds = retry_seconds
                retry_seconds = min(2 * retry_seconds, RETRY_SECONDS_MAX)
            self._polling = False
            self.looks += 1
            self._pulse.beat()
            with trio.move_on_after(pause_seconds):
                await self._poked.wait()

    async def poll(self, driver: Driver) -> None:
        """Read head, channels and funds once; raises `ChainError`, then nothing has moved."""
        if not self.identified:
            await self.chain.check_identity()
            self.identified = True
        asked = int(self._clock())
        head = await self.chain.head()
        self._check_head(head, asked)
        views: dict[ChannelId, ChainView] = {}
        replaced = False
        look: Look | None = None
        settled: SettledLook | None = None
        channels = list(driver.channels.values())
        if head.block_hash != self._head.block_hash or any(map(awaits_settlements, channels)):
            replaced = await self._was_replaced(head)
            views, look, settled = await self._read(channels, head, replaced=replaced)
        self._head, self._head_seen, self._known = head, asked, head
        self._recovered()
        found = () if look is None else self._closings.take_in(look)
        if found:
            driver.store(found)
        if replaced:
            text = "confirmed blocks were replaced by others: every channel was read again"
            self._notices.tell("blocks-replaced", text, block=head.block)
        settlements = {} if settled is None else self._settlements.take_in(settled)
        for channel_id, view in views.items():
            self.observe(
                driver, driver.get(channel_id), view, settlements=settlements.get(channel_id, ())
            )
        for channel in list(driver.channels.values()):
            if channel.waits_for_time:
                driver.feed(channel.id, Elapsed())
        if replaced or trio.current_time() - self._kept_at >= HEAD_KEPT_SECONDS:
            self._kept_at = trio.current_time()
            driver.store([keep_head(head)])

    def _check_head(self, head: Head, now: int) -> None:
        """Refuse a head that cannot follow the newest that was read, and a time far ahead."""
        known = self._known
        if known is not None and head.block < known.block:
            self.identified = False
            raise HeadWentBack(f"block {head.block} was given after block {known.block}")
        if known is not None and head.block_hash == known.block_hash and head != known:
            raise BlockContradicted(head.block, known.block)
        check_time(
            block=head.block,
            timestamp=head.timestamp,
            now=now,
            ahead_seconds_max=self._ahead_seconds_max,
        )

    async def _was_replaced(self, head: Head) -> bool:
        """Whether the newest block that was read before is gone."""
        known = self._known
        if known is None:
            return False
        if head.block == known.block:
            return head.block_hash != known.block_hash
        return await self.chain.block_hash(known.block) != known.block_hash

    async def _read(
        self, channels: list[Channel], head: Head, *, replaced: bool
    ) -> tuple[dict[ChannelId, ChainView], Look, SettledLook]:
        """Every channel that has not ended; after blocks were replaced, those that had, too."""
        views: dict[ChannelId, ChainView] = {}
        for channel in channels:
            ended = channel.chain is not None and channel.chain.status is ChainStatus.CLOSED
            if replaced or not ended:
                views[channel.id] = await self.chain.channel_state(channel.id, head)
        look = await self._closings.look(self.chain, channels, views, head.block, replaced=replaced)
        settled = await self._settlements.look(
            self.chain, channels, views, head.block, replaced=replaced
        )
        funds = Funds(
            block=head.block,
            token_ucent=await self.chain.balance_of(self._account, head.block),
            claimable_ucent=await self.chain.claimable(self._account, head.block),
        )
        # All of it was read by the block's number: it is of one chain if that is still this block.
        if await self.chain.block_hash(head.block) != head.block_hash:
            raise ChainChanging(head.block)
        self.funds = funds
        return views, look, settled

    def observe(
        self,
        driver: Driver,
        channel: Channel,
        view: ChainView,
        *,
        settlements: tuple[Settlement, ...] = (),
    ) -> None:
        """Feed what was read, unless it only repeats what is known: a commit costs flash life."""
        known = channel.chain
        is_old = known is not None and _same(known, view) and settlements == channel.settlements
        if is_old and not channel.has_offers:
            return
        driver.feed(channel.id, ObservedChannel(view=view, settlements=settlements))
        loss = "" if known is None else what_vanished(known, view)
        if loss:
            text = f"channel 0x{channel.id.hex()}: {loss}"
            self._notices.tell("vanished", text, channel="0x" + channel.id.hex())
        if known is not None and known.status is not view.status:
            status = view.status.name.lower()
            self._notices.tell(
                status,
                f"channel 0x{channel.id.hex()} is {status} on the chain",
                channel="0x" + channel.id.hex(),
            )

    def _troubled(self, error: ChainError) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            self._notices.tell("chain-trouble", str(error), code=error.code)
        self.trouble = error
        self.identified = False  # another chain may answer when the endpoint is back

    def _recovered(self) -> None:
        if self.trouble is not None:
            self._notices.tell("chain-back", "the chain can be read again")
            self.trouble = None


def poll_seconds(channels: Iterable[Channel]) -> float:
    """How long to wait between two looks, by the shortest window of the open channels."""
    windows = [
        channel.terms.challenge_seconds
        for channel in channels
        if channel.chain is not None and channel.chain.status is not ChainStatus.CLOSED
    ]
    seconds = min(windows, default=0) / STALE_DIVISOR / POLLS_BEFORE_STALE
    return min(max(seconds, POLL_SECONDS_MIN), POLL_SECONDS_MAX)


def _same(known: ChainView, view: ChainView) -> bool:
    """Whether two views differ in nothing but when they were read."""
    return replace(known, block=view.block, timestamp=view.timestamp) == view


def keep_head(head: Head) -> Statement:
    """Write a head down, for the process that comes after this one."""
    value = json.dumps([head.block, head.block_hash.hex(), head.timestamp])
    return "INSERT OR REPLACE INTO setting VALUES ('head', ?)", (value,)


def kept_head(ledger: Ledger) -> Head | None:
    """The head that an earlier process wrote down, if any."""
    rows = ledger.query("SELECT value FROM setting WHERE key='head'")
    if not rows:
        return None
    block, block_hash, timestamp = json.loads(rows[0][0])
    return Head(block=block, block_hash=bytes.fromhex(block_hash), timestamp=timestamp)
