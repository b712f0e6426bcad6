"""The driver commits before it speaks, speaks only to the peer, and fails closed."""

import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from farthing.channels.client.driver import ChannelKnown, Driver, StrangerOnWire, UnknownChannel
from farthing.channels.client.ledger import RECEIVED, SENT, Ledger
from farthing.channels.client.resending import SLICE_PAYMENTS
from farthing.channels.client.wire import QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX, SlowReader, Wire
from farthing.channels.codecs import decode_message, encode_message
from farthing.channels.errors import InvariantBroken
from farthing.channels.events import (
    AskedClose,
    AskedPay,
    Disconnect,
    Elapsed,
    Event,
    Received,
    SignVoucher,
)
from farthing.channels.frames import FrameReader, encode_frame
from farthing.channels.ids import ZERO_WORD, Address
from farthing.channels.messages import Ack, Error, Ping, Reestablish, SignedTotal, Update
from farthing.channels.refusals import InsufficientBalance, NotNow, OutOfTurn
from farthing.channels.signing import BadSignature, verify_voucher
from farthing.channels.state import Channel, Link, Phase, ReceivedLane, SentLane
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, Payment, UnverifiedVoucher, Voucher

from ..nodes import Node, same_lanes, two_nodes
from ..people import ALICE, BOB, CHANNEL, DOMAIN, MALLORY, TERMS, lane, payment, terms, voucher


@pytest.fixture
async def alice(tmp_path: Path) -> AsyncIterator[Node]:
    """Alice's node, whose driver commits in the background; nobody is connected."""
    node = Node(tmp_path / "alice.sqlite", ALICE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.driver.run)
        yield node
        nursery.cancel_scope.cancel()
    node.ledger.close()


def wire_with(signer: Address = BOB.address) -> Wire:
    """A connection in memory whose writer never runs: what is queued can be looked at."""
    ours, _ = memory_stream_pair()
    wire = Wire(ours)
    wire.peer = signer
    return wire


def queued(wire: Wire) -> list[object]:
    """What waits to be written, taken off the queue."""
    reader = FrameReader(frame_bytes_max=2**20)
    messages: list[object] = []
    while True:
        try:
            frame = wire._out.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return messages
        messages += [decode_message(payload) for payload in reader.feed(frame)]


def shows(received: SignedTotal | None = None) -> Received:
    return Received(message=Reestablish(channel=CHANNEL, sent=None, received=received))


def live(node: Node, wire: Wire | None = None) -> Wire:
    """Link the channel and let the peer show that it holds nothing."""
    wire = wire or wire_with()
    node.driver.link(CHANNEL, wire)
    node.driver.receive([(CHANNEL, shows())])
    return wire


def update(*amounts: int, first: int = 1) -> Received:
    payments = tuple(payment(amount, number=first + n) for n, amount in enumerate(amounts))
    total = lane(*amounts)
    signed = voucher(Side.B, total)
    return Received(
        message=Update(
            channel=CHANNEL, first_nonce=first, signature=signed.signature, payments=payments
        )
    )


# -- channels and connections -------------------------------------------------------------------


async def test_an_unknown_channel_is_named(alice: Node) -> None:
    for call in (
        lambda: alice.driver.get(CHANNEL),
        lambda: alice.driver.feed(CHANNEL, Elapsed()),
        lambda: alice.driver.link(CHANNEL, wire_with()),
        lambda: alice.driver.pay(CHANNEL, (payment(),), ()),
    ):
        with pytest.raises(UnknownChannel, match=CHANNEL.hex()):
            call()


async def test_a_channel_that_is_held_is_never_replaced(alice: Node) -> None:
    alice.hold()
    held = alice.state()
    with pytest.raises(ChannelKnown):
        alice.driver.add(replace(held, chain=None))
    assert alice.state() is held


async def test_a_channel_speaks_only_with_its_own_peer(alice: Node) -> None:
    alice.hold()
    for stranger in (wire_with(MALLORY.address), wire_with(ALICE.address)):
        with pytest.raises(StrangerOnWire):
            alice.driver.link(CHANNEL, stranger)
    unproven = wire_with()
    unproven.peer = None
    with pytest.raises(StrangerOnWire, match="nobody"):
        alice.driver.link(CHANNEL, unproven)
    assert alice.state().link is Link.DOWN


async def test_a_stopped_channel_is_not_linked(alice: Node) -> None:
    alice.hold()
    alice.driver.channels[CHANNEL] = replace(alice.state(), stopped="a clone")
    wire = wire_with()
    with pytest.raises(NotNow, match="stopped"):
        alice.driver.link(CHANNEL, wire)
    assert not alice.driver.linked(CHANNEL, wire)


async def test_a_newer_connection_takes_over_and_the_older_hears_nothing_more(alice: Node) -> None:
    alice.hold()
    older = live(alice)
    await alice.driver.wait_durable()
    queued(older)
    alice.pay(5)  # decided while the older one speaks, durable when it does not any more
    newer = wire_with()
    alice.driver.link(CHANNEL, newer)
    await alice.driver.wait_durable()
    assert alice.driver.linked(CHANNEL, newer)
    assert not alice.driver.linked(CHANNEL, older)
    assert queued(older) == []
    (first,) = queued(newer)  # and not the payment, which must not come before the greeting
    assert isinstance(first, Reestablish)
    assert first.sent is not None


async def test_the_end_of_an_older_connection_does_not_end_the_newer(alice: Node) -> None:
    alice.hold()
    older = live(alice)
    newer = live(alice)
    alice.driver.unlink(older)
    assert alice.state().phase is Phase.LIVE
    alice.driver.unlink(newer)
    assert alice.state().phase is Phase.DOWN


# -- commit, then speak -------------------------------------------------------------------------


class Gate:
    """Holds commits back until it is opened, as a slow disk would."""

    def __init__(self, ledger: Ledger) -> None:
        self.entered, self._open = threading.Event(), threading.Event()
        self._commit = ledger.commit
        self.commits = 0
        ledger.commit = self.commit  # type: ignore[method-assign, assignment]  # a fake disk

    def commit(self, *batch: Any) -> None:
        self.entered.set()
        self._open.wait(timeout=20)
        self.commits += 1
        self._commit(*batch)

    async def wait_entered(self) -> None:
        await trio.to_thread.run_sync(self.entered.wait, 20)

    def open(self) -> None:
        self._open.set()


async def test_nothing_is_said_before_it_is_durable(alice: Node) -> None:
    alice.hold()
    wire = live(alice)
    await alice.driver.wait_durable()
    queued(wire)
    gate = Gate(alice.ledger)
    alice.pay(5)
    alice.driver.receive([(CHANNEL, update(7))])
    await gate.wait_entered()
    assert queued(wire) == []
    assert alice.notes.received == []
    assert alice.stored(SENT) == alice.stored(RECEIVED) == []
    gate.open()
    await alice.driver.wait_durable()
    kinds = [type(message) for message in queued(wire)]
    assert kinds == [Update, Ack]
    assert alice.notes.received == [1]
    assert [one.payment.amount_ucent for one in alice.stored(SENT)] == [5]
    assert [one.payment.amount_ucent for one in alice.stored(RECEIVED)] == [7]


async def test_all_that_comes_during_a_commit_goes_into_the_next_one(alice: Node) -> None:
    alice.hold()
    live(alice)
    await alice.driver.wait_durable()
    gate = Gate(alice.ledger)
    alice.pay(1)
    await gate.wait_entered()
    for _ in range(50):
        alice.pay(1)
    gate.open()
    await alice.driver.wait_durable()
    assert gate.commits == 2
    assert len(alice.stored(SENT)) == 51


async def test_waiting_for_durability_waits_for_the_commit_under_way(alice: Node) -> None:
    alice.hold()
    await alice.driver.wait_durable()
    gate = Gate(alice.ledger)
    done: list[str] = []
    alice.driver.store((), then=lambda: done.append("then"))
    await gate.wait_entered()

    async def wait() -> None:
        await alice.driver.wait_durable()
        done.append("waited")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        gate.open()
    assert done == ["then", "waited"]


async def test_with_nothing_to_commit_nobody_waits_and_nothing_is_written(alice: Node) -> None:
    alice.hold()
    await alice.driver.wait_durable()
    gate = Gate(alice.ledger)
    gate.open()
    for _ in range(10):
        alice.driver.feed(CHANNEL, Elapsed())
    await alice.driver.wait_durable()
    await alice.driver.flush()
    assert gate.commits == 0


async def test_statements_are_committed_with_the_payment_they_belong_to(alice: Node) -> None:
    alice.hold()
    live(alice)
    insert = "INSERT INTO setting VALUES (?, ?)"
    alice.driver.pay(CHANNEL, (payment(5),), [(insert, ("paid", "yes"))])
    with pytest.raises(InsufficientBalance):
        alice.driver.pay(CHANNEL, (payment(10**9),), [(insert, ("paid", "too much"))])
    await alice.driver.wait_durable()
    assert alice.ledger.query("SELECT * FROM setting WHERE key='paid'") == [("paid", "yes")]


async def test_an_orderly_end_commits_what_is_left(tmp_path: Path) -> None:
    node = Node(tmp_path / "alice.sqlite", ALICE)
    node.hold()
    live(node)
    node.pay(5)
    await node.driver.flush()  # without a task that commits
    node.ledger.close()
    again = Node(tmp_path / "alice.sqlite", ALICE)
    assert again.state().sent.total.transferred_ucent == 5
    assert again.state().phase is Phase.DOWN
    assert again.state().fresh_boot
    again.ledger.close()


async def test_a_flush_during_a_commit_waits_for_its_turn(alice: Node) -> None:
    alice.hold()
    live(alice)
    await alice.driver.wait_durable()
    gate = Gate(alice.ledger)
    alice.pay(1)
    await gate.wait_entered()
    alice.pay(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.driver.flush)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert gate.commits == 2
    assert len(alice.stored(SENT)) == 2


# -- what the peer sends ------------------------------------------------------------------------


async def test_of_many_updates_in_one_read_only_the_newest_signature_is_checked(
    alice: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []

    def check(separator: bytes, unverified: UnverifiedVoucher, signer: Address) -> Voucher:
        checked.append(unverified.total.nonce)
        return verify_voucher(separator, unverified, signer)

    monkeypatch.setattr("farthing.channels.client.driver.verify_voucher", check)
    alice.hold()
    wire = live(alice)
    await alice.driver.wait_durable()
    queued(wire)
    updates = []
    for count in range(1, 6):
        message = update(*range(1, count + 1)).message
        assert isinstance(message, Update)
        newest = replace(message, first_nonce=count, payments=message.payments[-1:])
        updates.append((CHANNEL, Received(message=newest)))
    alice.driver.receive(updates)
    await alice.driver.wait_durable()
    assert checked == [5]
    (ack,) = queued(wire)
    assert isinstance(ack, Ack)
    assert ack.nonce == 5
    assert alice.notes.received == [1, 2, 3, 4, 5]


async def test_what_came_before_a_bad_message_in_the_same_read_is_kept(alice: Node) -> None:
    alice.hold()
    live(alice)
    gap = update(9, first=5)
    with pytest.raises(OutOfTurn):
        alice.driver.receive([(CHANNEL, update(5)), (CHANNEL, gap)])
    await alice.driver.wait_durable()
    assert alice.state().received.total.transferred_ucent == 5
    assert len(alice.stored(RECEIVED)) == 1


async def test_an_update_that_is_fed_alone_is_verified_too(alice: Node) -> None:
    alice.hold()
    live(alice)
    alice.driver.feed(CHANNEL, update(5))
    assert alice.state().received.total.transferred_ucent == 5


async def test_a_bad_signature_ends_its_connection_with_a_reason_and_no_other(alice: Node) -> None:
    other_terms = terms(MALLORY, sequence=2)
    alice.hold()
    other = alice.hold(other_terms)
    wire = live(alice)
    innocent = wire_with(MALLORY.address)
    alice.driver.link(other, innocent)
    await alice.driver.wait_durable()
    queued(wire)
    message = update(5).message
    assert isinstance(message, Update)
    forged = replace(message, signature=message.signature[:64] + b"\x1d")
    alice.driver.receive([(CHANNEL, Received(message=forged))])
    await alice.driver.wait_durable()
    (error,) = queued(wire)
    assert isinstance(error, Error)
    assert (error.code, error.channel) == ("bad-signature", CHANNEL)
    assert alice.state().phase is Phase.DOWN
    assert alice.stored(RECEIVED) == []
    assert alice.driver.linked(other, innocent)


async def test_a_disconnect_never_hits_a_newer_connection(alice: Node) -> None:
    alice.hold()
    older = live(alice)
    message = update(5).message
    assert isinstance(message, Update)
    forged = Received(message=replace(message, signature=bytes(65)))
    alice.driver.receive([(CHANNEL, forged)])
    newer = live(alice)
    await alice.driver.wait_durable()
    assert alice.state().phase is Phase.LIVE
    assert alice.driver.linked(CHANNEL, newer)
    with pytest.raises(trio.ClosedResourceError):
        older._out_send.send_nowait(b"")


async def test_a_signature_that_is_not_ours_is_no_proof_of_a_clone(alice: Node) -> None:
    alice.hold()
    live(alice)
    forged = voucher(Side.B, lane(5))  # by the peer's own key
    claim = SignedTotal(total=lane(5), conditions=ZERO_WORD, signature=forged.signature)
    with pytest.raises(BadSignature):
        alice.driver.receive([(CHANNEL, shows(claim))])
    assert alice.state().phase is Phase.LIVE


async def test_a_clone_is_stopped_and_told_and_the_peer_hears_why(alice: Node) -> None:
    alice.hold()
    wire = live(alice)
    own = voucher(Side.A, lane(5))
    claim = SignedTotal(total=lane(5), conditions=ZERO_WORD, signature=own.signature)
    alice.driver.receive([(CHANNEL, shows(claim))])
    await alice.driver.wait_durable()
    assert alice.state().phase is Phase.STOPPED
    assert alice.notes.stopped
    error = queued(wire)[-1]
    assert isinstance(error, Error)
    assert error.code == "channel-stopped"


# -- sending ------------------------------------------------------------------------------------


async def test_a_peer_that_does_not_read_is_let_go_and_not_waited_for(alice: Node) -> None:
    alice.hold()
    wire = live(alice)
    await alice.driver.wait_durable()
    queued(wire)
    for token in range(QUEUE_FRAMES_MAX):
        wire.send(Ping(token=token))
    with pytest.raises(SlowReader, match=str(QUEUE_FRAMES_MAX)):
        wire.send(Ping(token=0))
    alice.pay(5)
    await alice.driver.wait_durable()
    assert alice.state().phase is Phase.DOWN
    assert len(alice.stored(SENT)) == 1  # promised all the same, and sent when the peer is back


async def test_bytes_that_wait_for_a_peer_are_bounded_too() -> None:
    wire = wire_with()
    big = Update(channel=CHANNEL, first_nonce=1, signature=bytes(65), payments=bulky(2500))
    size = len(encode_frame(encode_message(big)))
    for _ in range(QUEUE_BYTES_MAX // size):
        wire.send(big)
    with pytest.raises(SlowReader, match="bytes wait"):
        wire.send(big)


def bulky(count: int) -> tuple[Payment, ...]:
    """Payments whose receipts are as long as the schema lets them be."""
    return tuple(payment(1, number=n, purpose="\U0001f697" * 64) for n in range(count))


async def test_more_than_a_frame_of_payments_arrives_in_several_updates(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (alice, bob):
        alice.driver.pay(CHANNEL, bulky(4000), ())
        await alice.notes.until(lambda: alice.state().sent.quiet)
        assert alice.state().sent.total.nonce == 4000
        assert same_lanes(alice, bob)
        assert bob.notes.received == list(range(1, 4001))
        assert not alice.notes.ended
        assert not bob.notes.ended


async def test_what_is_resent_and_what_is_new_in_one_batch_are_sent_once_each(alice: Node) -> None:
    alice.hold()
    live(alice)
    alice.pay(5)
    await alice.driver.wait_durable()
    wire = wire_with()
    alice.driver.link(CHANNEL, wire)
    alice.driver.receive([(CHANNEL, shows())])  # the peer holds nothing: payment 1 is resent
    alice.pay(6)  # and payment 2 follows before the commit
    await alice.driver.wait_durable()
    greeting, resent, new = queued(wire)
    assert isinstance(greeting, Reestablish)
    assert isinstance(resent, Update)
    assert isinstance(new, Update)
    assert (resent.first_nonce, len(resent.payments)) == (1, 1)
    assert (new.first_nonce, len(new.payments)) == (2, 1)


async def test_a_lane_adopted_from_the_peer_has_nothing_of_before_to_resend(alice: Node) -> None:
    alice.hold()
    wire = wire_with()
    alice.driver.link(CHANNEL, wire)
    own = voucher(Side.A, lane(5))
    held = SignedTotal(total=lane(5), conditions=ZERO_WORD, signature=own.signature)
    alice.driver.receive([(CHANNEL, shows(held))])
    assert alice.state().sent.total == lane(5)
    alice.driver.receive([(CHANNEL, shows())])  # a peer that lost it, too, cannot be helped
    await alice.driver.wait_durable()
    assert [type(message) for message in queued(wire)] == [Reestablish]
    alice.pay(6)
    await alice.driver.wait_durable()
    (new,) = queued(wire)
    assert isinstance(new, Update)
    assert new.first_nonce == 2


async def test_a_long_lane_is_sent_again_only_as_fast_as_the_peer_reads(
    alice: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.hold()
    live(alice)
    alice.driver.pay(CHANNEL, bulky(SLICE_PAYMENTS + 1), ())
    await alice.driver.wait_durable()
    signed: list[int] = []
    sign = Driver._sign

    def count(self: Driver, state: Channel, total: LaneTotal) -> Voucher:
        signed.append(total.nonce)
        return sign(self, state, total)

    monkeypatch.setattr(Driver, "_sign", count)
    wire = live(alice)
    await alice.driver.wait_durable()
    greeting, first = queued(wire)
    assert isinstance(greeting, Reestablish)
    assert isinstance(first, Update)
    assert (first.first_nonce, len(first.payments)) == (1, SLICE_PAYMENTS)
    assert signed == [SLICE_PAYMENTS]  # the second is not read, signed or queued yet
    alice.pay(6)  # new, and waits for its turn
    await alice.driver.wait_durable()
    assert queued(wire) == []
    assert wire.refill is not None
    wire.refill()  # as when the first has been written
    (second,) = queued(wire)
    assert isinstance(second, Update)
    assert (second.first_nonce, len(second.payments)) == (SLICE_PAYMENTS + 1, 2)
    alice.pay(7)
    await alice.driver.wait_durable()
    (third,) = queued(wire)
    assert isinstance(third, Update)
    assert third.first_nonce == SLICE_PAYMENTS + 3


async def test_a_peer_that_asks_again_in_the_middle_is_sent_the_lane_from_there(
    alice: Node,
) -> None:
    alice.hold()
    live(alice)
    alice.driver.pay(CHANNEL, bulky(SLICE_PAYMENTS + 1), ())
    await alice.driver.wait_durable()
    wire = live(alice)
    await alice.driver.wait_durable()
    queued(wire)
    alice.driver.receive([(CHANNEL, shows())])
    await alice.driver.wait_durable()
    assert wire.refill is not None
    wire.refill()
    updates = [message for message in queued(wire) if isinstance(message, Update)]
    assert [update.first_nonce for update in updates] == [1, SLICE_PAYMENTS + 1]


async def test_many_new_payments_during_a_resend_follow_in_order(alice: Node) -> None:
    alice.hold()
    live(alice)
    alice.driver.pay(CHANNEL, bulky(SLICE_PAYMENTS + 1), ())
    await alice.driver.wait_durable()
    wire = live(alice)
    await alice.driver.wait_durable()
    alice.driver.pay(CHANNEL, bulky(1000), ())  # over one update
    await alice.driver.wait_durable()
    updates: list[Update] = []
    for _ in range(9):
        updates += [message for message in queued(wire) if isinstance(message, Update)]
        assert wire.refill is not None
        wire.refill()
    expected = 1
    for update in updates:
        assert update.first_nonce == expected
        expected += len(update.payments)
    assert expected == SLICE_PAYMENTS + 1 + 1000 + 1


async def test_a_resend_ends_with_its_connection(alice: Node) -> None:
    alice.hold()
    live(alice)
    alice.driver.pay(CHANNEL, bulky(SLICE_PAYMENTS + 1), ())
    await alice.driver.wait_durable()
    wire = live(alice)
    await alice.driver.wait_durable()
    queued(wire)
    alice.driver.unlink(wire)
    assert wire.refill is not None
    wire.refill()
    assert queued(wire) == []
    lost = live(alice)
    await alice.driver.wait_durable()
    lost.close_soon()
    assert lost.refill is not None
    lost.refill()  # it cannot be sent: the connection is given up
    assert alice.state().phase is Phase.DOWN


async def test_nothing_is_resent_on_a_connection_that_has_ended(alice: Node) -> None:
    alice.hold()
    live(alice)
    alice.pay(5)
    await alice.driver.wait_durable()
    wire = live(alice)
    alice.driver.unlink(wire)
    await alice.driver.wait_durable()
    assert queued(wire) == []


# -- impossible states --------------------------------------------------------------------------


def break_it(node: Node) -> None:
    """Put a channel into a state that no event leads to."""
    gap = SentLane(voucher=voucher(Side.A, lane(1)), unacknowledged=())
    node.driver.channels[CHANNEL] = replace(node.state(), sent=gap)


async def test_an_impossible_state_stops_its_channel_and_no_other(alice: Node) -> None:
    alice.hold()
    other = alice.hold(terms(MALLORY, sequence=2))
    live(alice)
    break_it(alice)
    alice.driver.feed(CHANNEL, Elapsed())
    alice.driver.receive([(CHANNEL, update(5)), (CHANNEL, update(5))])
    await alice.driver.wait_durable()
    assert "missing or doubled" in (alice.state().stopped or "")
    assert alice.notes.stopped == [
        "payments between acknowledged and promised are missing or doubled"
    ]
    assert alice.state(other).stopped is None
    assert alice.ledger.load_channels()[0].id in (CHANNEL, other)


async def test_an_impossible_state_met_in_a_read_stops_the_channel_and_the_read_goes_on(
    alice: Node,
) -> None:
    alice.hold()
    live(alice)
    break_it(alice)
    alice.driver.receive([(CHANNEL, update(5)), (CHANNEL, update(5))])
    assert alice.state().phase is Phase.STOPPED


@pytest.mark.parametrize(
    "asked", [AskedPay(payments=(payment(),)), AskedClose()], ids=["pay", "close"]
)
async def test_who_asks_of_an_impossible_state_is_told(alice: Node, asked: Event) -> None:
    alice.hold()
    live(alice)
    break_it(alice)
    with pytest.raises(InvariantBroken):
        alice.driver.feed(CHANNEL, asked)
    assert alice.state().phase is Phase.STOPPED
    with pytest.raises(NotNow):
        alice.pay(1)


async def test_an_effect_that_is_no_telling_is_never_carried_out_late(alice: Node) -> None:
    alice.hold()
    with pytest.raises(TypeError, match="SignVoucher"):
        alice.driver._carry_out(alice.state(), SignVoucher(total=lane(1)), None)
    unheard = Disconnect(channel=CHANNEL, reason="nobody is there")
    alice.driver._carry_out(alice.state(), unheard, None)


async def test_a_close_that_both_signed_is_given_to_the_application(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (alice, bob):
        alice.pay(5)
        bob.pay(7)
        await alice.notes.until(lambda: alice.state().sent.quiet)
        bob.driver.feed(CHANNEL, AskedClose())
        await alice.notes.until(lambda: bool(alice.notes.closes))
        (close,) = alice.notes.closes
        assert (close.terms.transferred_a_ucent, close.terms.transferred_b_ucent) == (5, 7)
        accepted = bob.state().close
        assert accepted is not None
        assert accepted.terms == close.terms
        assert {alice.state().phase, bob.state().phase} == {Phase.FROZEN}


async def test_a_driver_boots_with_every_channel_as_it_was_committed(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (alice, bob):
        alice.pay(5, 6)
        bob.pay(7)
        await alice.notes.until(lambda: alice.state().sent.quiet)
        await bob.notes.until(lambda: bob.state().sent.quiet)
        await alice.driver.wait_durable()
        before = alice.state()
    ledger = Ledger(tmp_path / "alice.sqlite")
    booted = Driver(ledger, ALICE, DOMAIN, alice.now, alice.notes).get(CHANNEL)
    assert booted == replace(before, link=Link.DOWN, fresh_boot=True)
    assert booted.terms == TERMS
    assert booted.received == ReceivedLane(voucher=before.received.voucher)
    ledger.close()
