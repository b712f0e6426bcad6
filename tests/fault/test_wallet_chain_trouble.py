"""A wallet whose endpoint misbehaves, whose chain goes back, and whose outbox outlives it."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.folder import Folder, Policy, write_settings
from farthing.channels.client.outbox import KEEP_BLOCKS, OutboxUnusable
from farthing.channels.client.results import TookTooLong, chain_status
from farthing.channels.client.rpc import RpcClient
from farthing.channels.client.wallet import Wallet, open_wallet
from farthing.channels.deployment import Deployment
from farthing.channels.errors import ChainError
from farthing.channels.ids import address_to_hex
from farthing.channels.state import ChainStatus
from farthing.devnet.faults.rpc_faults import UNUSABLE, Fault, RpcFault
from farthing.devnet.faults.rpc_proxy import RpcProxy
from farthing.node.hub import Hub

from ..chains import served_devnet
from ..hub_world import (
    FLOW_UCENT,
    PASSWORD,
    City,
    build_city,
    hub_folder,
    reading,
    running_hub,
)
from ..real_wallet import PATIENCE_SECONDS, Device, make_device, until
from .disks import no_outbox

TROUBLES = sorted(UNUSABLE | {RpcFault.FAR_NUMBER, RpcFault.CHANGING_HASH}, key=lambda f: f.value)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A chain of this module's own: it takes blocks back under everybody."""
    with served_devnet() as url:
        yield build_city(url, tmp_path_factory.mktemp("city"))


@pytest.fixture(autouse=True)
def quick_wallet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let wallets look often, and wait for an endpoint no longer than two seconds."""
    for name in ("POLL_SECONDS_MIN", "POLL_SECONDS_MAX", "RETRY_SECONDS_MIN", "RETRY_SECONDS_MAX"):
        monkeypatch.setattr(f"farthing.channels.client.follower.{name}", 0.05)
    impatient = partial(RpcClient, timeout_seconds=2)
    monkeypatch.setattr("farthing.channels.client.endpoint.RpcClient", impatient)


@dataclass
class World:
    """A hub on the chain itself, and alice's folder, whose endpoint misbehaves as it is told."""

    city: City
    proxy: RpcProxy
    hub: Hub
    device: Device

    @asynccontextmanager
    async def wallet(self) -> AsyncIterator[Wallet]:
        async with self.device.wallet() as wallet:
            yield wallet

    @property
    def outbox(self) -> list[Path]:
        return sorted(Folder(path=self.device.path).outbox.glob("*.json"))

    async def mine(self, blocks: int = 1) -> None:
        await trio.to_thread.run_sync(self.city.mine, blocks)

    async def ask(self, method: str, *params: Any) -> Any:
        return await trio.to_thread.run_sync(self.city.ask, method, *params)

    async def newest(self) -> int:
        """The newest block's number, asked behind the proxy."""
        return int(await self.ask("eth_blockNumber"), 16)

    async def sent(self) -> int:
        """How many transactions of alice's the chain holds."""
        account = address_to_hex(self.device.account)
        return int(await self.ask("eth_getTransactionCount", account, "latest"), 16)


@asynccontextmanager
async def world_of(city: City, folder: Path, policy: Policy | None = None) -> AsyncIterator[World]:
    async with RpcProxy(city.rpc_url) as proxy:
        config = await trio.to_thread.run_sync(hub_folder, city, folder / "hub")
        async with running_hub(config) as hub:
            behind = replace(city, rpc_url=proxy.url)
            device = await make_device(behind, hub, folder / "alice")
            if policy is not None:
                own = Folder(path=device.path)
                write_settings(own, replace(own.settings(), policy=policy))
            yield World(city=city, proxy=proxy, hub=hub, device=device)


async def earn(wallet: Wallet) -> None:
    """Join, and be paid for one reading."""
    await wallet.join(timeout_seconds=20)
    await wallet.wait_outcome(await wallet.submit([reading()]), timeout_seconds=20)
    await until(wallet, lambda: wallet.balance().in_channel_ucent >= FLOW_UCENT)


def trouble(wallet: Wallet) -> str | None:
    found = wallet._follower.trouble
    return None if found is None else found.code


async def looked(wallet: Wallet) -> None:
    """A look at the chain that began after now, whatever it meets."""
    with suppress(ChainError):  # which `trouble` shows
        await wallet._follower.refresh()


async def caught_up(world: World, wallet: Wallet) -> None:
    """Let the wallet see the chain's newest block, however often its endpoint is too slow."""
    head = await world.newest()
    with trio.fail_after(PATIENCE_SECONDS):
        while wallet._follower.moment().head_block < head:
            await looked(wallet)


# -- endpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_wallet_outlives_an_endpoint_in_trouble_and_goes_on_when_it_is_over(
    city: City, tmp_path: Path, kind: RpcFault
) -> None:
    async with world_of(city, tmp_path) as world, world.wallet() as wallet:
        await earn(wallet)
        head = wallet._follower.moment().head_block
        await world.proxy.set(kind)
        await world.mine()  # there would be something to see
        await until(wallet, lambda: wallet._follower.trouble is not None)
        await looked(wallet)
        assert wallet._follower.moment().head_block <= await world.newest()
        assert wallet.status()["chain"]["trouble"]
        await world.proxy.set()
        await world.mine()
        await until(wallet, lambda: wallet._follower.trouble is None)
        await caught_up(world, wallet)
        assert wallet._follower.moment().head_block > head
        assert (await wallet.pay(100, "parking", timeout_seconds=20)).acknowledged


async def test_an_endpoint_that_falls_behind_is_told_and_its_older_blocks_are_not_taken_in(
    city: City, tmp_path: Path
) -> None:
    async with world_of(city, tmp_path) as world, world.wallet() as wallet:
        await earn(wallet)
        await world.mine(5)
        await caught_up(world, wallet)
        head = wallet._follower.moment().head_block
        await world.proxy.set(Fault(kind=RpcFault.LAGGING, blocks=3))
        await until(wallet, lambda: trouble(wallet) == "head-went-back")
        assert wallet._follower.moment().head_block == head
        await world.mine(4)  # it lags still, and shows something newer
        await until(wallet, lambda: trouble(wallet) is None)
        assert head < wallet._follower.moment().head_block <= await world.newest() - 3


async def test_a_head_from_the_future_is_believed_as_far_as_the_policy_says(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deployment, "is_development", property(lambda _: False))
    policy = Policy(chain_ahead_seconds_max=5_000)
    async with world_of(city, tmp_path, policy) as world, world.wallet() as wallet:
        await earn(wallet)
        await caught_up(world, wallet)
        known = wallet._follower.moment()
        await world.proxy.set(Fault(kind=RpcFault.FAR_TIME, seconds=10_000))
        await world.mine()
        await until(wallet, lambda: trouble(wallet) == "chain-from-the-future")
        assert wallet._follower.moment().head_block == known.head_block
        await world.proxy.set(Fault(kind=RpcFault.FAR_TIME, seconds=2_000))
        await world.mine()
        await until(wallet, lambda: trouble(wallet) is None)
        await caught_up(world, wallet)
        assert wallet._follower.moment().head_timestamp > known.head_timestamp + 1_900


# -- restarts -------------------------------------------------------------------------------------


async def test_blocks_that_were_replaced_while_the_wallet_was_off_are_noticed_at_its_start(
    city: City, tmp_path: Path
) -> None:
    async with world_of(city, tmp_path) as world:
        async with world.wallet() as wallet:
            await earn(wallet)
        async with world.wallet() as wallet:
            await caught_up(world, wallet)
        await world.ask("farthing_reorg", 2, "again")
        async with world.wallet() as wallet:
            notices = wallet.listen()
            with trio.fail_after(20):
                while (await notices.receive()).kind != "blocks-replaced":
                    pass
            assert (await wallet.pay(100, "parking", timeout_seconds=20)).acknowledged


async def test_a_chain_that_went_back_while_the_wallet_was_off_is_waited_for(
    city: City, tmp_path: Path
) -> None:
    async with world_of(city, tmp_path) as world:
        snapshot = await world.ask("evm_snapshot")
        await world.mine(3)
        async with world.wallet() as wallet:
            await caught_up(world, wallet)
            head = wallet._follower.moment().head_block
        assert await world.ask("evm_revert", snapshot)
        async with world.wallet() as wallet:
            notices = wallet.listen()
            await until(wallet, lambda: trouble(wallet) == "head-went-back")
            assert wallet._follower.moment().head_block == 0  # nothing was read by this process
            await world.mine(4)
            await until(wallet, lambda: trouble(wallet) is None)
            assert head < wallet._follower.moment().head_block <= await world.newest()
            kinds = set()
            with suppress(trio.WouldBlock):
                while True:
                    kinds.add(notices.receive_nowait().kind)
            assert {"chain-trouble", "chain-back", "blocks-replaced"} <= kinds


# -- the outbox -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RpcFault.SEND_FORGOTTEN, RpcFault.SEND_HELD])
async def test_what_a_wallet_sent_and_no_block_held_is_sent_again_by_the_next_start(
    city: City, tmp_path: Path, kind: RpcFault
) -> None:
    async with world_of(city, tmp_path) as world:
        async with world.wallet() as wallet:
            await earn(wallet)
            await wallet.pay(FLOW_UCENT, "parking", timeout_seconds=20)  # nothing is to be settled
            await world.hub.settler.settle()
            await caught_up(world, wallet)
            before = await world.sent()
            await world.proxy.set(kind)
            with pytest.raises(TookTooLong):
                await wallet.start_close(timeout_seconds=4)
        (written,) = world.outbox
        assert await world.sent() == before
        await world.proxy.set()
        async with world.wallet() as wallet:
            (channel,) = wallet.channels()

            def is_closing() -> bool:
                return chain_status(wallet._driver.get(channel.id)) is ChainStatus.CLOSING

            await until(wallet, is_closing)
            await world.proxy.release()  # what was held comes late, and changes nothing
            await world.mine()
            assert await world.sent() == before + 1
        assert world.outbox == [written]  # it may still be given back
        await world.mine(KEEP_BLOCKS)
        async with world.wallet():
            with trio.fail_after(20):
                while world.outbox:  # noqa: ASYNC110 - the wallet tells nobody of it
                    await trio.sleep(0.02)
        assert await world.sent() == before + 1


async def test_a_wallet_whose_outbox_cannot_be_written_says_so_and_answers_once_it_can(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.channels.client.guard.SETTLE_AGAIN_SECONDS", 0.2)
    async with world_of(city, tmp_path) as world, world.wallet() as wallet:
        await earn(wallet)
        monkeypatch.setattr(world.hub.settler, "settle", nothing)  # the hub does not answer for her
        notices = wallet.listen()
        channel = world.hub.driver.get(wallet.channels()[0].id)
        with no_outbox(Folder(path=world.device.path).outbox):
            await world.hub.watcher.start_close(channel)
            await world.mine()
            with trio.fail_after(20):
                while (notice := await notices.receive()).kind != "answer-failed":
                    pass
            assert "cannot be written (Not a directory)" in notice.text
            assert "repair the disk" in notice.text
        with trio.fail_after(20):
            while (await notices.receive()).kind != "settled":
                await world.mine()
        await looked(wallet)
        await until(wallet, lambda: settled(wallet) == FLOW_UCENT)


async def nothing(_: Any = None) -> list[Any]:
    return []


def settled(wallet: Wallet) -> int:
    view = wallet._driver.get(wallet.channels()[0].id).chain
    return 0 if view is None else view.settled_ucent[0]


@pytest.mark.parametrize("damage", ["torn", "empty", "another", "flipped"])
async def test_a_wallet_with_a_damaged_outbox_does_not_start_and_says_which_file(
    city: City, tmp_path: Path, damage: str
) -> None:
    async with world_of(city, tmp_path) as world:
        async with world.wallet() as wallet:
            await earn(wallet)
            await world.proxy.set(RpcFault.SEND_FORGOTTEN)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wallet.start_close)
                with trio.fail_after(PATIENCE_SECONDS):
                    while not world.proxy.struck[RpcFault.SEND_FORGOTTEN]:  # noqa: ASYNC110
                        await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
        await world.proxy.set()
        (written,) = world.outbox
        content = written.read_bytes()
        digit = content.index(b'"raw": "0x') + 200
        written.write_bytes(
            {
                "torn": content[: len(content) // 2],
                "empty": b"",
                "another": b'{"nonce": 1}',
                "flipped": content[:digit] + bytes([content[digit] ^ 1]) + content[digit + 1 :],
            }[damage]
        )
        with pytest.raises(OutboxUnusable, match=written.name):
            async with open_wallet(world.device.path, PASSWORD):
                pytest.fail("it started")
        password = world.device.path / "password"
        password.touch(mode=0o600)
        password.write_text(PASSWORD)
        command = [sys.executable, "-m", "farthing.cli.main"]
        command += ["wallet", "run", "--folder", str(world.device.path)]
        with trio.fail_after(60):
            run = partial(trio.run_process, check=False, capture_stdout=True, capture_stderr=True)
            ended = await run(command)
        said = (ended.stdout + ended.stderr).decode()
        assert ended.returncode == 1
        assert "Traceback" not in said
        assert f"{written} is damaged" in said
        assert "may be moved away" in said
        written.rename(tmp_path / "moved-away")
        async with world.wallet() as wallet:
            (channel,) = wallet.channels()
            await wallet.start_close(channel.id, timeout_seconds=20)
