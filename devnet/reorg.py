"""Taking blocks back: reorganisations that replace the newest blocks, and snapshots to return to.

Rule: what is taken back is gone from every answer; what replaces it has other hashes, also after a
restart. A devnet that is killed meanwhile comes back with a chain that is whole and shorter.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from .chain import BLOCKS_AT_ONCE_MAX, DevChain
from .errors import TooManyBlocks, TransactionRefused, UnknownBlock
from .journal import Arrived
from .pool import Undone
from .records import Header

SNAPSHOTS_MAX = 1_000
"""Kept at one time; the oldest is forgotten first. One is a few words and what waits."""

_log = logging.getLogger(__name__)


class Fate(Enum):
    """What becomes of the transactions of the blocks that a reorganisation takes back.

    AGAIN: they are mined again, in the first of the new blocks. WAITING: they go back into the pool
    and the new blocks are empty, so that the next block takes them. DROPPED: nobody has them.
    """

    AGAIN = "again"
    WAITING = "waiting"
    DROPPED = "dropped"


def reorganise(chain: DevChain, depth: int, fate: Fate) -> Header:
    """Replace the newest `depth` blocks by as many others at the same times; returns the head.

    Raises `TooManyBlocks`, `UnknownBlock` where the chain is not that long.
    """
    if not 1 <= depth <= BLOCKS_AT_ONCE_MAX:
        raise TooManyBlocks(depth, BLOCKS_AT_ONCE_MAX)
    head = chain.head.number
    fork = head - depth
    if fork < 1:
        raise UnknownBlock(f"block {fork}", head)
    headers = [chain.header(number) for number in range(fork + 1, head + 1)]
    undone = chain.undo(fork)
    if fate is not Fate.DROPPED:
        _wait_again(chain, undone)
    for header in headers:
        if header is not None:
            chain.mine_at(header.timestamp, empty=fate is not Fate.AGAIN)
    return chain.head


def _wait_again(chain: DevChain, undone: Iterable[Undone]) -> None:
    """Let transactions wait in the pool, as far as it takes them; a node forgets the others too."""
    for each in undone:
        try:
            chain.pool.add(each.record, each.signed, chain.nonce(each.record.sender))
        except TransactionRefused as refusal:
            _log.warning("transaction 0x%s is forgotten: %s", each.record.hash.hex(), refusal)
        else:
            chain.journal.add(Arrived(transaction=each.record.hash))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    number: int
    block_hash: bytes
    offset_seconds: int
    next_exact: int | None
    altered: bytes | None
    waiting: tuple[Undone, ...]


class Snapshots:
    """The states of one chain that can be returned to, each once."""

    def __init__(self) -> None:
        self._kept: dict[int, _Snapshot] = {}
        self._last = 0

    def take(self, chain: DevChain) -> int:
        """Remember blocks, clock and pool as they are; returns the snapshot's number."""
        self._last += 1
        self._kept[self._last] = _Snapshot(
            number=chain.head.number,
            block_hash=chain.head.hash,
            offset_seconds=chain.clock.offset_seconds,
            next_exact=chain.clock.next_exact,
            altered=chain.altered.root,
            waiting=tuple(
                Undone(record=each.record, signed=each.signed) for each in chain.pool.all()
            ),
        )
        if len(self._kept) > SNAPSHOTS_MAX:
            del self._kept[min(self._kept)]
        return self._last

    def revert(self, chain: DevChain, number: int) -> bool:
        """Return to a snapshot, which is used up with all later ones; False if there is none.

        Nor is there one where its block was taken back by a reorganisation.
        """
        snapshot = self._kept.get(number)
        self._kept = {n: kept for n, kept in self._kept.items() if n < number}
        if snapshot is None:
            return False
        header = chain.header(snapshot.number)
        if header is None or header.hash != snapshot.block_hash:
            return False
        chain.undo(snapshot.number)
        chain.altered.put(snapshot.altered)
        chain.pool.clear()
        _wait_again(chain, snapshot.waiting)
        chain.set_clock(snapshot.offset_seconds)
        chain.clock.next_exact = snapshot.next_exact
        return True


_of_chains: weakref.WeakKeyDictionary[DevChain, Snapshots] = weakref.WeakKeyDictionary()


def snapshots_of(chain: DevChain) -> Snapshots:
    """The snapshots of a chain; they live as long as the process."""
    return _of_chains.setdefault(chain, Snapshots())
