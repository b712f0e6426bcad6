"""A channel's phase and balances follow from its records, and impossible states are caught."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.errors import InvariantBroken
from farthing.channels.state import (
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    Moment,
    Phase,
    ReceivedLane,
    SentLane,
    SignedClose,
)
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, replay

from ..people import CHANNEL, DEPOSIT, TERMS, channel, lane, payment, sent_lane, view, voucher

CLOSE = CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=5)
SIGNED_CLOSE = SignedClose(terms=CLOSE, ours=bytes(65))
CLOSED: dict[str, Any]
CLOSING: dict[str, Any]
NEVER: dict[str, Any]
CLOSED, CLOSING, NEVER = (
    {"chain": view(status)}
    for status in (ChainStatus.CLOSED, ChainStatus.CLOSING, ChainStatus.NEVER)
)
DOWN: dict[str, Any]
GREETING: dict[str, Any]
DOWN, GREETING = {"link": Link.DOWN}, {"link": Link.GREETING}
FROZEN: dict[str, Any] = {"close": SIGNED_CLOSE}
STOPPED: dict[str, Any] = {"stopped": "a clone"}
DRAINING: dict[str, Any] = {"peer_wants_close": True}


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({}, Phase.LIVE),
        ({"we_want_close": True}, Phase.DRAINING),
        (DRAINING, Phase.DRAINING),
        (GREETING, Phase.GREETING),
        (DOWN, Phase.DOWN),
        (FROZEN, Phase.FROZEN),
        ({"offering": CLOSE}, Phase.FROZEN),
        (CLOSING, Phase.CLOSING),
        (CLOSED, Phase.CLOSED),
        (NEVER, Phase.UNCONFIRMED),
        ({"chain": None}, Phase.UNCONFIRMED),
        (STOPPED, Phase.STOPPED),
        # What stands further left in these comes first.
        (STOPPED | NEVER | DOWN | FROZEN, Phase.STOPPED),
        (CLOSED | FROZEN | DOWN, Phase.CLOSED),
        (CLOSING | FROZEN | DOWN, Phase.CLOSING),
        (FROZEN | DOWN | DRAINING, Phase.FROZEN),
        (DOWN | DRAINING, Phase.DOWN),
        (GREETING | DRAINING, Phase.GREETING),
    ],
)
def test_a_phase_is_computed_from_the_most_final_thing_known(
    changes: dict[str, Any], phase: Phase
) -> None:
    assert channel(**changes).phase is phase


def test_every_phase_can_be_reached() -> None:
    states: list[dict[str, Any]] = [
        {},
        DRAINING,
        GREETING,
        DOWN,
        FROZEN,
        {"doubt_ends": 1},
        CLOSING,
        CLOSED,
        NEVER,
        STOPPED,
    ]
    assert {channel(**changes).phase for changes in states} == set(Phase)


def test_each_side_knows_its_own_account_and_its_peer_s() -> None:
    assert channel(Side.A).our_account == channel(Side.B).peer_account == TERMS.account_a
    assert channel(Side.B).our_account == channel(Side.A).peer_account == TERMS.account_b


def test_nothing_is_owned_before_the_chain_says_so() -> None:
    state = channel(chain=None)
    assert [state.owned_ucent(side) for side in Side] == [0, 0]


def test_what_was_withdrawn_is_not_owned_any_more() -> None:
    state = channel(chain=view(deposit_ucent=(500, 300), withdrawn_ucent=(100, 50)))
    assert [state.owned_ucent(side) for side in Side] == [400, 250]


@pytest.mark.parametrize("side", Side)
def test_a_balance_is_the_deposit_and_income_less_everything_promised(side: Side) -> None:
    promised = replay(lane(10, 20), [payment(5, number=3)])
    state = channel(
        side,
        sent=replace(
            sent_lane(side, 10, 20), unsigned=(payment(5, number=3),), unsigned_totals=promised
        ),
        received=ReceivedLane(
            voucher=voucher(side.other, lane(7)),
            unverified=(payment(9, number=2),),
            unverified_totals=replay(lane(7), [payment(9, number=2)]),
        ),
    )
    assert state.our_balance_ucent() == DEPOSIT + 7 - 35  # what is not verified is no income
    assert state.peer_balance_ucent(16) == DEPOSIT + 30 - 16  # what is not signed is no payment
    assert state.received.claimed.transferred_ucent == 16
    assert state.sent.promised.transferred_ucent == 35


def test_totals_are_listed_by_side_whoever_looks() -> None:
    for side, expected in ((Side.A, (30, 7)), (Side.B, (7, 30))):
        state = channel(
            side,
            sent=sent_lane(side, 10, 20),
            received=ReceivedLane(voucher=voucher(side.other, lane(7))),
        )
        assert state.totals_ab() == expected


def test_a_lane_is_quiet_when_everything_is_acknowledged() -> None:
    assert SentLane().quiet
    assert sent_lane(Side.A, 10, 20, acknowledged=2).quiet
    assert not sent_lane(Side.A, 10, 20, acknowledged=1).quiet
    assert not SentLane(
        unsigned=(payment(),), unsigned_totals=replay(LaneTotal(), [payment()])
    ).quiet


@pytest.mark.parametrize(
    ("head_timestamp", "head_seen", "age"),
    [(90, 95, 10), (95, 90, 10), (110, 100, 0), (100, 130, 0)],
)
def test_a_view_is_as_old_as_its_head_or_as_its_arrival(
    head_timestamp: int, head_seen: int, age: int
) -> None:
    moment = Moment(now=100, head_block=1, head_timestamp=head_timestamp, head_seen=head_seen)
    assert moment.view_age_seconds() == age


def broken(**changes: Any) -> Channel:
    return Channel(id=CHANNEL, terms=TERMS, side=Side.A, chain=view(), **changes)


UNSIGNED = replay(LaneTotal(), [payment(DEPOSIT + 1)])


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (
            broken(sent=SentLane(unsigned=(payment(DEPOSIT + 1),), unsigned_totals=UNSIGNED)),
            "more than we own",
        ),
        (broken(sent=replace(sent_lane(Side.A, 1, 2), acknowledged_nonce=1)), "missing or doubled"),
        (broken(sent=replace(sent_lane(Side.A, 1, 2), unacknowledged=())), "missing or doubled"),
        (
            broken(
                sent=replace(
                    sent_lane(Side.A, 1, 2),
                    unacknowledged=(lane(1), replace(lane(1, 2), history=b"\x01" * 32)),
                )
            ),
            "does not cover the newest",
        ),
        (broken(received=ReceivedLane(unverified=(payment(),))), "no total"),
    ],
)
def test_an_impossible_state_is_caught_with_what_it_would_cost(state: Channel, why: str) -> None:
    with pytest.raises(InvariantBroken, match=why):
        state.check_invariants()


def test_a_sound_state_passes() -> None:
    channel().check_invariants()
    channel(sent=sent_lane(Side.A, 1, 2, 3, acknowledged=1)).check_invariants()
