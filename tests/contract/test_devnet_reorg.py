"""Taking blocks back on the devnet: reorganisations and snapshots, as clients see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farthing.channels.ids import Address, to_hex
from farthing.devnet.chain import DevChain
from farthing.devnet.records import LogQuery

from .devnet_probe import act, chains_closed, deploy, made_chain, read
from .test_devnet_chain import reimported, signed
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)


def hashes(chain: DevChain) -> list[bytes]:
    """The hash of every block, genesis first."""
    found = [chain.header(number) for number in range(chain.head.number + 1)]
    return [header.hash for header in found if header is not None]


def every_log(chain: DevChain) -> tuple[Any, ...]:
    return chain.logs(
        LogQuery(first_block=0, last_block=chain.head.number, addresses=(), topics=())
    )


def noted(chain: DevChain, probe: Address) -> bytes:
    """A transaction that leaves a log and a word of state behind; it is mined."""
    return act(chain, probe, "note(uint256,uint256)", 5, 7).transaction.hash


def amount(chain: DevChain, probe: Address) -> int:
    (found,) = read(chain, probe, "amount()", "uint256")
    return int(found)


def test_a_reorganisation_replaces_the_newest_blocks_by_others_at_the_same_times() -> None:
    chain = made_chain()
    chain.mine(6, 10)
    before, times = hashes(chain), [chain.header(n).timestamp for n in range(8)]  # type: ignore[union-attr]
    head = call(chain, "farthing_reorg", 3)
    after = hashes(chain)
    assert to_hex(after[-1]) == head
    assert after[:5] == before[:5]
    assert not set(after[5:]) & set(before)
    assert [chain.header(n).timestamp for n in range(8)] == times  # type: ignore[union-attr]
    assert call(chain, "eth_getBlockByHash", to_hex(before[-1]), False) is None
    assert reimported(chain).get_canonical_head().hash == after[-1]


def test_transactions_are_mined_again_wait_or_are_dropped() -> None:
    chain = made_chain()
    probe = deploy(chain)
    transaction = noted(chain, probe)
    name = to_hex(transaction)
    first = call(chain, "eth_getTransactionReceipt", name)
    call(chain, "farthing_reorg", 1)  # again, unless told
    again = call(chain, "eth_getTransactionReceipt", name)
    assert again["blockNumber"] == first["blockNumber"]
    assert again["blockHash"] != first["blockHash"]
    assert [log.block_hash for log in every_log(chain)] == [chain.head.hash]
    call(chain, "farthing_reorg", 1, "waiting")
    assert call(chain, "eth_getTransactionReceipt", name) is None
    assert call(chain, "eth_getTransactionByHash", name)["blockNumber"] is None
    assert every_log(chain) == ()
    assert amount(chain, probe) == 0
    chain.mine()
    assert amount(chain, probe) == 7
    call(chain, "farthing_reorg", 1, "dropped")
    assert call(chain, "eth_getTransactionByHash", name) is None
    chain.mine()
    assert amount(chain, probe) == 0
    sender = chain.accounts[0].address
    assert chain.nonce(sender) == chain.pending_nonce(sender) == 1  # the deployment's is left


def test_a_later_transaction_waits_behind_the_gap_that_a_dropped_one_leaves() -> None:
    chain = made_chain(automine=False)
    first = signed(chain)
    chain.submit(first)
    chain.mine()
    chain.submit(signed(chain))
    call(chain, "farthing_reorg", 1, "dropped")
    assert chain.mine().gas_used == 0
    chain.submit(first)  # whoever sent it sends it again, and both are mined
    assert chain.mine().gas_used == 2 * 21_000


def test_a_chain_that_is_opened_again_is_the_one_after_the_reorganisation(tmp_path: Path) -> None:
    chain = made_chain(folder=tmp_path)
    probe = deploy(chain)
    noted(chain, probe)
    chain.mine(3)
    call(chain, "farthing_reorg", 4, "dropped")
    after = hashes(chain)
    chain.close()
    again = made_chain(folder=tmp_path)
    assert hashes(again) == after
    assert amount(again, probe) == 0
    assert every_log(again) == ()
    again.mine()
    call(again, "farthing_reorg", 1)
    call(again, "farthing_reorg", 1)
    assert len({*after, *hashes(again)}) == len(after) + 1  # none of the hashes came twice


def test_the_same_block_replaced_twice_has_three_hashes() -> None:
    chain = made_chain()
    chain.mine()
    seen = {chain.head.hash}
    for _ in range(2):
        call(chain, "anvil_reorg", 1)
        seen.add(chain.head.hash)
    assert len(seen) == 3


@pytest.mark.parametrize("depth", [0, 3, 10_001, 2**60])
def test_a_depth_that_the_chain_does_not_have_is_refused(depth: int) -> None:
    chain = made_chain()
    chain.mine(2)
    before = hashes(chain)
    assert refusal(chain, "farthing_reorg", depth)["code"] in (-32602, -32000)
    assert hashes(chain) == before


def test_bad_words_for_a_reorganisation_are_refused() -> None:
    chain = made_chain()
    chain.mine(2)
    assert "again, waiting, dropped" in refusal(chain, "farthing_reorg", 1, "lost")["message"]
    assert "farthing_reorg" in refusal(chain, "anvil_reorg", 1, ["0x"])["message"]


def test_a_snapshot_brings_back_blocks_state_clock_and_what_waited() -> None:
    chain = made_chain(automine=False)
    probe = deploy(chain)
    waits = chain.submit(signed(chain))
    before = hashes(chain)
    snapshot = call(chain, "evm_snapshot")
    offset = chain.clock.offset_seconds
    chain.increase_time(1000)
    chain.mine(3)
    assert chain.receipt(waits) is not None
    later = call(chain, "evm_snapshot")
    assert call(chain, "evm_revert", snapshot) is True
    assert hashes(chain) == before
    assert chain.clock.offset_seconds == offset
    assert amount(chain, probe) == 0
    assert [each.record.hash for each in chain.pool.all()] == [waits]
    assert call(chain, "evm_revert", snapshot) is False  # it is used up, and later ones with it
    assert call(chain, "evm_revert", later) is False


def test_a_snapshot_of_a_block_that_is_gone_is_none() -> None:
    chain = made_chain()
    chain.mine(3)
    snapshot = call(chain, "evm_snapshot")
    call(chain, "farthing_reorg", 1)
    head = chain.head
    assert call(chain, "evm_revert", snapshot) is False
    assert chain.head == head
