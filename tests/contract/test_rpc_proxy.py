"""The misbehaving endpoint itself: each fault does what it says, and nothing else."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from farthing.channels.client.rpc import (
    RpcAnswerTooLarge,
    RpcClient,
    RpcRefused,
    RpcTimeout,
    RpcUnreachable,
    RpcUnusable,
)
from farthing.channels.errors import ChainError
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.faults.rpc_faults import GARBLED, Fault, RpcFault, UnknownFault, read_fault
from farthing.devnet.faults.rpc_proxy import RpcProxy

from ..chains import served_devnet

ALICE, BOB = dev_accounts(2)
UNKNOWN = "0x" + "11" * 32


@pytest.fixture
def devnet() -> Iterator[str]:
    with served_devnet() as url:
        yield url


@asynccontextmanager
async def between(url: str, **settings: Any) -> AsyncIterator[tuple[RpcProxy, RpcClient]]:
    """A proxy before a devnet, and a client of the proxy that waits for half a second."""
    async with (
        RpcProxy(url, **settings) as proxy,
        RpcClient(proxy.url, timeout_seconds=0.5) as client,
    ):
        yield proxy, client


def transfer(nonce: int) -> str:
    fields = {"chainId": 20_262_026, "nonce": nonce, "gas": 21_000, "gasPrice": 0, "value": 1}
    raw = ALICE.signer().sign_transaction({**fields, "to": BOB.address}).raw_transaction
    return "0x" + bytes(raw).hex()


async def mine(client: RpcClient, blocks: int) -> None:
    await client.call("anvil_mine", hex(blocks))


async def test_without_faults_the_answers_are_the_devnets(devnet: str) -> None:
    async with between(devnet) as (proxy, client), RpcClient(devnet) as direct:
        for question in (
            ("eth_blockNumber",),
            ("eth_getBlockByNumber", "latest", False),
            ("eth_getBalance", ALICE.checksum_address, "latest"),
            ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"}),
        ):
            assert await client.call(*question) == await direct.call(*question)
        assert proxy.calls["eth_blockNumber"] == 1
        assert not proxy.struck


ERRORS: dict[RpcFault, type[ChainError]] = {
    RpcFault.HANGING: RpcTimeout,
    RpcFault.CUT: RpcUnreachable,
    RpcFault.UNAVAILABLE: RpcUnreachable,
    RpcFault.ERROR: RpcRefused,
    RpcFault.NOT_JSON: RpcUnusable,
    RpcFault.WRONG_ID: RpcUnusable,
    RpcFault.HUGE: RpcAnswerTooLarge,
}


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_endpoint_that_gives_no_answer_gives_an_error(devnet: str, kind: RpcFault) -> None:
    async with between(devnet) as (proxy, client):
        await proxy.set(kind)
        with pytest.raises(ERRORS[kind]):
            await client.call("eth_blockNumber")
        assert proxy.struck == {kind: 1}
        await proxy.set()
        assert int(await client.call("eth_blockNumber"), 16) == 1


def test_every_garbled_answer_is_tested() -> None:
    assert {*ERRORS, RpcFault.WRONG_TYPE} >= GARBLED


async def test_an_answer_of_another_type_is_one(devnet: str) -> None:
    async with between(devnet) as (proxy, client):
        await proxy.set(RpcFault.WRONG_TYPE)
        assert await client.call("eth_blockNumber") == [{"unexpected": [1.5, None]}]


async def test_an_endpoint_that_lags_lags_in_every_method(devnet: str) -> None:
    async with between(devnet) as (proxy, client):
        await mine(client, 9)
        sent = await client.call("eth_sendRawTransaction", transfer(0))
        assert int(await client.call("eth_blockNumber"), 16) == 11
        await proxy.set(Fault(kind=RpcFault.LAGGING, blocks=3))
        assert int(await client.call("eth_blockNumber"), 16) == 8
        block = await client.call("eth_getBlockByNumber", "latest", False)
        assert int(block["number"], 16) == 8
        assert await client.call("eth_getBlockByNumber", "0x9", False) is None
        assert await client.call("eth_getTransactionReceipt", sent) is None
        assert (await client.call("eth_getTransactionByHash", sent))["blockNumber"] is None
        for tag in ("latest", "pending"):
            count = await client.call("eth_getTransactionCount", ALICE.checksum_address, tag)
            assert int(count, 16) == 0
        assert await client.call("eth_getLogs", {"fromBlock": "0x9", "toBlock": "0xb"}) == []
        with pytest.raises(RpcRefused, match="header not found"):
            await client.call("eth_getBalance", BOB.checksum_address, "0xb")
        await proxy.set()
        newest = await client.call("eth_getBlockByNumber", "latest", False)
        await proxy.set(Fault(kind=RpcFault.LAGGING, blocks=1))
        assert await client.call("eth_getBlockByHash", newest["hash"], False) is None


async def test_an_endpoint_that_stopped_stays_at_its_block_and_still_takes_transactions(
    devnet: str,
) -> None:
    async with between(devnet) as (proxy, client):
        await mine(client, 4)
        await proxy.set(RpcFault.STOPPED)
        sent = await client.call("eth_sendRawTransaction", transfer(0))
        await mine(client, 4)
        assert int(await client.call("eth_blockNumber"), 16) == 5
        assert await client.call("eth_getTransactionReceipt", sent) is None
        await proxy.set()
        assert int(await client.call("eth_blockNumber"), 16) == 10
        assert await client.call("eth_getTransactionReceipt", sent) is not None


async def test_lies_about_the_head(devnet: str) -> None:
    async with between(devnet) as (proxy, client):
        await mine(client, 2)
        true = await client.call("eth_getBlockByNumber", "latest", False)
        await proxy.set(Fault(kind=RpcFault.FAR_TIME, seconds=1000))
        lie = await client.call("eth_getBlockByNumber", "latest", False)
        assert int(lie["timestamp"], 16) == int(true["timestamp"], 16) + 1000
        await proxy.set(Fault(kind=RpcFault.FAR_NUMBER, blocks=7))
        assert int(await client.call("eth_blockNumber"), 16) == 3 + 7
        lie = await client.call("eth_getBlockByNumber", "latest", False)
        assert int(lie["number"], 16) == 3 + 7
        await proxy.set(RpcFault.CHANGING_HASH)
        hashes = [
            (await client.call("eth_getBlockByNumber", "latest", False))["hash"] for _ in range(3)
        ]
        assert len({*hashes, true["hash"]}) == 4
        genesis = await client.call("eth_getBlockByNumber", "0x0", False)
        assert genesis == await client.call("eth_getBlockByNumber", "0x0", False)


async def test_what_becomes_of_transactions(devnet: str) -> None:
    async with between(devnet) as (proxy, client):

        async def send(nonce: int) -> Any:
            return await client.call("eth_sendRawTransaction", transfer(nonce))

        async def receipt(sent: Any) -> Any:
            return await client.call("eth_getTransactionReceipt", sent)

        await proxy.set(RpcFault.SEND_REFUSED)
        with pytest.raises(RpcRefused, match="refused by the endpoint"):
            await send(0)
        await proxy.set(RpcFault.SEND_FORGOTTEN)
        forgotten = await send(0)
        assert await receipt(forgotten) is None
        await proxy.set(RpcFault.SEND_HELD)
        held = await send(0)
        assert held == forgotten  # the same transaction has the same hash
        assert proxy.held == 1
        assert await receipt(held) is None
        assert await proxy.release() == 1
        assert await receipt(held) is not None
        await proxy.set(RpcFault.SEND_DOUBLED)
        assert await receipt(await send(1)) is not None
        await proxy.set(RpcFault.SEND_UNANSWERED)
        with pytest.raises(RpcUnreachable):
            await send(2)
        await proxy.set(RpcFault.NO_RECEIPTS)
        assert await receipt(held) is None
        await proxy.set()
        count = await client.call("eth_getTransactionCount", ALICE.checksum_address, "latest")
        assert int(count, 16) == 3


async def test_a_rate_and_a_seed_make_a_schedule_that_can_be_repeated(devnet: str) -> None:
    async def schedule(seed: int) -> list[bool]:
        struck = []
        async with between(devnet, seed=seed) as (proxy, client):
            await proxy.set(Fault(kind=RpcFault.ERROR, rate=0.5))
            for _ in range(20):
                try:
                    await client.call("eth_chainId")
                    struck.append(False)
                except RpcRefused:
                    struck.append(True)
        return struck

    first = await schedule(1)
    assert await schedule(1) == first
    assert await schedule(2) != first
    assert 0 < sum(first) < 20


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "gremlin"},
        {"kind": "lagging", "blocks": -1},
        {"kind": "lagging", "rate": 2},
        {"kind": "lagging", "rate": "often"},
        {"kind": "lagging", "depth": 3},
        ["lagging"],
    ],
)
def test_a_fault_that_does_not_exist_is_refused(record: object) -> None:
    with pytest.raises(UnknownFault):
        read_fault(record)


def test_a_process_is_controlled_over_http(devnet: str) -> None:
    command = [sys.executable, "-m", "farthing.devnet.faults.rpc_proxy", "--upstream", devnet]
    first = json.dumps({"kind": "stopped"})
    with subprocess.Popen(
        [*command, "--fault", first], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["rpc"]
            answer = httpx.get(f"{url}/faults").json()
            assert [fault["kind"] for fault in answer["faults"]] == ["stopped"]
            changed = {"faults": [{"kind": "send-held"}, {"kind": "lagging", "blocks": 1}]}
            assert httpx.post(f"{url}/faults", json=changed).status_code == 200
            raw = {"method": "eth_sendRawTransaction", "params": [transfer(0)]}
            assert "result" in httpx.post(url, json={"jsonrpc": "2.0", "id": 1, **raw}).json()
            assert httpx.post(f"{url}/release").json() == {"released": 1}
            assert httpx.post(f"{url}/faults", json={"faults": [{"kind": "x"}]}).status_code == 400
            assert httpx.get(f"{url}/elsewhere").status_code == 404
        finally:
            process.kill()


async def test_a_client_that_hangs_up_harms_nobody(devnet: str) -> None:
    async with between(devnet) as (proxy, client):
        host, port = proxy.url.removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
        assert int(await client.call("eth_blockNumber"), 16) == 1
