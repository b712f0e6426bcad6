"""Sending transactions over an endpoint that tests script: what each failure is called."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
import rlp
from web3 import Web3

from farthing.channels.client.outbox import KEEP_BLOCKS, Outbox
from farthing.channels.hashing import keccak256
from farthing.channels.ids import to_hex
from farthing.contracts.artifacts import load
from farthing.node import sender as sender_module
from farthing.node.chain import Web3Chain
from farthing.node.sender import (
    FEE_PER_GAS_MAX_WEI,
    ChainUnreachable,
    Sender,
    TransactionFailed,
    TransactionUnknown,
    asking,
    checksum,
    connect,
)

from ..people import ALICE, DEPLOYMENT, TERMS
from ..small_node import RECEIPT, ScriptedProvider, SmallNode, is_empty, nonce_and_fee


def made(outbox: Outbox | None = None, **answers: Any) -> tuple[Sender, SmallNode]:
    node = SmallNode(**answers)
    return Sender(Web3(node), ALICE, 1, outbox=outbox), node


def send(sender: Sender) -> Any:
    abi: Any = load("city_credit").abi
    contract = sender.web3.eth.contract(address=checksum(DEPLOYMENT.city_credit), abi=abi)
    return sender.send("burning", contract.functions.burn(5, bytes(32)))


@pytest.fixture(autouse=True)
def patient_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0.05)
    monkeypatch.setattr(sender_module, "RECEIPT_POLL_SECONDS", 0.01)
    monkeypatch.setattr(sender_module, "PUSH_AGAIN_SECONDS", 60)


def test_a_transaction_is_signed_here_and_its_receipt_given() -> None:
    sender, node = made()
    assert send(sender)["blockNumber"] == 101
    assert send(sender)["blockNumber"] == 102
    assert [nonce_and_fee(raw)[0] for raw in node.sent] == [0, 1]


def test_a_revert_at_the_estimate_is_a_refusal_and_nothing_is_sent() -> None:
    sender, node = made(eth_estimateGas={"code": 3, "message": "credit: not treasury"})
    with pytest.raises(TransactionFailed, match=r"burning: .*credit: not treasury"):
        send(sender)
    assert node.sent == []


def test_a_sender_that_the_chain_does_not_admit_is_told_so() -> None:
    sender, _ = made(eth_sendRawTransaction={"code": -32007, "message": "not authorized"})
    for _ in range(2):  # it is known not to be under way: the second try sends again
        with pytest.raises(TransactionFailed, match="not authorized"):
            send(sender)


def test_a_mined_transaction_that_reverted_is_a_refusal() -> None:
    sender, node = made()
    node.status = "0x0"
    with pytest.raises(TransactionFailed, match="reverted"):
        send(sender)


def test_a_transaction_in_no_block_is_unknown_and_not_sent_twice() -> None:
    sender, node = made()
    node.mines = False
    with pytest.raises(TransactionUnknown, match="in no block"):
        send(sender)
    for _ in range(2):
        with pytest.raises(TransactionUnknown, match="in no block"):
            send(sender)
    node.mine()  # it is mined after all
    with pytest.raises(TransactionUnknown, match="not sent"):  # look at the chain first
        send(sender)
    assert len(set(node.sent)) == 1
    node.mines = True
    send(sender)
    assert len(node.mined) == 2


def test_a_transaction_that_the_endpoint_never_had_is_sent_again_and_mined_once() -> None:
    sender, node = made()
    take = node.answers["eth_sendRawTransaction"]
    node.answers["eth_sendRawTransaction"] = requests.exceptions.ConnectionError("reset")
    with pytest.raises(ChainUnreachable):
        send(sender)
    node.answers["eth_sendRawTransaction"] = take
    with pytest.raises(TransactionUnknown):
        sender.look_back()
    assert sender.look_back() == 101
    assert len(node.mined) == 1


def test_a_transaction_that_fell_out_of_the_pool_is_sent_again_while_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 10)
    monkeypatch.setattr(sender_module, "PUSH_AGAIN_SECONDS", 0)
    sender, node = made()
    dropped: list[str] = []

    def take(raw: str) -> Any:
        if not dropped:
            dropped.append(raw)
            return to_hex(keccak256(bytes.fromhex(raw[2:])))  # it says yes and forgets
        return node.take(raw)

    node.answers["eth_sendRawTransaction"] = take
    assert send(sender)["blockNumber"] == 101
    assert [to_hex(raw) for raw in node.mined] == dropped


def test_a_transaction_that_pays_too_little_is_replaced_by_itself_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 10)
    monkeypatch.setattr(sender_module, "PUSH_AGAIN_SECONDS", 0)
    sender, node = made()
    node.price, node.mines = 100, False
    first: list[bytes] = []

    def estimate() -> str:
        if node.sent:
            first[:] = [node.sent[0]]
            node.mines, node.price = True, 105
        return hex(node.price)

    node.answers["eth_gasPrice"] = estimate
    send(sender)
    (mined,) = node.mined
    assert nonce_and_fee(mined) == (0, 114)  # more than a tenth above, as nodes want it
    assert nonce_and_fee(first[0]) == (0, 100)
    sender.look_back()
    assert {sent.block for sent in sender._outbox.rows} == {101}  # the replaced one is used up


def test_a_replacement_that_the_node_refuses_leaves_the_first_one_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 10)
    monkeypatch.setattr(sender_module, "PUSH_AGAIN_SECONDS", 0)
    sender, node = made()
    node.price, node.mines = 100, False

    def take(raw: str) -> Any:
        if not node.sent:
            taken = node.take(raw)
            node.price = 1_000  # dearer than the account can pay
            return taken
        node.mine()
        return {"code": -32000, "message": "insufficient funds"}

    node.answers["eth_sendRawTransaction"] = take
    assert send(sender)["blockNumber"] == 101  # it is the first one, which nobody took for failed
    assert [nonce_and_fee(raw) for raw in node.mined] == [(0, 100)]


@pytest.mark.parametrize("odd", [{"blockNumber": None}, {"status": None}])
def test_a_receipt_that_lacks_what_is_read_of_it_is_no_answer(odd: dict[str, Any]) -> None:
    sender, node = made()
    node.answers["eth_getTransactionReceipt"] = lambda asked: {**node.receipt(asked), **odd}
    with pytest.raises(ChainUnreachable, match="makes no sense"):
        send(sender)


def test_a_fee_that_an_endpoint_makes_up_is_bounded() -> None:
    sender, node = made()
    node.price = 10**18
    send(sender)
    assert nonce_and_fee(node.sent[0])[1] == FEE_PER_GAS_MAX_WEI


def test_what_a_reorganisation_took_back_is_sent_again_before_anything_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender, node = made()
    send(sender)
    send(sender)
    node.undo(1)
    assert send_or_unknown(sender) == "unknown"  # it is sent again
    assert "its block was taken back" in caplog.text
    assert len(node.mined) == 2
    assert send_or_unknown(sender) == "unknown"  # look at the chain first
    assert send_or_unknown(sender) == "sent"
    assert [nonce_and_fee(raw)[0] for raw in node.mined] == [0, 1, 2]


def send_or_unknown(sender: Sender) -> str:
    try:
        send(sender)
    except TransactionUnknown:
        return "unknown"
    return "sent"


def test_a_process_that_was_killed_knows_what_it_sent(tmp_path: Path) -> None:
    sender, node = made(Outbox(tmp_path))
    node.mines = False
    assert send_or_unknown(sender) == "unknown"
    later = Sender(Web3(node), ALICE, 1, outbox=Outbox(tmp_path))
    node.pool.clear()  # the node was restarted too, and forgot what waited
    node.mines = True
    with pytest.raises(TransactionUnknown):
        later.look_back()
    assert later.look_back() == 101
    assert len(set(node.sent)) == len(node.mined) == 1


def test_what_is_deep_in_the_chain_is_forgotten(tmp_path: Path) -> None:
    sender, node = made(Outbox(tmp_path))
    send(sender)
    node.head += KEEP_BLOCKS
    node.answers["eth_getTransactionReceipt"] = lambda asked: {
        **RECEIPT,
        "transactionHash": asked,
        "blockNumber": "0x65",
    }
    assert sender.look_back() == 101
    assert Outbox(tmp_path).rows == ()


def test_a_command_that_keeps_no_record_takes_nobody_for_a_stranger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender, node = made()
    send(sender)
    node.mined.append(b"the same key's, by another command")
    send(sender)
    assert caplog.text == ""


def test_another_program_with_the_same_account_is_noticed(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    sender, node = made(Outbox(tmp_path))
    send(sender)
    node.mined.append(b"somebody else's")
    send(sender)
    assert caplog.text.count("another program sends transactions") == 1
    assert [is_empty(raw) for raw in node.sent] == [False, True, False]
    waiting = b"\x02" + rlp.encode([b"\x01", bytes([len(node.mined)]), b"", b""])
    node.pool[len(node.mined)] = waiting
    node.mines = False
    with pytest.raises(TransactionFailed, match="already known"):  # theirs is not replaced
        send(sender)
    assert caplog.text.count("another program sends transactions") == 2
    assert list(node.pool.values()) == [waiting]


def test_one_whose_nonce_another_used_is_looked_for_no_longer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 10)
    monkeypatch.setattr(sender_module, "PUSH_AGAIN_SECONDS", 0)
    sender, node = made(Outbox(tmp_path))

    def take(raw: str) -> Any:
        node.mined.append(b"somebody else's, of the same nonce")
        return to_hex(keccak256(bytes.fromhex(raw[2:])))

    node.answers["eth_sendRawTransaction"] = take
    with pytest.raises(TransactionUnknown, match="its nonce is used up"):
        send(sender)
    assert "another program sends transactions" in caplog.text
    node.answers["eth_sendRawTransaction"] = node.take
    send(sender)


def test_an_endpoint_that_does_not_know_our_newest_transaction_yet_is_waited_for() -> None:
    sender, node = made()
    send(sender)
    send(sender)
    node.answers["eth_getTransactionCount"] = lambda _, block: "0x1"
    with pytest.raises(ChainUnreachable, match="the endpoint lags"):
        send(sender)
    assert len(node.sent) == 2


def test_another_transactions_receipt_is_no_answer() -> None:
    sender, _ = made(eth_getTransactionReceipt=RECEIPT)
    with pytest.raises(ChainUnreachable, match="makes no sense"):
        send(sender)


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


def test_neither_a_proxy_nor_a_netrc_of_the_environment_has_a_part_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str | None] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(self.headers["Authorization"])
            body = b'{"jsonrpc": "2.0", "id": 0, "result": "0x7"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login alice password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        answering = Thread(target=server.handle_request)
        answering.start()
        web3 = connect(f"http://127.0.0.1:{server.server_port}")
        assert web3.eth.chain_id == 7
        answering.join()
    assert heard == [None]
