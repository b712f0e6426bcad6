"""The channel's transition function: `step(state, event, moment) -> Step(state, effects)`.

Rule: it never awaits, sleeps, logs, or reads a clock, file, key or dice. What is allowed when is
the table `TRANSITIONS`; what is not in it is refused aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .closing import (
    asked_close,
    close_if_quiet,
    drop_dead_close,
    on_close_accept,
    on_close_offer,
    on_close_request,
    on_close_signed,
    on_close_verified,
)
from .errors import FarthingError
from .events import (
    AskedClose,
    AskedPay,
    ChannelMessage,
    CloseSigned,
    CloseVerified,
    Disconnect,
    Effect,
    Elapsed,
    Event,
    Linked,
    ObservedChannel,
    Received,
    RecognisedOwn,
    RecogniseOwn,
    RecordReceived,
    RecordSent,
    Send,
    SendStored,
    Signed,
    SignVoucher,
    Step,
    SubmitClose,
    TellAcknowledged,
    TellReceived,
    TellStopped,
    Unlinked,
    Unverifiable,
    Verified,
    VerifyVoucher,
)
from .ids import ZERO_WORD
from .messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Reestablish,
    SignedTotal,
    Update,
)
from .packed import fits_one_update
from .refusals import (
    InsufficientBalance,
    NothingToPay,
    NotNow,
    OutOfTurn,
    TooManyUnacknowledged,
    check_receipts,
    refuse,
    say,
    stale_view,
)
from .state import (
    UNACKNOWLEDGED_MAX,
    ChainStatus,
    Channel,
    Link,
    Moment,
    Phase,
    ReceivedLane,
    SentLane,
)
from .units import NONCE_MAX, TRANSFERRED_MAX
from .voucher import LaneTotal, UnverifiedVoucher, Voucher, replay

SUBMIT_AGAIN_SECONDS = 15
"""Chain time after which a co-signed close that is not on-chain is submitted again."""


_ASKED: dict[type, str] = {AskedPay: "a payment", AskedClose: "a close"}
"""What people ask for, in their words; messages are called by their names."""


def step(state: Channel, event: Event, moment: Moment) -> Step:
    """Apply one event; raises `LocalError` or `PeerError` (state unchanged) or `InvariantBroken`.

    What is received in a phase that cannot take it is answered with an `Error` message.
    """
    subject: Any = event.message if isinstance(event, Received) else event
    phases, handler = TRANSITIONS[type(subject)]
    if state.phase not in phases:
        refusal = NotNow(state.phase, _ASKED.get(type(subject), type(subject).__name__))
        if isinstance(subject, Update):
            return refuse(state, refusal)
        if isinstance(event, Received):
            return say(state, refusal)
        raise refusal
    result = handler(state, subject, moment)
    result.state.check_invariants()
    return result


# -- connection ---------------------------------------------------------------------------------


def _linked(state: Channel, _: Linked, __: Moment) -> Step:
    state = replace(
        state,
        link=Link.GREETING,
        refusing=False,
        asked_again=False,
        peer_wants_close=False,
        received=ReceivedLane(voucher=state.received.voucher),
    )
    return Step(state=state, effects=(Send(message=_reestablish(state)),))


def _unlinked(state: Channel, _: Unlinked, __: Moment) -> Step:
    received = ReceivedLane(voucher=state.received.voucher)
    sent = replace(state.sent, unsigned=(), unsigned_totals=())
    return Step(
        state=replace(
            state,
            link=Link.DOWN,
            received=received,
            sent=sent,
            peer_wants_close=False,
            offering=None,
            checking=None,
        )
    )


def _reestablish(state: Channel) -> Reestablish:
    return Reestablish(
        channel=state.id, sent=_show(state.sent.voucher), received=_show(state.received.voucher)
    )


def _show(voucher: Voucher | None) -> SignedTotal | None:
    if voucher is None:
        return None
    return SignedTotal(
        total=voucher.total, conditions=voucher.conditions, signature=voucher.signature
    )


def _on_reestablish(state: Channel, message: Reestablish, moment: Moment) -> Step:
    shown = message.received
    ours = state.sent
    shown_nonce = 0 if shown is None else shown.total.nonce
    if shown is not None and _unknown_to(ours, shown.total):
        return Step(
            state=state,
            effects=(
                RecogniseOwn(
                    voucher=UnverifiedVoucher(
                        channel=state.id,
                        payer=state.our_account,
                        total=shown.total,
                        conditions=shown.conditions,
                        signature=shown.signature,
                    )
                ),
            ),
        )
    effects: list[Effect] = []
    sent = ours
    if shown_nonce > ours.acknowledged_nonce:
        sent = _acknowledge(ours, shown_nonce)
        effects.append(TellAcknowledged(nonce=shown_nonce))
    if shown_nonce < ours.total.nonce:
        effects.append(SendStored(first_nonce=shown_nonce + 1))
    state = replace(state, sent=sent, link=Link.LIVE, fresh_boot=False)
    closing = close_if_quiet(state, moment)
    return Step(state=closing.state, effects=(*effects, *closing.effects))


def _unknown_to(ours: SentLane, shown: LaneTotal) -> bool:
    """Whether a total of our lane is one we did not make, as far as memory holds our totals.

    Whoever shows one must prove it by our signature, or it would stop a channel by a mere claim.
    """
    if shown.nonce > ours.total.nonce:
        return True
    known = {total.nonce: total for total in (*ours.unacknowledged, ours.total)}
    return known.get(shown.nonce, shown) != shown


def _on_recognised_own(state: Channel, event: RecognisedOwn, moment: Moment) -> Step:
    """Handle our own signature on something we do not know: a restored database, or a clone.

    A restored database lacks the newest payments; one that has others in their place is a fork.
    """
    shown, ours = event.voucher.total, state.sent.total
    lacking = shown.nonce > ours.nonce and shown.transferred_ucent > ours.transferred_ucent
    if not state.fresh_boot or not lacking:
        return _stop(state, "the peer holds our signature on payments that this wallet never made")
    sent = SentLane(voucher=event.voucher, acknowledged_nonce=shown.nonce)
    return close_if_quiet(replace(state, sent=sent, link=Link.LIVE, fresh_boot=False), moment)


def _stop(state: Channel, reason: str) -> Step:
    error = Error(
        code="channel-stopped",
        channel=state.id,
        text=reason,
        what_to_do="stop paying on this channel and ask a person: a key or a database was copied",
    )
    return Step(
        state=replace(state, stopped=reason),
        effects=(Send(message=error), TellStopped(reason=reason)),
    )


# -- paying -------------------------------------------------------------------------------------


def _asked_pay(state: Channel, event: AskedPay, _: Moment) -> Step:
    sent = state.sent
    if not event.payments:
        raise NothingToPay("a payment order names no payment")
    if len(sent.unacknowledged) + len(sent.unsigned) + len(event.payments) > UNACKNOWLEDGED_MAX:
        raise TooManyUnacknowledged(f"{len(sent.unacknowledged)} payments are unacknowledged")
    needed = sum(payment.amount_ucent for payment in event.payments)
    if needed > state.our_balance_ucent():
        raise InsufficientBalance(needed, state.our_balance_ucent())
    totals = replay(sent.promised, event.payments)
    sent = replace(
        sent,
        unsigned=sent.unsigned + event.payments,
        unsigned_totals=sent.unsigned_totals + totals,
    )
    return Step(state=replace(state, sent=sent), effects=(SignVoucher(total=totals[-1]),))


def _on_signed(state: Channel, event: Signed, _: Moment) -> Step:
    sent = state.sent
    if not sent.unsigned_totals or event.voucher.total != sent.unsigned_totals[-1]:
        raise NotNow(state.phase, "a signature on another total than the promised one")
    first_nonce = sent.total.nonce + 1
    speak: Effect = SendStored(first_nonce=first_nonce)  # as several updates
    if fits_one_update(sent.unsigned):
        update = Update(
            channel=state.id,
            first_nonce=first_nonce,
            signature=event.voucher.signature,
            payments=sent.unsigned,
        )
        speak = Send(message=update)
    signed = replace(
        sent,
        voucher=event.voucher,
        unacknowledged=sent.unacknowledged + sent.unsigned_totals,
        unsigned=(),
        unsigned_totals=(),
    )
    return Step(
        state=replace(state, sent=signed),
        effects=(
            RecordSent(payments=sent.unsigned, totals=sent.unsigned_totals),
            speak,
        ),
    )


def _acknowledge(sent: SentLane, nonce: int) -> SentLane:
    remaining = tuple(total for total in sent.unacknowledged if total.nonce > nonce)
    return replace(sent, unacknowledged=remaining, acknowledged_nonce=nonce)


def _on_ack(state: Channel, message: Ack, moment: Moment) -> Step:
    sent = state.sent
    if message.nonce <= sent.acknowledged_nonce:
        return Step(state=state)
    total = next((t for t in sent.unacknowledged if t.nonce == message.nonce), None)
    if total is None:
        raise OutOfTurn(f"an acknowledgement names payment {message.nonce}, which was never sent")
    if total.history != message.history:
        return _stop(state, "the peer acknowledged another history of our lane than ours")
    state = replace(state, sent=_acknowledge(sent, message.nonce))
    told = TellAcknowledged(nonce=message.nonce)
    closing = close_if_quiet(state, moment)
    return Step(state=closing.state, effects=(told, *closing.effects))


# -- being paid ---------------------------------------------------------------------------------


def _on_update(state: Channel, message: Update, moment: Moment) -> Step:
    claimed = state.received.claimed
    if message.first_nonce > claimed.nonce + 1:
        if state.refusing:
            return Step(state=state)  # it was under way when we refused what comes before it
        raise OutOfTurn(f"payment {claimed.nonce + 1} is missing before {message.first_nonce}")
    payments = message.payments[claimed.nonce + 1 - message.first_nonce :]
    if not payments:
        return _repeat(state, message)
    needed = sum(payment.amount_ucent for payment in payments)
    refusal = _refusal(state, moment, claimed.transferred_ucent, needed)
    if refusal is not None:
        return refuse(state, refusal)
    check_receipts(payments)
    if (
        claimed.nonce + len(payments) > NONCE_MAX
        or claimed.transferred_ucent + needed > TRANSFERRED_MAX
    ):
        raise OutOfTurn("the payments exceed what a lane can hold")
    totals = replay(claimed, payments)
    received = replace(
        state.received,
        unverified=state.received.unverified + payments,
        unverified_totals=state.received.unverified_totals + totals,
    )
    voucher = UnverifiedVoucher(
        channel=state.id,
        payer=state.peer_account,
        total=totals[-1],
        conditions=ZERO_WORD,
        signature=message.signature,
    )
    state = replace(state, received=received, refusing=False, asked_again=False)
    return Step(state=state, effects=(VerifyVoucher(voucher=voucher),))


def _repeat(state: Channel, message: Update) -> Step:
    """Answer an update that holds nothing new: acknowledge what matches, else show everything.

    A part that is new is not handled here: its signature covers the history, so it verifies only
    if the repeated payments before it are the ones we know.
    """
    voucher = state.received.voucher
    if voucher is not None and voucher.signature == message.signature:
        total = voucher.total
        ack = Ack(channel=state.id, nonce=total.nonce, history=total.history)
        return Step(state=state, effects=(Send(message=ack),))
    return Step(state=state, effects=(Send(message=_reestablish(state)),))


def _refusal(
    state: Channel, moment: Moment, claimed_ucent: int, needed_ucent: int
) -> FarthingError | None:
    available_ucent = state.peer_balance_ucent(claimed_ucent)
    if needed_ucent > available_ucent:
        return InsufficientBalance(needed_ucent, available_ucent)
    return stale_view(state, moment)


def _on_verified(state: Channel, event: Verified, moment: Moment) -> Step:
    received = state.received
    covered = sum(
        1 for total in received.unverified_totals if total.nonce <= event.voucher.total.nonce
    )
    if not covered or received.unverified_totals[covered - 1] != event.voucher.total:
        raise NotNow(state.phase, "a verification of a total that was not received")
    payments, totals = received.unverified[:covered], received.unverified_totals[:covered]
    first_nonce = totals[0].nonce
    received = ReceivedLane(
        voucher=event.voucher,
        unverified=received.unverified[covered:],
        unverified_totals=received.unverified_totals[covered:],
    )
    total = event.voucher.total
    state = replace(state, received=received)
    closing = close_if_quiet(state, moment) if state.peer_wants_close else Step(state=state)
    return Step(
        state=closing.state,
        effects=(
            RecordReceived(payments=payments, totals=totals),
            Send(message=Ack(channel=state.id, nonce=total.nonce, history=total.history)),
            TellReceived(first_nonce=first_nonce, payments=payments),
            *closing.effects,
        ),
    )


def _on_unverifiable(state: Channel, _: Unverifiable, __: Moment) -> Step:
    received = ReceivedLane(voucher=state.received.voucher)
    return Step(
        state=replace(state, received=received),
        effects=(Disconnect(channel=state.id, reason="a voucher's signature does not verify"),),
    )


# -- chain and clock ----------------------------------------------------------------------------


def _observed_channel(state: Channel, event: ObservedChannel, moment: Moment) -> Step:
    if state.chain is not None and event.view.block < state.chain.block:
        return Step(state=state)
    return _elapsed(replace(state, chain=event.view), Elapsed(), moment)


def _elapsed(state: Channel, _: Elapsed, moment: Moment) -> Step:
    effects: list[Effect] = []
    thawed = drop_dead_close(state)
    if thawed is not state:
        closing = close_if_quiet(thawed, moment)
        state = closing.state
        effects.extend(closing.effects)
    close = state.close
    if (
        close is not None
        and close.theirs is not None
        and state.chain is not None
        and state.chain.status is not ChainStatus.CLOSED
        and close.submitted_at + SUBMIT_AGAIN_SECONDS
        <= moment.head_timestamp
        <= close.terms.expires
    ):
        close = replace(close, submitted_at=moment.head_timestamp)
        state = replace(state, close=close)
        effects.append(SubmitClose(close=close))
    if (
        state.refusing
        and not state.asked_again
        and state.phase in _TALKING
        and stale_view(state, moment) is None
    ):
        state = replace(state, asked_again=True)
        effects.append(Send(message=_reestablish(state)))
    return Step(state=state, effects=tuple(effects))


Handler = Callable[[Channel, Any, Moment], Step]

_EVERY = frozenset(Phase)
_CONNECTED = frozenset({Phase.GREETING, Phase.DRAINING, Phase.LIVE})
_TALKING = frozenset({Phase.DRAINING, Phase.LIVE})
_LIVE = frozenset({Phase.LIVE})
_FROZEN = frozenset({Phase.FROZEN})

TRANSITIONS: dict[type[Event] | type[ChannelMessage], tuple[frozenset[Phase], Handler]] = {
    Linked: (_EVERY - {Phase.STOPPED}, _linked),
    Unlinked: (_EVERY, _unlinked),
    Reestablish: (_CONNECTED | _FROZEN, _on_reestablish),
    RecognisedOwn: (_CONNECTED | _FROZEN, _on_recognised_own),
    AskedPay: (_LIVE, _asked_pay),
    Signed: (_TALKING, _on_signed),
    Update: (_TALKING, _on_update),
    Verified: (_TALKING, _on_verified),
    Unverifiable: (_TALKING, _on_unverifiable),
    Ack: (_CONNECTED | _FROZEN, _on_ack),
    AskedClose: (_TALKING | {Phase.DOWN, Phase.GREETING}, asked_close),
    CloseRequest: (_TALKING | _FROZEN, on_close_request),
    CloseOffer: (_TALKING, on_close_offer),
    CloseSigned: (_FROZEN, on_close_signed),
    CloseAccept: (_FROZEN, on_close_accept),
    CloseVerified: (_TALKING | _FROZEN, on_close_verified),
    ObservedChannel: (_EVERY, _observed_channel),
    Elapsed: (_EVERY, _elapsed),
}
"""What is allowed when: the phases that take an event, and what it does there."""
