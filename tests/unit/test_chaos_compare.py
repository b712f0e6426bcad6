"""The comparison notices each way in which a payment can be missing or too many."""

from dataclasses import replace

import pytest

from farthing.channels.ids import ChannelId
from farthing.channels.voucher import LaneTotal
from farthing.devnet.chaos.compare import (
    SHOWN_MAX,
    Comparison,
    Held,
    Problem,
    Sides,
    Wrong,
    compare,
    promised,
)
from farthing.devnet.chaos.tally import Reported

CHANNEL = ChannelId(b"\x11" * 32)
PAID, REWARDED = ("p1", "p2", "p3"), ("r1", "r2")


def lane(references: tuple[str, ...], amount_ucent: int = 5) -> Held:
    count = len(references)
    total = LaneTotal(nonce=count, transferred_ucent=count * amount_ucent, history=b"\x07" * 32)
    rows = tuple((nonce, amount_ucent, ref) for nonce, ref in enumerate(references, 1))
    return Held(total=total if count else LaneTotal(), payments=rows)


def sides() -> Sides:
    paid, rewarded = lane(PAID), lane(REWARDED)
    return Sides(channel=CHANNEL, paid=(paid, paid), rewarded=(rewarded, rewarded))


def with_lane(name: str, payer: Held, payee: Held) -> Sides:
    if name == "paid":
        return replace(sides(), paid=(payer, payee))
    return replace(sides(), rewarded=(payer, payee))


def reported() -> Reported:
    return Reported(
        acknowledged=set(PAID), submitted=set(REWARDED), decided={"r1"}, received=set(REWARDED)
    )


def found(of: Sides, said: Reported | None = None) -> Comparison:
    comparison = Comparison()
    compare(comparison, said or reported(), of)
    return comparison


def counts(comparison: Comparison) -> tuple[int, int, int]:
    return comparison.lost, comparison.double_counted, comparison.unbalanced


def test_what_both_sides_hold_once_is_right() -> None:
    assert counts(found(sides())) == (0, 0, 0)
    assert found(sides()).problems == []


def test_what_is_held_and_was_not_acknowledged_is_right_too() -> None:
    """The acknowledgement was on its way when the wallet was killed."""
    said = replace(reported(), acknowledged={"p1"}, decided=set(), received=set())
    assert counts(found(sides(), said)) == (0, 0, 0)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("name", "references"), [("paid", PAID), ("rewarded", REWARDED)])
def test_what_one_side_does_not_hold_is_lost_and_named(
    name: str, references: tuple[str, ...], side: int
) -> None:
    both = [lane(references), lane(references)]
    both[side] = lane(references[:-1])
    comparison = found(with_lane(name, both[0], both[1]))
    who = ("payer", "payee")[side]
    lane_name = "to the hub" if name == "paid" else "to the wallet"
    queued = 1 if (name, side) == ("rewarded", 0) else 0  # which the hub then never paid for
    assert counts(comparison) == (1 + queued, 0, 1)
    assert comparison.problems[0] == Problem(
        wrong=Wrong.LOST,
        channel="0x" + "11" * 32,
        reference=references[-1],
        text=f"an acknowledged payment {lane_name} is not held by its {who}",
    )


@pytest.mark.parametrize("name", ["paid", "rewarded"])
def test_what_both_sides_hold_twice_is_counted_twice_by_each(name: str) -> None:
    references = PAID if name == "paid" else REWARDED
    doubled = lane((*references, references[0]))
    comparison = found(with_lane(name, doubled, doubled))
    assert counts(comparison) == (0, 2, 0)
    assert {problem.reference for problem in comparison.problems} == {references[0]}


def test_a_promise_that_only_the_hubs_answer_made_must_be_held_too() -> None:
    said = replace(reported(), decided={"r3"})
    assert counts(found(sides(), said)) == (2, 0, 0)


def test_a_lane_that_differs_does_not_balance() -> None:
    other = replace(lane(PAID), total=replace(lane(PAID).total, history=b"\x08" * 32))
    assert counts(found(replace(sides(), paid=(lane(PAID), other)))) == (0, 0, 1)
    swapped = lane(("p2", "p1", "p3"))
    comparison = found(replace(sides(), paid=(lane(PAID), swapped)))
    assert counts(comparison) == (0, 0, 1)
    assert "payment 1 is [5, 'p1'] and [5, 'p2']" in comparison.problems[0].text


def test_a_voucher_that_counts_other_payments_than_are_stored_does_not_balance() -> None:
    more = replace(lane(PAID), total=replace(lane(PAID).total, transferred_ucent=16))
    assert counts(found(replace(sides(), paid=(more, more)))) == (0, 0, 2)
    gap = replace(lane(PAID), payments=((1, 5, "p1"), (3, 5, "p2"), (4, 5, "p3")))
    assert counts(found(replace(sides(), paid=(gap, gap)))) == (0, 0, 2)


def test_a_queued_reading_is_paid_for_or_refused() -> None:
    said = replace(reported(), submitted={*REWARDED, "r3"})
    assert counts(found(sides(), said)) == (1, 0, 0)
    assert counts(found(replace(sides(), refused=1), said)) == (0, 0, 0)


def test_all_that_is_wrong_is_counted_and_some_of_it_spelled_out() -> None:
    many = {f"p{number}" for number in range(10, 10 + 3 * SHOWN_MAX)}
    comparison = found(sides(), replace(reported(), acknowledged=many))
    assert comparison.lost == 2 * len(many)
    assert len(comparison.problems) == 2 * SHOWN_MAX


def test_what_a_payer_holds_was_promised() -> None:
    held = {"alice": [sides()], "bob": []}
    assert promised(held) == set(PAID)
