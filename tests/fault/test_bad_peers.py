"""What a hostile peer sends gets a named error and an end, and nobody else notices."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rlp
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from farthing.channels.client.session import (
    PING_SECONDS,
    SILENCE_SECONDS_MAX,
    first_of,
    run_session,
)
from farthing.channels.client.wire import ConnectionLost, Wire
from farthing.channels.codecs import encode_message
from farthing.channels.errors import FarthingError, PeerError
from farthing.channels.frames import FRAME_BYTES_MAX, encode_frame
from farthing.channels.ids import ZERO_WORD
from farthing.channels.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Message,
    Ping,
    Pong,
    Reestablish,
    Update,
)
from farthing.channels.refusals import InsufficientBalance
from farthing.channels.state import Phase
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal

from ..nodes import PATIENCE_SECONDS, Node
from ..people import ALICE, BOB, CAROL, CHANNEL, DOMAIN, lane, payment, terms, voucher

CAROLS = terms(CAROL, sequence=2)


async def everything(wire: Wire) -> list[Message]:
    """Whatever comes until the connection ends."""
    heard: list[Message] = []
    with suppress(ConnectionLost):
        while True:
            heard += await wire.receive()
    return heard


class Hostile:
    """Mallory at bob's keyboard: an authenticated connection that sends whatever it likes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        await self.wire._stream.send_all(data)

    async def say(self, *messages: Message) -> None:
        """Send well-formed messages in one write."""
        await self.send(b"".join(encode_frame(encode_message(one)) for one in messages))

    async def greet(self) -> None:
        """Show that nothing is held, so that the channel is live."""
        await self.say(Reestablish(channel=CHANNEL, sent=None, received=None))

    async def end(self) -> Error:
        """Read until the connection ends; the last word, which must be an error."""
        with trio.fail_after(PATIENCE_SECONDS):
            last = (await everything(self.wire))[-1]
        assert isinstance(last, Error), f"the last word was {last}"
        assert last.text
        assert last.what_to_do
        return last


@pytest.fixture
async def alice(tmp_path: Path) -> AsyncIterator[Node]:
    """Alice's node, with a channel for bob and one for carol, listening."""
    node = Node(tmp_path / "alice.sqlite", ALICE)
    node.hold()
    node.hold(CAROLS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.driver.run)
        await node.listen(nursery)
        yield node
        nursery.cancel_scope.cancel()
    node.ledger.close()


@pytest.fixture
async def carol(alice: Node, tmp_path: Path) -> AsyncIterator[Node]:
    """Carol's node, connected with alice; it must go on paying whatever bob does."""
    node = Node(tmp_path / "carol.sqlite", CAROL)
    channel = node.hold(CAROLS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.driver.run)
        await node.dial(nursery, alice)
        await node.until_live(channel)
        node.pay(5, channel=channel)
        await node.notes.until(lambda: node.state(channel).sent.acknowledged_nonce == 1)
        yield node
        assert node.notes.ended == [], "carol's connection suffered"
        node.pay(6, channel=channel)
        await node.notes.until(lambda: node.state(channel).sent.acknowledged_nonce == 2)
        nursery.cancel_scope.cancel()
    node.ledger.close()


@pytest.fixture
async def hostile(alice: Node, carol: Node) -> AsyncIterator[Hostile]:
    """The hostile connection under bob's key, the channel live on it."""
    wire = Wire(await trio.open_tcp_stream("127.0.0.1", alice.port))
    await wire.dial(DOMAIN, BOB, ALICE.address)
    peer = Hostile(wire)
    await peer.greet()
    await alice.until_live()
    yield peer
    await wire.finish()
    await alice.until_down()
    assert alice.state().received.total == LaneTotal()


def nested(levels: int) -> bytes:
    payload = b""
    for _ in range(levels):
        size = len(payload)
        width = (size.bit_length() + 7) // 8
        head = (
            bytes([0xC0 + size])
            if size < 56
            else bytes([0xF7 + width]) + size.to_bytes(width, "big")
        )
        payload = head + payload
    return payload


def close(kind: type[Any]) -> Any:
    return kind(
        channel=CHANNEL,
        transferred_a_ucent=0,
        transferred_b_ucent=0,
        expires=1,
        signature=bytes(65),
    )


def update(amount: int, *, first: int = 1, signature: bytes | None = None) -> Update:
    signed = voucher(Side.B, lane(amount)).signature
    return Update(
        channel=CHANNEL,
        first_nonce=first,
        signature=signature or signed,
        payments=(payment(amount, number=1),),
    )


BOMB = 2**20 - 4
RAW = {
    "a length of 4 GiB": (b"\xff" * 4, "frame-too-long"),
    "a length over the limit": ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "frame-too-long"),
    "a frame of nothing": (bytes(4), "frame-empty"),
    "bytes that are no RLP": (encode_frame(b"\xff" * 100), "malformed-message"),
    "RLP that is no list": (encode_frame(rlp.encode(b"x" * 100)), "malformed-message"),
    "lists in lists in lists": (encode_frame(nested(20_000)), "malformed-message"),
    "a million empty lists": (
        encode_frame(b"\xfa" + BOMB.to_bytes(3, "big") + b"\xc0" * BOMB),
        "malformed-message",
    ),
    "a control message of a megabyte": (
        encode_frame(rlp.encode([b"\x18", bytes(16), b"\x01", bytes(2**20 - 100)])),
        "malformed-message",
    ),
    "an unknown number": (encode_frame(rlp.encode([b"\x7b", b"x"])), "unknown-message"),
    "the number after the last one": (encode_frame(rlp.encode([b"\x32"])), "unknown-message"),
    "an update that is cut off": (
        encode_frame(rlp.encode([b"\x10", bytes(50)])),
        "malformed-record",
    ),
    "a field too many": (
        encode_frame(rlp.encode([b"\x05", b"\x01", b"\x01"])),
        "malformed-message",
    ),
    "text that is not UTF-8": (
        encode_frame(rlp.encode([b"\x04", b"\xff", b"", b"", b""])),
        "malformed-message",
    ),
}


@pytest.mark.parametrize(("data", "code"), RAW.values(), ids=RAW.keys())
async def test_bytes_that_are_no_message_end_their_own_connection_with_a_name(
    hostile: Hostile, alice: Node, data: bytes, code: str
) -> None:
    await hostile.send(data)
    assert (await hostile.end()).code == code
    assert (await alice.until_ended()).code == code


BAD = {
    "another signature": (update(5, signature=bytes(65)), "bad-signature"),
    "our own signature": (
        update(5, signature=voucher(Side.A, lane(5)).signature),
        "bad-signature",
    ),
    "a signature over another amount": (
        update(6, signature=voucher(Side.B, lane(5)).signature),
        "bad-signature",
    ),
    "a gap": (update(5, first=3), "out-of-turn"),
    "an acknowledgement of nothing": (
        Ack(channel=CHANNEL, nonce=1, history=ZERO_WORD),
        "out-of-turn",
    ),
    "an offer that nobody asked for": (close(CloseOffer), "out-of-turn"),
}


@pytest.mark.parametrize(("message", "code"), BAD.values(), ids=BAD.keys())
async def test_a_message_that_the_protocol_forbids_ends_its_own_connection_with_a_name(
    hostile: Hostile, message: Message, code: str
) -> None:
    await hostile.say(message)
    assert (await hostile.end()).code == code


async def test_a_frame_that_never_ends_costs_one_frame_and_ends_with_the_connection(
    hostile: Hostile, alice: Node
) -> None:
    await hostile.send(FRAME_BYTES_MAX.to_bytes(4, "big") + b"half of it")
    await hostile.wire.finish()
    assert isinstance(await alice.until_ended(), ConnectionLost)


async def test_what_may_be_refused_is_refused_and_the_connection_stays(hostile: Hostile) -> None:
    too_much = update(10**9)
    await hostile.say(too_much, close(CloseAccept), Ping(token=7))
    heard: list[Message] = []
    with trio.fail_after(PATIENCE_SECONDS):
        while Pong(token=7) not in heard or len([m for m in heard if isinstance(m, Error)]) < 2:
            heard += await hostile.wire.receive()
    codes = [message.code for message in heard if isinstance(message, Error)]
    assert codes == ["insufficient-balance", "not-now"]


async def test_a_message_for_somebody_else_s_channel_reaches_no_channel(
    hostile: Hostile, alice: Node, carol: Node
) -> None:
    (carols,) = carol.driver.channels
    before = alice.state(carols)
    for stranger in (
        CloseRequest(channel=carols),
        Ack(channel=carols, nonce=1, history=ZERO_WORD),
        replace(update(5), channel=carols),
        Reestablish(channel=carols, sent=None, received=None),
        CloseRequest(channel=b"\x55" * 32),  # type: ignore[arg-type]
    ):
        await hostile.say(stranger)
    await alice.notes.until(lambda: len(alice.notes.strange) == 5)
    assert alice.state(carols) == before


async def test_a_signature_for_one_channel_does_not_count_on_another(
    alice: Node, hostile: Hostile, carol: Node
) -> None:
    (carols,) = carol.driver.channels
    elsewhere = voucher(Side.B, lane(5), of=carol.state(carols))
    await hostile.say(update(5, signature=elsewhere.signature))
    assert (await hostile.end()).code == "bad-signature"


# -- an application that refuses ----------------------------------------------------------------


async def test_an_error_of_our_own_in_one_connection_ends_that_one_alone(
    hostile: Hostile, alice: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(wire: Wire, message: Message) -> None:
        raise InsufficientBalance(2, 1)

    monkeypatch.setattr(alice.notes, "on_message", refuse)
    await hostile.say(Error(code="x", channel=b"", text="x", what_to_do="x"))
    assert (await hostile.end()).code == "insufficient-balance"
    assert isinstance(await alice.until_ended(), InsufficientBalance)


def test_the_first_error_of_nested_groups_is_the_one_reported() -> None:
    lost = ConnectionLost("gone")
    later = ConnectionLost("later")
    group: Any = ExceptionGroup("", [ExceptionGroup("", [lost, later]), later])
    assert first_of(group) is lost
    stranger: Any = ExceptionGroup("", [ValueError()])
    with pytest.raises(TypeError):
        first_of(stranger)


# -- silence ------------------------------------------------------------------------------------


async def test_a_silent_peer_is_pinged_and_then_given_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node = Node(tmp_path / "alice.sqlite", ALICE)
    ours, theirs = memory_stream_pair()
    wire, peer = Wire(ours), Wire(theirs)
    ended: list[FarthingError] = []

    async def serve() -> None:
        try:
            await run_session(wire, node.driver, node.notes)
        except PeerError as error:
            ended.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        heard = await everything(peer)
    assert heard == [Ping(token=n) for n in range(SILENCE_SECONDS_MAX // PING_SECONDS)]
    assert "silent" in str(ended[0])
    node.ledger.close()


async def test_a_peer_that_answers_is_kept(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node = Node(tmp_path / "alice.sqlite", ALICE)
    ours, theirs = memory_stream_pair()
    wire, peer = Wire(ours), Wire(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_session, wire, node.driver, node.notes)
        for token in range(10):
            (ping,) = await peer.receive()
            assert ping == Ping(token=token)
            await peer.say_now(Pong(token=token))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    node.ledger.close()


# -- greetings ----------------------------------------------------------------------------------


async def test_a_connection_that_is_not_proven_carries_nothing(alice: Node, carol: Node) -> None:
    wire = Wire(await trio.open_tcp_stream("127.0.0.1", alice.port))
    await wire.say_now(Ping(token=1))
    assert (await Hostile(wire).end()).code == "refused"
    assert alice.state().phase is Phase.DOWN
    await wire.finish()
