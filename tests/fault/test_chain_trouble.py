"""A hub on a real chain that misbehaves: by its endpoint, or by taking blocks back."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.ids import address_to_hex
from farthing.channels.state import ChainStatus, ChainView, Channel, Phase
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN, Side
from farthing.devnet.faults.rpc_faults import UNUSABLE, Fault, RpcFault
from farthing.devnet.faults.rpc_proxy import RpcProxy
from farthing.node import sender as sender_module
from farthing.node.chain import Web3Chain
from farthing.node.hub import Hub
from farthing.node.sender import TransactionFailed, connect

from ..chains import served_devnet
from ..hub_world import (
    FLOW_UCENT,
    City,
    TinyWallet,
    build_city,
    hub_folder,
    running_hub,
    tiny_wallet,
    until,
)

TROUBLES = sorted(UNUSABLE | {RpcFault.FAR_NUMBER, RpcFault.CHANGING_HASH}, key=lambda f: f.value)
SENDINGS = [
    RpcFault.SEND_FORGOTTEN,
    RpcFault.SEND_HELD,
    RpcFault.SEND_UNANSWERED,
    RpcFault.SEND_DOUBLED,
    RpcFault.SEND_REFUSED,
    RpcFault.NO_RECEIPTS,
]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A chain of this module's own: it takes blocks back under everybody."""
    with served_devnet() as url:
        yield build_city(url, tmp_path_factory.mktemp("city"))


@dataclass
class Troubled:
    """A hub behind an endpoint that misbehaves, and alice, who has a channel with it."""

    city: City
    proxy: RpcProxy
    hub: Hub
    alice: TinyWallet

    @property
    def channel(self) -> Channel:
        """The hub's side of alice's channel."""
        return self.hub.driver.get(self.alice.channel.id)

    async def reorganise(self, depth: int, fate: str) -> None:
        """Replace blocks, and let the hub see a newer head."""
        await trio.to_thread.run_sync(self.city.ask, "farthing_reorg", depth, fate)
        await self.mine(1)

    async def mine(self, blocks: int) -> None:
        await trio.to_thread.run_sync(self.city.mine, blocks)
        with trio.fail_after(20):
            await self.hub.follower.catch_up()

    async def until_view(self, condition: Callable[[ChainView], bool]) -> None:
        """Wait until the chain itself says something of the channel, whoever does it."""
        with trio.fail_after(20):
            while not condition(await self.view()):  # noqa: ASYNC110 - the chain tells nobody
                await trio.sleep(0.05)

    async def view(self) -> ChainView:
        chain = self.city.chain
        return await trio.to_thread.run_sync(
            lambda: chain.view(self.alice.channel.id, chain.head())
        )


@asynccontextmanager
async def troubled(city: City, folder: Path, **settings: Any) -> AsyncIterator[Troubled]:
    async with RpcProxy(city.rpc_url) as proxy:
        values = {"rpc_url": proxy.url, "rpc_timeout_seconds": 1, **settings}
        config = await trio.to_thread.run_sync(lambda: hub_folder(city, folder / "hub", **values))
        async with (
            running_hub(config) as hub,
            tiny_wallet(city, folder) as alice,
            alice.connected(hub),
        ):
            await alice.join()
            yield Troubled(city=city, proxy=proxy, hub=hub, alice=alice)


def opened_for(city: City, wallet: TinyWallet) -> int:
    """How many channels the chain ever opened for a wallet."""
    word = "0x" + "00" * 12 + address_to_hex(wallet.account)[2:].lower()
    query = {
        "fromBlock": "0x0",
        "address": address_to_hex(city.deployment.payment_channels),
        "topics": [None, None, None, word],
    }
    return len(city.ask("eth_getLogs", query))


async def asks_for_a_channel(
    wallet: TinyWallet, *, until_struck: RpcProxy | None = None, kind: RpcFault | None = None
) -> None:
    """Propose, as impatient wallets do, until there is a channel, or a fault has struck twice."""
    with trio.fail_after(30):
        while not wallet.driver.channels:
            if until_struck is not None and kind is not None and until_struck.struck[kind] > 1:
                return
            wallet.propose()
            with trio.move_on_after(0.3):
                await wallet.pulse.until(lambda: bool(wallet.driver.channels))


@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_hub_outlives_an_endpoint_in_trouble_and_goes_on_when_it_is_over(
    city: City, tmp_path: Path, kind: RpcFault
) -> None:
    async with troubled(city, tmp_path) as world:
        hub, alice = world.hub, world.alice
        head = hub.follower.moment().head_block
        await world.proxy.set(kind)
        await trio.to_thread.run_sync(city.mine)  # there would be something to see
        await until(lambda: hub.follower.trouble is not None)
        assert hub.follower.moment().head_block == head
        assert hub.status()["chain_trouble"]
        await world.proxy.set()
        await until(lambda: hub.follower.trouble is None)
        assert hub.follower.moment().head_block > head
        await alice.submit("2.5")
        alice.pay(FLOW_UCENT // 2)
        await alice.wait_quiet()


async def test_an_endpoint_that_falls_behind_is_told_and_waited_for(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path) as world:
        hub = world.hub
        await world.mine(5)
        head = hub.follower.moment().head_block
        await world.proxy.set(Fault(kind=RpcFault.LAGGING, blocks=3))
        await until(lambda: hub.follower.trouble is not None)
        assert hub.follower.trouble is not None
        assert hub.follower.trouble.code == "chain-went-back"
        assert hub.follower.moment().head_block == head
        await trio.to_thread.run_sync(city.mine, 4)  # it lags still, and shows something newer
        await until(lambda: hub.follower.trouble is None)
        assert hub.follower.moment().head_block == head + 1


@pytest.mark.parametrize("kind", SENDINGS)
async def test_an_opening_whose_transaction_is_lost_late_or_doubled_opens_one_channel(
    city: City, tmp_path: Path, kind: RpcFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with troubled(city, tmp_path) as world, tiny_wallet(city, tmp_path, name="bob") as bob:
        monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0.5)
        async with bob.connected(world.hub):
            await world.proxy.set(kind)
            await asks_for_a_channel(bob, until_struck=world.proxy, kind=kind)
            await world.proxy.set()
            await world.proxy.release()  # what was held is mined late, beside what was sent again
            await asks_for_a_channel(bob)
            await bob.wait_live()
            await trio.to_thread.run_sync(city.mine)
            await world.hub.follower.catch_up()
        assert await trio.to_thread.run_sync(opened_for, city, bob) == 1


async def test_a_channel_whose_opening_vanished_accepts_nothing_until_it_is_back(
    city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with troubled(city, tmp_path) as world:
        alice = world.alice
        await alice.submit("2.5")
        await alice.wait_received(FLOW_UCENT)
        await world.reorganise(1, "dropped")
        assert world.channel.phase is Phase.UNCONFIRMED
        assert "its opening has vanished from the chain" in caplog.text
        received = world.channel.received.total
        alice.pay(100)
        await alice.until(lambda: bool(alice.errors("not-now")))
        assert world.channel.received.total == received
        assert world.channel.sent.total.transferred_ucent == FLOW_UCENT  # what was paid is kept
        # The hub finds its transaction in no block, and sends it again.
        with pytest.raises(sender_module.TransactionUnknown):
            await world.hub.desk.send(lambda chain: chain.look_back())
        await world.mine(1)
        assert (await world.view()).status is ChainStatus.OPEN


async def test_a_settlement_that_vanished_is_settled_again(city: City, tmp_path: Path) -> None:
    async with troubled(city, tmp_path) as world:
        await world.alice.submit("2.5")
        await world.hub.settler.settle()
        await world.mine(1)
        assert world.channel.chain is not None
        assert world.channel.chain.settled_ucent[Side.A] == FLOW_UCENT
        await world.reorganise(2, "dropped")
        assert world.channel.chain.settled_ucent[Side.A] == 0
        with pytest.raises(sender_module.TransactionUnknown):
            await world.hub.settler.settle()  # the one that vanished is sent again
        await world.mine(1)
        assert (await world.view()).settled_ucent[Side.A] == FLOW_UCENT
        await world.hub.settler.settle()  # nothing is left, and nothing is counted twice
        assert world.channel.chain.settled_ucent[Side.A] == FLOW_UCENT


async def test_blocks_that_are_replaced_by_the_same_transactions_change_nothing(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path) as world:
        await world.alice.submit("2.5")
        await world.hub.settler.settle()
        await world.reorganise(2, "again")
        assert world.channel.chain is not None
        assert world.channel.chain.settled_ucent[Side.A] == FLOW_UCENT
        assert world.channel.phase is Phase.LIVE
        world.alice.pay(FLOW_UCENT // 2)
        await world.alice.wait_quiet()


async def test_within_the_confirmations_a_reorganisation_is_never_noticed(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path) as world:
        world.hub.follower._desk._chain._confirmations = 2
        await world.mine(3)
        head = world.hub.follower.moment()
        for fate in ("dropped", "waiting", "again"):
            await trio.to_thread.run_sync(city.ask, "farthing_reorg", 2, fate)
        await world.mine(1)
        assert world.channel.phase is Phase.LIVE
        assert world.hub.follower.moment().head_block == head.head_block + 1
        assert world.hub.follower.trouble is None


async def test_a_chain_that_stood_still_for_longer_than_the_window_leaves_time_to_answer(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path) as world:
        alice, hub = world.alice, world.hub
        await alice.submit("2.5")
        alice.pay(FLOW_UCENT // 2)
        await alice.wait_quiet()
        mallory = Web3Chain(connect(city.rpc_url), city.deployment, signer=alice.signer)
        await world.proxy.set(RpcFault.STOPPED)  # the hub sees no block any more
        await trio.to_thread.run_sync(mallory.start_close, alice.channel.terms)
        await trio.to_thread.run_sync(city.warp, 2 * CHALLENGE_SECONDS_MIN)
        with pytest.raises(TransactionFailed):  # the time is over, and the blocks are missing
            await trio.to_thread.run_sync(mallory.finish_close, alice.channel.terms)
        await world.proxy.set()
        await hub.follower.catch_up()
        await until(lambda: world.channel.phase is Phase.CLOSING)
        await world.until_view(lambda view: view.settled_ucent == (FLOW_UCENT, FLOW_UCENT // 2))
        await world.mine(CHALLENGE_BLOCKS_MIN + 1)
        await world.until_view(lambda view: view.status is ChainStatus.CLOSED)
