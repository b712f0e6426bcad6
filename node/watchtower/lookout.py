"""Follows the chain for the held channels alone: heads, logs from a cursor, states at a head.

Rule: logs only say what to read again; what is believed is `channel_state` at a confirmed head.
After a reorganisation every held channel is read again, so no block is read from the beginning.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import trio

from ...channels.errors import ChainError
from ...channels.ids import ChannelId
from ...channels.state import ChainStatus, ChainView
from ..chain import LOG_BLOCKS_MAX, ChainWentBack, Head, Logs, Web3Chain
from ..desk import ChainDesk
from .book import Book

POLL_SECONDS = 0.5
"""Half of a fast chain's block time, as the hub's: a poll is one small request."""

log = logging.getLogger("farthing.watchtower.chain")


class Lookout:
    """Keeps the book's views of the chain; `on_news` is called when a head was taken in."""

    def __init__(self, desk: ChainDesk, book: Book) -> None:
        self._desk = desk
        self._book = book
        self._unread: set[ChannelId] = set()
        self.head = Head(number=0, hash=b"", timestamp=0)
        self.head_seen = 0
        self.trouble: ChainError | None = None
        """Why the chain cannot be followed now; None while it can."""
        self.on_news: Callable[[], None] = lambda: None

    def read_again(self, channel: ChannelId) -> None:
        """Read a channel with the next poll: logs from before it was held were not looked at."""
        self._unread.add(channel)

    def view_age_seconds(self) -> int:
        """How old what is known of the chain is."""
        return int(time.time()) - min(self.head.timestamp, self.head_seen)

    async def run(self) -> None:
        """Poll until cancelled; an endpoint that does not answer is reported and asked again."""
        while True:
            try:
                await self.poll()
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
            log.info("the chain is followed again, at block %d", self.head.number)

    async def poll(self) -> None:
        """Take in everything up to the newest confirmed head; raises `ChainError`."""
        head = await self._desk.read(lambda chain: chain.head())
        seen = int(time.time())
        if head.hash != self.head.hash or self._unread:
            unread = set(self._unread)
            views = await self._read(head, unread)
            # No waiting from here on: the head and its channels change as one.
            for channel, view in views.items():
                self._book.observe(channel, view)
            self._unread -= unread
            self._book.move_cursor(head.number, head.hash)
            self._book.forget_ended(head.timestamp)
            self.head, self.head_seen = head, seen
            self.on_news()
        self.head_seen = seen

    async def _read(self, head: Head, unread: set[ChannelId]) -> dict[ChannelId, ChainView]:
        """Read what logs name since the cursor, what closes, and what was never read."""
        touched = await self._touched(head)
        held = self._book.channels()
        closing = {
            one.voucher.channel
            for one in self._book.all()
            if one.view.status is ChainStatus.CLOSING
        }
        wanted = held if touched is None else held & (touched | closing | unread)
        return {c: await self._desk.read(partial(_view, c, head)) for c in wanted}

    async def _touched(self, head: Head) -> set[ChannelId] | None:
        """The channels that logs since the cursor name, or None where all must be read."""
        cursor = self._book.cursor
        if cursor is None:
            return None
        number, block_hash = cursor
        if number > head.number:
            raise ChainWentBack(f"the chain is at block {head.number}, {number} was read before")
        found = await self._desk.read(partial(_hash_of, number))
        if found != block_hash:
            log.warning("block %d was replaced: reading every held channel again", number)
            return None
        touched: set[ChannelId] = set()
        for first in range(number + 1, head.number + 1, LOG_BLOCKS_MAX):
            last = min(first + LOG_BLOCKS_MAX - 1, head.number)
            touched |= (await self._desk.read(partial(_logs, first, last))).touched
        return touched


def _hash_of(number: int, chain: Web3Chain) -> bytes:
    return chain.block_hash(number)


def _logs(first: int, last: int, chain: Web3Chain) -> Logs:
    return chain.logs(first, last)


def _view(channel: ChannelId, head: Head, chain: Web3Chain) -> ChainView:
    return chain.view(channel, head)
