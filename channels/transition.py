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
    on_close_accept,
    on_close_offer,
    on_close_request,
    on_close_signed,
    on_close_verified,
)
from .connecting import (
    acknowledge,
    linked,
    on_recognised_own,
    on_reestablish,
    reestablish,
    stop,
    unlinked,
)
from .errors import FarthingError
from .events import (
    AskedClose,
    AskedPay,
    AskedWithdraw,
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
    RecordReceived,
    RecordSent,
    Send,
    SendStored,
    Signed,
    SignVoucher,
    Step,
    TellAcknowledged,
    Unlinked,
    Unverifiable,
    Verified,
    VerifyVoucher,
    WithdrawalSigned,
    WithdrawalVerified,
)
from .ids import ZERO_WORD
from .messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Reestablish,
    Update,
    WithdrawalAccept,
    WithdrawalOffer,
)
from .observing import elapsed, observed_channel
from .packed import fits_one_update
from .refusals import (
    InsufficientBalance,
    NothingToPay,
    NotNow,
    OutOfTurn,
    TooManyUnacknowledged,
    behind_the_chain,
    check_receipts,
    refuse,
    say,
    stale_view,
)
from .restoring import contradicted, keep_as_evidence, news, unread
from .state import TALKING, UNACKNOWLEDGED_MAX, Channel, Moment, Phase, ReceivedLane
from .units import NONCE_MAX, TRANSFERRED_MAX
from .voucher import UnverifiedVoucher, replay
from .withdrawing import (
    asked_withdraw,
    on_withdrawal_accept,
    on_withdrawal_offer,
    on_withdrawal_signed,
    on_withdrawal_verified,
)

_ASKED: dict[type, str] = {
    AskedPay: "a payment",
    AskedClose: "a close",
    AskedWithdraw: "a withdrawal",
}
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
            return Step(state=state) if _is_told(state) else refuse(state, refusal)
        if isinstance(event, Received):
            return say(state, refusal)
        raise refusal
    result = handler(state, subject, moment)
    result.state.check_invariants()
    return result


def _is_told(state: Channel) -> bool:
    """Whether the peer was told that we take no payment now, and was not asked for any since."""
    return state.refusing and not state.asked_again


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


def _on_ack(state: Channel, message: Ack, moment: Moment) -> Step:
    sent = state.sent
    if message.nonce <= sent.acknowledged_nonce:
        return Step(state=state)
    total = next((t for t in sent.unacknowledged if t.nonce == message.nonce), None)
    if total is None:
        raise OutOfTurn(f"an acknowledgement names payment {message.nonce}, which was never sent")
    if total.history != message.history:
        return stop(state, "the peer acknowledged another history of our lane than ours")
    state = replace(state, sent=acknowledge(sent, message.nonce))
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
    return Step(state=state, effects=(Send(message=reestablish(state)),))


def _refusal(
    state: Channel, moment: Moment, claimed_ucent: int, needed_ucent: int
) -> FarthingError | None:
    available_ucent = state.peer_balance_ucent(claimed_ucent)
    if needed_ucent > available_ucent:
        return InsufficientBalance(needed_ucent, available_ucent)
    return stale_view(state, moment) or unread(state)


def _on_verified(state: Channel, event: Verified, moment: Moment) -> Step:
    received = state.received
    covered = sum(
        1 for total in received.unverified_totals if total.nonce <= event.voucher.total.nonce
    )
    if not covered or received.unverified_totals[covered - 1] != event.voucher.total:
        raise NotNow(state.phase, "a verification of a total that was not received")
    problem = unread(state)
    if problem is not None:
        return refuse(replace(state, received=ReceivedLane(voucher=received.voucher)), problem)
    payments, totals = received.unverified[:covered], received.unverified_totals[:covered]
    passed = contradicted(state, totals)
    received = ReceivedLane(
        voucher=event.voucher,
        unverified=received.unverified[covered:],
        unverified_totals=received.unverified_totals[covered:],
    )
    record = RecordReceived(payments=payments, totals=totals)
    if passed is not None:
        return keep_as_evidence(replace(state, received=received), record, passed)
    total = event.voucher.total
    was_behind = behind_the_chain(state) is not None
    state, told = news(replace(state, received=received), totals[0].nonce, payments)
    may_close = state.peer_wants_close or (state.we_want_close and was_behind)
    closing = close_if_quiet(state, moment) if may_close else Step(state=state)
    return Step(
        state=closing.state,
        effects=(
            record,
            Send(message=Ack(channel=state.id, nonce=total.nonce, history=total.history)),
            *told,
            *closing.effects,
        ),
    )


def _on_unverifiable(state: Channel, event: Unverifiable, _: Moment) -> Step:
    received = ReceivedLane(voucher=state.received.voucher)
    return Step(
        state=replace(state, received=received),
        effects=(Disconnect(channel=state.id, reason=event.reason),),
    )


Handler = Callable[[Channel, Any, Moment], Step]

_EVERY = frozenset(Phase)
_CONNECTED = frozenset({Phase.GREETING, Phase.DRAINING, Phase.LIVE})
_LIVE = frozenset({Phase.LIVE})
_FROZEN = frozenset({Phase.FROZEN})
_RESTORED = frozenset({Phase.RESTORED})

TRANSITIONS: dict[type[Event] | type[ChannelMessage], tuple[frozenset[Phase], Handler]] = {
    Linked: (_EVERY - {Phase.STOPPED}, linked),
    Unlinked: (_EVERY, unlinked),
    Reestablish: (_CONNECTED | _FROZEN | _RESTORED, on_reestablish),
    RecognisedOwn: (_CONNECTED | _FROZEN | _RESTORED, on_recognised_own),
    AskedPay: (_LIVE, _asked_pay),
    Signed: (TALKING, _on_signed),
    Update: (TALKING, _on_update),
    Verified: (TALKING, _on_verified),
    Unverifiable: (TALKING, _on_unverifiable),
    Ack: (_CONNECTED | _FROZEN | _RESTORED, _on_ack),
    AskedClose: (TALKING | {Phase.DOWN, Phase.GREETING}, asked_close),
    CloseRequest: (TALKING | _FROZEN, on_close_request),
    CloseOffer: (TALKING, on_close_offer),
    CloseSigned: (_FROZEN, on_close_signed),
    CloseAccept: (_FROZEN, on_close_accept),
    CloseVerified: (TALKING | _FROZEN, on_close_verified),
    AskedWithdraw: (_LIVE, asked_withdraw),
    WithdrawalOffer: (TALKING, on_withdrawal_offer),
    WithdrawalSigned: (TALKING, on_withdrawal_signed),
    WithdrawalAccept: (TALKING | _FROZEN, on_withdrawal_accept),
    WithdrawalVerified: (TALKING | _FROZEN, on_withdrawal_verified),
    ObservedChannel: (_EVERY, observed_channel),
    Elapsed: (_EVERY, elapsed),
}
"""What is allowed when: the phases that take an event, and what it does there."""
