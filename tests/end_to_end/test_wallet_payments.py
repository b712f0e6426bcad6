"""A wallet and a hub over real sockets and databases: rewards, payments, requests."""

from dataclasses import replace

import pytest
import trio

from farthing.channels.client import connection, payments
from farthing.channels.client.folder import Folder, write_settings
from farthing.channels.client.ledger import RECEIVED
from farthing.channels.client.payments import (
    BadPurpose,
    ChainNotSeen,
    RequestDecided,
    RequestState,
    UnknownRequest,
)
from farthing.channels.client.results import NotJoined, SentNoAnswer, TookTooLong
from farthing.channels.client.submissions import SubmissionConflict, UnknownSubmission
from farthing.channels.client.wire import Refused
from farthing.channels.ids import ChannelId
from farthing.channels.messages import (
    Error,
    PaymentRefused,
    PaymentRequest,
    ReadingOutcome,
    RecordOutcome,
    SubmitReadings,
)
from farthing.channels.receipt import Receipt, ReceiptType
from farthing.channels.refusals import InsufficientBalance, NothingToPay, NotNow
from farthing.channels.state import Channel
from farthing.channels.terms import Terms
from farthing.channels.voucher import LaneTotal, Payment, Voucher

from .small_city import (
    DEPLOYMENT,
    MALLORY,
    PRICE_UCENT,
    TERMS,
    SmallCity,
    earn,
    reading,
    settings,
    until,
)

REQUEST = bytes(range(16))


async def test_a_reading_is_rewarded_and_counts_as_balance(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        submission = await wallet.submit([reading(), reading("2")])
        outcome = await wallet.wait_outcome(submission, timeout_seconds=10)
        assert outcome.paid_ucent == 2 * PRICE_UCENT
        assert [o.nonce for o in outcome.outcomes or ()] == [1, 2]
        await until(wallet, lambda: wallet.balance().in_channel_ucent == 2 * PRICE_UCENT)
        balance = wallet.balance()
        assert (balance.settled_ucent, balance.unsettled_ucent) == (0, 2 * PRICE_UCENT)
        assert balance.submissions_waiting == 0


async def test_a_wallet_without_a_channel_asks_for_one(empty_city: SmallCity) -> None:
    async with empty_city.wallet() as wallet:
        channel = await wallet.join(timeout_seconds=10)
        assert channel == DEPLOYMENT.channel_id(TERMS)
        assert await wallet.join(timeout_seconds=10) == channel


async def test_a_wallet_that_nobody_asked_to_join_asks_for_nothing(empty_city: SmallCity) -> None:
    async with empty_city.wallet() as wallet:
        await until(wallet, lambda: wallet._connection.state.value == "connected")
        with pytest.raises(NotJoined):
            await wallet.pay(1, "parking")
    assert empty_city.hub.seen == []


async def test_a_refused_proposal_ends_join_with_the_hubs_words(empty_city: SmallCity) -> None:
    empty_city.hub.proposal_refusal = Error(
        code="not-a-member", channel=b"", text="not an active member", what_to_do="register first"
    )
    async with empty_city.wallet() as wallet:
        with pytest.raises(Refused, match="not an active member: register first"):
            await wallet.join(timeout_seconds=10)


async def test_a_payment_is_acknowledged_and_both_sides_agree(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        payment = await wallet.pay(20_000, "parking", timeout_seconds=10)
        assert payment.acknowledged
        assert payment.nonce == 1
        assert wallet.balance().in_channel_ucent == 4 * PRICE_UCENT - 20_000
        theirs = city.hub.driver.get(payment.channel).received.total
        assert theirs == wallet.channels()[0].sent.total


async def test_many_payments_are_promised_under_one_signature_and_each_has_its_receipt(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        signed: list[LaneTotal] = []
        sign = wallet._driver._sign

        def counting(channel: Channel, total: LaneTotal) -> Voucher:
            signed.append(total)
            return sign(channel, total)

        monkeypatch.setattr(wallet._driver, "_sign", counting)
        orders = [(1 + number, f"use {number}") for number in range(100)]
        payments = await wallet.pay_many(orders, timeout_seconds=10)
        assert [(p.nonce, p.amount_ucent) for p in payments] == [(n, n) for n in range(1, 101)]
        assert all(payment.acknowledged for payment in payments)
        channel = payments[0].channel
        held = list(city.hub.ledger.payments(channel, RECEIVED))
        assert [p.payment.receipt.fields()["purpose"] for p in held] == [p for _, p in orders]
        assert len({p.payment.receipt.reference() for p in held}) == 100
        assert city.hub.driver.get(channel).received.total == wallet.channels()[0].sent.total
        assert [total.nonce for total in signed] == [100]


async def test_of_many_payments_all_are_promised_or_none(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet, records=1)
        with pytest.raises(InsufficientBalance):
            await wallet.pay_many([(PRICE_UCENT, "one"), (1, "one too many")])
        with pytest.raises(NothingToPay):
            await wallet.pay_many([])
        with pytest.raises(BadPurpose):
            await wallet.pay_many([(1, "good"), (1, "")])
        assert wallet.balance().in_channel_ucent == PRICE_UCENT
        assert wallet.channels()[0].sent.total.nonce == 0


async def test_of_many_payments_without_an_answer_each_is_told(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        monkeypatch.setattr(city.hub.driver, "receive", lambda events: None)
        with pytest.raises(SentNoAnswer, match="3 of 3 payments, the last of them 3") as caught:
            await wallet.pay_many([(1, "a"), (2, "b"), (3, "c")], timeout_seconds=0.05)
        assert [(p.nonce, p.amount_ucent) for p in caught.value.payments] == [
            (1, 1),
            (2, 2),
            (3, 3),
        ]
        assert not any(payment.acknowledged for payment in caught.value.payments)
        assert wallet.balance().sent_unacknowledged_ucent == 6


async def test_more_than_there_is_cannot_be_paid(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet, records=1)
        with pytest.raises(InsufficientBalance):
            await wallet.pay(PRICE_UCENT + 1, "parking")
        assert wallet.balance().in_channel_ucent == PRICE_UCENT


async def test_a_payment_without_an_answer_is_spent_and_arrives_later(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        with monkeypatch.context() as deaf:
            deaf.setattr(city.hub.driver, "receive", lambda events: None)
            with pytest.raises(SentNoAnswer, match="do not pay again") as caught:
                await wallet.pay(20_000, "parking", timeout_seconds=0.05)
        assert not caught.value.payment.acknowledged
        assert wallet.balance().sent_unacknowledged_ucent == 20_000
        assert wallet.balance().in_channel_ucent == 4 * PRICE_UCENT - 20_000
        await city.hub.cut()
        await until(wallet, lambda: wallet.balance().sent_unacknowledged_ucent == 0)
        assert city.hub.driver.get(caught.value.payment.channel).received.total.nonce == 1


async def test_a_wallet_that_is_not_connected_promises_nothing(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
    write_settings(Folder(path=city.folder), settings(port=1))
    async with city.wallet() as wallet:
        with pytest.raises((NotNow, ChainNotSeen), match="wait"):  # whichever it notices first
            await wallet.pay(1, "parking")
        assert wallet.balance().in_channel_ucent == 4 * PRICE_UCENT


async def test_readings_queue_on_disk_until_a_hub_is_there(city: SmallCity) -> None:
    city.hub.ignored = (SubmitReadings,)
    async with city.wallet() as wallet:
        first = await wallet.submit([reading()])
        with pytest.raises(TookTooLong, match="stay queued"):
            await wallet.wait_outcome(first, timeout_seconds=0.05)
    city.hub.ignored = ()
    async with city.wallet() as wallet:
        assert wallet.balance().submissions_waiting == 1
        assert wallet.outcome(first).outcomes is None
        outcome = await wallet.wait_outcome(first, timeout_seconds=10)
        assert outcome.paid_ucent == PRICE_UCENT
        await wallet.wait_queue_empty(timeout_seconds=10)
    async with city.wallet() as wallet:
        assert wallet.outcome(first) == outcome


async def test_the_same_id_is_the_same_submission(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        mine = bytes(16)
        for _ in range(3):
            assert await wallet.submit([reading()], mine) == mine
        await wallet.wait_outcome(mine, timeout_seconds=10)
        assert await wallet.submit([reading()], mine) == mine
        with pytest.raises(SubmissionConflict):
            await wallet.submit([reading("9")], mine)
        with pytest.raises(UnknownSubmission):
            wallet.outcome(b"\1" * 16)
        await wallet.wait_queue_empty(timeout_seconds=10)
        assert wallet.channels()[0].received.total.nonce == 1


async def test_what_was_in_flight_is_sent_again_and_paid_once(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        city.hub.ignored = (SubmitReadings,)
        submission = await wallet.submit([reading()])
        await until(wallet, lambda: wallet.status()["submissions"]["in_flight"] == 1)
        city.hub.ignored = ()
        await city.hub.cut()
        await wallet.wait_outcome(submission, timeout_seconds=10)
        assert wallet.channels()[0].received.total.nonce == 1


async def test_a_temporary_refusal_is_tried_again(city: SmallCity) -> None:
    city.hub.refuse_temporarily = 3
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        submission = await wallet.submit([reading()])
        outcome = await wallet.wait_outcome(submission, timeout_seconds=10)
        assert outcome.paid_ucent == PRICE_UCENT


async def test_many_submissions_are_all_answered(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(wallet.submit, [reading(str(number))])
        await wallet.wait_queue_empty(timeout_seconds=20)
        expected = 200 * PRICE_UCENT
        await until(wallet, lambda: wallet.balance().in_channel_ucent == expected)


# -- requests -----------------------------------------------------------------------------------


async def test_a_request_of_ours_is_paid_once_it_is_answered(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        ask = await wallet.request(5_000, "refund")
        await until(wallet, lambda: wallet._requests.get(ask.id, ours=True).nonce == 1)
        assert wallet.requests()[0].state is RequestState.PAID
    async with city.wallet() as wallet:
        assert wallet.requests()[0].state is RequestState.PAID


async def test_a_request_that_nobody_heard_is_sent_again(city: SmallCity) -> None:
    city.hub.ignored = (PaymentRequest,)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await wallet.request(5_000, "refund")
        assert wallet.balance().requested_ucent == 5_000
    city.hub.ignored = ()
    async with city.wallet() as wallet:
        await until(wallet, lambda: wallet.requests()[0].state is RequestState.PAID)


async def test_what_the_hub_asks_for_is_paid_once_and_only_by_its_owner(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.ask(7_000, "parking", REQUEST)
        await until(wallet, lambda: wallet.requests() != [])
        assert wallet.balance().asked_ucent == 7_000
        assert wallet.balance().in_channel_ucent == 4 * PRICE_UCENT
        payment = await wallet.answer(REQUEST, timeout_seconds=10)
        assert payment.amount_ucent == 7_000
        with pytest.raises(RequestDecided, match="paid already"):
            await wallet.answer(REQUEST)
        city.hub.ask(7_000, "parking", REQUEST)
        with pytest.raises(UnknownRequest):
            await wallet.answer(bytes(16))
    async with city.wallet() as wallet:
        with pytest.raises(RequestDecided):
            await wallet.answer(REQUEST)


async def test_what_the_hub_asks_for_can_be_refused(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        city.hub.ask(7_000, "parking", REQUEST)
        await until(wallet, lambda: wallet.requests() != [])
        await wallet.refuse(REQUEST)
        with trio.fail_after(10):
            await city.hub.heard.until(lambda: city.hub.refusals() != [])
        with pytest.raises(RequestDecided):
            await wallet.answer(REQUEST)


# -- being paid ---------------------------------------------------------------------------------


async def test_payments_are_handed_on_in_order_each_once(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        receiving = wallet.receive()
        await wallet.submit([reading(str(n)) for n in range(3)])
        with trio.fail_after(10):
            payments = [await anext(receiving) for _ in range(3)]
        assert [p.nonce for p in payments] == [1, 2, 3]
        assert payments[0].fields is not None
        assert payments[0].fields["quantity"] == "flow"
        again = wallet.receive(from_start=True)
        with trio.fail_after(10):
            assert [(await anext(again)).nonce for _ in range(3)] == [1, 2, 3]
        with trio.move_on_after(0.05) as waiting:
            await anext(again)
        assert waiting.cancelled_caught


async def test_a_payment_whose_receipt_cannot_be_read_is_not_acknowledged(
    city: SmallCity,
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet, records=1)
        channel = wallet.channels()[0].id
        notices = wallet.listen()
        receipt = Receipt(type=ReceiptType.REWARD, cbor=b"\xff", salt=bytes(32))
        city.hub.driver.pay(channel, (Payment(amount_ucent=9, receipt=receipt),), ())
        with trio.fail_after(10):
            while (await notices.receive()).values.get("code") != "false-receipt":
                pass
        assert wallet.balance().in_channel_ucent == PRICE_UCENT


# -- terms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, signer_b=MALLORY.address),
        replace(TERMS, account_b=MALLORY.address),
        replace(TERMS, signer_a=MALLORY.address),
        replace(TERMS, challenge_seconds=30 * 24 * 3600),
        replace(TERMS, sequence=2),
    ],
    ids=["foreign signer", "foreign account", "foreign hub", "long window", "never opened"],
)
async def test_terms_that_do_not_hold_are_never_taken_up(city: SmallCity, terms: Terms) -> None:
    city.hub.announced = [terms]
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await wallet._follower.refresh()
        assert [c.terms for c in wallet.channels()] == [TERMS]


# -- what a hub may not do ------------------------------------------------------------------------


async def test_the_hub_refuses_a_request_of_ours(city: SmallCity) -> None:
    city.hub.ignored = (PaymentRequest,)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        ask = await wallet.request(5_000, "refund")
        with trio.fail_after(10):
            await city.hub.heard.until(lambda: city.hub.seen != [])
        for _ in range(2):  # the second changes nothing
            city.hub.wires[-1].send(PaymentRefused(id=ask.id, code="no", text="not this month"))
        city.hub.wires[-1].send(PaymentRefused(id=REQUEST, code="no", text="unknown"))
        await until(wallet, lambda: wallet.requests()[0].state is RequestState.REFUSED)
        assert wallet.requests()[0].text == "not this month"
        assert wallet.balance().requested_ucent == 0


async def test_a_request_paid_with_less_stays_open(city: SmallCity) -> None:
    city.hub.ignored = (PaymentRequest,)
    async with city.wallet() as wallet:
        await earn(wallet, records=1)
        ask = await wallet.request(5_000, "refund")
        city.hub.pay(4_999, request=ask.id)
        await until(wallet, lambda: wallet.balance().in_channel_ucent == PRICE_UCENT + 4_999)
        assert wallet.requests()[0].state is RequestState.OPEN
        city.hub.pay(5_000, request=ask.id)
        await until(wallet, lambda: wallet.requests()[0].state is RequestState.PAID)


async def test_a_request_expires_with_chain_time(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.ask(2_000, "parking", REQUEST)
        await until(wallet, lambda: wallet.balance().asked_ucent == 2_000)
        city.chain.mine(seconds=61)
        await wallet._follower.refresh()
        assert wallet.requests()[0].state is RequestState.EXPIRED
        with pytest.raises(RequestDecided, match="expired already"):
            await wallet.answer(REQUEST)


@pytest.mark.parametrize(
    ("amount_ucent", "purpose", "text"),
    [(0, "parking", "asks for nothing"), (1, "", "purpose"), (1, "\x1b[2J", "purpose")],
)
async def test_a_request_that_could_not_be_answered_is_refused_at_once(
    city: SmallCity, amount_ucent: int, purpose: str, text: str
) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        city.hub.ask(amount_ucent, purpose, REQUEST)
        with trio.fail_after(10):
            await city.hub.heard.until(lambda: city.hub.refusals() != [])
        assert text in city.hub.refusals()[0].text
        assert wallet.requests() == []


async def test_more_requests_than_a_person_can_read_are_refused(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payments, "REQUESTS_OPEN_MAX", 2)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        for number in range(3):
            city.hub.ask(1, "parking", bytes([number]) * 16)
        with trio.fail_after(10):
            await city.hub.heard.until(lambda: city.hub.refusals() != [])
        assert len(wallet.requests()) == 2
        await wallet.refuse(bytes(16))
        city.hub.ask(1, "parking", bytes(16))
        with trio.fail_after(10):
            await city.hub.heard.until(lambda: len(city.hub.refusals()) == 3)


async def test_a_request_for_a_channel_that_is_not_ours_is_refused(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        foreign = PaymentRequest(
            channel=ChannelId(bytes(32)), id=REQUEST, amount_ucent=1, purpose="x", expires=2**63
        )
        city.hub.wires[-1].send(foreign)
        with trio.fail_after(10):
            await city.hub.heard.until(lambda: city.hub.refusals() != [])


async def test_a_request_that_never_expires_is_kept(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        channel = await wallet.join(timeout_seconds=10)
        message = PaymentRequest(
            channel=channel, id=REQUEST, amount_ucent=2**96 - 1, purpose="x", expires=2**64 - 1
        )
        city.hub.wires[-1].send(message)
        await until(wallet, lambda: wallet.requests() != [])
        with pytest.raises(InsufficientBalance):
            await wallet.answer(REQUEST)
    async with city.wallet() as wallet:
        assert wallet.requests()[0].expires == 2**64 - 1
        assert wallet.requests()[0].state is RequestState.OPEN


async def test_an_outcome_with_the_largest_numbers_is_stored(city: SmallCity) -> None:
    city.hub.ignored = (SubmitReadings,)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        submission = await wallet.submit([reading()])
        await until(wallet, lambda: wallet.status()["submissions"]["in_flight"] == 1)
        most = RecordOutcome(
            amount_ucent=2**96 - 1, nonce=2**64 - 1, code="", text="", what_to_do=""
        )
        city.hub.wires[-1].send(ReadingOutcome(id=submission, outcomes=(most,)))
        outcome = await wallet.wait_outcome(submission, timeout_seconds=10)
        assert outcome.outcomes == (most,)
        assert wallet.balance().in_channel_ucent == 0


async def test_a_hub_that_announces_without_end_is_left(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CHANNELS_MAX", 3)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        notices = wallet.listen()
        for sequence in range(2, 6):
            city.hub.introduce(city.hub.wires[-1], replace(TERMS, sequence=sequence))
        with trio.fail_after(10):
            while (await notices.receive()).kind != "disconnected":
                pass


async def test_a_busy_hub_is_asked_for_a_channel_again(empty_city: SmallCity) -> None:
    busy = Error(code="hub-busy", channel=b"", text="busy", what_to_do="try later")
    empty_city.hub.proposal_refusal = busy
    async with empty_city.wallet() as wallet, trio.open_nursery() as nursery:
        nursery.start_soon(wallet.join)
        with trio.fail_after(10):
            await empty_city.hub.heard.until(lambda: len(empty_city.hub.seen) > 1)
        empty_city.hub.proposal_refusal = None
    assert wallet.channels() != []
