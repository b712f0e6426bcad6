"""Makes vectors/on_chain.json: what one channel's contract takes and refuses, by eth-account.

Each vector stands alone on the channel as it was opened; `now` is the block's timestamp.
"""

from typing import Any, TypeAlias

from eth_abi.abi import encode
from eth_account import Account
from eth_utils.crypto import keccak

from .forms import as_text, filled, hexed, unhex
from .make_channel_ids import (
    ACCOUNT_A,
    ACCOUNT_B,
    CHAIN_ID,
    CONTRACT,
    PARENT,
    PLAIN,
    SIGNER_A,
    SIGNER_B,
    TIME,
    channel_id,
    deployment,
)
from .make_signed_types import SECRETS, TYPES, domain_of, encoded

Message: TypeAlias = dict[str, str]

KEYS = {
    ACCOUNT_A: keccak(text="account A"),
    SIGNER_A: SECRETS[0],
    ACCOUNT_B: keccak(text="account B"),
    SIGNER_B: SECRETS[1],
}
DEPLOYMENT = deployment(PARENT, TIME)
CHANNEL = hexed(channel_id(CHAIN_ID, CONTRACT, DEPLOYMENT, PLAIN))
DOMAIN = domain_of(CHAIN_ID, CONTRACT)
DEPOSIT = 2**76 - 1

UINT64 = (0, 1, 2**64 - 2, 2**64 - 1)
UINT96 = (0, 1, 2**96 - 2, 2**96 - 1)
WORDS = (filled(0, 32), filled(0xFF, 32), filled(7, 32))


def digest_of(kind: str, message: Message) -> bytes:
    """By eth-account where the values fit, else with every number as the word that it fills."""
    members = {name: member for member, name in TYPES[kind]}
    if all(int(v) < 2 ** int(members[n][4:]) for n, v in message.items() if "uint" in members[n]):
        signable = encoded(kind, DOMAIN, message)
        return keccak(b"\x19\x01" + signable.header + signable.body)
    header = encoded("StartClose", DOMAIN, {"channel": CHANNEL, "expires": "0"}).header
    kinds = ["bytes32", *("uint256" if "uint" in m else m for m, _ in TYPES[kind])]
    typed = f"{kind}({','.join(f'{m} {n}' for m, n in TYPES[kind])})"
    values: list[Any] = [keccak(text=typed)]
    for member, name in TYPES[kind]:
        text = message[name]
        values.append(int(text) if "uint" in member else text if "addr" in member else unhex(text))
    return keccak(b"\x19\x01" + header + keccak(encode(kinds, values)))


def signed(digest: bytes, signer: str) -> str:
    return hexed(bytes(Account.unsafe_sign_hash(digest, KEYS[signer]).signature))


def vector(kind: str, message: Message, signers: tuple[str, ...], **more: Any) -> dict[str, Any]:
    digest = digest_of(kind, message)
    now = min(int(message.get("expires", TIME)), TIME)
    return {
        "type": kind,
        "message": message,
        "now": str(now),
        "digest": hexed(digest),
        "signatures": {signer: signed(digest, signer) for signer in signers},
        **more,
    }


def voucher(lane: int, **changes: Any) -> dict[str, Any]:
    message = {
        "channel": CHANNEL,
        "payer": (ACCOUNT_A, ACCOUNT_B)[lane],
        "nonce": "3",
        "transferred": "12500",
        "history": filled(7, 32),
        "conditions": filled(0, 32),
    }
    message |= {name: str(value) for name, value in changes.items()}
    outcome = "takes" if int(message["transferred"]) > 0 else "skips: NOT_GREATER"
    return vector("Voucher", message, ((SIGNER_A, SIGNER_B)[lane],), lane=lane, contract=outcome)


def withdrawal(**changes: Any) -> dict[str, Any]:
    message = {"channel": CHANNEL, "account": ACCOUNT_A, "total": "500", "expires": str(TIME)}
    message |= {name: str(value) for name, value in changes.items()}
    total = int(message["total"])
    outcome = "takes" if total > 0 else "channels: total not greater"
    if total >= 2**76:
        outcome = "channels: total out of range"
    return vector("Withdrawal", message, (SIGNER_A, SIGNER_B), contract=outcome)


def close(**changes: int) -> dict[str, Any]:
    message = {
        "channel": CHANNEL,
        "transferredA": "500",
        "transferredB": "20",
        "expires": str(TIME),
    }
    message |= {name: str(value) for name, value in changes.items()}
    return vector("Close", message, (SIGNER_A, SIGNER_B), contract="takes")


def start_close(signer: str, expires: int = TIME) -> dict[str, Any]:
    message = {"channel": CHANNEL, "expires": str(expires)}
    return vector("StartClose", message, (signer,), contract="takes")


def vectors() -> list[dict[str, Any]]:
    found = []
    for lane in (0, 1):
        found.append(voucher(lane))
        found += [voucher(lane, nonce=n) for n in UINT64]
        found += [voucher(lane, transferred=n) for n in UINT96]
        found += [voucher(lane, history=w) for w in WORDS]
        found += [voucher(lane, conditions=w) for w in WORDS]
    for account in (ACCOUNT_A, ACCOUNT_B):
        found += [withdrawal(account=account, total=n) for n in (0, 1, DEPOSIT - 1, DEPOSIT)]
        found += [withdrawal(account=account, total=n) for n in (2**76, 2**96 - 1)]
        found += [withdrawal(account=account, expires=n) for n in UINT64]
    for name in ("transferredA", "transferredB"):
        found += [close(**{name: n}) for n in UINT96]
    found.append(close(transferredA=2**96 - 1, transferredB=2**96 - 1))
    found += [close(expires=n) for n in UINT64]
    found += [start_close(SIGNER_A, n) for n in UINT64]
    found += [start_close(signer) for signer in KEYS]
    return found


def refused() -> list[dict[str, Any]]:
    """One beyond each bound, signed as if it fitted: no digest of it is ever right."""
    out_of_range = "channels: total out of range"
    no_abi = "no ABI: reverts without a reason"
    found = []
    for lane in (0, 1):
        found.append(voucher(lane, nonce=2**64) | {"contract": "skips: NONCE_RANGE"})
        found.append(voucher(lane, transferred=2**96) | {"contract": "skips: TOTAL_RANGE"})
    found.append(withdrawal(total=2**96) | {"contract": out_of_range})
    found.append(withdrawal(expires=2**64) | {"contract": no_abi})
    found.append(close(transferredA=2**96) | {"contract": out_of_range})
    found.append(close(transferredB=2**96) | {"contract": out_of_range})
    found.append(close(expires=2**64) | {"contract": no_abi})
    found.append(start_close(SIGNER_A, 2**64) | {"contract": no_abi})
    return found


def text() -> str:
    return as_text(
        {
            "chain_id": str(CHAIN_ID),
            "contract": CONTRACT,
            "parent_hash": hexed(PARENT),
            "timestamp": str(TIME),
            "deployment": hexed(DEPLOYMENT),
            "terms": PLAIN,
            "channel": CHANNEL,
            "deposit_a": str(DEPOSIT),
            "deposit_b": str(DEPOSIT),
            "secrets": {signer: hexed(key) for signer, key in KEYS.items()},
            "vectors": vectors(),
            "refused": refused(),
        }
    )
