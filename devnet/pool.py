"""Transactions that wait for a block, by sender and nonce.

The pool lives in memory: a restart forgets what waits (never what is mined), as clients must
expect of any node; they send again, and the nonce keeps it from counting twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eth.abc import SignedTransactionAPI

from ..channels.ids import Address
from .errors import AlreadyKnown, NonceTooHigh, NonceTooLow, PoolFull, ReplacementUnderpriced
from .records import Transaction

WAITING_MAX = 4_096
"""All senders together; some ten full blocks of small transactions."""
NONCES_AHEAD_MAX = 1_024
"""How far a nonce may lie ahead of the account's: larger gaps are a client's mistake."""
PRICE_BUMP_PERCENT = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A checked transaction with its place in the order of arrival."""

    arrival: int
    record: Transaction
    signed: SignedTransactionAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A transaction that was taken out of a block, or that waited when a snapshot was taken."""

    record: Transaction
    signed: SignedTransactionAPI


class Pool:
    """First come, first served, except that a sender's transactions go in the order of nonces.

    Where there is a base fee the tip comes before the order of arrival.
    """

    def __init__(self) -> None:
        self._by_sender: dict[Address, dict[int, Waiting]] = {}
        self._by_hash: dict[bytes, Waiting] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, transaction: bytes) -> Transaction | None:
        """A waiting transaction by hash."""
        waiting = self._by_hash.get(transaction)
        return None if waiting is None else waiting.record

    def add(self, record: Transaction, signed: SignedTransactionAPI, account_nonce: int) -> None:
        """Take a transaction in; `account_nonce` is its sender's next nonce on-chain.

        Raises `AlreadyKnown`, `NonceTooLow`, `NonceTooHigh`, `ReplacementUnderpriced`, `PoolFull`.
        """
        if record.hash in self._by_hash:
            raise AlreadyKnown(record.hash)
        if record.nonce < account_nonce:
            raise NonceTooLow(record.nonce, account_nonce)
        if record.nonce >= account_nonce + NONCES_AHEAD_MAX:
            raise NonceTooHigh(record.nonce, account_nonce, NONCES_AHEAD_MAX)
        old = self._by_sender.get(record.sender, {}).get(record.nonce)
        if old is not None:
            if not _pays_more(record, old.record):
                raise ReplacementUnderpriced(record.nonce)
            self._remove(old)
        elif len(self._by_hash) >= WAITING_MAX:
            raise PoolFull(WAITING_MAX)
        self._arrivals += 1
        waiting = Waiting(arrival=self._arrivals, record=record, signed=signed)
        self._by_sender.setdefault(record.sender, {})[record.nonce] = waiting
        self._by_hash[record.hash] = waiting

    def next_nonce(self, sender: Address, account_nonce: int) -> int:
        """The nonce after the sender's gapless run of waiting transactions."""
        mine = self._by_sender.get(sender, {})
        nonce = account_nonce
        while nonce in mine:
            nonce += 1
        return nonce

    def ready(
        self, account_nonce: Callable[[Address], int], base_fee_wei: int | None = None
    ) -> Iterator[Waiting]:
        """What could be mined now, in order; do not change the pool while going through it.

        With a base fee, those alone that pay it, and the highest tip first. A caller that cannot
        take one must pass over the later ones of the same sender, too.
        """
        heads: list[tuple[int, int, Waiting]] = []

        def offer(waiting: Waiting | None) -> None:
            if waiting is None:
                return
            tip = 0 if base_fee_wei is None else waiting.record.tip_wei(base_fee_wei)
            if tip >= 0:
                heapq.heappush(heads, (-tip, waiting.arrival, waiting))

        for sender, mine in self._by_sender.items():
            offer(mine.get(account_nonce(sender)))
        while heads:
            *_, waiting = heapq.heappop(heads)
            yield waiting
            offer(self._by_sender[waiting.record.sender].get(waiting.record.nonce + 1))

    def drop(self, transaction: bytes) -> None:
        """Take one out: mined, or not possible any more. Unknown ones are passed over."""
        waiting = self._by_hash.get(transaction)
        if waiting is not None:
            self._remove(waiting)

    def all(self) -> tuple[Waiting, ...]:
        """All that wait, in the order of their arrival."""
        return tuple(sorted(self._by_hash.values(), key=lambda waiting: waiting.arrival))

    def clear(self) -> None:
        """Forget all that wait."""
        self._by_sender.clear()
        self._by_hash.clear()

    def drop_sender(self, sender: Address) -> None:
        """Take out all that wait from one sender."""
        for waiting in tuple(self._by_sender.get(sender, {}).values()):
            self._remove(waiting)

    def drop_used(self, account_nonce: Callable[[Address], int]) -> None:
        """Take out what has become impossible because its nonce was used by somebody else.

        An authorization (EIP-7702) uses a nonce of the account that signed it.
        """
        for sender, mine in tuple(self._by_sender.items()):
            first = account_nonce(sender)
            for nonce in [nonce for nonce in mine if nonce < first]:
                self._remove(mine[nonce])

    def _remove(self, waiting: Waiting) -> None:
        mine = self._by_sender[waiting.record.sender]
        del mine[waiting.record.nonce]
        if not mine:
            del self._by_sender[waiting.record.sender]
        del self._by_hash[waiting.record.hash]


def _pays_more(new: Transaction, old: Transaction) -> bool:
    """Whether both fees rose by a tenth, and by at least 1 wei (the usual rule of nodes)."""
    pairs = (
        (new.max_fee_wei, old.max_fee_wei),
        (new.max_priority_fee_wei, old.max_priority_fee_wei),
    )
    return all(
        fresh > stale and 100 * fresh >= PRICE_BUMP_PERCENT * stale for fresh, stale in pairs
    )
