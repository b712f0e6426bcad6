"""A party that may have forgotten what it signed accepts nothing until all of that is dead."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.events import (
    AskedClose,
    AskedPay,
    AskedWithdraw,
    Elapsed,
    Event,
    ObservedChannel,
    Received,
    Send,
    Step,
)
from farthing.channels.messages import (
    CloseRequest,
    Error,
    Reestablish,
    Update,
    WithdrawalOffer,
)
from farthing.channels.refusals import NotNow
from farthing.channels.state import (
    DOUBT_UNKNOWN,
    OFFER_SECONDS_MAX,
    Channel,
    Link,
    Moment,
    Phase,
)
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..people import CHANNEL, NOW, TERMS, channel, lane, moment, payment, view, voucher

ENDS = NOW + OFFER_SECONDS_MAX
SHOWN = Received(message=Reestablish(channel=CHANNEL, sent=None, received=None))


def seen(state: Channel, timestamp: int, block: int = 101) -> Step:
    return step(
        state, ObservedChannel(view=view(block=block, timestamp=timestamp)), moment(timestamp)
    )


def test_the_first_confirmed_block_sets_the_end_and_a_later_one_than_that_ends_it() -> None:
    state = channel(doubt_ends=DOUBT_UNKNOWN)
    assert state.phase is Phase.RESTORED
    first = seen(state, NOW).state
    assert (first.doubt_ends, first.phase) == (ENDS, Phase.RESTORED)
    assert seen(first, ENDS).state.phase is Phase.RESTORED
    over = seen(first, ENDS + 1).state
    assert (over.doubt_ends, over.phase) == (None, Phase.LIVE)


def test_before_the_chain_was_seen_the_end_is_not_known() -> None:
    state = channel(doubt_ends=DOUBT_UNKNOWN, chain=None)
    assert state.phase is Phase.UNCONFIRMED
    assert state.waits_for_time
    assert not state.has_offers


def test_the_end_is_not_set_before_a_confirmed_head_was_seen() -> None:
    stored = channel(doubt_ends=DOUBT_UNKNOWN, chain=view(timestamp=NOW - 10_000))
    nothing_seen = Moment(now=NOW, head_block=0, head_timestamp=0, head_seen=0)
    waiting = step(stored, Elapsed(), nothing_seen).state
    assert waiting.doubt_ends == DOUBT_UNKNOWN
    assert step(waiting, Elapsed(), moment()).state.doubt_ends == ENDS


def test_a_head_that_lags_does_not_shorten_it() -> None:
    lagging = replace(moment(), head_timestamp=NOW - 100)  # an offer may be as young as now
    assert step(channel(doubt_ends=DOUBT_UNKNOWN), Elapsed(), lagging).state.doubt_ends == ENDS


def test_a_clock_that_was_far_ahead_and_is_put_right_does_not_prolong_it() -> None:
    ahead = replace(moment(), now=NOW + 10**9)
    state = step(channel(doubt_ends=DOUBT_UNKNOWN), Elapsed(), ahead).state
    assert state.doubt_ends == NOW + 10**9 + OFFER_SECONDS_MAX
    assert step(state, Elapsed(), moment()).state.doubt_ends == ENDS


def test_the_wall_clock_does_not_end_it() -> None:
    late = replace(moment(ENDS + 50), head_timestamp=ENDS, head_seen=ENDS + 50)
    assert step(channel(doubt_ends=ENDS), Elapsed(), late).state.doubt_ends == ENDS


ASKED: list[Event] = [
    AskedPay(payments=(payment(),)),
    AskedClose(),
    AskedWithdraw(amount_ucent=1),
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda event: type(event).__name__)
def test_nothing_is_signed_in_doubt(asked: Event) -> None:
    with pytest.raises(NotNow, match="restored"):
        step(channel(doubt_ends=ENDS), asked, moment())


OFFERED: list[Any] = [
    Update(
        channel=CHANNEL,
        first_nonce=1,
        signature=voucher(Side.B, lane(1)).signature,
        payments=(payment(1, number=1),),
    ),
    CloseRequest(channel=CHANNEL),
    WithdrawalOffer(
        channel=CHANNEL,
        account=TERMS.account_b,
        total_ucent=1,
        expires=NOW + 1,
        signature=bytes(65),
    ),
]


@pytest.mark.parametrize("message", OFFERED, ids=lambda message: type(message).__name__)
def test_nothing_is_accepted_in_doubt(message: Any) -> None:
    result = step(channel(doubt_ends=ENDS), Received(message=message), moment())
    (effect,) = result.effects
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Error)
    assert effect.message.code == "not-now"
    assert replace(result.state, refusing=False) == channel(doubt_ends=ENDS)


def test_vouchers_are_shown_in_doubt_and_what_was_refused_is_asked_for_after_it() -> None:
    state = step(channel(doubt_ends=ENDS, link=Link.GREETING), SHOWN, moment()).state
    assert state.link is Link.LIVE
    refused = step(state, Received(message=OFFERED[0]), moment()).state
    assert refused.refusing
    result = seen(refused, ENDS + 1)
    assert [type(effect.message) for effect in result.effects if isinstance(effect, Send)] == [
        Reestablish
    ]


def test_a_wish_to_close_waits_for_the_end_of_doubt() -> None:
    state = channel(doubt_ends=ENDS, we_want_close=True, link=Link.GREETING)
    quiet = step(state, SHOWN, moment())
    assert quiet.effects == ()
    result = seen(quiet.state, ENDS + 1)
    assert result.effects == (Send(message=CloseRequest(channel=CHANNEL)),)


def test_a_payment_that_is_resent_in_doubt_is_refused_once() -> None:
    first = step(channel(doubt_ends=ENDS), Received(message=OFFERED[0]), moment())
    again = step(first.state, Received(message=OFFERED[0]), moment())
    assert (len(first.effects), again) == (1, Step(state=first.state))


def test_an_offer_that_a_reorganisation_revived_holds_up_payments() -> None:
    """Bob took his money, so that the offer ended; then the block that took it is replaced."""
    taken = replace(view(), deposit_ucent=(100, 100), withdrawn_ucent=(0, 100))
    undone = replace(taken, block=taken.block + 1, withdrawn_ucent=(0, 0))
    after = step(channel(chain=taken, link=Link.LIVE), ObservedChannel(view=undone), moment()).state
    signed = voucher(Side.B, lane(5))
    update = Update(
        channel=CHANNEL, first_nonce=1, payments=(payment(5),), signature=signed.signature
    )
    (answer,) = step(after, Received(message=update), moment()).effects
    assert isinstance(answer, Send)
    assert isinstance(answer.message, Error)
    assert answer.message.code == "not-now"
