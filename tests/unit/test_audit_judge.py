"""What the auditor finds in books that tie out, and in the same books with one thing wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.channels.ids import address_to_hex
from farthing.channels.terms import Side
from farthing.node.audit.errors import LogsIncomplete
from farthing.node.audit.judge import judge
from farthing.node.audit.receipts import ReceiptsReader
from farthing.node.audit.records import (
    Code,
    Credited,
    Membership,
    Opened,
    Severity,
    Withdrawn,
)

from .audit_world import (
    ALICE,
    CAROL,
    HUB,
    MALLORY,
    World,
    channels_of,
    city,
    codes,
    failures,
    timestamp,
)
from .audit_wrongs import WRONGS, missing_receipt


def test_honest_books_tie_out_and_the_totals_are_their_sums() -> None:
    world = city()
    report = world.judge()
    assert report.ok
    assert report.exit_code == 0
    assert report.difference_ucent == 0
    assert codes(report) == {Code.UNSETTLED}
    totals = report.totals
    assert report.channels == 3
    assert report.receipts == len(world.lines) == 56
    assert totals.deposits_ucent == 151_000
    assert totals.withdrawals_ucent == 700
    assert totals.locked_ucent == 50_300
    assert totals.payouts_ucent == 100_000
    assert totals.claimable_ucent == world.last(Credited).amount_ucent - 1
    assert totals.donation_ucent == 0
    assert totals.unsettled_ucent == 121
    assert totals.paid_ucent == sum(int(str(line["amount_ucent"])) for line in world.lines)
    assert totals.paid_ucent == totals.settled_ucent + totals.unsettled_ucent


@pytest.mark.parametrize(("code", "wrong"), WRONGS, ids=[w.__name__ for _, w in WRONGS])
def test_each_wrong_is_found_under_its_code(code: Code, wrong: Callable[[World], None]) -> None:
    world = city()
    wrong(world)
    report = world.judge()
    assert code in codes(report)
    assert report.ok is (code.severity is Severity.INFORMATION)
    assert report.exit_code == (0 if report.ok else 1)
    if report.ok:
        assert report.difference_ucent == 0


def test_every_code_has_a_wrong_that_is_found_under_it() -> None:
    assert {code for code, _ in WRONGS} == set(Code)


@given(st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_order_and_the_doubling_of_lines_do_not_matter(random, doubled) -> None:  # type: ignore[no-untyped-def]  # hypothesis gives them
    world = city()
    expected = world.judge().totals
    world.lines = world.lines * (2 if doubled else 1)
    random.shuffle(world.lines)
    report = world.judge()
    assert report.ok
    assert report.totals == expected


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda world: world.member(ALICE, status=2), "suspended in block 12"),
        (lambda world: world.member(ALICE, status=3), "removed in block 12"),
        (
            lambda world: world.member(ALICE, valid_until=timestamp(12) - 1),
            f"validity ended at {timestamp(12) - 1}",
        ),
    ],
)
def test_payments_to_somebody_who_is_no_active_member_are_one_finding(
    change: Callable[[World], None], why: str
) -> None:
    world = city()
    alice = channels_of(world)[0]
    change(world)
    for amount in (10, 20, 30):
        world.pay(alice, Side.A, amount)
    (finding,) = failures(world.judge())
    assert finding.code is Code.PAYEE_NOT_MEMBER
    assert finding.subject == "nonces 15 to 17"
    assert "60 µ¢" in finding.text
    assert address_to_hex(ALICE) in finding.text
    assert why in finding.text


def test_a_member_is_judged_at_the_block_of_the_payment_not_at_the_audited_one() -> None:
    world = city()
    world.member(ALICE, status=3)
    assert world.judge().ok


def test_the_last_second_of_a_validity_still_counts() -> None:
    world = city()
    world.member(ALICE, valid_until=timestamp(12))
    world.pay(channels_of(world)[0], Side.A, 1)
    assert world.judge().ok


def test_somebody_never_registered_is_no_member() -> None:
    world = city()
    world.memberships = [change for change in world.memberships if change.account != ALICE]
    findings = failures(world.judge())
    assert {f.code for f in findings} == {Code.PAYEE_NOT_MEMBER}
    assert "it was not registered" in findings[0].text


def test_an_unknown_channel_after_the_audited_block_is_no_failure() -> None:
    world = city()
    channel = world.open(CAROL, 5)
    world.pay(channel, Side.A, 5, block=13)
    world.accounts.pop(channel)
    world.events.pop()
    report = world.judge()
    assert report.ok
    assert Code.AFTER_BLOCK in codes(report)


def test_a_close_that_holds_too_little_for_b_says_so() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.deposit(channel, Side.B, 40)
    world.withdraw(channel, Side.A, 30)
    world.pay(channel, Side.A, 95)
    world.pay(channel, Side.B, 5)
    world.close(channel, (95, 5))
    clamped, too_much = failures(world.judge())
    assert clamped.code is Code.PAYOUT_CLAMPED
    assert f"held 20 µ¢ less than it owed to {address_to_hex(ALICE)}" in clamped.text
    assert too_much.text == (
        f"account {address_to_hex(HUB)} took 30 µ¢ out of its 1 channels, but deposited 100, "
        "received 5 and paid 95 µ¢: 20 µ¢ too much"
    )


def test_a_close_that_holds_too_little_for_a_says_so() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.deposit(channel, Side.B, 40)
    world.withdraw(channel, Side.B, 30)
    world.pay(channel, Side.B, 25)
    world.close(channel, (0, 25))
    clamped, too_much = failures(world.judge())
    assert clamped.code is Code.PAYOUT_CLAMPED
    assert f"held 15 µ¢ less than it owed to {address_to_hex(HUB)}" in clamped.text
    assert too_much.subject == f"account {address_to_hex(ALICE)}"


def test_a_close_that_pays_exactly_all_to_one_party_is_not_clamped() -> None:
    world = World()
    for totals in ((100, 0), (0, 0)):
        channel = world.open(ALICE, 100)
        if totals[0]:
            world.pay(channel, Side.A, totals[0])
        world.close(channel, totals)
    report = world.judge()
    assert report.findings == ()
    assert report.totals.payouts_ucent == 200


def test_an_account_is_judged_over_all_its_channels() -> None:
    world = World()
    rich = world.open(ALICE, 100)
    poor = world.open(ALICE, 10)
    world.pay(rich, Side.A, 50)
    world.block += 1
    world.withdraw(poor, Side.B, 10)
    assert codes(world.judge()) == {Code.UNSETTLED, Code.WITHDREW_TOO_MUCH}
    world.withdraw(rich, Side.B, 41)
    too_much, _ = failures(world.judge())
    assert too_much.code is Code.WITHDREW_TOO_MUCH
    (finding,) = (f for f in failures(world.judge()) if f.code is Code.TOOK_TOO_MUCH)
    assert finding.text == (
        f"account {address_to_hex(ALICE)} took 51 µ¢ out of its 2 channels, but deposited 0, "
        "received 50 and paid 0 µ¢: 1 µ¢ too much"
    )


def test_a_payout_counts_as_taken_out() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.pay(channel, Side.A, 60)
    world.close(channel, (60, 0))
    world.pay(channel, Side.A, 1)
    (finding,) = failures(world.judge())
    assert finding.code is Code.TOOK_TOO_MUCH
    assert "took 40 µ¢ out of its 1 channels, but deposited 100, received 0 and paid 61" in (
        finding.text
    )


def test_a_settlement_that_raises_nothing_does_not_chain() -> None:
    world = city()
    world.settle(channels_of(world)[0], Side.A, world.lanes[channels_of(world)[0], Side.A])
    world.settle(channels_of(world)[0], Side.A, world.lanes[channels_of(world)[0], Side.A])
    assert Code.EVENTS_DO_NOT_CHAIN in codes(world.judge())


def test_unsettled_payments_are_told_with_their_nonces_and_sum() -> None:
    (finding,) = city().judge().findings
    assert finding.code is Code.UNSETTLED
    assert finding.subject == "nonces 13 to 14"
    assert finding.text.endswith("nonces 13 to 14: 2 payments of 121 µ¢ are not settled")


def test_a_payment_at_the_audited_block_is_judged() -> None:
    world = city()
    world.pay(channels_of(world)[0], Side.B, 9)
    assert Code.AFTER_BLOCK not in codes(world.judge())


def test_a_payment_may_name_the_blocks_of_its_opening_and_of_its_settlement() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.pay(channel, Side.A, 1)
    world.settle(channel, Side.A)
    assert world.judge().findings == ()


@pytest.mark.parametrize("side", list(Side))
def test_a_withdrawal_that_no_payment_covers_is_found_at_the_account(side: Side) -> None:
    world = city()
    channel = world.open(CAROL, 100)
    world.deposit(channel, Side.B, 100)
    world.withdraw(channel, side, 101)
    world.close(channel, (0, 0))
    found = codes(world.judge())
    assert Code.PAYOUT_CLAMPED in found
    assert Code.CHANNEL_UNBALANCED not in found


def test_logs_without_an_opening_are_incomplete() -> None:
    world = city()
    world.events = [
        event
        for event in world.events
        if not (isinstance(event, Opened) and event.account_b == ALICE)
    ]
    with pytest.raises(LogsIncomplete, match="is missing"):
        world.judge()


def test_logs_without_a_whole_channel_are_incomplete() -> None:
    world = city()
    world.lied["channels_opened"] = 4
    with pytest.raises(LogsIncomplete, match="opened 4 channels, the logs tell of 3"):
        world.judge()


def test_logs_about_a_stranger_are_refused() -> None:
    world = city()
    world.events.append(dataclasses.replace(world.last(Withdrawn), account=MALLORY))
    world.lied["states"] = {}
    with pytest.raises(LogsIncomplete, match="no party"):
        judge(
            dataclasses.replace(city().view(), events=tuple(world.events)),
            ReceiptsReader().receipts(),
        )


def test_logs_without_a_change_of_membership_are_incomplete() -> None:
    world = city()
    removed = Membership(block=12, account=ALICE, role=4, status=3, valid_until=0)
    world.lied["members"] = {ALICE: removed}
    with pytest.raises(LogsIncomplete, match="another status"):
        world.judge()


def test_the_report_as_text_puts_failures_first_and_ends_with_the_outcome() -> None:
    world = city()
    missing_receipt(world)
    lines = world.judge().to_text().splitlines()
    assert lines[0].startswith("failure missing-receipt: channel 0x")
    assert lines[1].startswith("information unsettled: ")
    assert lines[-1].startswith("block 12, 3 channels, 55 receipts: differs: 1 findings")
    assert any(line.startswith("deposits") and "0.151 ¢" in line for line in lines)


def test_a_city_without_payments_ties_out_in_a_few_lines() -> None:
    world = World()
    lines = world.judge().to_text().splitlines()
    assert lines[0].split() == ["deposits", "0", "µ¢", "0", "¢"]
    assert lines[-1] == "block 1, 0 channels, 0 receipts: ties out"


def test_the_report_as_json_holds_what_programs_need() -> None:
    world = city()
    missing_receipt(world)
    record = json.loads(json.dumps(world.judge().to_json()))
    assert record["ok"] is False
    assert record["inconclusive"] is False
    assert record["difference_ucent"] == 2_004
    assert record["block"] == 12
    assert record["channels"] == 3
    assert record["receipts"] == 55
    assert record["paid_ucent"] == record["settled_ucent"] + 121 - 2_004
    finding = record["findings"][0]
    assert finding["code"] == "missing-receipt"
    assert finding["severity"] == "failure"
    assert finding["nonce"] == 2
