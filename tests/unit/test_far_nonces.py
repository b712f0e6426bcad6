"""Wrong counts of an account's transactions: nothing is signed on them, and nothing blocked."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from farthing.channels.client.outbox import (
    EMPTY_GAS,
    GAP_MAX,
    IDLE_MAX,
    KEEP_BLOCKS,
    Outbox,
    OutboxUnusable,
    Sent,
)
from farthing.channels.client.transaction import Transaction, sign_transaction
from farthing.channels.hashing import keccak256
from farthing.contracts.artifacts import load
from farthing.node import sender as sender_module
from farthing.node.sender import ChainUnreachable, Sender, TransactionUnknown, checksum

from ..people import ALICE, DEPLOYMENT
from ..small_node import SmallNode, is_empty, nonce_and_fee


@pytest.fixture(autouse=True)
def patient_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0.05)
    monkeypatch.setattr(sender_module, "RECEIPT_POLL_SECONDS", 0.01)
    monkeypatch.setattr(sender_module, "PUSH_AGAIN_SECONDS", 60)


@pytest.fixture
def node() -> SmallNode:
    return SmallNode()


def started(node: SmallNode, folder: Path) -> Sender:
    """The account's sender as a process finds it that starts now."""
    return Sender(Web3(node), ALICE, 1, outbox=Outbox(folder))


def send(sender: Sender) -> Any:
    abi: Any = load("city_credit").abi
    contract = sender.web3.eth.contract(address=checksum(DEPLOYMENT.city_credit), abi=abi)
    return sender.send("burning", contract.functions.burn(5, bytes(32)))


def calls(node: SmallNode) -> list[int]:
    """The nonces of the calls that took effect."""
    return [nonce_and_fee(raw)[0] for raw in node.mined if not is_empty(raw)]


@contextmanager
def lie(node: SmallNode, *, latest: int = 0, pending: int = 0) -> Iterator[None]:
    """The node says that many transactions too many, and keeps what it is given to itself."""
    node.mines = False
    added = {"latest": latest, "pending": latest + pending}
    node.answers["eth_getTransactionCount"] = lambda who, block: hex(
        int(node.count(who, block), 16) + added[block]
    )
    yield
    node.answers["eth_getTransactionCount"] = node.count
    node.mines = True


def stored(folder: Path, nonce: int, fee_wei: int = 0) -> Sent:
    """A call that an earlier process has put on disk under a nonce that it was told."""
    call = Transaction(
        chain_id=1,
        nonce=nonce,
        to=DEPLOYMENT.city_credit,
        data=b"\x01\x02\x03\x04",
        gas_limit=50_000,
        fee_per_gas_wei=fee_wei,
    )
    raw = sign_transaction(call, ALICE)
    sent = Sent(
        what="burning",
        nonce=nonce,
        transaction_hash=keccak256(raw),
        raw=raw,
        to=call.to,
        data=call.data,
        gas_limit=call.gas_limit,
        fee_per_gas_wei=fee_wei,
    )
    Outbox(folder).add(sent)
    return sent


def settled(sender: Sender) -> int:
    """Look back until nothing is under way; how often it was."""
    looks = 0
    while True:
        try:
            sender.look_back()
        except TransactionUnknown:
            looks += 1
        else:
            return looks


def test_what_an_endpoint_says_of_waiting_transactions_moves_no_nonce(
    node: SmallNode, tmp_path: Path
) -> None:
    sender = started(node, tmp_path)
    with lie(node, pending=1000):
        node.mines = True
        send(sender)
        send(sender)
    assert calls(node) == [0, 1]


@pytest.mark.parametrize("far", [1, 2, GAP_MAX + 1, 10**6, 2**63])
def test_on_a_count_that_is_too_high_only_an_empty_transaction_is_signed(
    node: SmallNode, tmp_path: Path, far: int
) -> None:
    sender = started(node, tmp_path)
    send(sender)
    with lie(node, latest=far):
        for _ in range(3):
            with pytest.raises(TransactionUnknown):
                send(sender)
        assert len(node.sent) > 1
        assert all(is_empty(raw) for raw in node.sent[1:])
    sender = started(node, tmp_path)
    assert settled(sender) == 0  # it stands in nobody's way
    send(sender)
    assert calls(node) == [0, 1]
    node.mine()  # should the account ever get there, the empty one is all that is there
    send(sender)
    assert len(calls(node)) == 3


def test_a_count_that_rises_step_by_step_without_receipts_is_not_believed(
    node: SmallNode, tmp_path: Path
) -> None:
    sender = started(node, tmp_path)
    for far in range(1, 5):
        with lie(node, latest=far), pytest.raises(TransactionUnknown):
            send(sender)
    assert all(is_empty(raw) for raw in node.sent)


def test_an_endpoint_that_lies_again_and_again_does_not_fill_the_outbox(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path)
    for nonce in range(2 * IDLE_MAX):
        outbox.add(replace(stored(tmp_path / "other", nonce), data=b""))
    assert len(outbox.rows) <= IDLE_MAX + 1
    assert outbox.rows[0].nonce == 0


def test_a_count_that_moves_while_it_is_tried_is_not_believed(
    node: SmallNode, tmp_path: Path
) -> None:
    node.mined.append(b"of another program")
    sender = started(node, tmp_path)
    take = node.take

    def moves(raw: str) -> Any:
        answer = take(raw)
        node.answers["eth_getTransactionCount"] = lambda _, block: hex(1000)
        return answer

    node.answers["eth_sendRawTransaction"] = moves
    with pytest.raises(ChainUnreachable, match="has moved to 1000"):
        send(sender)
    assert all(is_empty(raw) for raw in node.sent)


def test_an_account_that_was_used_before_sends_one_empty_transaction_and_then_its_calls(
    node: SmallNode, tmp_path: Path
) -> None:
    node.mined += [b"of another program"] * 3
    sender = started(node, tmp_path)
    send(sender)
    send(sender)
    ours = node.mined[3:]
    assert [is_empty(raw) for raw in ours] == [True, False, False]
    assert [nonce_and_fee(raw)[0] for raw in ours] == [3, 4, 5]


def test_what_the_outbox_has_forgotten_still_vouches_for_the_next_nonce(
    node: SmallNode, tmp_path: Path
) -> None:
    sender = started(node, tmp_path)
    send(sender)
    node.head += KEEP_BLOCKS
    block = hex(node.head - KEEP_BLOCKS)
    receipt = node.receipt
    node.answers["eth_getTransactionReceipt"] = lambda asked: {
        **receipt(asked),
        "blockNumber": block,
    }
    sender.look_back()
    assert Outbox(tmp_path).rows == ()
    node.answers["eth_getTransactionReceipt"] = receipt
    send(started(node, tmp_path))
    assert [is_empty(raw) for raw in node.sent] == [False, False]


@pytest.mark.parametrize("content", [b"", b"-1", b"1\n", b"1" * 21, b"\xff"])
def test_a_damaged_count_is_named_and_nothing_is_sent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "next").write_bytes(content)
    with pytest.raises(OutboxUnusable, match="next is damaged"):
        Outbox(tmp_path)


# -- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [1, 3, GAP_MAX])
def test_a_gap_in_front_of_a_stored_call_is_filled_and_the_call_takes_effect_once(
    node: SmallNode, tmp_path: Path, ahead: int
) -> None:
    stored(tmp_path, ahead)
    sender = started(node, tmp_path)
    assert settled(sender) == 1
    assert calls(node) == [ahead]
    assert [nonce_and_fee(raw)[0] for raw in node.mined] == list(range(ahead + 1))
    send(sender)
    assert calls(node) == [ahead, ahead + 1]


def test_a_process_killed_while_it_fills_a_gap_goes_on_with_it(
    node: SmallNode, tmp_path: Path
) -> None:
    stored(tmp_path, 3)
    node.mines = False
    sender = started(node, tmp_path)
    with pytest.raises(TransactionUnknown):
        sender.look_back()
    node.pool.clear()
    node.mines = True
    assert settled(started(node, tmp_path)) == 1
    assert [nonce_and_fee(raw)[0] for raw in node.mined] == [0, 1, 2, 3]
    assert calls(node) == [3]


def test_a_reorganisation_of_what_is_forgotten_leaves_no_gap(
    node: SmallNode, tmp_path: Path
) -> None:
    sender = started(node, tmp_path)
    for _ in range(3):
        send(sender)
    (first, _, _) = sender._outbox.rows
    sender._outbox.forget(first)  # it was deep in the chain
    node.undo(3)
    assert settled(sender) == 1
    assert [is_empty(raw) for raw in node.mined] == [True, False, False]


def test_a_stored_call_too_far_ahead_is_given_up_and_its_nonce_used_up(
    node: SmallNode, tmp_path: Path
) -> None:
    lost = stored(tmp_path, GAP_MAX + 1, fee_wei=100)
    sender = started(node, tmp_path)
    assert settled(sender) == 0
    rows = Outbox(tmp_path).rows
    places = {(row.nonce, row.is_empty, row.gas_limit) for row in rows}
    assert places == {(GAP_MAX + 1, True, EMPTY_GAS)}
    assert {row.fee_per_gas_wei for row in rows} == {0, 114}  # the second could replace the call
    send(sender)
    assert calls(node) == [0]
    node.take("0x" + lost.raw.hex())  # whoever kept it comes too late: the pool holds a dearer one
    while len(node.mined) <= GAP_MAX:
        send(sender)
    node.mine()
    assert calls(node) == list(range(GAP_MAX + 1))
    assert is_empty(node.mined[GAP_MAX + 1])


def test_nonces_below_the_least_that_is_wanted_are_used_up_first(
    node: SmallNode, tmp_path: Path
) -> None:
    sender = started(node, tmp_path)
    assert sender.ready_nonce("noting", least=2) == 2
    assert sender.ready_nonce("noting", least=3 + GAP_MAX) == 2  # that one is given up
    assert all(is_empty(raw) for raw in node.mined)


# -- disks ----------------------------------------------------------------------------------------


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_is_sent_and_nothing_is_lost(
    node: SmallNode, tmp_path: Path
) -> None:
    sender = started(node, tmp_path)
    send(sender)
    with full_disk(), pytest.raises(OutboxUnusable, match="cannot be written"):
        send(sender)
    assert len(node.sent) == 1
    assert len(Outbox(tmp_path).rows) == 1
    send(sender)
    assert calls(node) == [0, 1]


def test_what_cannot_be_forgotten_on_disk_is_not_forgotten_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    sent = stored(folder, 0)
    outbox = Outbox(folder)
    (row,) = outbox.rows
    folder.rename(tmp_path / "away")
    folder.touch()  # no folder any more, whoever runs this
    with pytest.raises(OutboxUnusable, match="cannot be written"):
        outbox.forget(row)
    assert [each.transaction_hash for each in outbox.rows] == [sent.transaction_hash]
