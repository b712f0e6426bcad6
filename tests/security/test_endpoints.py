"""Endpoints that lie about an account or answer without end, and the disk under what is sent."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from web3 import Web3

from farthing.channels.client import chain as chain_module
from farthing.channels.client import outbox as outbox_module
from farthing.channels.client.chain import ChainReader, SearchEndless
from farthing.channels.client.outbox import Outbox, OutboxUnusable, Sent
from farthing.channels.client.transaction import Transaction, sign_transaction
from farthing.channels.events import ObservedChannel
from farthing.channels.hashing import keccak256
from farthing.channels.ids import to_hex
from farthing.channels.state import ChainStatus
from farthing.contracts.artifacts import load
from farthing.node import sender as sender_module
from farthing.node.audit import rpc as audit_rpc
from farthing.node.audit.errors import RpcAnswerTooLarge
from farthing.node.audit.rpc import HttpRpc
from farthing.node.follower import Follower
from farthing.node.sender import Sender, TransactionUnknown, checksum
from farthing.node.settler import Settler, Watcher
from farthing.node.top_ups import TopUp, TopUps, TopUpState

from ..hub_parts import ACCOUNT, committed, fresh_channel, parts
from ..people import ALICE, DEPLOYMENT, TERMS, payment
from ..small_node import SmallNode, is_empty, nonce_and_fee


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0.02)
    monkeypatch.setattr(sender_module, "RECEIPT_POLL_SECONDS", 0.01)


def sender_of(node: SmallNode, folder: Path) -> Sender:
    return Sender(Web3(node), ALICE, 1, outbox=Outbox(folder))


def pay(sender: Sender) -> None:
    abi: Any = load("city_credit").abi
    contract = sender.web3.eth.contract(address=checksum(DEPLOYMENT.city_credit), abi=abi)
    sender.send("paying", contract.functions.burn(5, bytes(32)))


def paid(node: SmallNode) -> list[int]:
    """The nonces of the calls that took effect."""
    return [nonce_and_fee(raw)[0] for raw in node.mined if not is_empty(raw)]


def left_behind(folder: Path, nonce: int) -> bytes:
    """A call that stands in the outbox under a nonce that a liar said; its bytes."""
    call = Transaction(
        chain_id=1, nonce=nonce, to=DEPLOYMENT.city_credit, data=b"\1\2\3\4", gas_limit=50_000
    )
    raw = sign_transaction(call, ALICE)
    Outbox(folder).add(
        Sent(
            what="paying",
            nonce=nonce,
            transaction_hash=keccak256(raw),
            raw=raw,
            to=call.to,
            data=call.data,
            gas_limit=call.gas_limit,
            fee_per_gas_wei=0,
        )
    )
    return raw


def test_a_liar_is_given_no_call_that_would_be_paid_when_the_account_gets_there(
    tmp_path: Path,
) -> None:
    node = SmallNode()
    sender = sender_of(node, tmp_path)
    node.mines = False
    node.answers["eth_getTransactionCount"] = lambda _, block: hex(2)
    with pytest.raises(TransactionUnknown):
        pay(sender)
    node.answers["eth_getTransactionCount"] = node.count
    node.mines = True
    for _ in range(4):
        with suppress(TransactionUnknown):  # what the liar kept comes among them
            pay(sender)
    node.mine()
    assert paid(node) == [0, 1, 3, 4]
    assert is_empty(node.mined[2])


def test_a_call_that_a_lie_put_too_far_ahead_does_not_block_an_account_for_ever(
    tmp_path: Path,
) -> None:
    left_behind(tmp_path, 2)
    node = SmallNode()
    sender = sender_of(node, tmp_path)
    with pytest.raises(TransactionUnknown):
        sender.look_back()
    sender.look_back()
    pay(sender)
    assert paid(node) == [2, 3]


def test_a_call_that_was_given_up_is_not_paid_beside_the_one_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "GAP_MAX", 1)
    kept_by_mallory = left_behind(tmp_path, 3)
    node = SmallNode()
    sender = sender_of(node, tmp_path)
    sender.look_back()
    node.take(to_hex(kept_by_mallory))
    for _ in range(3):
        pay(sender)
    node.mine()
    assert paid(node) == [0, 1, 2]


def test_a_top_up_whose_block_was_taken_back_does_not_count_as_arrived(tmp_path: Path) -> None:
    with parts(tmp_path) as made:
        ledger, channel = made.store.ledger, fresh_channel()
        book = TopUps(ledger)
        row = TopUp(
            id=0,
            channel=channel.id,
            account=channel.peer_account,
            amount_ucent=5,
            deposit_before_ucent=4,
            nonce=7,
            day=1,
        )
        committed(ledger, *book.send([row]))
        committed(ledger, *book.mined(channel.id, 101))
        (sent,) = book.each_on_its_way()
        committed(ledger, *book.end(sent, TopUpState.ARRIVED))
        committed(ledger, *TopUps.taken_back(100))
        book.read_again()
        (again,) = book.each_on_its_way()
        assert (again.nonce, again.block) == (7, None)


async def test_a_full_disk_under_what_is_sent_ends_no_task_of_a_hub(tmp_path: Path) -> None:
    """The watcher answers a close late, and not never."""
    with parts(tmp_path) as made:
        channel = made.hold(fresh_channel())
        made.connect(channel)
        made.driver.pay(channel.id, (payment(5),), ())
        await made.driver.flush()
        closing = made.open_view(status=ChainStatus.CLOSING, deadline_block=10**9)
        made.feed(channel, ObservedChannel(view=closing))
        await made.driver.flush()
        desk = made.chain.desk()
        settler = Settler(made.driver, desk, unsettled_ucent=1, age_seconds=1, rows_max=10)
        follower = Follower(desk, made.store, account=ACCOUNT, signer=ALICE.address, first_block=7)
        watcher = Watcher(made.driver, desk, settler, follower)
        made.chain.failures.append(("settle", OutboxUnusable("no space is left")))
        await watcher.look()
        assert made.chain.settled == []
        await watcher.look()
        assert len(made.chain.settled) == 1


class Endless:
    """An endpoint whose chain has no end; a test has."""

    def __init__(self) -> None:
        self.asked = 0

    async def call(self, method: str, *params: Any) -> Any:
        self.asked += 1
        if self.asked > 50:
            pytest.fail("it would be asked for ever")
        if method == "eth_getLogs":
            return []
        word = "0x" + "11" * 32
        return {"number": hex(2**60), "hash": word, "timestamp": "0x1"}


async def test_a_search_on_an_endpoint_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "SEARCH_SECONDS_MAX", 0)
    reader = ChainReader(cast("Any", Endless()), DEPLOYMENT)
    with pytest.raises(SearchEndless):
        await reader.channels_of(TERMS.account_b)


@contextmanager
def flooding(megabytes: int) -> Iterator[HttpRpc]:
    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(b" " * (1 << 20) for _ in range(megabytes)))

    with HttpRpc("http://node.test", transport=httpx.MockTransport(respond)) as rpc:
        yield rpc


def test_an_answer_without_end_does_not_fill_an_auditor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_rpc, "ANSWER_BYTES_MAX", 3 << 20)
    with flooding(4) as rpc, pytest.raises(RpcAnswerTooLarge):
        rpc.call_many("eth_getLogs", [({},)])
