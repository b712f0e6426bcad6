"""Whatever an endpoint answers over a real socket, the client gives a value or a named error."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio

from farthing.channels.client import chain, logs
from farthing.channels.client import rpc as rpc_module
from farthing.channels.client.chain import (
    ChainReader,
    Head,
    NoContract,
    OutcomeUnknown,
    SearchEndless,
    WrongChain,
    WrongContract,
    WrongGenesis,
)
from farthing.channels.client.rpc import (
    MalformedUrl,
    RpcAnswerTooLarge,
    RpcClient,
    RpcRefused,
    RpcTimeout,
    RpcUnreachable,
    RpcUnusable,
    octets,
    quantity,
    revert_reason,
)
from farthing.channels.client.transaction import (
    Call,
    GasAboveLimit,
    TransactionFailed,
    TransactionSender,
)
from farthing.channels.deployment import Deployment
from farthing.channels.errors import ChainError
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, ChannelId, to_hex
from farthing.channels.signing import Signer
from farthing.channels.terms import Terms

Json: TypeAlias = dict[str, Any]
Respond: TypeAlias = Callable[[Json], bytes | None]

HASH = b"\x33" * 32
ALICE = Signer(b"\x01" * 32)
CHANNEL = ChannelId(b"\x05" * 32)
HEAD = Head(block=7, block_hash=HASH, timestamp=1000)
DEPLOYMENT = Deployment(
    chain_id=20262026,
    genesis_hash=HASH,
    block=0,
    city_credit=Address(b"\xc1" * 20),
    member_registry=Address(b"\xc2" * 20),
    payment_channels=Address(b"\xc3" * 20),
    deployment=b"\x12" * 32,
)


TERMS = Terms(
    account_a=Address(b"\xa1" * 20),
    signer_a=Address(b"\xa2" * 20),
    account_b=Address(b"\xb1" * 20),
    signer_b=Address(b"\xb2" * 20),
    challenge_seconds=600,
    challenge_blocks=10,
    sequence=1,
)
CREDITED = "0x018ebeb0b47d6b51edd49e863b83fc8e4a257babf59cc01d51921250795f57a3"


async def read_request(stream: trio.SocketStream) -> Json | None:
    """The JSON of one request, or None at the end of the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = await stream.receive_some()
        if not chunk:
            return None
        received += chunk
    head, body = received.split(b"\r\n\r\n", 1)
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0].split(b":")[1]):
        body += await stream.receive_some()
    request: Json = json.loads(body)
    return request


def http(body: object, *, status: str = "200 OK", headers: str = "") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content
    )


@asynccontextmanager
async def endpoint(
    respond: Respond, *, timeout_seconds: float = 30, hold: bool = False
) -> AsyncIterator[RpcClient]:
    """A server on loopback: `respond(request)` gives the bytes to send; None keeps silent."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while (request := await read_request(stream)) is not None:
                response = respond(request)
                if response is None:
                    await trio.sleep_forever()
                await stream.send_all(response)
                if hold:
                    await trio.sleep_forever()
                if b"Content-Length" not in response:
                    return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with RpcClient(f"http://127.0.0.1:{port}", timeout_seconds=timeout_seconds) as client:
            yield client
        nursery.cancel_scope.cancel()


def results(table: Json) -> Respond:
    """Respond from a table of method to result; a callable is given the parameters."""

    def respond(request: Json) -> bytes:
        result = table[request["method"]]
        if callable(result):
            result = result(*request["params"])
        if isinstance(result, Exception):
            return http({"id": request["id"], "error": {"code": -32000, "message": str(result)}})
        return http({"jsonrpc": "2.0", "id": request["id"], "result": result})

    return respond


async def test_a_result_is_returned_as_it_came() -> None:
    def respond(request: Json) -> bytes:
        assert request["jsonrpc"] == "2.0"
        return http({"jsonrpc": "2.0", "id": request["id"], "result": request["params"]})

    async with endpoint(respond) as client:
        assert await client.call("eth_any", "0x1", {"a": [None]}) == ["0x1", {"a": [None]}]
        assert await client.call("eth_any") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[" * 200_000,
        b"1" * 200_000,
        [],
        "text",
        None,
        {},
        {"id": 1},
        {"result": 1},
        {"id": 2, "result": 1},
        {"id": 1, "error": "no"},
        {"id": 1, "error": None},
    ],
)
async def test_what_is_no_answer_is_refused(body: object) -> None:
    async with endpoint(lambda request: http(body)) as client:
        with pytest.raises(RpcUnusable):
            await client.call("eth_any")


async def test_an_error_is_named_with_its_number_and_text() -> None:
    error = {"code": -32601, "message": "no such \x1b[31m method"}
    async with endpoint(lambda request: http({"id": request["id"], "error": error})) as client:
        with pytest.raises(RpcRefused, match="eth_any was refused: no such") as caught:
            await client.call("eth_any")
    assert caught.value.number == -32601
    assert "\x1b" not in str(caught.value)


REVERT = (
    "0x08c379a0"
    + (32).to_bytes(32, "big").hex()
    + (18).to_bytes(32, "big").hex()
    + b"channels: not open".hex().ljust(64, "0")
)


@pytest.mark.parametrize("data", [REVERT, {"data": REVERT}])
async def test_a_reverted_call_tells_the_contracts_reason(data: Any) -> None:
    error = {"code": 3, "message": "execution reverted", "data": data}
    # Some nodes answer errors with another HTTP status than 200, and without the id.
    response = http({"error": error}, status="400 Bad Request")
    async with endpoint(lambda request: response) as client:
        with pytest.raises(RpcRefused, match="channels: not open") as caught:
            await client.call("eth_call")
    assert caught.value.reason == "channels: not open"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("0x", None),
        ("0x08c379a0", None),
        ("zz", None),
        ("0x08c379a0" + "00" * 64, None),
        ("0x08c379a0" + (32).to_bytes(32, "big").hex() + "ff" * 32 + "4142", "AB"),
        ("0x4e487b71" + (17).to_bytes(32, "big").hex(), "panic 0x11"),
        ("0x4e487b71", None),
        ("0x12345678", None),
    ],
)
def test_revert_data_of_any_kind_is_read_or_left(data: Any, reason: str | None) -> None:
    assert revert_reason(data) == reason


async def test_an_http_status_without_json_is_an_unreachable_endpoint() -> None:
    response = http(b"<html>", status="503 Service Unavailable")
    async with endpoint(lambda request: response) as client:
        with pytest.raises(RpcUnreachable, match="503"):
            await client.call("eth_any")


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent"])
async def test_an_endpoint_that_speaks_no_http_is_unreachable(answer: Any) -> None:
    async with endpoint(lambda request: answer) as client:
        with pytest.raises(RpcUnreachable):
            await client.call("eth_any")


async def test_an_endpoint_that_is_not_there_is_unreachable_and_keeps_its_secrets() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = taken.getsockname()[1]
        async with RpcClient(f"http://user:secret@127.0.0.1:{port}/v1/key") as client:
            with pytest.raises(RpcUnreachable, match=f"http://127.0.0.1:{port} ") as caught:
                await client.call("eth_any")
    assert "secret" not in str(caught.value)
    assert "key" not in str(caught.value)
    assert caught.value.retryable


async def test_a_silent_endpoint_times_out() -> None:
    async with endpoint(lambda request: None, timeout_seconds=0.05) as client:
        with pytest.raises(RpcTimeout, match=r"within 0\.05 s") as caught:
            await client.call("eth_any")
    assert caught.value.method == "eth_any"


async def test_an_endpoint_that_drips_times_out_too() -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n"
    async with endpoint(lambda request: response, timeout_seconds=0.05, hold=True) as client:
        with pytest.raises(RpcTimeout):
            await client.call("eth_any")


async def test_an_answer_that_is_too_large_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "ANSWER_BYTES_MAX", 1000)
    async with endpoint(lambda request: http(b" " * 1001)) as client:
        with pytest.raises(RpcAnswerTooLarge):
            await client.call("eth_any")
    body = http({"id": 1, "result": "a" * 900})
    async with endpoint(lambda request: body) as client:
        assert await client.call("eth_any") == "a" * 900


async def test_a_compressed_answer_is_refused_unread() -> None:
    response = http(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n")
    async with endpoint(lambda request: response) as client:
        with pytest.raises(RpcUnusable, match="compressed"):
            await client.call("eth_any")


async def test_a_redirection_is_not_followed() -> None:
    response = http(b"", status="302 Found", headers="Location: http://127.0.0.1:1/\r\n")
    async with endpoint(lambda request: response) as client:
        with pytest.raises(RpcUnreachable, match="302"):
            await client.call("eth_any")


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8545", "ws://127.0.0.1", "http://", "http://h:port", "http://[::1", "a\x1b"],
)
def test_a_text_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(MalformedUrl, match="http"):
        RpcClient(url)


@pytest.mark.parametrize(
    ("text", "number"), [("0x0", 0), ("0x1", 1), ("0xffffffffffffffff", 2**64 - 1)]
)
def test_quantities_are_read(text: str, number: int) -> None:
    assert quantity(text, "it") == number


@pytest.mark.parametrize(
    "value",
    ["", "0x", "1", "0x01", "0xg", "0x-1", " 0x1", "0x10000000000000000", 1, None, [], "0x1\n"],
)
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(RpcUnusable, match="it is"):
        quantity(value, "it")


@pytest.mark.parametrize("value", [None, 5, "", "00", "0x0", "0xzz", "0x00 00", "0x00", b"0x00"])
def test_what_is_no_data_of_the_right_size_is_refused(value: object) -> None:
    with pytest.raises(RpcUnusable, match="it is"):
        octets(value, "it", size=2)


def words(*values: int | bytes) -> str:
    return "0x" + "".join(
        (v if isinstance(v, bytes) else v.to_bytes(32, "big")).rjust(32, b"\0").hex()
        for v in values
    )


def block(number: int = 0, block_hash: bytes = HASH, timestamp: int = 1000) -> Json:
    return {"number": hex(number), "hash": to_hex(block_hash), "timestamp": hex(timestamp)}


def receipt(tx_hash: str, *, status: str = "0x1") -> Json:
    return {
        "transactionHash": tx_hash,
        "blockNumber": "0x5",
        "blockHash": to_hex(HASH),
        "status": status,
        "gasUsed": "0x5208",
        "logs": [],
    }


VIEWS = {
    "0x778d5ae9": words(DEPLOYMENT.deployment),
    "0x82bfefc8": words(DEPLOYMENT.city_credit),
    "0x06433b1b": words(DEPLOYMENT.member_registry),
}
GOOD = {
    "eth_chainId": hex(20262026),
    "eth_getBlockByNumber": lambda which, full: block(),
    "eth_getCode": "0x60",
    "eth_call": lambda call, which: VIEWS[call["data"]],
}


async def test_the_right_chain_and_contract_pass() -> None:
    async with endpoint(results(GOOD)) as client:
        await ChainReader(client, DEPLOYMENT).check_identity()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"eth_chainId": "0x1"}, WrongChain),
        ({"eth_getBlockByNumber": block(block_hash=b"\x34" * 32)}, WrongGenesis),
        ({"eth_getBlockByNumber": None}, RpcUnusable),
        ({"eth_getBlockByNumber": block(number=1)}, RpcUnusable),
        ({"eth_getCode": "0x"}, NoContract),
        ({"eth_call": words(1)}, WrongContract),
        (
            {"eth_call": lambda c, b: (VIEWS | {"0x82bfefc8": words(9)})[c["data"]]},
            WrongContract,
        ),
        (
            {"eth_call": lambda c, b: (VIEWS | {"0x06433b1b": words(9)})[c["data"]]},
            WrongContract,
        ),
        ({"eth_call": "0x"}, RpcUnusable),
    ],
)
async def test_another_chain_or_contract_is_named(
    change: dict[str, Any], error: type[Exception]
) -> None:
    async with endpoint(results(GOOD | change)) as client:
        with pytest.raises(error) as caught:
            await ChainReader(client, DEPLOYMENT).check_identity()
    assert isinstance(caught.value, ChainError)


async def test_the_head_stays_below_the_confirmations() -> None:
    table = {
        "eth_blockNumber": hex(9),
        "eth_getBlockByNumber": lambda which, full: block(int(which, 16)),
    }
    async with endpoint(results(table)) as client:
        for confirmations, expected in ((1, 8), (9, 0), (10, 0)):
            reader = ChainReader(client, DEPLOYMENT, confirmations=confirmations)
            assert (await reader.head()).block == expected


@pytest.mark.parametrize(
    "answer",
    [
        "0x",
        words(1, 2, 3),
        words(4, *[0] * 8),
        words(1, 2**96, *[0] * 7),
        words(1, 0, 2**76, *[0] * 6),
        words(1, 0, 0, 2**76, *[0] * 5),
        words(*[0] * 7, 2**64, 0),
        words(*[0] * 10),
        5,
    ],
)
async def test_a_channel_state_that_cannot_be_is_refused(answer: Any) -> None:
    async with endpoint(results({"eth_call": answer})) as client:
        with pytest.raises(RpcUnusable):
            await ChainReader(client, DEPLOYMENT).channel_state(CHANNEL, HEAD)


async def test_a_channel_state_at_its_bounds_is_read() -> None:
    answer = words(3, 2**96 - 1, 2**76 - 1, 1, 2, 3, 2**76 - 1, 2**64 - 1, 2**64 - 1)
    async with endpoint(results({"eth_call": answer})) as client:
        view = await ChainReader(client, DEPLOYMENT).channel_state(CHANNEL, HEAD)
    assert view.settled_ucent == (2**96 - 1, 2)
    assert view.deposit_ucent == (2**76 - 1, 3)
    assert view.withdrawn_ucent == (1, 2**76 - 1)
    assert (view.deadline_seconds, view.deadline_block) == (2**64 - 1, 2**64 - 1)
    assert (view.block, view.timestamp) == (HEAD.block, HEAD.timestamp)


async def test_logs_are_asked_for_in_smaller_pieces_where_the_endpoint_finds_them_too_many() -> (
    None
):
    asked: list[tuple[int, int]] = []

    def get_logs(question: Json) -> list[Json] | ValueError:
        first, last = int(question["fromBlock"], 16), int(question["toBlock"], 16)
        asked.append((first, last))
        return [] if last - first < 600 else ValueError("query exceeds the limit")

    async with endpoint(results({"eth_getLogs": get_logs})) as client:
        reader = ChainReader(client, DEPLOYMENT)
        batch = await reader.log_batch(10, 100_000, [CHANNEL])
        assert (batch.logs, batch.through_block) == ((), 509)
        assert asked == [(10, 2009), (10, 1009), (10, 509)]
        assert (await reader.log_batch(510, 520, [CHANNEL])).through_block == 520


async def test_an_endpoint_that_refuses_even_one_block_of_logs_is_named() -> None:
    async with endpoint(results({"eth_getLogs": ValueError("no logs here")})) as client:
        with pytest.raises(RpcRefused, match="no logs here"):
            await ChainReader(client, DEPLOYMENT).log_batch(0, 5, [CHANNEL])


async def test_no_channels_have_no_logs_and_nobody_is_asked() -> None:
    async with endpoint(results({})) as client:
        batch = await ChainReader(client, DEPLOYMENT).log_batch(0, 5, [])
    assert (batch.logs, batch.through_block) == ((), 5)


@pytest.mark.parametrize(
    "where", [{"blockNumber": "0x6"}, {"topics": ["channel", "0x" + "06" * 32]}]
)
async def test_logs_that_nobody_asked_for_are_refused(where: dict[str, Any]) -> None:
    topic = "0xd8138f8a3f377c5259ca548e70e4c2de94f129f5a11036a15b69513cba2b426a"
    log = {
        "address": to_hex(DEPLOYMENT.payment_channels),
        "topics": [topic, words(ALICE.address)],
        "data": words(5),
        "blockNumber": "0x3",
        "blockHash": to_hex(HASH),
        "transactionHash": to_hex(HASH),
        "logIndex": "0x0",
    }
    if "topics" in where:
        log["topics"] = [
            CREDITED,
            where["topics"][1],
            words(ALICE.address),
        ]
    else:
        log |= where
    async with endpoint(results({"eth_getLogs": [log]})) as client:
        with pytest.raises(RpcUnusable, match="nobody asked for"):
            await ChainReader(client, DEPLOYMENT).log_batch(0, 5, [CHANNEL])


async def test_a_transaction_without_outcome_is_unknown_and_not_failed() -> None:
    table = {
        "eth_getTransactionReceipt": None,
        "eth_getBlockByNumber": lambda which, full: block(),
    }
    async with endpoint(results(table)) as client:
        reader = ChainReader(client, DEPLOYMENT)
        with pytest.raises(OutcomeUnknown) as caught:
            await reader.wait_outcome(HASH, timeout_seconds=0.05, poll_seconds=0.01)
    assert caught.value.transaction_hash == HASH


async def test_another_transactions_receipt_is_refused() -> None:
    other = receipt(to_hex(b"\x44" * 32))
    async with endpoint(results({"eth_getTransactionReceipt": other})) as client:
        with pytest.raises(RpcUnusable, match="another"):
            await ChainReader(client, DEPLOYMENT).outcome(HASH)


CALL = Call(to=DEPLOYMENT.payment_channels, data=b"\x01", what="claim")


async def test_a_call_that_fits_no_block_is_not_signed() -> None:
    table = {"eth_estimateGas": hex(30_000_001), "eth_getTransactionCount": "0x0"}
    async with endpoint(results(table)) as client:
        sender = TransactionSender(ChainReader(client, DEPLOYMENT), ALICE)
        with pytest.raises(GasAboveLimit):
            await sender.execute(CALL)


async def test_a_node_that_answers_another_hash_is_not_believed() -> None:
    table = {
        "eth_estimateGas": "0x5208",
        "eth_getTransactionCount": "0x0",
        "eth_sendRawTransaction": to_hex(HASH),
    }
    async with endpoint(results(table)) as client:
        sender = TransactionSender(ChainReader(client, DEPLOYMENT), ALICE)
        with pytest.raises(RpcUnusable, match="another hash"):
            await sender.execute(CALL)


async def test_a_refused_transaction_that_the_node_does_not_hold_stays_refused() -> None:
    table = {
        "eth_estimateGas": "0x5208",
        "eth_getTransactionCount": "0x0",
        "eth_sendRawTransaction": ValueError("sender is not on the allowlist"),
        "eth_getTransactionByHash": None,
    }
    async with endpoint(results(table)) as client:
        sender = TransactionSender(ChainReader(client, DEPLOYMENT), ALICE)
        with pytest.raises(RpcRefused, match="allowlist"):
            await sender.execute(CALL)


async def test_a_repeat_that_the_node_already_knows_is_waited_for() -> None:
    held: dict[str, str] = {}

    def send(raw: str) -> ValueError:
        return ValueError("already known")

    table = {
        "eth_estimateGas": "0x5208",
        "eth_getTransactionCount": "0x0",
        "eth_sendRawTransaction": send,
        "eth_getTransactionByHash": lambda tx_hash: {"hash": held.setdefault("hash", tx_hash)},
        "eth_getBlockByNumber": lambda which, full: block(5),
        "eth_getTransactionReceipt": receipt,
    }
    async with endpoint(results(table)) as client:
        sender = TransactionSender(ChainReader(client, DEPLOYMENT), ALICE)
        outcome = await sender.execute(CALL)
    assert outcome.succeeded
    assert to_hex(outcome.transaction_hash) == held["hash"]


def opened_log(channel: bytes) -> Json:
    return {
        "address": to_hex(DEPLOYMENT.payment_channels),
        "topics": [
            "0x" + logs.OPENED_TOPIC.hex(),
            to_hex(channel),
            words(TERMS.account_a),
            words(TERMS.account_b),
        ],
        "data": words(TERMS.signer_a, TERMS.signer_b, 600, 10, 1, TERMS.account_a, 5),
        "blockNumber": "0x3",
        "blockHash": to_hex(HASH),
        "transactionHash": to_hex(HASH),
        "logIndex": "0x0",
    }


async def test_channels_that_nobody_asked_for_are_refused() -> None:
    opened = opened_log(DEPLOYMENT.channel_id(TERMS))
    other = opened | {
        "topics": [CREDITED, to_hex(CHANNEL), words(ALICE.address)],
        "data": words(5),
    }
    table = {"eth_getBlockByNumber": lambda which, full: block(9)}
    async with endpoint(results(table | {"eth_getLogs": [opened]})) as client:
        reader = ChainReader(client, DEPLOYMENT)
        assert (await reader.channels_of(TERMS.account_b))[0].terms == TERMS
        with pytest.raises(RpcUnusable, match="one account"):
            await reader.channels_of(ALICE.address)
        with pytest.raises(RpcUnusable, match="one channel"):
            await reader.terms_opened(CHANNEL)
    async with endpoint(results(table | {"eth_getLogs": [other]})) as client:
        with pytest.raises(RpcUnusable, match="another event"):
            await ChainReader(client, DEPLOYMENT).terms_opened(CHANNEL)


async def test_an_endpoint_that_makes_up_channels_without_end_fills_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain, "OPENED_MAX", 3)
    opened = opened_log(DEPLOYMENT.channel_id(TERMS))

    def one_in_each(question: Json) -> list[Json]:
        return [opened | {"blockNumber": question["fromBlock"]}]

    table = {
        "eth_getBlockByNumber": lambda which, full: block(10**9),
        "eth_getLogs": one_in_each,
    }
    async with endpoint(results(table)) as client:
        with pytest.raises(SearchEndless, match="over 3 channels of one party"):
            await ChainReader(client, DEPLOYMENT).channels_of(TERMS.account_b)


async def test_what_no_caller_may_ask_is_refused() -> None:
    async with endpoint(results({})) as client:
        with pytest.raises(ValueError, match="number of blocks"):
            ChainReader(client, DEPLOYMENT, confirmations=-1)
        with pytest.raises(ValueError, match="at most 100"):
            await ChainReader(client, DEPLOYMENT).log_batch(
                0, 1, [ChannelId(number.to_bytes(32, "big")) for number in range(101)]
            )


async def test_an_endpoint_that_stumbles_is_asked_again_until_the_outcome_is_known() -> None:
    stumbles = {"eth_sendRawTransaction": 2, "eth_getTransactionReceipt": 2}
    sent: list[str] = []
    answer = results(
        {
            "eth_estimateGas": "0x5208",
            "eth_getTransactionCount": "0x0",
            "eth_sendRawTransaction": lambda raw: to_hex(keccak256(bytes.fromhex(raw[2:]))),
            "eth_getBlockByNumber": lambda which, full: block(5),
            "eth_getTransactionReceipt": receipt,
        }
    )

    def respond(request: Json) -> bytes | None:
        method = request["method"]
        if method == "eth_sendRawTransaction":
            sent.append(request["params"][0])
        if stumbles.get(method):
            stumbles[method] -= 1
            return http(b"", status="502 Bad Gateway")
        return answer(request)

    async with endpoint(respond) as client:
        sender = TransactionSender(ChainReader(client, DEPLOYMENT), ALICE)
        assert (await sender.execute(CALL)).succeeded
    assert len(sent) == 3
    assert len(set(sent)) == 1


async def test_an_endpoint_that_refuses_to_tell_an_outcome_is_named() -> None:
    table = {
        "eth_getBlockByNumber": lambda which, full: block(),
        "eth_getTransactionReceipt": ValueError("no such method"),
    }
    async with endpoint(results(table)) as client:
        with pytest.raises(RpcRefused, match="no such method"):
            await ChainReader(client, DEPLOYMENT).wait_outcome(HASH)


@pytest.mark.parametrize(
    ("answer", "text"),
    [("0x", "the state has changed since"), (ValueError("not open"), "reverted: not open")],
)
async def test_a_mined_failure_is_named_with_what_is_known_of_it(answer: Any, text: str) -> None:
    table = {
        "eth_estimateGas": "0x5208",
        "eth_getTransactionCount": "0x0",
        "eth_call": answer,
        "eth_sendRawTransaction": lambda raw: to_hex(keccak256(bytes.fromhex(raw[2:]))),
        "eth_getBlockByNumber": lambda which, full: block(5),
        "eth_getTransactionReceipt": lambda tx_hash: receipt(tx_hash, status="0x0"),
    }
    async with endpoint(results(table)) as client:
        sender = TransactionSender(ChainReader(client, DEPLOYMENT), ALICE)
        with pytest.raises(TransactionFailed, match=text) as caught:
            await sender.execute(CALL)
    assert caught.value.outcome.gas_used == 0x5208
