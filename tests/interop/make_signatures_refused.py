"""Makes vectors/signatures_refused.json: every form of a signature but the one, by eth-account.

All are made of good signatures over digests of the channel of on_chain.json.
"""

from typing import Any

from eth_account import Account
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from .forms import as_text, hexed, unhex
from .make_channel_ids import SIGNER_A, SIGNER_B
from .make_on_chain import (
    KEYS,
    close,
    signed,
    start_close,
    voucher,
    withdrawal,
)

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def spoilt(digest: bytes, signer: str) -> dict[str, bytes]:
    """Each wrong form of this signer's signature."""
    good = unhex(signed(digest, signer))
    r, s, v = good[:32], good[32:64], good[64:]
    low = int.from_bytes(s, "big")
    other_v = bytes([27 + 28 - v[0]])
    return {
        "s is the high one of its two": r + word(ORDER - low) + other_v,
        "s is high and v is not its own": r + word(ORDER - low) + v,
        "v is the other one": r + s + other_v,
        **{f"v is {n}": r + s + bytes([n]) for n in (0, 1, 2, 26, 29, 30, 35, 36, 255)},
        "r is 0": word(0) + s + v,
        "s is 0": r + word(0) + v,
        "r and s are 0": word(0) + word(0) + v,
        "all zero": bytes(65),
        "r is the order": word(ORDER) + s + v,
        "r is 2^256 - 1": word(2**256 - 1) + s + v,
        "s is the order": r + word(ORDER) + v,
        "s is 2^256 - 1": r + word(2**256 - 1) + v,
        "s is one above half the order": r + word(ORDER // 2 + 1) + v,
        "r is of no point": word(5) + s + v,
        "r and s are exchanged": s + r + v,
        "one bit of s differs": r + word(low ^ 1) + v,
        "v stands first": v + r + s,
        "by a stranger": bytes(Account.unsafe_sign_hash(digest, b"\x66" * 32).signature),
        "over another digest": unhex(signed(word(7), signer)),
        "empty": b"",
        "63 bytes": good[:63],
        "64 bytes, without v": r + s,
        "64 bytes, compact (EIP-2098)": r + word(low | (v[0] - 27) << 255),
        "66 bytes": good + b"\x00",
        "130 bytes": good + good,
    }


def eth_account_says(digest: bytes, signature: bytes, signer: str) -> str:
    try:
        found = Account._recover_hash(digest, signature=signature)
    except (BadSignature, ValidationError, ValueError, IndexError):
        return "refuses"
    return "takes" if found == signer else "finds another signer"


def statements() -> list[tuple[dict[str, Any], str]]:
    return [
        (voucher(0), SIGNER_A),
        (voucher(1), SIGNER_B),
        (withdrawal(), SIGNER_A),
        (withdrawal(), SIGNER_B),
        (close(), SIGNER_A),
        (close(), SIGNER_B),
        (start_close(SIGNER_A), SIGNER_A),
    ]


def text() -> str:
    found = []
    for statement, signer in statements():
        digest = unhex(statement["digest"])
        signatures = spoilt(digest, signer)
        if statement["type"] != "StartClose":  # which any of the four keys may sign
            for other in KEYS:
                if other != signer:
                    signatures[f"by {other}"] = unhex(signed(digest, other))
        cases = [
            {
                "why": why,
                "signature": hexed(signature),
                "eth_account": eth_account_says(digest, signature, signer),
            }
            for why, signature in signatures.items()
        ]
        kept = {name: statement[name] for name in statement if name != "contract"}
        found.append({**kept, "signer": signer, "refused": cases})
    return as_text({"statements": found})
