"""Wallets that go silent, on a real chain: settled, then closed; what is no silence of theirs.

Carol stays connected and is heard all the time, so that the hub knows of itself that it hears.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from farthing.channels.ids import to_hex
from farthing.channels.state import ChainStatus, ChainView, Phase
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from farthing.node import silence as silence_module
from farthing.node.control import Operator
from farthing.node.hub import Hub
from farthing.node.silence import CROWDED_SECONDS, SAVE_SECONDS

from ..hub_world import (
    DEPOSIT_UCENT,
    FLOW_UCENT,
    City,
    TinyWallet,
    hub_folder,
    running_hub,
    tiny_wallet,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

SETTLE_SECONDS, CLOSE_SECONDS = 1000, 5000
STEP_SECONDS = 600


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The hub's running time, moved by tests; the clock on the wall too, in [1]."""
    now = [100.0, float(int(time.time()))]
    fake = SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[1])
    monkeypatch.setattr(silence_module, "time", fake)
    return now


async def silence_folder(city: City, folder: Path, **settings: Any) -> Path:
    """A hub's folder with short limits on silence; nothing is settled for its age."""
    values = {
        "silent_settle_seconds": SETTLE_SECONDS,
        "silent_close_seconds": CLOSE_SECONDS,
        "settle_age_seconds": 86_400,
        **settings,
    }
    return await trio.to_thread.run_sync(lambda: hub_folder(city, folder / "hub", **values))


@asynccontextmanager
async def heard_carol(city: City, folder: Path, hub: Hub) -> AsyncIterator[TinyWallet]:
    """Carol has joined and stays."""
    async with tiny_wallet(city, folder, name="carol") as carol, carol.connected(hub):
        channel = await carol.join()
        await until(lambda: hub.driver.get(channel.id).phase is Phase.LIVE)
        yield carol


async def leaves_unsettled(hub: Hub, alice: TinyWallet) -> None:
    """Alice joins, is rewarded, pays, and goes; nothing of it is settled."""
    here = hub.server.connections
    async with alice.connected(hub):
        channel = await alice.join()
        await until(lambda: hub.driver.get(channel.id).phase is Phase.LIVE)
        await alice.submit("1", "2")
        await alice.wait_received(2 * FLOW_UCENT)
        alice.pay(5_000)
        await alice.wait_quiet()
    await until(lambda: hub.server.connections == here)
    await hub.silence.look()


@asynccontextmanager
async def silent_alice(
    city: City, folder: Path, **settings: Any
) -> AsyncIterator[tuple[Hub, TinyWallet]]:
    """A hub of which alice has gone, with something unsettled, and carol has not."""
    config = await silence_folder(city, folder, **settings)
    async with (
        running_hub(config) as hub,
        tiny_wallet(city, folder) as alice,
        heard_carol(city, folder, hub),
    ):
        await leaves_unsettled(hub, alice)
        yield hub, alice


def passes(hub: Hub, clock: list[float], seconds: float) -> None:
    """Let running time go by, in which the hub looks now and then."""
    while seconds > 0:
        clock[0] += min(seconds, STEP_SECONDS)
        seconds -= STEP_SECONDS
        hub.silence.note()


def view(hub: Hub, wallet: TinyWallet) -> ChainView:
    found = hub.driver.get(wallet.channel.id).chain
    assert found is not None
    return found


async def row(hub: Hub, wallet: TinyWallet) -> dict[str, Any]:
    rows = await Operator(hub).methods()["channels"]({})
    (found,) = [one for one in rows if one["channel"] == to_hex(wallet.channel.id)]
    return dict(found)


async def test_the_lanes_of_a_silent_wallet_are_settled_and_later_its_channel_closed(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path) as (hub, alice):
        passes(hub, clock, SETTLE_SECONDS - 1)
        await hub.follower.catch_up()
        assert view(hub, alice).settled_ucent == (0, 0)
        assert hub.status()["silent"] == 0
        passes(hub, clock, 2)
        await until(lambda: view(hub, alice).settled_ucent == (2 * FLOW_UCENT, 5_000))
        assert hub.status()["silent"] == 1
        assert (await row(hub, alice))["silent_seconds"] == SETTLE_SECONDS + 1
        assert view(hub, alice).status is ChainStatus.OPEN
        passes(hub, clock, CLOSE_SECONDS)
        await until(lambda: view(hub, alice).status is ChainStatus.CLOSING)
        await trio.to_thread.run_sync(hub_city.warp, CHALLENGE_SECONDS_MIN + 1)
        await trio.to_thread.run_sync(hub_city.mine, CHALLENGE_BLOCKS_MIN + 1)
        await until(lambda: view(hub, alice).status is ChainStatus.CLOSED)
        tokens = hub_city.treasury.balance_ucent
        paid = await trio.to_thread.run_sync(tokens, alice.account)
        assert paid == 2 * FLOW_UCENT - 5_000
        await hub.silence.look()
        await hub.driver.wait_durable()
        assert hub.store.ledger.query("SELECT count(*) FROM heard") == [(1,)]  # carol


async def test_a_wallet_that_is_heard_again_is_not_silent(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path) as (hub, alice):
        passes(hub, clock, SETTLE_SECONDS - 1)
        clock[1] += SETTLE_SECONDS - 1
        async with alice.connected(hub):
            await alice.wait_live()
        await until(lambda: hub.server.connections == 1)
        await hub.silence.look()  # heard since the last look, however short it was
        passes(hub, clock, SETTLE_SECONDS - 1)
        assert not hub.silence.is_silent(alice.channel.id)
        assert (await row(hub, alice))["last_heard"] == clock[1]
        assert view(hub, alice).settled_ucent == (0, 0)


async def test_a_clock_that_jumps_makes_nobody_silent(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path) as (hub, alice):
        for jump in (10**9, -2 * 10**9):
            clock[1] += jump
            await hub.silence.look()
            assert hub.silence.silent_seconds(alice.channel.id) == 0
        assert view(hub, alice).settled_ucent == (0, 0)


async def test_what_the_hub_was_down_is_no_silence_of_its_wallets(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path) as (hub, alice):
        passes(hub, clock, 2 * SAVE_SECONDS)
    clock[0] += 10**7  # down for months, as the machine and the wall have it
    clock[1] += 10**7
    async with (
        running_hub(tmp_path / "hub" / "hub.toml") as hub,
        tiny_wallet(hub_city, tmp_path, name="dave") as dave,
        dave.connected(hub),
    ):
        await dave.join()
        assert hub.silence.silent_seconds(alice.channel.id) == 2 * SAVE_SECONDS
        passes(hub, clock, SETTLE_SECONDS - 2 * SAVE_SECONDS)
        await until(lambda: view(hub, alice).settled_ucent == (2 * FLOW_UCENT, 5_000))


async def test_a_wallet_that_was_connected_when_the_hub_died_starts_from_there(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with tiny_wallet(hub_city, tmp_path) as alice:
        async with running_hub(config) as hub, alice.connected(hub):
            channel = await alice.join()
            passes(hub, clock, 10 * SAVE_SECONDS)
            await hub.driver.wait_durable()
        async with running_hub(config) as hub:
            await hub.silence.look()
            assert hub.silence.silent_seconds(channel.id) == 0
            assert to_hex(channel.id) == (await row(hub, alice))["channel"]
            assert hub.driver.get(channel.id).our_balance_ucent() == DEPOSIT_UCENT


# -- what is not the wallets' silence -----------------------------------------------------------


async def test_a_hub_that_hears_nobody_at_all_takes_that_for_its_own_silence(
    hub_city: City, tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    config = await silence_folder(hub_city, tmp_path)
    async with running_hub(config) as hub, tiny_wallet(hub_city, tmp_path) as alice:
        async with heard_carol(hub_city, tmp_path, hub):
            await leaves_unsettled(hub, alice)
        await until(lambda: hub.server.connections == 0)
        passes(hub, clock, 2 * CLOSE_SECONDS - 100)
        await hub.silence.look()
        assert "no wallet is heard" in caplog.text
        assert hub.status()["silent"] == 0
        assert view(hub, alice).settled_ucent == (0, 0)
        async with (
            tiny_wallet(hub_city, tmp_path, name="dave") as dave,
            dave.connected(hub),
        ):
            await dave.join()
            await hub.silence.look()  # the way to the hub is open again, and the weeks are nobody's
            assert hub.silence.silent_seconds(alice.channel.id) == 0
            passes(hub, clock, SETTLE_SECONDS)
            assert hub.silence.is_silent(alice.channel.id)


async def test_wallets_that_are_turned_away_by_a_flood_are_not_taken_for_silent(
    hub_city: City, tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    async with silent_alice(hub_city, tmp_path, handshakes_per_second=1) as (hub, alice):
        numbers = iter(range(2, 250))

        async def crowd() -> None:
            """One connection from each of many addresses, until one finds no room."""
            before = hub.server.door.turned_away
            while hub.server.door.turned_away == before:
                await knock(hub, f"127.0.0.{next(numbers)}")

        for _ in range(CLOSE_SECONDS // 50):
            await crowd()
            clock[0] += 50
            hub.silence.note()
        assert "connections are turned away" in caplog.text
        assert hub.silence.silent_seconds(alice.channel.id) == 0
        passes(hub, clock, CROWDED_SECONDS + SETTLE_SECONDS)
        assert hub.silence.is_silent(alice.channel.id)


async def test_a_flood_from_two_addresses_makes_nobody_silent_and_keeps_nobody_out(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path, handshakes_per_second=5) as (hub, alice):

        async def flood(source: str) -> None:
            while True:
                await knock(hub, source)

        async with trio.open_nursery() as nursery:
            for source in ("127.0.0.66", "127.0.0.67"):
                nursery.start_soon(flood, source)
            hits = hub.server.door.hits
            await until(lambda: hits["too-many-handshakes"] >= 100)
            for number in range(3):
                async with (
                    tiny_wallet(hub_city, tmp_path, name=f"wallet{number}") as wallet,
                    wallet.connected(hub),
                ):
                    await wallet.join()
            async with alice.connected(hub):
                await alice.wait_live()
            nursery.cancel_scope.cancel()
        assert hub.server.door.turned_away == 0


async def test_channels_of_many_silent_wallets_are_closed_a_few_an_hour(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    config = await silence_folder(hub_city, tmp_path, silent_closes_per_hour=2)

    def closing(hub: Hub) -> int:
        views = [channel.chain for channel in hub.driver.channels.values()]
        return sum(v is not None and v.status is ChainStatus.CLOSING for v in views)

    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(config))
        await stack.enter_async_context(heard_carol(hub_city, tmp_path, hub))
        for number in range(4):
            async with (
                tiny_wallet(hub_city, tmp_path, name=f"wallet{number}") as wallet,
                wallet.connected(hub),
            ):
                await wallet.join()
        await until(lambda: hub.server.connections == 1)
        await hub.silence.look()
        passes(hub, clock, CLOSE_SECONDS)
        await until(lambda: closing(hub) == 1)
        for count in (2, 3):
            passes(hub, clock, 1799)
            for _ in range(3):
                await hub.silence.look()
            await hub.follower.catch_up()
            assert closing(hub) == count - 1
            passes(hub, clock, 1)
            await until(lambda most=count: closing(hub) == most)  # type: ignore[misc]
        await hub.driver.wait_durable()
        closed_at = hub.silence._closed_at
        assert closed_at is not None
    async with running_hub(config) as hub:  # which is remembered
        assert hub.silence._closed_at == int(closed_at)


async def knock(hub: Hub, source: str) -> None:
    """Connect from an address of this machine, say nothing that makes sense, and be sent away."""
    with trio.socket.socket() as plain:
        await plain.bind((source, 0))
        await plain.connect(("127.0.0.1", hub.port))
        with suppress(ConnectionError):
            await plain.send(bytes(4))
            while await plain.recv(4096):
                pass
