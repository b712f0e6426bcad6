"""What a payee believes of a lane of which it holds less than the payer has settled."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.errors import InvariantBroken
from farthing.channels.events import (
    ObservedChannel,
    Received,
    RecordReceived,
    Send,
    Step,
    TellReceived,
    TellStopped,
    TellStored,
    Verified,
    VerifyVoucher,
)
from farthing.channels.ids import to_hex
from farthing.channels.messages import Ack, CloseRequest, Error, Reestablish, Update
from farthing.channels.restoring import above, are_all, awaits_settlements, needs_settlements
from farthing.channels.state import ChainStatus, Channel, Phase, ReceivedLane, Settlement
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.channels.voucher import LaneTotal, Payment, replay

from ..people import CHANNEL, channel, lane, moment, payment, view, voucher

AMOUNTS = (5, 7, 11)


def payments(*amounts_ucent: int, salt: int = 0) -> tuple[Payment, ...]:
    """Bob's payments from the first on; another salt makes others of the same amounts."""
    return tuple(payment(a, number=n + salt) for n, a in enumerate(amounts_ucent, 1))


def settlement(total: LaneTotal, before_ucent: int = 0, **changes: Any) -> Settlement:
    fields: dict[str, Any] = {
        "before_ucent": before_ucent,
        "transferred_ucent": total.transferred_ucent,
        "nonce": total.nonce,
        "history": total.history,
    }
    return Settlement(**(fields | changes))


def settled(*rows: Settlement, state: Channel | None = None, **changes: Any) -> Channel:
    """Alice's side once she has read that bob's lane is settled by these."""
    newest = view(settled_ucent=(0, rows[-1].transferred_ucent), block=101, **changes)
    event = ObservedChannel(view=newest, settlements=rows)
    return step(state or channel(), event, moment()).state


def paid(state: Channel, made: tuple[Payment, ...], first: int = 1) -> Step:
    """Bob pays on from what alice holds, under his own signature."""
    total = replay(state.received.total, made)[-1]
    signed = voucher(Side.B, total)
    update = Update(channel=CHANNEL, first_nonce=first, signature=signed.signature, payments=made)
    asked = step(state, Received(message=update), moment())
    if not any(isinstance(effect, VerifyVoucher) for effect in asked.effects):
        return asked
    return step(asked.state, Verified(voucher=signed), moment())


def told(result: Step) -> list[Any]:
    kinds = (TellReceived, TellStored, TellStopped)
    return [effect for effect in result.effects if isinstance(effect, kinds)]


def acks(result: Step) -> list[int]:
    sent = [effect.message for effect in result.effects if isinstance(effect, Send)]
    return [message.nonce for message in sent if isinstance(message, Ack)]


# -- which settlements are all -------------------------------------------------------------------


def test_settlements_are_all_when_they_lead_from_what_is_held_to_what_is_settled() -> None:
    first = settlement(lane(5))
    second = settlement(lane(5, 7), before_ucent=5)
    assert are_all([first, second], 0, 12)
    assert are_all([second], 5, 12)
    assert are_all([second], 6, 12)
    assert not are_all([second], 4, 12)  # the one before it is missing
    assert not are_all([first], 0, 12)  # the newest is missing
    assert not are_all([], 0, 12)
    gap = settlement(lane(5, 7), before_ucent=6)
    assert not are_all([first, gap], 0, 12)  # one between is missing


def test_what_a_lane_has_passed_need_not_be_compared() -> None:
    first, second = settlement(lane(5)), settlement(lane(5, 7), before_ucent=5)
    assert above([first, second], 4) == (first, second)
    assert above([first, second], 5) == (second,)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, True),
        ({"stopped": "a fork"}, False),
        ({"received": ReceivedLane(voucher=voucher(Side.B, lane(12)))}, False),
        ({"received": ReceivedLane(voucher=voucher(Side.B, lane(11)))}, True),
    ],
)
def test_settlements_are_needed_where_less_is_held(changes: dict[str, Any], needed: bool) -> None:
    assert needs_settlements(channel(**changes), view(settled_ucent=(0, 12))) is needed


def test_settlements_of_our_own_lane_or_of_one_that_closes_are_not_needed() -> None:
    assert not needs_settlements(channel(), view(settled_ucent=(12, 0)))
    assert not needs_settlements(channel(), view(ChainStatus.CLOSING, settled_ucent=(0, 12)))


# -- before they are read ------------------------------------------------------------------------


def test_nothing_is_taken_of_a_lane_whose_settlements_were_not_read() -> None:
    state = channel(chain=view(settled_ucent=(0, 12)))
    refused = paid(state, payments(5))
    (effect,) = refused.effects
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Error)
    assert effect.message.code == "settlements-unread"
    assert "12 µ¢ are settled and 0 µ¢ are held" in effect.message.text
    assert (refused.state.refusing, refused.state.received) == (True, ReceivedLane())


def test_it_is_refused_before_its_signature_is_checked() -> None:
    signed = voucher(Side.B, lane(5))
    update = Update(
        channel=CHANNEL, first_nonce=1, signature=signed.signature, payments=payments(5)
    )
    state = channel(chain=view(settled_ucent=(0, 12)))
    assert [type(effect) for effect in step(state, Received(message=update), moment()).effects] == [
        Send
    ]


def test_what_was_refused_is_asked_for_once_the_settlements_are_read() -> None:
    refused = paid(channel(chain=view(settled_ucent=(0, 12))), payments(5)).state
    again = step(refused, ObservedChannel(view=view(settled_ucent=(0, 12))), moment())
    assert again.effects == ()
    row = settlement(lane(5, 7))
    event = ObservedChannel(view=view(settled_ucent=(0, 12)), settlements=(row,))
    read = step(refused, event, moment())
    (effect,) = read.effects
    assert effect == Send(message=Reestablish(channel=CHANNEL, sent=None, received=None))
    assert paid(read.state, payments(5)).state.received.total == lane(5)


def test_payments_whose_signature_is_checked_after_a_settlement_is_seen_are_asked_for_again() -> (
    None
):
    made = payments(5)
    signed = voucher(Side.B, lane(5))
    update = Update(channel=CHANNEL, first_nonce=1, signature=signed.signature, payments=made)
    asked = step(channel(), Received(message=update), moment()).state
    seen = step(asked, ObservedChannel(view=view(settled_ucent=(0, 12))), moment()).state
    checked = step(seen, Verified(voucher=signed), moment())
    assert (checked.state.received, checked.state.refusing) == (ReceivedLane(), True)
    assert [type(effect) for effect in checked.effects] == [Send]


def test_events_are_asked_for_again_only_of_a_lane_that_is_behind_and_has_not_read_them() -> None:
    missing = step(channel(), ObservedChannel(view=view(settled_ucent=(0, 5))), moment()).state
    assert awaits_settlements(missing)
    assert not awaits_settlements(settled(settlement(lane(5))))
    assert not awaits_settlements(replace(missing, chain=None))
    ended = view(settled_ucent=(0, 5), status=ChainStatus.CLOSING)
    assert not awaits_settlements(replace(missing, chain=ended))
    assert not awaits_settlements(channel())


# -- the history that was settled ----------------------------------------------------------------


def test_a_payer_s_early_settlement_is_told_once_when_its_payments_come() -> None:
    state = settled(settlement(lane(5, 7)))
    result = paid(state, payments(5, 7))
    assert told(result) == [TellReceived(first_nonce=1, payments=payments(5, 7))]
    assert acks(result) == [2]
    assert result.state.settlements == ()
    assert result.state.untold_from is None


def test_payments_beyond_the_settlement_in_the_same_update_are_told_with_it() -> None:
    result = paid(settled(settlement(lane(5))), payments(*AMOUNTS))
    assert told(result) == [TellReceived(first_nonce=1, payments=payments(*AMOUNTS))]


def test_payments_short_of_the_settlement_are_stored_and_acknowledged_and_not_told() -> None:
    state = settled(settlement(lane(*AMOUNTS)))
    first = paid(state, payments(5))
    assert told(first) == []
    assert acks(first) == [1]
    assert first.effects[0] == RecordReceived(payments=payments(5), totals=(lane(5),))
    assert (first.state.untold_from, first.state.told_nonce) == (1, 0)
    second = paid(first.state, payments(5, 7)[1:], first=2)
    assert told(second) == []
    assert (second.state.untold_from, second.state.told_nonce) == (1, 0)
    last = paid(second.state, payments(*AMOUNTS)[2:], first=3)
    assert told(last) == [TellStored(first_nonce=1, last_nonce=3)]
    assert (last.state.untold_from, last.state.told_nonce) == (None, 3)
    after = paid(last.state, (payment(13, number=4),), first=4)
    assert told(after) == [TellReceived(first_nonce=4, payments=(payment(13, number=4),))]


def test_what_has_come_up_to_an_older_settlement_is_told_when_the_newest_is_reached() -> None:
    rows = (settlement(lane(5)), settlement(lane(*AMOUNTS), before_ucent=5))
    first = paid(settled(*rows), payments(5, 7))
    assert told(first) == []
    assert (first.state.untold_from, first.state.told_nonce) == (1, 0)
    assert first.state.settlements == rows[1:]
    last = paid(first.state, payments(*AMOUNTS)[2:], first=3)
    assert told(last) == [TellStored(first_nonce=1, last_nonce=3)]


def test_an_older_settlement_of_another_history_than_the_newest_vouches_for_nothing() -> None:
    """The payer settled a history of one payment, and then we the one that we have forgotten."""
    other = payments(5, 7, salt=90)
    rows = (
        settlement(replay(LaneTotal(), other[:1])[-1]),
        settlement(lane(*AMOUNTS), before_ucent=5),
    )
    first = paid(settled(*rows), other[:1])
    assert told(first) == []
    late = paid(first.state, other[1:], first=2)
    assert told(late) == []
    last = paid(late.state, payments(*AMOUNTS)[2:], first=3)
    (stopped,) = told(last)
    assert isinstance(stopped, TellStopped)
    assert last.state.told_nonce == 0


def test_what_was_held_back_is_told_when_the_settlement_is_gone_from_the_chain() -> None:
    held = paid(settled(settlement(lane(*AMOUNTS))), payments(5)).state
    gone = step(held, ObservedChannel(view=view(block=102)), moment())
    assert told(gone) == [TellStored(first_nonce=1, last_nonce=1)]
    assert gone.state.untold_from is None


def test_what_was_held_back_stays_so_while_some_of_it_is_missing() -> None:
    held = paid(settled(settlement(lane(*AMOUNTS))), payments(5)).state
    row = settlement(lane(*AMOUNTS))
    seen = ObservedChannel(view=view(settled_ucent=(0, 23), block=102), settlements=(row,))
    assert told(step(held, seen, moment())) == []


def test_a_close_is_asked_for_when_a_lane_has_caught_up_and_not_with_each_payment_after() -> None:
    state = replace(settled(settlement(lane(5, 7))), we_want_close=True)
    asked = []
    for number, amount_ucent in enumerate(AMOUNTS, 1):
        result = paid(state, (payment(amount_ucent, number=number),), first=number)
        asked.append(Send(message=CloseRequest(channel=CHANNEL)) in result.effects)
        state = result.state
    assert asked == [False, True, False]


# -- another history -----------------------------------------------------------------------------

OTHERS = [
    pytest.param(payments(5, 7, salt=90), id="other payments of the same amounts"),
    pytest.param(payments(12), id="one payment of the whole"),
    pytest.param(payments(13), id="one payment of more than the whole"),
    pytest.param(payments(5, 8), id="more by the same number"),
    pytest.param(payments(5, 6), id="less by the same number"),
    pytest.param(payments(1, 1, 1), id="less by more payments"),
    pytest.param(payments(5, 8, 1), id="past the settlement without it"),
]


@pytest.mark.parametrize("other", OTHERS)
def test_another_history_than_the_settled_one_stops_the_channel_and_is_told_to_nobody(
    other: tuple[Payment, ...],
) -> None:
    result = paid(settled(settlement(lane(5, 7))), other)
    assert acks(result) == []
    (stopped,) = told(result)
    assert isinstance(stopped, TellStopped)
    assert result.state.phase is Phase.STOPPED
    assert (result.state.told_nonce, result.state.received.total.nonce) == (0, len(other))


def test_both_histories_are_kept_as_evidence_and_the_reason_names_them() -> None:
    other = payments(5, 7, salt=90)
    result = paid(settled(settlement(lane(5, 7))), other)
    totals = replay(LaneTotal(), other)
    assert result.effects[0] == RecordReceived(payments=other, totals=totals)
    assert result.state.received.voucher == voucher(Side.B, totals[-1])
    said = result.effects[1]
    assert isinstance(said, Send)
    assert isinstance(said.message, Error)
    assert said.message.code == "channel-stopped"
    reason = result.state.stopped
    assert reason == said.message.text
    assert f"settled 12 µ¢ as payment 2 with history {to_hex(lane(5, 7).history)}" in reason
    assert "another history up to payment 2 (12 µ¢)" in reason
    assert "payments from 1 on" in reason


def test_a_contradiction_found_late_tells_nothing_of_what_came_before_it() -> None:
    first = paid(settled(settlement(lane(5, 7))), payments(5, salt=90)).state
    late = paid(first, payments(5, 7)[1:], first=2)
    (stopped,) = told(late)
    assert isinstance(stopped, TellStopped)
    assert "payments from 1 on" in stopped.reason
    assert (late.state.untold_from, late.state.told_nonce) == (1, 0)
    away = step(late.state, ObservedChannel(view=view(block=103)), moment())
    assert told(away) == []
    assert away.state.told_nonce == 0


def test_a_second_settlement_does_not_hide_the_first_one() -> None:
    """Bob settles his other history himself, a microcent above the one that alice forgot."""
    other = payments(5, 8, salt=90)
    rows = (settlement(lane(5, 7)), settlement(replay(LaneTotal(), other)[-1], before_ucent=12))
    result = paid(settled(*rows), other)
    assert [type(effect) for effect in told(result)] == [TellStopped]


@pytest.mark.parametrize("nonce", [0, 1, 9])
def test_a_settlement_that_no_history_can_have_lets_no_payment_through(nonce: int) -> None:
    """Bob settles his own lane unsigned: the chain takes any number and history from him."""
    row = settlement(lane(5, 7), nonce=nonce, history=bytes(32))
    result = paid(settled(row), payments(5, 7))
    assert [type(effect) for effect in told(result)] == [TellStopped]


def test_a_settlement_under_a_number_that_is_held_with_a_lower_total_is_a_contradiction() -> None:
    holds = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5, 7))))
    row = settlement(lane(20), before_ucent=3)
    assert row.nonce < holds.received.total.nonce
    result = paid(settled(row, state=holds), (payment(30, number=3),), first=3)
    assert [type(effect) for effect in told(result)] == [TellStopped]
    assert result.state.told_nonce == 2  # those were told before


def test_what_the_contradiction_is_worth_can_still_be_settled() -> None:
    result = paid(settled(settlement(lane(5, 7))), payments(13))
    best = result.state.received.voucher
    assert best is not None
    assert best.total.transferred_ucent == 13


def test_a_settlement_that_was_passed_before_it_was_seen_is_compared_with_nothing() -> None:
    holds = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5, 7))))
    odd = settlement(lane(6), nonce=9)
    row = settlement(lane(5, 7, 11), before_ucent=6)
    state = settled(odd, row, state=holds)
    assert state.settlements == (row,)
    result = paid(state, (payment(11, number=3),), first=3)
    assert told(result) == [TellReceived(first_nonce=3, payments=(payment(11, number=3),))]


def test_the_nonce_up_to_which_is_told_is_never_above_what_is_held() -> None:
    state = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5))))
    assert state.told_nonce == 1
    assert replace(state, untold_from=1).told_nonce == 0
    replace(state, untold_from=2).check_invariants()
    with pytest.raises(InvariantBroken, match="told of a payment that did not come"):
        replace(state, untold_from=3).check_invariants()
