"""Transactions of type 4 (EIP-7702): accounts whose place a contract's code takes."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from eth_account import Account

from farthing.channels.ids import Address, address_from_hex, to_hex
from farthing.devnet import errors
from farthing.devnet.accounts import DevAccount
from farthing.devnet.chain import DevChain
from farthing.devnet.evm import GAS_LIMIT
from farthing.devnet.records import Receipt
from farthing.devnet.reorg import Fate, reorganise

from .devnet_probe import calldata, chains_closed, deploy, made_chain, read
from .test_devnet_chain import reimported
from .test_devnet_rpc import SECP256K1_N, call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

NOBODY = Address(bytes(20))
NOTE = calldata("note(uint256,uint256)", 1, 77)
EACH = 25_000
"""What an authorization costs; half of it comes back where the account existed."""


def authorization(
    chain: DevChain, who: DevAccount, address: Address, nonce: int = 0, **changes: int
) -> dict[str, Any]:
    """An authorization that eth-account signed, as JSON-RPC has it."""
    said = {"chainId": chain.chain_id, "address": address, "nonce": nonce}
    signed: Any = who.signer().sign_authorization(
        {**said, **{k: v for k, v in changes.items() if k in said}}
    )
    full = {**said, "yParity": signed.y_parity, "r": signed.r, "s": signed.s, **changes}
    return {name: to_hex(v) if isinstance(v, bytes) else hex(v) for name, v in full.items()}


def set_code(chain: DevChain, *given: dict[str, Any], **changes: Any) -> bytes:
    """A transaction of type 4 from the first account, signed by eth-account."""
    alice = chain.accounts[0]
    fields: dict[str, Any] = {
        "type": 4,
        "chainId": chain.chain_id,
        "nonce": chain.pending_nonce(alice.address),
        "gas": 300_000,
        "to": chain.accounts[1].address,
        "value": 0,
        "maxFeePerGas": 0,
        "maxPriorityFeePerGas": 0,
        "authorizationList": [
            {**each, **{name: int(each[name], 16) for name in ("chainId", "nonce", "r", "s")}}
            for each in given
        ],
        **changes,
    }
    return bytes(alice.signer().sign_transaction(fields).raw_transaction)


def mined(chain: DevChain, raw: bytes) -> Receipt:
    receipt = chain.receipt(chain.submit(raw))
    assert receipt is not None
    return receipt


def designator(address: Address) -> bytes:
    return bytes.fromhex("ef0100") + address


def test_an_account_runs_a_contracts_code_in_its_own_place() -> None:
    chain = made_chain()
    alice, bob, carol = chain.accounts
    probe = deploy(chain)
    given = authorization(chain, bob, probe)
    receipt = mined(chain, set_code(chain, given, data=NOTE))
    assert (receipt.succeeded, receipt.transaction.kind) == (True, 4)
    assert [log.address for log in receipt.logs] == [bob.address]
    assert chain.code(bob.address) == designator(probe)
    assert (chain.nonce(bob.address), chain.nonce(alice.address)) == (1, 2)
    assert read(chain, bob.address, "amount()", "uint256") == (77,)
    assert read(chain, probe, "amount()", "uint256") == (0,)

    name = to_hex(receipt.transaction.hash)
    shown = call(chain, "eth_getTransactionByHash", name)
    assert (shown["type"], shown["authorizationList"]) == ("0x4", [given])
    assert (shown["accessList"], shown["maxFeePerGas"], shown["gasPrice"]) == ([], "0x0", "0x0")
    assert call(chain, "eth_getTransactionReceipt", name)["type"] == "0x4"
    block = call(chain, "eth_getBlockByNumber", "latest", True)
    assert block["transactions"] == [shown]
    assert reimported(chain).get_canonical_head().state_root == chain.head.state_root

    # It still sends transactions of its own, and can take the code off again.
    own = {"from": to_hex(bob.address), "to": to_hex(carol.address)}
    sent = call(chain, "eth_sendTransaction", own)
    assert call(chain, "eth_getTransactionByHash", sent)["nonce"] == "0x1"
    mined(chain, set_code(chain, authorization(chain, bob, NOBODY, 2)))
    assert chain.code(bob.address) == b""
    assert chain.storage(bob.address, 0)[-1] == 77
    assert reimported(chain).get_canonical_head().state_root == chain.head.state_root


def test_a_revert_takes_back_what_was_done_and_not_the_authorization() -> None:
    chain = made_chain()
    bob = chain.accounts[1]
    probe = deploy(chain)
    given = authorization(chain, bob, probe)
    receipt = mined(chain, set_code(chain, given, data=calldata("refuse()")))
    assert not receipt.succeeded
    assert (chain.code(bob.address), chain.nonce(bob.address)) == (designator(probe), 1)


def test_void_authorizations_are_passed_over_and_paid_for() -> None:
    chain = made_chain()
    _, bob, carol = chain.accounts
    probe = deploy(chain)
    good = authorization(chain, bob, probe)
    flipped = {
        "s": hex(SECP256K1_N - int(good["s"], 16)),
        "yParity": hex(1 - int(good["yParity"], 16)),
    }
    plain = mined(chain, set_code(chain, authorization(chain, bob, probe, 9), to=carol.address))
    assert plain.gas_used == 21_000 + EACH
    for void in (
        authorization(chain, bob, probe, chainId=chain.chain_id + 1),
        authorization(chain, bob, probe, nonce=2**64 - 1),
        {**good, **flipped},
        {**good, "r": "0x0"},
        {**good, "s": "0x0"},
    ):
        receipt = mined(chain, set_code(chain, void, to=carol.address))
        assert (receipt.succeeded, receipt.gas_used) == (True, 21_000 + EACH), void
        assert (chain.code(bob.address), chain.nonce(bob.address)) == (b"", 0)
    # Of two for the same nonce the first counts; a fifth of the gas comes back at the most.
    other = authorization(chain, bob, carol.address)
    receipt = mined(chain, set_code(chain, good, other, to=carol.address))
    assert chain.code(bob.address) == designator(probe)
    assert receipt.gas_used == 21_000 + 2 * EACH - EACH // 2
    assert reimported(chain).get_canonical_head().state_root == chain.head.state_root


def test_an_authorization_for_every_chain_and_one_of_the_sender_count() -> None:
    chain = made_chain()
    alice, bob, carol = chain.accounts
    probe = deploy(chain)
    own = authorization(chain, alice, probe, chain.nonce(alice.address) + 1)
    anywhere = authorization(chain, bob, probe, chainId=0)
    assert mined(chain, set_code(chain, own, anywhere, to=carol.address)).succeeded
    assert chain.code(alice.address) == chain.code(bob.address) == designator(probe)
    assert chain.nonce(alice.address) == 3
    assert chain.pending_nonce(alice.address) == 3


def test_a_new_account_costs_the_whole_price() -> None:
    chain = made_chain()
    probe = deploy(chain)
    key = b"\x07" * 32
    address = address_from_hex(Account.from_key(key).address)
    fresh = DevAccount(index=0, private_key=key, address=address)
    receipt = mined(chain, set_code(chain, authorization(chain, fresh, probe), to=NOBODY))
    assert receipt.gas_used == 21_000 + EACH
    assert chain.code(fresh.address) == designator(probe)


def test_code_is_found_through_one_delegation_and_no_further() -> None:
    chain = made_chain()
    alice, bob, carol = chain.accounts
    probe = deploy(chain)
    precompile = Address((2).to_bytes(20))
    mined(chain, set_code(chain, authorization(chain, bob, probe)))
    chained = set_code(chain, authorization(chain, carol, bob.address), to=carol.address, data=NOTE)
    assert not mined(chain, chained).succeeded  # 0xEF is no instruction
    again = authorization(chain, carol, precompile, 1)
    receipt = mined(chain, set_code(chain, again, to=carol.address, data=b"\x01"))
    assert receipt.succeeded  # a precompile has no code that another account could run
    request = {"from": to_hex(alice.address), "to": to_hex(carol.address), "data": "0x01"}
    assert call(chain, "eth_call", request) == "0x"


def encoded(chain: DevChain, **changes: Any) -> bytes:
    """A transaction of type 4 field by field, with a signature that is not looked at."""
    alice, bob, _ = chain.accounts
    given = [chain.chain_id, bob.address, 0, 1, 2, 3]
    fields: dict[str, Any] = {
        "chain_id": chain.chain_id, "nonce": 0, "tip": 0, "fee": 0, "gas": 100_000,
        "to": alice.address, "value": 0, "data": b"", "access_list": [],
        "authorizations": [given], "parity": 0, "r": 1, "s": 1, **changes,
    }  # fmt: skip
    return b"\x04" + bytes(rlp.encode(list(fields.values())))


def test_what_is_no_transaction_of_type_4_is_refused() -> None:
    chain = made_chain()
    bob = chain.accounts[1].address
    chain_id = chain.chain_id
    with pytest.raises(errors.NoAuthorization, match="at least one authorization tuple"):
        chain.submit(encoded(chain, authorizations=[]))
    for changes, text in (
        ({"to": b""}, "makes no contract"),
        ({"authorizations": [[chain_id, b"", 0, 1, 2, 3]]}, "out of bounds"),
        ({"authorizations": [[chain_id, bob, 2**64, 1, 2, 3]]}, "out of bounds"),
        ({"authorizations": [[chain_id, bob, 0, 256, 2, 3]]}, "out of bounds"),
        ({"authorizations": [[2**256, bob, 0, 1, 2, 3]]}, "out of bounds"),
        ({"authorizations": [[chain_id, bob, 0, 1, 2**256, 3]]}, "out of bounds"),
        ({"authorizations": [[chain_id, bob, [], 1, 2, 3]]}, "canonical"),
        ({"authorizations": [[chain_id, bob, b"\x00", 1, 2, 3]]}, "cannot be read"),
        ({"authorizations": [[chain_id, bob, 0, 1, 2]]}, "cannot be read"),
        ({"authorizations": b""}, "cannot be read"),
    ):
        with pytest.raises(errors.MalformedTransaction, match=text):
            chain.submit(encoded(chain, **changes))
    too_little = set_code(chain, authorization(chain, chain.accounts[1], NOBODY), gas=45_999)
    with pytest.raises(errors.GasTooLow, match="have 45999, want 46000"):
        chain.submit(too_little)


def test_calls_and_estimates_take_authorizations() -> None:
    chain = made_chain()
    alice, bob, _ = chain.accounts
    probe = deploy(chain)
    given = authorization(chain, bob, probe)
    request = {
        "from": to_hex(alice.address),
        "to": to_hex(bob.address),
        "data": to_hex(NOTE),
        "authorizationList": [given],
    }
    asked = {**request, "data": to_hex(calldata("pay()")), "value": "0x5"}
    assert int(call(chain, "eth_call", asked), 16) == 5
    assert chain.code(bob.address) == b""  # a call changes nothing
    gas = int(call(chain, "eth_estimateGas", request), 16)
    assert mined(chain, set_code(chain, given, data=NOTE, gas=gas)).succeeded
    listed = call(chain, "eth_createAccessList", {**request, "authorizationList": [
        authorization(chain, bob, probe, 1)]})  # fmt: skip
    assert listed["accessList"] == [
        {"address": to_hex(bob.address), "storageKeys": ["0x" + "00" * 32]}
    ]
    # An account that signed is warm, too: here one whose size of code is asked for.
    asking = {"from": to_hex(alice.address), "to": to_hex(NOBODY), "authorizationList": [
        authorization(chain, bob, probe, 1)]}  # fmt: skip
    code = {to_hex(NOBODY): {"code": "0x73" + bob.address.hex() + "3b00"}}
    found = call(chain, "eth_createAccessList", asking, "latest", code)
    assert found["accessList"] == []
    for wrong, text in (
        ({"authorizationList": []}, "the list is empty"),
        ({"to": None}, "makes no contract"),
        ({"authorizationList": [{**given, "yParity": "0x100"}]}, "yParity: '0x100' is larger"),
        ({"authorizationList": [{**given, "nonce": None}]}, "nonce: None is not a hex number"),
    ):
        error = refusal(chain, "eth_call", {**request, **wrong})
        assert error["code"] == -32602
        assert text in error["message"]


def test_the_devnet_sends_authorizations_for_its_accounts() -> None:
    chain = made_chain(base_fee_wei=10**9)
    alice, bob, carol = chain.accounts
    probe = deploy(chain)
    good, void = authorization(chain, bob, probe), authorization(chain, carol, probe, yParity=27)
    request = {
        "from": to_hex(alice.address),
        "to": to_hex(bob.address),
        "data": to_hex(NOTE),
        "authorizationList": [good, void],
        "accessList": [{"address": to_hex(bob.address), "storageKeys": ["0x" + "00" * 32]}],
    }
    sent = call(chain, "eth_sendTransaction", request)
    receipt = call(chain, "eth_getTransactionReceipt", sent)
    assert (receipt["type"], receipt["status"]) == ("0x4", "0x1")
    shown = call(chain, "eth_getTransactionByHash", sent)
    assert shown["authorizationList"] == [good, void]
    assert shown["accessList"] == request["accessList"]
    assert int(receipt["effectiveGasPrice"], 16) > chain.head.base_fee
    assert (chain.code(bob.address), chain.code(carol.address)) == (designator(probe), b"")
    assert reimported(chain).get_canonical_head().hash == chain.head.hash
    call(chain, "anvil_impersonateAccount", to_hex(probe))
    error = refusal(
        chain, "eth_sendTransaction", {**request, "from": to_hex(probe), "gas": "0x50000"}
    )
    assert "legacy transactions alone" in error["message"]


def test_what_waits_with_a_nonce_that_an_authorization_used_is_forgotten() -> None:
    chain = made_chain(automine=False)
    _, bob, carol = chain.accounts
    probe = deploy(chain)
    to = to_hex(carol.address)

    def waiting(who: DevAccount, nonce: int) -> str:
        request = {"from": to_hex(who.address), "to": to, "nonce": hex(nonce), "gas": "0x5208"}
        return str(call(chain, "eth_sendTransaction", request))

    chain.submit(set_code(chain, authorization(chain, bob, probe)))
    used, kept = waiting(bob, 0), waiting(bob, 1)
    chain.mine()
    assert call(chain, "eth_getTransactionByHash", used) is None
    assert call(chain, "txpool_status") == {"pending": "0x1", "queued": "0x0"}
    chain.mine()
    assert call(chain, "eth_getTransactionReceipt", kept)["status"] == "0x1"
    # Also where the block was full before it came up.
    burning = {"gas": GAS_LIMIT, "to": probe, "data": calldata("break_down()")}
    chain.submit(set_code(chain, authorization(chain, carol, probe), **burning))
    used = waiting(carol, 0)
    chain.mine()
    assert chain.head.gas_used == GAS_LIMIT - EACH // 2
    assert call(chain, "eth_getTransactionByHash", used) is None
    assert len(chain.pool) == 0


CALLS_BOB = "5f5f5f5f73{}5af4"
"""DELEGATECALL with no data, to the address in the middle."""


def test_tracers_name_the_account_and_touch_whose_code_it_runs() -> None:
    chain = made_chain()
    alice, bob, carol = chain.accounts
    probe = deploy(chain)
    sent = to_hex(chain.submit(set_code(chain, authorization(chain, bob, probe), data=NOTE)))
    tree = call(
        chain,
        "debug_traceTransaction",
        sent,
        {"tracer": "callTracer", "tracerConfig": {"withLog": True}},
    )
    assert (tree["type"], tree["to"], tree["gasUsed"]) == (
        "CALL",
        to_hex(bob.address),
        call(chain, "eth_getTransactionReceipt", sent)["gasUsed"],
    )
    assert tree["logs"][0]["address"] == to_hex(bob.address)
    steps = call(chain, "debug_traceTransaction", sent)
    assert steps["failed"] is False
    assert len(steps["structLogs"]) > 20
    before = call(chain, "debug_traceTransaction", sent, {"tracer": "prestateTracer"})
    assert set(before) == {to_hex(each) for each in (alice.address, bob.address, probe)}
    assert "code" not in before[to_hex(bob.address)]
    change = call(
        chain,
        "debug_traceTransaction",
        sent,
        {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}},
    )
    assert change["post"][to_hex(bob.address)] == {
        "nonce": 1,
        "code": to_hex(designator(probe)),
        "storage": {"0x" + "00" * 32: "0x" + (77).to_bytes(32).hex()},
    }
    # An account that is authorized and not called is touched, too.
    idle = to_hex(chain.submit(set_code(chain, authorization(chain, carol, probe), to=NOBODY)))
    before = call(chain, "debug_traceTransaction", idle, {"tracer": "prestateTracer"})
    assert to_hex(carol.address) in before
    void = authorization(chain, carol, probe, 1)
    void |= {
        "s": hex(SECP256K1_N - int(void["s"], 16)),
        "yParity": hex(1 - int(void["yParity"], 16)),
    }
    idle = to_hex(chain.submit(set_code(chain, void, to=NOBODY)))
    before = call(chain, "debug_traceTransaction", idle, {"tracer": "prestateTracer"})
    assert to_hex(carol.address) not in before
    # Within a call it is the account that is named, not whose code runs in its place.
    code = "0x" + CALLS_BOB.format(bob.address.hex())
    state = {to_hex(NOBODY): {"code": code}}
    options = {"tracer": "callTracer", "stateOverrides": state}
    traced = call(chain, "debug_traceCall", {"to": to_hex(NOBODY)}, "latest", options)
    inner = traced["calls"][0]
    assert (inner["type"], inner["to"]) == ("DELEGATECALL", to_hex(bob.address))
    options = {"tracer": "prestateTracer", "stateOverrides": state}
    touched = call(chain, "debug_traceCall", {"to": to_hex(NOBODY)}, "latest", options)
    assert {to_hex(bob.address), to_hex(probe)} <= set(touched)


def test_an_authorization_goes_and_comes_back_with_its_block() -> None:
    chain = made_chain()
    bob = chain.accounts[1]
    probe = deploy(chain)
    snapshot = call(chain, "evm_snapshot")
    chain.submit(set_code(chain, authorization(chain, bob, probe)))
    reorganise(chain, 1, Fate.AGAIN)
    assert chain.code(bob.address) == designator(probe)
    reorganise(chain, 1, Fate.DROPPED)
    assert (chain.code(bob.address), chain.nonce(bob.address)) == (b"", 0)
    chain.submit(set_code(chain, authorization(chain, bob, probe)))
    call(chain, "evm_revert", snapshot)
    assert (chain.code(bob.address), chain.nonce(bob.address)) == (b"", 0)
