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
from .refusals import NotNow, OutOfTurn
from .state import (
    OFFER_SECONDS,
    OFFER_SECONDS_MAX,
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    Moment,
    SignedClose,
)


def asked_close(state: Channel, _: AskedClose, __: Moment) -> Step:
    """Make no further payment, and ask the peer for a close as soon as all is acknowledged."""
    state = replace(state, we_want_close=True)
    return Step(state=state, effects=request_if_quiet(state))


def request_if_quiet(state: Channel) -> tuple[Send, ...]:
    """Ask for the offer once the peer has acknowledged all we paid, so that totals will match."""
    if state.we_want_close and state.link is Link.LIVE and state.sent.quiet and not state.close:
        return (Send(message=CloseRequest(channel=state.id)),)
    return ()


def on_close_request(state: Channel, _: CloseRequest, moment: Moment) -> Step:
    """Make no further payment, and offer the close once nothing is in flight."""
    return offer_if_quiet(replace(state, peer_wants_close=True), moment)


def offer_if_quiet(state: Channel, moment: Moment) -> Step:
    """Offer the close the peer asked for, once nothing is in flight on either lane."""
    if not state.peer_wants_close or state.link is not Link.LIVE:
        return Step(state=state)
    if not state.sent.quiet or state.received.unverified or state.close is not None:
        return Step(state=state)
    total_a, total_b = state.totals_ab()
    terms = CloseTerms(
        transferred_a_ucent=total_a,
        transferred_b_ucent=total_b,
        expires=moment.head_timestamp + OFFER_SECONDS,
    )
    return Step(state=replace(state, offering=terms), effects=(SignClose(terms=terms),))


def on_close_offer(state: Channel, message: CloseOffer, moment: Moment) -> Step:
    """Check an offer against our own newest vouchers; raises `OutOfTurn` where they differ."""
    terms = CloseTerms(
        transferred_a_ucent=message.transferred_a_ucent,
        transferred_b_ucent=message.transferred_b_ucent,
        expires=message.expires,
    )
    if not state.we_want_close:
        raise OutOfTurn("the peer offers a close that was not asked for")
    if (terms.transferred_a_ucent, terms.transferred_b_ucent) != state.totals_ab():
        raise OutOfTurn("the offered close does not match our newest vouchers")
    if not moment.head_timestamp < terms.expires <= moment.head_timestamp + OFFER_SECONDS_MAX:
        raise OutOfTurn(f"the offered close expires outside the next {OFFER_SECONDS_MAX} s")
    if not state.sent.quiet or state.received.unverified:
        raise OutOfTurn("the peer offers a close while payments are in flight")
    return Step(state=state, effects=(VerifyClose(terms=terms, signature=message.signature),))


def on_close_signed(state: Channel, event: CloseSigned, moment: Moment) -> Step:
    """Send our signature, as an offer or as an acceptance; the channel is frozen from here on."""
    if state.checking is not None:
        return _accept_close(state, event, state.checking, moment)
    if state.offering != event.terms:
        raise NotNow(state.phase, "a signature on a close that is not being offered")
    close = SignedClose(terms=event.terms, ours=event.signature)
    offer = CloseOffer(
        channel=state.id,
        transferred_a_ucent=event.terms.transferred_a_ucent,
        transferred_b_ucent=event.terms.transferred_b_ucent,
        expires=event.terms.expires,
        signature=event.signature,
    )
    return Step(state=replace(state, offering=None, close=close), effects=(Send(message=offer),))


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
    """Check the second signature on the close that we offered."""
    close = state.close
    terms = CloseTerms(
        transferred_a_ucent=message.transferred_a_ucent,
        transferred_b_ucent=message.transferred_b_ucent,
        expires=message.expires,
    )
    if close is None or close.terms != terms:
        raise OutOfTurn("the peer accepts a close that was not offered")
    return Step(state=state, effects=(VerifyClose(terms=terms, signature=message.signature),))


def on_close_verified(state: Channel, event: CloseVerified, moment: Moment) -> Step:
    """Countersign a verified offer, or submit a close that both have signed."""
    if state.close is None:
        checked = SignedClose(terms=event.terms, ours=b"", theirs=event.signature)
        return Step(
            state=replace(state, offering=event.terms, checking=checked),
            effects=(SignClose(terms=event.terms),),
        )
    close = replace(state.close, theirs=event.signature, submitted_at=moment.head_timestamp)
    return Step(state=replace(state, close=close), effects=(SubmitClose(close=close),))


def drop_dead_close(state: Channel) -> Channel:
    """Forget a close only when a confirmed block after its expiry shows it did not happen."""
    close = state.close
    if close is None or state.chain is None or state.chain.timestamp <= close.terms.expires:
        return state
    if state.chain.status is ChainStatus.CLOSED:
        return state
    return replace(state, close=None, we_want_close=False, peer_wants_close=False)
