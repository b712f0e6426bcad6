"""WebSocket on the devnet's port: requests, batches, subscriptions, and clients that misbehave."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import trio

from farthing.channels.ids import to_hex
from farthing.devnet import journal, server, subscriptions, websocket
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.up import DevnetConfig, RunningDevnet, serve

from .devnet_probe import calldata, compiled
from .websocket_client import SECONDS_MAX, Closed, Refused, WebSocketClient, connected

ALICE = dev_accounts(1)[0].checksum_address


@pytest.fixture
async def running(nursery: trio.Nursery) -> RunningDevnet:
    """An automining devnet on a free port, in memory."""
    served: RunningDevnet = await nursery.start(
        serve, DevnetConfig(port=0, block_time_ms=0, accounts=2)
    )
    return served


async def probe_by(client: WebSocketClient) -> str:
    """The probe's address; it was deployed in one block."""
    code, _ = compiled()
    sent = await client.ask("eth_sendTransaction", {"from": ALICE, "data": to_hex(code)})
    address: str = (await client.ask("eth_getTransactionReceipt", sent))["contractAddress"]
    return address


async def note(client: WebSocketClient, probe: str, topic: int) -> Any:
    data = to_hex(calldata("note(uint256,uint256)", topic, 0))
    return await client.ask("eth_sendTransaction", {"from": ALICE, "to": probe, "data": data})


async def let_in(url: str) -> None:
    """Try to connect until there is a place for one more client."""
    with trio.fail_after(SECONDS_MAX):
        while True:
            try:
                async with connected(url) as client:
                    assert await client.ask("eth_blockNumber") == "0x1"
            except Refused:
                continue
            return


async def test_requests_batches_and_broken_messages_are_answered(running: RunningDevnet) -> None:
    async with connected(running.rpc_url) as client:
        assert await client.ask("eth_chainId") == hex(running.chain_id)
        await client.send(b'{"id": 7, "method": "eth_blockNumber"}')  # binary frames as well
        assert await client.receive() == {"jsonrpc": "2.0", "id": 7, "result": "0x1"}
        await client.send('[{"id": 1, "method": "eth_chainId"}, {"id": 2, "method": "eth_no"}]')
        assert [each["id"] for each in await client.receive()] == [1, 2]
        for broken in ("{", "[" * 100, '"', ""):
            await client.send(broken)
            assert (await client.receive())["error"]["code"] == -32700
        await client.send('{"method": "eth_chainId"}')  # a notification has no answer
        assert await client.ask("eth_blockNumber") == "0x1"


async def test_new_heads_waiting_transactions_and_logs_are_told_as_they_come(
    running: RunningDevnet,
) -> None:
    async with connected(running.rpc_url) as client:
        probe = await probe_by(client)
        heads = await client.ask("eth_subscribe", "newHeads")
        waiting = await client.ask("eth_subscribe", "newPendingTransactions")
        whole = await client.ask("eth_subscribe", "newPendingTransactions", True)
        logs = await client.ask("eth_subscribe", "logs", {"address": probe})
        seven = "0x" + (7).to_bytes(32, "big").hex()
        none = await client.ask("eth_subscribe", "logs", {"topics": [None, None, seven]})
        sent = await note(client, probe, 5)
        told = {each["subscription"]: each["result"] for each in await client.notified(4)}
        assert none not in told
        block = await client.ask("eth_getBlockByNumber", "latest", False)
        assert told[heads] == {name: block[name] for name in told[heads]}
        assert told[heads]["hash"] == block["hash"]
        assert told[waiting] == told[whole]["hash"] == sent
        receipt = await client.ask("eth_getTransactionReceipt", sent)
        assert [told[logs]] == receipt["logs"]
        assert client.told == []


async def test_another_clients_transaction_is_told_and_a_reorganisation_takes_its_log_back(
    running: RunningDevnet,
) -> None:
    async with connected(running.rpc_url) as alice, connected(running.rpc_url) as bob:
        probe = await probe_by(alice)
        await bob.ask("eth_subscribe", "logs")
        await note(alice, probe, 5)
        [first] = await bob.notified(1)
        await alice.ask("farthing_reorg", 1)
        removed, again = await bob.notified(2)
        assert removed["result"] == {**first["result"], "removed": True}
        assert again["result"]["removed"] is False
        assert again["result"]["blockHash"] != first["result"]["blockHash"]


async def test_what_is_unsubscribed_is_told_no_more(running: RunningDevnet) -> None:
    async with connected(running.rpc_url) as client, connected(running.rpc_url) as other:
        one, two = [await client.ask("eth_subscribe", "newHeads") for _ in range(2)]
        assert await other.ask("eth_unsubscribe", one) is False  # it is not the other's
        assert await client.ask("eth_unsubscribe", one) is True
        assert await client.ask("eth_unsubscribe", one) is False
        await client.ask("evm_mine")
        assert [each["subscription"] for each in await client.notified(1)] == [two]


async def test_a_subscription_in_a_batch_is_answered_before_it_is_told_anything(
    running: RunningDevnet,
) -> None:
    async with connected(running.rpc_url) as client:
        subscribe = {"id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
        await client.send(json.dumps([subscribe, *[{"id": 2, "method": "evm_mine"}] * 150]))
        answers = await client.receive()  # the first message is the batch's answer
        names = {each["subscription"] for each in await client.notified(150)}
        assert names == {answers[0]["result"]}


async def test_what_came_while_an_answer_was_on_its_way_is_told_right_after_it(
    running: RunningDevnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = websocket._Session._send

    async def slowly(self: websocket._Session, text: str) -> None:
        await send(self, text)
        await trio.sleep(0.3)  # so long that whoever tells has seen the block and waits again

    async with connected(running.rpc_url) as client:
        monkeypatch.setattr(websocket._Session, "_send", slowly)
        subscribe = {"id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
        await client.send(json.dumps([subscribe, {"id": 2, "method": "evm_mine"}]))
        answers = await client.receive()
        (told,) = await client.notified(1)
        assert told["subscription"] == answers[0]["result"]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ([], "missing value"),
        (["syncing"], "newHeads, logs, newPendingTransactions"),
        ([["logs"]], "there is no such subscription"),
        (["newHeads", {"a": 1}], "takes no options"),
        (["logs", {"blockHash": "0x" + "11" * 32}], "give no blockHash"),
        (["newPendingTransactions", 1], "not true or false"),
    ],
)
async def test_a_subscription_that_makes_no_sense_is_refused(
    running: RunningDevnet, params: list[object], text: str
) -> None:
    async with connected(running.rpc_url) as client:
        await client.send(json.dumps({"id": 1, "method": "eth_subscribe", "params": params}))
        error = (await client.receive())["error"]
        assert error["code"] == -32602
        assert text in error["message"]


async def test_a_connection_has_no_more_subscriptions_than_the_limit(
    running: RunningDevnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 1)
    async with connected(running.rpc_url) as client:
        await client.ask("eth_subscribe", "newHeads")
        await client.send('{"id": 1, "method": "eth_subscribe", "params": ["newHeads"]}')
        assert (await client.receive())["error"]["code"] == -32005


async def test_no_more_clients_are_connected_than_the_limit(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CONNECTIONS_MAX", 1)
    running: RunningDevnet = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=0))
    async with connected(running.rpc_url):
        with pytest.raises(Refused, match="503"):
            async with connected(running.rpc_url):
                pytest.fail("a second client was let in")
    await let_in(running.rpc_url)  # once the server has seen that the first one is gone


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:3000", "null", "https://{host}"]
)
async def test_a_page_of_another_origin_is_refused(running: RunningDevnet, origin: str) -> None:
    host = running.rpc_url.removeprefix("http://")
    with pytest.raises(Refused, match="403"):
        async with connected(running.rpc_url, origin=origin.format(host=host)):
            pytest.fail("a page was let in")
    async with connected(running.rpc_url, origin=running.rpc_url) as client:
        assert await client.ask("eth_blockNumber") == "0x1"


async def test_a_name_that_was_rebound_to_this_machine_is_refused(running: RunningDevnet) -> None:
    with pytest.raises(Refused, match="400"):
        async with connected(running.rpc_url, host="evil.example"):
            pytest.fail("a rebound name was let in")


async def test_a_message_that_is_too_large_ends_the_connection(running: RunningDevnet) -> None:
    async with connected(running.rpc_url) as client:
        await client.send(" " * (server.BODY_BYTES_MAX + 1))
        with pytest.raises(Closed, match="1009"):
            await client.receive()
    async with connected(running.rpc_url) as client:
        assert await client.ask("eth_blockNumber") == "0x1"


async def test_a_client_that_was_overtaken_by_events_is_sent_away(
    running: RunningDevnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ENTRIES_MAX", 5)
    async with connected(running.rpc_url) as client, connected(running.rpc_url) as other:
        await client.ask("eth_subscribe", "newHeads")
        await other.ask("anvil_mine", 6)  # one piece of work: nothing can be told meanwhile
        with pytest.raises(Closed, match="1013"):
            await client.receive()
        assert await other.ask("eth_blockNumber") == "0x7"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such limit")
async def test_a_client_that_reads_nothing_is_disconnected(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "UNREAD_MS_MAX", 100)
    monkeypatch.setattr(websocket, "CONNECTIONS_MAX", 1)
    running: RunningDevnet = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=0))
    async with connected(running.rpc_url) as client:
        for _ in range(4):  # each id comes back: more than the buffers of a connection hold
            await client.send(json.dumps({"id": "a" * 4_000_000, "method": "eth_chainId"}))
        await let_in(running.rpc_url)
