"""JSON-RPC over a chain in the same process: web3.py's view, every error code, bad parameters."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3
from web3.exceptions import ContractCustomError, ContractLogicError, Web3RPCError

from farthing.channels.ids import to_hex
from farthing.devnet.accounts import BALANCE_WEI, dev_accounts
from farthing.devnet.chain import DevChain
from farthing.devnet.evm import GAS_LIMIT, DevnetVM
from farthing.devnet.methods import METHODS
from farthing.devnet.provider import ChainProvider
from farthing.devnet.records import CallRequest
from farthing.devnet.rpc import Rpc

from .devnet_probe import Wall, act, calldata, chains_closed, compiled, deploy, made_chain

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
UNKNOWN = "0x" + "ab" * 32
ALICE = dev_accounts(1)[0].checksum_address


def call(chain: DevChain, method: str, *params: object) -> Any:
    """The result of a call that must succeed."""
    answer = Rpc(chain).answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": [*params]})
    assert answer is not None
    assert "error" not in answer, answer
    return answer["result"]


def refusal(chain: DevChain, method: str, *params: object) -> dict[str, Any]:
    """The error of a call that must be refused."""
    answer = Rpc(chain).answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": [*params]})
    assert answer is not None
    error = answer["error"]
    assert isinstance(error, dict)
    return error


def raw(chain: DevChain, **changes: Any) -> str:
    """A signed transfer from the first account, as hex."""
    alice, bob, *_ = chain.accounts
    fields: dict[str, Any] = {
        "chainId": chain.chain_id,
        "nonce": 0,
        "gas": 21_000,
        "value": 1,
        "to": bob.address,
        **changes,
    }
    if "maxFeePerGas" not in fields and "gasPrice" not in fields:
        fields["gasPrice"] = 0
    fields = {name: value for name, value in fields.items() if value is not None}
    return to_hex(bytes(alice.signer().sign_transaction(fields).raw_transaction))


def web3_of(chain: DevChain) -> Any:
    """A web3.py on the chain; its own types are stricter than what a test writes."""
    return Web3(ChainProvider(chain))


def web3_probe(w3: Any) -> Any:
    """The probe, deployed by web3.py."""
    code, abi = compiled()
    factory = w3.eth.contract(abi=abi, bytecode=code)
    sent = factory.constructor().transact({"from": w3.eth.accounts[0]})
    receipt = w3.eth.wait_for_transaction_receipt(sent)
    assert receipt["status"] == 1
    return w3.eth.contract(address=receipt["contractAddress"], abi=abi)


# web3.py


def test_web3_deploys_sends_calls_and_reads_events() -> None:
    w3 = web3_of(made_chain())
    assert w3.is_connected()
    alice, bob, _ = w3.eth.accounts
    probe = web3_probe(w3)
    for topic in (1, 2):
        sent = probe.functions.note(topic, 10 * topic).transact({"from": alice})
        assert w3.eth.wait_for_transaction_receipt(sent)["gasUsed"] > 21_000
    assert probe.functions.amount().call() == 20
    assert probe.functions.pay().call({"from": bob, "value": 5}) == 5
    events = probe.events.Noted().get_logs(from_block=0, argument_filters={"topic": 2})
    assert [(event["args"]["who"], event["args"]["amount"]) for event in events] == [(alice, 20)]
    assert probe.functions.amount().call(block_identifier=w3.eth.block_number - 1) == 10


def test_web3_decodes_reverts_with_a_reason_without_one_and_with_a_custom_error() -> None:
    w3 = web3_of(made_chain())
    probe = web3_probe(w3)
    with pytest.raises(ContractLogicError, match="execution reverted: probe: refused"):
        probe.functions.refuse().call()
    with pytest.raises(ContractLogicError, match="execution reverted"):
        probe.functions.refuse_silently().call()
    with pytest.raises(ContractCustomError) as custom:
        probe.functions.refuse_with_numbers(3, 4).call()
    assert custom.value.data == to_hex(calldata("TooFew(uint256,uint256)", 3, 4))
    with pytest.raises(Web3RPCError, match="invalid opcode"):
        probe.functions.break_down().call()
    with pytest.raises(ContractLogicError, match="probe: refused"):
        probe.functions.refuse().transact({"from": w3.eth.accounts[0]})


def test_web3_builds_signs_and_sends_a_transaction_with_fees_it_chose_itself() -> None:
    chain = made_chain()
    w3 = web3_of(chain)
    alice, bob, _ = chain.accounts
    built = {
        "from": alice.checksum_address,
        "to": bob.checksum_address,
        "value": 7,
        "nonce": w3.eth.get_transaction_count(alice.checksum_address, "pending"),
        "chainId": w3.eth.chain_id,
        "maxFeePerGas": w3.eth.max_priority_fee + 2 * w3.eth.get_block("pending")["baseFeePerGas"],
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
    }
    built["gas"] = w3.eth.estimate_gas(built)
    sent = w3.eth.send_raw_transaction(alice.signer().sign_transaction(built).raw_transaction)
    receipt = w3.eth.wait_for_transaction_receipt(sent)
    assert receipt["effectiveGasPrice"] == 0
    assert w3.eth.get_balance(bob.checksum_address) == BALANCE_WEI + 7
    assert w3.eth.get_balance(alice.checksum_address) == BALANCE_WEI - 7


def test_web3_reads_blocks_with_hashes_and_with_whole_transactions() -> None:
    chain = made_chain(automine=False)
    w3 = web3_of(chain)
    sent = [w3.eth.send_transaction({"from": who, "to": who}) for who in w3.eth.accounts]
    pending = w3.eth.get_block("pending")
    assert pending["transactions"] == sent
    assert pending["number"] == w3.eth.block_number + 1
    assert w3.eth.get_transaction(sent[0]).get("blockHash") is None
    chain.mine()
    block = w3.eth.get_block("latest")
    full = w3.eth.get_block(block["hash"], full_transactions=True)
    assert block["transactions"] == sent
    assert [each["hash"] for each in full["transactions"]] == sent
    assert [each["transactionIndex"] for each in full["transactions"]] == [0, 1, 2]
    assert block["parentHash"] == w3.eth.get_block(block["number"] - 1)["hash"]
    assert w3.eth.get_block_transaction_count(block["number"]) == 3
    assert w3.eth.get_transaction_by_block(block["hash"], 2)["hash"] == sent[2]
    receipts = w3.eth.get_block_receipts(block["number"])
    assert [each["transactionHash"] for each in receipts] == sent
    assert [each["cumulativeGasUsed"] for each in receipts] == [21_000, 42_000, 63_000]


# Transactions


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (0, {"gasPrice": 5}),
        (1, {"type": 1, "gasPrice": 5, "gas": 30_000, "accessList": []}),
        (1, {"type": 1, "gasPrice": 5, "gas": 30_000, "accessList": "some"}),
        (2, {"type": 2, "maxFeePerGas": 9, "maxPriorityFeePerGas": 5}),
    ],
)
def test_each_type_of_transaction_is_mined_and_shown_as_it_was_sent(
    kind: int, fields: dict[str, Any]
) -> None:
    chain = made_chain()
    alice, bob, _ = chain.accounts
    entries = [{"address": bob.checksum_address, "storageKeys": ["0x" + "11" * 32]}]
    if fields.get("accessList") == "some":
        fields = {**fields, "accessList": entries}
    sent = raw(chain, **fields)
    shown = call(chain, "eth_getTransactionByHash", call(chain, "eth_sendRawTransaction", sent))
    receipt = call(chain, "eth_getTransactionReceipt", shown["hash"])
    assert shown["type"] == receipt["type"] == hex(kind)
    assert shown["gasPrice"] == receipt["effectiveGasPrice"] == "0x5"
    assert shown["from"] == receipt["from"] == to_hex(alice.address)
    assert (shown["nonce"], shown["value"], shown["input"]) == ("0x0", "0x1", "0x")
    assert shown["chainId"] == hex(chain.chain_id)
    assert receipt["status"] == "0x1"
    assert receipt["contractAddress"] is None
    listed = fields.get("accessList") or []
    if kind:
        assert [each["storageKeys"] for each in shown["accessList"]] == [
            each["storageKeys"] for each in listed
        ]
        assert int(receipt["gasUsed"], 16) == 21_000 + len(listed) * (2_400 + 1_900)
        assert shown["yParity"] == shown["v"]
    if kind == 2:
        assert (shown["maxFeePerGas"], shown["maxPriorityFeePerGas"]) == ("0x9", "0x5")


def test_a_receipt_has_its_own_gas_its_logs_and_its_bloom() -> None:
    chain = made_chain()
    probe = deploy(chain)
    receipt = act(chain, probe, "note_many(uint256)", 3)
    shown = call(chain, "eth_getTransactionReceipt", to_hex(receipt.transaction.hash))
    assert [int(log["logIndex"], 16) for log in shown["logs"]] == [0, 1, 2]
    assert all(log["address"] == to_hex(probe) for log in shown["logs"])
    assert int(shown["logsBloom"], 16) != 0
    block = call(chain, "eth_getBlockByNumber", "latest", False)
    assert block["logsBloom"] == shown["logsBloom"]
    assert block["receiptsRoot"] != block["transactionsRoot"]
    deployed = call(chain, "eth_getBlockReceipts", "0x2")[0]
    assert deployed["contractAddress"] == to_hex(probe)
    assert deployed["to"] is None


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"chainId": 1}, -32000, "invalid chain id for signer: have 1, want 20262026"),
        ({"chainId": None}, -32000, "invalid chain id for signer: have none"),
        ({"gas": 20_999}, -32000, "intrinsic gas too low: have 20999, want 21000"),
        (
            {"data": b"\x01" * 100, "gas": 22_600},
            -32000,
            "intrinsic gas too low: have 22600, want 25000",
        ),
        ({"gas": GAS_LIMIT + 1}, -32000, "exceeds block gas limit"),
        ({"value": BALANCE_WEI + 1}, -32000, "insufficient funds for gas * price + value"),
        (
            {"gasPrice": 10**18, "value": 0},
            -32000,
            "insufficient funds for gas * price + value",
        ),
        ({"nonce": 5_000}, -32000, "nonce too high: next nonce 0, tx nonce 5000"),
        (
            {"type": 2, "maxFeePerGas": 1, "maxPriorityFeePerGas": 2},
            -32000,
            "max priority fee per gas higher than max fee per gas",
        ),
        (
            {"to": None, "data": b"\x00" * 49_153, "gas": GAS_LIMIT},
            -32000,
            "init code size 49153, limit 49152",
        ),
        ({"data": b"\x00" * 525_000, "gas": GAS_LIMIT}, -32000, "oversized data: transaction size"),
    ],
)
def test_a_transaction_that_can_never_be_mined_is_refused_with_its_reason(
    changes: dict[str, Any], code: int, text: str
) -> None:
    chain = made_chain()
    error = refusal(chain, "eth_sendRawTransaction", raw(chain, **changes))
    assert error["code"] == code
    assert text in error["message"]
    assert chain.head.number == 1


def test_a_used_nonce_is_refused() -> None:
    chain = made_chain()
    call(chain, "eth_sendRawTransaction", raw(chain))
    error = refusal(chain, "eth_sendRawTransaction", raw(chain, value=2))
    assert (error["code"], error["message"]) == (-32000, "nonce too low: next nonce 1, tx nonce 0")


def test_a_malleable_signature_is_refused() -> None:
    chain = made_chain()
    builder = DevnetVM.get_transaction_builder()
    decoded = builder.decode(bytes.fromhex(raw(chain)[2:]))
    flipped = decoded.copy(
        s=SECP256K1_N - decoded.s,
        v=2 * (2 * chain.chain_id + 35) + 1 - decoded.v,  # type: ignore[attr-defined]
    )
    error = refusal(chain, "eth_sendRawTransaction", to_hex(flipped.encode()))
    assert error["code"] == -32000
    assert "s is too high" in error["message"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0x", -32602),
        ("0xc0", -32602),
        ("0x02", -32602),
        ("0x00c0", -32602),
        ("0xb801", -32602),
        ("0x02c0", -32602),
        ("0xf8", -32602),
        ("0xffffffffffffffff", -32602),
        ("0x" + "c1" * 2_000, -32602),
        ("0x03c0", -32000),
        ("0x04c0", -32602),
        ("0x05c0", -32000),
        ("0x7f", -32000),
        ("deadbeef", -32602),
        ("0xabc", -32602),
        ("0xzz", -32602),
        (None, -32602),
        (5, -32602),
        ([], -32602),
    ],
)
def test_bytes_that_are_no_transaction_are_refused(text: object, code: int) -> None:
    error = refusal(made_chain(), "eth_sendRawTransaction", text)
    assert error["code"] == code


@pytest.mark.parametrize("nest", ["c1" * 260_000, "f9ffff" * 100_000])
def test_deeply_nested_bytes_are_refused_and_do_not_exhaust_the_stack(nest: str) -> None:
    for start in ("0x", "0x02"):
        assert refusal(made_chain(), "eth_sendRawTransaction", start + nest)["code"] == -32602


def test_a_truncated_a_longer_and_a_damaged_transaction_are_refused() -> None:
    chain = made_chain()
    good = raw(chain, type=2, maxFeePerGas=0, maxPriorityFeePerGas=0)
    for damaged in (good[:-2], good + "00", good[:-64] + "00" * 32, good[:-130] + "ff" * 65):
        assert refusal(chain, "eth_sendRawTransaction", damaged)["code"] in (-32602, -32000, -32007)
    assert chain.head.number == 1


def test_an_unknown_sender_is_refused_as_besu_refuses_it() -> None:
    chain = made_chain()
    stranger = Account.from_key(b"\x09" * 32)
    fields = {
        "chainId": chain.chain_id,
        "nonce": 0,
        "gas": 21_000,
        "gasPrice": 0,
        "to": "0x" + "11" * 20,
    }
    sent = to_hex(bytes(stranger.sign_transaction(fields).raw_transaction))
    error = refusal(chain, "eth_sendRawTransaction", sent)
    assert error["code"] == -32007
    assert error["message"] == "Sender account not authorized to send transactions"
    assert stranger.address in error["data"]
    assert call(chain, "perm_addAccountsToAllowlist", [stranger.address]) == "Success"
    assert stranger.address.lower() in call(chain, "perm_getAccountsAllowlist")
    call(chain, "eth_sendRawTransaction", sent)
    assert call(chain, "perm_removeAccountsFromAllowlist", [stranger.address]) == "Success"
    error = refusal(chain, "perm_removeAccountsFromAllowlist", [stranger.address])
    assert error == {
        "code": -32000,
        "message": "Cannot remove an absent account from allowlist",
    }


def test_the_devnet_signs_for_its_own_accounts_only() -> None:
    chain = made_chain()
    alice, bob, _ = chain.accounts
    sent = call(
        chain,
        "eth_sendTransaction",
        {
            "from": to_hex(alice.address),
            "to": to_hex(bob.address),
            "value": "0x5",
            "nonce": "0x0",
            "accessList": [{"address": to_hex(bob.address), "storageKeys": []}],
        },
    )
    shown = call(chain, "eth_getTransactionByHash", sent)
    assert (shown["value"], shown["blockNumber"]) == ("0x5", "0x2")
    error = refusal(chain, "eth_sendTransaction", {"from": "0x" + "11" * 20})
    assert error["code"] == -32000
    assert "use one of eth_accounts" in error["message"]
    probe = deploy(chain)
    request = {
        "from": to_hex(alice.address),
        "to": to_hex(probe),
        "data": to_hex(calldata("refuse()")),
    }
    error = refusal(chain, "eth_sendTransaction", request)
    assert (error["code"], error["message"]) == (3, "execution reverted: probe: refused")
    assert error["data"].startswith("0x08c379a0")


# Calls and state


def test_a_call_answers_with_the_revert_data_and_code_3() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    error = refusal(chain, "eth_call", {"to": probe, "data": to_hex(calldata("refuse_silently()"))})
    assert error == {"code": 3, "message": "execution reverted", "data": "0x"}
    error = refusal(chain, "eth_call", {"to": probe, "input": to_hex(calldata("break_down()"))})
    assert error == {"code": -32000, "message": "invalid opcode"}
    fields = {"to": probe, "data": to_hex(calldata("note_many(uint256)", 9)), "gas": "0x7530"}
    assert refusal(chain, "eth_call", fields) == {"code": -32000, "message": "out of gas"}


def test_a_call_that_brings_too_little_is_refused() -> None:
    chain = made_chain()
    poor = {"from": "0x" + "11" * 20, "to": "0x" + "22" * 20}
    error = refusal(chain, "eth_call", {**poor, "value": "0x1"})
    assert "insufficient funds" in error["message"]
    error = refusal(chain, "eth_call", {**poor, "gas": "0x5207"})
    assert "intrinsic gas too low: have 20999, want 21000" in error["message"]
    assert call(chain, "eth_call", poor) == "0x"
    assert call(chain, "eth_estimateGas", poor) == "0x5208"


def test_a_call_that_creates_returns_the_code() -> None:
    chain = made_chain()
    code, _ = compiled()
    answer = call(chain, "eth_call", {"data": to_hex(code)})
    probe = deploy(chain)
    assert answer == call(chain, "eth_getCode", to_hex(probe), "latest")


def test_blocks_are_named_by_number_tag_hash_and_object() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    act(chain, chain.accounts[0].address, "note(uint256,uint256)", 0, 0)
    act(chain, bytes.fromhex(probe[2:]), "note(uint256,uint256)", 0, 9)  # type: ignore[arg-type]
    head = call(chain, "eth_getBlockByNumber", "latest")
    names = (
        "latest",
        "safe",
        "finalized",
        "pending",
        None,
        head["number"],
        {"blockNumber": head["number"]},
        {"blockNumber": "latest"},
        {"blockHash": head["hash"], "requireCanonical": True},
    )
    for name in names:
        word = call(chain, "eth_getStorageAt", probe, "0x" + "00" * 32, name)
        assert int(word, 16) == 9, name
        assert (
            int(
                call(chain, "eth_call", {"to": probe, "data": to_hex(calldata("amount()"))}, name),
                16,
            )
            == 9
        )
    assert call(chain, "eth_getStorageAt", probe, "0x0", "0x2") == "0x" + "00" * 32
    assert call(chain, "eth_getCode", probe, "earliest") == "0x"
    assert call(chain, "eth_getBlockByNumber", "0x64", False) is None
    assert call(chain, "eth_getBlockByHash", UNKNOWN, False) is None
    assert call(chain, "eth_getBlockReceipts", "0x64") is None
    assert call(chain, "eth_getBlockReceipts", {"blockHash": head["hash"]}) != []
    assert call(chain, "eth_getBlockTransactionCountByHash", head["hash"]) == "0x1"
    assert call(chain, "eth_getTransactionByBlockNumberAndIndex", head["number"], "0x1") is None
    error = refusal(chain, "eth_getBalance", probe, "0x64")
    assert error["code"] == -32000
    assert "header not found: block 100 is not on this chain" in error["message"]
    assert refusal(chain, "eth_getBalance", probe, {"blockHash": UNKNOWN})["code"] == -32000


def test_unknown_transactions_are_null() -> None:
    chain = made_chain()
    assert call(chain, "eth_getTransactionByHash", UNKNOWN) is None
    assert call(chain, "eth_getTransactionReceipt", UNKNOWN) is None


def test_the_pending_count_includes_what_waits() -> None:
    chain = made_chain(automine=False)
    alice = to_hex(chain.accounts[0].address)
    for nonce in range(3):
        call(chain, "eth_sendRawTransaction", raw(chain, nonce=nonce))
    assert call(chain, "eth_getTransactionCount", alice, "latest") == "0x0"
    assert call(chain, "eth_getTransactionCount", alice, "pending") == "0x3"
    chain.mine()
    assert call(chain, "eth_getTransactionCount", alice) == "0x3"
    assert call(chain, "eth_getTransactionCount", alice, "0x1") == "0x0"


def test_the_fee_history_shows_a_free_chain_and_tips_that_were_paid() -> None:
    chain = made_chain()
    call(chain, "eth_sendRawTransaction", raw(chain, gasPrice=7))
    history = call(chain, "eth_feeHistory", "0x5", "latest", [0, 50, 100])
    assert history["oldestBlock"] == "0x0"
    assert history["baseFeePerGas"] == ["0x0"] * 4
    assert history["gasUsedRatio"] == [0, 0, 21_000 / GAS_LIMIT]
    assert history["reward"] == [["0x0"] * 3, ["0x0"] * 3, ["0x7"] * 3]
    assert "reward" not in call(chain, "eth_feeHistory", 2, "latest")
    assert call(chain, "eth_gasPrice") == call(chain, "eth_maxPriorityFeePerGas") == "0x0"


def test_small_questions_have_small_answers() -> None:
    chain = made_chain()
    assert call(chain, "eth_chainId") == hex(20_262_026)
    assert call(chain, "net_version") == "20262026"
    assert call(chain, "eth_blockNumber") == "0x1"
    assert call(chain, "eth_syncing") is False
    assert call(chain, "net_listening") is True
    assert call(chain, "net_peerCount") == "0x0"
    assert call(chain, "web3_clientVersion").startswith("farthing-devnet/v")
    assert call(chain, "web3_sha3", "0x") == (
        "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )
    accounts = [to_hex(account.address) for account in chain.accounts]
    assert call(chain, "eth_accounts") == accounts
    assert call(chain, "eth_getBalance", accounts[0], "latest") == hex(BALANCE_WEI)


# Logs


def test_logs_are_asked_for_by_range_block_address_and_topics() -> None:
    chain = made_chain()
    one, other = (to_hex(deploy(chain)) for _ in range(2))
    for probe in (one, other):
        act(chain, bytes.fromhex(probe[2:]), "note(uint256,uint256)", 7, 8)  # type: ignore[arg-type]
    seven = "0x" + (7).to_bytes(32, "big").hex()
    ranged = {"fromBlock": "0x0", "toBlock": "latest"}
    assert len(call(chain, "eth_getLogs", ranged)) == 2
    assert len(call(chain, "eth_getLogs", {**ranged, "address": one})) == 1
    assert len(call(chain, "eth_getLogs", {**ranged, "address": [one, other]})) == 2
    assert len(call(chain, "eth_getLogs", {**ranged, "topics": [None, None, seven]})) == 2
    assert len(call(chain, "eth_getLogs", {**ranged, "topics": [[], None, [seven, UNKNOWN]]})) == 2
    assert call(chain, "eth_getLogs", {**ranged, "topics": [None, None, UNKNOWN]}) == []
    newest = call(chain, "eth_getLogs", {})
    assert [log["address"] for log in newest] == [other]
    assert call(chain, "eth_getLogs", {"blockHash": newest[0]["blockHash"]}) == newest
    assert call(chain, "eth_getLogs", {"fromBlock": "0x63", "toBlock": "latest"}) == []
    assert call(chain, "eth_getLogs", {"fromBlock": "0x63"}) == []
    assert refusal(chain, "eth_getLogs", {"blockHash": UNKNOWN})["code"] == -32000
    error = refusal(chain, "eth_getLogs", {"fromBlock": "0x5", "toBlock": "0x2"})
    assert error["code"] == -32602
    assert "invalid block range: 5 is after 2" in error["message"]


# Time and mining


def test_time_and_mining_under_the_names_that_tools_use() -> None:
    wall = Wall(1_800_000_000)
    chain = made_chain(wall, automine=False)

    def timestamp() -> int:
        return int(call(chain, "eth_getBlockByNumber", "latest")["timestamp"], 16)

    assert call(chain, "evm_increaseTime", 100) == hex(100)
    assert call(chain, "evm_increaseTime", "0x64") == hex(200)
    assert call(chain, "evm_mine") == "0x0"
    assert timestamp() == 1_800_000_200
    assert call(chain, "evm_setNextBlockTimestamp", "1800001000") is None
    assert call(chain, "evm_mine", None) == "0x0"
    assert timestamp() == 1_800_001_000
    assert call(chain, "evm_mine", 1_800_002_000) == "0x0"
    assert call(chain, "evm_mine", {"timestamp": 1_800_003_000}) == "0x0"
    assert timestamp() == 1_800_003_000
    before = chain.head.number
    assert call(chain, "anvil_mine") is None
    assert call(chain, "anvil_mine", "0x5", "0xa") is None
    assert chain.head.number == before + 6
    assert timestamp() == 1_800_003_000 + 2 + 4 * 10
    assert "use anvil_mine" in refusal(chain, "evm_mine", {"blocks": 3})["message"]
    assert refusal(chain, "evm_setNextBlockTimestamp", 5)["code"] == -32602
    assert refusal(chain, "anvil_mine", 0)["code"] == -32602
    assert refusal(chain, "anvil_mine", 5, 0)["code"] == -32602
    assert refusal(chain, "evm_increaseTime", -5)["code"] == -32602


# Bad requests

BAD_PARAMS: list[tuple[str, list[object], str]] = [
    ("eth_getBalance", [], "missing value for required argument 0"),
    ("eth_getBalance", ["0x12", "latest"], "invalid argument 0: '0x12' is 1 bytes long, want 20"),
    ("eth_getBalance", ["0x" + "11" * 20, "newest"], "invalid argument 1: 'newest' is not a block"),
    ("eth_getBalance", ["0x" + "11" * 20, 5], "invalid argument 1: 5 is not a block"),
    ("eth_getBalance", ["0x" + "11" * 20, "0x05"], "is not a block"),
    ("eth_getBalance", ["0x" + "11" * 20, {}], "names no block"),
    ("eth_getBalance", ["0x" + "11" * 20, {"blockNumber": {}}], "names no block"),
    ("eth_getBalance", ["0x" + "11" * 20, "0x1" + "0" * 16], "larger than 64 bits"),
    ("eth_getBalance", ["0x" + "11" * 20, "latest", 1], "too many arguments, want at most 2"),
    ("eth_getStorageAt", ["0x" + "11" * 20, "0x"], "is not a storage position"),
    ("eth_getBlockByNumber", ["latest", "yes"], "'yes' is not true or false"),
    ("eth_getBlockByHash", ["0x11", False], "is 1 bytes long, want 32"),
    ("eth_call", [[]], "is not an object"),
    ("eth_call", [{"to": "alice"}], "to: 'alice' is not hex data"),
    ("eth_call", [{"value": -1}], "value: -1 is not a hex number"),
    ("eth_call", [{"value": "0x" + "f" * 65}], "is not a hex number"),
    ("eth_call", [{"data": "0x1", "to": "0x" + "11" * 20}], "whole bytes"),
    ("eth_call", [{"data": "0x11", "input": "0x22"}], "are set and not equal"),
    ("eth_call", [{"accessList": [1]}], "accessList: 1 is not an object"),
    ("eth_call", [{"accessList": [{}]}], "accessList: None is not hex data"),
    ("eth_getLogs", [{"topics": [None] * 5}], "has 5 entries, want at most 4"),
    ("eth_getLogs", [{"topics": "0x"}], "is not a list"),
    ("eth_getLogs", [{"address": 7}], "address: 7 is not hex data"),
    ("eth_getLogs", [{"address": ["0x" + "11" * 20] * 1_001}], "want at most 1000"),
    ("eth_getLogs", [{"blockHash": UNKNOWN, "fromBlock": "0x1"}], "goes without fromBlock"),
    ("eth_feeHistory", ["0x1", "latest", [50, 10]], "do not rise"),
    ("eth_feeHistory", ["0x1", "latest", [101]], "not a percentile"),
    ("eth_feeHistory", ["0x1", "latest", [True]], "not a percentile"),
    ("evm_increaseTime", [True], "is not a hex number"),
    ("evm_increaseTime", [1.5], "is not a hex number"),
    ("perm_addAccountsToAllowlist", ["0x" + "11" * 20], "is not a list"),
    ("perm_addAccountsToAllowlist", [["0x11"]], "want 20"),
]


@pytest.mark.parametrize(("method", "params", "text"), BAD_PARAMS)
def test_bad_parameters_are_refused_naming_the_argument(
    method: str, params: list[object], text: str
) -> None:
    error = refusal(made_chain(), method, *params)
    assert error["code"] == -32602
    assert text in error["message"]


def test_a_method_that_is_not_served_is_refused_with_a_sentence() -> None:
    chain = made_chain()
    error = refusal(chain, "eth_getBalanceOf", "0x")
    assert error["code"] == -32601
    assert "does not exist/is not available" in error["message"]
    assert "did you mean eth_getBalance?" in error["message"]
    error = refusal(chain, "eth_subscribe", "newHeads")
    assert error["code"] == -32601
    assert "connect by WebSocket" in error["message"]


@pytest.mark.parametrize(
    ("request_object", "code"),
    [
        (None, -32600),
        (5, -32600),
        ("eth_chainId", -32600),
        ([], -32600),
        ({}, -32600),
        ({"id": 1, "method": 5}, -32600),
        ({"id": [], "method": "eth_chainId"}, -32600),
        ({"id": True, "method": "eth_chainId"}, -32600),
        ({"id": 1, "method": "eth_chainId", "params": {"a": 1}}, -32602),
        ({"id": 1, "method": "eth_chainId", "params": "x"}, -32602),
    ],
)
def test_what_is_no_request_is_refused(request_object: object, code: int) -> None:
    answer = Rpc(made_chain()).answer(request_object)
    if request_object == {}:
        # Without an id it could be a notification, but it names no method either.
        assert answer is None or answer["error"]["code"] == code  # type: ignore[index]
        return
    assert answer is not None
    assert answer["error"]["code"] == code  # type: ignore[index]


def test_the_id_comes_back_as_it_was_and_a_notification_has_no_answer() -> None:
    rpc = Rpc(made_chain())
    for request_id in (1, 0, "a", None, 1.5):
        answer = rpc.answer({"id": request_id, "method": "eth_chainId"})
        assert answer == {"jsonrpc": "2.0", "id": request_id, "result": hex(20_262_026)}
    assert rpc.answer({"method": "eth_chainId"}) is None


def test_a_fault_of_the_devnet_itself_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chain = made_chain()
    monkeypatch.setattr(chain, "balance", lambda *_: 1 / 0)
    error = refusal(chain, "eth_getBalance", "0x" + "11" * 20)
    assert error["code"] == -32603
    assert "internal error in eth_getBalance: ZeroDivisionError" in error["message"]
    assert "eth_getBalance failed" in caplog.text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [
            *("latest", "pending", "0x", "0x0", "0x1", "0x5208", "0xf" + "0" * 63),
            *(ALICE, "0x" + "11" * 20, UNKNOWN),
        ]
    )
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("from", "to", "data", "gas", "gasPrice", "maxFeePerGas", "value", "nonce"),
                    *("accessList", "blockHash", "fromBlock", "toBlock", "topics", "address"),
                    *("timestamp", "blockNumber"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
# Mining on purpose is left out: ten thousand blocks are a lawful answer to some numbers.
FUZZED = sorted(set(METHODS) - {"anvil_mine", "hardhat_mine"})


@given(method=st.sampled_from(FUZZED), params=st.lists(json_values, max_size=4))
def test_no_parameters_whatever_break_the_devnet(method: str, params: list[object]) -> None:
    chain = made_chain()
    try:
        answer = Rpc(chain).answer({"id": 1, "method": method, "params": params})
        assert answer is not None
        error = answer.get("error")
        assert error is None or error["code"] != -32603, error  # type: ignore[index]
    finally:
        chain.close()


@given(data=st.binary(max_size=200), kind=st.sampled_from([b"", b"\x01", b"\x02", b"\xf8"]))
def test_no_bytes_whatever_break_the_reading_of_transactions(data: bytes, kind: bytes) -> None:
    chain = made_chain()
    try:
        error = refusal(chain, "eth_sendRawTransaction", to_hex(kind + data))
        assert error["code"] in (-32602, -32000, -32007)
    finally:
        chain.close()


@given(place=st.integers(0, 10_000), value=st.integers(0, 255), kind=st.sampled_from([0, 1, 2]))
def test_no_changed_byte_breaks_the_reading_of_transactions(
    place: int, value: int, kind: int
) -> None:
    chain = made_chain()
    try:
        fields: dict[int, dict[str, Any]] = {
            0: {},
            1: {"type": 1, "gasPrice": 0, "accessList": []},
            2: {"type": 2, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0},
        }
        sent = bytearray(bytes.fromhex(raw(chain, **fields[kind])[2:]))
        sent[place % len(sent)] = value
        answer = Rpc(chain).answer(
            {"id": 1, "method": "eth_sendRawTransaction", "params": [to_hex(bytes(sent))]}
        )
        assert answer is not None
        error = answer.get("error")
        assert error is None or error["code"] in (-32602, -32000, -32007), error  # type: ignore[index]
    finally:
        chain.close()


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_an_empty_list_in_the_place_of_a_number_is_no_transaction(kind: int) -> None:
    fields: dict[int, dict[str, Any]] = {
        0: {"gasPrice": 0, "value": 0},
        1: {"type": 1, "gasPrice": 0, "value": 0, "accessList": []},
        2: {"type": 2, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0, "value": 0},
    }
    chain = made_chain()
    try:
        sent = bytes.fromhex(raw(chain, **fields[kind])[2:])
        zeros = [place for place, byte in enumerate(sent[:40]) if byte == 0x80]
        assert zeros
        for place in zeros:
            changed = sent[:place] + b"\xc0" + sent[place + 1 :]
            error = refusal(chain, "eth_sendRawTransaction", to_hex(changed))
            assert error["code"] in (-32602, -32000)
    finally:
        chain.close()


@given(
    fields=st.dictionaries(
        st.sampled_from(["to", "data", "gas", "gasPrice", "value", "nonce", "accessList"]),
        json_values,
    ),
    method=st.sampled_from(["eth_call", "eth_estimateGas", "eth_sendTransaction"]),
)
def test_no_transaction_object_whatever_breaks_the_devnet(
    fields: dict[str, object], method: str
) -> None:
    chain = made_chain()
    try:
        answer = Rpc(chain).answer(
            {"id": 1, "method": method, "params": [{"from": ALICE, **fields}]}
        )
        assert answer is not None
        error = answer.get("error")
        assert error is None or error["code"] != -32603, error  # type: ignore[index]
    finally:
        chain.close()


def test_a_call_with_more_gas_than_a_block_holds_gets_as_much_as_a_block_holds() -> None:
    chain = made_chain()
    probe = deploy(chain)
    # An endless loop: it has to end when the gas of one block is used up.
    data = to_hex(calldata("dive()"))
    answer = call(chain, "eth_call", {"to": to_hex(probe), "data": data, "gas": "0xf" + "0" * 63})
    capped = call(chain, "eth_call", {"to": to_hex(probe), "data": data, "gas": hex(GAS_LIMIT)})
    assert answer == capped


def test_a_call_request_defaults_to_the_zero_address() -> None:
    chain = made_chain()
    assert chain.call(CallRequest(sender=chain.accounts[0].address)).succeeded


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_request_whose_id_could_not_be_answered_in_json_is_refused(number: float) -> None:
    """JSON's 1e999 is read as infinity, which JSON cannot write."""
    answer = Rpc(made_chain()).answer({"id": number, "method": "eth_chainId"})
    assert answer is not None
    assert answer["id"] is None
    assert isinstance(answer["error"], dict)
    assert answer["error"]["code"] == -32600
