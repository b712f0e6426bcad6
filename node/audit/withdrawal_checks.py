"""Checks of what parties took out of open channels against vouchers and receipts: pure functions.

The contract takes any withdrawal that both signers signed, so an insider who signs too much gives
the agency's money away: nothing is missing on the chain, and a close later clamps it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...channels.ids import address_to_hex, to_hex
from ...channels.terms import Side
from .records import (
    Channel,
    Code,
    Deposited,
    Finding,
    LaneId,
    LaneReceipts,
    ReceiptRecord,
    Settled,
    Withdrawn,
)


def check_withdrawals(
    channel: Channel,
    lanes: Mapping[LaneId, LaneReceipts],
    block: int,
    agencies: Sequence[bool],
) -> Iterator[Finding]:
    """No party took more than its deposit plus what it received minus what it paid by then.

    Whatever cannot be told counts for the party: a payment to it counts unless its receipt names
    the block of the withdrawal or a later one, which is when it cannot have been made before; a
    payment by it counts once the chain had it settled, for its receipt says only when it was made
    at the earliest. What stays of that is judged by all receipts up to `block`, the audited one.
    Only an agency's receipts (`agencies`, by side) are asked for their block: what another payer
    wrote there can neither accuse the one it paid nor hide what it spent.
    """
    for side in Side:
        received = lanes.get(channel.lanes[side.other].id, {})
        too_much = [
            finding
            for withdrawal in channel.withdrawals[side]
            for finding in _check_one(
                channel, side, withdrawal, received, dated=agencies[side.other]
            )
        ]
        yield from too_much
        if not too_much and channel.closed is None:
            paid = lanes.get(channel.lanes[side].id, {})
            limit = block if agencies[side] else None
            yield from _check_what_is_left(channel, side, received, paid, limit)


def _check_one(
    channel: Channel, side: Side, withdrawal: Withdrawn, receipts: LaneReceipts, *, dated: bool
) -> Iterator[Finding]:
    block = withdrawal.block
    deposited = _deposited_by(channel, side, channel.deposits[side], block)
    received = max(
        _settled_by(channel.lanes[side.other].settlements, block),
        sum(
            r.amount_ucent
            for r in _first_of(receipts)
            if not dated or r.block is None or r.block < block
        ),
    )
    paid = _settled_by(channel.lanes[side].settlements, block)
    own = deposited + received - paid
    if withdrawal.total_ucent > own:
        yield _finding(
            channel,
            side,
            subject=f"withdrawal in block {block}",
            text=f"the withdrawal of {withdrawal.amount_ucent} µ¢ in block {block} brings what "
            f"{address_to_hex(channel.accounts[side])} took out to {withdrawal.total_ucent} µ¢, "
            f"but by then it had deposited {deposited}, received {received} and paid {paid} µ¢: "
            f"{withdrawal.total_ucent - own} µ¢ that no voucher covers",
        )


def _check_what_is_left(
    channel: Channel, side: Side, received: LaneReceipts, paid: LaneReceipts, limit: int | None
) -> Iterator[Finding]:
    withdrawn = channel.withdrawn_ucent(side)
    if not withdrawn:
        return
    deposited = channel.deposited_ucent(side)
    income = max(
        channel.settled_ucent(side.other), sum(r.amount_ucent for r in _first_of(received))
    )
    spent = max(
        channel.settled_ucent(side),
        sum(
            r.amount_ucent
            for r in _first_of(paid)
            if limit is None or (r.block is not None and r.block <= limit)
        ),
    )
    own = deposited + income - spent
    if withdrawn > own:
        yield _finding(
            channel,
            side,
            subject="withdrawals",
            text=f"{address_to_hex(channel.accounts[side])} took out {withdrawn} µ¢, but "
            f"deposited {deposited}, received {income} and paid {spent} µ¢: "
            f"{withdrawn - own} µ¢ that no voucher covers",
        )


def _deposited_by(channel: Channel, side: Side, deposits: Iterable[Deposited], block: int) -> int:
    first = channel.opened.deposit_ucent if side is Side.A else 0
    return first + sum(event.amount_ucent for event in deposits if event.block <= block)


def _settled_by(settlements: Iterable[Settled], block: int) -> int:
    return max((s.transferred_ucent for s in settlements if s.block <= block), default=0)


def _first_of(receipts: LaneReceipts) -> Iterator[ReceiptRecord]:
    """Each payment as it was published first; what contradicts it has a finding of its own."""
    return (records[0] for records in receipts.values())


def _finding(channel: Channel, side: Side, *, subject: str, text: str) -> Finding:
    return Finding(
        code=Code.WITHDREW_TOO_MUCH,
        channel=channel.id,
        payer=channel.accounts[side],
        subject=subject,
        text=f"channel {to_hex(channel.id)}: {text}",
    )
