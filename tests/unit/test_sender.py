"""Sending transactions over an endpoint that tests script: what each failure is called."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from web3 import Web3
from web3.providers.base import BaseProvider

from farthing.channels.hashing import keccak256
from farthing.channels.ids import to_hex
from farthing.contracts.artifacts import load
from farthing.node import sender as sender_module
from farthing.node.chain import Web3Chain
from farthing.node.sender import (
    ChainUnreachable,
    Sender,
    TransactionFailed,
    TransactionUnknown,
    asking,
    checksum,
)

from ..people import ALICE, DEPLOYMENT, TERMS

HASH = "0x" + "11" * 32
RECEIPT: dict[str, Any] = {
    "transactionHash": HASH,
    "blockNumber": "0x5",
    "blockHash": HASH,
    "transactionIndex": "0x0",
    "gasUsed": "0x9",
    "cumulativeGasUsed": "0x9",
    "status": "0x1",
    "logs": [],
    "contractAddress": None,
    "from": checksum(ALICE.address),
    "to": None,
    "logsBloom": "0x" + "00" * 256,
    "type": "0x2",
    "effectiveGasPrice": "0x0",
}


class ScriptedProvider(BaseProvider):
    """Answers each method with what a test says: a result, an error record, or an exception."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {
            "eth_chainId": "0x1",
            "eth_getTransactionCount": "0x0",
            "eth_estimateGas": "0x5208",
            "eth_gasPrice": "0x0",
            "eth_sendRawTransaction": HASH,
            "eth_getTransactionReceipt": RECEIPT,
            **answers,
        }
        self.sent: list[str] = []

    def make_request(self, method: Any, params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            self.sent.append(params[0])
        answer = self.answers[method]
        if callable(answer):
            answer = answer(*params)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict) and "code" in answer:
            return {"jsonrpc": "2.0", "id": 1, "error": answer}
        return {"jsonrpc": "2.0", "id": 1, "result": answer}


def made(**answers: Any) -> tuple[Sender, ScriptedProvider]:
    provider = ScriptedProvider(**answers)
    return Sender(Web3(provider), ALICE, 1), provider


def send(sender: Sender) -> Any:
    abi: Any = load("city_credit").abi
    contract = sender.web3.eth.contract(address=checksum(DEPLOYMENT.city_credit), abi=abi)
    return sender.send("burning", contract.functions.burn(5, bytes(32)))


@pytest.fixture(autouse=True)
def patient_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0.05)
    monkeypatch.setattr(sender_module, "RECEIPT_POLL_SECONDS", 0.01)


def test_a_transaction_is_signed_here_and_its_receipt_given() -> None:
    sender, provider = made()
    assert send(sender)["blockNumber"] == 5
    assert len(provider.sent) == 1


def test_a_revert_at_the_estimate_is_a_refusal_and_nothing_is_sent() -> None:
    sender, provider = made(eth_estimateGas={"code": 3, "message": "credit: not treasury"})
    with pytest.raises(TransactionFailed, match=r"burning: .*credit: not treasury"):
        send(sender)
    assert provider.sent == []


def test_a_sender_that_the_chain_does_not_admit_is_told_so() -> None:
    sender, _ = made(eth_sendRawTransaction={"code": -32007, "message": "not authorized"})
    for _ in range(2):  # it is known not to be under way: the second try sends again
        with pytest.raises(TransactionFailed, match="not authorized"):
            send(sender)


def test_a_mined_transaction_that_reverted_is_a_refusal() -> None:
    sender, _ = made(eth_getTransactionReceipt={**RECEIPT, "status": "0x0"})
    with pytest.raises(TransactionFailed, match="reverted"):
        send(sender)


def none_yet(_: str) -> None:
    return None


def test_a_transaction_in_no_block_is_unknown_and_not_sent_twice() -> None:
    counts = {"latest": "0x0", "pending": "0x0"}

    def count(_: str, block: str) -> str:
        return counts[block]

    sender, provider = made(eth_getTransactionReceipt=none_yet, eth_getTransactionCount=count)
    with pytest.raises(TransactionUnknown, match="in no block"):
        send(sender)
    counts["pending"] = "0x1"  # it waits in the pool
    for _ in range(2):
        with pytest.raises(TransactionUnknown, match="not sent"):
            send(sender)
    provider.answers["eth_getTransactionReceipt"] = RECEIPT  # it is mined after all
    with pytest.raises(TransactionUnknown, match="not sent"):  # look at the chain first
        send(sender)
    assert len(provider.sent) == 1
    send(sender)
    assert len(provider.sent) == 2


def test_a_transaction_that_the_endpoint_never_had_is_forgotten_after_a_look() -> None:
    broken = requests.exceptions.ConnectionError("reset")
    sender, provider = made(eth_sendRawTransaction=broken, eth_getTransactionReceipt=none_yet)
    with pytest.raises(ChainUnreachable):
        send(sender)
    with pytest.raises(TransactionUnknown):
        send(sender)
    provider.answers |= {"eth_sendRawTransaction": HASH, "eth_getTransactionReceipt": RECEIPT}
    send(sender)
    assert len(provider.sent) == 2


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.Timeout("slow"),
        ValueError("not JSON"),
        AttributeError("str has no get"),
        KeyError("number"),
        OverflowError("too large"),
    ],
)
def test_an_endpoint_that_gives_nothing_usable_is_unreachable(error: Exception) -> None:
    def ask() -> None:
        with asking("reading"):
            raise error

    with pytest.raises(ChainUnreachable, match="reading: the endpoint"):
        ask()


@pytest.mark.parametrize(
    ("method", "answer", "ask"),
    [
        ("eth_blockNumber", {"code": -32005, "message": "limit"}, lambda c: c.head()),
        ("eth_blockNumber", 7, lambda c: c.head()),
        ("eth_blockNumber", None, lambda c: c.head()),
        ("eth_getBlockByNumber", None, lambda c: c.block_hash(5)),
        ("eth_getBlockByNumber", "0x", lambda c: c.block_hash(5)),
        ("eth_getLogs", [{"address": 5}], lambda c: c.logs(0, 5)),
        ("eth_getLogs", {"a": 1}, lambda c: c.logs(0, 5)),
    ],
)
def test_an_answer_of_another_shape_is_an_error_of_the_chain(
    method: str, answer: Any, ask: Callable[[Web3Chain], Any]
) -> None:
    chain = Web3Chain(Web3(ScriptedProvider(**{method: answer})), DEPLOYMENT, signer=None)
    with pytest.raises(ChainUnreachable):
        ask(chain)


def test_a_port_without_an_account_sends_nothing() -> None:
    chain = Web3Chain(Web3(ScriptedProvider()), DEPLOYMENT, signer=None)
    with pytest.raises(TransactionFailed, match="it only reads"):
        chain.approve(5)
    with pytest.raises(TransactionFailed, match="it only reads"):
        chain.finish_close(TERMS)


def test_a_hash_is_what_the_network_will_call_the_transaction() -> None:
    sender, provider = made(eth_getTransactionReceipt=none_yet)
    with pytest.raises(TransactionUnknown) as caught:
        send(sender)
    assert HASH in caught.value.text  # what the endpoint said
    assert sender._unknown is not None
    raw = bytes.fromhex(provider.sent[0][2:])
    assert to_hex(bytes(sender._unknown)) == to_hex(keccak256(raw))
