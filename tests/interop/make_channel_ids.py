"""Makes vectors/channel_ids.json with eth-abi and eth-utils alone."""

from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_utils.crypto import keccak

from .forms import as_text, filled, hexed, unhex
from .make_signed_types import SECRETS, domain_of, encoded

TERMS = {
    "account_a": "address",
    "signer_a": "address",
    "account_b": "address",
    "signer_b": "address",
    "challenge_seconds": "uint64",
    "challenge_blocks": "uint64",
    "sequence": "uint64",
}
# The bounds of each number in terms that a contract opens.
BOUNDS = {
    "challenge_seconds": (600, 30 * 24 * 3600),
    "challenge_blocks": (10, 1_000_000),
    "sequence": (1, 2**64 - 1),
}
CHAIN_ID = 20262026
CONTRACT = filled(0xFA, 20)
PARENT = keccak(text="block 0")  # the hash of the block before the one that deploys
TIME = 1_800_000_000  # and the timestamp of that one

# The keys of the channel that the contract opens and all of on_chain.json is about.
ACCOUNT_A, ACCOUNT_B = (Account.from_key(keccak(text=f"account {side}")).address for side in "AB")
SIGNER_A, SIGNER_B = (Account.from_key(secret).address for secret in SECRETS)
PLAIN = {
    "account_a": ACCOUNT_A,
    "signer_a": SIGNER_A,
    "account_b": ACCOUNT_B,
    "signer_b": SIGNER_B,
    "challenge_seconds": "3600",
    "challenge_blocks": "20",
    "sequence": "1",
}


def deployment(parent: bytes, timestamp: int) -> bytes:
    return keccak(encode(["bytes32", "uint256"], [parent, timestamp]))


def channel_id(chain_id: int, contract: str, deployed: bytes, terms: dict[str, str]) -> bytes:
    values = [int(terms[n]) if kind == "uint64" else terms[n] for n, kind in TERMS.items()]
    kinds = ["uint256", "address", "bytes32", *TERMS.values()]
    return keccak(encode(kinds, [chain_id, contract, deployed, *values]))


def deployments() -> list[dict[str, Any]]:
    """Each chain id at its bounds, each contract address, each parent block."""
    places = [
        (CHAIN_ID, CONTRACT, PARENT, TIME),
        (1, CONTRACT, PARENT, TIME),
        (2**64 - 1, filled(0xFF, 20), PARENT, TIME),
        (2**256 - 1, filled(0xFF, 20), PARENT, TIME),
        (CHAIN_ID, CONTRACT, PARENT, TIME + 1),
        (CHAIN_ID, filled(0xFB, 20), PARENT, 0),
    ]
    return [
        {
            "chain_id": str(chain_id),
            "contract": contract,
            "parent_hash": hexed(parent),
            "timestamp": str(timestamp),
            "deployment": hexed(deployment(parent, timestamp)),
            "domain_separator": hexed(
                encoded(
                    "StartClose",
                    domain_of(chain_id, contract),
                    {"channel": filled(0, 32), "expires": "0"},
                ).header
            ),
        }
        for chain_id, contract, parent, timestamp in places
    ]


def various_terms() -> list[dict[str, str]]:
    found = [PLAIN]
    for name, bounds in BOUNDS.items():
        values = (*bounds, bounds[0] + 1, bounds[1] - 1)
        found += [PLAIN | {name: str(value)} for value in values if str(value) != PLAIN[name]]
    for name in ("account_a", "signer_a", "account_b", "signer_b"):
        found += [PLAIN | {name: filled(byte, 20)} for byte in (0x01, 0xFF)]
        found.append(PLAIN | {name: hexed(bytes(19) + b"\x01")})
    found.append(PLAIN | {"signer_a": ACCOUNT_A, "signer_b": ACCOUNT_B})  # each signs for itself
    return found


def channels() -> list[dict[str, Any]]:
    """All terms under the first deployment, and the plain ones under every other."""
    first, *others = deployments()
    chosen = [(first, terms) for terms in various_terms()]
    chosen += [(other, PLAIN) for other in others]
    return [
        {
            **{name: place[name] for name in ("chain_id", "contract", "deployment")},
            "terms": terms,
            "id": hexed(
                channel_id(
                    int(place["chain_id"]), place["contract"], unhex(place["deployment"]), terms
                )
            ),
        }
        for place, terms in chosen
    ]


def refused() -> list[dict[str, Any]]:
    """Terms that no contract opens, with what it says; `sequence` is the contract's own choice."""
    found = []
    for name, why in (
        ("challenge_seconds", "channels: window out of range"),
        ("challenge_blocks", "channels: window out of range"),
        ("sequence", "never assigned"),
    ):
        low, high = BOUNDS[name]
        beyond = {0, low - 1, high + 1, 2**64 - 1, 2**64} - {2**64 - 1 if high == 2**64 - 1 else -1}
        for value in sorted(beyond):
            fits = value < 2**64
            said = why if fits else "no ABI: reverts without a reason"
            found.append({"member": name, "terms": PLAIN | {name: str(value)}, "contract": said})
    for name in ("account_a", "signer_a", "account_b", "signer_b"):
        terms = PLAIN | {name: filled(0, 20)}
        found.append({"member": name, "terms": terms, "contract": "channels: not distinct"})
    for one in ("account_a", "signer_a"):
        for other in ("account_b", "signer_b"):
            terms = PLAIN | {one: PLAIN[other]}
            found.append({"member": one, "terms": terms, "contract": "channels: not distinct"})
    return found


def text() -> str:
    members = [{"name": name, "type": kind} for name, kind in TERMS.items()]
    return as_text(
        {
            "terms": members,
            "deployments": deployments(),
            "channels": channels(),
            "refused": refused(),
        }
    )
