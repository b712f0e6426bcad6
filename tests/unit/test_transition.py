"""What may happen to a channel, and what follows: paying, being paid, connecting, refusing."""

import typing
from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.errors import FarthingError, InvariantBroken, LocalError
from farthing.channels.events import (
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
    RecogniseOwn,
    RecordReceived,
    RecordSent,
    Send,
    SendStored,
    Signed,
    SignVoucher,
    Step,
    TellAcknowledged,
    TellReceived,
    TellStopped,
    Unlinked,
    Unverifiable,
    Verified,
    VerifyVoucher,
    WithdrawalSigned,
    WithdrawalVerified,
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
    WithdrawalAccept,
    WithdrawalOffer,
)
from farthing.channels.packed import PAYMENTS_MAX
from farthing.channels.receipt import RECEIPT_BYTES_MAX, Receipt, ReceiptType, make_receipt
from farthing.channels.refusals import (
    FalseReceipt,
    InsufficientBalance,
    NothingToPay,
    NotNow,
    OutOfTurn,
    TooManyUnacknowledged,
    check_receipts,
)
from farthing.channels.state import (
    OFFER_SECONDS_MAX,
    UNACKNOWLEDGED_MAX,
    ChainStatus,
    CloseTerms,
    Link,
    Phase,
    ReceivedLane,
    SentLane,
    SignedClose,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.transition import TRANSITIONS, step
from farthing.channels.units import NONCE_MAX, TRANSFERRED_MAX
from farthing.channels.voucher import LaneTotal, Payment, replay

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

CLOSE = CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=NOW + 90)
IN_PHASE: dict[Phase, dict[str, Any]] = {
    Phase.STOPPED: {"stopped": "a clone"},
    Phase.UNCONFIRMED: {"chain": None},
    Phase.CLOSED: {"chain": view(ChainStatus.CLOSED)},
    Phase.CLOSING: {"chain": view(ChainStatus.CLOSING)},
    Phase.RESTORED: {"doubt_ends": NOW + OFFER_SECONDS_MAX},
    Phase.FROZEN: {"close": SignedClose(terms=CLOSE, ours=bytes(65))},
    Phase.DOWN: {"link": Link.DOWN},
    Phase.GREETING: {"link": Link.GREETING},
    Phase.DRAINING: {"we_want_close": True},
    Phase.LIVE: {},
}
CLOSE_FIELDS: dict[str, Any] = {
    "channel": CHANNEL,
    "transferred_a_ucent": 0,
    "transferred_b_ucent": 0,
    "expires": 5,
    "signature": bytes(65),
}
WITHDRAWAL = WithdrawalTerms(side=Side.A, total_ucent=1, expires=NOW + 90)
WITHDRAWAL_FIELDS: dict[str, Any] = {
    "channel": CHANNEL,
    "account": TERMS.account_b,
    "total_ucent": 1,
    "expires": 5,
    "signature": bytes(65),
}
SAMPLES: dict[type[Any], Any] = {
    type(sample): sample
    for sample in (
        Linked(),
        Unlinked(),
        ObservedChannel(view=view()),
        Elapsed(),
        AskedPay(payments=(payment(),)),
        AskedClose(),
        Signed(voucher=voucher(Side.A, lane(1))),
        Verified(voucher=voucher(Side.B, lane(1))),
        Unverifiable(reason="the signature is not by bob"),
        RecognisedOwn(voucher=voucher(Side.A, lane(1))),
        CloseSigned(terms=CLOSE, signature=bytes(65)),
        CloseVerified(terms=CLOSE, signature=bytes(65)),
        Reestablish(channel=CHANNEL, sent=None, received=None),
        Update(channel=CHANNEL, first_nonce=1, signature=bytes(65), payments=(payment(),)),
        Ack(channel=CHANNEL, nonce=1, history=ZERO_WORD),
        CloseRequest(channel=CHANNEL),
        CloseOffer(**CLOSE_FIELDS),
        CloseAccept(**CLOSE_FIELDS),
        AskedWithdraw(amount_ucent=1),
        WithdrawalSigned(terms=WITHDRAWAL, signature=bytes(65)),
        WithdrawalVerified(terms=WITHDRAWAL, signature=bytes(65)),
        WithdrawalOffer(**WITHDRAWAL_FIELDS),
        WithdrawalAccept(**WITHDRAWAL_FIELDS),
    )
}
MESSAGE_KINDS = set(typing.get_args(ChannelMessage))
EVENT_KINDS = set(typing.get_args(Event)) - {Received}

NOT_ALLOWED = [
    (kind, phase)
    for kind, (phases, _) in TRANSITIONS.items()
    for phase in Phase
    if phase not in phases
]


def event_of(subject: Any) -> Event:
    return Received(message=subject) if type(subject) in MESSAGE_KINDS else subject


def update(
    *amounts: int, first: int = 1, payer: Side = Side.B, before: LaneTotal | None = None
) -> Update:
    """An update whose payments are numbered on from the first, really signed by the payer."""
    payments = tuple(payment(amount, number=first + n) for n, amount in enumerate(amounts))
    total = replay(before or LaneTotal(), payments)[-1]
    return Update(
        channel=CHANNEL,
        first_nonce=first,
        signature=voucher(payer, total).signature,
        payments=payments,
    )


def received(*amounts: int, payer: Side = Side.B) -> ReceivedLane:
    return ReceivedLane(voucher=voucher(payer, lane(*amounts)))


def shown(total: LaneTotal, payer: Side) -> SignedTotal:
    return SignedTotal(total=total, conditions=ZERO_WORD, signature=voucher(payer, total).signature)


def reestablish(
    of_theirs: LaneTotal | None = None, of_ours: LaneTotal | None = None, us: Side = Side.A
) -> Received:
    """What the peer shows: its own lane, and what it has received of ours."""
    return Received(
        message=Reestablish(
            channel=CHANNEL,
            sent=None if of_theirs is None else shown(of_theirs, us.other),
            received=None if of_ours is None else shown(of_ours, us),
        )
    )


def only(result: Step, kind: type[Any]) -> Any:
    """The one effect there is, of the kind expected."""
    (effect,) = result.effects
    assert isinstance(effect, kind)
    return effect


def sent_messages(effects: typing.Iterable[Effect]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def error_of(result: Step) -> Error:
    message = only(result, Send).message
    assert isinstance(message, Error)
    assert message.channel == CHANNEL
    assert message.what_to_do
    return message


# -- the table ----------------------------------------------------------------------------------


def test_every_event_and_every_message_of_a_channel_has_a_row_and_nothing_else_has() -> None:
    assert set(TRANSITIONS) == EVENT_KINDS | MESSAGE_KINDS == set(SAMPLES)


def test_every_phase_has_a_sample_here() -> None:
    assert {phase: channel(**changes).phase for phase, changes in IN_PHASE.items()} == {
        phase: phase for phase in Phase
    }


@pytest.mark.parametrize(
    ("kind", "phase"), NOT_ALLOWED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_what_the_table_does_not_allow_is_refused_aloud_and_changes_no_lane(
    kind: type[Any], phase: Phase
) -> None:
    state = channel(**IN_PHASE[phase])
    event = event_of(SAMPLES[kind])
    if not isinstance(event, Received):
        with pytest.raises(NotNow, match=phase.value) as caught:
            step(state, event, moment())
        assert caught.value.phase is phase
        return
    result = step(state, event, moment())
    assert error_of(result).code == "not-now"
    refusing = kind is Update  # it is asked for again; a request or an answer is not
    assert result.state == replace(state, refusing=refusing)


def test_time_the_chain_and_the_end_of_a_connection_are_taken_in_every_phase() -> None:
    for kind in (Unlinked, Elapsed, ObservedChannel):
        assert TRANSITIONS[kind][0] == frozenset(Phase)


def test_a_state_that_must_be_impossible_stops_the_step() -> None:
    impossible = channel(received=ReceivedLane(unverified=(payment(),)))
    with pytest.raises(InvariantBroken):
        step(impossible, Elapsed(), moment())


# -- connecting ---------------------------------------------------------------------------------


def test_a_connection_begins_with_our_newest_vouchers() -> None:
    state = channel(
        link=Link.DOWN,
        refusing=True,
        asked_again=True,
        peer_wants_close=True,
        sent=sent_lane(Side.A, 5, 6, acknowledged=1),
        received=received(7),
    )
    result = step(state, Linked(), moment())
    message = only(result, Send).message
    assert message == Reestablish(
        channel=CHANNEL, sent=shown(lane(5, 6), Side.A), received=shown(lane(7), Side.B)
    )
    assert result.state.phase is Phase.GREETING
    assert (result.state.refusing, result.state.asked_again) == (False, False)
    assert not result.state.peer_wants_close


def test_a_new_channel_shows_that_it_has_nothing() -> None:
    result = step(channel(link=Link.DOWN), Linked(), moment())
    assert only(result, Send).message == Reestablish(channel=CHANNEL, sent=None, received=None)


def test_a_lost_connection_forgets_what_was_never_signed_or_verified() -> None:
    more = (payment(9, number=3),)
    state = channel(
        sent=replace(
            sent_lane(Side.A, 5, 6), unsigned=more, unsigned_totals=replay(lane(5, 6), more)
        ),
        received=replace(received(7), unverified=more, unverified_totals=replay(lane(7), more)),
        peer_wants_close=True,
        offering=CLOSE,
        checking=SignedClose(terms=CLOSE, ours=b""),
    )
    result = step(state, Unlinked(), moment())
    assert result.effects == ()
    assert result.state == channel(
        link=Link.DOWN, sent=sent_lane(Side.A, 5, 6), received=received(7)
    )


def test_nothing_is_signed_before_the_peer_has_shown_its_vouchers() -> None:
    state = step(channel(link=Link.DOWN), Linked(), moment()).state
    with pytest.raises(NotNow, match="greeting"):
        step(state, AskedPay(payments=(payment(),)), moment())
    state = step(state, reestablish(), moment()).state
    assert state.phase is Phase.LIVE
    assert step(state, AskedPay(payments=(payment(),)), moment()).effects


def test_what_the_peer_lacks_is_sent_again_and_what_it_holds_is_acknowledged() -> None:
    state = channel(link=Link.GREETING, sent=sent_lane(Side.A, 1, 2, 3, 4, acknowledged=1))
    result = step(state, reestablish(of_ours=lane(1, 2)), moment())
    assert result.effects == (TellAcknowledged(nonce=2), SendStored(first_nonce=3))
    assert result.state.sent.unacknowledged == (lane(1, 2, 3), lane(1, 2, 3, 4))
    assert result.state.link is Link.LIVE
    everything = step(state, reestablish(of_ours=lane(1, 2, 3, 4)), moment())
    assert everything.effects == (TellAcknowledged(nonce=4),)
    assert everything.state.sent.quiet


def test_a_restored_payee_is_sent_what_it_had_acknowledged_before() -> None:
    state = channel(link=Link.GREETING, sent=sent_lane(Side.A, 1, 2, 3, acknowledged=3))
    for holds, first in ((None, 1), (lane(1), 2)):
        result = step(state, reestablish(of_ours=holds), moment())
        assert result.effects == (SendStored(first_nonce=first),)
        assert result.state.sent == state.sent


def test_a_peer_that_shows_its_vouchers_again_is_sent_again_what_it_lacks() -> None:
    state = channel(sent=sent_lane(Side.A, 1, 2, 3, acknowledged=1))
    result = step(state, reestablish(of_ours=lane(1)), moment())
    assert result.effects == (SendStored(first_nonce=2),)
    assert result.state == state


# -- restored databases and clones --------------------------------------------------------------


def test_a_signature_of_ours_that_we_do_not_know_is_checked_before_it_is_believed() -> None:
    for link in (Link.GREETING, Link.LIVE):
        state = channel(link=link, sent=sent_lane(Side.A, 1))
        result = step(state, reestablish(of_ours=lane(1, 2)), moment())
        asked = only(result, RecogniseOwn).voucher
        assert (asked.total, asked.payer) == (lane(1, 2), TERMS.account_a)
        assert result.state == state


def test_a_restored_payer_adopts_the_newest_that_the_peer_holds() -> None:
    state = channel(link=Link.GREETING, fresh_boot=True, sent=sent_lane(Side.A, 1))
    newest = voucher(Side.A, lane(1, 2, 3))
    result = step(state, RecognisedOwn(voucher=newest), moment())
    assert result.effects == ()
    assert result.state == channel(
        sent=SentLane(voucher=newest, acknowledged_nonce=3), fresh_boot=False
    )
    paid = step(result.state, AskedPay(payments=(payment(4, number=4),)), moment())
    assert paid.state.sent.promised == lane(1, 2, 3, 4)


def test_a_running_payer_that_is_shown_its_own_unknown_signature_stops() -> None:
    state = channel(sent=sent_lane(Side.A, 1))
    result = step(state, RecognisedOwn(voucher=voucher(Side.A, lane(1, 2))), moment())
    assert result.state.phase is Phase.STOPPED
    assert result.state.sent == state.sent
    error, told = result.effects
    assert sent_messages([error])[0].code == "channel-stopped"
    assert isinstance(told, TellStopped)
    assert "never made" in told.reason


def fork_of(*amounts: int) -> LaneTotal:
    """A lane of the same amounts with other references: what a clone of the payer signs."""
    return replay(LaneTotal(), [payment(amount, purpose="clone") for amount in amounts])[-1]


@pytest.mark.parametrize(
    "total",
    [fork_of(1, 2), fork_of(1), lane(1), fork_of(1, 1, 1)],
    ids=["newest", "older", "known", "less"],
)
def test_even_after_a_boot_a_fork_is_not_adopted(total: LaneTotal) -> None:
    state = channel(link=Link.GREETING, fresh_boot=True, sent=sent_lane(Side.A, 1, 2))
    result = step(state, RecognisedOwn(voucher=voucher(Side.A, total)), moment())
    assert result.state.phase is Phase.STOPPED


@pytest.mark.parametrize("total", [fork_of(1, 2, 3), fork_of(1, 2), fork_of(1, 2, 3, 4, 5)])
def test_another_history_under_a_known_number_needs_our_signature_to_be_believed(
    total: LaneTotal,
) -> None:
    state = channel(sent=sent_lane(Side.A, 1, 2, 3, acknowledged=1))
    result = step(state, reestablish(of_ours=total), moment())
    assert only(result, RecogniseOwn).voucher.total == total
    assert result.state.stopped is None


def test_a_total_older_than_what_is_remembered_is_answered_from_the_store() -> None:
    state = channel(sent=sent_lane(Side.A, 1, 2, 3, acknowledged=2))
    result = step(state, reestablish(of_ours=fork_of(1)), moment())
    assert result.effects == (SendStored(first_nonce=2),)


def test_a_stopped_channel_takes_nothing_more() -> None:
    state = channel(stopped="a clone")
    with pytest.raises(NotNow, match="stopped"):
        step(state, AskedPay(payments=(payment(),)), moment())
    assert error_of(step(state, Received(message=update(5)), moment())).code == "not-now"


# -- paying -------------------------------------------------------------------------------------


def test_a_payment_is_signed_recorded_and_sent_in_this_order() -> None:
    payments = (payment(5, number=1), payment(7, number=2))
    asked = step(channel(), AskedPay(payments=payments), moment())
    assert only(asked, SignVoucher).total == lane(5, 7)
    assert asked.state.our_balance_ucent() == DEPOSIT - 12  # promised is spent
    signed = voucher(Side.A, lane(5, 7))
    result = step(asked.state, Signed(voucher=signed), moment())
    record, send = result.effects
    assert record == RecordSent(payments=payments, totals=(lane(5), lane(5, 7)))
    assert sent_messages([send]) == [
        Update(channel=CHANNEL, first_nonce=1, signature=signed.signature, payments=payments)
    ]
    assert result.state.sent == sent_lane(Side.A, 5, 7)


def test_one_signature_covers_all_payments_that_wait() -> None:
    state = step(channel(), AskedPay(payments=(payment(5, number=1),)), moment()).state
    asked = step(state, AskedPay(payments=(payment(7, number=2),)), moment())
    assert only(asked, SignVoucher).total == lane(5, 7)
    with pytest.raises(NotNow, match="another total"):
        step(asked.state, Signed(voucher=voucher(Side.A, lane(5))), moment())
    result = step(asked.state, Signed(voucher=voucher(Side.A, lane(5, 7))), moment())
    assert len(sent_messages(result.effects)[0].payments) == 2


def test_a_signature_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(NotNow, match="another total"):
        step(channel(), Signed(voucher=voucher(Side.A, lane(5))), moment())


def test_payments_that_no_single_update_can_hold_are_sent_from_the_store() -> None:
    content = bytes(RECEIPT_BYTES_MAX)
    bulky = tuple(
        Payment(
            amount_ucent=1,
            receipt=Receipt(type=ReceiptType.USAGE, cbor=content, salt=n.to_bytes(32, "big")),
        )
        for n in range(1200)
    )
    asked = step(
        channel(sent=sent_lane(Side.A, 5, acknowledged=1)), AskedPay(payments=bulky), moment()
    )
    total = asked.state.sent.promised
    result = step(asked.state, Signed(voucher=voucher(Side.A, total)), moment())
    assert isinstance(result.effects[0], RecordSent)
    assert result.effects[1:] == (SendStored(first_nonce=2),)
    assert result.state.sent.total == total


def test_nobody_pays_more_than_is_available() -> None:
    everything = payment(DEPOSIT)
    assert step(channel(), AskedPay(payments=(everything,)), moment()).effects
    with pytest.raises(InsufficientBalance) as caught:
        step(channel(), AskedPay(payments=(everything, payment(1))), moment())
    assert (caught.value.needed_ucent, caught.value.available_ucent) == (DEPOSIT + 1, DEPOSIT)


def test_verified_income_can_be_spent() -> None:
    state = channel(chain=view(deposit_ucent=(0, DEPOSIT)), received=received(500))
    assert step(state, AskedPay(payments=(payment(500),)), moment()).effects
    with pytest.raises(InsufficientBalance):
        step(state, AskedPay(payments=(payment(501),)), moment())


def test_an_order_without_payments_is_refused() -> None:
    with pytest.raises(NothingToPay):
        step(channel(), AskedPay(payments=()), moment())


def test_what_is_unacknowledged_is_bounded() -> None:
    def order(count: int) -> AskedPay:
        return AskedPay(payments=(payment(),) * count)

    assert PAYMENTS_MAX == UNACKNOWLEDGED_MAX
    state = channel(sent=sent_lane(Side.A, 1, 1))
    assert step(state, order(UNACKNOWLEDGED_MAX - 2), moment()).effects
    with pytest.raises(TooManyUnacknowledged, match="2 payments"):
        step(state, order(UNACKNOWLEDGED_MAX - 1), moment())
    with pytest.raises(TooManyUnacknowledged):
        step(step(state, order(UNACKNOWLEDGED_MAX - 2), moment()).state, order(1), moment())


def test_an_acknowledgement_covers_everything_up_to_its_number() -> None:
    state = channel(sent=sent_lane(Side.A, 1, 2, 3))
    ack = Received(message=Ack(channel=CHANNEL, nonce=2, history=lane(1, 2).history))
    result = step(state, ack, moment())
    assert result.effects == (TellAcknowledged(nonce=2),)
    assert result.state.sent == sent_lane(Side.A, 1, 2, 3, acknowledged=2)
    again = step(result.state, ack, moment())
    assert (again.state, again.effects) == (result.state, ())


def test_an_acknowledgement_of_what_was_never_sent_ends_the_connection() -> None:
    state = channel(sent=sent_lane(Side.A, 1, 2))
    with pytest.raises(OutOfTurn, match="payment 3"):
        step(state, Received(message=Ack(channel=CHANNEL, nonce=3, history=ZERO_WORD)), moment())


def test_an_acknowledgement_of_another_history_stops_the_channel() -> None:
    state = channel(sent=sent_lane(Side.A, 1, 2))
    ack = Received(message=Ack(channel=CHANNEL, nonce=2, history=lane(1).history))
    result = step(state, ack, moment())
    assert "another history" in (result.state.stopped or "")
    assert result.state.sent.unacknowledged == state.sent.unacknowledged


# -- being paid ---------------------------------------------------------------------------------


def test_a_payment_counts_once_its_signature_is_verified_and_is_recorded_before_the_answer() -> (
    None
):
    message = update(5, 7)
    asked = step(channel(), Received(message=message), moment())
    unverified = only(asked, VerifyVoucher).voucher
    assert unverified.total == lane(5, 7)
    assert (unverified.payer, unverified.conditions) == (TERMS.account_b, ZERO_WORD)
    assert asked.state.received.total == LaneTotal()
    assert asked.state.our_balance_ucent() == DEPOSIT
    newest = voucher(Side.B, lane(5, 7))
    result = step(asked.state, Verified(voucher=newest), moment())
    assert result.effects == (
        RecordReceived(payments=message.payments, totals=(lane(5), lane(5, 7))),
        Send(message=Ack(channel=CHANNEL, nonce=2, history=lane(5, 7).history)),
        TellReceived(first_nonce=1, payments=message.payments),
    )
    assert result.state.received == ReceivedLane(voucher=newest)
    assert result.state.our_balance_ucent() == DEPOSIT + 12


def test_several_updates_are_verified_by_their_newest_signature() -> None:
    state = step(channel(), Received(message=update(5)), moment()).state
    state = step(state, Received(message=update(7, first=2, before=lane(5))), moment()).state
    result = step(state, Verified(voucher=voucher(Side.B, lane(5, 7))), moment())
    record = result.effects[0]
    assert isinstance(record, RecordReceived)
    assert record.totals == (lane(5), lane(5, 7))


def test_verifying_an_older_of_several_updates_leaves_the_rest_unverified() -> None:
    state = step(channel(), Received(message=update(5)), moment()).state
    state = step(state, Received(message=update(7, first=2, before=lane(5))), moment()).state
    state = step(state, Verified(voucher=voucher(Side.B, lane(5))), moment()).state
    assert state.received.total == lane(5)
    assert state.received.claimed == lane(5, 7)
    result = step(state, Verified(voucher=voucher(Side.B, lane(5, 7))), moment())
    assert isinstance(result.effects[2], TellReceived)
    assert result.effects[2].first_nonce == 2


@pytest.mark.parametrize("total", [lane(5), fork_of(5, 7), lane(5, 7, 9)])
def test_a_verification_of_what_was_not_received_is_refused(total: LaneTotal) -> None:
    state = channel(received=received(5))
    state = step(state, Received(message=update(7, first=2, before=lane(5))), moment()).state
    with pytest.raises(NotNow, match="not received"):
        step(state, Verified(voucher=voucher(Side.B, total)), moment())


def test_one_bad_signature_drops_everything_unverified_and_the_connection() -> None:
    state = step(
        channel(received=received(5)), Received(message=update(7, first=2)), moment()
    ).state
    result = step(state, Unverifiable(reason="the signature is not by bob"), moment())
    assert only(result, Disconnect).channel == CHANNEL
    assert result.state == channel(received=received(5))


def test_a_repeat_of_the_newest_update_is_acknowledged_again_and_counted_once() -> None:
    state = channel(received=received(5, 7))
    for first, before, amounts in ((1, None, (5, 7)), (2, lane(5), (7,))):
        repeat = update(*amounts, first=first, before=before)
        result = step(state, Received(message=repeat), moment())
        assert sent_messages(result.effects) == [
            Ack(channel=CHANNEL, nonce=2, history=lane(5, 7).history)
        ]
        assert result.state == state


def test_a_repeat_that_cannot_be_matched_is_answered_with_our_vouchers() -> None:
    state = channel(received=received(5, 7))
    for repeat in (update(5), update(9, 9)):
        result = step(state, Received(message=repeat), moment())
        (answer,) = sent_messages(result.effects)
        assert isinstance(answer, Reestablish)
        assert answer.received == shown(lane(5, 7), Side.B)
        assert result.state == state


def test_a_repeat_while_nothing_is_verified_yet_is_answered_with_our_vouchers() -> None:
    state = step(channel(), Received(message=update(5)), moment()).state
    result = step(state, Received(message=update(5)), moment())
    assert isinstance(sent_messages(result.effects)[0], Reestablish)
    assert result.state == state


def test_an_update_that_overlaps_with_what_is_known_adds_only_what_is_new() -> None:
    state = channel(received=received(5, 7))
    result = step(state, Received(message=update(5, 7, 9)), moment())
    assert only(result, VerifyVoucher).voucher.total == lane(5, 7, 9)
    assert result.state.received.unverified == (payment(9, number=3),)


def test_an_overlap_that_differs_cannot_verify() -> None:
    state = channel(received=received(5, 7))
    other = update(5, 8, 9)
    result = step(state, Received(message=other), moment())
    total = only(result, VerifyVoucher).voucher.total
    signed_by_payer = replay(LaneTotal(), other.payments)[-1]
    assert total != signed_by_payer  # so that the signature, which is over this one, does not fit


def test_a_gap_ends_the_connection() -> None:
    with pytest.raises(OutOfTurn, match="payment 2 is missing before 3"):
        step(channel(received=received(5)), Received(message=update(7, first=3)), moment())


def test_a_payment_beyond_the_payer_s_balance_is_refused_and_asked_for_later() -> None:
    state = channel(received=received(DEPOSIT - 5))
    before = lane(DEPOSIT - 5)
    assert step(
        state, Received(message=update(5, first=2, before=before)), moment()
    ).state.received.unverified
    result = step(state, Received(message=update(6, first=2, before=before)), moment())
    error = error_of(result)
    assert error.code == "insufficient-balance"
    assert "6 µ¢ are needed and 5 µ¢ are available" in error.text
    assert result.state == replace(state, refusing=True)


def test_what_we_have_paid_can_be_paid_back() -> None:
    state = channel(chain=view(deposit_ucent=(DEPOSIT, 0)), sent=sent_lane(Side.A, 500))
    assert step(state, Received(message=update(500)), moment()).state.received.unverified
    too_much = step(state, Received(message=update(501)), moment())
    assert error_of(too_much).code == "insufficient-balance"


@pytest.mark.parametrize("amounts", [(TRANSFERRED_MAX,), (TRANSFERRED_MAX, TRANSFERRED_MAX)])
def test_absurd_amounts_are_refused_before_they_are_added_up(amounts: tuple[int, ...]) -> None:
    payments = tuple(payment(amount) for amount in amounts)
    message = Update(channel=CHANNEL, first_nonce=1, signature=bytes(65), payments=payments)
    assert (
        error_of(step(channel(), Received(message=message), moment())).code
        == "insufficient-balance"
    )


@pytest.mark.parametrize(
    "full",
    [
        LaneTotal(nonce=NONCE_MAX, transferred_ucent=NONCE_MAX, history=b"\x01" * 32),
        LaneTotal(nonce=1, transferred_ucent=TRANSFERRED_MAX, history=b"\x01" * 32),
    ],
)
def test_a_peer_that_overflows_its_lane_is_at_fault_itself(full: LaneTotal) -> None:
    rich = SentLane(
        voucher=voucher(Side.A, replace(full, nonce=1, transferred_ucent=TRANSFERRED_MAX))
    )
    state = channel(
        sent=replace(rich, acknowledged_nonce=1),
        received=ReceivedLane(voucher=voucher(Side.B, full)),
    )
    message = Update(
        channel=CHANNEL, first_nonce=full.nonce + 1, signature=bytes(65), payments=(payment(),)
    )
    with pytest.raises(OutOfTurn, match="exceed"):
        step(state, Received(message=message), moment())


def with_receipt(receipt: Receipt) -> Received:
    """An update of 5 µ¢ under that receipt, rightly signed."""
    payments = (Payment(amount_ucent=5, receipt=receipt),)
    signed = voucher(Side.B, replay(LaneTotal(), payments)[-1])
    return Received(
        message=Update(
            channel=CHANNEL, first_nonce=1, signature=signed.signature, payments=payments
        )
    )


def test_a_receipt_of_another_amount_than_is_paid_ends_the_connection() -> None:
    assert step(channel(), with_receipt(payment(5).receipt), moment()).effects
    with pytest.raises(FalseReceipt, match="states 6 µ¢ and 5 µ¢ are paid"):
        step(channel(), with_receipt(payment(6).receipt), moment())


def test_a_receipt_that_nobody_can_read_ends_the_connection() -> None:
    with pytest.raises(FalseReceipt, match="not CBOR"):
        step(channel(), with_receipt(replace(payment(5).receipt, cbor=b"\xff")), moment())


# -- stale views --------------------------------------------------------------------------------


def test_nothing_is_accepted_on_a_view_older_than_a_quarter_of_the_window() -> None:
    limit = TERMS.challenge_seconds // 4
    young = step(channel(), Received(message=update(5)), moment(view_age_seconds=limit))
    assert only(young, VerifyVoucher)
    stale = step(channel(), Received(message=update(5)), moment(view_age_seconds=limit + 1))
    assert error_of(stale).code == "stale-view"
    assert stale.state == channel(refusing=True)


def test_what_was_refused_is_asked_for_once_when_the_view_is_fresh_again() -> None:
    state = channel(refusing=True, received=received(5))
    too_old = moment(view_age_seconds=TERMS.challenge_seconds)
    assert step(state, Elapsed(), too_old) == Step(state=state)
    asked = step(state, Elapsed(), moment())
    assert sent_messages(asked.effects) == [
        Reestablish(channel=CHANNEL, sent=None, received=shown(lane(5), Side.B))
    ]
    assert asked.state == replace(state, asked_again=True)
    assert step(asked.state, Elapsed(), moment()) == Step(state=asked.state)
    repeated = step(asked.state, Received(message=update(7, first=2, before=lane(5))), moment())
    assert (repeated.state.refusing, repeated.state.asked_again) == (False, False)


def test_a_repeat_that_is_refused_again_is_asked_for_again() -> None:
    asked = channel(refusing=True, asked_again=True)
    stale = step(asked, Received(message=update(5)), moment(view_age_seconds=3600))
    assert stale.state == channel(refusing=True)
    assert sent_messages(step(stale.state, Elapsed(), moment()).effects)


@pytest.mark.parametrize("asked_again", [False, True])
def test_what_was_under_way_behind_a_refused_update_is_let_go_without_a_quarrel(
    asked_again: bool,
) -> None:
    state = channel(refusing=True, asked_again=asked_again)
    result = step(state, Received(message=update(7, first=2, before=lane(5))), moment())
    assert result == Step(state=state)


@pytest.mark.parametrize("phase", [Phase.DOWN, Phase.GREETING, Phase.FROZEN, Phase.CLOSING])
def test_nothing_is_asked_for_again_where_it_could_not_be_taken(phase: Phase) -> None:
    state = channel(refusing=True, **IN_PHASE[phase])
    result = step(state, Elapsed(), moment())
    assert sent_messages(result.effects) == []


# -- the chain ----------------------------------------------------------------------------------


def test_a_view_of_the_chain_replaces_an_older_one_and_is_not_replaced_by_it() -> None:
    newer = view(block=101, deposit_ucent=(DEPOSIT, 2 * DEPOSIT))
    state = step(channel(), ObservedChannel(view=newer), moment()).state
    assert state.chain == newer
    result = step(state, ObservedChannel(view=view(block=100)), moment())
    assert result == Step(state=state)
    assert step(channel(chain=None), ObservedChannel(view=newer), moment()).state.chain == newer


def test_a_top_up_lets_a_refused_payment_through() -> None:
    state = channel(chain=view(deposit_ucent=(DEPOSIT, 0)))
    refused = step(state, Received(message=update(5)), moment()).state
    funded = step(refused, ObservedChannel(view=view(block=101)), moment())
    assert isinstance(sent_messages(funded.effects)[0], Reestablish)
    assert only(step(funded.state, Received(message=update(5)), moment()), VerifyVoucher)


def test_time_that_changes_nothing_leaves_the_very_same_state() -> None:
    state = channel()
    assert step(state, Elapsed(), moment()).state is state


def test_every_refusal_says_what_to_do() -> None:
    for phase in Phase:
        assert NotNow(phase, "AskedPay").what_to_do
    refusals: list[FarthingError] = [
        InsufficientBalance(2, 1),
        OutOfTurn("late"),
        NothingToPay("no"),
    ]
    assert all(refusal.what_to_do for refusal in refusals)
    assert isinstance(refusals[0], LocalError)


@pytest.mark.parametrize("wrong", ["no receipt at all", "another amount"])
def test_a_payment_whose_receipt_is_false_is_not_accepted(wrong: str) -> None:
    cbor = (
        b"\xff"
        if wrong == "no receipt at all"
        else make_receipt(
            ReceiptType.USAGE,
            {"amount": 2, "block": 1, "at": 1, "purpose": "parking"},
            salt=bytes(32),
        ).cbor
    )
    receipt = Receipt(type=ReceiptType.USAGE, cbor=cbor, salt=bytes(32))
    with pytest.raises(FalseReceipt):
        check_receipts([Payment(amount_ucent=1, receipt=receipt)])
