"""Signatures of the development accounts, proofs of state, and what the pool says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rlp
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from trie.hexary import HexaryTrie

from farthing.channels.hashing import keccak256
from farthing.channels.ids import to_hex

from .devnet_probe import act, chains_closed, deploy, made_chain
from .test_devnet_chain import signed
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

BOB = "0x" + "b0" * 20
TYPED: dict[str, Any] = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "chainId", "type": "uint256"},
        ],
        "Payment": [{"name": "to", "type": "address"}, {"name": "amount", "type": "uint256"}],
    },
    "primaryType": "Payment",
    "domain": {"name": "Farthing", "chainId": 20262026},
    "message": {"to": BOB, "amount": 7},
}


def test_messages_are_signed_by_the_development_accounts_alone() -> None:
    chain = made_chain()
    alice = chain.accounts[0].checksum_address
    signature = call(chain, "personal_sign", "0x1234", alice)
    assert signature == call(chain, "eth_sign", alice, "0x1234")
    message = encode_defunct(bytes.fromhex("1234"))
    assert Account.recover_message(message, signature=signature) == alice
    for method, params in (("eth_sign", (BOB, "0x12")), ("eth_signTypedData_v4", (BOB, TYPED))):
        assert "unknown account" in refusal(chain, method, *params)["message"]


def test_typed_data_is_signed_as_an_object_and_as_text() -> None:
    chain = made_chain()
    alice = chain.accounts[0].checksum_address
    signature = call(chain, "eth_signTypedData_v4", alice, TYPED)
    assert signature == call(chain, "eth_signTypedData_v4", alice, json.dumps(TYPED))
    recovered = Account.recover_message(encode_typed_data(full_message=TYPED), signature=signature)
    assert recovered == alice
    other = {**TYPED, "message": {"to": BOB, "amount": 8}}
    assert call(chain, "eth_signTypedData_v4", alice, other) != signature
    for wrong in ({}, {**TYPED, "primaryType": "Nothing"}, {**TYPED, "message": {}}, "{", "[1]"):
        assert refusal(chain, "eth_signTypedData_v4", alice, wrong)["code"] == -32602


def test_a_transaction_that_is_signed_only_can_be_sent_later() -> None:
    chain = made_chain()
    alice = to_hex(chain.accounts[0].address)
    made = call(chain, "eth_signTransaction", {"from": alice, "to": BOB, "value": "0x5"})
    assert chain.pool.get(bytes.fromhex(made["tx"]["hash"][2:])) is None
    assert call(chain, "eth_sendRawTransaction", made["raw"]) == made["tx"]["hash"]
    assert call(chain, "eth_getBalance", BOB) == "0x5"


def proven(root: bytes, key: bytes, nodes: list[str]) -> bytes:
    """What the nodes prove to stand under a key; raises where they prove nothing."""
    decoded = [rlp.decode(bytes.fromhex(node[2:])) for node in nodes]
    trie: Any = HexaryTrie
    return bytes(trie.get_from_proof(root, keccak256(key), decoded))


def test_a_proof_leads_from_the_state_root_to_an_account_and_its_words() -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 0, 1_000)
    act(chain, probe, "fill(uint256,uint256,uint256)", 0, 40, 9)
    found = call(chain, "eth_getProof", to_hex(probe), ["0x0", "0x5"], "latest")
    account = rlp.decode(proven(chain.head.state_root, probe, found["accountProof"]))
    assert isinstance(account, list)
    nonce, _, storage, code = account
    assert (to_hex(storage), to_hex(code)) == (found["storageHash"], found["codeHash"])
    assert to_hex(keccak256(chain.code(probe))) == found["codeHash"]
    assert (nonce, found["nonce"], found["balance"]) == (b"\x01", "0x1", "0x0")
    first, absent = found["storageProof"]
    assert (first["key"], first["value"]) == ("0x0", hex(1_000))
    stored = rlp.decode(proven(storage, (0).to_bytes(32), first["proof"]))
    assert stored == (1_000).to_bytes(2)
    assert (absent["value"], proven(storage, (5).to_bytes(32), absent["proof"])) == ("0x0", b"")
    assert len(first["proof"]) > 1
    past = call(chain, "eth_getProof", to_hex(probe), ["0x0"], hex(chain.head.number - 2))
    assert past["storageProof"] == [{"key": "0x0", "value": "0x0", "proof": []}]


def test_what_is_not_there_is_proven_not_to_be() -> None:
    chain = made_chain()
    found = call(chain, "eth_getProof", BOB, ["0x0"])
    assert proven(chain.head.state_root, bytes.fromhex(BOB[2:]), found["accountProof"]) == b""
    assert (found["balance"], found["nonce"]) == ("0x0", "0x0")
    assert found["storageProof"] == [{"key": "0x0", "value": "0x0", "proof": []}]
    for wrong in ("0x0", ["0x"], ["0x0"] * 1_001):
        assert refusal(chain, "eth_getProof", BOB, wrong)["code"] == -32602


def test_the_pool_tells_what_could_be_mined_from_what_waits_behind_a_gap() -> None:
    chain = made_chain(automine=False)
    alice = to_hex(chain.accounts[0].address)
    assert call(chain, "txpool_status") == {"pending": "0x0", "queued": "0x0"}
    ready, gapped = chain.submit(signed(chain)), chain.submit(signed(chain, nonce=5))
    assert call(chain, "txpool_status") == {"pending": "0x1", "queued": "0x1"}
    content = call(chain, "txpool_content")
    assert content["pending"][alice]["0"]["hash"] == to_hex(ready)
    assert content["queued"][alice]["5"]["hash"] == to_hex(gapped)
    inspected = call(chain, "txpool_inspect")
    assert "21000 gas × 0 wei" in inspected["pending"][alice]["0"]
    chain.mine()
    assert call(chain, "txpool_status") == {"pending": "0x0", "queued": "0x1"}


def test_small_leftovers_are_answered() -> None:
    chain = made_chain()
    assert call(chain, "rpc_modules")["eth"] == "1.0"
    assert call(chain, "eth_blobBaseFee") == "0x1"
    assert call(chain, "eth_coinbase") == "0x" + "00" * 20
    for by, at in (("Number", "latest"), ("Hash", to_hex(chain.head.hash))):
        assert call(chain, f"eth_getUncleCountByBlock{by}", at) == "0x0"
