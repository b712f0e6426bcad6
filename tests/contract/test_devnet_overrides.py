"""Calls that pretend another state or another block, as geth's overrides do."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode

from farthing.channels.ids import Address, to_hex
from farthing.devnet.chain import DevChain

from .devnet_probe import act, calldata, chains_closed, compiled, deploy, made_chain
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

BOB = "0x" + "b0" * 20
FIVE = "0x" + (5).to_bytes(32, "big").hex()


def word(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()


def amount(chain: DevChain, probe: Address, **override: object) -> int:
    """What the probe says its first word is, under an override of its account."""
    request = {"to": to_hex(probe), "data": to_hex(calldata("amount()"))}
    return int(call(chain, "eth_call", request, "latest", {to_hex(probe): override}), 16)


def surroundings(chain: DevChain, probe: Address, block: dict[str, object]) -> Any:
    request = {"to": to_hex(probe), "data": to_hex(calldata("surroundings()"))}
    answer = call(chain, "eth_call", request, "latest", None, block)
    types = ["uint256", "uint256", "bytes32", "uint256", "uint256", "uint256"]
    return decode(types, bytes.fromhex(answer[2:]))


def test_balance_and_nonce_are_pretended_for_one_call_only() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    request = {"from": BOB, "to": probe, "data": to_hex(calldata("pay()")), "value": "0x7"}
    assert "insufficient funds" in refusal(chain, "eth_call", request)["message"]
    rich = {BOB: {"balance": "0x7"}}
    assert int(call(chain, "eth_call", request, "latest", rich), 16) == 7
    assert int(call(chain, "eth_estimateGas", request, "latest", rich), 16) > 21_000
    assert "insufficient funds" in refusal(chain, "eth_call", request)["message"]
    assert call(chain, "eth_getBalance", BOB) == "0x0"
    # The address of what is created depends on the nonce: init code that returns it.
    create = {"from": BOB, "data": "0x305f5260205ff3"}
    addresses = {
        call(chain, "eth_call", create, "latest", {BOB: {"nonce": hex(nonce)}})
        for nonce in (0, 1, 2)
    }
    assert len(addresses) == 3


def test_code_is_pretended_where_there_is_none_and_in_the_place_of_another() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    seven = "0x60075f5260205ff3"
    for address in (BOB, probe):
        answer = call(chain, "eth_call", {"to": address}, "latest", {address: {"code": seven}})
        assert int(answer, 16) == 7
    runtime = call(chain, "eth_getCode", probe)
    request = {"to": BOB, "data": to_hex(calldata("amount()"))}
    moved = {BOB: {"code": runtime, "stateDiff": {word(0): FIVE}}}
    assert call(chain, "eth_call", request, "latest", moved) == FIVE


def test_storage_is_replaced_as_a_whole_or_slot_by_slot() -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 0, 9)
    assert amount(chain, probe) == 9
    assert amount(chain, probe, state={word(1): FIVE}) == 0
    assert amount(chain, probe, stateDiff={word(1): FIVE}) == 9
    assert amount(chain, probe, stateDiff={"0x0": FIVE}) == 5
    assert amount(chain, probe, state={"0x0": FIVE}) == 5
    assert amount(chain, probe) == 9


def test_a_pretended_word_costs_what_a_stored_one_costs() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    request = {"to": probe, "data": to_hex(calldata("note(uint256,uint256)", 1, 2))}
    fresh = int(call(chain, "eth_estimateGas", request), 16)
    diff = {probe: {"stateDiff": {word(0): FIVE}}}
    stored = int(call(chain, "eth_estimateGas", request, "latest", diff), 16)
    assert fresh - stored == 17_100  # a new word costs 20,000, another value 2,900


@pytest.mark.parametrize("fee", ["baseFee", "baseFeePerGas"])
def test_a_block_is_pretended_under_all_names(fee: str) -> None:
    chain = made_chain()
    probe = deploy(chain)
    head = chain.head
    block: dict[str, object] = {
        "number": hex(head.number),
        "time": "0x77",
        "gasLimit": "0x5208",
        fee: "0x9",
    }
    found = surroundings(chain, probe, block)
    assert found == (head.number, 0x77, head.parent_hash, 9, 0x5208, chain.chain_id)
    code = {BOB: {"code": "0x415f52446020525f60405260405ff3"}}  # COINBASE, PREVRANDAO
    for coinbase, random in (("coinbase", "random"), ("feeRecipient", "prevRandao")):
        where = {coinbase: BOB, random: FIVE}
        answer = call(chain, "eth_call", {"to": BOB}, "latest", code, where)
        assert answer == "0x" + "00" * 12 + BOB[2:] + FIVE[2:]


def test_the_hashes_of_blocks_stay_with_their_numbers() -> None:
    chain = made_chain()
    probe = deploy(chain)
    chain.mine(4)
    for number in (3, 5, chain.head.number):
        parent = chain.header(number - 1)
        assert parent is not None
        assert surroundings(chain, probe, {"number": hex(number)})[2] == parent.hash
    for number in (chain.head.number + 2, 2**60):
        assert surroundings(chain, probe, {"number": hex(number)})[2] == bytes(32)


def test_a_call_under_a_pretended_base_fee_needs_no_money() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    request = {"from": BOB, "to": probe, "data": to_hex(calldata("note(uint256,uint256)", 1, 2))}
    assert call(chain, "eth_call", request, "latest", None, {"baseFee": "0x77359400"}) == "0x"


@pytest.mark.parametrize(
    ("state", "block", "text"),
    [
        ({BOB: {"state": {}, "stateDiff": {}}}, None, 'both "state" and "stateDiff" are set'),
        ({BOB: {"movePrecompileToAddress": BOB}}, None, "cannot be overridden: give balance,"),
        ({BOB: {"balance": 5}}, None, f"{BOB}: balance: 5 is not a hex number"),
        ({BOB: {"nonce": "0x1" + "0" * 16}}, None, "larger than 64 bits"),
        ({BOB: {"state": {"0x0": "0x1"}}}, None, "state: '0x1' is not hex data"),
        ({BOB: {"stateDiff": {"x": FIVE}}}, None, "stateDiff: 'x' is not a storage position"),
        ({"bob": {}}, None, "'bob' is not hex data"),
        ({"0x" + f"{n:040x}": {} for n in range(1_001)}, None, "want at most 1000"),
        ([], None, "is not an object"),
        (None, {"blobBaseFee": "0x1"}, "cannot be overridden: give number,"),
        (None, {"number": "0x1" + "0" * 16}, "larger than 64 bits"),
        (None, {"coinbase": "0x1"}, "coinbase:"),
    ],
)
@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas"])
def test_an_override_that_makes_no_sense_is_refused(
    method: str, state: object, block: object, text: str
) -> None:
    error = refusal(made_chain(), method, {}, "latest", state, block)
    assert error["code"] == -32602
    assert text in error["message"]


def test_a_contract_is_called_that_exists_nowhere() -> None:
    """What tools do to ask many questions in one call: the code comes with the call."""
    chain = made_chain()
    code, _ = compiled()
    runtime = call(chain, "eth_call", {"data": to_hex(code)})
    request = {"to": BOB, "data": to_hex(calldata("refuse()"))}
    error = refusal(chain, "eth_call", request, "latest", {BOB: {"code": runtime}})
    assert (error["code"], error["message"]) == (3, "execution reverted: probe: refused")
