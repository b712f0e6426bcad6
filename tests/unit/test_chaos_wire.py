"""The troubled network between real sockets: what it does to the frames that it passes on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from farthing.channels.frames import FrameReader, encode_frame
from farthing.devnet.chaos.schedule import Fault
from farthing.devnet.chaos.wire import DELAY_SECONDS, GREETING_FRAMES, Network

PATIENCE_SECONDS = 60
HELLO = [encode_frame(b"hello"), encode_frame(b"authenticate")]
assert len(HELLO) == GREETING_FRAMES
Ends = tuple[trio.SocketStream, trio.SocketStream]

ONE, TWO, THREE = (encode_frame(word) for word in (b"one", b"two" * 100, b"three"))


@pytest.fixture
async def hub() -> AsyncIterator[trio.SocketListener]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener


@pytest.fixture
def network(hub: trio.SocketListener) -> Iterator[Network]:
    made = Network(hub.socket.getsockname()[1])
    made.start()
    yield made
    made.stop()


@asynccontextmanager
async def connected(network: Network, hub: trio.SocketListener) -> AsyncIterator[Ends]:
    """A wallet's end and the hub's, after the handshake."""
    async with (
        await trio.open_tcp_stream("127.0.0.1", network.port) as wallet,
        await hub.accept() as accepted,
    ):
        for source, target in ((wallet, accepted), (accepted, wallet)):
            await source.send_all(b"".join(HELLO))
            assert await read(target, len(HELLO)) == [b"hello", b"authenticate"]
        yield wallet, accepted


@pytest.fixture
async def ends(network: Network, hub: trio.SocketListener) -> AsyncIterator[Ends]:
    async with connected(network, hub) as both:
        yield both


async def read(stream: trio.SocketStream, count: int) -> list[bytes]:
    """So many frames, or as many as come before the end."""
    reader, found = FrameReader(), list[bytes]()
    with trio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            data = await stream.receive_some()
            if not data:
                break
            found += reader.feed(bytes(data))
    return found


async def all_bytes(stream: trio.SocketStream) -> bytes:
    data = b""
    with trio.fail_after(PATIENCE_SECONDS):
        async for part in stream:
            data += bytes(part)
    return data


async def is_ended(stream: trio.SocketStream) -> bool:
    return await all_bytes(stream) == b""


async def test_a_good_network_passes_everything_on_both_ways(network: Network, ends: Ends) -> None:
    wallet, accepted = ends
    await wallet.send_all(ONE[:3])
    await wallet.send_all(ONE[3:] + TWO)
    assert await read(accepted, 2) == [b"one", b"two" * 100]
    await accepted.send_all(THREE)
    assert await read(wallet, 1) == [b"three"]
    await wallet.aclose()
    assert await is_ended(accepted)


async def test_frames_are_doubled_and_come_after_each_other(network: Network, ends: Ends) -> None:
    wallet, accepted = ends
    network.begin(Fault.WIRE_DOUBLE)
    await wallet.send_all(ONE)
    assert await read(accepted, 2) == [b"one", b"one"]


async def test_frames_that_come_together_are_swapped(network: Network, ends: Ends) -> None:
    wallet, accepted = ends
    network.begin(Fault.WIRE_SWAP)
    await wallet.send_all(ONE + THREE)
    assert await read(accepted, 2) == [b"three", b"one"]
    network.end()


async def test_a_frame_is_cut_in_its_middle_and_the_connection_ends(
    network: Network, ends: Ends
) -> None:
    wallet, accepted = ends
    network.begin(Fault.WIRE_CUT)
    await wallet.send_all(TWO)
    assert await all_bytes(accepted) == TWO[: len(TWO) // 2]
    assert await is_ended(wallet)


async def test_all_connections_are_dropped_and_none_is_taken(
    network: Network, hub: trio.SocketListener
) -> None:
    async with connected(network, hub) as (wallet, accepted):
        network.begin(Fault.WIRE_DROP)
        assert await is_ended(wallet)
        assert await is_ended(accepted)
    async with await trio.open_tcp_stream("127.0.0.1", network.port) as another:
        assert await is_ended(another)
    network.end()
    async with connected(network, hub):
        pass


async def test_nothing_comes_while_it_stalls_and_everything_after(
    network: Network, ends: Ends
) -> None:
    wallet, accepted = ends
    network.begin(Fault.WIRE_STALL)
    await wallet.send_all(ONE)
    with trio.move_on_after(0.1) as waiting:
        await accepted.receive_some()
    assert waiting.cancelled_caught
    network.end()
    assert await read(accepted, 1) == [b"one"]


async def test_everything_is_late(network: Network, ends: Ends) -> None:
    wallet, accepted = ends
    network.begin(Fault.WIRE_DELAY)
    sent = trio.current_time()
    await wallet.send_all(ONE)
    assert await read(accepted, 1) == [b"one"]
    assert trio.current_time() - sent >= DELAY_SECONDS


async def test_the_handshake_is_left_alone(network: Network, hub: trio.SocketListener) -> None:
    network.begin(Fault.WIRE_DOUBLE)
    async with connected(network, hub) as (wallet, accepted):
        await wallet.send_all(ONE)
        assert await read(accepted, 2) == [b"one", b"one"]


async def test_a_hub_that_is_down_looks_like_one(
    network: Network, hub: trio.SocketListener
) -> None:
    await hub.aclose()
    async with await trio.open_tcp_stream("127.0.0.1", network.port) as wallet:
        assert await is_ended(wallet)
