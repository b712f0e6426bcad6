"""Taking money out of an open channel in agreement: offer, acceptance, and how both end (rule 3).

Rule: from the moment that a signature is decided, the withdrawal counts as taken. It is free again
only when a confirmed block after its expiry shows that the chain did not take it.
"""

from __future__ import annotations

from dataclasses import replace

from .errors import FarthingError, LocalError
from .events import (
    AskedWithdraw,
    Effect,
    Send,
    SignWithdrawal,
    Step,
    SubmitWithdrawal,
    TellWithdrawal,
    VerifyWithdrawal,
    WithdrawalSigned,
    WithdrawalVerified,
)
from .messages import WithdrawalAccept, WithdrawalOffer
from .refusals import (
    InsufficientBalance,
    NotNow,
    OutOfTurn,
    lifetime_problem,
    say,
    stale_view,
)
from .state import (
    ACT_AGAIN_SECONDS,
    OFFER_SECONDS,
    TALKING,
    ChainStatus,
    Channel,
    Moment,
    Phase,
    Withdrawal,
    Withdrawals,
    WithdrawalTerms,
)
from .terms import Side
from .units import DEPOSIT_MAX, AmountOutOfRange, check_amount


class WithdrawalPending(LocalError):
    """Another withdrawal of the same account is signed and may still be taken."""

    code = "withdrawal-pending"
    retryable = True

    def __init__(self, pending: WithdrawalTerms) -> None:
        super().__init__(
            f"a withdrawal up to {pending.total_ucent} µ¢ in total is under way",
            remedy=f"wait until it is on-chain, or until chain time {pending.expires} has passed",
        )
        self.pending = pending


class NothingToWithdraw(LocalError):
    """A withdrawal that takes nothing beyond what was taken before."""

    code = "nothing-to-withdraw"

    def __init__(self, total_ucent: int, withdrawn_ucent: int) -> None:
        super().__init__(
            f"a total of {total_ucent} µ¢ is not above the {withdrawn_ucent} µ¢ already withdrawn",
            remedy="give the total of all withdrawals, the new one included",
        )
        self.total_ucent = total_ucent
        self.withdrawn_ucent = withdrawn_ucent


# -- our own withdrawal -------------------------------------------------------------------------


def asked_withdraw(state: Channel, event: AskedWithdraw, moment: Moment) -> Step:
    """Reserve the amount and sign an offer for it; raises why it cannot be."""
    amount_ucent = check_amount(event.amount_ucent, maximum_ucent=DEPOSIT_MAX)
    pending = state.withdrawals[state.side]
    if pending is not None:
        raise WithdrawalPending(pending.terms)
    stale = stale_view(state, moment)
    if stale is not None:
        raise stale
    if amount_ucent > state.our_balance_ucent():
        raise InsufficientBalance(amount_ucent, state.our_balance_ucent())
    withdrawn_ucent = state.withdrawn_ucent(state.side)
    if withdrawn_ucent + amount_ucent > DEPOSIT_MAX:
        raise AmountOutOfRange(amount_ucent, maximum_ucent=DEPOSIT_MAX - withdrawn_ucent)
    terms = WithdrawalTerms(
        side=state.side,
        total_ucent=withdrawn_ucent + amount_ucent,
        expires=moment.head_timestamp + OFFER_SECONDS,
    )
    return _sign(state, Withdrawal(terms=terms))


def on_withdrawal_accept(state: Channel, message: WithdrawalAccept, _: Moment) -> Step:
    """Check the second signature on our offer; one for an offer that has died harms nobody."""
    if message.account != state.our_account:
        raise OutOfTurn("the peer accepts a withdrawal of an account that is not ours")
    terms = _terms_of(state.side, message)
    pending = state.withdrawals[state.side]
    if pending is None or pending.ours is None or pending.terms != terms:
        asked = "WithdrawalAccept for another withdrawal than the one offered"
        return say(state, NotNow(state.phase, asked))
    if pending.theirs is not None:
        return Step(state=state)  # a repeat: it is submitted already, and again if need be
    return Step(state=state, effects=(VerifyWithdrawal(terms=terms, signature=message.signature),))


# -- the peer's withdrawal ----------------------------------------------------------------------


def on_withdrawal_offer(state: Channel, message: WithdrawalOffer, moment: Moment) -> Step:
    """Answer an offer of the peer's own money: with our signature, or with the reason for none.

    The same offer again means that our answer was lost: it is sent again, and signed no second
    time.
    """
    if message.account != state.peer_account:
        raise OutOfTurn("the peer offers a withdrawal of an account that is not its own")
    terms = _terms_of(state.side.other, message)
    pending = state.withdrawals[terms.side]
    if pending is not None and pending.terms == terms and pending.ours is not None:
        return Step(state=state, effects=(_accept(state, terms, pending.ours),))
    problem = _cannot_cosign(state, terms, moment)
    if problem is not None:
        return say(state, problem)
    return Step(state=state, effects=(VerifyWithdrawal(terms=terms, signature=message.signature),))


def _cannot_cosign(state: Channel, terms: WithdrawalTerms, moment: Moment) -> FarthingError | None:
    """Why the peer does not get this much out now; what it has not verifiably paid is its own."""
    side = terms.side
    pending = state.withdrawals[side]
    if pending is not None:
        return WithdrawalPending(pending.terms)
    problem = stale_view(state, moment) or lifetime_problem(terms.expires, moment)
    if problem is not None:
        return problem
    withdrawn_ucent = state.withdrawn_ucent(side)
    if terms.total_ucent <= withdrawn_ucent:
        return NothingToWithdraw(terms.total_ucent, withdrawn_ucent)
    if terms.total_ucent > DEPOSIT_MAX:
        return AmountOutOfRange(terms.total_ucent, maximum_ucent=DEPOSIT_MAX)
    amount_ucent = terms.total_ucent - withdrawn_ucent
    # What the chain has settled is spent, where a restored database has forgotten it.
    settled_ucent = 0 if state.chain is None else state.chain.settled_ucent[side]
    promised_ucent = max(state.received.claimed.transferred_ucent, settled_ucent)
    available_ucent = state.peer_balance_ucent(promised_ucent)
    if amount_ucent > available_ucent:
        return InsufficientBalance(amount_ucent, available_ucent)
    return None


# -- signing, for both --------------------------------------------------------------------------


def _sign(state: Channel, withdrawal: Withdrawal) -> Step:
    """Reserve first: nothing else may spend the amount while the signature is being made."""
    return Step(
        state=_with(state, withdrawal.terms.side, withdrawal),
        effects=(SignWithdrawal(terms=withdrawal.terms),),
    )


def on_withdrawal_signed(state: Channel, event: WithdrawalSigned, moment: Moment) -> Step:
    """Send our signature: as an offer of our own withdrawal, or as acceptance of the peer's."""
    side = event.terms.side
    pending = state.withdrawals[side]
    if pending is None or pending.terms != event.terms or pending.ours is not None:
        raise NotNow(state.phase, "a signature on a withdrawal that is not being signed")
    signed = replace(pending, ours=event.signature, acted_at=moment.head_timestamp)
    say_it = _offer if side is state.side else _accept
    message = say_it(state, event.terms, event.signature)
    return Step(state=_with(state, side, signed), effects=(message,))


def on_withdrawal_verified(state: Channel, event: WithdrawalVerified, moment: Moment) -> Step:
    """Submit our own withdrawal that both have signed, or countersign the peer's."""
    side = event.terms.side
    pending = state.withdrawals[side]
    if side is state.side:
        if pending is None or pending.ours is None or pending.terms != event.terms:
            raise NotNow(state.phase, "a verification of another withdrawal than the one offered")
        both = replace(pending, theirs=event.signature, acted_at=moment.head_timestamp)
        return Step(state=_with(state, side, both), effects=(SubmitWithdrawal(withdrawal=both),))
    if state.phase is Phase.FROZEN:
        raise NotNow(state.phase, "a signature on a withdrawal")
    problem = _cannot_cosign(state, event.terms, moment)  # again: this is where money is let go
    if problem is not None:
        return say(state, problem)
    return _sign(state, Withdrawal(terms=event.terms, theirs=event.signature))


# -- how they end -------------------------------------------------------------------------------


def end_withdrawals(state: Channel) -> tuple[Channel, tuple[Effect, ...]]:
    """Free what a confirmed block shows to be taken, or dead.

    Dead is what is past its time, and all of a channel that closes: the contract pays withdrawals
    of open channels only, and none opens again.
    """
    chain = state.chain
    if chain is None:
        return state, ()
    told: list[Effect] = []
    for side in Side:
        pending = state.withdrawals[side]
        if pending is None:
            continue
        taken = chain.withdrawn_ucent[side] >= pending.terms.total_ucent
        ends = chain.status in (ChainStatus.CLOSING, ChainStatus.CLOSED)
        dead = ends or chain.timestamp > pending.terms.expires
        if not taken and not dead:
            continue
        state = _with(state, side, None)
        if side is state.side:
            told.append(TellWithdrawal(terms=pending.terms, taken=taken))
    return state, tuple(told)


def push_withdrawals(state: Channel, moment: Moment) -> tuple[Channel, tuple[Effect, ...]]:
    """Do again what had no effect so far, while the withdrawal lives: offer it, or submit it.

    The side that accepted submits too: the other may never have read the acceptance.
    """
    effects: list[Effect] = []
    for side in Side:
        pending = state.withdrawals[side]
        if (
            pending is None
            or pending.ours is None
            or not pending.acted_at + ACT_AGAIN_SECONDS
            <= moment.head_timestamp
            <= pending.terms.expires
        ):
            continue
        if pending.theirs is not None:
            acted = replace(pending, acted_at=moment.head_timestamp)
            effects.append(SubmitWithdrawal(withdrawal=acted))
        elif state.phase in TALKING:
            acted = replace(pending, acted_at=moment.head_timestamp)
            effects.append(_offer(state, pending.terms, pending.ours))
        else:
            continue
        state = _with(state, side, acted)
    return state, tuple(effects)


def offer_again(state: Channel, moment: Moment) -> tuple[Effect, ...]:
    """What a new connection is told of our own withdrawal: its answer may have been lost."""
    pending = state.withdrawals[state.side]
    if pending is None or pending.theirs is not None or pending.ours is None:
        return ()
    if moment.head_timestamp > pending.terms.expires:
        return ()
    return (_offer(state, pending.terms, pending.ours),)


def drop_unsigned(state: Channel) -> Channel:
    """Forget what was being signed when the connection broke: no signature of ours exists."""
    for side in Side:
        pending = state.withdrawals[side]
        if pending is not None and pending.ours is None:
            state = _with(state, side, None)
    return state


def _with(state: Channel, side: Side, withdrawal: Withdrawal | None) -> Channel:
    both: Withdrawals = (
        (withdrawal, state.withdrawals[Side.B])
        if side is Side.A
        else (state.withdrawals[Side.A], withdrawal)
    )
    return replace(state, withdrawals=both)


def _terms_of(side: Side, message: WithdrawalOffer | WithdrawalAccept) -> WithdrawalTerms:
    return WithdrawalTerms(side=side, total_ucent=message.total_ucent, expires=message.expires)


def _offer(state: Channel, terms: WithdrawalTerms, signature: bytes) -> Send:
    return _say_signed(WithdrawalOffer, state, terms, signature)


def _accept(state: Channel, terms: WithdrawalTerms, signature: bytes) -> Send:
    return _say_signed(WithdrawalAccept, state, terms, signature)


def _say_signed(
    kind: type[WithdrawalOffer | WithdrawalAccept],
    state: Channel,
    terms: WithdrawalTerms,
    signature: bytes,
) -> Send:
    return Send(
        message=kind(
            channel=state.id,
            account=state.terms.account(terms.side),
            total_ucent=terms.total_ucent,
            expires=terms.expires,
            signature=signature,
        )
    )
