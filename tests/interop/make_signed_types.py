"""Makes vectors/signed_types.json with eth-account alone."""

from itertools import product

from eth_abi.exceptions import EncodingError
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data

from .forms import as_text, filled, hexed

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
CHAIN_IDS = (1, 20262026, 2**64 - 1, 2**256 - 1, 0)
SECRETS = (b"\x01" * 32, bytes(31) + b"\x01")


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


def encoded(kind: str, domain: dict[str, str], message: dict[str, str]) -> SignableMessage:
    return encode_typed_data(
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


def domain_of(chain_id: int, contract: str) -> dict[str, str]:
    return {
        "name": "Farthing",
        "version": "1",
        "chainId": str(chain_id),
        "verifyingContract": contract,
    }


def vector(
    kind: str, domain: dict[str, str], message: dict[str, str], secret: bytes
) -> dict[str, object]:
    signable = encoded(kind, domain, message)
    signed = Account.sign_message(signable, secret)
    return {
        "type": kind,
        "domain": domain,
        "message": message,
        "domain_separator": hexed(signable.header),
        "struct_hash": hexed(signable.body),
        "digest": hexed(bytes(signed.message_hash)),
        "signer": Account.from_key(secret).address,
        "signature": hexed(bytes(signed.signature)),
    }


def vectors() -> list[dict[str, object]]:
    found = []
    for kind, members in TYPES.items():
        domains = [
            domain_of(c, a) for c, a in product(CHAIN_IDS, (filled(0xFA, 20), filled(0xFF, 20)))
        ]
        found += [vector(kind, domains[2], m, SECRETS[0]) for m in messages(members)]
        plain = messages(members)[0]
        found += [vector(kind, d, plain, SECRETS[1]) for d in domains]
    return found


def misfits(kind: str) -> list[str]:
    """What a member of this kind cannot hold: one beyond each end, one byte less and more."""
    if kind.startswith("uint"):
        return ["-1", str(2 ** int(kind.removeprefix("uint")))]
    size = 20 if kind == "address" else 32
    return [filled(0xAA, size - 1), filled(0xAA, size + 1), "0x"]


def eth_account_takes(kind: str, domain: dict[str, str], message: dict[str, str]) -> bool:
    try:
        encoded(kind, domain, message)
    except (EncodingError, ValueError):
        return False
    return True


def refused() -> list[dict[str, object]]:
    """Messages that must not be hashed, with what eth-account makes of them."""
    domain = domain_of(CHAIN_IDS[1], filled(0xFA, 20))
    found: list[dict[str, object]] = []
    for kind, members in TYPES.items():
        plain = messages(members)[0]
        for member_kind, name in members:
            for value in misfits(member_kind):
                message = plain | {name: value}
                takes = eth_account_takes(kind, domain, message)
                found.append(
                    {
                        "type": kind,
                        "domain": domain,
                        "message": message,
                        "member": name,
                        "eth_account": "pads it" if takes else "refuses",
                    }
                )
    return found


def text() -> str:
    types = {
        kind: [{"type": t, "name": n} for t, n in members]
        for kind, members in ({"EIP712Domain": DOMAIN} | TYPES).items()
    }
    secrets = {Account.from_key(secret).address: hexed(secret) for secret in SECRETS}
    return as_text({"types": types, "secrets": secrets, "vectors": vectors(), "refused": refused()})
