"""Replays a lane's receipts against its settlements and its close.

Rule: a settlement is a claim (nonce, total, history). Where receipts do not replay to it, the next
one is judged from the claim and from the receipts alike, so that one wrong payment or one lying
settlement is one finding and not one for everything after it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product

from ...channels.ids import ZERO_WORD, address_to_hex, to_hex
from ...channels.receipt import make_receipt
from ...channels.voucher import extend_history
from .records import Closed, Code, Finding, Lane, LaneId, LaneReceipts, ReceiptRecord, Settled

CHOICES_MAX = 256
"""Combinations tried where files tell several payments of one nonce; each may cost a replay."""

BLAME_HASHES_MAX = 2_000_000
"""About two seconds of looking for the one amount that was changed: 2,000 payments."""

_Step = tuple[int, bytes]
"""One payment as the history sees it: amount and reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A lane after `nonce` payments."""

    nonce: int = 0
    total_ucent: int = 0
    history: bytes = ZERO_WORD


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """From this block on the chain counts the lane's payments up to this nonce."""

    nonce: int
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReplay:
    """What replaying one lane gave."""

    findings: tuple[Finding, ...]
    difference_ucent: int
    """Σ |receipts − settled| over the lane's settlements and its close."""
    covers: tuple[Cover, ...]
    """With rising nonces."""
    unsettled_count: int
    unsettled_ucent: int
    final_ucent: int
    """All that the payer paid: what the chain counts and the receipts beyond it."""

    @property
    def covered_nonce(self) -> int:
        """The last payment that the chain counts."""
        return self.covers[-1].nonce if self.covers else 0

    def cover_of(self, nonce: int) -> Cover | None:
        """What first covered that payment; None while it is unsettled."""
        index = bisect_left(self.covers, nonce, key=lambda cover: cover.nonce)
        return self.covers[index] if index < len(self.covers) else None


def replay_lane(lane: Lane, closed: Closed | None, receipts: LaneReceipts) -> LaneReplay:
    """Judge one lane; `closed` is its channel's close, if there was one."""
    replay = _Replay(lane, receipts)
    for settled in lane.settlements:
        replay.settle(settled)
    if closed is not None:
        replay.close(closed.transferred_ucent[lane.side], closed.block)
    return replay.result()


def lane_text(lane: LaneId) -> str:
    """The words that name a lane in a finding."""
    return f"channel {to_hex(lane.channel)}, payer {address_to_hex(lane.payer)}"


def nonces_text(first: int, last: int) -> str:
    """The words that name one or several payments in a row."""
    return f"nonce {first}" if first == last else f"nonces {first} to {last}"


class _Replay:
    """The walk along one lane: where it stands by the chain and, if they differ, by receipts."""

    def __init__(self, lane: Lane, receipts: LaneReceipts) -> None:
        self._lane = lane
        self._receipts = receipts
        self._nonces = sorted(receipts)
        self._starts: tuple[Point, ...] = (Point(),)  # the chain's own is the last one
        self._findings: list[Finding] = []
        self._difference = 0
        self._covers: list[Cover] = []
        self._final = 0

    def settle(self, settled: Settled) -> None:
        anchor = self._starts[-1]
        claimed = Point(
            nonce=settled.nonce, total_ucent=settled.transferred_ucent, history=settled.history
        )
        owed = claimed.total_ucent - anchor.total_ucent
        published = self._published(anchor.nonce + 1, claimed.nonce)
        self._difference += abs(published - owed)
        if any(self._matches(start, claimed) for start in self._starts):
            self._starts = (claimed,)
        else:
            self._report(anchor, settled, owed - published)
            own = self._replayed(self._starts[0], claimed.nonce)
            self._starts = (own, claimed) if own else (claimed,)
        self._cover(claimed.nonce, settled.block)
        self._final = claimed.total_ucent

    def close(self, total: int, block: int) -> None:
        anchor = self._starts[-1]
        if total == anchor.total_ucent:
            return
        if total < anchor.total_ucent:
            self._difference += anchor.total_ucent - total
            self._find(
                Code.CLOSE_DIFFERS,
                (anchor.nonce, anchor.nonce),
                f"block {block} closed the lane at {total} µ¢, below the {anchor.total_ucent} µ¢ "
                "settled before",
            )
            return
        self._final = total
        walks = [self._walk(start, total, which) for start in self._starts for which in (0, 1)]
        there = [walk.nonce for walk in walks if walk.total_ucent == total]
        if not there:
            self._report_close(anchor, total, block)
            return
        # More than one only where amounts were changed: the one that leaves the fewest unsettled.
        published = self._published(anchor.nonce + 1, max(there))
        self._difference += abs(total - anchor.total_ucent - published)
        self._cover(max(there), block)

    def result(self) -> LaneReplay:
        covered = self._covers[-1].nonce if self._covers else 0
        beyond = self._nonces[bisect_right(self._nonces, covered) :]
        if beyond:
            for first, last in self._gaps(covered + 1, beyond[-1]):
                self._find(
                    Code.MISSING_RECEIPT,
                    (first, last),
                    f"there is no receipt of {nonces_text(first, last)}, but there is one of "
                    f"nonce {beyond[-1]}",
                )
        unsettled = sum(self._amount(nonce) for nonce in beyond)
        return LaneReplay(
            findings=tuple(self._findings),
            difference_ucent=self._difference,
            covers=tuple(self._covers),
            unsettled_count=len(beyond),
            unsettled_ucent=unsettled,
            final_ucent=self._final + unsettled,
        )

    # what the receipts hold

    def _between(self, first: int, last: int) -> list[int]:
        return self._nonces[bisect_left(self._nonces, first) : bisect_right(self._nonces, last)]

    def _amount(self, nonce: int) -> int:
        return self._receipts[nonce][0].amount_ucent

    def _published(self, first: int, last: int) -> int:
        return sum(self._amount(nonce) for nonce in self._between(first, last))

    def _gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        gaps = []
        for nonce in (*self._between(first, last), last + 1):
            if first < nonce:
                gaps.append((first, nonce - 1))
            first = nonce + 1
        return gaps

    def _segment(self, first: int, last: int) -> list[tuple[ReceiptRecord, ...]] | None:
        """The records of all these nonces; None where one is missing."""
        nonces = self._between(first, last)
        if last < first or len(nonces) != last - first + 1:
            return None
        return [self._receipts[nonce] for nonce in nonces]

    # where they lead

    def _matches(self, start: Point, claimed: Point) -> bool:
        segment = self._segment(start.nonce + 1, claimed.nonce)
        if segment is None:
            return False
        owed = claimed.total_ucent - start.total_ucent
        return any(
            sum(amount for amount, _ in steps) == owed
            and _extended(start.history, steps) == claimed.history
            for steps in _choices(segment)
        )

    def _replayed(self, start: Point, nonce: int) -> Point | None:
        segment = self._segment(start.nonce + 1, nonce)
        if segment is None:
            return None
        steps = [next(_options(records)) for records in segment]
        return Point(
            nonce=nonce,
            total_ucent=start.total_ucent + sum(amount for amount, _ in steps),
            history=_extended(start.history, steps),
        )

    def _walk(self, start: Point, total: int, which: int) -> Point:
        """Follow amounts from a point until they reach a total, pass it or end."""
        nonce, reached = start.nonce, start.total_ucent
        while reached < total and (records := self._receipts.get(nonce + 1)):
            amounts = [amount for amount, _ in _options(records)]
            reached += amounts[min(which, len(amounts) - 1)]
            nonce += 1
        return Point(nonce=nonce, total_ucent=reached)

    # what is wrong

    def _report(self, anchor: Point, settled: Settled, lacking: int) -> None:
        what = (
            f"the settlement of nonce {settled.nonce} at {settled.transferred_ucent} µ¢ "
            f"in block {settled.block}"
        )
        first, last = anchor.nonce + 1, settled.nonce
        if last < first:
            text = f"{what} does not go beyond nonce {anchor.nonce}, which was settled before"
            self._find(Code.SETTLEMENT_DIFFERS, (last, last), text)
            return
        gaps = self._gaps(first, last)
        alone = len(gaps) == 1 and gaps[0][0] == gaps[0][1] and lacking > 0
        for low, high in gaps:
            amount = f" ({lacking} µ¢)" if alone else ""
            self._find(
                Code.MISSING_RECEIPT,
                (low, high),
                f"the receipt of {nonces_text(low, high)}{amount} is missing, which {what} covers",
            )
        if not gaps:
            self._report_history(anchor, settled, f"{what} differs from the receipts of", lacking)

    def _report_history(self, anchor: Point, settled: Settled, what: str, lacking: int) -> None:
        first, last = anchor.nonce + 1, settled.nonce
        segment = self._segment(first, last) or []
        changed = _blame(anchor, [records[0] for records in segment], -lacking, settled.history)
        if changed is not None:
            record, amount = changed
            first = last = record.nonce
            why = (
                f"{record.place} says {record.amount_ucent} µ¢, and with {amount} µ¢ the receipts "
                "give the settled history"
            )
        elif lacking:
            why = f"they sum up to {abs(lacking)} µ¢ {'less' if lacking > 0 else 'more'}"
        else:
            why = "the sums agree, the histories do not: the content of a receipt was changed"
        text = f"{what} {nonces_text(first, last)}: {why}"
        self._find(Code.SETTLEMENT_DIFFERS, (first, last), text)

    def _report_close(self, anchor: Point, total: int, block: int) -> None:
        reached = self._walk(anchor, total, 0)
        what = f"block {block} closed the lane at {total} µ¢"
        if reached.total_ucent > total:
            self._cover(reached.nonce, block)
            over = reached.total_ucent - total
            below = reached.total_ucent - self._amount(reached.nonce)
            self._difference += min(over, total - below)
            self._find(
                Code.CLOSE_DIFFERS,
                (reached.nonce, reached.nonce),
                f"{what}, but its receipts give {below} µ¢ before nonce {reached.nonce} and "
                f"{reached.total_ucent} µ¢ after it",
            )
            return
        # Receipts end, or one is missing: which of those behind the gap count nobody can tell.
        rest = self._between(reached.nonce + 1, self._nonces[-1] if self._nonces else 0)
        first, last = self._gaps(reached.nonce + 1, rest[0] if rest else reached.nonce + 1)[0]
        behind = sum(self._amount(nonce) for nonce in rest)
        self._difference += abs(total - reached.total_ucent - behind)
        self._find(
            Code.MISSING_RECEIPT,
            (first, last),
            f"the receipt of {nonces_text(first, last)} is missing: {what}, and the receipts "
            f"before it reach only {reached.total_ucent} µ¢",
        )
        self._cover(rest[-1] if rest else reached.nonce, block)

    def _cover(self, nonce: int, block: int) -> None:
        if not self._covers or nonce > self._covers[-1].nonce:
            self._covers.append(Cover(nonce=nonce, block=block))

    def _find(self, code: Code, nonces: tuple[int, int], text: str) -> None:
        lane = self._lane.id
        self._findings.append(
            Finding(
                code=code,
                subject=nonces_text(*nonces),
                channel=lane.channel,
                payer=lane.payer,
                nonce=nonces[0],
                text=f"{lane_text(lane)}: {text}",
            )
        )


def _extended(history: bytes, steps: Iterable[_Step]) -> bytes:
    for amount, reference in steps:
        history = extend_history(history, amount, reference)
    return history


def _options(records: Sequence[ReceiptRecord]) -> Iterator[_Step]:
    """What may have been paid under one nonce: as published first, then what contradicts it."""
    for record in records:
        reference = record.receipt.reference()
        yield record.amount_ucent, reference
        if record.stated_ucent not in (None, record.amount_ucent):
            yield record.stated_ucent, reference
            yield record.amount_ucent, _reference_with(record, record.amount_ucent)


def _choices(segment: Sequence[Sequence[ReceiptRecord]]) -> Iterator[Sequence[_Step]]:
    options = [tuple(_options(records)) for records in segment]
    if all(len(steps) == 1 for steps in options):
        return iter([[steps[0] for steps in options]])
    # Where many lines were changed alike, the receipts inside are still right.
    second = [steps[min(1, len(steps) - 1)] for steps in options]
    return chain([second], islice(product(*options), CHOICES_MAX))


def _reference_with(record: ReceiptRecord, amount_ucent: int) -> bytes:
    """The reference this receipt would have with another amount in it."""
    fields = {**record.receipt.fields(), "amount": amount_ucent}
    return make_receipt(record.receipt.type, fields, salt=record.receipt.salt).reference()


def _blame(
    start: Point, records: Sequence[ReceiptRecord], surplus: int, history: bytes
) -> tuple[ReceiptRecord, int] | None:
    """The one payment whose amount, lowered by the surplus, gives that history; its old amount.

    It finds a change of line and receipt together, which leaves each line in itself consistent.
    """
    if not surplus or len(records) ** 2 // 2 > BLAME_HASHES_MAX:
        return None
    steps = [(record.amount_ucent, record.receipt.reference()) for record in records]
    before = start.history
    for index, record in enumerate(records):
        amount = record.amount_ucent - surplus
        if amount >= 1 and record.stated_ucent == record.amount_ucent:
            step = (amount, _reference_with(record, amount))
            if _extended(before, chain([step], steps[index + 1 :])) == history:
                return record, amount
        before = extend_history(before, *steps[index])
    return None
