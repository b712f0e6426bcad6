"""Nobody speaks for somebody else: every lie in the opening of a connection is refused by name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import memory_stream_pair

from farthing.channels.client.session import say_error
from farthing.channels.client.wire import (
    HANDSHAKE_SECONDS_MAX,
    ConnectionLost,
    Refused,
    Wire,
)
from farthing.channels.codecs import encode_message
from farthing.channels.eip712 import Domain
from farthing.channels.errors import PeerError
from farthing.channels.frames import FRAME_BYTES_MAX, GREETING_BYTES_MAX, FrameTooLong, encode_frame
from farthing.channels.handshake import GreetingMismatch, Role, Transcript, make_hello
from farthing.channels.ids import Address
from farthing.channels.messages import (
    Authenticate,
    Challenge,
    Error,
    Hello,
    Message,
    Ping,
    SubmitReadings,
)
from farthing.channels.signing import BadSignature, Signer

from ..people import ALICE, BOB, CAROL, DEPLOYMENT, DOMAIN, MALLORY


@dataclass
class Door:
    """Alice's listener on a socket: what became of each connection."""

    port: int = 0
    peers: list[Address | None] = field(default_factory=list)
    errors: list[PeerError] = field(default_factory=list)

    async def accept(self, stream: trio.SocketStream) -> None:
        wire = Wire(stream)
        try:
            await wire.accept(DOMAIN, ALICE)
            self.peers.append(wire.peer)
            await wire.say_now(SubmitReadings(id=bytes(16), format=1, senml=bytes(5000)))
        except PeerError as error:
            self.errors.append(error)
            await say_error(wire, error)
        await wire.finish()

    async def wire(self) -> Wire:
        """A new connection to the door."""
        return Wire(await trio.open_tcp_stream("127.0.0.1", self.port))


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """Alice's listener."""
    door = Door()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    door.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, door.accept, listeners)
        yield door
        nursery.cancel_scope.cancel()


async def test_two_that_mean_each_other_know_each_other_afterwards(door: Door) -> None:
    wire = await door.wire()
    await wire.dial(DOMAIN, BOB, ALICE.address)
    assert wire.peer == ALICE.address
    # What the listener says at once, longer than a greeting may be, is read as well.
    (first,) = await wire.receive()
    assert isinstance(first, SubmitReadings)
    assert door.peers == [BOB.address]
    await wire.finish()


@pytest.mark.parametrize(
    ("domain", "signer", "peer", "why"),
    [
        (Domain(chain_id=1, contract=DOMAIN.contract), BOB, ALICE, "on chain 1"),
        (
            Domain(chain_id=DOMAIN.chain_id, contract=DEPLOYMENT.city_credit),
            BOB,
            ALICE,
            "another payment_channels contract",
        ),
        (DOMAIN, BOB, CAROL, "another hub"),
        (DOMAIN, ALICE, ALICE, "own signer"),
    ],
)
async def test_a_dialer_that_means_another_chain_contract_or_hub_is_told_so(
    door: Door, domain: Domain, signer: Signer, peer: Signer, why: str
) -> None:
    wire = await door.wire()
    with pytest.raises(Refused, match=why) as caught:
        await wire.dial(domain, signer, peer.address)
    assert caught.value.what_to_do
    assert wire.peer is None
    assert isinstance(door.errors[0], GreetingMismatch)
    assert door.peers == []
    await wire.finish()


async def expect_refusal(door: Door, wire: Wire, kind: type[PeerError]) -> None:
    """Read to the end: an error by name, and nobody was let in."""
    with trio.fail_after(30):
        with pytest.raises((Refused, ConnectionLost)):
            await wire._expect(Authenticate)
        await wire.finish()
    assert isinstance(door.errors[0], kind)
    assert door.peers == []


async def opening(wire: Wire) -> Transcript:
    """Say bob's hello and hear alice's challenge."""
    hello = make_hello(DOMAIN, signer=BOB.address, peer=ALICE.address, nonce=b"\x07" * 32)
    await wire.say_now(hello)
    challenge = await wire._expect(Challenge)
    wire._reader.frame_bytes_max = FRAME_BYTES_MAX
    return Transcript(domain=DOMAIN, hello=hello, challenge=challenge)


async def test_an_authentication_that_was_overheard_is_worth_nothing_on_another_connection(
    door: Door,
) -> None:
    first = await door.wire()
    transcript = await opening(first)
    overheard = Authenticate(signature=BOB.sign_digest(transcript.digest(Role.DIALER)))
    await first.say_now(overheard)
    await first._expect(Authenticate)
    await first.receive()
    await first.finish()
    assert door.peers == [BOB.address]
    door.peers.clear()
    second = await door.wire()
    await opening(second)  # the same hello, but alice's nonce is a new one
    await second.say_now(overheard)
    await expect_refusal(door, second, BadSignature)


async def test_a_signature_by_another_key_or_for_the_other_role_lets_nobody_in(door: Door) -> None:
    for signer, role in ((MALLORY, Role.DIALER), (ALICE, Role.DIALER), (BOB, Role.LISTENER)):
        door.errors.clear()
        wire = await door.wire()
        transcript = await opening(wire)
        await wire.say_now(Authenticate(signature=signer.sign_digest(transcript.digest(role))))
        await expect_refusal(door, wire, BadSignature)


@pytest.mark.parametrize(
    "first",
    [
        Ping(token=1),
        Authenticate(signature=bytes(65)),
        Error(code="", channel=b"", text="", what_to_do=""),
    ],
)
async def test_an_opening_in_another_order_is_refused(door: Door, first: Message) -> None:
    wire = await door.wire()
    await wire.say_now(first)
    await expect_refusal(door, wire, Refused)


async def test_a_stranger_s_frame_is_refused_beyond_the_size_of_a_greeting(door: Door) -> None:
    wire = await door.wire()
    await wire._send_bytes((GREETING_BYTES_MAX + 1).to_bytes(4, "big"))
    await expect_refusal(door, wire, FrameTooLong)


async def test_a_stranger_that_hangs_up_is_let_go(door: Door) -> None:
    wire = await door.wire()
    await wire._send_bytes(encode_frame(encode_message(Ping(token=1)))[:3])
    await wire._stream.aclose()
    with trio.fail_after(30):
        while not door.errors:
            await trio.lowlevel.checkpoint()
    assert isinstance(door.errors[0], ConnectionLost)


# -- a listener that lies -----------------------------------------------------------------------


@asynccontextmanager
async def lying(listen: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[Wire]:
    """A dialer's end of a connection whose other end does what it is told."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, Wire(theirs))
        yield Wire(ours)
        nursery.cancel_scope.cancel()


async def challenge_as(wire: Wire, signer: Signer) -> Transcript:
    hello = await wire._expect(Hello)
    challenge = Challenge(version=1, features=0, signer=signer.address, nonce=b"\x08" * 32)
    await wire.say_now(challenge)
    return Transcript(domain=DOMAIN, hello=hello, challenge=challenge)


async def test_a_listener_with_another_signer_is_not_sent_a_signature() -> None:
    heard: list[Message] = []

    async def listen(wire: Wire) -> None:
        await challenge_as(wire, MALLORY)
        heard.extend(await wire.receive())

    async with lying(listen) as wire:
        with pytest.raises(GreetingMismatch, match="another signer"):
            await wire.dial(DOMAIN, BOB, ALICE.address)
    assert heard == []


async def test_a_listener_that_only_claims_to_be_the_hub_is_found_out() -> None:
    async def listen(wire: Wire) -> None:
        transcript = await challenge_as(wire, ALICE)
        await wire._expect(Authenticate)
        signature = MALLORY.sign_digest(transcript.digest(Role.LISTENER))
        await wire.say_now(Authenticate(signature=signature))

    async with lying(listen) as wire:
        with pytest.raises(BadSignature):
            await wire.dial(DOMAIN, BOB, ALICE.address)
        assert wire.peer is None


async def test_a_listener_that_sends_the_dialer_s_own_signature_back_is_found_out() -> None:
    async def listen(wire: Wire) -> None:
        await challenge_as(wire, ALICE)
        await wire.say_now(await wire._expect(Authenticate))

    async with lying(listen) as wire:
        with pytest.raises(BadSignature):
            await wire.dial(DOMAIN, BOB, ALICE.address)


async def test_whoever_keeps_the_other_waiting_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def silent(wire: Wire) -> None:
        await trio.sleep_forever()

    started = trio.current_time()
    async with lying(silent) as wire:
        with pytest.raises(ConnectionLost, match="did not answer"):
            await wire.dial(DOMAIN, BOB, ALICE.address)
    async with lying(silent) as wire:
        with pytest.raises(ConnectionLost, match="did not authenticate"):
            await wire.accept(DOMAIN, ALICE)
    assert trio.current_time() - started == 2 * HANDSHAKE_SECONDS_MAX


async def test_a_connection_that_breaks_while_we_speak_is_lost_and_can_be_retried() -> None:
    ours, theirs = memory_stream_pair()
    wire = Wire(ours)
    await theirs.aclose()
    with pytest.raises(ConnectionLost, match="sending"):
        await wire.say_now(Ping(token=1))
    with pytest.raises(ConnectionLost, match="closed the connection"):
        await wire.receive()
    await wire.finish()
    with pytest.raises(ConnectionLost, match="reading"):
        await wire.receive()
    with pytest.raises(ConnectionLost, match="closed"):
        wire.send(Ping(token=1))
    assert ConnectionLost.retryable
    await say_error(wire, Refused("too late", remedy="never mind"))  # says nothing, and is no error
