"""Wallets that go silent, on a real chain: settled, then closed; what is no silence of theirs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from farthing.node.silence import SAVE_SECONDS

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The hub's running time, moved by tests; the clock on the wall too, in [1]."""
    now = [100.0, float(int(time.time()))]
    fake = SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[1])
    monkeypatch.setattr(silence_module, "time", fake)
    return now


@asynccontextmanager
async def silent_alice(city: City, folder: Path) -> AsyncIterator[tuple[Hub, TinyWallet]]:
    """Alice was rewarded, paid, and has gone; nothing of it is settled."""
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(
            city,
            folder / "hub",
            silent_settle_seconds=SETTLE_SECONDS,
            silent_close_seconds=CLOSE_SECONDS,
            settle_age_seconds=86_400,
        )
    )
    async with running_hub(config) as hub, tiny_wallet(city, folder) as alice:
        async with alice.connected(hub):
            channel = await alice.join()
            await until(lambda: hub.driver.get(channel.id).phase is Phase.LIVE)
            await alice.submit("1", "2")
            await alice.wait_received(2 * FLOW_UCENT)
            alice.pay(5_000)
            await alice.wait_quiet()
        await until(lambda: hub.server.connections == 0)
        await hub.silence.look()
        yield hub, alice


def view(hub: Hub, wallet: TinyWallet) -> ChainView:
    found = hub.driver.get(wallet.channel.id).chain
    assert found is not None
    return found


async def row(hub: Hub) -> dict[str, Any]:
    (found,) = await Operator(hub).methods()["channels"]({})
    return dict(found)


async def test_the_lanes_of_a_silent_wallet_are_settled_and_later_its_channel_closed(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path) as (hub, alice):
        clock[0] += SETTLE_SECONDS - 1
        await hub.silence.look()
        await hub.follower.catch_up()
        assert view(hub, alice).settled_ucent == (0, 0)
        assert hub.status()["silent"] == 0
        clock[0] += 2
        await until(lambda: view(hub, alice).settled_ucent == (2 * FLOW_UCENT, 5_000))
        assert hub.status()["silent"] == 1
        assert (await row(hub))["silent_seconds"] == SETTLE_SECONDS + 1
        assert view(hub, alice).status is ChainStatus.OPEN
        clock[0] += CLOSE_SECONDS
        await until(lambda: view(hub, alice).status is ChainStatus.CLOSING)
        await trio.to_thread.run_sync(hub_city.warp, CHALLENGE_SECONDS_MIN + 1)
        await trio.to_thread.run_sync(hub_city.mine, CHALLENGE_BLOCKS_MIN + 1)
        await until(lambda: view(hub, alice).status is ChainStatus.CLOSED)
        tokens = hub_city.treasury.balance_ucent
        paid = await trio.to_thread.run_sync(tokens, alice.account)
        assert paid == 2 * FLOW_UCENT - 5_000
        await hub.silence.look()
        await hub.driver.wait_durable()
        assert hub.store.ledger.query("SELECT count(*) FROM heard") == [(0,)]


async def test_a_wallet_that_is_heard_again_is_not_silent(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    async with silent_alice(hub_city, tmp_path) as (hub, alice):
        clock[0] += SETTLE_SECONDS - 1
        clock[1] += SETTLE_SECONDS - 1
        async with alice.connected(hub):
            await alice.wait_live()
        await until(lambda: hub.server.connections == 0)
        await hub.silence.look()  # heard since the last look, however short it was
        clock[0] += SETTLE_SECONDS - 1
        await hub.silence.look()
        assert not hub.silence.is_silent(alice.channel.id)
        assert (await row(hub))["last_heard"] == clock[1]
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
        clock[0] += 2 * SAVE_SECONDS
        await hub.silence.look()
    clock[0] += 10**7  # down for months, as the machine and the wall have it
    clock[1] += 10**7
    async with running_hub(tmp_path / "hub" / "hub.toml") as hub:
        await hub.silence.look()
        assert hub.silence.silent_seconds(alice.channel.id) == 2 * SAVE_SECONDS
        clock[0] += SETTLE_SECONDS - 2 * SAVE_SECONDS
        await until(lambda: view(hub, alice).settled_ucent == (2 * FLOW_UCENT, 5_000))


async def test_a_wallet_that_was_connected_when_the_hub_died_starts_from_there(
    hub_city: City, tmp_path: Path, clock: list[float]
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with tiny_wallet(hub_city, tmp_path) as alice:
        async with running_hub(config) as hub, alice.connected(hub):
            channel = await alice.join()
            await hub.silence.look()
            clock[0] += 10 * SAVE_SECONDS
            await hub.silence.look()
            await hub.driver.wait_durable()
        async with running_hub(config) as hub:
            await hub.silence.look()
            assert hub.silence.silent_seconds(channel.id) == 0
            assert to_hex(channel.id) == (await row(hub))["channel"]
            assert hub.driver.get(channel.id).our_balance_ucent() == DEPOSIT_UCENT
