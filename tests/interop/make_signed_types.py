"""Writes vectors/signed_types.json with eth-account alone; run it as a script.

Numbers are decimal text and bytes are hex, so that a client in any language can read them.
"""

import json
from itertools import product
from pathlib import Path

from eth_account import Account
from eth_account.messages import encode_typed_data

VECTORS = Path(__file__).parent / "vectors" / "signed_types.json"

DOMAIN = [
    ("string", "name"),
    ("string", "version"),
    ("uint256", "chainId"),
    ("address", "verifyingContract"),
]
TYPES = {
    "Voucher": [
        ("bytes32", "channel"),
        ("address", "payer"),
        ("uint64", "nonce"),
        ("uint96", "transferred"),
        ("bytes32", "history"),
        ("bytes32", "conditions"),
    ],
    "Withdrawal": [
        ("bytes32", "channel"),
        ("address", "account"),
        ("uint96", "total"),
        ("uint64", "expires"),
    ],
    "Close": [
        ("bytes32", "channel"),
        ("uint96", "transferredA"),
        ("uint96", "transferredB"),
        ("uint64", "expires"),
    ],
    "StartClose": [("bytes32", "channel"), ("uint64", "expires")],
    "Authenticate": [
        ("uint8", "role"),
        ("address", "dialer"),
        ("address", "listener"),
        ("bytes32", "dialerNonce"),
        ("bytes32", "listenerNonce"),
        ("bytes32", "greetings"),
        ("bytes32", "certificate"),
    ],
}
# The chain id has no bound of its own; the second is that of the development chain.
CHAIN_IDS = (1, 20262026, 2**64 - 1, 2**256 - 1)
SECRETS = (b"\x01" * 32, bytes(31) + b"\x01")


def filled(byte: int, size: int) -> str:
    return "0x" + bytes([byte] * size).hex()


def values(kind: str, seed: int) -> list[str]:
    """The bounds of the kind and one value that differs from field to field."""
    if kind.startswith("uint"):
        bits = int(kind.removeprefix("uint"))
        return [str(n) for n in (0, 1, 2**bits - 2, 2**bits - 1, (seed * 7919) % 2**bits)]
    size = 20 if kind == "address" else 32
    return [filled(0, size), filled(255, size), filled(seed % 251 + 1, size)]


def messages(members: list[tuple[str, str]]) -> list[dict[str, str]]:
    """A plain message, and for every field each of its bounds in the plain message's place."""
    plain = {name: values(kind, seed)[-1] for seed, (kind, name) in enumerate(members, 3)}
    found = [plain]
    for seed, (kind, name) in enumerate(members, 3):
        found += [plain | {name: value} for value in values(kind, seed)[:-1]]
    for extreme in (0, -2):  # all at their least, all at their greatest
        found.append({name: values(kind, 3)[extreme] for kind, name in members})
    return found


def native(members: list[tuple[str, str]], message: dict[str, str]) -> dict[str, object]:
    return {
        name: int(message[name]) if kind.startswith("uint") else message[name]
        for kind, name in members
    }


def vector(
    kind: str, domain: dict[str, str], message: dict[str, str], secret: bytes
) -> dict[str, object]:
    encoded = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [{"type": t, "name": n} for t, n in DOMAIN],
                kind: [{"type": t, "name": n} for t, n in TYPES[kind]],
            },
            "primaryType": kind,
            "domain": native(DOMAIN, domain),
            "message": native(TYPES[kind], message),
        }
    )
    signed = Account.sign_message(encoded, secret)
    return {
        "type": kind,
        "domain": domain,
        "message": message,
        "domain_separator": "0x" + encoded.header.hex(),
        "struct_hash": "0x" + encoded.body.hex(),
        "digest": "0x" + bytes(signed.message_hash).hex(),
        "signer": Account.from_key(secret).address,
        "signature": "0x" + bytes(signed.signature).hex(),
    }


def vectors() -> list[dict[str, object]]:
    found = []
    for kind, members in TYPES.items():
        domains = [
            {"name": "Farthing", "version": "1", "chainId": str(c), "verifyingContract": a}
            for c, a in product(CHAIN_IDS, (filled(0xFA, 20), filled(0xFF, 20)))
        ]
        found += [vector(kind, domains[2], m, SECRETS[0]) for m in messages(members)]
        plain = messages(members)[0]
        found += [vector(kind, d, plain, SECRETS[1]) for d in domains]
    return found


def text() -> str:
    types = {
        kind: [{"type": t, "name": n} for t, n in members]
        for kind, members in ({"EIP712Domain": DOMAIN} | TYPES).items()
    }
    secrets = {Account.from_key(secret).address: "0x" + secret.hex() for secret in SECRETS}
    record = {"types": types, "secrets": secrets, "vectors": vectors()}
    return json.dumps(record, indent=1) + "\n"


if __name__ == "__main__":
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.write_text(text(), encoding="utf-8")
