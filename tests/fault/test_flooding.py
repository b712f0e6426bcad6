"""Peers that read nothing, say nothing, or say too much cost themselves a place and nobody else.

In each scenario alice, an honest wallet, is paid and pays beside it: what she waits for must come.
"""

import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.pace import REESTABLISH_BURST
from farthing.channels.client.wire import ConnectionLost, Refused, Wire
from farthing.channels.codecs import encode_message
from farthing.channels.frames import FRAME_BYTES_MAX, GREETING_BYTES_MAX, encode_frame
from farthing.channels.handshake import make_hello
from farthing.channels.messages import Error, Message, Ping, Pong, Reestablish, Update
from farthing.channels.signing import Signer
from farthing.node.hub import Hub
from farthing.node.server import open_listener

from ..hub_world import (
    City,
    TinyWallet,
    hub_folder,
    new_signer,
    running_hub,
    tiny_wallet,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

ROUNDS = 5
"""Payments of alice's, one after the other, that must be acknowledged during a flood."""
HOST = "127.0.0.1"
PATIENCE_SECONDS = 60
"""A flood takes a while on a machine that has something else to do; usually it is a second."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a hub does by itself."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - it has no pulse of its own to wait for
            await trio.sleep(0.01)


@dataclass
class Scene:
    """A hub, and alice who has joined it."""

    city: City
    hub: Hub
    alice: TinyWallet
    stack: AsyncExitStack

    async def goes_on(self, rounds: int = ROUNDS) -> None:
        """Alice pays and is paid, again and again; each waits for the one before."""
        for _ in range(rounds):
            outcome = (await self.alice.submit("1.5")).outcomes[0]
            assert outcome.amount_ucent
            self.alice.pay(1)
            await self.alice.wait_quiet()
        assert self.alice.ended is None

    def hits(self, code: str) -> int:
        found: int = self.hub.status()["limits_hit"].get(code, 0)
        return found

    async def stranger(self, source: str = HOST) -> trio.SocketStream:
        """A connection that says nothing by itself; it ends with the scene."""
        plain = trio.socket.socket()
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # not reading is noticed
            await plain.bind((source, 0))
            await plain.connect((HOST, self.hub.port))
            stream = trio.SocketStream(plain)
        except BaseException:
            plain.close()
            raise
        self.stack.push_async_callback(trio.aclose_forcefully, stream)
        return stream

    async def member(self) -> Signer:
        """A registered key."""
        signer = new_signer()
        await trio.to_thread.run_sync(self.city.register, signer.address)
        await self.hub.follower.catch_up()
        return signer

    async def dial(self, signer: Signer) -> Wire:
        """Authenticate by hand, with nobody who reads or writes in the background."""
        wire = Wire(await self.stranger())
        await wire.dial(self.city.deployment.domain(), signer, self.hub.signer.address)
        return wire


@asynccontextmanager
async def scene(city: City, folder: Path, **settings: Any) -> AsyncIterator[Scene]:
    config = await trio.to_thread.run_sync(lambda: hub_folder(city, folder / "hub", **settings))
    async with (
        running_hub(config) as hub,
        tiny_wallet(city, folder) as alice,
        alice.connected(hub),
        AsyncExitStack() as stack,
    ):
        await alice.join()
        made = Scene(city, hub, alice, stack)
        await made.goes_on(1)
        yield made
        await made.goes_on(1)


@asynccontextmanager
async def meanwhile(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Something that goes on until the block ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield
        nursery.cancel_scope.cancel()


def frames(*messages: Message) -> bytes:
    return b"".join(encode_frame(encode_message(message)) for message in messages)


async def last_error(wire: Wire) -> Error:
    """Read to the end of a connection; its last word."""
    last: Message | None = None
    with trio.fail_after(30), suppress(ConnectionLost):
        while True:
            last = (await wire.receive())[-1]
    assert isinstance(last, Error), last
    return last


# -- strangers ------------------------------------------------------------------------------------


async def test_idle_strangers_use_up_nobody_s_place(hub_city: City, tmp_path: Path) -> None:
    async with scene(hub_city, tmp_path, strangers_max=20, connections_max=2) as here:
        for _ in range(100):
            await here.stranger()
        await until(lambda: here.hits("overtaken") >= 80)
        assert here.hub.status()["unauthenticated"] <= 20
        assert here.hub.status()["connections"] == 1
        await here.goes_on()
        async with (
            tiny_wallet(hub_city, tmp_path, name="bob") as bob,
            bob.connected(here.hub),  # the oldest stranger makes room for him
        ):
            await bob.join()


async def test_a_greeting_of_one_byte_at_a_time_ends_with_its_time(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.node.limits.HANDSHAKE_SECONDS_MAX", 1)
    async with scene(hub_city, tmp_path) as here:
        hello = make_hello(
            hub_city.deployment.domain(),
            signer=new_signer().address,
            peer=here.hub.signer.address,
            nonce=bytes(32),
        )

        async def trickle() -> None:
            async with await here.stranger() as stream:
                with suppress(trio.BrokenResourceError):
                    for byte in frames(hello):
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(0.05)

        async with meanwhile(trickle):
            await until(lambda: here.hub.status()["unauthenticated"] == 1)
            await here.goes_on()
            await until(lambda: here.hub.status()["unauthenticated"] == 0)


async def test_who_opens_and_never_speaks_is_let_go(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.node.limits.HANDSHAKE_SECONDS_MAX", 0.5)
    async with scene(hub_city, tmp_path) as here, await here.stranger() as stream:
        await here.goes_on()
        with trio.fail_after(30):
            assert await stream.receive_some() == b""


async def test_a_huge_frame_that_a_stranger_announces_is_not_waited_for(
    hub_city: City, tmp_path: Path
) -> None:
    async with scene(hub_city, tmp_path) as here:
        for announced in (GREETING_BYTES_MAX + 1, FRAME_BYTES_MAX, 2**32 - 1):
            wire = Wire(await here.stranger())
            await wire._send_bytes(announced.to_bytes(4, "big"))
            assert (await last_error(wire)).code == "frame-too-long"
            await wire.finish()
        assert here.hits("frame-too-long") == 3
        assert here.hub.server.memory.total_bytes < GREETING_BYTES_MAX


async def test_a_flood_of_handshakes_from_one_address_leaves_the_others_theirs(
    hub_city: City, tmp_path: Path
) -> None:
    async with scene(hub_city, tmp_path, handshakes_per_address=2) as here:

        async def flood() -> None:
            """From an address of mallory's own, as fast as it goes."""
            while True:
                async with await here.stranger("127.0.0.2") as stream:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(frames(Ping(token=1)))

        async with meanwhile(flood):
            await until(lambda: here.hits("too-many-handshakes") >= 50)
            await here.goes_on()
            async with (
                tiny_wallet(hub_city, tmp_path, name="bob") as bob,
                bob.connected(here.hub),
            ):
                await bob.join()
        assert here.hub.status()["unauthenticated"] <= 30


async def test_a_flood_from_two_addresses_leaves_a_third_of_all_to_others(
    hub_city: City, tmp_path: Path
) -> None:
    async with scene(hub_city, tmp_path, handshakes_per_second=6) as here:

        async def flood(source: str) -> None:
            while True:
                async with await here.stranger(source) as stream:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(frames(Ping(token=1)))
                        await stream.receive_some()

        async with (
            meanwhile(lambda: flood("127.0.0.66")),
            meanwhile(lambda: flood("127.0.0.67")),
        ):
            await until(lambda: here.hits("too-many-handshakes") >= 100)
            for number in range(5):
                wire = Wire(await here.stranger(f"127.0.0.{2 + number}"))
                await wire.dial(hub_city.deployment.domain(), new_signer(), here.hub.signer.address)
                await wire.finish()
            await here.goes_on()
        assert here.hub.server.door.turned_away == 0


async def test_over_the_rate_of_all_addresses_one_is_told_to_come_back(
    hub_city: City, tmp_path: Path
) -> None:
    async with scene(hub_city, tmp_path, handshakes_per_second=1, handshakes_per_address=0) as here:
        errors = []
        for _ in range(12):
            try:
                wire = await here.dial(new_signer())
            except (Refused, ConnectionLost) as error:
                errors.append(error)
            else:
                await wire.finish()
        assert any("too many connections begin" in error.text for error in errors)
        await here.goes_on()


async def test_of_greetings_that_come_to_nothing_no_byte_is_kept(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.node.limits.HANDSHAKE_SECONDS_MAX", 1)
    half = (GREETING_BYTES_MAX - 4).to_bytes(4, "big") + bytes(GREETING_BYTES_MAX // 2)
    async with scene(hub_city, tmp_path, strangers_max=8, guests_max=1) as here:
        hello = make_hello(
            hub_city.deployment.domain(),
            signer=new_signer().address,
            peer=here.hub.signer.address,
            nonce=bytes(32),
        )
        memory = here.hub.server.memory
        for _ in range(10):
            stream = await here.stranger()
            await stream.send_all(half)  # overtaken by the ones after it, or too slow
            gone = await here.stranger()
            await gone.send_all(frames(hello) + half)
            await gone.aclose()  # hangs up
            garbage = await here.stranger()
            await garbage.send_all(frames(hello, Ping(token=1)) + half)  # says what is refused
        guest = await here.dial(new_signer())
        await guest._stream.send_all(half)
        with pytest.raises(Refused):  # is refused its place
            await here.dial(new_signer())
        await until(lambda: memory.total_bytes >= len(half))
        await guest.finish()
        await until(lambda: here.hub.status()["unauthenticated"] == 0)
        await until(lambda: here.hub.status()["guests"] == 0)
        assert here.hits("overtaken") > 0
        await here.goes_on()
        await until(lambda: memory.total_bytes == 0)
        assert memory._held == {}


async def test_strangers_do_not_fill_the_log(
    hub_city: City,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("farthing.node.server.STRANGERS_LOGGED", 1e-9)
    monkeypatch.setattr("farthing.node.server.STRANGERS_LOGGED_BURST", 3)
    async with scene(hub_city, tmp_path) as here:
        for _ in range(10):
            wire = Wire(await here.stranger())
            await wire._send_bytes(bytes(4))
            assert (await last_error(wire)).code == "frame-empty"
        assert caplog.text.count("a stranger ended") == 3


# -- guests and members ---------------------------------------------------------------------------


async def test_who_is_no_member_takes_no_member_s_place(hub_city: City, tmp_path: Path) -> None:
    async with scene(hub_city, tmp_path, guests_max=2, connections_max=2) as here:
        wires = [await here.dial(new_signer()) for _ in range(2)]
        with pytest.raises(Refused, match="no members"):
            await here.dial(new_signer())
        assert here.hub.status()["guests"] == 2
        await until(lambda: here.hits("too-many-guests") == 1)
        await here.goes_on()
        bob, carol = await here.member(), await here.member()
        await here.dial(bob)
        with pytest.raises(Refused, match="2 are connected"):
            await here.dial(carol)
        await until(lambda: here.hits("too-many-connections") == 1)
        await here.dial(bob)  # who is connected takes over its own place
        await here.goes_on()
        for wire in wires:
            await wire.finish()
        await until(lambda: here.hub.status()["guests"] == 0)


async def test_a_guest_that_is_registered_is_a_guest_no_longer(
    hub_city: City, tmp_path: Path
) -> None:
    async with scene(hub_city, tmp_path, guests_max=1) as here:
        bob = new_signer()
        first = await here.dial(bob)
        await trio.to_thread.run_sync(hub_city.register, bob.address)
        await here.hub.follower.catch_up()
        second = await here.dial(new_signer())
        assert here.hub.status()["guests"] == 1
        assert here.hub.status()["connections"] == 3
        for wire in (first, second):
            await wire.finish()
        await until(lambda: here.hub.status()["connections"] == 1)


# -- authenticated ones ---------------------------------------------------------------------------


@pytest.mark.parametrize("registered", [True, False], ids=["member", "guest"])
async def test_endless_pings_are_answered_no_faster_than_a_share_allows(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, registered: bool
) -> None:
    monkeypatch.setattr("farthing.channels.client.pace.POINTS_BURST", 5_000)
    async with scene(hub_city, tmp_path) as here:
        wire = await here.dial(await here.member() if registered else new_signer())
        answered = 0

        async def read() -> None:
            nonlocal answered
            while True:
                answered += sum(isinstance(one, Pong) for one in await wire.receive())

        async def flood() -> None:
            pings = frames(*(Ping(token=n) for n in range(5_000)))
            while True:
                await wire._stream.send_all(pings)

        async with meanwhile(read), meanwhile(flood):
            await until(lambda: here.hits("slowed") > 20)
            before = answered
            await here.goes_on()
            await until(lambda: answered > before)  # it is slowed, and served
        await wire.finish()


async def test_vouchers_shown_again_and_again_end_the_connection(
    hub_city: City, tmp_path: Path
) -> None:
    async with (
        scene(hub_city, tmp_path) as here,
        tiny_wallet(hub_city, tmp_path, name="mallory") as mallory,
    ):
        async with mallory.connected(here.hub):
            await mallory.join()
            for _ in range(10):
                await mallory.submit(*["1.5"] * 60)
            await mallory.wait_received(600)
            channel = mallory.channel.id
        wire = await here.dial(mallory.signer)
        nothing = Reestablish(channel=channel, sent=None, received=None)
        heard: list[Message] = []

        async def read() -> None:
            with suppress(ConnectionLost):
                while True:
                    heard.extend(await wire.receive())

        async with meanwhile(read):
            for _ in range(10):
                await wire.say_now(nothing)
            await here.goes_on()
            await until(lambda: any(isinstance(message, Update) for message in heard))
            with suppress(ConnectionLost):
                for _ in range(2 * REESTABLISH_BURST):
                    await wire.say_now(nothing)
            await until(lambda: here.hits("too-many-reestablish") == 1)
        codes = [message.code for message in heard if isinstance(message, Error)]
        assert codes in (["too-many-reestablish"], [])  # its own flood may drown the last word
        await wire.finish()


async def test_who_asks_for_everything_and_reads_nothing_is_given_up(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.channels.client.wire.WRITE_SECONDS_MAX", 3)

    async def with_small_buffers(*arguments: Any) -> trio.SocketListener:
        listener = await open_listener(*arguments)
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listener

    monkeypatch.setattr("farthing.node.hub.open_listener", with_small_buffers)
    async with scene(hub_city, tmp_path) as here:
        wire = await here.dial(await here.member())

        async def flood() -> None:
            pings = frames(*(Ping(token=n) for n in range(1, 5_000)))
            with suppress(trio.BrokenResourceError):
                while True:
                    await wire._stream.send_all(pings)

        async with meanwhile(flood):
            await here.goes_on()
            await until(lambda: here.hits("slow-reader") >= 1)
        await wire.finish()
        await until(lambda: here.hub.server.memory.total_bytes < 1024)


async def test_a_frame_that_comes_byte_by_byte_is_silence(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(hub_city, tmp_path) as here:
        monkeypatch.setattr("farthing.channels.client.session.PING_SECONDS", 0.2)
        monkeypatch.setattr("farthing.channels.client.session.SILENCE_SECONDS_MAX", 1)
        wire = await here.dial(new_signer())
        ended = trio.Event()

        async def trickle() -> None:
            with suppress(trio.BrokenResourceError):
                await wire._stream.send_all(FRAME_BYTES_MAX.to_bytes(4, "big"))
                while True:
                    await wire._stream.send_all(b"\x00")
                    await trio.sleep(0.05)
            ended.set()

        async with meanwhile(trickle):
            await here.goes_on()
            with trio.fail_after(30):
                await ended.wait()
        await wire.finish()
        await until(lambda: here.hub.status()["guests"] == 0)


async def test_half_frames_of_many_together_cost_the_greatest_its_connection(
    hub_city: City, tmp_path: Path
) -> None:
    async with scene(hub_city, tmp_path, queued_mib_max=4) as here:
        half = FRAME_BYTES_MAX.to_bytes(4, "big") + secrets.token_bytes(900_000)
        wires = [await here.dial(new_signer()) for _ in range(6)]
        for wire in wires:
            await wire._stream.send_all(half)
        await until(lambda: here.hits("memory-full") >= 1)
        assert here.hub.server.memory.total_bytes <= 4 * 2**20
        await here.goes_on()
        for wire in wires:
            await wire.finish()
        await until(lambda: here.hub.server.memory.total_bytes < 1024)
