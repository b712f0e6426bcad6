"""What a hub does when it is killed, when its disk fails, and when its chain goes away."""

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from farthing.channels.client.ledger import SENT, Ledger, LedgerUnusable
from farthing.channels.client.outbox import OutboxUnusable
from farthing.channels.client.wire import Refused, Wire
from farthing.channels.errors import ChainError
from farthing.channels.ids import Address, address_from_hex
from farthing.channels.messages import PaymentRequest
from farthing.channels.state import ACT_AGAIN_SECONDS, Phase
from farthing.channels.terms import Side
from farthing.node.chain import OpenRow, Web3Chain
from farthing.node.control import Operator
from farthing.node.home import OUTBOX_NAME
from farthing.node.hub import Hub
from farthing.node.sender import connect
from farthing.node.store import HubStore

from ..hub_world import (
    FLOW_UCENT,
    City,
    TinyWallet,
    farthing,
    hub_folder,
    new_signer,
    rewarded_times,
    running_hub,
    submit_message,
    tiny_wallet,
    until,
)
from .disks import no_outbox


def started(config: Path, log: Path = Path(os.devnull)) -> "subprocess.Popen[bytes]":
    with log.open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "farthing.cli.main", "hub", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=stderr,
        )


@contextmanager
def hub_process(
    config: Path, log: Path = Path(os.devnull)
) -> Iterator[tuple["subprocess.Popen[bytes]", int, Address]]:
    """`farthing hub serve` as a process: itself, its port and its signer."""
    process = started(config, log)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield process, ready["port"], address_from_hex(ready["signer"])
    finally:
        process.kill()
        process.communicate()


async def test_a_hub_killed_while_it_pays_loses_nothing_and_pays_nothing_twice(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    packs = [submit_message(secrets.token_bytes(16), "1", "2") for _ in range(60)]
    async with tiny_wallet(hub_city, tmp_path) as alice:
        for kill_after in (5, 20, None):
            with hub_process(config) as (process, port, signer):
                async with alice.connected((port, signer)):
                    if not alice.driver.channels:
                        await propose_until_known(alice)
                    await alice.wait_live()
                    for pack in packs:
                        if not alice.answers(pack.id):
                            alice.send(pack)
                    if kill_after is None:
                        await alice.until(lambda: all(alice.answers(p.id) for p in packs))
                        await alice.wait_received(120 * FLOW_UCENT)
                        continue
                    goal = kill_after
                    await alice.until(
                        lambda n=goal: alice.channel.received.total.nonce >= n  # type: ignore[misc]
                    )
                    process.send_signal(signal.SIGKILL)
                    await alice.until(lambda: alice.ended is not None)
        assert alice.channel.received.total.transferred_ucent == 120 * FLOW_UCENT
        for pack in packs:  # what was answered before a kill is what is answered after it
            assert len(set(alice.answers(pack.id))) == 1
        held = [stored.total.nonce for stored in alice.ledger.payments(alice.channel.id, 1)]
        assert held == list(range(1, 121))
        store = HubStore(config.parent / "data" / "hub.sqlite")
        try:
            sent = [s.total.nonce for s in store.ledger.payments(alice.channel.id, SENT)]
            assert sent == held
            assert store.spent_ucent("test-block") == 120 * FLOW_UCENT
            assert len(rewarded_times(store, alice.account)) == 120
        finally:
            store.ledger.close()


async def propose_until_known(alice: TinyWallet) -> None:
    """Ask for a channel, again as long as the hub has not read that we are registered."""
    with trio.fail_after(30):
        while not alice.driver.channels:
            alice.propose()
            with trio.move_on_after(0.5):
                await alice.until(lambda: bool(alice.driver.channels))


@pytest.mark.usefixtures("quick_hub")
async def test_a_hub_whose_disk_fails_acknowledges_nothing_and_ends(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with tiny_wallet(hub_city, tmp_path) as alice:

        async def until_the_disk_is_full() -> None:
            async with running_hub(config) as hub, alice.connected(hub):
                await alice.join()
                await alice.submit("1")
                await alice.wait_received(FLOW_UCENT)
                commit = hub.store.ledger.commit

                def full_disk(*batch: Any) -> None:
                    hub.store.ledger._db.execute("PRAGMA max_page_count=1")
                    commit(*batch)

                monkeypatch.setattr(hub.store.ledger, "commit", full_disk)
                alice.send(submit_message(bytes(16), *["2"] * 64))
                await trio.sleep_forever()

        with pytest.raises(LedgerUnusable, match="nothing was acknowledged"):
            await until_the_disk_is_full()
        assert not alice.answers(bytes(16))
        async with running_hub(config) as hub, alice.connected(hub):
            await alice.wait_live()
            assert (await alice.submit("2")).outcomes[0].nonce == 2


@pytest.mark.usefixtures("quick_hub")
async def test_a_hub_whose_outbox_cannot_be_written_says_so_and_loses_nothing(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Settler, watcher, opener, liquidity and what submits closes all want to send meanwhile."""
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(
            hub_city,
            tmp_path / "hub",
            settle_unsettled_ucent=1,
            deposit_ucent=4 * FLOW_UCENT,
            top_up_below_ucent=2 * FLOW_UCENT,
            top_up_to_ucent=6 * FLOW_UCENT,
        )
    )
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path) as alice,
        tiny_wallet(hub_city, tmp_path, name="bob") as bob,
        tiny_wallet(hub_city, tmp_path, name="carol") as carol,
        tiny_wallet(hub_city, tmp_path, name="dave") as dave,
    ):
        for wallet in (alice, bob, carol):
            async with wallet.connected(hub):
                await wallet.join()
        await hub.follower.catch_up()
        async with (
            alice.connected(hub),
            bob.connected(hub),
            dave.connected(hub),
        ):
            await alice.wait_live()
            await bob.wait_live()
            with no_outbox(config.parent / "data" / OUTBOX_NAME):
                await alice.submit("1", "2", "3")  # off-chain everything goes on
                bob.ask_close()
                dave.propose()
                chain = Web3Chain(
                    connect(hub_city.rpc_url), hub_city.deployment, signer=carol.signer
                )
                await trio.to_thread.run_sync(chain.start_close, carol.channel.terms)
                await dave.until(lambda: bool(dave.errors("not-now")))
                await until(lambda: hub.status()["sending_trouble"] is not None)
                await until(lambda: has_agreed(hub, bob))
                with pytest.raises(OutboxUnusable):
                    await Operator(hub).methods()["settle"]({})
                await until(lambda: hub.liquidity.report()["on_their_way"] == 1)
                assert caplog.text.count("nothing can be sent") == 1
                assert "Not a directory" in hub.status()["sending_trouble"]
                assert (await alice.submit("4")).outcomes[0].nonce == 4
            await until(lambda: hub.status()["sending_trouble"] is None)
            await propose_until_known(dave)
            await until(lambda: settled_on_chain(hub, alice) >= 3 * FLOW_UCENT)
            await trio.to_thread.run_sync(hub_city.warp, ACT_AGAIN_SECONDS)
            await until(lambda: hub.driver.get(bob.channel.id).phase is Phase.CLOSED)
            await until(lambda: deposit_of(hub, alice) >= 6 * FLOW_UCENT)


def has_agreed(hub: Hub, wallet: TinyWallet) -> bool:
    """Whether both have signed a close, which the hub then submits."""
    close = hub.driver.get(wallet.channel.id).close
    return close is not None and close.theirs is not None


def settled_on_chain(hub: Hub, wallet: TinyWallet) -> int:
    view = hub.driver.get(wallet.channel.id).chain
    return 0 if view is None else view.settled_ucent[Side.A]


def deposit_of(hub: Hub, wallet: TinyWallet) -> int:
    view = hub.driver.get(wallet.channel.id).chain
    return 0 if view is None else view.deposit_ucent[Side.A]


async def test_a_hub_process_on_a_full_outbox_says_it_in_its_log_without_a_traceback(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(hub_city, tmp_path / "hub", settle_unsettled_ucent=1)
    )
    log = tmp_path / "log"
    async with tiny_wallet(hub_city, tmp_path) as alice:
        with hub_process(config, log) as (process, port, signer):
            async with alice.connected((port, signer)):
                await propose_until_known(alice)
                await alice.wait_live()
                with no_outbox(config.parent / "data" / OUTBOX_NAME):
                    await alice.submit("1")
                    await until(lambda: "nothing can be sent" in log.read_text())
                    await alice.submit("2")
                await until(lambda: "settled 1 lanes" in log.read_text())
            assert process.poll() is None
        said = log.read_text()
        assert "Traceback" not in said
        assert "repair the disk or the folder's permissions" in said


# -- the chain goes away --------------------------------------------------------------------------


class Door:
    """A TCP way to the devnet that tests shut and open: an RPC endpoint that goes away."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self._open = True
        self._scopes: set[trio.CancelScope] = set()
        self.url = ""

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        await trio.serve_listeners(self._one, [listener], task_status=task_status)  # type: ignore[arg-type]

    async def _one(self, stream: trio.SocketStream) -> None:
        if not self._open:
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            async with (
                await trio.open_tcp_stream(*self._target) as target,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._copy, stream, target)
                await self._copy(target, stream)
                nursery.cancel_scope.cancel()
            self._scopes.discard(scope)

    @staticmethod
    async def _copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def shut(self) -> None:
        """Cut every connection and take no other."""
        self._open = False
        for scope in self._scopes:
            scope.cancel()

    def reopen(self) -> None:
        self._open = True


@asynccontextmanager
async def behind_a_door(city: City, folder: Path) -> AsyncIterator[tuple[Door, Hub, TinyWallet]]:
    """A hub whose endpoint can go away, and alice, who has a channel."""
    door = Door(city.rpc_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(door.serve)
        config = await trio.to_thread.run_sync(
            lambda: hub_folder(replace(city, rpc_url=door.url), folder / "hub")
        )
        async with (
            running_hub(config) as hub,
            tiny_wallet(city, folder) as alice,
            alice.connected(hub),
        ):
            await alice.join()
            yield door, hub, alice
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("quick_hub")
async def test_while_its_chain_is_away_a_hub_pays_on_until_its_view_is_stale(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind_a_door(hub_city, tmp_path) as (door, hub, alice):
        door.shut()
        await until(lambda: hub.follower.trouble is not None)
        assert (await alice.submit("1")).outcomes[0].nonce == 1
        assert "check the RPC URL" in hub.status()["chain_trouble"]
        with pytest.raises(ChainError):
            await Operator(hub).methods()["settle"]({})
        fresh = hub.follower.moment
        monkeypatch.setattr(  # a quarter of the challenge window later
            hub.engine, "_moment", lambda: replace(fresh(), now=fresh().head_timestamp + 151)
        )
        pack = secrets.token_bytes(16)
        assert (await alice.submit("2", submission=pack)).outcomes[0].code == "stale-view"
        monkeypatch.setattr(hub.engine, "_moment", fresh)
        door.reopen()
        await until(lambda: hub.follower.trouble is None)
        assert (await alice.submit("2", submission=pack)).outcomes[0].nonce == 2
        # the first try only learns what became of the transaction that was cut off, if any was
        with trio.fail_after(20):
            while not hub.status()["settlements"]:
                try:
                    await Operator(hub).methods()["settle"]({})
                except ChainError:
                    await trio.sleep(0.01)
                await hub.driver.wait_durable()


@pytest.mark.usefixtures("quick_hub")
async def test_a_wallet_that_joins_while_the_chain_is_away_is_told_to_come_back(
    hub_city: City, tmp_path: Path
) -> None:
    async with (
        behind_a_door(hub_city, tmp_path) as (door, hub, _),
        tiny_wallet(hub_city, tmp_path, name="bob") as bob,
        bob.connected(hub),
    ):
        door.shut()
        bob.propose()
        await bob.until(lambda: bool(bob.errors("not-now")))
        door.reopen()
        await propose_until_known(bob)
        await bob.wait_live()
        assert len(hub.driver.channels) == 2


async def test_a_hub_stops_at_once_while_its_endpoint_hangs(hub_city: City, tmp_path: Path) -> None:
    """An endpoint that takes the connection and never answers must not hold up a shutdown."""
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(hub_city, tmp_path / "hub", rpc_timeout_seconds=300)
    )
    config.write_text(config.read_text().replace(hub_city.rpc_url, url))
    process = started(config)
    try:
        connection, _ = await trio.to_thread.run_sync(silent.accept)  # it asks, and waits
        process.send_signal(signal.SIGINT)
        assert await trio.to_thread.run_sync(process.wait, 30) == 0
        connection.close()
    finally:
        process.kill()
        process.communicate()
        silent.close()


# -- connections ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_hub")
async def test_a_hub_with_all_its_connections_taken_says_so(hub_city: City, tmp_path: Path) -> None:
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(hub_city, tmp_path / "hub", connections_max=1)
    )
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path) as alice,
        alice.connected(hub),
    ):
        await alice.join()
        bob = new_signer()
        await trio.to_thread.run_sync(hub_city.register, bob.address)
        await hub.follower.catch_up()
        wire = Wire(await trio.open_tcp_stream("127.0.0.1", hub.port))
        with pytest.raises(Refused, match="1 are connected"):
            await wire.dial(hub_city.deployment.domain(), bob, hub.signer.address)
        await wire.finish()
        assert (await alice.submit("1")).outcomes[0].nonce == 1


@pytest.mark.usefixtures("quick_hub")
async def test_a_stranger_who_speaks_something_else_harms_nobody(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub:
        for sent in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff" + bytes(100),
            b"\x00\x00\x00\x01\xc0",
            b"\x00\x00\x00\x02\xc1\x05",
            b"\x00\x00\x00\x03\xc2\x80",
        ):
            async with await trio.open_tcp_stream("127.0.0.1", hub.port) as stream:
                if sent:
                    await stream.send_all(sent)
                await stream.send_eof()
                with trio.fail_after(20):
                    async for _ in stream:
                        pass
        await until(lambda: hub.status()["connections"] == 0)


@pytest.mark.usefixtures("quick_hub")
async def test_a_wallet_that_goes_away_at_the_wrong_moment_does_not_end_the_hub(
    hub_city: City, tmp_path: Path
) -> None:
    """The hub speaks to a connection that is closed and not yet forgotten."""
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path) as mallory,
        tiny_wallet(hub_city, tmp_path, name="bob") as bob,
    ):
        async with mallory.connected(hub):
            await until(lambda: mallory.signer.address in hub.engine._wires)
            hub.engine._wires[mallory.signer.address].close_soon()
            account, signer = mallory.account, mallory.signer.address
            assert await hub.opener.open([OpenRow(account_b=account, signer_b=signer)]) == (1, 0)
        async with bob.connected(hub):
            await bob.join()


@pytest.mark.usefixtures("quick_hub")
async def test_a_number_beyond_what_the_database_holds_harms_nobody(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(hub_city, tmp_path / "hub", top_up_member_day_ucent=0)
    )
    async with running_hub(config) as hub, tiny_wallet(hub_city, tmp_path) as mallory:
        done = await trio.to_thread.run_sync(
            lambda: farthing(
                "member",
                "set",
                "0x" + mallory.account.hex(),
                *("--role", "device", "--valid-until", 2**64 - 1, "--dev-account", "0"),
                *("--rpc", hub_city.rpc_url, "--deployment", hub_city.deployment_file),
            )
        )
        assert done.code == 0
        async with mallory.connected(hub):
            await mallory.join()
            mallory.send(
                PaymentRequest(
                    channel=mallory.channel.id,
                    id=bytes(16),
                    amount_ucent=2**96 - 1,
                    purpose="everything",
                    expires=2**64 - 1,
                )
            )
            assert (await mallory.submit("1")).outcomes[0].nonce == 1
            await hub.driver.wait_durable()
    ledger = Ledger(config.parent / "data" / "hub.sqlite")
    try:
        (row,) = ledger.query("SELECT expires FROM request")
        assert row == (str(2**64 - 1),)
    finally:
        ledger.close()


@pytest.mark.usefixtures("quick_hub")
async def test_what_is_left_when_a_hub_is_told_to_end_is_committed(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub:
        hub.driver.store([("INSERT INTO setting VALUES ('last', 'word')", ())])
    with sqlite3.connect(config.parent / "data" / "hub.sqlite") as database:
        rows = database.execute("SELECT value FROM setting WHERE key='last'").fetchall()
    database.close()
    assert rows == [("word",)]
    assert (config.parent / "data").stat().st_mode & 0o777 == 0o700
