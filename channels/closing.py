"""Closing in agreement: request, offer, acceptance; a signature on a `Close` freezes (rule 2)."""

from __future__ import annotations

from dataclasses import replace

from .events import (
    AskedClose,
    CloseSigned,
    CloseVerified,
    Send,
    SignClose,
    Step,
    SubmitClose,
    VerifyClose,
)
from .messages import CloseAccept, CloseOffer, CloseRequest
from .refusals import (
    NotNow,
    OutOfTurn,
    behind_the_chain,
    lifetime_problem,
    refuse,
    say,
    stale_view,
)
from .state import (
    OFFER_SECONDS,
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    Moment,
    SignedClose,
)
from .terms import Side


def asked_close(state: Channel, _: AskedClose, moment: Moment) -> Step:
    """Make no further payment, and ask the peer for a close as soon as all is acknowledged."""
    return close_if_quiet(replace(state, we_want_close=True), moment)


def close_if_quiet(state: Channel, moment: Moment) -> Step:
    """Once the peer has acknowledged all we paid, offer the close it asked for, or ask for one.

    Only then will both totals match. Where both sides want to close, A offers and B asks: two
    offers that cross would freeze both sides and close nothing.
    """
    if state.link is not Link.LIVE or not state.sent.quiet or state.doubt_ends is not None:
        return Step(state=state)
    if state.close is not None or state.offering is not None:
        return Step(state=state)
    if behind_the_chain(state) is not None:
        return Step(state=state)  # what is missing may still come; see `_on_verified`
    if state.peer_wants_close and not (state.we_want_close and state.side is Side.B):
        return _offer(state, moment)
    if state.we_want_close:
        request = Send(message=CloseRequest(channel=state.id))
        return Step(state=state, effects=(request,))
    return Step(state=state)


def on_close_request(state: Channel, _: CloseRequest, moment: Moment) -> Step:
    """Make no further payment, and offer the close once nothing is in flight.

    A peer that asks while our offer stands has not received it, so it is sent again.
    """
    if state.close is None:
        return close_if_quiet(replace(state, peer_wants_close=True), moment)
    if state.close.theirs is None:
        return Step(state=state, effects=(_offer_message(state, state.close),))
    return say(state, NotNow(state.phase, "CloseRequest"))


def _offer(state: Channel, moment: Moment) -> Step:
    stale = stale_view(state, moment)
    if stale is not None:
        return refuse(state, stale)
    if state.received.unverified:
        return Step(state=state)
    total_a, total_b = state.totals_ab()
    terms = CloseTerms(
        transferred_a_ucent=total_a,
        transferred_b_ucent=total_b,
        expires=moment.head_timestamp + OFFER_SECONDS,
    )
    return Step(state=replace(state, offering=terms), effects=(SignClose(terms=terms),))


def on_close_offer(state: Channel, message: CloseOffer, moment: Moment) -> Step:
    """Check an offer against our own newest vouchers; raises `OutOfTurn` where they differ.

    An offer that lives too long or not at all may come from a view that lags: it is refused, and
    once it is dead the peer shows its vouchers again and we ask for another.
    """
    terms = CloseTerms(
        transferred_a_ucent=message.transferred_a_ucent,
        transferred_b_ucent=message.transferred_b_ucent,
        expires=message.expires,
    )
    if not state.we_want_close:
        raise OutOfTurn("the peer offers a close that was not asked for")
    if (terms.transferred_a_ucent, terms.transferred_b_ucent) != state.totals_ab():
        raise OutOfTurn("the offered close does not match our newest vouchers")
    if not state.sent.quiet or state.received.unverified:
        raise OutOfTurn("the peer offers a close while payments are in flight")
    stale = stale_view(state, moment)
    if stale is not None:
        return refuse(state, stale)
    problem = lifetime_problem(terms.expires, moment) or behind_the_chain(state)
    if problem is not None:
        return say(state, problem)
    return Step(state=state, effects=(VerifyClose(terms=terms, signature=message.signature),))


def on_close_signed(state: Channel, event: CloseSigned, moment: Moment) -> Step:
    """Send our signature, as an offer or as an acceptance; the channel is frozen from here on."""
    if state.checking is not None:
        return _accept_close(state, event, state.checking, moment)
    if state.offering != event.terms:
        raise NotNow(state.phase, "a signature on a close that is not being offered")
    close = SignedClose(terms=event.terms, ours=event.signature)
    offer = _offer_message(state, close)
    return Step(state=replace(state, offering=None, close=close), effects=(offer,))


def _offer_message(state: Channel, close: SignedClose) -> Send:
    return Send(
        message=CloseOffer(
            channel=state.id,
            transferred_a_ucent=close.terms.transferred_a_ucent,
            transferred_b_ucent=close.terms.transferred_b_ucent,
            expires=close.terms.expires,
            signature=close.ours,
        )
    )


def _accept_close(state: Channel, event: CloseSigned, checked: SignedClose, moment: Moment) -> Step:
    close = replace(checked, ours=event.signature, submitted_at=moment.head_timestamp)
    accept = CloseAccept(
        channel=state.id,
        transferred_a_ucent=event.terms.transferred_a_ucent,
        transferred_b_ucent=event.terms.transferred_b_ucent,
        expires=event.terms.expires,
        signature=event.signature,
    )
    return Step(
        state=replace(state, offering=None, checking=None, close=close),
        effects=(Send(message=accept),),
    )


def on_close_accept(state: Channel, message: CloseAccept, _: Moment) -> Step:
    """Check the second signature on the close that we offered.

    One that comes too late, for an offer of ours that has died, is refused and harms nobody.
    """
    close = state.close
    terms = CloseTerms(
        transferred_a_ucent=message.transferred_a_ucent,
        transferred_b_ucent=message.transferred_b_ucent,
        expires=message.expires,
    )
    if close is None or close.terms != terms:
        return say(state, NotNow(state.phase, "CloseAccept for another close than the one offered"))
    if close.theirs is not None:
        return Step(state=state)  # a repeat: it is submitted already, and again if need be
    return Step(state=state, effects=(VerifyClose(terms=terms, signature=message.signature),))


def on_close_verified(state: Channel, event: CloseVerified, moment: Moment) -> Step:
    """Countersign a verified offer, or submit a close that both have signed."""
    if state.close is None:
        checked = SignedClose(terms=event.terms, ours=b"", theirs=event.signature)
        return Step(
            state=replace(state, offering=event.terms, checking=checked),
            effects=(SignClose(terms=event.terms),),
        )
    if state.close.terms != event.terms:
        raise NotNow(state.phase, "a verification of another close than the one signed")
    close = replace(state.close, theirs=event.signature, submitted_at=moment.head_timestamp)
    return Step(state=replace(state, close=close), effects=(SubmitClose(close=close),))


def drop_dead_close(state: Channel) -> Channel:
    """Forget a close only when a confirmed block after its expiry shows it did not happen.

    Who wanted to close still does, and asks again. The peer may have been refused meanwhile, or
    may want to close: it is shown our vouchers.
    """
    close = state.close
    if close is None or state.chain is None or state.chain.timestamp <= close.terms.expires:
        return state
    if state.chain.status is ChainStatus.CLOSED:
        return state
    return replace(
        state,
        close=None,
        peer_wants_close=False,
        refusing=True,
        asked_again=False,
    )
