"""Closing in agreement: both sign the same totals or nobody does, and a signature freezes."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.events import (
    AskedClose,
    AskedPay,
    CloseSigned,
    CloseVerified,
    Elapsed,
    ObservedChannel,
    Received,
    RecognisedOwn,
    Send,
    SendStored,
    SignClose,
    Step,
    SubmitClose,
    TellAcknowledged,
    Verified,
    VerifyClose,
)
from farthing.channels.ids import ZERO_WORD
from farthing.channels.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Reestablish,
    SignedTotal,
    Update,
)
from farthing.channels.refusals import NotNow, OutOfTurn
from farthing.channels.state import (
    ACT_AGAIN_SECONDS,
    OFFER_SECONDS,
    OFFER_SECONDS_MAX,
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    Phase,
    ReceivedLane,
    Settlement,
    SignedClose,
)
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..people import (
    CHANNEL,
    NOW,
    TERMS,
    channel,
    lane,
    moment,
    payment,
    sent_lane,
    view,
    voucher,
)

OURS, THEIRS = b"\x01" * 65, b"\x02" * 65
TERMS_OF_CLOSE = CloseTerms(
    transferred_a_ucent=5, transferred_b_ucent=7, expires=NOW + OFFER_SECONDS
)
REQUEST = Received(message=CloseRequest(channel=CHANNEL))
STALE = moment(view_age_seconds=TERMS.challenge_seconds)


def message(kind: type[Any], terms: CloseTerms = TERMS_OF_CLOSE, signature: bytes = THEIRS) -> Any:
    return kind(
        channel=CHANNEL,
        transferred_a_ucent=terms.transferred_a_ucent,
        transferred_b_ucent=terms.transferred_b_ucent,
        expires=terms.expires,
        signature=signature,
    )


def party(side: Side, **changes: Any) -> Channel:
    """One side after A paid 5 and B paid 7, everything acknowledged."""
    amounts = {Side.A: 5, Side.B: 7}
    fields: dict[str, Any] = {
        "sent": sent_lane(side, amounts[side], acknowledged=1),
        "received": ReceivedLane(voucher=voucher(side.other, lane(amounts[side.other]))),
    }
    return channel(side, **(fields | changes))


def offered(**changes: Any) -> Channel:
    """A after it sent its offer."""
    close = SignedClose(terms=TERMS_OF_CLOSE, ours=OURS)
    return party(Side.A, peer_wants_close=True, close=replace(close, **changes))


def accepted() -> Channel:
    """B after it sent its acceptance."""
    close = SignedClose(terms=TERMS_OF_CLOSE, ours=OURS, theirs=THEIRS, submitted_at=NOW)
    return party(Side.B, we_want_close=True, close=close)


def messages(result: Step) -> list[Any]:
    return [effect.message for effect in result.effects if isinstance(effect, Send)]


def signs(result: Step) -> CloseTerms:
    (effect,) = (effect for effect in result.effects if isinstance(effect, SignClose))
    return effect.terms


def error_code(result: Step) -> str:
    (error,) = messages(result)
    assert isinstance(error, Error)
    return error.code


def unpaid(side: Side, **changes: Any) -> Channel:
    """A side whose newest payment is not yet acknowledged."""
    amount = {Side.A: 5, Side.B: 7}[side]
    return party(side, sent=sent_lane(side, amount), **changes)


def ack(side: Side) -> Received:
    """The peer's acknowledgement of that payment."""
    amount = {Side.A: 5, Side.B: 7}[side]
    return Received(message=Ack(channel=CHANNEL, nonce=1, history=lane(amount).history))


# -- asking -------------------------------------------------------------------------------------


def test_who_wants_to_close_asks_at_once_when_all_is_acknowledged_and_pays_no_more() -> None:
    result = step(party(Side.B), AskedClose(), moment())
    assert messages(result) == [CloseRequest(channel=CHANNEL)]
    assert result.state.phase is Phase.DRAINING
    with pytest.raises(NotNow, match="draining"):
        step(result.state, AskedPay(payments=(payment(),)), moment())


def test_who_wants_to_close_asks_only_after_the_last_acknowledgement() -> None:
    asked = step(unpaid(Side.B), AskedClose(), moment())
    assert asked.effects == ()
    result = step(asked.state, ack(Side.B), moment())
    assert result.effects == (
        TellAcknowledged(nonce=1),
        Send(message=CloseRequest(channel=CHANNEL)),
    )


@pytest.mark.parametrize("link", [Link.DOWN, Link.GREETING])
def test_a_wish_to_close_outlives_a_lost_connection(link: Link) -> None:
    asked = step(party(Side.B, link=link), AskedClose(), moment())
    assert asked.effects == ()
    greeting = replace(asked.state, link=Link.GREETING)
    held = SignedTotal(total=lane(7), conditions=ZERO_WORD, signature=bytes(65))
    shown = Received(message=Reestablish(channel=CHANNEL, sent=None, received=held))
    assert messages(step(greeting, shown, moment())) == [CloseRequest(channel=CHANNEL)]


def test_a_restored_payer_that_wants_to_close_asks_after_it_caught_up() -> None:
    state = party(Side.B, we_want_close=True, fresh_boot=True, link=Link.GREETING)
    newest = voucher(Side.B, lane(7, 8))
    result = step(state, RecognisedOwn(voucher=newest), moment())
    assert messages(result) == [CloseRequest(channel=CHANNEL)]


def test_what_the_peer_lacks_is_sent_before_the_request() -> None:
    state = party(Side.B, we_want_close=True, link=Link.GREETING)
    shown = Received(message=Reestablish(channel=CHANNEL, sent=None, received=None))
    result = step(state, shown, moment())
    assert isinstance(result.effects[0], SendStored)
    assert messages(result) == [CloseRequest(channel=CHANNEL)]


# -- offering -----------------------------------------------------------------------------------


def test_the_asked_side_signs_both_newest_totals_and_freezes_before_its_offer_leaves() -> None:
    asked = step(party(Side.A), REQUEST, moment())
    assert signs(asked) == TERMS_OF_CLOSE
    assert asked.state.phase is Phase.FROZEN
    result = step(asked.state, CloseSigned(terms=TERMS_OF_CLOSE, signature=OURS), moment())
    assert messages(result) == [message(CloseOffer, signature=OURS)]
    assert result.state.close == SignedClose(terms=TERMS_OF_CLOSE, ours=OURS)
    assert result.state.offering is None


def test_the_asked_side_offers_only_after_the_last_acknowledgement_and_pays_no_more() -> None:
    asked = step(unpaid(Side.A), REQUEST, moment())
    assert asked.effects == ()
    assert asked.state.phase is Phase.DRAINING
    assert signs(step(asked.state, ack(Side.A), moment())) == TERMS_OF_CLOSE


def test_the_asked_side_offers_only_after_the_last_payment_is_verified() -> None:
    state = party(Side.A, received=ReceivedLane())
    update = Update(
        channel=CHANNEL,
        first_nonce=1,
        signature=bytes(65),
        payments=(payment(7, number=1),),
    )
    state = step(state, Received(message=update), moment()).state
    asked = step(state, REQUEST, moment())
    assert asked.effects == ()
    verified = step(asked.state, Verified(voucher=voucher(Side.B, lane(7))), moment())
    assert signs(verified) == TERMS_OF_CLOSE


def test_nothing_is_offered_on_a_stale_view_until_it_is_fresh_again() -> None:
    result = step(party(Side.A), REQUEST, STALE)
    assert error_code(result) == "stale-view"
    assert result.state.phase is Phase.DRAINING
    healed = step(result.state, Elapsed(), moment())
    assert isinstance(messages(healed)[0], Reestablish)  # whereupon the peer asks again
    assert signs(step(healed.state, REQUEST, moment())) == TERMS_OF_CLOSE


def test_a_signature_on_a_close_that_is_not_being_offered_is_refused() -> None:
    state = step(party(Side.A), REQUEST, moment()).state
    other = replace(TERMS_OF_CLOSE, expires=1)
    with pytest.raises(NotNow, match="not being offered"):
        step(state, CloseSigned(terms=other, signature=OURS), moment())


def test_while_an_offer_is_being_signed_no_other_is_made() -> None:
    state = step(party(Side.A), REQUEST, moment()).state
    assert step(state, REQUEST, moment()) == Step(state=state)


def test_an_offer_that_was_lost_is_sent_again_when_the_peer_asks_again() -> None:
    result = step(offered(), REQUEST, moment())
    assert messages(result) == [message(CloseOffer, signature=OURS)]
    assert result.state == offered()


def test_a_request_after_the_acceptance_is_refused() -> None:
    assert error_code(step(offered(theirs=THEIRS), REQUEST, moment())) == "not-now"


def test_of_two_sides_that_both_want_to_close_only_a_offers() -> None:
    a = step(party(Side.A), AskedClose(), moment())
    b = step(party(Side.B), AskedClose(), moment())
    assert messages(a) == messages(b) == [CloseRequest(channel=CHANNEL)]
    assert signs(step(a.state, REQUEST, moment())) == TERMS_OF_CLOSE
    waiting = step(b.state, REQUEST, moment())
    assert waiting.state.phase is Phase.DRAINING
    verified = step(waiting.state, Received(message=message(CloseOffer)), moment())
    assert verified.effects == (VerifyClose(terms=TERMS_OF_CLOSE, signature=THEIRS),)


def test_of_two_sides_that_both_want_to_close_a_offers_after_its_last_acknowledgement() -> None:
    a = step(unpaid(Side.A), AskedClose(), moment())
    a = step(a.state, REQUEST, moment())
    assert a.effects == ()
    assert signs(step(a.state, ack(Side.A), moment())) == TERMS_OF_CLOSE


# -- accepting ----------------------------------------------------------------------------------


def test_an_offer_is_verified_countersigned_and_frozen_before_the_answer_leaves() -> None:
    state = party(Side.B, we_want_close=True)
    checked = step(state, Received(message=message(CloseOffer)), moment())
    assert checked.effects == (VerifyClose(terms=TERMS_OF_CLOSE, signature=THEIRS),)
    assert checked.state == state
    verified = step(state, CloseVerified(terms=TERMS_OF_CLOSE, signature=THEIRS), moment())
    assert signs(verified) == TERMS_OF_CLOSE
    assert verified.state.phase is Phase.FROZEN
    signed = CloseSigned(terms=TERMS_OF_CLOSE, signature=OURS)
    result = step(verified.state, signed, moment())
    assert messages(result) == [message(CloseAccept, signature=OURS)]
    assert result.state == accepted()


@pytest.mark.parametrize(
    ("changes", "state", "why"),
    [
        ({}, {"we_want_close": False}, "not asked for"),
        ({"transferred_a_ucent": 4}, {}, "does not match"),
        ({"transferred_b_ucent": 8}, {}, "does not match"),
    ],
)
def test_an_offer_of_other_totals_or_out_of_the_blue_ends_the_connection(
    changes: dict[str, Any], state: dict[str, Any], why: str
) -> None:
    offer = Received(message=message(CloseOffer, replace(TERMS_OF_CLOSE, **changes)))
    with pytest.raises(OutOfTurn, match=why):
        step(party(Side.B, **({"we_want_close": True} | state)), offer, moment())


def test_an_offer_while_our_payment_is_under_way_ends_the_connection() -> None:
    offer = Received(message=message(CloseOffer))
    with pytest.raises(OutOfTurn, match="in flight"):
        step(unpaid(Side.B, we_want_close=True), offer, moment())


@pytest.mark.parametrize("seconds", [1, OFFER_SECONDS, OFFER_SECONDS_MAX])
def test_an_offer_may_live_up_to_its_maximum(seconds: int) -> None:
    offer = Received(message=message(CloseOffer, replace(TERMS_OF_CLOSE, expires=NOW + seconds)))
    assert step(party(Side.B, we_want_close=True), offer, moment()).effects


@pytest.mark.parametrize("seconds", [-1, 0, OFFER_SECONDS_MAX + 1, 2**63])
def test_an_offer_that_is_dead_or_lives_too_long_is_refused_without_ending_the_connection(
    seconds: int,
) -> None:
    offer = Received(message=message(CloseOffer, replace(TERMS_OF_CLOSE, expires=NOW + seconds)))
    state = party(Side.B, we_want_close=True)
    result = step(state, offer, moment())
    assert error_code(result) == "offer-lifetime"
    assert result.state == state


def test_nothing_is_countersigned_on_a_stale_view() -> None:
    state = party(Side.B, we_want_close=True)
    result = step(state, Received(message=message(CloseOffer)), STALE)
    assert error_code(result) == "stale-view"
    assert result.state == replace(state, refusing=True)


# -- submitting ---------------------------------------------------------------------------------


def test_an_acceptance_is_verified_and_submitted() -> None:
    accept = Received(message=message(CloseAccept))
    checked = step(offered(), accept, moment())
    assert checked.effects == (VerifyClose(terms=TERMS_OF_CLOSE, signature=THEIRS),)
    assert checked.state == offered()
    verified = CloseVerified(terms=TERMS_OF_CLOSE, signature=THEIRS)
    result = step(checked.state, verified, moment())
    close = SignedClose(terms=TERMS_OF_CLOSE, ours=OURS, theirs=THEIRS, submitted_at=NOW)
    assert result.effects == (SubmitClose(close=close),)
    assert result.state.close == close


def test_a_repeated_acceptance_is_not_submitted_again_at_the_peer_s_pleasure() -> None:
    state = offered(theirs=THEIRS, submitted_at=NOW)
    assert step(state, Received(message=message(CloseAccept)), moment()) == Step(state=state)


@pytest.mark.parametrize("changes", [{"expires": 1}, {"transferred_a_ucent": 6}])
def test_an_acceptance_of_another_close_is_refused_and_submits_nothing(
    changes: dict[str, Any],
) -> None:
    accept = Received(message=message(CloseAccept, replace(TERMS_OF_CLOSE, **changes)))
    result = step(offered(), accept, moment())
    assert error_code(result) == "not-now"
    assert result.state == offered()


def test_an_acceptance_while_the_offer_is_not_signed_yet_is_refused() -> None:
    state = step(party(Side.A), REQUEST, moment()).state
    result = step(state, Received(message=message(CloseAccept)), moment())
    assert error_code(result) == "not-now"
    assert result.state == state


def test_a_verification_of_another_close_is_refused() -> None:
    other = replace(TERMS_OF_CLOSE, expires=1)
    with pytest.raises(NotNow, match="another close"):
        step(offered(), CloseVerified(terms=other, signature=THEIRS), moment())


def test_a_close_that_does_not_appear_is_submitted_again_until_it_expires() -> None:
    def later(seconds: int) -> Step:
        return step(accepted(), Elapsed(), moment(NOW + seconds))

    assert later(ACT_AGAIN_SECONDS - 1).effects == ()
    for seconds in (ACT_AGAIN_SECONDS, OFFER_SECONDS):
        result = later(seconds)
        (effect,) = result.effects
        assert isinstance(effect, SubmitClose)
        assert effect.close == result.state.close
        assert effect.close.submitted_at == NOW + seconds
        assert step(result.state, Elapsed(), moment(NOW + seconds)).effects == ()
    assert later(OFFER_SECONDS + 1).effects == ()


def test_an_offer_that_nobody_accepted_is_not_submitted() -> None:
    assert step(offered(), Elapsed(), moment(NOW + OFFER_SECONDS)).effects == ()


def test_a_close_that_happened_is_not_submitted_again_and_is_for_ever() -> None:
    closed = view(ChainStatus.CLOSED, block=101, timestamp=NOW + 1000)
    result = step(accepted(), ObservedChannel(view=closed), moment(NOW + 20))
    assert result.effects == ()
    assert result.state.phase is Phase.CLOSED
    assert result.state.close == accepted().close


# -- frozen -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [offered(), accepted()])
def test_a_frozen_channel_neither_pays_nor_is_paid_nor_closes_anew(state: Channel) -> None:
    for event in (AskedPay(payments=(payment(),)), AskedClose()):
        with pytest.raises(NotNow, match="frozen"):
            step(state, event, moment())
    update = Update(channel=CHANNEL, first_nonce=2, signature=bytes(65), payments=(payment(),))
    for received in (update, message(CloseOffer)):
        result = step(state, Received(message=received), moment())
        assert error_code(result) == "not-now"
        assert result.state.received == state.received


def test_a_frozen_channel_stays_frozen_over_connections_and_boots() -> None:
    for link in Link:
        assert replace(offered(), link=link).phase is Phase.FROZEN


@pytest.mark.parametrize("status", [ChainStatus.OPEN, ChainStatus.CLOSING])
def test_only_a_confirmed_block_after_the_expiry_ends_the_freeze(status: ChainStatus) -> None:
    def seen(timestamp: int) -> Channel:
        confirmed = view(status, block=101, timestamp=timestamp)
        return step(offered(), ObservedChannel(view=confirmed), moment(NOW + 500)).state

    assert seen(TERMS_OF_CLOSE.expires).close is not None
    thawed = seen(TERMS_OF_CLOSE.expires + 1)
    assert thawed.close is None
    assert not thawed.peer_wants_close


def test_who_wanted_to_close_still_does_after_the_freeze_and_asks_again() -> None:
    confirmed = view(block=101, timestamp=TERMS_OF_CLOSE.expires + 1)
    result = step(accepted(), ObservedChannel(view=confirmed), moment(confirmed.timestamp))
    assert result.state.phase is Phase.DRAINING
    request, shown = messages(result)
    assert request == CloseRequest(channel=CHANNEL)
    assert isinstance(shown, Reestablish)


def test_no_clock_ends_the_freeze() -> None:
    assert step(offered(), Elapsed(), moment(NOW + 10_000)).state == offered()


def test_a_channel_that_the_chain_never_confirmed_keeps_its_close() -> None:
    state = replace(offered(), chain=None)
    assert step(state, Elapsed(), moment(NOW + 500)).state == state


def test_after_the_freeze_the_vouchers_are_shown_so_that_the_peer_resends_or_asks_again() -> None:
    confirmed = view(block=101, timestamp=TERMS_OF_CLOSE.expires + 1)
    result = step(offered(), ObservedChannel(view=confirmed), moment(confirmed.timestamp))
    assert isinstance(messages(result)[0], Reestablish)
    assert result.state.phase is Phase.LIVE
    held = SignedTotal(total=lane(7), conditions=ZERO_WORD, signature=bytes(65))
    shown = Received(message=Reestablish(channel=CHANNEL, sent=None, received=held))
    waiting = party(Side.B, we_want_close=True)
    assert messages(step(waiting, shown, moment())) == [CloseRequest(channel=CHANNEL)]


def test_after_the_freeze_without_a_connection_nothing_is_said() -> None:
    confirmed = view(block=101, timestamp=TERMS_OF_CLOSE.expires + 1)
    state = replace(offered(), link=Link.DOWN)
    result = step(state, ObservedChannel(view=confirmed), moment(confirmed.timestamp))
    assert result.effects == ()
    assert result.state.phase is Phase.DOWN


def test_a_restored_party_closes_once_it_holds_again_what_the_chain_has_settled() -> None:
    state = step(channel(), AskedClose(), moment()).state
    row = Settlement(before_ucent=0, transferred_ucent=7, nonce=1, history=lane(7).history)
    seen = ObservedChannel(view=view(settled_ucent=(0, 7)), settlements=(row,))
    state = step(state, seen, moment()).state
    update = Update(
        channel=CHANNEL, first_nonce=1, signature=THEIRS, payments=(payment(7, number=1),)
    )
    behind = step(state, Received(message=update), moment()).state
    caught_up = step(behind, Verified(voucher=voucher(Side.B, lane(7))), moment())
    assert Send(message=CloseRequest(channel=CHANNEL)) in caught_up.effects
