"""Makes vectors/histories.json: what a lane's total and history are after each payment."""

import hashlib
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from .forms import as_text, hexed
from .make_receipts import TYPES, cbor_map, reference, usage

MOST = 2**96 - 1

LANES: dict[str, tuple[int, ...]] = {
    "one payment of the least": (1,),
    "one payment of the most": (MOST,),
    "amounts on both sides of each length": (255, 256, 2**64 - 1, 2**64, 2**95),
    "up to the most a lane holds": (MOST - 2, 1, 1),
    "twenty of the same amount, each with its own salt": (12_500,) * 20,
}


def payment(lane: str, number: int, amount: int) -> dict[str, Any]:
    """One payment for a use, with its receipt, salt and reference."""
    encoded = cbor_map(usage(amount))
    salt = hashlib.sha256(f"{lane} {number}".encode()).digest()
    return {
        "amount": str(amount),
        "type": TYPES["usage"],
        "receipt": hexed(encoded),
        "salt": hexed(salt),
        "reference": hexed(reference("usage", encoded, salt)),
    }


def lane(name: str, amounts: tuple[int, ...]) -> dict[str, Any]:
    history = bytes(32)
    transferred = 0
    rows = []
    for number, amount in enumerate(amounts, 1):
        row = payment(name, number, amount)
        paid = bytes.fromhex(row["reference"][2:])
        history = keccak(encode(["bytes32", "uint256", "bytes32"], [history, amount, paid]))
        transferred += amount
        rows.append(
            row
            | {
                "nonce": str(number),
                "transferred": str(transferred),
                "history": hexed(history),
            }
        )
    return {"name": name, "payments": rows}


def refused() -> list[dict[str, Any]]:
    """Lanes whose last payment must not be made or taken."""
    return [
        {"why": why, "amounts": [str(amount) for amount in amounts]}
        for why, amounts in (
            ("an amount of 0", (0,)),
            ("an amount below 0", (-1,)),
            ("an amount of 2^96", (2**96,)),
            ("a total of 2^96", (MOST, 1)),
            ("a total of 2^96, by two halves", (2**95, 2**95)),
        )
    ]


def text() -> str:
    lanes = [lane(name, amounts) for name, amounts in LANES.items()]
    return as_text({"start": hexed(bytes(32)), "lanes": lanes, "refused": refused()})
