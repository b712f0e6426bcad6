"""What a watchtower holds: the greatest voucher of each lane, committed in groups, then told.

Rule: an older voucher never replaces a newer one, and nothing is acknowledged before the commit
that holds it has ended. Rows are written from memory as it stands when a commit begins, so that a
later commit never brings back what an earlier one replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from ...channels.ids import Address, ChannelId
from ...channels.state import ChainStatus, ChainView
from ...channels.terms import Side
from .deposits import Lane
from .store import Answer, Held, TowerStore

CLOSED_SECONDS_KEPT = 7 * 24 * 3600
"""Of chain time after a channel's end was seen: long enough to be asked what became of it."""

SEEN_SECONDS = 60
"""A wallet that stays connected is noted this often; whoever reads it thinks in hours."""


class Book:
    """Every lane that is held, in memory and on disk; used from one trio thread."""

    def __init__(self, store: TowerStore) -> None:
        self._store = store
        self._held = {held.lane: held for held in store.held()}
        self._lanes: dict[Address, set[Lane]] = {}
        self._ended: dict[Lane, None] = {}
        for held in sorted(self._held.values(), key=lambda held: held.view.timestamp):
            self._lanes.setdefault(held.depositor, set()).add(held.lane)
            self._note_end(held)
        self._seen = store.seen()
        self._seen_stored = dict(self._seen)
        self._cursor = store.cursor()
        self._dirty: set[Lane] = set()
        self._dirty_seen: set[Address] = set()
        self._cursor_moved = False
        self._told: list[Callable[[], None]] = []
        self._failed = False
        self._wake = trio.Event()

    # -- looking ----------------------------------------------------------------------------

    def get(self, lane: Lane) -> Held | None:
        """What is held of a lane."""
        return self._held.get(lane)

    def all(self) -> list[Held]:
        """Everything that is held."""
        return list(self._held.values())

    def channels(self) -> set[ChannelId]:
        """Every channel of which a voucher is held."""
        return {channel for channel, _ in self._held}

    def open_lanes(self, depositor: Address) -> int:
        """How many lanes of open channels a depositor has here."""
        return sum(self._held[lane].is_open for lane in self._lanes.get(depositor, ()))

    @property
    def has_ended(self) -> bool:
        """Whether the channel of any lane has ended: such a lane makes room for another."""
        return bool(self._ended)

    def __len__(self) -> int:
        return len(self._held)

    def seen_at(self, depositor: Address) -> int:
        """When a depositor was last connected, in Unix seconds; 0 for a stranger."""
        return self._seen.get(depositor, 0)

    @property
    def cursor(self) -> tuple[int, bytes] | None:
        """The last block whose logs were taken in, and its hash."""
        return self._cursor

    # -- changing ---------------------------------------------------------------------------

    def keep(self, new: Held) -> bool:
        """Keep a lane's voucher if it is the greatest; whether it is what is held now.

        The same one again changes nothing and is held. Any other that is not greater is not.
        """
        standing = self._held.get(new.lane)
        if standing is not None and new.transferred_ucent <= standing.transferred_ucent:
            return new.voucher.total == standing.voucher.total
        self._set(new if standing is None else replace(standing, voucher=new.voucher))
        self._lanes.setdefault(new.depositor, set()).add(new.lane)
        return True

    def observe(self, channel: ChannelId, view: ChainView) -> None:
        """Take in what the chain says of a channel now."""
        for payer in Side:
            held = self._held.get((channel, payer))
            if held is not None and not _same(held.view, view):
                self._set(replace(held, view=view))

    def note_answer(self, lane: Lane, answer: Answer) -> None:
        """Remember what this watchtower settled of a lane."""
        held = self._held.get(lane)
        if held is not None:
            self._set(replace(held, answer=answer))

    def note_seen(self, signer: Address, at: int) -> None:
        """Remember when a depositor was connected; of strangers nothing is kept."""
        if signer not in self._lanes:
            return
        self._seen[signer] = at
        if at - self._seen_stored.get(signer, 0) >= SEEN_SECONDS:
            self._dirty_seen.add(signer)
            self._wake.set()

    def move_cursor(self, number: int, block_hash: bytes) -> None:
        """Remember the last block whose logs were taken in."""
        self._cursor, self._cursor_moved = (number, block_hash), True
        self._wake.set()

    def forget_ended(self, timestamp: int) -> None:
        """Drop the lanes whose channels ended long before a block's timestamp."""
        for held in self.all():
            ended = held.view.status is ChainStatus.CLOSED
            if ended and timestamp - held.view.timestamp > CLOSED_SECONDS_KEPT:
                self._forget(held)

    def forget_longest_ended(self) -> None:
        """Drop the lane whose channel ended first, to make room; there is one (`has_ended`).

        So whoever opens and closes channels on purpose fills the book with what is dropped first.
        """
        self._forget(self._held[next(iter(self._ended))])

    def _forget(self, held: Held) -> None:
        del self._held[held.lane]
        self._ended.pop(held.lane, None)
        self._dirty.add(held.lane)
        lanes = self._lanes[held.depositor]
        lanes.discard(held.lane)
        if not lanes:
            del self._lanes[held.depositor]
            self._seen.pop(held.depositor, None)
            self._dirty_seen.add(held.depositor)
        self._wake.set()

    def when_durable(self, then: Callable[[], None]) -> None:
        """Call this once all that is held now is on disk."""
        self._told.append(then)
        self._wake.set()

    def _set(self, held: Held) -> None:
        self._held[held.lane] = held
        self._note_end(held)
        self._dirty.add(held.lane)
        self._wake.set()

    def _note_end(self, held: Held) -> None:
        """Keep the ended lanes in the order of their ends; a reorganisation may revive one."""
        if held.view.status is ChainStatus.CLOSED:
            self._ended.setdefault(held.lane)
        else:
            self._ended.pop(held.lane, None)

    # -- committing -------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what changed, batch after batch, until cancelled; raises `LedgerUnusable`.

        A commit that fails ends the watchtower: what is not durable is not acknowledged.
        """
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.commit()

    async def commit(self) -> None:
        """Make durable what has changed, then tell whoever waits for it.

        After a commit that failed it does nothing: what is left builds upon what was lost.
        """
        if self._failed:
            return
        lanes, self._dirty = self._dirty, set()
        signers, self._dirty_seen = self._dirty_seen, set()
        told, self._told = self._told, []
        store = self._store
        statements = [
            store.remember(self._held[lane]) if lane in self._held else store.forget(lane)
            for lane in lanes
        ]
        for signer in signers:
            at = self._seen.get(signer)
            if at is None:
                self._seen_stored.pop(signer, None)
                statements.append(store.forget_seen(signer))
            else:
                self._seen_stored[signer] = at
                statements.append(store.remember_seen(signer, at))
        if self._cursor_moved and self._cursor is not None:
            statements.append(store.remember_cursor(*self._cursor))
            self._cursor_moved = False
        if statements:
            with trio.CancelScope(shield=True):  # a commit in a thread cannot be taken back
                try:
                    await trio.to_thread.run_sync(store.commit, statements)
                except BaseException:
                    self._failed = True
                    raise
        for then in told:
            then()


def _same(known: ChainView, view: ChainView) -> bool:
    """Whether two views differ in nothing but when they were read."""
    return replace(known, block=view.block, timestamp=view.timestamp) == view
