"""Judges what was read from chain and receipts: one pure function, every check in its order."""

from __future__ import annotations

from collections.abc import Iterator

from ...channels.terms import Side
from .books import build_books
from .chain_checks import (
    accounts_of,
    check_accounts,
    check_balance,
    check_claimable,
    check_conservation,
    check_events,
    check_payout,
    check_state,
    imbalance_ucent,
)
from .receipt_checks import (
    LaneContext,
    check_receipts,
    check_unknown_lane,
    check_unsettled,
    is_agency,
    member_histories,
)
from .records import Books, ChainView, Channel, ChannelState, Finding, LaneId, Receipts, Severity
from .replay import LaneReplay, replay_lane
from .report import Report, Totals
from .withdrawal_checks import check_withdrawals


def judge(view: ChainView, receipts: Receipts) -> Report:
    """Judge everything; raises `LogsIncomplete` where the logs cannot be all there are."""
    books = build_books(view)
    replays = {
        lane.id: replay_lane(lane, channel.closed, receipts.lanes.get(lane.id, {}))
        for channel in books.channels.values()
        for lane in channel.lanes
    }
    totals = _totals(books, view, receipts, replays)
    accounts = accounts_of(
        books.channels.values(), {lane: replay.final_ucent for lane, replay in replays.items()}
    )
    findings = [
        *receipts.findings,
        *_judge_channels(books, view),
        *_judge_lanes(books, view, receipts, replays),
        *_judge_withdrawals(books, view, receipts),
        *check_accounts(accounts),
        *check_claimable(books, view),
        *check_balance(totals.balance_ucent, totals.locked_ucent, totals.claimable_ucent),
    ]
    difference = sum(
        abs(imbalance_ucent(channel, view.states[channel.id]))
        for channel in books.channels.values()
    )
    difference += sum(replay.difference_ucent for replay in replays.values())
    difference += max(0, totals.locked_ucent + totals.claimable_ucent - totals.balance_ucent)
    return Report(
        block=view.block,
        channels=len(books.channels),
        receipts=receipts.count,
        difference_ucent=difference,
        totals=totals,
        findings=tuple(sorted(findings, key=lambda f: f.severity is not Severity.FAILURE)),
    )


def _judge_channels(books: Books, view: ChainView) -> Iterator[Finding]:
    for channel in books.channels.values():
        yield from _judge_channel(channel, view.states[channel.id])


def _judge_channel(channel: Channel, state: ChannelState) -> Iterator[Finding]:
    yield from check_events(channel)
    yield from check_state(channel, state)
    yield from check_conservation(channel, state)
    yield from check_payout(channel)


def _judge_withdrawals(books: Books, view: ChainView, receipts: Receipts) -> Iterator[Finding]:
    histories = member_histories(view.memberships)
    for channel in books.channels.values():
        agencies = [is_agency(side, histories.get(channel.accounts[side])) for side in Side]
        yield from check_withdrawals(channel, receipts.lanes, view.block.number, agencies)


def _judge_lanes(
    books: Books, view: ChainView, receipts: Receipts, replays: dict[LaneId, LaneReplay]
) -> Iterator[Finding]:
    histories = member_histories(view.memberships)
    for channel in books.channels.values():
        for side, lane in zip(Side, channel.lanes, strict=True):
            context = LaneContext(
                channel=channel,
                lane=lane,
                replay=replays[lane.id],
                payee=histories.get(lane.payee),
                is_agency=is_agency(side, histories.get(lane.id.payer)),
                view=view,
            )
            mine = receipts.lanes.get(lane.id, {})
            yield from replays[lane.id].findings
            yield from check_receipts(context, mine)
            yield from check_unsettled(context, mine)
    for lane_id, records in receipts.lanes.items():
        if lane_id not in replays:
            yield check_unknown_lane(lane_id, records, books, view.block)


def _totals(
    books: Books, view: ChainView, receipts: Receipts, replays: dict[LaneId, LaneReplay]
) -> Totals:
    channels = books.channels.values()
    locked = sum(state.locked_ucent for state in view.states.values())
    claimable = sum(view.claimable_ucent.values())
    return Totals(
        deposits_ucent=sum(c.deposited_ucent(side) for c in channels for side in Side),
        withdrawals_ucent=sum(c.withdrawn_ucent(side) for c in channels for side in Side),
        payouts_ucent=sum(c.payout_ucent(side) for c in channels for side in Side),
        locked_ucent=locked,
        claimable_ucent=claimable,
        balance_ucent=view.balance_ucent,
        donation_ucent=max(0, view.balance_ucent - locked - claimable),
        paid_ucent=receipts.paid_ucent,
        settled_ucent=sum(c.final_ucent(side) for c in channels for side in Side),
        unsettled_ucent=sum(replay.unsettled_ucent for replay in replays.values()),
    )
