"""Checks of a lane's receipts against chain time and the member registry: pure functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...channels.ids import Address, address_to_hex
from ...channels.terms import Side
from .records import (
    MEMBER_ACTIVE,
    MEMBER_HUB,
    BlockRef,
    Books,
    ChainView,
    Channel,
    Code,
    Finding,
    Lane,
    LaneId,
    LaneReceipts,
    Membership,
    ReceiptRecord,
)
from .replay import LaneReplay, lane_text, nonces_text


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberHistory:
    """Every change of one member, in the chain's order."""

    blocks: tuple[int, ...]
    changes: tuple[Membership, ...]

    def at(self, block: int) -> Membership | None:
        """What the registry held at the end of that block; None before the first change."""
        index = bisect_right(self.blocks, block)
        return self.changes[index - 1] if index else None


def member_histories(changes: Iterable[Membership]) -> dict[Address, MemberHistory]:
    """Sort the registry's changes by member."""
    sorted_changes: dict[Address, list[Membership]] = {}
    for change in changes:
        sorted_changes.setdefault(change.account, []).append(change)
    return {
        account: MemberHistory(blocks=tuple(c.block for c in mine), changes=tuple(mine))
        for account, mine in sorted_changes.items()
    }


def is_agency(side: Side, payer: MemberHistory | None) -> bool:
    """Whether a payer's statements are held to the rules: party A is, and whoever was a hub.

    A hub is party A of its channels; that it has no hub's role in the registry is no excuse.
    """
    was_hub = payer is not None and any(change.role == MEMBER_HUB for change in payer.changes)
    return side is Side.A or was_hub


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneContext:
    """What a lane's receipts are judged by."""

    channel: Channel
    lane: Lane
    replay: LaneReplay
    payee: MemberHistory | None
    view: ChainView
    is_agency: bool
    """Whether the payer is, or was, a hub: only then is public money spent."""


def check_receipts(context: LaneContext, receipts: LaneReceipts) -> Iterator[Finding]:
    """Judge parties, block, time and the payee's membership of each payment of a lane.

    Payments in a row with the same fault are one finding. What a payer other than an agency states
    of block and time is its own affair: it spends its own money, and its payee cannot check it. A
    false statement is named, and nobody's books differ for it.
    """
    runs = _Runs(context.lane.id, receipts)
    newest = 0
    for nonce in sorted(receipts):
        for record in receipts[nonce]:
            for code, why in _faults(context, record, newest):
                stated = code in _STATED and not context.is_agency
                runs.add(Code.MISSTATED if stated else code, why, nonce)
        newest = max([newest, *(r.block for r in receipts[nonce] if r.block is not None)])
    return runs.findings()


_STATED = frozenset(
    {
        Code.BLOCK_BEFORE_OPENING,
        Code.BLOCK_AFTER_SETTLEMENT,
        Code.BLOCK_DECREASES,
        Code.TIME_DIFFERS,
        Code.PAYEE_NOT_MEMBER,
    }
)
"""Faults that follow from the block and time which the payer wrote into its receipt."""


def _faults(context: LaneContext, record: ReceiptRecord, newest: int) -> Iterator[tuple[Code, str]]:
    if record.payee != context.lane.payee:
        yield (
            Code.WRONG_PARTIES,
            f"the payee of this lane is {address_to_hex(context.lane.payee)}, not "
            f"{address_to_hex(record.payee)}",
        )
    block = record.block
    if block is None:
        return
    if block < context.channel.opened.block:
        yield (
            Code.BLOCK_BEFORE_OPENING,
            f"paid at block {block}, but the channel opened in block "
            f"{context.channel.opened.block}",
        )
    if block < newest:
        yield Code.BLOCK_DECREASES, f"paid at block {block}, after a payment at block {newest}"
    cover = context.replay.cover_of(record.nonce)
    if cover is not None and block > cover.block:
        yield (
            Code.BLOCK_AFTER_SETTLEMENT,
            f"paid at block {block}, but settled in block {cover.block}",
        )
    if block in context.view.timestamps:
        yield from _faults_in_time(context, record, block)


def _faults_in_time(
    context: LaneContext, record: ReceiptRecord, block: int
) -> Iterator[tuple[Code, str]]:
    now = context.view.timestamps[block]
    if record.at != now:
        yield (
            Code.TIME_DIFFERS,
            f"paid at {record.at} by the receipt, but its block {block} is of {now}",
        )
    why = _why_no_member(context.payee.at(block) if context.payee else None, now)
    if why:
        payee = address_to_hex(context.lane.payee)
        yield Code.PAYEE_NOT_MEMBER, f"the payee {payee} was no active member when paid: {why}"


def _why_no_member(membership: Membership | None, now: int) -> str:
    if membership is None:
        return "it was not registered"
    if membership.status != MEMBER_ACTIVE:
        status = _STATUS_TEXTS.get(membership.status, f"given status {membership.status}")
        return f"it was {status} in block {membership.block}"
    if membership.valid_until and now > membership.valid_until:
        return f"its validity ended at {membership.valid_until}"
    return ""


_STATUS_TEXTS = {2: "suspended", 3: "removed"}


class _Runs:
    """Joins the same fault of payments in a row into one finding."""

    def __init__(self, lane: LaneId, receipts: LaneReceipts) -> None:
        self._lane = lane
        self._receipts = receipts
        self._runs: dict[tuple[Code, str], list[list[int]]] = {}

    def add(self, code: Code, why: str, nonce: int) -> None:
        runs = self._runs.setdefault((code, why), [])
        if runs and nonce <= runs[-1][1] + 1:
            runs[-1][1] = nonce
        else:
            runs.append([nonce, nonce])

    def findings(self) -> Iterator[Finding]:
        for (code, why), runs in self._runs.items():
            for first, last in runs:
                paid = sum(self._receipts[n][0].amount_ucent for n in range(first, last + 1))
                yield Finding(
                    code=code,
                    subject=nonces_text(first, last),
                    channel=self._lane.channel,
                    payer=self._lane.payer,
                    nonce=first,
                    text=f"{lane_text(self._lane)}: {nonces_text(first, last)} ({paid} µ¢, "
                    f"{self._receipts[first][0].place}): {why}",
                )


def check_unknown_lane(
    lane: LaneId, receipts: LaneReceipts, books: Books, block: BlockRef
) -> Finding:
    """Name receipts that belong to no lane of any channel that the chain knew at that block."""
    first, last = min(receipts), max(receipts)
    channel = books.channels.get(lane.channel)
    if channel is not None:
        code = Code.WRONG_PARTIES
        why = "the parties of this channel are " + " and ".join(
            map(address_to_hex, channel.accounts)
        )
    elif all(_is_later(records, block.number) for records in receipts.values()):
        code, why = Code.AFTER_BLOCK, f"all of it happened after the audited block {block.number}"
    else:
        code, why = Code.UNKNOWN_CHANNEL, "the chain never opened this channel"
    return Finding(
        code=code,
        subject=nonces_text(first, last),
        channel=lane.channel,
        payer=lane.payer,
        nonce=first,
        text=f"{lane_text(lane)}: {nonces_text(first, last)} ({receipts[first][0].place}): {why}",
    )


def check_unsettled(context: LaneContext, receipts: LaneReceipts) -> Iterator[Finding]:
    """Name, for information, the payments that the chain does not count yet, or never will."""
    replay, lane = context.replay, context.lane.id
    if not replay.unsettled_count:
        return
    beyond = [nonce for nonce in receipts if nonce > replay.covered_nonce]
    what = f"{replay.unsettled_count} payments of {replay.unsettled_ucent} µ¢"
    yield _information(
        Code.UNSETTLED_AT_CLOSE if context.channel.closed else Code.UNSETTLED,
        lane,
        beyond,
        f"{what} are not settled"
        + (", and the channel is closed: they never will be" if context.channel.closed else ""),
    )
    later = [n for n in beyond if _is_later(receipts[n], context.view.block.number)]
    if later:
        paid = sum(receipts[nonce][0].amount_ucent for nonce in later)
        yield _information(
            Code.AFTER_BLOCK,
            lane,
            later,
            f"{len(later)} payments of {paid} µ¢ name a block after the audited one, "
            f"{context.view.block.number}: their time and membership were not judged",
        )


def _is_later(records: Sequence[ReceiptRecord], block: int) -> bool:
    return any(record.block is not None and record.block > block for record in records)


def _information(code: Code, lane: LaneId, nonces: Sequence[int], text: str) -> Finding:
    first, last = min(nonces), max(nonces)
    return Finding(
        code=code,
        subject=nonces_text(first, last),
        channel=lane.channel,
        payer=lane.payer,
        nonce=first,
        text=f"{lane_text(lane)}: {nonces_text(first, last)}: {text}",
    )
