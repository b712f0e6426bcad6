"""How the auditor reads a chain: what it believes, and what makes it come to no conclusion."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest

from farthing.channels.deployment import Deployment
from farthing.channels.errors import ChainError
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, address_to_hex, to_hex
from farthing.channels.terms import Terms
from farthing.contracts.artifacts import load
from farthing.node.audit import chain as chain_module
from farthing.node.audit.abi import data_from_hex, events, function, number_from_hex
from farthing.node.audit.chain import ChainReader
from farthing.node.audit.errors import (
    BlockUnavailable,
    ChainReorganised,
    LogsIncomplete,
    RpcAnswerTooLarge,
    RpcRefused,
    RpcUnreachable,
    WrongChain,
    WrongContract,
)
from farthing.node.audit.records import (
    ChainView,
    Claimed,
    Closed,
    CloseStarted,
    Credited,
    Deposited,
    Opened,
    Settled,
    Withdrawn,
)
from farthing.node.audit.rpc import BATCH_CALLS_MAX, HttpRpc

HUB, ALICE, MALLORY = (Address(keccak256(name)[:20]) for name in (b"hub", b"alice", b"mallory"))
RECORD = Deployment(
    chain_id=5,
    genesis_hash=keccak256(b"block 0"),
    block=3,
    city_credit=Address(b"\xc1" * 20),
    member_registry=Address(b"\xc2" * 20),
    payment_channels=Address(b"\xc3" * 20),
    deployment=keccak256(b"deployment"),
)
TERMS = Terms(
    account_a=HUB,
    signer_a=HUB,
    account_b=ALICE,
    signer_b=ALICE,
    challenge_seconds=600,
    challenge_blocks=10,
    sequence=1,
)
CHANNEL = RECORD.channel_id(TERMS)
CHANNELS_ABI = load("payment_channels").abi
TOO_LARGE = RpcRefused("eth_getLogs", "range too large")


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def _log(block: int, index: int, name: str, /, **fields: int | bytes) -> dict[str, Any]:
    (event,) = (e for e in events(CHANNELS_ABI).values() if e.name == name)
    topics = [event.topic, *(_word(fields[field]) for field, _ in event.indexed)]
    return {
        "address": address_to_hex(RECORD.payment_channels),
        "topics": [to_hex(topic) for topic in topics],
        "data": to_hex(b"".join(_word(fields[field]) for field, _ in event.plain)),
        "blockNumber": hex(block),
        "logIndex": hex(index),
    }


def _opened(**changes: int | bytes) -> dict[str, Any]:
    fields: dict[str, int | bytes] = {
        "channel": CHANNEL,
        "account_a": HUB,
        "account_b": ALICE,
        "signer_a": HUB,
        "signer_b": ALICE,
        "challenge_seconds": 600,
        "challenge_blocks": 10,
        "sequence": 1,
        "funder": HUB,
        "deposit": 50,
    }
    return _log(4, 0, "Opened", **fields | changes)


class Node:
    """An endpoint in memory with one deployment and a few logs; `Rpc` for the reader."""

    def __init__(self) -> None:
        self.newest = 9
        self.chain_id = RECORD.chain_id
        self.logs = [_opened()]
        self.range_max = 100
        self.refusal: ChainError = TOO_LARGE
        self.asked: list[tuple[int, int]] = []
        self.hashes: dict[int, bytes] = {}
        registry, credit = _word(RECORD.member_registry), _word(RECORD.city_credit)
        self.code = {
            RECORD.member_registry: load("member_registry").runtime_bytecode,
            RECORD.city_credit: load("city_credit").runtime_bytecode + registry,
            RECORD.payment_channels: load("payment_channels").runtime_bytecode
            + credit
            + registry
            + RECORD.deployment,
        }
        words = {
            "channel_state": [1, 0, 50, 0, 0, 0, 0, 0, 0],
            "next_sequence": [2],
            "claimable": [7],
        }
        self.views = {function(CHANNELS_ABI, name).selector: w for name, w in words.items()}
        self.views[function(load("city_credit").abi, "balanceOf").selector] = [50]
        self.views[function(load("member_registry").abi, "member").selector] = [4, 1, 0, 0]

    def call_many(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        answers: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(self.chain_id),
            "eth_blockNumber": lambda: hex(self.newest),
            "eth_getBlockByNumber": self.header,
            "eth_getCode": self.code_at,
            "eth_call": self.view,
            "eth_getLogs": self.logs_of,
        }
        return [answers[method](*params) for params in calls]

    def header(self, number: str, _full: bool) -> Any:
        block = int(number, 16)
        digest = self.hashes.get(block, keccak256(b"block %d" % block))
        return {"hash": to_hex(digest), "timestamp": hex(1_000 + block)}

    def code_at(self, address: str, _block: str) -> str:
        return to_hex(self.code.get(Address(bytes.fromhex(address[2:])), b""))

    def view(self, call: dict[str, str], _block: str) -> str:
        words = self.views[bytes.fromhex(call["data"][2:10])]
        return to_hex(b"".join(_word(word) for word in words))

    def logs_of(self, where: dict[str, str]) -> list[Any]:
        first, last = int(where["fromBlock"], 16), int(where["toBlock"], 16)
        if where["address"] != address_to_hex(RECORD.payment_channels):
            return []
        if last - first + 1 > self.range_max:
            raise self.refusal
        self.asked.append((first, last))
        return [log for log in self.logs if first <= int(log["blockNumber"], 16) <= last]


def _read(node: Node, blocks: Sequence[int] = ()) -> ChainView:
    reader = ChainReader(node, RECORD)
    reader.verify_chain()
    block = reader.pin()
    reader.verify_contracts(block)
    return reader.read(block, blocks)


def test_a_chain_is_read_as_of_its_newest_block() -> None:
    node = Node()
    node.logs += [
        _log(
            5,
            2,
            "Settled",
            channel=CHANNEL,
            payer=HUB,
            nonce=3,
            transferred_before=0,
            transferred=30,
            history=b"\x07" * 32,
        ),
        _log(5, 3, "RowSkipped", index=0, channel=CHANNEL, reason=6),
        _log(6, 0, "CloseStarted", channel=CHANNEL, by=HUB, deadline_seconds=9, deadline_block=9),
        _log(
            7, 0, "Deposited", channel=CHANNEL, account=HUB, funder=HUB, amount=1, deposit_total=51
        ),
        _log(7, 1, "Withdrawn", channel=CHANNEL, account=ALICE, amount=2, total=4),
        _log(
            8,
            0,
            "Closed",
            channel=CHANNEL,
            transferred_a=30,
            transferred_b=5,
            payout_a=6,
            payout_b=7,
            cooperative=1,
        ),
        _log(8, 1, "Credited", channel=CHANNEL, account=ALICE, amount=7),
        _log(9, 0, "Claimed", account=ALICE, amount=1),
    ]
    view = _read(node, blocks=[8, 4, 4, 11])
    assert view.block.number == 9
    assert view.events == (
        Opened(
            block=4, channel=CHANNEL, account_a=HUB, account_b=ALICE, sequence=1, deposit_ucent=50
        ),
        Settled(
            block=5,
            channel=CHANNEL,
            payer=HUB,
            nonce=3,
            before_ucent=0,
            transferred_ucent=30,
            history=b"\x07" * 32,
        ),
        CloseStarted(block=6, channel=CHANNEL),
        Deposited(block=7, channel=CHANNEL, account=HUB, amount_ucent=1, total_ucent=51),
        Withdrawn(block=7, channel=CHANNEL, account=ALICE, amount_ucent=2, total_ucent=4),
        Closed(
            block=8,
            channel=CHANNEL,
            transferred_ucent=(30, 5),
            payout_ucent=(6, 7),
            cooperative=True,
        ),
        Credited(block=8, channel=CHANNEL, account=ALICE, amount_ucent=7),
        Claimed(block=9, account=ALICE, amount_ucent=1),
    )
    assert view.channels_opened == 1
    assert view.states[CHANNEL].deposit_ucent == (50, 0)
    assert view.states[CHANNEL].locked_ucent == 50
    assert set(view.members) == {HUB, ALICE}
    assert view.claimable_ucent == {ALICE: 7}
    assert view.balance_ucent == 50
    assert view.timestamps == {4: 1_004, 8: 1_008}


@pytest.mark.parametrize("refusal", [TOO_LARGE, RpcAnswerTooLarge(5)])
def test_logs_are_asked_for_in_halves_where_the_endpoint_refuses_so_many_blocks(
    refusal: ChainError,
) -> None:
    node = Node()
    node.range_max, node.refusal = 2, refusal
    assert len(_read(node).events) == 1
    assert node.asked[0][0] == 3
    assert node.asked[-1][1] == 9
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(node.asked))


def test_an_endpoint_that_refuses_one_block_of_logs_stops_the_reading() -> None:
    node = Node()
    node.range_max = 0
    with pytest.raises(RpcRefused, match="range too large"):
        _read(node)


def test_many_blocks_are_read_in_ranges_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "LOG_BLOCKS_MAX", 3)
    node = Node()
    assert len(_read(node).events) == 1
    assert node.asked == [(3, 5), (6, 8), (9, 9)]


def test_another_chain_id_is_the_wrong_chain() -> None:
    node = Node()
    node.chain_id = 1
    with pytest.raises(WrongChain, match="serves chain 1, not 5"):
        _read(node)


def test_another_genesis_is_the_wrong_chain() -> None:
    node = Node()
    node.hashes[0] = b"\x01" * 32
    with pytest.raises(WrongChain, match="begins with block 0x0101"):
        _read(node)


@pytest.mark.parametrize("address", [RECORD.city_credit, RECORD.member_registry])
def test_another_code_is_the_wrong_contract(address: Address) -> None:
    node = Node()
    node.code[address] = node.code[address][:-33] + bytes(33)
    with pytest.raises(WrongContract, match=address_to_hex(address)):
        _read(node)


def test_no_code_is_the_wrong_contract() -> None:
    node = Node()
    node.code.pop(RECORD.payment_channels)
    with pytest.raises(WrongContract, match="its 0 bytes of code"):
        _read(node)


@pytest.mark.parametrize("offset", [96, 64, 32])
def test_another_token_registry_or_deployment_is_the_wrong_contract(offset: int) -> None:
    node = Node()
    code = bytearray(node.code[RECORD.payment_channels])
    code[-offset + 31] ^= 1
    node.code[RECORD.payment_channels] = bytes(code)
    with pytest.raises(WrongContract, match="another token, registry or deployment"):
        _read(node)


@pytest.mark.parametrize("number", [2, 10])
def test_a_block_before_the_deployment_or_after_the_newest_is_refused(number: int) -> None:
    with pytest.raises(BlockUnavailable, match=f"block {number} is not between"):
        ChainReader(Node(), RECORD).pin(number)


def test_a_block_that_the_endpoint_does_not_serve_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    monkeypatch.setattr(node, "header", lambda *_: None)
    with pytest.raises(BlockUnavailable, match="does not serve block 9"):
        ChainReader(node, RECORD).pin(9)


def test_a_block_replaced_while_it_was_read_is_a_reorganisation() -> None:
    node = Node()
    reader = ChainReader(node, RECORD)
    block = reader.pin()
    node.hashes[9] = b"\x02" * 32
    with pytest.raises(ChainReorganised, match="is now 0x0202"):
        reader.read(block, [])


def _foreign(node: Node) -> None:
    node.logs[0]["address"] = address_to_hex(MALLORY)


def _removed(node: Node) -> None:
    node.logs[0]["removed"] = True


def _doubled(node: Node) -> None:
    node.logs.append(node.logs[0])


def _unsorted(node: Node) -> None:
    node.logs.insert(0, _log(5, 0, "Claimed", account=ALICE, amount=1))


def _unknown(node: Node) -> None:
    node.logs[0]["topics"][0] = "0x" + "00" * 32


def _nameless(node: Node) -> None:
    node.logs[0]["topics"] = []


def _short(node: Node) -> None:
    node.logs[0]["data"] = node.logs[0]["data"][:-64]


def _short_topic(node: Node) -> None:
    node.logs[0]["topics"][1] = "0x12"


def _other_terms(node: Node) -> None:
    node.logs[0] = _opened(account_b=MALLORY)


@pytest.mark.parametrize(
    "change",
    [
        _foreign,
        _removed,
        _doubled,
        _unsorted,
        _unknown,
        _nameless,
        _short,
        _short_topic,
        _other_terms,
    ],
)
def test_logs_that_cannot_be_the_contracts_own_are_refused(change: Callable[[Node], None]) -> None:
    node = Node()
    change(node)
    with pytest.raises(LogsIncomplete):
        _read(node)


@pytest.mark.parametrize("logs", ["none", [5], [{"address": "0x"}]])
def test_an_answer_that_holds_no_logs_is_no_answer(
    logs: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    monkeypatch.setattr(node, "logs_of", lambda _: logs)
    with pytest.raises(RpcUnreachable, match="eth_getLogs"):
        _read(node)


@pytest.mark.parametrize("words", [[1], [1, 0, 50, 0, 0, 0, 0, 2**64, 0]])
def test_an_answer_of_another_shape_is_no_answer(words: list[int]) -> None:
    node = Node()
    node.views[function(CHANNELS_ABI, "channel_state").selector] = words
    with pytest.raises(RpcUnreachable):
        _read(node)


def test_an_address_with_stray_bytes_is_no_answer() -> None:
    node = Node()
    node.logs[0]["topics"][2] = to_hex(b"\x01" + _word(HUB)[1:])
    with pytest.raises(RpcUnreachable, match="no address"):
        _read(node)


@pytest.mark.parametrize("value", [None, 5, "", "12", "0xg", "0x-1", "0x 1", "0x1_0"])
def test_what_is_no_hex_is_no_answer(value: object) -> None:
    for read in (data_from_hex, number_from_hex):
        with pytest.raises(RpcUnreachable, match="which is no"):
            read(value)


def test_a_view_that_the_contract_does_not_have_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        function(CHANNELS_ABI, "balanceOf")


# the client


def _client(answer: Callable[[Any], Any]) -> HttpRpc:
    def respond(request: httpx.Request) -> httpx.Response:
        body = answer(json.loads(request.content))
        if isinstance(body, str):
            return httpx.Response(200, text=body)
        return httpx.Response(200, json=body)

    return HttpRpc("http://node.test", transport=httpx.MockTransport(respond))


def _echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": request["params"][0]}


def test_many_calls_go_in_batches_and_come_back_in_order() -> None:
    sizes: list[int] = []

    def answer(body: Any) -> Any:
        sizes.append(len(body))
        return [_echo(request) for request in reversed(body)]

    with _client(answer) as rpc:
        numbers = list(range(2 * BATCH_CALLS_MAX + 2))
        assert rpc.call_many("echo", [[number] for number in numbers]) == numbers
    assert sizes == [BATCH_CALLS_MAX, BATCH_CALLS_MAX, 2]


@pytest.mark.parametrize(
    "body", ['{"error": null}', '[{"id": []}, {"id": {}}, 7]', "[" * 100_000, "{}", "7"]
)
def test_an_answer_that_is_none_is_the_endpoint_s_fault(body: str) -> None:
    with _client(lambda _: body) as rpc:
        for count in (1, 2):
            with pytest.raises(RpcUnreachable):
                rpc.call_many("echo", [[]] * count)


def test_an_endpoint_without_batches_is_asked_one_by_one() -> None:
    asked: list[Any] = []

    def answer(body: Any) -> Any:
        asked.append(body)
        if isinstance(body, list):
            return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batch"}}
        return _echo(body)

    with _client(answer) as rpc:
        assert rpc.call_many("echo", [[1], [2]]) == [1, 2]
        assert rpc.call_many("echo", [[3], [4]]) == [3, 4]
    assert sum(isinstance(body, list) for body in asked) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("<html>", RpcUnreachable),
        ([5], RpcUnreachable),
        ({"id": 1}, RpcUnreachable),
        ({"id": 1, "error": {"code": 3, "message": "no such state"}}, RpcRefused),
        ({"id": 1, "error": "no"}, RpcRefused),
    ],
)
def test_an_answer_that_is_none_is_told_from_a_refusal(answer: Any, error: type[Exception]) -> None:
    with _client(lambda _: answer) as rpc, pytest.raises(error):
        rpc.call_many("echo", [[1]])


def test_a_batch_that_leaves_out_an_answer_is_no_answer() -> None:
    with _client(lambda body: [_echo(body[0])]) as rpc, pytest.raises(RpcUnreachable):
        rpc.call_many("echo", [[1], [2]])


def test_a_null_result_is_a_result() -> None:
    with _client(lambda body: {"id": body["id"], "result": None}) as rpc:
        assert rpc.call_many("echo", [[1]]) == [None]
