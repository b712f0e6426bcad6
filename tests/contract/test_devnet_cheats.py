"""Changing the chain from outside: state, senders, pool and mining, by the names of tools."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from eth_utils.exceptions import ValidationError

from farthing.channels.ids import Address, to_hex
from farthing.devnet.chain import DevChain
from farthing.devnet.evm import read_transaction
from farthing.devnet.impersonation import MARK, impersonated
from farthing.devnet.methods import METHODS
from farthing.devnet.rpc import Rpc
from farthing.devnet.server import Owner
from farthing.devnet.up import DevnetConfig, RunningDevnet, serve

from .devnet_probe import calldata, chains_closed, deploy, made_chain
from .test_devnet_chain import reimported, signed
from .test_devnet_rpc import call, raw, refusal
from .websocket_client import connected

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

BOB = "0x" + "b0" * 20
WORD = "0x" + (7).to_bytes(32, "big").hex()


def amount(chain: DevChain, probe: Address) -> int:
    request = {"to": to_hex(probe), "data": to_hex(calldata("amount()"))}
    return int(call(chain, "eth_call", request), 16)


@pytest.mark.parametrize("tool", ["anvil", "hardhat"])
def test_balance_nonce_code_and_words_are_set_at_once_and_stay(tool: str) -> None:
    chain = made_chain()
    probe = deploy(chain)
    head = chain.head
    assert call(chain, f"{tool}_setBalance", BOB, "0x7") is None
    assert call(chain, f"{tool}_setNonce", BOB, 5) is None
    assert call(chain, f"{tool}_setCode", BOB, "0x60075f5260205ff3") is None
    assert call(chain, f"{tool}_setStorageAt", to_hex(probe), "0x0", WORD) is True
    assert chain.head == head  # no block is mined for it
    for _ in range(3):
        assert call(chain, "eth_getBalance", BOB) == "0x7"
        assert call(chain, "eth_getTransactionCount", BOB) == "0x5"
        assert call(chain, "eth_call", {"to": BOB}) == WORD
        assert amount(chain, probe) == 7
        chain.mine()
    assert call(chain, "eth_getBalance", BOB, hex(head.number)) == "0x0"  # older blocks are as were
    call(chain, f"{tool}_setCode", BOB, "0x")
    assert call(chain, "eth_getCode", BOB) == "0x"
    error = refusal(chain, f"{tool}_setNonce", BOB, 4)
    assert (error["code"], "it only grows" in error["message"]) == (-32602, True)


def test_a_changed_state_goes_with_reverts_and_reorganisations_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    chain = made_chain(folder=tmp_path)
    call(chain, "anvil_setBalance", BOB, "0x7")
    snapshot = call(chain, "evm_snapshot")
    call(chain, "anvil_setBalance", BOB, "0x8")
    chain.mine(2)
    assert call(chain, "eth_getBalance", BOB) == "0x8"
    call(chain, "evm_revert", snapshot)
    assert call(chain, "eth_getBalance", BOB) == "0x7"
    chain.close()
    chain = made_chain(folder=tmp_path)
    assert call(chain, "eth_getBalance", BOB) == "0x7"
    chain.mine()
    assert call(chain, "eth_getBalance", BOB) == "0x7"
    chain.mine()
    call(chain, "farthing_reorg", 1)  # the block that took the change up stays
    assert call(chain, "eth_getBalance", BOB) == "0x7"
    call(chain, "farthing_reorg", 2)  # and now it goes, and what was changed with it
    assert call(chain, "eth_getBalance", BOB) == "0x0"


def test_a_block_on_a_changed_state_is_no_other_chains_but_is_traced_here() -> None:
    chain = made_chain(automine=False)
    probe = deploy(chain)
    chain.submit(signed(chain))
    chain.mine()
    assert reimported(chain).get_canonical_head().hash == chain.head.hash
    call(chain, "anvil_setStorageAt", to_hex(probe), "0x0", WORD)
    alice = to_hex(chain.accounts[0].address)
    note = to_hex(calldata("note(uint256,uint256)", 1, 2))
    name = call(chain, "eth_sendTransaction", {"from": alice, "to": to_hex(probe), "data": note})
    chain.mine()
    with pytest.raises(ValidationError):
        reimported(chain)
    trace = call(chain, "debug_traceTransaction", name, {"tracer": "prestateTracer"})
    assert trace[to_hex(probe)]["storage"] == {"0x" + "00" * 32: WORD}


def test_an_impersonated_account_sends_and_its_block_is_imported_with_equal_roots() -> None:
    chain = made_chain(permissioned=False)
    probe = deploy(chain)
    note = to_hex(calldata("note(uint256,uint256)", 1, 2))
    request = {"from": BOB, "to": to_hex(probe), "data": note}
    assert "unknown account" in refusal(chain, "eth_sendTransaction", request)["message"]
    assert call(chain, "anvil_impersonateAccount", BOB) is None
    name = call(chain, "eth_sendTransaction", request)
    receipt = call(chain, "eth_getTransactionReceipt", name)
    assert (receipt["from"], receipt["status"], receipt["type"]) == (BOB, "0x1", "0x0")
    assert receipt["logs"][0]["topics"][1] == "0x" + "00" * 12 + BOB[2:]
    made = call(chain, "eth_sendTransaction", {"from": BOB, "data": "0x"})
    assert call(chain, "eth_getTransactionByHash", made)["nonce"] == "0x1"
    fresh = reimported(chain)
    assert fresh.get_canonical_head().hash == chain.head.hash
    call(chain, "farthing_reorg", 2)  # it is mined again
    assert call(chain, "eth_getTransactionReceipt", name)["from"] == BOB
    assert call(chain, "hardhat_stopImpersonatingAccount", BOB) is None
    assert "unknown account" in refusal(chain, "eth_sendTransaction", request)["message"]
    call(chain, "anvil_autoImpersonateAccount", True)
    assert call(chain, "eth_sendTransaction", request)
    call(chain, "anvil_autoImpersonateAccount", False)
    assert "unknown account" in refusal(chain, "eth_sendTransaction", request)["message"]


def test_an_impersonated_account_needs_a_place_on_the_allowlist_like_any_other() -> None:
    chain = made_chain()
    call(chain, "hardhat_impersonateAccount", BOB)
    assert refusal(chain, "eth_sendTransaction", {"from": BOB, "to": BOB})["code"] == -32007
    call(chain, "perm_addAccountsToAllowlist", [BOB])
    assert call(chain, "eth_sendTransaction", {"from": BOB, "to": BOB})


def test_nobody_sends_as_another_from_outside_even_while_it_is_impersonated() -> None:
    """The mark of an impersonated sender is the devnet's own: mallory copies it in vain."""
    chain = made_chain(permissioned=False, automine=False)
    call(chain, "anvil_impersonateAccount", BOB)
    name = call(chain, "eth_sendTransaction", {"from": BOB, "to": BOB})
    [waiting] = chain.pool.all()
    forged = waiting.signed.encode()
    assert impersonated(waiting.record.r, waiting.record.s) == bytes.fromhex(BOB[2:])
    call(chain, "anvil_dropTransaction", name)
    error = refusal(chain, "eth_sendRawTransaction", to_hex(forged))
    assert (error["code"], "only the devnet makes" in error["message"]) == (-32000, True)
    assert len(chain.pool) == 0
    _, honest = read_transaction(bytes.fromhex(raw(chain)[2:]))
    assert impersonated(honest.r, honest.s) is None
    assert impersonated(MARK, 2) is None
    assert impersonated(MARK ^ 1 << 200, 1) is None


def test_what_waits_is_dropped_one_by_one_by_sender_or_altogether() -> None:
    chain = made_chain(automine=False)
    alice, bob, _ = (account.address for account in chain.accounts)

    def sent(sender: Address) -> str:
        name: str = call(
            chain, "eth_sendTransaction", {"from": to_hex(sender), "to": to_hex(sender)}
        )
        return name

    first, second, third = sent(alice), sent(alice), sent(bob)
    assert call(chain, "hardhat_dropTransaction", first) == first
    assert call(chain, "anvil_dropTransaction", first) is None
    assert call(chain, "eth_getTransactionByHash", first) is None
    assert call(chain, "anvil_removePoolTransactions", to_hex(alice)) is None
    assert call(chain, "eth_getTransactionByHash", second) is None
    assert call(chain, "eth_getTransactionByHash", third) is not None
    assert call(chain, "anvil_dropAllTransactions") is None
    assert len(chain.pool) == 0


def test_the_coinbase_is_set_and_the_base_fee_only_to_zero() -> None:
    chain = made_chain()
    call(chain, "anvil_setCoinbase", BOB)
    call(chain, "eth_sendRawTransaction", raw(chain, gasPrice=2))
    block = call(chain, "eth_getBlockByNumber", "latest")
    assert block["miner"] == call(chain, "eth_coinbase") == BOB
    assert call(chain, "eth_getBalance", BOB) == hex(2 * 21_000)
    assert reimported(chain).get_canonical_head().hash == chain.head.hash
    assert call(chain, "hardhat_setNextBlockBaseFeePerGas", "0x0") is None
    error = refusal(chain, "anvil_setNextBlockBaseFeePerGas", "0x1")
    assert (error["code"], "0 for ever" in error["message"]) == (-32602, True)


def test_automining_is_switched_off_and_on_and_then_mines_what_waits() -> None:
    chain = made_chain()
    assert call(chain, "hardhat_getAutomine") is True
    assert call(chain, "evm_setAutomine", False) is None
    sent = chain.submit(signed(chain))
    assert chain.receipt(sent) is None
    call(chain, "evm_setAutomine", True)
    assert chain.receipt(sent) is not None
    call(chain, "evm_setIntervalMining", 2)
    assert call(chain, "anvil_getAutomine") is False
    assert call(chain, "anvil_getIntervalMining") == 2
    call(chain, "anvil_setAutomine", True)
    assert call(chain, "anvil_getIntervalMining") is None
    for wrong in (-1, 0.01, 3_601, True, "often"):
        assert refusal(chain, "evm_setIntervalMining", wrong)["code"] == -32602


async def test_the_interval_is_changed_while_the_devnet_runs(nursery: trio.Nursery) -> None:
    running: RunningDevnet = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=0))
    async with connected(running.rpc_url) as client:
        await client.ask("eth_subscribe", "newHeads")
        await client.ask("evm_setIntervalMining", 0.05)
        await client.notified(3)
        await client.ask("evm_setIntervalMining", 3_600)
        await client.ask("evm_setIntervalMining", 0.05)  # is not waited for an hour
        await client.notified(3)
        await client.ask("evm_setIntervalMining", 0)
        head = await client.ask("eth_blockNumber")
        client.told.clear()
        await client.ask("evm_mine")
        numbers = [told["result"]["number"] for told in await client.notified(1)]
        assert numbers == [hex(int(head, 16) + 1)]


async def test_what_changed_is_told_even_where_the_work_failed() -> None:
    chain = made_chain()
    owner = Owner(Rpc(chain))
    news = owner.news

    def work() -> None:
        chain.mine()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await owner.run(work)
    assert news.is_set()
    assert not owner.news.is_set()


def test_the_node_says_what_it_is() -> None:
    chain = made_chain()
    info = call(chain, "anvil_nodeInfo")
    assert info["currentBlockHash"] == to_hex(chain.head.hash)
    assert info["environment"]["chainId"] == chain.chain_id
    metadata = call(chain, "hardhat_metadata")
    assert metadata["latestBlockNumber"] == chain.head.number
    assert metadata["instanceId"] != call(made_chain(entropy=b"x"), "anvil_metadata")["instanceId"]


def test_a_method_of_another_node_is_refused_with_what_to_do_instead() -> None:
    error = refusal(made_chain(), "anvil_reset")
    assert error["code"] == -32601
    assert "go back with evm_revert" in error["message"]


def test_each_tools_names_mean_the_same() -> None:
    for name in ("setBalance", "setCode", "setNonce", "setStorageAt", "impersonateAccount"):
        assert METHODS[f"anvil_{name}"] == METHODS[f"hardhat_{name}"]
