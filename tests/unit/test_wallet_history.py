"""A wallet's history tells pending, acknowledged, settled and missed apart, and reads receipts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client import closings as closings_module
from farthing.channels.client.closings import Closings, kept_totals
from farthing.channels.client.driver import UnknownChannel
from farthing.channels.client.history import (
    COLUMNS,
    Direction,
    Entry,
    PaymentState,
    count_payments,
    find_gaps,
    read_history,
)
from farthing.channels.client.ledger import RECEIVED, SENT, Ledger, StoredPayment
from farthing.channels.client.rpc import RpcRefused
from farthing.channels.ids import ChannelId, to_hex
from farthing.channels.receipt import Receipt, ReceiptType, make_receipt
from farthing.channels.state import ChainStatus, Channel, CloseTerms, ReceivedLane, SignedClose
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, Payment, replay

from ..people import CAROL, CHANNEL, DEPLOYMENT, channel, sent_lane, terms, view, voucher

SENT_UCENT = (5, 6, 7)
RECEIVED_UCENT = (100, 200)


def receipt(kind: ReceiptType, amount: int, at: int, **fields: Any) -> Receipt:
    common = {"amount": amount, "block": 100, "at": at}
    return make_receipt(kind, {**common, **fields}, salt=amount.to_bytes(32, "big"))


def usage(amount: int, at: int) -> Payment:
    made = receipt(ReceiptType.USAGE, amount, at, purpose="parking")
    return Payment(amount_ucent=amount, receipt=made)


REWARD = receipt(
    ReceiptType.REWARD,
    100,
    20,
    programme="city-block",
    programme_hash=bytes(32),
    quantity="water-flow",
    taken=15,
    reading=bytes(32),
    original="1 January",
)
ASKED = receipt(ReceiptType.REQUEST, 200, 40, purpose="good-deed", request=b"\x07" * 16)
PAYMENTS = {
    SENT: [usage(5, 10), usage(6, 30), usage(7, 50)],
    RECEIVED: [
        Payment(amount_ucent=100, receipt=REWARD),
        Payment(amount_ucent=200, receipt=ASKED),
    ],
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "alice.sqlite")
    yield ledger
    ledger.close()


def rows(
    of: ChannelId, payments: dict[int, list[Payment]]
) -> Iterator[tuple[ChannelId, int, StoredPayment]]:
    for direction, lane in payments.items():
        for payment, total in zip(lane, replay(LaneTotal(), lane), strict=True):
            yield of, direction, StoredPayment(payment=payment, total=total)


def store(ledger: Ledger, *, acknowledged: int = 3, **changes: Any) -> Channel:
    """Alice has paid bob three times and he her twice; `changes` are made to her channel."""
    received = replay(LaneTotal(), PAYMENTS[RECEIVED])[-1]
    fields: dict[str, Any] = {
        "sent": sent_lane(Side.A, *SENT_UCENT, acknowledged=acknowledged),
        "received": ReceivedLane(voucher=voucher(Side.B, received)),
    }
    state = channel(**(fields | changes))
    ledger.commit([state], list(rows(CHANNEL, PAYMENTS)), [])
    return state


def states(entries: list[Entry], direction: Direction) -> list[PaymentState]:
    return [entry.state for entry in entries if entry.direction is direction]


def test_both_lanes_are_put_together_by_the_time_in_the_receipts(ledger: Ledger) -> None:
    store(ledger)
    entries = read_history(ledger)
    assert [(e.at, e.direction.value, e.nonce, e.amount_ucent) for e in entries] == [
        (10, "sent", 1, 5),
        (20, "received", 1, 100),
        (30, "sent", 2, 6),
        (40, "received", 2, 200),
        (50, "sent", 3, 7),
    ]
    assert [e.transferred_ucent for e in entries] == [5, 100, 11, 300, 18]


def test_a_payer_that_lies_about_the_time_cannot_put_its_lane_out_of_order(ledger: Ledger) -> None:
    lying = {SENT: [usage(5, 10)], RECEIVED: [usage(9, 2**64 - 1), usage(8, 0), usage(7, 20)]}
    total = replay(LaneTotal(), lying[RECEIVED])[-1]
    state = channel(
        sent=sent_lane(Side.A, 5, acknowledged=1),
        received=ReceivedLane(voucher=voucher(Side.B, total)),
    )
    ledger.commit([state], list(rows(CHANNEL, lying)), [])
    received = [e.nonce for e in read_history(ledger) if e.direction is Direction.RECEIVED]
    assert received == [1, 2, 3]


def test_what_the_hub_has_not_acknowledged_is_pending(ledger: Ledger) -> None:
    store(ledger, acknowledged=1)
    entries = read_history(ledger)
    pending, held = PaymentState.PENDING, PaymentState.ACKNOWLEDGED
    assert states(entries, Direction.SENT) == [held, pending, pending]
    assert states(entries, Direction.RECEIVED) == [held, held]


@pytest.mark.parametrize(
    ("settled", "sent", "received"),
    [
        ((0, 0), 0, 0),
        ((4, 99), 0, 0),
        ((5, 100), 1, 1),
        ((17, 299), 2, 1),
        ((18, 300), 3, 2),
        ((99, 999), 3, 2),
    ],
)
def test_settled_is_what_the_chain_s_total_covers_whole(
    ledger: Ledger, settled: tuple[int, int], sent: int, received: int
) -> None:
    store(ledger, acknowledged=0, chain=view(settled_ucent=settled))
    entries = read_history(ledger)
    assert states(entries, Direction.SENT).count(PaymentState.SETTLED) == sent
    assert states(entries, Direction.RECEIVED).count(PaymentState.SETTLED) == received
    assert states(entries, Direction.SENT)[sent:] == [PaymentState.PENDING] * (3 - sent)


def test_before_the_chain_was_read_nothing_is_settled(ledger: Ledger) -> None:
    store(ledger, chain=None)
    assert {e.state for e in read_history(ledger)} == {PaymentState.ACKNOWLEDGED}


async def read_close(ledger: Ledger, state: Channel, totals: tuple[int, int] | None) -> None:
    """Read the chain as the wallet does: the channel's end is in block 7, by these totals."""
    closings = Closings(1, kept_totals(ledger))
    look = await closings.look(OneClose(totals), [state], {}, 9, replaced=False)
    ledger.commit([], [], closings.take_in(look))


@dataclass
class OneClose:
    """A chain of 9 blocks, of which the seventh closed the channel, if any did."""

    totals: tuple[int, int] | None
    refuses: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def closed_totals(
        self, channel: ChannelId, first_block: int, last_block: int
    ) -> tuple[int, int] | None:
        self.asked.append((first_block, last_block))
        if self.refuses:
            raise RpcRefused("eth_getLogs", number=-32005, message="no logs here", reason=None)
        return self.totals if first_block <= 7 <= last_block else None


async def test_a_channel_that_closed_by_less_has_missed_the_rest(ledger: Ledger) -> None:
    state = store(ledger, acknowledged=2, chain=view(ChainStatus.CLOSED, settled_ucent=(11, 100)))
    await read_close(ledger, state, (11, 100))
    entries = read_history(ledger)
    settled, missed = PaymentState.SETTLED, PaymentState.MISSED
    assert states(entries, Direction.SENT) == [settled, settled, missed]
    assert states(entries, Direction.RECEIVED) == [settled, missed]


AGREED = SignedClose(
    terms=CloseTerms(transferred_a_ucent=18, transferred_b_ucent=300, expires=9),
    ours=bytes(65),
    theirs=bytes(65),
)


async def test_a_close_by_agreement_settles_what_it_names(ledger: Ledger) -> None:
    """The contract leaves the lanes' totals as they were settled before."""
    closed = store(ledger, chain=view(ChainStatus.CLOSED), close=AGREED)
    await read_close(ledger, closed, (18, 300))
    assert {e.state for e in read_history(ledger)} == {PaymentState.SETTLED}
    ledger.commit([replace(closed, chain=view())], [], [])  # a reorganisation took it back
    assert {e.state for e in read_history(ledger)} == {PaymentState.ACKNOWLEDGED}


async def test_a_close_that_both_signed_and_no_block_holds_settles_nothing(ledger: Ledger) -> None:
    """The window ended the channel, by the totals that were settled before."""
    closed = store(ledger, chain=view(ChainStatus.CLOSED, settled_ucent=(5, 100)), close=AGREED)
    settled, acknowledged = PaymentState.SETTLED, PaymentState.ACKNOWLEDGED
    sent = states(read_history(ledger), Direction.SENT)
    assert sent == [settled, acknowledged, acknowledged]  # how it ended is not known yet
    await read_close(ledger, closed, (5, 100))
    entries = read_history(ledger)
    assert states(entries, Direction.SENT) == [settled, PaymentState.MISSED, PaymentState.MISSED]
    assert states(entries, Direction.RECEIVED) == [settled, PaymentState.MISSED]


async def test_the_end_of_a_channel_is_searched_for_in_parts_and_from_the_newest_block(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closings_module, "BLOCKS_PER_LOOK", 2)
    state = store(ledger, chain=view(ChainStatus.CLOSED))
    chain, closings = OneClose((18, 300)), Closings(1)
    for head in (12, 13, 14, 15):  # newer heads do not move a search that has begun
        ledger.commit(
            [], [], closings.take_in(await closings.look(chain, [state], {}, head, replaced=False))
        )
    assert chain.asked == [(11, 12), (9, 10), (7, 8)]
    assert kept_totals(ledger) == {CHANNEL: (18, 300)}
    ledger.commit(
        [], [], closings.take_in(await closings.look(chain, [state], {}, 16, replaced=True))
    )
    assert kept_totals(ledger) == {}  # what the replaced blocks said is not believed
    assert chain.asked[3:] == [(15, 16)]


@pytest.mark.parametrize("chain", [OneClose(None), OneClose((18, 300), refuses=True)])
async def test_an_endpoint_without_the_logs_is_asked_once(ledger: Ledger, chain: OneClose) -> None:
    state, closings = store(ledger, chain=view(ChainStatus.CLOSED)), Closings(1)
    for head in (9, 10):
        assert not closings.take_in(await closings.look(chain, [state], {}, head, replaced=False))
    assert chain.asked == [(1, 9)]
    assert {e.state for e in read_history(ledger)} == {PaymentState.ACKNOWLEDGED}


async def test_a_look_that_is_not_taken_in_changes_nothing(ledger: Ledger) -> None:
    """The block that it was read at was replaced meanwhile."""
    state, closings = store(ledger, chain=view(ChainStatus.CLOSED)), Closings(1)
    chain = OneClose((18, 300))
    await closings.look(chain, [state], {}, 9, replaced=False)
    await closings.look(chain, [state], {}, 9, replaced=False)
    assert chain.asked == [(1, 9), (1, 9)]


def test_a_receipt_says_what_it_was_for(ledger: Ledger) -> None:
    store(ledger)
    parking, reward, _, asked, _ = (entry.record() for entry in read_history(ledger))
    assert all(tuple(record) == COLUMNS for record in (parking, reward, asked))
    assert (parking["type"], parking["purpose"], parking["at"]) == ("usage", "parking", 10)
    named = {k: reward[k] for k in ("type", "programme", "quantity", "taken", "original", "block")}
    assert named == {
        "type": "reward",
        "programme": "city-block",
        "quantity": "water-flow",
        "taken": 15,
        "original": "1 January",
        "block": 100,
    }
    assert (asked["type"], asked["purpose"]) == ("request", "good-deed")
    assert asked["request"] == "0x" + "07" * 16
    assert reward["reference"] == to_hex(REWARD.reference())
    assert reward["problem"] is parking["programme"] is parking["request"] is None


def test_a_receipt_that_cannot_be_read_hides_no_payment(ledger: Ledger) -> None:
    garbage = Receipt(type=ReceiptType.USAGE, cbor=b"\xff", salt=bytes(32))
    other = receipt(ReceiptType.USAGE, 3, 10, purpose="parking")
    lane = [Payment(amount_ucent=8, receipt=garbage), Payment(amount_ucent=9, receipt=other)]
    total = replay(LaneTotal(), lane)[-1]
    state = channel(received=ReceivedLane(voucher=voucher(Side.B, total)))
    ledger.commit([state], list(rows(CHANNEL, {RECEIVED: lane})), [])
    unread, unequal = read_history(ledger)
    assert (unread.amount_ucent, unread.at, unread.fields) == (8, 0, None)
    assert "not CBOR" in unread.record()["problem"]
    assert unequal.record()["problem"] == "the receipt says 3 µ¢"


def test_the_newest_are_the_end_of_all(ledger: Ledger) -> None:
    store(ledger)
    whole = read_history(ledger)
    for last in range(1, 8):
        assert read_history(ledger, last=last) == whole[-last:]
    assert read_history(ledger, last=0) == []


def test_a_direction_or_a_channel_can_be_chosen(ledger: Ledger) -> None:
    state = store(ledger)
    other_terms = terms(CAROL, sequence=2)
    other = replace(state, id=DEPLOYMENT.channel_id(other_terms), terms=other_terms)
    ledger.commit([other], list(rows(other.id, PAYMENTS)), [])
    assert count_payments(ledger) == len(read_history(ledger)) == 10
    for way, amounts in ((Direction.SENT, SENT_UCENT), (Direction.RECEIVED, RECEIVED_UCENT)):
        chosen = read_history(ledger, channel=other.id, direction=way)
        assert [e.amount_ucent for e in chosen] == list(amounts)
        assert {e.channel for e in chosen} == {other.id}
        assert count_payments(ledger, channel=other.id, direction=way) == len(amounts)
    assert count_payments(ledger, channel=CHANNEL) == 5
    with pytest.raises(UnknownChannel):
        read_history(ledger, channel=ChannelId(bytes(32)))
    with pytest.raises(UnknownChannel):
        count_payments(ledger, channel=ChannelId(bytes(32)))


def test_a_restored_wallet_says_from_which_payment_on_it_has_receipts(ledger: Ledger) -> None:
    state = store(ledger)
    assert find_gaps(ledger) == []
    lost = "DELETE FROM payment WHERE channel=? AND direction=? AND nonce<=?"
    ledger.commit((), (), [(lost, (CHANNEL, SENT, len(SENT_UCENT) - 1))])
    (gap,) = find_gaps(ledger)
    assert gap.record() == {
        "channel": "0x" + CHANNEL.hex(),
        "direction": "sent",
        "first_nonce": len(SENT_UCENT),
        "missing": len(SENT_UCENT) - 1,
    }
    assert find_gaps(ledger, direction=Direction.RECEIVED) == []
    ledger.commit((), (), [(lost, (CHANNEL, SENT, len(SENT_UCENT)))])
    (gap,) = find_gaps(ledger, channel=CHANNEL)
    assert (gap.first_nonce, gap.missing) == (len(SENT_UCENT) + 1, len(SENT_UCENT))
    assert count_payments(ledger) == len(read_history(ledger)) == len(RECEIVED_UCENT)
    assert [e.nonce for e in read_history(ledger, last=1)] == [state.received.total.nonce]
