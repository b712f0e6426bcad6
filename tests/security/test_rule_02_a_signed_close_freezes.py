"""Rule 2: from the moment a signature on a Close leaves, nothing is accepted or signed."""

from dataclasses import replace

import pytest

from farthing.channels.events import AskedPay, Elapsed, ObservedChannel, Received, VerifyClose
from farthing.channels.messages import CloseOffer
from farthing.channels.refusals import NotNow, OutOfTurn
from farthing.channels.state import OFFER_SECONDS_MAX, CloseTerms, SentLane, SignedClose
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..people import CHANNEL, NOW, channel, moment, payment, sent_lane, view
from .attacks import refused, update

TERMS = CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=NOW + 90)
SIGNED = SignedClose(terms=TERMS, ours=b"\x01" * 65)


def offer(expires: int) -> Received:
    message = CloseOffer(
        channel=CHANNEL,
        transferred_a_ucent=0,
        transferred_b_ucent=0,
        expires=expires,
        signature=b"\x02" * 65,
    )
    return Received(message=message)


def test_a_peer_that_holds_our_signed_close_neither_pays_us_nor_is_paid() -> None:
    alice = channel(close=SIGNED)  # mallory submits it after what comes now
    assert refused(step(alice, Received(message=update(5)), moment()).effects) == "not-now"
    with pytest.raises(NotNow):
        step(alice, AskedPay(payments=(payment(),)), moment())


def test_a_signed_close_still_freezes_when_only_the_wall_clock_has_passed_its_end() -> None:
    alice = channel(close=SIGNED)
    late = replace(moment(TERMS.expires + 50), head_timestamp=TERMS.expires + 50)
    for event in (Elapsed(), ObservedChannel(view=view(timestamp=TERMS.expires, block=101))):
        alice = step(alice, event, late).state
        assert alice.close is not None
    thawing = ObservedChannel(view=view(timestamp=TERMS.expires + 1, block=102))
    assert step(alice, thawing, late).state.close is None


def test_a_close_offer_that_would_freeze_for_years_is_not_signed() -> None:
    bob = channel(Side.B, we_want_close=True)
    longest = step(bob, offer(NOW + OFFER_SECONDS_MAX), moment()).effects
    assert [type(effect) for effect in longest] == [VerifyClose]
    result = step(bob, offer(NOW + OFFER_SECONDS_MAX + 1), moment())
    assert refused(result.effects) == "offer-lifetime"


def test_a_close_offer_that_leaves_out_the_newest_payment_is_not_signed() -> None:
    sent = replace(sent_lane(Side.B, 7), unacknowledged=(), acknowledged_nonce=1)
    assert isinstance(sent, SentLane)
    bob = channel(Side.B, we_want_close=True, sent=sent)
    with pytest.raises(OutOfTurn, match="newest vouchers"):
        step(bob, offer(NOW + 90), moment())
