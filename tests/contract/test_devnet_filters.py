"""Filters that a client polls: blocks, waiting transactions, logs, and logs taken back."""

from __future__ import annotations

from typing import Any

import pytest
from web3 import Web3

from farthing.channels.ids import to_hex
from farthing.devnet import filters, journal
from farthing.devnet.chain import DevChain
from farthing.devnet.provider import ChainProvider

from .devnet_probe import Wall, act, chains_closed, compiled, deploy, made_chain
from .test_devnet_chain import signed
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

UNKNOWN = "0x" + "f" * 32


def topic(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()


def changes(chain: DevChain, name: str) -> Any:
    return call(chain, "eth_getFilterChanges", name)


def test_a_block_filter_names_each_block_once() -> None:
    chain = made_chain()
    name = call(chain, "eth_newBlockFilter")
    assert changes(chain, name) == []
    chain.mine(3)
    expected = [to_hex(header.hash) for n in (2, 3, 4) if (header := chain.header(n))]
    assert changes(chain, name) == expected
    assert changes(chain, name) == []


def test_a_filter_of_waiting_transactions_names_each_as_it_arrives() -> None:
    chain = made_chain(automine=False)
    name = call(chain, "eth_newPendingTransactionFilter", False)
    sent = chain.submit(signed(chain))
    assert changes(chain, name) == [to_hex(sent)]
    chain.mine()
    assert changes(chain, name) == []
    call(chain, "farthing_reorg", 1, "waiting")  # it waits again
    assert changes(chain, name) == [to_hex(sent)]
    error = refusal(chain, "eth_newPendingTransactionFilter", True)
    assert (error["code"], "ask for each by its hash" in error["message"]) == (-32602, True)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 2),
        ({"fromBlock": "latest"}, 2),
        ({"fromBlock": "0x0", "toBlock": "0x4"}, 1),
        ({"fromBlock": "0x5"}, 1),
        ({"address": "0x" + "11" * 20}, 0),
        ({"topics": [None, None, topic(8)]}, 1),
        ({"topics": [None, None, [topic(7), topic(8)]]}, 2),
        ({"topics": [None, None, None, None]}, 0),
    ],
)
def test_a_filter_of_logs_tells_those_of_its_range_address_and_topics(
    wanted: dict[str, object], count: int
) -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 7, 0)
    name = call(chain, "eth_newFilter", wanted)
    for number in (7, 8):
        act(chain, probe, "note(uint256,uint256)", number, 0)
    found = changes(chain, name)
    assert len(found) == count
    assert all(log["removed"] is False for log in found)
    assert changes(chain, name) == []


def test_the_logs_of_a_filter_are_those_of_its_range_old_ones_too() -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 7, 0)
    wanted = {"fromBlock": "0x0", "address": to_hex(probe)}
    name = call(chain, "eth_newFilter", wanted)
    assert changes(chain, name) == []
    assert call(chain, "eth_getFilterLogs", name) == call(chain, "eth_getLogs", wanted) != []


def test_logs_that_a_reorganisation_takes_back_come_again_as_removed() -> None:
    chain = made_chain()
    probe = deploy(chain)
    name = call(chain, "eth_newFilter", {})
    act(chain, probe, "note(uint256,uint256)", 7, 0)
    [first] = changes(chain, name)
    call(chain, "farthing_reorg", 1)
    removed, again = changes(chain, name)
    assert removed == {**first, "removed": True}
    assert again["removed"] is False
    assert again["blockHash"] == to_hex(chain.head.hash) != first["blockHash"]
    snapshot = call(chain, "evm_snapshot")
    act(chain, probe, "note(uint256,uint256)", 8, 0)
    assert call(chain, "evm_revert", snapshot) is True
    assert [log["removed"] for log in changes(chain, name)] == [False, True]


def test_a_filter_that_is_uninstalled_unknown_or_forgotten_is_refused() -> None:
    wall = Wall()
    chain = made_chain(wall)
    name = call(chain, "eth_newBlockFilter")
    assert call(chain, "eth_uninstallFilter", name) is True
    assert call(chain, "eth_uninstallFilter", name) is False
    blocks, logs = call(chain, "eth_newBlockFilter"), call(chain, "eth_newFilter", {})
    assert refusal(chain, "eth_getFilterLogs", blocks)["code"] == -32000
    wall.seconds += filters.IDLE_SECONDS - 1
    changes(chain, logs)
    wall.seconds += 1
    changes(chain, logs)
    for method, each in (
        ("eth_getFilterChanges", name),
        ("eth_getFilterChanges", blocks),
        ("eth_getFilterLogs", UNKNOWN),
    ):
        error = refusal(chain, method, each)
        assert error["code"] == -32000
        assert error["message"].startswith("filter not found")
    error = refusal(chain, "eth_newFilter", {"blockHash": UNKNOWN + "0" * 32})
    assert "give no blockHash" in error["message"]


def test_no_more_filters_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "FILTERS_MAX", 2)
    wall = Wall()
    chain = made_chain(wall)
    names = [call(chain, "eth_newBlockFilter") for _ in range(2)]
    assert refusal(chain, "eth_newBlockFilter")["code"] == -32005
    call(chain, "eth_uninstallFilter", names[0])
    call(chain, "eth_newBlockFilter")
    wall.seconds += filters.IDLE_SECONDS
    call(chain, "eth_newBlockFilter")  # the others are forgotten by now


def test_a_filter_that_fell_too_far_behind_is_refused_and_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "ENTRIES_MAX", 5)
    chain = made_chain()
    name = call(chain, "eth_newBlockFilter")
    chain.mine(5)
    assert len(changes(chain, name)) == 5
    chain.mine(6)
    for _ in range(2):
        assert "filter not found" in refusal(chain, "eth_getFilterChanges", name)["message"]


def test_the_journal_forgets_old_entries_when_their_logs_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "LOGS_MAX", 10)
    chain = made_chain()
    probe = deploy(chain)
    for count in (6, 4, 5):
        act(chain, probe, "note_many(uint256)", count)
    kept = chain.journal.since(chain.journal.start)
    assert kept is not None
    assert [len(entry.logs) for entry in kept if isinstance(entry, journal.Mined)] == [4, 5]


def test_many_changes_come_in_several_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "CHANGES_MAX", 3)
    chain = made_chain()
    name = call(chain, "eth_newBlockFilter")
    chain.mine(7)
    assert [len(changes(chain, name)) for _ in range(4)] == [3, 3, 1, 0]


def test_web3_polls_its_filters() -> None:
    chain = made_chain()
    w3: Any = Web3(ChainProvider(chain))
    _, abi = compiled()
    probe = w3.eth.contract(address=Web3.to_checksum_address(deploy(chain)), abi=abi)
    blocks, events = w3.eth.filter("latest"), probe.events.Noted.create_filter(from_block="latest")
    probe.functions.note(3, 4).transact({"from": w3.eth.accounts[0]})
    assert blocks.get_new_entries() == [w3.eth.get_block("latest")["hash"]]
    assert [event["args"]["amount"] for event in events.get_new_entries()] == [4]
    assert w3.eth.uninstall_filter(events.filter_id)
