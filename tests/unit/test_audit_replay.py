"""How the auditor replays receipts against settlements and closes, and how precisely it blames."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.channels.hashing import keccak256
from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal
from farthing.node.audit.records import (
    Code,
)

from .audit_world import (
    ALICE,
    World,
    change_receipt,
    channels_of,
    city,
    codes,
    failures,
)


@given(st.integers(0, 53))
@settings(max_examples=54, deadline=None)
def test_a_removed_receipt_is_named_by_channel_payer_and_nonce(index: int) -> None:
    world = city()
    line = world.lines.pop(index)
    report = world.judge()
    (finding,) = failures(report)
    assert finding.code is Code.MISSING_RECEIPT
    assert finding.channel is not None
    assert finding.payer is not None
    assert to_hex(finding.channel) == line["channel"]
    assert address_to_hex(finding.payer) == line["payer"]
    assert finding.nonce == line["nonce"]
    assert str(line["channel"]) in finding.text
    assert str(line["payer"]) in finding.text
    assert f"nonce {line['nonce']}" in finding.text
    assert report.difference_ucent == line["amount_ucent"]


@given(st.integers(0, 53), st.integers(1, 5_000))
@settings(max_examples=60, deadline=None)
def test_an_amount_changed_in_the_line_alone_is_named_by_line_and_nonce(
    index: int, amount: int
) -> None:
    world = city()
    line = world.lines[index]
    before = int(str(line["amount_ucent"]))
    line["amount_ucent"] = amount
    report = world.judge()
    if amount == before:
        assert report.ok
        return
    (finding,) = failures(report)
    assert finding.code is Code.AMOUNT_DIFFERS
    assert finding.nonce == line["nonce"]
    assert finding.subject == f"hub.jsonl:{index + 1}"
    assert report.difference_ucent == abs(amount - before)


@given(st.integers(0, 53), st.integers(1, 5_000))
@settings(max_examples=60, deadline=None)
def test_an_amount_changed_in_the_receipt_alone_is_named_by_line_and_nonce(
    index: int, amount: int
) -> None:
    world = city()
    line = world.lines[index]
    if amount == line["amount_ucent"]:
        return
    change_receipt(line, amount=amount)
    (finding,) = failures(world.judge())
    assert finding.code is Code.AMOUNT_DIFFERS
    assert finding.nonce == line["nonce"]


def test_an_amount_changed_in_line_and_receipt_alike_is_still_found_by_the_settled_history() -> (
    None
):
    world = city()
    alice = channels_of(world)[0]
    line = world.line(alice, Side.A, 9)
    line["amount_ucent"] = 1_500
    change_receipt(line, amount=1_500)
    report = world.judge()
    (finding,) = failures(report)
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.nonce == 9
    assert "says 1500 µ¢, and with 1008 µ¢ the receipts give the settled history" in finding.text
    assert report.difference_ucent == 492


def test_a_settlement_for_less_than_its_receipts_blames_no_payment_that_small() -> None:
    world = World()
    world.block = 2
    channel = world.open(ALICE, 100)
    for amount in (1, 5, 4):
        world.pay(channel, Side.A, amount)
    lie = LaneTotal(nonce=3, transferred_ucent=6, history=keccak256(b"lie"))
    world.settle(channel, Side.A, lie)
    report = world.judge()
    (finding,) = failures(report)
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.text.endswith("they sum up to 4 µ¢ more")
    assert report.difference_ucent == 4


def test_a_lie_about_a_single_payment_names_that_payment() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.pay(channel, Side.A, 7)
    world.settle(
        channel, Side.A, dataclasses.replace(world.lanes[channel, Side.A], history=b"x" * 32)
    )
    (finding,) = failures(world.judge())
    assert "differs from the receipts of nonce 1: the sums agree" in finding.text


def test_two_amounts_changed_alike_are_narrowed_to_the_payments_of_one_settlement() -> None:
    world = city()
    alice = channels_of(world)[0]
    for nonce in (8, 10):
        line = world.line(alice, Side.A, nonce)
        line["amount_ucent"] = 1_500
        change_receipt(line, amount=1_500)
    (finding,) = failures(world.judge())
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.subject == "nonces 7 to 12"


def test_a_lying_settlement_is_one_finding_and_the_next_one_is_judged_by_the_receipts() -> None:
    world = city()
    alice = channels_of(world)[0]
    honest = world.lanes[alice, Side.B]
    world.pay(alice, Side.B, 10)
    lie = dataclasses.replace(world.lanes[alice, Side.B], history=keccak256(b"lie"))
    world.settle(alice, Side.B, lie)
    world.pay(alice, Side.B, 20)
    world.settle(alice, Side.B)
    (finding,) = failures(world.judge())
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.nonce == honest.nonce + 1


def test_of_two_payments_under_one_nonce_the_one_that_was_settled_counts() -> None:
    world = city()
    forged = dict(world.lines[0])
    forged["amount_ucent"] = 3
    change_receipt(forged, amount=3)
    world.lines.insert(0, forged)
    (finding,) = failures(world.judge())
    assert finding.code is Code.EQUIVOCATION
    assert finding.subject == "hub.jsonl:2"
    assert "hub.jsonl:1" in finding.text
    assert finding.nonce == 1


def test_all_amounts_of_a_file_changed_alike_are_found_by_the_receipts_inside() -> None:
    world = city()
    for line in world.lines:
        line["amount_ucent"] = int(str(line["amount_ucent"])) + 1
    report = world.judge()
    assert {f.code for f in failures(report)} == {Code.AMOUNT_DIFFERS}
    assert report.difference_ucent == 54


def test_a_nonce_beyond_all_receipts_costs_no_time_and_names_what_is_missing() -> None:
    world = city()
    alice = channels_of(world)[0]
    total = world.lanes[alice, Side.A]
    huge = LaneTotal(
        nonce=2**63, transferred_ucent=2**63, history=keccak256(b"an impossible history")
    )
    world.settle(alice, Side.A, huge)
    findings = [f for f in failures(world.judge()) if f.code is Code.MISSING_RECEIPT]
    assert [f.subject for f in findings] == [f"nonces {total.nonce + 1} to {2**63}"]


def _closed(amounts: tuple[int, ...], total: int, settled: int = 0) -> World:
    """A lane with these payments, the first ones settled, closed cooperatively at a total."""
    world = World()
    channel = world.open(ALICE, 1_000)
    for nonce, amount in enumerate(amounts, start=1):
        world.pay(channel, Side.A, amount)
        if nonce == settled:
            world.settle(channel, Side.A)
    world.close(channel, (total, 0))
    return world


def test_a_close_at_the_total_of_any_payment_ties_out_with_the_rest_unsettled() -> None:
    report = _closed((10, 20, 30), total=30, settled=1).judge()
    assert codes(report) == {Code.UNSETTLED_AT_CLOSE, Code.TOOK_TOO_MUCH}
    assert report.difference_ucent == 0
    (unsettled,) = (f for f in report.findings if f.code is Code.UNSETTLED_AT_CLOSE)
    assert unsettled.subject == "nonce 3"
    assert "1 payments of 30 µ¢" in unsettled.text


@pytest.mark.parametrize(("total", "difference"), [(31, 1), (45, 15), (58, 2), (29, 1), (12, 2)])
def test_a_close_between_two_payments_differs_by_the_nearer_one(
    total: int, difference: int
) -> None:
    report = _closed((10, 20, 30), total=total, settled=1).judge()
    (finding,) = (f for f in report.findings if f.code is Code.CLOSE_DIFFERS)
    assert report.difference_ucent == difference
    nonce = 3 if total > 30 else 2
    assert finding.nonce == nonce
    below, above = (30, 60) if nonce == 3 else (10, 30)
    assert f"give {below} µ¢ before nonce {nonce} and {above} µ¢ after it" in finding.text


def test_a_close_below_what_was_settled_differs_by_what_was_given_back() -> None:
    report = _closed((10, 20, 30), total=10, settled=2).judge()
    (finding,) = (f for f in report.findings if f.code is Code.CLOSE_DIFFERS)
    assert "closed the lane at 10 µ¢, below the 30 µ¢ settled before" in finding.text
    assert report.difference_ucent == 20


def test_a_close_beyond_all_receipts_misses_the_next_one() -> None:
    report = _closed((10, 20, 30), total=65, settled=1).judge()
    (finding,) = failures(report)
    assert finding.code is Code.MISSING_RECEIPT
    assert finding.nonce == 4
    assert "the receipts before it reach only 60 µ¢" in finding.text
    assert report.difference_ucent == 5


def test_a_close_of_a_lane_without_any_receipt_misses_the_first_one() -> None:
    world = _closed((10,), total=10)
    world.lines.clear()
    report = world.judge()
    (finding,) = failures(report)
    assert finding.code is Code.MISSING_RECEIPT
    assert finding.subject == "nonce 1"
    assert report.difference_ucent == 10


def test_receipts_missing_before_a_close_are_named_together() -> None:
    world = _closed((10, 20, 30, 40), total=100, settled=1)
    del world.lines[1:3]
    report = world.judge()
    (finding,) = failures(report)
    assert finding.subject == "nonces 2 to 3"
    assert report.difference_ucent == 50


def test_receipts_missing_in_one_settlement_are_named_run_by_run() -> None:
    world = World()
    channel = world.open(ALICE, 1_000)
    for amount in (1, 2, 3, 4, 5, 6):
        world.pay(channel, Side.A, amount)
    world.settle(channel, Side.A)
    world.lines = [line for line in world.lines if line["nonce"] in (1, 4, 5)]
    report = world.judge()
    assert [f.subject for f in failures(report)] == ["nonces 2 to 3", "nonce 6"]
    assert report.difference_ucent == 11


def test_a_removed_receipt_is_told_with_its_amount_where_it_alone_is_missing() -> None:
    world = city()
    line = world.lines.pop(0)
    (finding,) = failures(world.judge())
    assert f"nonce 1 ({line['amount_ucent']} µ¢) is missing" in finding.text
