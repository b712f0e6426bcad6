"""A devnet whose base fee moves: what blocks ask for, who goes in, who pays, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from eth_utils.exceptions import ValidationError

from farthing.channels.ids import Address, to_hex
from farthing.devnet import errors
from farthing.devnet.accounts import BALANCE_WEI
from farthing.devnet.chain import DevChain
from farthing.devnet.evm import GAS_LIMIT, DevnetVM, ZeroBaseFeeVM
from farthing.devnet.fees import TIP_DEFAULT_WEI, TIP_MAX_WEI
from farthing.devnet.records import CallRequest
from farthing.devnet.reorg import Fate, reorganise

from .devnet_probe import calldata, chains_closed, deploy, made_chain
from .test_devnet_chain import burn_gas, reimported, signed
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

GWEI = 10**9
MINER = Address(b"\x0c" * 20)
POOR = Address(b"\xbb" * 20)
TARGET = GAS_LIMIT // 2


def paid_chain(**settings: Any) -> DevChain:
    """A chain whose genesis block asks for 1 gwei; what it mines brings its tips to MINER."""
    chain = made_chain(**{"base_fee_wei": GWEI, **settings})
    chain.coinbase = MINER
    return chain


def priced(chain: DevChain, most: int, tip: int = 0, **changes: Any) -> bytes:
    """A signed transfer with the fees of EIP-1559."""
    return signed(chain, type=2, maxFeePerGas=most, maxPriorityFeePerGas=tip, **changes)


def next_by_eip_1559(base_fee: int, gas_used: int) -> int:
    """The EIP's own formula, written down a second time."""
    if gas_used == TARGET:
        return base_fee
    if gas_used > TARGET:
        return base_fee + max(base_fee * (gas_used - TARGET) // TARGET // 8, 1)
    return base_fee - base_fee * (TARGET - gas_used) // TARGET // 8


def test_the_base_fee_follows_the_gas_of_the_block_before() -> None:
    chain = paid_chain()
    assert [chain.header(number).base_fee for number in (0, 1)] == [GWEI, GWEI * 7 // 8]  # type: ignore[union-attr]
    probe = deploy(chain)
    for gas in (GAS_LIMIT, GAS_LIMIT, TARGET, TARGET + 1, TARGET - 1, 100_000):
        burn_gas(chain, probe, gas)
        assert chain.head.gas_used == gas
    chain.mine(3)
    headers = [chain.header(number) for number in range(chain.head.number + 1)]
    fees = [header.base_fee for header in headers if header]
    expected = [next_by_eip_1559(header.base_fee, header.gas_used) for header in headers if header]
    assert fees[1:] == expected[:-1]
    assert chain.next_base_fee == expected[-1]
    full = next(header.number for header in headers if header and header.gas_used == GAS_LIMIT)
    assert fees[full + 1] == fees[full] * 9 // 8  # an eighth more after a full block
    assert len(set(fees)) > 8


def test_a_base_fee_of_a_few_wei_stays_above_zero() -> None:
    chain = paid_chain(base_fee_wei=9)
    chain.mine(5)
    assert (chain.head.base_fee, chain.next_base_fee) == (7, 7)
    burn_gas(chain, deploy(chain), GAS_LIMIT)
    assert chain.next_base_fee == 8


def test_the_tip_goes_to_the_miner_and_the_base_fee_to_nobody() -> None:
    chain = paid_chain()
    alice, bob, carol = (account.address for account in chain.accounts)
    everybody = (alice, bob, carol, MINER)
    before = sum(chain.balance(address) for address in everybody)
    receipt = chain.receipt(chain.submit(priced(chain, 5 * GWEI, 2 * GWEI, value=7)))
    assert receipt is not None
    base_fee = chain.head.base_fee
    assert base_fee > 0
    assert receipt.gas_price_wei == base_fee + 2 * GWEI
    assert chain.balance(MINER) == 21_000 * 2 * GWEI
    assert chain.balance(alice) == BALANCE_WEI - 7 - 21_000 * (base_fee + 2 * GWEI)
    assert chain.balance(bob) == BALANCE_WEI + 7
    burnt = before - sum(chain.balance(address) for address in everybody)
    assert burnt == 21_000 * base_fee

    # Of a cap that leaves less than the tip the miner gets what is left; of a price, all of it.
    def of_type_2(most: int) -> bytes:
        return priced(chain, most, 6)

    def legacy(most: int) -> bytes:
        return signed(chain, gasPrice=most)

    for offer in (of_type_2, legacy):
        before = chain.balance(MINER)
        receipt = chain.receipt(chain.submit(offer(chain.next_base_fee + 5)))
        assert receipt is not None
        assert receipt.gas_price_wei == chain.head.base_fee + 5
        assert chain.balance(MINER) == before + 21_000 * 5


def test_every_block_is_imported_by_a_fresh_chain_of_its_kind_and_by_no_other() -> None:
    chain = paid_chain()
    probe = deploy(chain)
    chain.submit(priced(chain, 9 * GWEI, GWEI))
    burn_gas(chain, probe, GAS_LIMIT)
    chain.submit(signed(chain, gasPrice=3 * GWEI))
    chain.mine(2)
    reorganise(chain, 3, Fate.AGAIN)
    fresh = reimported(chain)
    assert fresh.get_canonical_head().hash == chain.head.hash
    assert fresh.get_canonical_head().state_root == chain.head.state_root
    header, parent = chain._next_header(), chain._head
    DevnetVM.validate_header(header, parent)
    with pytest.raises(ValidationError, match=r"base fee must be \d+, is "):
        DevnetVM.validate_header(header.copy(base_fee_per_gas=header.base_fee_per_gas + 1), parent)  # type: ignore[operator]
    with pytest.raises(ValidationError, match="base fee must be 0, is "):
        ZeroBaseFeeVM.validate_header(header, parent)


def test_mined_at_once_or_refused_in_geths_words() -> None:
    chain = paid_chain()
    asked = chain.next_base_fee
    alice = chain.accounts[0]
    for raw in (priced(chain, asked - 1), signed(chain, gasPrice=asked - 1)):
        error = refusal(chain, "eth_sendRawTransaction", to_hex(raw))
        assert (error["code"], error["message"]) == (
            -32000,
            f"max fee per gas less than block base fee: address {alice.checksum_address}, "
            f"maxFeePerGas: {asked - 1}, baseFee: {asked}",
        )
        assert error["data"].startswith("offer at least the base fee")
    assert len(chain.pool) == 0
    assert chain.receipt(chain.submit(priced(chain, asked))) is not None


def test_what_offers_too_little_waits_until_the_base_fee_has_fallen() -> None:
    chain = paid_chain(automine=False)
    asked = chain.next_base_fee
    low = chain.submit(priced(chain, next_by_eip_1559(asked, 21_000) - 1, nonce=0))
    behind = chain.submit(priced(chain, 2 * asked, nonce=1))
    bob = chain.accounts[1].address
    other = chain.send(CallRequest(sender=bob, to=bob))
    pending = call(chain, "eth_getBlockByNumber", "pending")
    assert pending["transactions"] == [to_hex(other)]
    assert pending["baseFeePerGas"] == hex(asked)
    assert call(chain, "txpool_status") == {"pending": "0x3", "queued": "0x0"}
    chain.mine()
    assert [chain.receipt(each) is not None for each in (other, low, behind)] == [
        True,
        False,
        False,
    ]
    chain.automine = True
    chain.mine_ready()  # nothing can be mined: it must not mine empty blocks until something can
    assert chain.head.number == 2
    chain.mine()
    assert chain.head.base_fee == next_by_eip_1559(asked, 21_000)
    assert chain.head.gas_used == 0
    chain.mine_ready()
    first, second = chain.receipt(low), chain.receipt(behind)
    assert first is not None
    assert second is not None
    assert (first.transaction_index, second.transaction_index) == (0, 1)


def test_the_highest_tip_is_mined_first() -> None:
    chain = paid_chain(automine=False)
    senders = [account.address for account in chain.accounts]
    sent = [
        chain.send(
            CallRequest(
                sender=sender, to=POOR, gas=21_000, max_fee_wei=most, max_priority_fee_wei=tip
            )
        )
        for sender, most, tip in zip(
            senders, (9 * GWEI, GWEI, 9 * GWEI), (GWEI, GWEI, 2 * GWEI), strict=True
        )
    ]
    call(chain, "anvil_mine")
    block = chain.block(chain.head.number)
    assert block is not None
    # The second one's cap leaves 0.1 gwei for the tip that it promises.
    assert [each.hash for each in block.transactions] == [sent[2], sent[0], sent[1]]
    assert call(chain, "anvil_nodeInfo")["transactionOrder"] == "fees"


def test_the_price_that_is_told_is_enough_also_after_a_full_block() -> None:
    chain = paid_chain()
    probe = deploy(chain)
    burn_gas(chain, probe, GAS_LIMIT)
    price = int(call(chain, "eth_gasPrice"), 16)
    assert price == chain.next_base_fee + int(call(chain, "eth_maxPriorityFeePerGas"), 16)
    assert chain.next_base_fee > chain.head.base_fee
    receipt = chain.receipt(chain.submit(signed(chain, gasPrice=price)))
    assert receipt is not None
    assert receipt.gas_price_wei == price
    environment = call(chain, "anvil_nodeInfo")["environment"]
    assert environment["baseFee"] == hex(chain.next_base_fee)
    assert environment["gasPrice"] == call(chain, "eth_gasPrice")
    status = call(chain, "farthing_status")
    assert (status["base_fee_wei"], status["base_fee_moves"]) == (chain.next_base_fee, True)


def test_the_tip_that_is_told_is_what_was_paid_lately() -> None:
    chain = paid_chain()

    def told() -> int:
        return int(call(chain, "eth_maxPriorityFeePerGas"), 16)

    assert told() == TIP_DEFAULT_WEI
    for _ in range(9):
        chain.submit(priced(chain, 9 * GWEI, 3 * GWEI))
    assert told() == 3 * GWEI
    chain.submit(priced(chain, 9 * GWEI, 1))  # a tip of 1 wei says nothing
    assert told() == 3 * GWEI
    chain.mine(20)
    assert told() == TIP_DEFAULT_WEI
    chain.coinbase = chain.accounts[0].address
    for _ in range(9):
        chain.submit(priced(chain, 9 * GWEI, 3 * GWEI))  # what a miner pays itself says nothing
    assert told() == TIP_DEFAULT_WEI
    chain.coinbase = MINER
    for _ in range(20):
        chain.submit(priced(chain, 2 * TIP_MAX_WEI, TIP_MAX_WEI + 1))
    assert told() == TIP_MAX_WEI


def test_the_fee_history_ends_with_what_the_next_block_asks_for() -> None:
    chain = paid_chain()
    probe = deploy(chain)
    chain.submit(priced(chain, 9 * GWEI, 3 * GWEI))
    burn_gas(chain, probe, GAS_LIMIT)
    newest = chain.head.number
    fees = [chain.base_fee_after(number) for number in range(newest - 2, newest + 1)]
    history = call(chain, "eth_feeHistory", 2, "latest", [50])
    assert history["baseFeePerGas"] == [hex(fee) for fee in fees]
    assert history["gasUsedRatio"] == [21_000 / GAS_LIMIT, 1.0]
    assert history["reward"][0] == [hex(3 * GWEI)]
    assert fees[2] == chain.next_base_fee == fees[1] * 9 // 8
    older = call(chain, "eth_feeHistory", 1, hex(newest - 1))
    assert older["baseFeePerGas"] == [hex(fee) for fee in fees[:2]]
    assert call(chain, "eth_feeHistory", 1, "0x0")["baseFeePerGas"] == [
        hex(GWEI),
        hex(GWEI * 7 // 8),
    ]


CODE = "0x485f523a60205260405ff3"
"""Returns BASEFEE and GASPRICE."""


def seen_fees(chain: DevChain, block: str = "latest", **fees: int) -> tuple[int, int]:
    """What a contract sees as base fee and gas price."""
    sender = to_hex(chain.accounts[0].address)
    request = {"from": sender, "to": to_hex(POOR)} | {name: hex(fee) for name, fee in fees.items()}
    answer = call(chain, "eth_call", request, block, {to_hex(POOR): {"code": CODE}})
    return int(answer[2:66], 16), int(answer[66:], 16)


def test_a_call_that_names_no_price_is_free_and_one_that_does_is_held_to_it() -> None:
    chain = paid_chain()
    base_fee, price = chain.head.base_fee, chain.head.base_fee + 9
    assert seen_fees(chain) == (0, 0)
    assert seen_fees(chain, gasPrice=price) == (base_fee, price)
    assert seen_fees(chain, "pending", gasPrice=price)[0] == chain.next_base_fee
    assert seen_fees(chain, maxFeePerGas=2 * price, maxPriorityFeePerGas=4) == (
        base_fee,
        base_fee + 4,
    )
    rich = {"from": to_hex(chain.accounts[0].address)}
    for fees, text in (
        ({"gasPrice": hex(base_fee - 1)}, "max fee per gas less than block base fee"),
        ({"maxPriorityFeePerGas": "0x1"}, "max priority fee per gas higher than max fee per gas"),
        ({"gasPrice": hex(10**18)}, "insufficient funds for gas * price + value"),
    ):
        assert text in refusal(chain, "eth_call", {**rich, **fees})["message"]
    both = {"gasPrice": hex(price), "maxFeePerGas": hex(price)}
    assert refusal(chain, "eth_call", both)["code"] == -32602


def test_a_call_pays_what_it_offers() -> None:
    """BALANCE(ORIGIN) within the call: gas was bought before it began."""
    chain = paid_chain()
    alice = to_hex(chain.accounts[0].address)
    state = {to_hex(POOR): {"code": "0x32315f5260205ff3"}}
    price = 2 * chain.head.base_fee
    request = {"from": alice, "to": to_hex(POOR), "gas": hex(50_000)}
    free = call(chain, "eth_call", request, "latest", state)
    paid = call(chain, "eth_call", {**request, "gasPrice": hex(price)}, "latest", state)
    assert int(free, 16) - int(paid, 16) == 50_000 * price


def test_an_estimate_is_no_more_than_its_sender_can_pay_for() -> None:
    chain = paid_chain()
    probe = to_hex(deploy(chain))
    price = 2 * chain.next_base_fee
    request = {"from": to_hex(POOR), "to": probe, "gasPrice": hex(price)}
    request["data"] = to_hex(calldata("note(uint256,uint256)", 1, 2))
    needed = int(call(chain, "eth_estimateGas", {**request, "gasPrice": "0x0"}), 16)
    for gas, enough in ((needed, True), (needed - 1, False), (20_000, False), (0, False)):
        call(chain, "anvil_setBalance", to_hex(POOR), hex(gas * price))
        if enough:
            assert int(call(chain, "eth_estimateGas", request), 16) == needed
        else:
            error = refusal(chain, "eth_estimateGas", request)
            assert error["message"] == f"gas required exceeds allowance ({gas})"
    below = refusal(chain, "eth_estimateGas", {**request, "gasPrice": "0x1"})
    assert "max fee per gas less than block base fee" in below["message"]


def test_the_devnet_fills_in_fees_that_survive_a_base_fee_that_doubles() -> None:
    chain = paid_chain(automine=False)
    alice, bob, _ = (to_hex(account.address) for account in chain.accounts)

    def sent(**fields: str) -> dict[str, Any]:
        name = call(chain, "eth_sendTransaction", {"from": alice, "to": bob, **fields})
        found: dict[str, Any] = call(chain, "eth_getTransactionByHash", name)
        return found

    base_fee, tip = chain.next_base_fee, TIP_DEFAULT_WEI
    plain = sent()
    fees = plain["type"], plain["maxFeePerGas"], plain["maxPriorityFeePerGas"]
    assert fees == ("0x2", hex(2 * base_fee + tip), hex(tip))
    capped = sent(maxFeePerGas=hex(base_fee + 1))
    assert capped["maxPriorityFeePerGas"] == hex(tip)
    assert sent(maxFeePerGas="0x5", gas="0x5208")["maxPriorityFeePerGas"] == "0x5"
    assert sent(maxPriorityFeePerGas="0x7")["maxFeePerGas"] == hex(2 * base_fee + 7)
    legacy = sent(gasPrice=hex(GWEI))
    assert (legacy["type"], legacy["gasPrice"]) == ("0x0", hex(GWEI))
    listed = sent(gasPrice=hex(GWEI), accessList=[{"address": bob, "storageKeys": []}])  # type: ignore[arg-type]
    assert (listed["type"], listed["accessList"][0]["address"]) == ("0x1", bob)


def test_an_impersonated_account_pays_as_others_do() -> None:
    chain = paid_chain()
    poor = to_hex(POOR)
    call(chain, "anvil_impersonateAccount", poor)
    chain.allow([POOR])
    request = {"from": poor, "to": poor}
    assert "exceeds allowance (0)" in refusal(chain, "eth_sendTransaction", request)["message"]
    call(chain, "anvil_setBalance", poor, hex(10**18))
    receipt = call(chain, "eth_getTransactionReceipt", call(chain, "eth_sendTransaction", request))
    paid = 21_000 * int(receipt["effectiveGasPrice"], 16)
    assert int(receipt["effectiveGasPrice"], 16) > chain.head.base_fee
    assert chain.balance(POOR) == 10**18 - paid


def test_a_folder_remembers_whether_gas_is_free(tmp_path: Path) -> None:
    chain = paid_chain(folder=tmp_path / "paid")
    chain.mine(2)
    head = chain.head
    chain.close()
    for wrong, text in ((0, "a base fee of 0 for ever"), (2, "a base fee that moves from 2 wei")):
        with pytest.raises(errors.OtherBaseFee, match=f"moves from {GWEI} wei, not with {text}"):
            made_chain(folder=tmp_path / "paid", base_fee_wei=wrong)
    for same in (None, GWEI):
        chain = made_chain(folder=tmp_path / "paid", base_fee_wei=same)
        assert chain.head == head
        assert chain.next_base_fee == next_by_eip_1559(head.base_fee, 0)
        chain.close()
    free = made_chain(folder=tmp_path / "free")
    with free._store.writing():  # as in a folder that an older version wrote
        free._store._connection.execute("DELETE FROM setting WHERE name = 'base fee'")
    free.close()
    with pytest.raises(errors.OtherBaseFee, match="leave --base-fee and --gas-price away"):
        made_chain(folder=tmp_path / "free", base_fee_wei=GWEI)
    again = made_chain(folder=tmp_path / "free", base_fee_wei=0)
    assert (again.moving_base_fee, again.next_base_fee) == (False, 0)


@pytest.mark.parametrize("wrong", [-1, 10**15 + 1])
def test_a_base_fee_out_of_bounds_is_refused(wrong: int) -> None:
    with pytest.raises(errors.BadSetting, match="give 0 for free gas, or up to 1000000000000000"):
        made_chain(base_fee_wei=wrong)


def test_the_genesis_hash_depends_on_the_base_fee() -> None:
    hashes = {made_chain(base_fee_wei=fee).genesis_hash for fee in (None, 0, GWEI, 2 * GWEI)}
    assert len(hashes) == 3


def test_the_next_base_fee_is_set_for_one_block_and_goes_on_from_there() -> None:
    chain = paid_chain()
    assert call(chain, "hardhat_setNextBlockBaseFeePerGas", hex(80 * GWEI)) is None
    assert chain.next_base_fee == 80 * GWEI
    assert call(chain, "eth_getBlockByNumber", "pending")["baseFeePerGas"] == hex(80 * GWEI)
    assert refusal(chain, "eth_sendRawTransaction", to_hex(priced(chain, 79 * GWEI)))
    chain.submit(priced(chain, 80 * GWEI))
    assert chain.head.base_fee == 80 * GWEI
    assert chain.next_base_fee == next_by_eip_1559(80 * GWEI, 21_000)
    trace = call(chain, "debug_traceBlockByNumber", "latest", {"tracer": "callTracer"})
    assert trace[0]["result"]["gasUsed"] == hex(21_000)
    snapshot = call(chain, "evm_snapshot")
    call(chain, "anvil_setNextBlockBaseFeePerGas", "0x5")
    call(chain, "evm_revert", snapshot)
    assert chain.next_base_fee == next_by_eip_1559(80 * GWEI, 21_000)
    assert refusal(chain, "anvil_setNextBlockBaseFeePerGas", hex(10**15 + 1))["code"] == -32602


def test_a_reorganisation_asks_for_what_the_new_blocks_say() -> None:
    chain = paid_chain()
    probe = deploy(chain)
    burn_gas(chain, probe, GAS_LIMIT)
    chain.submit(priced(chain, 9 * GWEI, nonce=2))
    before = chain.head.base_fee
    reorganise(chain, 2, Fate.DROPPED)
    parent = chain.header(chain.head.number - 1)
    assert parent is not None
    assert chain.head.base_fee == next_by_eip_1559(parent.base_fee, 0) < before
    assert reimported(chain).get_canonical_head().hash == chain.head.hash
