"""Withdrawing in agreement: what is signed is reserved, until the chain shows how it ended."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.errors import InvariantBroken
from farthing.channels.events import (
    AskedPay,
    AskedWithdraw,
    Elapsed,
    ObservedChannel,
    Received,
    Send,
    SignWithdrawal,
    Step,
    SubmitWithdrawal,
    TellWithdrawal,
    Unlinked,
    VerifyWithdrawal,
    WithdrawalSigned,
    WithdrawalVerified,
)
from farthing.channels.messages import Error, Reestablish, WithdrawalAccept, WithdrawalOffer
from farthing.channels.refusals import InsufficientBalance, NotNow, OutOfTurn, StaleView
from farthing.channels.state import (
    ACT_AGAIN_SECONDS,
    OFFER_SECONDS,
    OFFER_SECONDS_MAX,
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    Moment,
    Phase,
    ReceivedLane,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.channels.units import DEPOSIT_MAX, AmountOutOfRange
from farthing.channels.withdrawing import NothingToWithdraw, WithdrawalPending

from ..people import CHANNEL, DEPOSIT, NOW, TERMS, channel, lane, moment, payment, view, voucher

OURS, THEIRS = b"\x01" * 65, b"\x02" * 65
STALE = moment(view_age_seconds=TERMS.challenge_seconds)


def wish(side: Side, total_ucent: int = 100, expires: int = NOW + OFFER_SECONDS) -> WithdrawalTerms:
    return WithdrawalTerms(side=side, total_ucent=total_ucent, expires=expires)


def holding(side: Side, withdrawal: Withdrawal, **changes: Any) -> Channel:
    """Side A, with a withdrawal under way for one of the accounts."""
    both = (withdrawal, None) if side is Side.A else (None, withdrawal)
    return channel(withdrawals=both, **changes)


def offered(**changes: Any) -> Channel:
    """A after it sent its offer of 100 µ¢."""
    return holding(Side.A, Withdrawal(terms=wish(Side.A), ours=OURS, acted_at=NOW), **changes)


def both_signed(side: Side) -> Withdrawal:
    return Withdrawal(terms=wish(side), ours=OURS, theirs=THEIRS, acted_at=NOW)


def agreed(side: Side = Side.A, **changes: Any) -> Channel:
    """A, with a withdrawal that both have signed."""
    return holding(side, both_signed(side), **changes)


def said(
    kind: type[Any], terms: WithdrawalTerms, signature: bytes = THEIRS, **changes: Any
) -> Received:
    fields: dict[str, Any] = {
        "channel": CHANNEL,
        "account": TERMS.account(terms.side),
        "total_ucent": terms.total_ucent,
        "expires": terms.expires,
        "signature": signature,
    }
    return Received(message=kind(**(fields | changes)))


def messages(result: Step) -> list[Any]:
    return [effect.message for effect in result.effects if isinstance(effect, Send)]


def error_code(result: Step) -> str:
    (error,) = messages(result)
    assert isinstance(error, Error)
    return error.code


def seen(state: Channel, **changes: Any) -> Step:
    """A confirmed block that says this of the channel."""
    fields = {"block": 101, "timestamp": NOW + 1} | changes
    head = fields["timestamp"]
    later = replace(moment(head), head_timestamp=head, head_seen=head)
    return step(state, ObservedChannel(view=view(**fields)), later)


# -- our own ------------------------------------------------------------------------------------


def test_the_amount_is_reserved_before_the_signature_and_offered_after_it() -> None:
    asked = step(channel(), AskedWithdraw(amount_ucent=100), moment())
    assert asked.effects == (SignWithdrawal(terms=wish(Side.A)),)
    assert asked.state.our_balance_ucent() == DEPOSIT - 100
    result = step(asked.state, WithdrawalSigned(terms=wish(Side.A), signature=OURS), moment())
    assert messages(result) == [said(WithdrawalOffer, wish(Side.A), OURS).message]
    assert result.state.phase is Phase.LIVE


def test_totals_are_cumulative() -> None:
    state = channel(chain=view(withdrawn_ucent=(40, 0)))
    asked = step(state, AskedWithdraw(amount_ucent=100), moment())
    assert asked.effects == (SignWithdrawal(terms=wish(Side.A, 140)),)


def test_what_is_reserved_cannot_be_paid() -> None:
    with pytest.raises(InsufficientBalance):
        step(offered(), AskedPay(payments=(payment(DEPOSIT - 99),)), moment())
    assert step(offered(), AskedPay(payments=(payment(DEPOSIT - 100),)), moment()).effects


def test_what_was_promised_cannot_be_withdrawn() -> None:
    paid = step(channel(), AskedPay(payments=(payment(DEPOSIT - 99),)), moment()).state
    with pytest.raises(InsufficientBalance):
        step(paid, AskedWithdraw(amount_ucent=100), moment())
    assert step(paid, AskedWithdraw(amount_ucent=99), moment()).effects


def test_what_was_received_can_be_withdrawn_and_what_is_unverified_cannot() -> None:
    rich = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5))))
    assert step(rich, AskedWithdraw(amount_ucent=DEPOSIT + 5), moment()).effects
    unsure = channel(received=ReceivedLane(unverified=(payment(5),), unverified_totals=(lane(5),)))
    with pytest.raises(InsufficientBalance):
        step(unsure, AskedWithdraw(amount_ucent=DEPOSIT + 5), moment())


@pytest.mark.parametrize("amount_ucent", [0, -1, DEPOSIT_MAX + 1])
def test_an_amount_that_no_channel_holds_is_refused(amount_ucent: int) -> None:
    with pytest.raises(AmountOutOfRange):
        step(channel(), AskedWithdraw(amount_ucent=amount_ucent), moment())


def test_a_total_beyond_the_contract_s_field_is_refused() -> None:
    chain = view(deposit_ucent=(DEPOSIT_MAX, DEPOSIT_MAX), withdrawn_ucent=(DEPOSIT_MAX - 1, 0))
    rich = channel(
        chain=chain, received=ReceivedLane(voucher=voucher(Side.B, lane(DEPOSIT_MAX - 1)))
    )
    with pytest.raises(AmountOutOfRange) as caught:
        step(rich, AskedWithdraw(amount_ucent=2), moment())
    assert caught.value.maximum_ucent == 1
    assert step(rich, AskedWithdraw(amount_ucent=1), moment()).effects


def test_one_withdrawal_at_a_time() -> None:
    with pytest.raises(WithdrawalPending) as caught:
        step(offered(), AskedWithdraw(amount_ucent=1), moment())
    assert caught.value.pending == wish(Side.A)
    assert str(NOW + OFFER_SECONDS) in str(caught.value)


def test_nothing_is_offered_on_a_stale_view() -> None:
    with pytest.raises(StaleView, match="is 3600 s old, over the 900 allowed"):
        step(channel(), AskedWithdraw(amount_ucent=1), STALE)


def test_nothing_is_offered_before_a_block_was_read() -> None:
    just_started = Moment(now=NOW, head_block=0, head_timestamp=0, head_seen=0)
    with pytest.raises(StaleView, match="no block was read yet"):
        step(channel(), AskedWithdraw(amount_ucent=1), just_started)


def test_a_signature_that_nobody_asked_for_is_refused() -> None:
    for state in (channel(), offered()):
        with pytest.raises(NotNow):
            step(state, WithdrawalSigned(terms=wish(Side.A), signature=OURS), moment())


def test_an_acceptance_is_checked_and_then_submitted() -> None:
    checked = step(offered(), said(WithdrawalAccept, wish(Side.A)), moment())
    assert checked.effects == (VerifyWithdrawal(terms=wish(Side.A), signature=THEIRS),)
    verified = WithdrawalVerified(terms=wish(Side.A), signature=THEIRS)
    result = step(checked.state, verified, moment())
    assert result.effects == (SubmitWithdrawal(withdrawal=both_signed(Side.A)),)
    assert result.state == agreed()


def test_an_acceptance_arrives_even_though_a_close_was_signed_meanwhile() -> None:
    close = SignedClose(
        terms=CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=NOW + 90), ours=OURS
    )
    frozen = offered(close=close)
    assert frozen.phase is Phase.FROZEN
    assert step(frozen, said(WithdrawalAccept, wish(Side.A)), moment()).effects


@pytest.mark.parametrize(
    "state",
    [
        channel(),
        offered(),
        holding(Side.A, Withdrawal(terms=wish(Side.A, 99))),
    ],
    ids=["nothing is offered", "another total", "not signed yet"],
)
def test_an_acceptance_of_something_else_harms_nobody(state: Channel) -> None:
    result = step(state, said(WithdrawalAccept, wish(Side.A, 99)), moment())
    assert error_code(result) == "not-now"
    assert result.state == state


def test_an_acceptance_for_another_account_is_out_of_turn() -> None:
    with pytest.raises(OutOfTurn):
        step(offered(), said(WithdrawalAccept, wish(Side.B)), moment())


def test_a_repeated_acceptance_does_nothing() -> None:
    assert step(agreed(), said(WithdrawalAccept, wish(Side.A)), moment()) == Step(state=agreed())


def test_a_verification_of_another_withdrawal_is_refused() -> None:
    other = WithdrawalVerified(terms=wish(Side.A, 99), signature=THEIRS)
    for state in (channel(), offered()):
        with pytest.raises(NotNow):
            step(state, other, moment())


# -- the peer's ---------------------------------------------------------------------------------


def test_the_peer_s_offer_is_checked_reserved_signed_and_answered() -> None:
    checked = step(channel(), said(WithdrawalOffer, wish(Side.B)), moment())
    assert checked.effects == (VerifyWithdrawal(terms=wish(Side.B), signature=THEIRS),)
    assert checked.state == channel()
    verified = WithdrawalVerified(terms=wish(Side.B), signature=THEIRS)
    reserved = step(checked.state, verified, moment())
    assert reserved.effects == (SignWithdrawal(terms=wish(Side.B)),)
    assert reserved.state.peer_balance_ucent(0) == DEPOSIT - 100
    signed = WithdrawalSigned(terms=wish(Side.B), signature=OURS)
    result = step(reserved.state, signed, moment())
    assert messages(result) == [said(WithdrawalAccept, wish(Side.B), OURS).message]
    assert result.state == agreed(Side.B)


def test_the_same_offer_again_is_answered_with_the_same_signature() -> None:
    result = step(agreed(Side.B), said(WithdrawalOffer, wish(Side.B)), moment(NOW + 60))
    assert messages(result) == [said(WithdrawalAccept, wish(Side.B), OURS).message]
    assert result.state == agreed(Side.B)


def test_the_peer_gets_out_all_that_it_owns_and_no_microcent_more() -> None:
    paid = ReceivedLane(voucher=voucher(Side.B, lane(30)))
    state = channel(received=paid, sent=channel().sent)
    most = DEPOSIT - 30
    assert step(state, said(WithdrawalOffer, wish(Side.B, most)), moment()).effects == (
        VerifyWithdrawal(terms=wish(Side.B, most), signature=THEIRS),
    )
    result = step(state, said(WithdrawalOffer, wish(Side.B, most + 1)), moment())
    assert error_code(result) == "insufficient-balance"


def test_what_the_peer_has_claimed_to_pay_counts_as_paid_before_it_is_verified() -> None:
    unverified = ReceivedLane(unverified=(payment(30),), unverified_totals=(lane(30),))
    offer = said(WithdrawalOffer, wish(Side.B, DEPOSIT - 29))
    assert error_code(step(channel(received=unverified), offer, moment())) == "insufficient-balance"


@pytest.mark.parametrize(
    ("state", "terms", "when", "code"),
    [
        (channel(), wish(Side.B), STALE, "stale-view"),
        (channel(), wish(Side.B, expires=NOW), moment(), "offer-lifetime"),
        (
            channel(),
            wish(Side.B, expires=NOW + OFFER_SECONDS_MAX + 1),
            moment(),
            "offer-lifetime",
        ),
        (channel(), wish(Side.B, 0), moment(), "nothing-to-withdraw"),
        (
            channel(chain=view(withdrawn_ucent=(0, 100))),
            wish(Side.B),
            moment(),
            "nothing-to-withdraw",
        ),
        (channel(), wish(Side.B, DEPOSIT_MAX + 1), moment(), "amount-out-of-range"),
        (agreed(Side.B), wish(Side.B, 101), moment(), "withdrawal-pending"),
        (
            holding(Side.B, Withdrawal(terms=wish(Side.B))),
            wish(Side.B),
            moment(),
            "withdrawal-pending",
        ),
    ],
)
def test_an_offer_is_refused_with_its_reason_and_nothing_is_signed(
    state: Channel, terms: WithdrawalTerms, when: Any, code: str
) -> None:
    result = step(state, said(WithdrawalOffer, terms), when)
    assert error_code(result) == code
    assert result.state == state
    pending = state.withdrawals[Side.B]
    if pending is None or pending.terms != terms:
        again = step(state, WithdrawalVerified(terms=terms, signature=THEIRS), when)
        assert error_code(again) == code
        assert again.state == state


def test_an_offer_that_lives_as_long_as_one_may_is_taken() -> None:
    longest = wish(Side.B, expires=NOW + OFFER_SECONDS_MAX)
    assert step(channel(), said(WithdrawalOffer, longest), moment()).effects


def test_a_refusal_names_the_totals() -> None:
    error = NothingToWithdraw(5, 7)
    assert (error.total_ucent, error.withdrawn_ucent) == (5, 7)


def test_an_offer_of_our_own_account_is_out_of_turn() -> None:
    with pytest.raises(OutOfTurn):
        step(channel(), said(WithdrawalOffer, wish(Side.A)), moment())


def test_nothing_is_countersigned_once_a_close_is_signed() -> None:
    close = SignedClose(
        terms=CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=NOW + 90), ours=OURS
    )
    frozen = channel(close=close)
    assert error_code(step(frozen, said(WithdrawalOffer, wish(Side.B)), moment())) == "not-now"
    with pytest.raises(NotNow):
        step(frozen, WithdrawalVerified(terms=wish(Side.B), signature=THEIRS), moment())


# -- how they end -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_a_withdrawal_is_over_once_the_chain_shows_it(side: Side) -> None:
    taken = (100, 0) if side is Side.A else (0, 100)
    result = seen(agreed(side), withdrawn_ucent=taken)
    assert result.state.withdrawals == (None, None)
    assert result.state.owned_ucent(side) == DEPOSIT - 100
    told = (TellWithdrawal(terms=wish(side), taken=True),)
    assert result.effects == (told if side is Side.A else ())


@pytest.mark.parametrize("side", Side)
def test_a_withdrawal_is_dead_only_when_a_confirmed_block_is_later_than_its_expiry(
    side: Side,
) -> None:
    alive = seen(agreed(side), timestamp=NOW + OFFER_SECONDS)
    assert alive.state.withdrawals[side] is not None
    late = moment(NOW + 10 * OFFER_SECONDS)  # whatever the wall clock says
    assert step(agreed(side), Elapsed(), late).state.withdrawals[side] is not None
    dead = seen(agreed(side), timestamp=NOW + OFFER_SECONDS + 1)
    assert dead.state.withdrawals == (None, None)
    assert dead.state.owned_ucent(side) == DEPOSIT
    told = (TellWithdrawal(terms=wish(side), taken=False),)
    assert dead.effects == (told if side is Side.A else ())


@pytest.mark.parametrize("status", [ChainStatus.CLOSING, ChainStatus.CLOSED])
def test_a_channel_that_closes_ends_its_withdrawals(status: ChainStatus) -> None:
    result = seen(agreed(), status=status)
    assert result.effects == (TellWithdrawal(terms=wish(Side.A), taken=False),)


def test_a_withdrawal_that_does_not_appear_is_submitted_again_until_it_is_dead() -> None:
    early = seen(agreed(), timestamp=NOW + ACT_AGAIN_SECONDS - 1)
    assert early.effects == ()
    again = seen(agreed(), timestamp=NOW + ACT_AGAIN_SECONDS)
    (effect,) = again.effects
    assert isinstance(effect, SubmitWithdrawal)
    assert effect.withdrawal.acted_at == NOW + ACT_AGAIN_SECONDS
    once = seen(again.state, block=102, timestamp=NOW + ACT_AGAIN_SECONDS + 1)
    assert once.effects == ()


def test_the_side_that_accepted_submits_too_if_nothing_appears() -> None:
    (effect,) = seen(agreed(Side.B), timestamp=NOW + ACT_AGAIN_SECONDS).effects
    assert isinstance(effect, SubmitWithdrawal)


def test_an_offer_without_an_answer_is_sent_again() -> None:
    again = seen(offered(), timestamp=NOW + ACT_AGAIN_SECONDS)
    assert messages(again) == [said(WithdrawalOffer, wish(Side.A), OURS).message]
    down = seen(offered(link=Link.DOWN), timestamp=NOW + ACT_AGAIN_SECONDS)
    assert down.effects == ()
    unsigned = holding(Side.A, Withdrawal(terms=wish(Side.A)))
    assert seen(unsigned, timestamp=NOW + ACT_AGAIN_SECONDS).effects == ()


@pytest.mark.parametrize(
    ("state", "when", "offers"),
    [
        (offered(link=Link.GREETING), moment(), 1),
        (offered(link=Link.GREETING), moment(NOW + OFFER_SECONDS + 1), 0),
        (agreed(link=Link.GREETING), moment(), 0),
        (holding(Side.A, Withdrawal(terms=wish(Side.A)), link=Link.GREETING), moment(), 0),
        (channel(link=Link.GREETING), moment(), 0),
    ],
    ids=["unanswered", "dead", "answered", "not signed", "none"],
)
def test_a_new_connection_is_told_of_an_offer_that_waits_for_its_answer(
    state: Channel, when: Any, offers: int
) -> None:
    shown = Received(message=Reestablish(channel=CHANNEL, sent=None, received=None))
    assert len(messages(step(state, shown, when))) == offers


def test_what_was_never_signed_is_forgotten_with_the_connection() -> None:
    for side in Side:
        unsigned = holding(side, Withdrawal(terms=wish(side)))
        assert step(unsigned, Unlinked(), moment()).state.withdrawals == (None, None)
        assert step(agreed(side), Unlinked(), moment()).state.withdrawals[side] is not None


def test_a_withdrawal_before_the_chain_was_seen_stays_as_it_is() -> None:
    state = agreed(chain=None)
    assert step(state, Elapsed(), moment()).state == state


# -- invariants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_signing_away_what_is_not_owned_is_an_impossible_state(side: Side) -> None:
    too_much = wish(side, DEPOSIT + 1)
    with pytest.raises(InvariantBroken):
        holding(side, Withdrawal(terms=too_much)).check_invariants()
    holding(side, Withdrawal(terms=wish(side, DEPOSIT))).check_invariants()
