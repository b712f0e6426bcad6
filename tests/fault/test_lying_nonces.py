"""Endpoints that are wrong about how much an account has sent: nobody is blocked or pays twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client import outbox as outbox_module
from farthing.channels.client.outbox import GAP_MAX, Outbox
from farthing.channels.client.ports import SignerTransactions
from farthing.channels.client.results import TookTooLong, chain_status
from farthing.channels.client.transaction import ContractCalls, TransactionSender
from farthing.channels.client.wallet import Wallet
from farthing.channels.ids import to_hex
from farthing.channels.state import ChainStatus
from farthing.devnet.faults.rpc_faults import Fault, RpcFault
from farthing.node import sender as sender_module
from farthing.node.home import OUTBOX_NAME
from farthing.node.hub import Hub
from farthing.node.sender import Sender, TransactionUnknown, checksum, connect

from ..chains import served_devnet
from ..hub_world import (
    City,
    TinyWallet,
    build_city,
    tiny_wallet,
)
from ..small_node import is_empty
from .test_chain_trouble import Troubled, asks_for_a_channel, opened_for, troubled
from .test_wallet_chain_trouble import World, earn, world_of

FAR = [1, 2, 1000, 2**40]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A chain of this module's own."""
    with served_devnet() as url:
        yield build_city(url, tmp_path_factory.mktemp("city"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0.5)


def held(world: Troubled | World) -> list[bytes]:
    """What the endpoint was given and kept."""
    return [bytes.fromhex(raw[2:]) for raw in world.proxy._held]


async def opened(city: City, wallet: TinyWallet) -> int:
    await trio.to_thread.run_sync(city.mine)
    return await trio.to_thread.run_sync(opened_for, city, wallet)


# -- a hub ----------------------------------------------------------------------------------------


async def test_a_count_of_waiting_transactions_that_is_too_high_changes_nothing(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path) as world, tiny_wallet(city, tmp_path, name="bob") as bob:
        await world.proxy.set(Fault(kind=RpcFault.FAR_PENDING, blocks=1000))
        async with bob.connected(world.hub):
            await asks_for_a_channel(bob)
            await bob.wait_live()
        assert world.proxy.struck[RpcFault.FAR_PENDING] > 0
        assert await opened(city, bob) == 1


@pytest.mark.parametrize("far", FAR)
async def test_a_hub_gives_a_liar_nothing_that_could_open_a_channel_later(
    city: City, tmp_path: Path, far: int
) -> None:
    async with troubled(city, tmp_path) as world, tiny_wallet(city, tmp_path, name="bob") as bob:
        async with bob.connected(world.hub):
            await world.proxy.set(Fault(kind=RpcFault.FAR_NONCE, blocks=far), RpcFault.SEND_HELD)
            await asks_for_a_channel(bob, until_struck=world.proxy, kind=RpcFault.SEND_HELD)
            assert held(world)
            assert all(is_empty(raw) for raw in held(world))
            await world.proxy.set()
            await asks_for_a_channel(bob)
            await bob.wait_live()
            await world.proxy.release()
            await settle(world)  # it goes on sending, whatever was released
        assert await opened(city, bob) == 1


async def put_too_far(hub: Hub, bob: TinyWallet, ahead: int) -> bytes:
    """Leave an opening for bob in the hub's outbox as a liar makes a trusting hub do it."""
    sender = hub.desk._chain._sender
    assert isinstance(sender, Sender)

    def store() -> bytes:
        count = sender.web3.eth.get_transaction_count(sender.address, "latest")
        terms = hub.config
        arguments = (
            sender.address,
            checksum(hub.signer.address),
            checksum(bob.account),
            checksum(bob.signer.address),
            terms.challenge_seconds,
            terms.challenge_blocks,
            terms.deposit_ucent,
        )
        call = hub.desk._chain._channels.functions.open_many([arguments])
        sent = sender._signed("opening channels", call, count + ahead)
        sender._outbox.add(sent)
        return sent.raw

    return await trio.to_thread.run_sync(store)


@pytest.mark.parametrize("ahead", [3, GAP_MAX + 1, 10**6])
async def test_an_opening_that_a_lie_left_behind_blocks_nothing_and_opens_one_channel(
    city: City, tmp_path: Path, ahead: int
) -> None:
    async with troubled(city, tmp_path) as world, tiny_wallet(city, tmp_path, name="bob") as bob:
        raw = await put_too_far(world.hub, bob, ahead)
        async with bob.connected(world.hub):
            await asks_for_a_channel(bob)
            await bob.wait_live()
            await try_to_send(city, raw)  # whoever kept it
            await world.alice.submit("1")
            await settle(world)
        rows = Outbox(world.hub.config.data_dir / OUTBOX_NAME).rows
        assert (ahead > GAP_MAX) == any(row.is_empty and row.nonce > GAP_MAX for row in rows)
        assert await opened(city, bob) == 1


async def test_an_account_that_reaches_what_was_given_up_uses_up_its_nonce_with_nothing(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "GAP_MAX", 1)
    async with troubled(city, tmp_path) as world, tiny_wallet(city, tmp_path, name="bob") as bob:
        raw = await put_too_far(world.hub, bob, 3)
        async with bob.connected(world.hub):
            await asks_for_a_channel(bob)
            await bob.wait_live()
            await try_to_send(city, raw)
            for _ in range(4):
                await world.alice.submit("1")
                await settle(world)
        assert await opened(city, bob) == 1


async def settle(world: Troubled) -> None:
    """Settle until it is done: an empty transaction may have its turn first."""
    with trio.fail_after(20):
        while True:
            try:
                await world.hub.settler.settle()
            except TransactionUnknown:
                await trio.sleep(0.01)
            else:
                return


async def try_to_send(city: City, raw: bytes) -> None:
    """Bring a transaction to the chain itself, which may refuse it."""
    provider = connect(city.rpc_url).provider
    method: Any = "eth_sendRawTransaction"
    await trio.to_thread.run_sync(provider.make_request, method, [to_hex(raw)])


# -- a wallet -------------------------------------------------------------------------------------


def sender_of(wallet: Wallet) -> TransactionSender:
    port = wallet._guard._transactions
    assert isinstance(port, SignerTransactions)
    return port._sender


def is_closing(wallet: Wallet) -> bool:
    (channel,) = wallet.channels()
    return chain_status(wallet._driver.get(channel.id)) is ChainStatus.CLOSING


@pytest.mark.parametrize("far", FAR)
async def test_a_wallet_gives_a_liar_no_call_and_closes_once_the_lie_is_over(
    city: City, tmp_path: Path, far: int
) -> None:
    async with world_of(city, tmp_path) as world, world.wallet() as wallet:
        await earn(wallet)
        await world.proxy.set(Fault(kind=RpcFault.FAR_NONCE, blocks=far), RpcFault.SEND_HELD)
        with pytest.raises(TookTooLong):
            await wallet.start_close(timeout_seconds=2)
        assert held(world)
        assert all(is_empty(raw) for raw in held(world))
        await world.proxy.set()
        await wallet.start_close(timeout_seconds=20)
        assert is_closing(wallet)
        await world.proxy.release()


@pytest.mark.parametrize("ahead", [3, GAP_MAX + 1, 10**6])
async def test_a_call_of_a_wallet_that_a_lie_left_behind_does_not_keep_it_from_closing(
    city: City, tmp_path: Path, ahead: int
) -> None:
    async with world_of(city, tmp_path) as world, world.wallet() as wallet:
        await earn(wallet)
        sender = sender_of(wallet)
        claim = ContractCalls(city.deployment).claim(world.device.account)
        count = await sender._reader.next_nonce(sender.address)
        sender._written(sender._signed(claim, count + ahead, 100_000))
        await wallet.start_close(timeout_seconds=20)
        assert is_closing(wallet)
        if ahead > GAP_MAX:
            (row,) = [row for row in sender._outbox.rows if row.nonce >= ahead]
            assert row.is_empty
            assert await world.sent() == count + 2  # its settlement and its close
        else:
            assert await world.sent() == count + ahead + 1 + 2
