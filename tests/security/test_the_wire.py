"""Somebody in between, whatever certificate it shows, and peers that want all of a hub's time."""

import logging
import socket
import ssl
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from farthing.channels.client.folder import HubAddress, NotLoopback, TowerPlace, check_private
from farthing.channels.client.memory import Memory
from farthing.channels.client.pace import REESTABLISH_BURST, Pace, TooManyReestablish
from farthing.channels.client.tls import CertificateRefused, TlsRefused, Trust, dial
from farthing.channels.client.wire import (
    WRITE_SECONDS_MAX,
    ConnectionLost,
    Refused,
    SlowReader,
    Wire,
)
from farthing.channels.codecs import encode_message
from farthing.channels.errors import PeerError
from farthing.channels.events import ChannelMessage
from farthing.channels.frames import encode_frame
from farthing.channels.handshake import Role, Transcript, make_hello
from farthing.channels.ids import Address
from farthing.channels.messages import Authenticate, Challenge, Message, Ping, Reestablish
from farthing.channels.signing import BadSignature
from farthing.node.addresses import Addresses
from farthing.node.limits import Door, DoorLimits, TooManyConnections, TooManyGuests
from farthing.node.server import Entrance, Server
from farthing.node.tls import accept, load_tls
from farthing.node.watchtower.reception import NoChannels

from ..certificates import HOST, Authority
from ..people import ALICE, BOB, CHANNEL, DOMAIN, MALLORY


async def test_a_signature_made_through_mallorys_certificate_lets_nobody_in(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    hubs, mallorys = authority.leaf("hub"), authority.leaf("mallory")
    ours, theirs = memory_stream_pair()  # mallory, who ends TLS on both sides, hands all on
    refused: list[type[PeerError]] = []

    async def listen() -> None:
        try:
            await Wire(theirs, certificate=hubs.hash).accept(DOMAIN, ALICE)
        except PeerError as error:
            refused.append(type(error))
            await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        with pytest.raises((Refused, ConnectionLost)):
            await Wire(ours, certificate=mallorys.hash).dial(DOMAIN, BOB, ALICE.address)
    assert refused == [BadSignature]


async def served(tmp_path: Path, trust: Trust | None, client: ssl.SSLContext | None) -> None:
    """Speak TLS with a hub of mallory's, by our own dialling or with that context."""
    leaf = Authority(tmp_path).leaf("mallory")
    tls = load_tls(leaf.certificate, leaf.key)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    heard: list[PeerError] = []

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await accept(stream, tls)
        except PeerError as error:
            heard.append(error)
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        try:
            if client is None:
                dialled = await dial(HOST, port, trust)
                await trio.aclose_forcefully(dialled.stream)
            else:
                async with await trio.open_tcp_stream(HOST, port) as plain:
                    await trio.SSLStream(plain, client).do_handshake()
        except trio.BrokenResourceError:
            with trio.fail_after(20):
                while not heard:
                    await trio.lowlevel.checkpoint()
        except PeerError as error:
            heard.insert(0, error)
        nursery.cancel_scope.cancel()
    if heard:
        raise heard[0]


async def test_another_certificate_than_the_pinned_one_is_nobodys(tmp_path: Path) -> None:
    with pytest.raises(CertificateRefused, match="pinned"):
        await served(tmp_path, Trust(pins=(b"\x5a" * 32,)), None)


async def test_a_version_of_tls_that_can_be_broken_is_not_spoken(tmp_path: Path) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(TlsRefused, match=r"TLS 1\.3"):
        await served(tmp_path, None, old)


def test_nothing_is_said_plainly_to_another_machine() -> None:
    for host in ("192.0.2.7", "hub.example", "0.0.0.0"):  # noqa: S104 - refused
        with pytest.raises(NotLoopback):
            check_private(HubAddress(host=host, port=7171), None)
        with pytest.raises(NotLoopback):
            TowerPlace(address=HubAddress(host=host, port=7272), signer=ALICE.address)


# -- peers that want everything -------------------------------------------------------------------


def door(*, members: tuple[Address, ...], connections_max: int = 1) -> Door:
    limits = DoorLimits(
        connections_max=connections_max,
        guests_max=1,
        strangers_max=2,
        handshakes_per_second=100,
        handshakes_per_address=0,
    )
    return Door(limits, members.__contains__, lambda _: False)


async def test_idle_strangers_make_room_for_the_next_one() -> None:
    hub = door(members=())
    oldest, second, third = (hub.arrive(HOST) for _ in range(3))
    assert oldest.scope.cancel_called
    assert not second.scope.cancel_called
    assert not third.scope.cancel_called
    assert hub.strangers == 2


async def test_keys_that_anybody_can_make_take_no_members_place() -> None:
    hub = door(members=(BOB.address, ALICE.address))
    hub.admit(hub.arrive(HOST), MALLORY.address)
    with pytest.raises((TooManyGuests, TooManyConnections)):
        hub.admit(hub.arrive(HOST), Address(b"\x01" * 20))
    hub.admit(hub.arrive(HOST), BOB.address)
    assert (hub.guests, hub.members) == (1, 1)


async def test_guests_of_one_address_do_not_keep_out_those_of_others() -> None:
    hub = door(members=(), connections_max=9)
    hub.admit(hub.arrive("192.0.2.66"), MALLORY.address)
    hub.admit(hub.arrive("192.0.2.1"), BOB.address)


def test_two_addresses_do_not_take_all_handshakes() -> None:
    shares = Addresses(100, 1000)
    for second in range(60):
        for mallory in ("192.0.2.66", "198.51.100.66"):
            while not shares.take(mallory, second):
                pass
        assert shares.take(f"203.0.113.{second}", second) == ""
    assert shares.turned_away == 0


def test_thousands_of_addresses_do_not_take_the_handshakes_of_members() -> None:
    shares = Addresses(100, 1000)
    shares.remember(BOB.address, "192.0.2.1")
    for number in range(3000):
        shares.take(f"mallory {number}", 0)
    assert shares.take("192.0.2.1", 0) == ""


class Nobody:
    """A host to whom nobody is connected; all are guests."""

    def is_member(self, signer: Address) -> bool:
        return False

    def is_connected(self, signer: Address) -> bool:
        return False

    def on_connected(self, wire: Wire, signer: Address) -> None:
        raise RuntimeError("the peer was gone before it was let in")

    def on_disconnected(self, wire: Wire, signer: Address) -> None:
        raise RuntimeError("the peer was never connected")

    def on_message(self, wire: Wire, message: Message) -> None:
        raise RuntimeError("the peer said nothing")

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        raise RuntimeError("the peer said nothing")


async def test_whoever_breaks_off_while_it_is_let_in_leaves_no_bytes_behind() -> None:
    entrance = Entrance(limits=DoorLimits(connections_max=9), log=logging.getLogger("test"))
    server = Server(Nobody(), NoChannels(), DOMAIN, ALICE, entrance)
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    dialer = Wire(ours)
    hello = make_hello(DOMAIN, signer=BOB.address, peer=ALICE.address, nonce=bytes(32))
    visit = server.door.arrive(HOST)

    async def break_off() -> None:
        await dialer.say_now(hello)
        (challenge,) = await dialer.receive()
        assert isinstance(challenge, Challenge)
        digest = Transcript(domain=DOMAIN, hello=hello, challenge=challenge).digest(Role.DIALER)
        signed = encode_frame(encode_message(Authenticate(signature=BOB.sign_digest(digest))))
        half = (500).to_bytes(4, "big")[:3]
        ours.socket.shutdown(socket.SHUT_RD)  # what we would be told breaks the connection
        await ours.send_all(signed + half)

    async with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_off)
            with pytest.raises(ConnectionLost):
                await server._greeted(theirs, visit)
        assert visit.signer == BOB.address  # it had proven itself, and had its place
        assert server.memory.total_bytes == 0
        await dialer.finish()


async def test_vouchers_asked_for_again_and_again_end_a_connection() -> None:
    shown: list[Message] = [Reestablish(channel=CHANNEL, sent=None, received=None)]
    with pytest.raises(TooManyReestablish):
        list(Pace().slices(shown * (2 * REESTABLISH_BURST)))


async def test_a_peer_that_never_reads_is_not_written_to_for_ever(
    autojump_clock: MockClock,
) -> None:
    ours, _ = memory_stream_pair()

    async def never(data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    ours.send_stream.send_all = never  # type: ignore[method-assign]
    wire = Wire(ours)
    wire.send(Ping(token=1))
    with trio.fail_after(2 * WRITE_SECONDS_MAX), pytest.raises(SlowReader):
        await wire.write_forever()


async def test_slow_readers_together_hold_no_more_than_there_is() -> None:
    memory = Memory(500)
    wires = []
    for _ in range(10):
        ours, _ = memory_stream_pair()
        wires.append(Wire(ours, memory=memory))
    for wire in wires:
        for token in range(10):
            wire.send(Ping(token=token))
    assert memory.total_bytes <= 500
