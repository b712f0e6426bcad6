"""A devnet that is really served: HTTP on loopback, web3.py's HTTPProvider, the interval."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import requests
import trio
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractLogicError

from farthing.channels.ids import to_hex
from farthing.devnet import errors
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.chain import DevChain
from farthing.devnet.records import Header
from farthing.devnet.server import BATCH_MAX, BODY_BYTES_MAX, listen, url_of
from farthing.devnet.up import DevnetConfig, RunningDevnet, print_ready, serve

from .devnet_probe import calldata, compiled

Result = TypeVar("Result")

ALICE = dev_accounts(1)[0]
SECONDS_MAX = 30


@pytest.fixture
async def running(nursery: trio.Nursery) -> RunningDevnet:
    """An automining devnet on a free port, in memory."""
    served: RunningDevnet = await nursery.start(
        serve, DevnetConfig(port=0, block_time_ms=0, accounts=3)
    )
    return served


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """The HTTP session of web3.py, closed at the end."""
    with requests.Session() as session:
        yield session


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking client code beside the server."""
    return await trio.to_thread.run_sync(work)


def web3_at(url: str, session: requests.Session) -> Any:
    """web3.py over HTTP; its own types are stricter than what a test writes."""
    return Web3(HTTPProvider(url, session=session))


def request(method: str, *params: object, request_id: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": [*params]}


async def posted(url: str, payload: object = None, **how: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS_MAX) as client:
        if "content" not in how:
            how["json"] = payload
        return await client.post(url, **how)


async def test_web3_deploys_calls_and_reads_over_http(
    running: RunningDevnet, session: requests.Session
) -> None:
    code, abi = compiled()

    def client() -> None:
        w3 = web3_at(running.rpc_url, session)
        assert w3.eth.chain_id == running.chain_id
        alice = w3.eth.accounts[0]
        assert alice == ALICE.checksum_address
        sent = w3.eth.contract(abi=abi, bytecode=code).constructor().transact({"from": alice})
        receipt = w3.eth.wait_for_transaction_receipt(sent)
        probe = w3.eth.contract(address=receipt["contractAddress"], abi=abi)
        sent = probe.functions.note(5, 6).transact({"from": alice})
        receipt = w3.eth.wait_for_transaction_receipt(sent)
        [event] = probe.events.Noted().process_receipt(receipt)
        assert (event["args"]["topic"], event["args"]["amount"]) == (5, 6)
        assert len(w3.eth.get_logs({"fromBlock": 0, "address": probe.address})) == 1
        with pytest.raises(ContractLogicError, match="probe: refused"):
            probe.functions.refuse().call()

    await in_thread(client)


async def test_calls_are_run_as_deep_as_their_gas_goes(running: RunningDevnet) -> None:
    code, _ = compiled()
    deployed = {"from": ALICE.checksum_address, "data": to_hex(code)}
    sent = (await posted(running.rpc_url, request("eth_sendTransaction", deployed))).json()
    receipt = await posted(running.rpc_url, request("eth_getTransactionReceipt", sent["result"]))
    dive = {
        "from": ALICE.checksum_address,
        "to": receipt.json()["result"]["contractAddress"],
        "data": to_hex(calldata("dive()")),
        "gas": hex(60_000_000),
    }
    answer = (await posted(running.rpc_url, request("eth_call", dive))).json()
    assert int(answer["result"], 16) > 400
    sent = (await posted(running.rpc_url, request("eth_sendTransaction", dive))).json()
    receipt = await posted(running.rpc_url, request("eth_getTransactionReceipt", sent["result"]))
    assert receipt.json()["result"]["status"] == "0x1"


async def test_a_stranger_is_refused_over_http_until_it_is_allowlisted(
    running: RunningDevnet, session: requests.Session
) -> None:
    def client() -> None:
        w3 = web3_at(running.rpc_url, session)
        mallory = w3.eth.account.from_key(b"\x0a" * 32)
        raw = mallory.sign_transaction(
            {
                "chainId": running.chain_id,
                "nonce": 0,
                "gas": 21_000,
                "gasPrice": 0,
                "to": mallory.address,
            }
        ).raw_transaction
        answer = w3.provider.make_request("eth_sendRawTransaction", [w3.to_hex(raw)])
        assert answer["error"]["code"] == -32007
        assert answer["error"]["message"] == "Sender account not authorized to send transactions"
        added = w3.provider.make_request("perm_addAccountsToAllowlist", [[mallory.address]])
        assert added["result"] == "Success"
        receipt = w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(raw))
        assert receipt["status"] == 1

    await in_thread(client)


async def test_an_interval_makes_empty_blocks_by_itself(nursery: trio.Nursery) -> None:
    running: RunningDevnet = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=50))
    with trio.fail_after(SECONDS_MAX):
        number = 0
        while number < 3:
            answer = (await posted(running.rpc_url, request("eth_blockNumber"))).json()
            number = int(answer["result"], 16)
        block = (await posted(running.rpc_url, request("eth_getBlockByNumber", "0x3"))).json()
    assert block["result"]["transactions"] == []


async def test_a_transaction_waits_for_the_next_block_of_the_interval(
    nursery: trio.Nursery,
) -> None:
    running: RunningDevnet = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=50))
    transfer = {"from": ALICE.checksum_address, "to": ALICE.checksum_address}
    sent = (await posted(running.rpc_url, request("eth_sendTransaction", transfer))).json()[
        "result"
    ]
    receipt = None
    with trio.fail_after(SECONDS_MAX):
        while receipt is None:
            answer = await posted(running.rpc_url, request("eth_getTransactionReceipt", sent))
            receipt = answer.json()["result"]
    assert receipt["status"] == "0x1"


async def test_a_full_disk_stops_blocks_but_not_answers_and_blocks_come_back(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = trio.Event()
    token = trio.lowlevel.current_trio_token()
    tick = DevChain.tick
    full = threading.Event()

    def failing(chain: DevChain) -> Header | None:
        if not full.is_set():
            return tick(chain)
        token.run_sync_soon(failures.set)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(DevChain, "tick", failing)
    full.set()
    running: RunningDevnet = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=50))
    with trio.fail_after(SECONDS_MAX):
        await failures.wait()
        answer = (await posted(running.rpc_url, request("eth_blockNumber"))).json()
        assert answer["result"] == "0x1"
        full.clear()
        while answer["result"] == "0x1":
            answer = (await posted(running.rpc_url, request("eth_blockNumber"))).json()
    assert "no block was mined: database or disk is full" in caplog.text


async def test_a_batch_is_answered_in_order_without_its_notifications(
    running: RunningDevnet,
) -> None:
    notification = {"jsonrpc": "2.0", "method": "eth_chainId"}
    batch = [
        request("eth_chainId", request_id="a"),
        notification,
        request("eth_nothing", request_id="b"),
        5,
        request("eth_blockNumber", request_id="c"),
    ]
    answers = (await posted(running.rpc_url, batch)).json()
    assert [answer["id"] for answer in answers] == ["a", "b", None, "c"]
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        None,
        -32601,
        -32600,
        None,
    ]
    silent = await posted(running.rpc_url, [notification])
    assert (silent.status_code, silent.content) == (204, b"")
    assert (await posted(running.rpc_url, notification)).status_code == 204


async def test_a_batch_that_is_empty_or_too_long_is_refused(running: RunningDevnet) -> None:
    for batch, text in (
        ([], "empty batch"),
        ([request("eth_chainId")] * (BATCH_MAX + 1), "batch too large: 1001 requests"),
    ):
        answer = (await posted(running.rpc_url, batch)).json()
        assert answer["error"]["code"] == -32600
        assert text in answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1,",
        b"nonsense",
        b'"',
        b'"' + b'\\"' * 500_000,
        b"[" * 100_000,
        b"[" * 33 + b"]" * 33,
        b"[" + b"[]," * 100_000 + b"[]]",
        b'{"id": ' + b"9" * 5_000 + b"}",
    ],
)
async def test_a_body_that_is_not_json_is_refused(running: RunningDevnet, body: bytes) -> None:
    answer = await posted(
        running.rpc_url, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == -32700
    assert answer.json()["error"]["message"].startswith("parse error: the body is not JSON")


async def test_a_body_that_is_too_large_is_refused_and_the_server_goes_on(
    running: RunningDevnet,
) -> None:
    body = b" " * (BODY_BYTES_MAX + 1)
    answer = await posted(
        running.rpc_url, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert "larger than 5242880 bytes" in answer.json()["error"]["message"]
    assert (await posted(running.rpc_url, request("eth_chainId"))).status_code == 200


async def test_what_a_web_page_could_send_is_refused(running: RunningDevnet) -> None:
    body = json.dumps(request("eth_accounts"))
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await posted(running.rpc_url, content=body, headers={"content-type": kind})
        assert answer.status_code == 415
    rebound = await posted(
        running.rpc_url,
        content=body,
        headers={"content-type": "application/json", "host": "evil.example:8545"},
    )
    assert rebound.status_code == 400
    answer = await posted(running.rpc_url, request("eth_accounts"))
    assert "access-control-allow-origin" not in answer.headers


async def test_other_methods_and_paths_are_refused_and_a_browser_sees_what_this_is(
    running: RunningDevnet,
) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS_MAX) as client:
        assert (await client.put(running.rpc_url)).status_code == 405
        assert (await client.post(running.rpc_url + "/other")).status_code == 404
        page = await client.get(running.rpc_url)
    assert "Farthing devnet" in page.text


async def test_a_client_that_goes_away_in_the_middle_leaves_the_server_well(
    running: RunningDevnet,
) -> None:
    host, port = running.rpc_url.removeprefix("http://").split(":")
    for fragment in (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{",
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ):
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(fragment)
        await stream.aclose()
    assert (await posted(running.rpc_url, request("eth_chainId"))).status_code == 200


async def test_many_clients_at_once_are_all_answered(running: RunningDevnet) -> None:
    numbers: list[str] = []

    async def one(index: int) -> None:
        answer = (await posted(running.rpc_url, request("eth_chainId", request_id=index))).json()
        assert answer["id"] == index
        numbers.append(answer["result"])

    async with trio.open_nursery() as clients:
        for index in range(20):
            clients.start_soon(one, index)
    assert numbers == [hex(running.chain_id)] * 20


async def test_a_devnet_on_ipv6_loopback_answers(nursery: trio.Nursery) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    running: RunningDevnet = await nursery.start(
        serve, DevnetConfig(host="::1", port=0, block_time_ms=0)
    )
    assert running.rpc_url.startswith("http://[::1]:")
    assert (await posted(running.rpc_url, request("eth_chainId"))).status_code == 200


async def test_a_port_in_use_is_refused_and_nothing_is_left_open(
    running: RunningDevnet, tmp_path: Path
) -> None:
    port = int(running.rpc_url.rsplit(":", 1)[1])
    with pytest.raises(errors.PortInUse, match=f"port {port} on 127.0.0.1 is in use"):
        await serve(DevnetConfig(port=port, folder=tmp_path / "chain"))
    assert not (tmp_path / "chain").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104 - refused
async def test_a_host_that_others_could_reach_is_refused(host: str) -> None:
    with pytest.raises(errors.NotLoopback, match=r"bind to 127\.0\.0\.1"):
        await serve(DevnetConfig(host=host, port=0))


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(errors.CannotListen, match="0 to 65535"):
        listen("127.0.0.1", 70_000)


def test_localhost_means_the_ipv4_loopback() -> None:
    with listen("localhost", 0) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")


@pytest.mark.parametrize("block_time_ms", [1, 49, 3_600_001, -1])
async def test_a_block_time_out_of_bounds_is_refused(block_time_ms: int) -> None:
    with pytest.raises(errors.BadSetting, match="block time in seconds"):
        await serve(DevnetConfig(port=0, block_time_ms=block_time_ms))


async def test_a_folder_that_cannot_be_used_frees_the_port_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(errors.FolderUnusable):
        await serve(DevnetConfig(port=port, folder=tmp_path / "file"))
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("block_time_ms", "shown"), [(0, 0), (1_000, 1), (2_000, 2), (500, 0.5), (50, 0.05)]
)
def test_the_ready_line_is_one_line_of_json(
    block_time_ms: int, shown: object, capsys: pytest.CaptureFixture[str]
) -> None:
    running = RunningDevnet(
        rpc_url="http://127.0.0.1:1", chain_id=7, block_time_ms=block_time_ms, accounts=(ALICE,)
    )
    print_ready(running)
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert json.loads(output) == {
        "rpc": "http://127.0.0.1:1",
        "chain_id": 7,
        "block_time_seconds": shown,
        "accounts": [ALICE.checksum_address],
    }


async def test_a_devnet_that_is_cancelled_keeps_its_blocks(tmp_path: Path) -> None:
    config = DevnetConfig(port=0, block_time_ms=0, folder=tmp_path)
    heads = []
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            running: RunningDevnet = await nursery.start(partial(serve, config))
            await posted(running.rpc_url, request("evm_mine"))
            answer = await posted(running.rpc_url, request("eth_blockNumber"))
            heads.append(answer.json()["result"])
            nursery.cancel_scope.cancel()
    assert heads == ["0x2", "0x3"]
