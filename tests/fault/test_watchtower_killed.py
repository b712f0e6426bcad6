"""A watchtower killed between sending its answer and a block with it answers once, and goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.outbox import Outbox
from farthing.channels.ids import Address, address_from_hex, address_to_hex, to_hex
from farthing.devnet.faults.rpc_faults import RpcFault
from farthing.devnet.faults.rpc_proxy import RpcProxy
from farthing.devnet.processes import Process
from farthing.node.home import OUTBOX_NAME

from ..hub_world import City, new_signer
from ..tower_world import deposit_of, depositor, make_street, tower_folder

PATIENCE_SECONDS = 60


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the process does; neither it nor the chain tells anybody."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not await trio.to_thread.run_sync(condition):  # noqa: ASYNC110 - as said
            await trio.sleep(0.1)


def sent_by(city: City, account: Address) -> int:
    return int(city.ask("eth_getTransactionCount", address_to_hex(account), "latest"), 16)


@pytest.mark.parametrize("fault", [RpcFault.SEND_FORGOTTEN, RpcFault.SEND_HELD])
async def test_an_answer_that_no_block_held_when_the_tower_was_killed_is_sent_again_as_it_was(
    hub_city: City, tmp_path: Path, fault: RpcFault
) -> None:
    """The node dropped it, or keeps it back and passes it on after the restart."""
    alice = new_signer()
    street = await trio.to_thread.run_sync(make_street, hub_city)
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with RpcProxy(hub_city.rpc_url) as proxy:
        config = await trio.to_thread.run_sync(
            lambda: tower_folder(hub_city, tmp_path / "tower", rpc_url=proxy.url)
        )
        arguments = ["watchtower", "serve", "--config", str(config)]
        process = Process("watchtower", arguments, tmp_path / "tower.log")

        async def started() -> dict[str, Any]:
            await trio.to_thread.run_sync(process.start)
            return await trio.to_thread.run_sync(process.wait_ready)

        outbox = config.parent / "data" / OUTBOX_NAME
        try:
            ready = await started()
            tower = address_from_hex(ready["watchtower"])
            before = await trio.to_thread.run_sync(sent_by, hub_city, tower)
            async with depositor(hub_city, (ready["port"], tower), alice) as wallet:
                await wallet.kept(deposit_of(terms, street.voucher(terms, 40_000)))
            await proxy.set(fault)
            await trio.to_thread.run_sync(street.start_close, terms)
            await until(lambda: any(outbox.glob("*.json")))
            await trio.to_thread.run_sync(process.kill)
            (sent,) = Outbox(outbox).rows
            assert await trio.to_thread.run_sync(sent_by, hub_city, tower) == before
            assert street.view(terms).settled_ucent == (0, 0)
            await proxy.set()
            await started()
            await until(lambda: street.view(terms).settled_ucent == (40_000, 0))
            await proxy.release()
            await trio.to_thread.run_sync(hub_city.mine, 1)
            found = hub_city.ask("eth_getTransactionReceipt", to_hex(sent.transaction_hash))
            assert found["status"] == "0x1"
            assert await trio.to_thread.run_sync(sent_by, hub_city, tower) == before + 1
            await trio.to_thread.run_sync(street.pass_window)
            await until(lambda: street.tokens(alice.address) == 40_000)
            (last,) = Outbox(outbox).rows  # the answer is final, and forgotten
            assert last.nonce == sent.nonce + 1
            assert await trio.to_thread.run_sync(sent_by, hub_city, tower) == before + 2
        finally:
            await trio.to_thread.run_sync(process.stop)
