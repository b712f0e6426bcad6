"""The same bytes come out of our hand-written EIP-712 and of eth-account's generic encoder."""

import json
from typing import Any, TypeAlias

import pytest
from eth_abi.exceptions import EncodingError
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data

from farthing.channels import eip712
from farthing.channels.eip712 import Domain, UnsignableValue
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, ChannelId, address_from_hex
from farthing.channels.signing import Signer, recover

from .forms import read, unhex

Vector: TypeAlias = dict[str, Any]

RECORD = read("signed_types.json")
VECTORS = RECORD["vectors"]
REFUSED = RECORD["refused"]
SECRETS = {address: bytes.fromhex(key[2:]) for address, key in RECORD["secrets"].items()}
KINDS = ("Voucher", "Withdrawal", "Close", "StartClose", "Authenticate")

# Our digest function of each type, and our name of each signed field.
DIGESTS: dict[str, tuple[Any, dict[str, str]]] = {
    "Voucher": (eip712.voucher_digest, {"transferred": "transferred_ucent"}),
    "Withdrawal": (eip712.withdrawal_digest, {"total": "total_ucent"}),
    "Close": (
        eip712.close_digest,
        {"transferredA": "transferred_a_ucent", "transferredB": "transferred_b_ucent"},
    ),
    "StartClose": (eip712.start_close_digest, {}),
    "Authenticate": (
        eip712.authenticate_digest,
        {"dialerNonce": "dialer_nonce", "listenerNonce": "listener_nonce"},
    ),
}
TYPE_TEXTS = {
    "EIP712Domain": eip712.DOMAIN_TYPE,
    "Voucher": eip712.VOUCHER_TYPE,
    "Withdrawal": eip712.WITHDRAWAL_TYPE,
    "Close": eip712.CLOSE_TYPE,
    "StartClose": eip712.START_CLOSE_TYPE,
    "Authenticate": eip712.AUTHENTICATE_TYPE,
}


def domain_of(vector: Vector) -> Domain:
    domain = vector["domain"]
    assert (domain["name"], domain["version"]) == (eip712.DOMAIN_NAME, eip712.DOMAIN_VERSION)
    return Domain(
        chain_id=int(domain["chainId"]), contract=address_from_hex(domain["verifyingContract"])
    )


def our_digest(vector: Vector) -> bytes:
    digest, names = DIGESTS[vector["type"]]
    kinds = {member["name"]: member["type"] for member in RECORD["types"][vector["type"]]}
    values = {
        names.get(name, name): int(value) if kinds[name].startswith("uint") else unhex(value)
        for name, value in vector["message"].items()
    }
    found: bytes = digest(domain_of(vector).separator(), **values)
    return found


def native(kind: str, message: dict[str, str]) -> dict[str, Any]:
    kinds = {member["name"]: member["type"] for member in RECORD["types"][kind]}
    return {
        name: int(value) if kinds[name].startswith("uint") else value
        for name, value in message.items()
    }


def eth_accounts(vector: Vector) -> SignableMessage:
    kind = vector["type"]
    return encode_typed_data(
        full_message={
            "types": {name: RECORD["types"][name] for name in ("EIP712Domain", kind)},
            "primaryType": kind,
            "domain": native("EIP712Domain", vector["domain"]),
            "message": native(kind, vector["message"]),
        }
    )


@pytest.mark.parametrize("kind", TYPE_TEXTS)
def test_each_types_text_is_that_of_its_members(kind: str) -> None:
    members = ",".join(f"{m['type']} {m['name']}" for m in RECORD["types"][kind])
    assert TYPE_TEXTS[kind] == f"{kind}({members})"


@pytest.mark.parametrize("kind", KINDS)
def test_our_digests_are_those_of_the_vectors(kind: str) -> None:
    chosen = [vector for vector in VECTORS if vector["type"] == kind]
    assert len(chosen) >= 15
    for vector in chosen:
        assert domain_of(vector).separator() == unhex(vector["domain_separator"])
        assert our_digest(vector) == unhex(vector["digest"]), vector["message"]
        assert our_digest(vector) == keccak256(
            b"\x19\x01" + unhex(vector["domain_separator"]) + unhex(vector["struct_hash"])
        )


def test_our_signatures_are_those_of_the_vectors() -> None:
    signers = {address: Signer(secret) for address, secret in SECRETS.items()}
    for vector in VECTORS:
        signer = signers[vector["signer"]]
        assert signer.address == address_from_hex(vector["signer"])
        assert signer.sign_digest(our_digest(vector)) == unhex(vector["signature"])
        assert recover(our_digest(vector), unhex(vector["signature"])) == signer.address


def test_the_vectors_are_those_that_eth_account_makes() -> None:
    for vector in VECTORS:
        encoded = eth_accounts(vector)
        assert encoded.header == unhex(vector["domain_separator"])
        assert encoded.body == unhex(vector["struct_hash"])
    some = VECTORS[0]
    signature = unhex(some["signature"])
    assert Account.recover_message(eth_accounts(some), signature=signature) == some["signer"]


def test_no_two_messages_have_the_same_digest() -> None:
    contents = {json.dumps((v["type"], v["domain"], v["message"])) for v in VECTORS}
    assert len({v["digest"] for v in VECTORS}) == len(contents)


def test_every_field_has_its_bounds_among_the_vectors() -> None:
    for kind in KINDS:
        for member in RECORD["types"][kind]:
            seen = {v["message"][member["name"]] for v in VECTORS if v["type"] == kind}
            if member["type"].startswith("uint"):
                bits = int(member["type"].removeprefix("uint"))
                assert {"0", "1", str(2**bits - 1)} <= seen
            else:
                size = 20 if member["type"] == "address" else 32
                assert {"0x" + "00" * size, "0x" + "ff" * size} <= seen


def test_the_domain_has_its_bounds_among_the_vectors() -> None:
    seen = {v["domain"]["chainId"] for v in VECTORS}
    assert {"0", "1", str(2**64 - 1), str(2**256 - 1)} <= seen


def test_every_member_has_what_it_cannot_hold_among_the_refused() -> None:
    for kind in KINDS:
        for member in RECORD["types"][kind]:
            name = member["name"]
            seen = {v["message"][name] for v in REFUSED if (v["type"], v["member"]) == (kind, name)}
            if member["type"].startswith("uint"):
                assert {"-1", str(2 ** int(member["type"].removeprefix("uint")))} <= seen
            else:
                size = 20 if member["type"] == "address" else 32
                assert {len(unhex(value)) for value in seen} == {0, size - 1, size + 1}


def test_we_make_no_digest_of_a_value_that_its_member_cannot_hold() -> None:
    for vector in REFUSED:
        value = vector["message"][vector["member"]]
        with pytest.raises(UnsignableValue, match="does not fit") as caught:
            our_digest(vector)
        assert caught.value.value == (unhex(value) if value.startswith("0x") else int(value))


def test_eth_account_refuses_the_same_values_but_pads_bytes_that_are_too_short() -> None:
    for vector in REFUSED:
        value = vector["message"][vector["member"]]
        kinds = {member["name"]: member["type"] for member in RECORD["types"][vector["type"]]}
        if kinds[vector["member"]] == "bytes32" and len(unhex(value)) < 32:
            assert vector["eth_account"] == "pads it"
            eth_accounts(vector)
            continue
        assert vector["eth_account"] == "refuses"
        with pytest.raises((EncodingError, ValueError)):
            eth_accounts(vector)


@pytest.mark.parametrize("chain_id", [-1, 2**256])
def test_a_domain_of_a_chain_id_beyond_a_word_separates_nothing(chain_id: int) -> None:
    with pytest.raises(UnsignableValue, match="uint256"):
        Domain(chain_id=chain_id, contract=Address(bytes(20))).separator()


@pytest.mark.parametrize("size", [0, 19, 21])
def test_a_domain_of_a_contract_that_is_no_address_separates_nothing(size: int) -> None:
    with pytest.raises(UnsignableValue, match="address"):
        Domain(chain_id=1, contract=Address(bytes(size))).separator()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_separator_that_is_no_word_makes_no_digest(size: int) -> None:
    with pytest.raises(UnsignableValue, match="bytes32"):
        eip712.start_close_digest(bytes(size), channel=ChannelId(bytes(32)), expires=1)
