"""The core's edges: the last value that is still allowed, and each condition by itself.

Each test stands here because a mutant of the core survived without it; see docs/mutation.md.
"""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels import refusals
from farthing.channels.errors import FarthingError
from farthing.channels.events import (
    AskedClose,
    AskedPay,
    AskedWithdraw,
    Elapsed,
    Linked,
    ObservedChannel,
    Received,
    RecognisedOwn,
    Send,
    SubmitClose,
    SubmitWithdrawal,
    TellStopped,
    TellWithdrawal,
    Verified,
    VerifyVoucher,
    VerifyWithdrawal,
    WithdrawalSigned,
    WithdrawalVerified,
)
from farthing.channels.ids import ZERO_WORD
from farthing.channels.messages import (
    CloseOffer,
    CloseRequest,
    Error,
    Message,
    Reestablish,
    Update,
    WithdrawalOffer,
)
from farthing.channels.refusals import NotNow, OfferLifetime, OutOfTurn
from farthing.channels.state import (
    ACT_AGAIN_SECONDS,
    DOUBT_UNKNOWN,
    OFFER_SECONDS,
    OFFER_SECONDS_MAX,
    ChainStatus,
    ChainView,
    Channel,
    CloseTerms,
    Link,
    Phase,
    ReceivedLane,
    SentLane,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.channels.units import DEPOSIT_MAX, NONCE_MAX, TRANSFERRED_MAX
from farthing.channels.voucher import LaneTotal
from farthing.channels.withdrawing import WithdrawalPending

from ..people import (
    CHANNEL,
    DEPOSIT,
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
HISTORY = b"\x5a" * 32


def said(effects: tuple[Any, ...]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def codes(effects: tuple[Any, ...]) -> list[str]:
    return [message.code for message in said(effects) if isinstance(message, Error)]


def wish(side: Side, total_ucent: int = 100, expires: int = NOW + OFFER_SECONDS) -> WithdrawalTerms:
    return WithdrawalTerms(side=side, total_ucent=total_ucent, expires=expires)


def both_closed(expires: int = NOW + OFFER_SECONDS, **changes: Any) -> SignedClose:
    terms = CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=expires)
    return SignedClose(terms=terms, ours=OURS, **changes)


# -- words and codes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (AskedPay(payments=(payment(),)), "a payment is not possible"),
        (AskedClose(), "a close is not possible"),
        (AskedWithdraw(amount_ucent=1), "a withdrawal is not possible"),
    ],
)
def test_what_a_person_asked_for_is_refused_in_the_person_s_words(event: Any, words: str) -> None:
    with pytest.raises(NotNow, match=words):
        step(channel(chain=view(ChainStatus.CLOSED)), event, moment())


CODES = {
    refusals.NotNow: ("not-now", True),
    refusals.InsufficientBalance: ("insufficient-balance", False),
    refusals.NothingToPay: ("nothing-to-pay", False),
    refusals.TooManyUnacknowledged: ("too-many-unacknowledged", True),
    refusals.OutOfTurn: ("out-of-turn", False),
    refusals.FalseReceipt: ("false-receipt", False),
    refusals.StaleView: ("stale-view", True),
    refusals.OfferLifetime: ("offer-lifetime", False),
    refusals.BehindTheChain: ("behind-the-chain", False),
    refusals.SettlementsUnread: ("settlements-unread", True),
    WithdrawalPending: ("withdrawal-pending", True),
}
"""What programs match, and whether trying again helps: part of the protocol."""


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_a_refusal_keeps_its_code_and_says_whether_to_try_again(kind: type[FarthingError]) -> None:
    assert (kind.code, kind.retryable) == CODES[kind]


def test_a_refused_offer_says_when_it_ends_and_what_time_it_is() -> None:
    error = OfferLifetime(7, 9)
    assert (error.expires, error.head_timestamp) == (7, 9)


def test_the_times_of_offers_are_those_of_the_protocol() -> None:
    assert (OFFER_SECONDS, OFFER_SECONDS_MAX, ACT_AGAIN_SECONDS, DOUBT_UNKNOWN) == (90, 120, 15, 0)


def test_the_statuses_are_the_numbers_of_the_contract() -> None:
    assert [status.value for status in ChainStatus] == [0, 1, 2, 3]


# -- payments -----------------------------------------------------------------------------------


def update(first_nonce: int, *amounts: int) -> Update:
    payments = tuple(payment(amount, number=n) for n, amount in enumerate(amounts))
    return Update(channel=CHANNEL, first_nonce=first_nonce, signature=THEIRS, payments=payments)


def received(nonce: int, transferred_ucent: int) -> Channel:
    total = LaneTotal(nonce=nonce, transferred_ucent=transferred_ucent, history=HISTORY)
    rich = view(deposit_ucent=(0, 2**97))
    return channel(chain=rich, received=ReceivedLane(voucher=voucher(Side.B, total)))


def test_a_lane_is_filled_to_its_last_payment_and_its_last_microcent() -> None:
    last_nonce = received(NONCE_MAX - 1, NONCE_MAX - 1)
    last_ucent = received(1, TRANSFERRED_MAX - 1)
    for state, nonce in ((last_nonce, NONCE_MAX), (last_ucent, 2)):
        result = step(state, Received(message=update(nonce, 1)), moment())
        assert [type(effect) for effect in result.effects] == [VerifyVoucher]
    with pytest.raises(OutOfTurn, match="can hold"):
        step(last_nonce, Received(message=update(NONCE_MAX, 1, 1)), moment())
    with pytest.raises(OutOfTurn, match="can hold"):
        step(last_ucent, Received(message=update(2, 2)), moment())


def test_a_verification_of_what_never_came_is_refused() -> None:
    with pytest.raises(NotNow, match="not received"):
        step(channel(), Verified(voucher=voucher(Side.B, lane(5))), moment())


def test_who_was_asked_again_after_a_refusal_is_told_of_the_next_one_too() -> None:
    frozen = channel(close=both_closed(), refusing=True)
    assert step(frozen, Received(message=update(1, 1)), moment()).effects == ()
    asked_again = replace(frozen, asked_again=True)
    assert codes(step(asked_again, Received(message=update(1, 1)), moment()).effects) == ["not-now"]


# -- connections --------------------------------------------------------------------------------


def test_what_was_not_verified_on_the_last_connection_is_forgotten_on_the_next() -> None:
    state = step(channel(), Received(message=update(1, 5)), moment()).state
    assert state.received.unverified
    linked = step(state, Linked(), moment()).state
    assert linked.received == ReceivedLane()


@pytest.mark.parametrize("shown", [lane(2, 9), lane(1, 1, 9), lane(9)])
def test_a_restored_wallet_that_is_shown_a_fork_and_not_a_continuation_stops(
    shown: LaneTotal,
) -> None:
    ours = sent_lane(Side.A, 1, 1)
    state = channel(sent=ours, fresh_boot=True, link=Link.GREETING)
    lacking = shown.nonce > 2 and shown.transferred_ucent > 2
    result = step(state, RecognisedOwn(voucher=voucher(Side.A, shown)), moment())
    assert (result.state.phase is Phase.STOPPED) == (not lacking)
    assert any(isinstance(effect, TellStopped) for effect in result.effects) == (not lacking)


# -- closes -------------------------------------------------------------------------------------


def test_a_close_that_stands_is_neither_offered_nor_asked_for_again_by_a_new_connection() -> None:
    frozen = channel(close=both_closed(), we_want_close=True, peer_wants_close=True)
    shown = Reestablish(channel=CHANNEL, sent=None, received=None)
    for state in (frozen, replace(frozen, peer_wants_close=False)):
        result = step(state, Received(message=shown), moment())
        assert result.effects == ()
        assert result.state.close == frozen.close


def test_an_offer_to_close_while_a_payment_is_being_verified_is_out_of_turn() -> None:
    state = step(channel(we_want_close=False), Received(message=update(1, 5)), moment()).state
    offer = CloseOffer(
        channel=CHANNEL,
        transferred_a_ucent=0,
        transferred_b_ucent=0,
        expires=NOW + OFFER_SECONDS,
        signature=THEIRS,
    )
    with pytest.raises(OutOfTurn, match="in flight"):
        step(replace(state, we_want_close=True), Received(message=offer), moment())


def test_when_a_close_has_died_the_peer_is_asked_again_even_if_it_was_asked_before() -> None:
    state = channel(close=both_closed(expires=NOW - 1), refusing=True, asked_again=True)
    result = step(state, ObservedChannel(view=view(timestamp=NOW)), moment())
    assert result.state.close is None
    assert [type(message) for message in said(result.effects)] == [Reestablish]


def test_a_close_that_only_we_have_signed_is_never_submitted() -> None:
    alone = channel(close=both_closed(submitted_at=NOW - ACT_AGAIN_SECONDS))
    assert step(alone, Elapsed(), moment()).effects == ()
    both = replace(alone, close=both_closed(theirs=THEIRS, submitted_at=NOW - ACT_AGAIN_SECONDS))
    (effect,) = step(both, Elapsed(), moment()).effects
    assert isinstance(effect, SubmitClose)


def test_a_close_is_submitted_again_up_to_its_last_second_and_not_once_it_is_done() -> None:
    close = both_closed(expires=NOW, theirs=THEIRS, submitted_at=NOW - ACT_AGAIN_SECONDS)
    assert step(channel(close=close), Elapsed(), moment()).effects == (
        SubmitClose(close=replace(close, submitted_at=NOW)),
    )
    for state in (
        channel(close=close, chain=view(ChainStatus.CLOSED)),
        channel(close=close, chain=None),
        channel(close=replace(close, submitted_at=NOW - ACT_AGAIN_SECONDS + 1)),
    ):
        assert step(state, Elapsed(), moment()).effects == ()


# -- withdrawals --------------------------------------------------------------------------------


def offer(total_ucent: int, expires: int = NOW + OFFER_SECONDS) -> WithdrawalOffer:
    return WithdrawalOffer(
        channel=CHANNEL,
        account=TERMS.account_b,
        total_ucent=total_ucent,
        expires=expires,
        signature=THEIRS,
    )


def holding(side: Side, withdrawal: Withdrawal, **changes: Any) -> Channel:
    both = (withdrawal, None) if side is Side.A else (None, withdrawal)
    return channel(withdrawals=both, **changes)


def test_the_largest_withdrawal_there_is_is_checked_and_one_more_is_refused() -> None:
    rich = channel(chain=view(deposit_ucent=(0, 2 * DEPOSIT_MAX)))
    (effect,) = step(rich, Received(message=offer(DEPOSIT_MAX)), moment()).effects
    assert isinstance(effect, VerifyWithdrawal)
    more = step(rich, Received(message=offer(DEPOSIT_MAX + 1)), moment())
    assert codes(more.effects) == ["amount-out-of-range"]


def test_what_was_withdrawn_before_counts_once_in_the_next_one() -> None:
    state = channel(chain=view(deposit_ucent=(0, DEPOSIT), withdrawn_ucent=(0, DEPOSIT - 10)))
    (effect,) = step(state, Received(message=offer(DEPOSIT)), moment()).effects
    assert isinstance(effect, VerifyWithdrawal)


def test_a_signature_on_another_withdrawal_than_the_one_being_signed_is_refused() -> None:
    state = holding(Side.A, Withdrawal(terms=wish(Side.A)))
    other = WithdrawalSigned(terms=wish(Side.A, total_ucent=99), signature=OURS)
    with pytest.raises(NotNow, match="not being signed"):
        step(state, other, moment())


def test_a_second_signature_on_what_we_have_not_signed_is_refused() -> None:
    state = holding(Side.A, Withdrawal(terms=wish(Side.A)))
    with pytest.raises(NotNow, match="than the one offered"):
        step(state, WithdrawalVerified(terms=wish(Side.A), signature=THEIRS), moment())


def test_what_both_have_signed_is_submitted_again_only_after_a_while() -> None:
    late = moment(NOW + ACT_AGAIN_SECONDS)
    terms = wish(Side.A, expires=NOW + 5 * ACT_AGAIN_SECONDS)
    state = holding(Side.A, Withdrawal(terms=terms, ours=OURS))
    state = step(state, WithdrawalVerified(terms=terms, signature=THEIRS), late).state
    assert step(state, Elapsed(), late).effects == ()
    last = moment(NOW + 5 * ACT_AGAIN_SECONDS)
    (effect,) = step(state, Elapsed(), last).effects
    assert isinstance(effect, SubmitWithdrawal)
    assert effect.withdrawal.acted_at == last.head_timestamp
    again = step(state, Elapsed(), last).state
    assert step(again, Elapsed(), last).effects == ()
    assert step(state, Elapsed(), moment(NOW + 5 * ACT_AGAIN_SECONDS + 1)).effects == ()


def test_an_unanswered_offer_is_sent_again_once_in_a_while_also_in_its_last_second() -> None:
    pending = Withdrawal(terms=wish(Side.A, expires=NOW), ours=OURS, acted_at=NOW - 15)
    result = step(holding(Side.A, pending), Elapsed(), moment())
    assert [type(message) for message in said(result.effects)] == [WithdrawalOffer]
    assert step(result.state, Elapsed(), moment()).effects == ()
    greeting = holding(Side.A, replace(pending, acted_at=NOW), link=Link.GREETING)
    shown = Reestablish(channel=CHANNEL, sent=None, received=None)
    result = step(greeting, Received(message=shown), moment())
    assert [type(message) for message in said(result.effects)] == [WithdrawalOffer]


def test_each_side_s_withdrawal_ends_and_is_pushed_whatever_the_other_s_does() -> None:
    ours = Withdrawal(terms=wish(Side.A), ours=OURS, acted_at=NOW)
    theirs = Withdrawal(
        terms=wish(Side.B, total_ucent=50), ours=OURS, theirs=THEIRS, acted_at=NOW - 20
    )
    state = channel(withdrawals=(ours, theirs))
    result = step(state, Elapsed(), moment())
    assert [type(effect) for effect in result.effects] == [SubmitWithdrawal]
    taken = view(withdrawn_ucent=(0, 50))
    ended = step(state, ObservedChannel(view=taken), moment())
    assert ended.state.withdrawals == (ours, None)
    mirrored = replace(state, side=Side.B)
    told = step(mirrored, ObservedChannel(view=taken), moment()).effects
    assert [type(effect) for effect in told] == [TellWithdrawal]


def test_a_peer_that_is_away_is_sent_no_offer_and_what_follows_is_still_submitted() -> None:
    ours = Withdrawal(terms=wish(Side.A), ours=OURS, acted_at=NOW - 20)
    theirs = Withdrawal(
        terms=wish(Side.B, total_ucent=50), ours=OURS, theirs=THEIRS, acted_at=NOW - 20
    )
    state = channel(withdrawals=(ours, theirs), link=Link.DOWN)
    result = step(state, Elapsed(), moment())
    assert [type(effect) for effect in result.effects] == [SubmitWithdrawal]
    assert result.state.withdrawals[Side.A] == ours


# -- what a state implies -----------------------------------------------------------------------


def test_a_view_without_amounts_says_that_there_are_none() -> None:
    empty = ChainView(block=1, timestamp=2, status=ChainStatus.OPEN)
    assert empty.deposit_ucent == empty.withdrawn_ucent == empty.settled_ucent == (0, 0)
    assert (empty.deadline_seconds, empty.deadline_block) == (0, 0)


def test_records_begin_with_nothing_submitted_and_nothing_acted_on() -> None:
    assert both_closed().submitted_at == 0
    assert Withdrawal(terms=wish(Side.A)).acted_at == 0


def test_what_nothing_is_known_of_was_not_withdrawn() -> None:
    unseen = channel(chain=None)
    assert [unseen.withdrawn_ucent(side) for side in Side] == [0, 0]
    assert [unseen.owned_ucent(side) for side in Side] == [0, 0]


def test_each_kind_of_offer_and_each_wait_makes_a_channel_wait_for_time() -> None:
    quiet = channel()
    assert quiet.has_offers is False
    assert quiet.waits_for_time is False
    pending = Withdrawal(terms=wish(Side.A))
    for offers in (
        replace(quiet, close=both_closed()),
        replace(quiet, withdrawals=(pending, None)),
        replace(quiet, withdrawals=(None, pending)),
    ):
        assert offers.has_offers is True
        assert offers.waits_for_time is True
    assert replace(quiet, refusing=True).waits_for_time is True
    assert replace(quiet, doubt_ends=NOW).waits_for_time is True


def test_what_is_signed_already_is_no_broken_invariant_when_the_chain_takes_money_away() -> None:
    """A chain view may lower a balance below zero: only what is still to be signed must fit."""
    poor = view(deposit_ucent=(0, 0))
    channel(chain=poor, sent=sent_lane(Side.A, 5)).check_invariants()
    ours = Withdrawal(terms=wish(Side.A), ours=OURS)
    channel(chain=poor, withdrawals=(ours, None)).check_invariants()
    theirs = Withdrawal(terms=wish(Side.B), ours=OURS)
    channel(chain=poor, withdrawals=(None, theirs)).check_invariants()


def test_an_empty_lane_is_a_lane_and_asks_for_nothing() -> None:
    assert SentLane().total == ReceivedLane().total == LaneTotal()
    assert LaneTotal().history == ZERO_WORD
    request = step(channel(we_want_close=True), Elapsed(), moment())
    assert not any(isinstance(message, CloseRequest) for message in said(request.effects))


@pytest.mark.parametrize(
    ("before", "after", "is_doubt"),
    [
        (ChainStatus.CLOSING, ChainStatus.CLOSED, False),
        (ChainStatus.CLOSING, ChainStatus.CLOSING, False),
        (ChainStatus.CLOSING, ChainStatus.OPEN, True),
        (ChainStatus.CLOSING, ChainStatus.NEVER, True),
        (ChainStatus.CLOSED, ChainStatus.NEVER, True),
        (ChainStatus.OPEN, ChainStatus.NEVER, False),
    ],
)
def test_only_a_close_that_is_undone_may_revive_a_forgotten_offer(
    before: ChainStatus,
    after: ChainStatus,
    is_doubt: bool,
) -> None:
    later = view(after, block=101)
    result = step(channel(chain=view(before)), ObservedChannel(view=later), moment())
    assert (result.state.doubt_ends is not None) == is_doubt
