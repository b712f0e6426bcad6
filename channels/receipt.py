"""Receipts: what a payment was for, and the 32-byte reference that commits to it.

reference = SHA-256(type ‖ deterministic CBOR of the receipt ‖ 32-byte salt). The payee is given
the receipt and the salt; nobody learns the receipt from the reference alone.
CBOR: RFC 8949 section 4.2, core deterministic encoding (text keys only).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import cbor2

from .errors import LocalError
from .ids import WORD_BYTES
from .senml_cbor import Pairs, read_cbor
from .senml_errors import NotCbor

RECEIPT_BYTES_MAX = 1024
"""Fits every receipt of the schema with room to grow; a thousand of them fit a frame."""

SCHEMA_VERSION = 1
PURPOSE_CHARACTERS_MAX = 64
"""Room for a code or a few words; it is published to auditors, so it holds no personal data."""
TEXT_CHARACTERS_MAX = 64
REQUEST_BYTES = 16
_UINT64_MAX = 2**64 - 1


class ReceiptType(IntEnum):
    """What a payment answers; the first byte under the reference's hash."""

    REWARD = 1
    USAGE = 2
    REQUEST = 3


class MalformedReceipt(LocalError):
    """Bytes that are no receipt of the schema."""

    code = "malformed-receipt"
    remedy = "compare it with the receipt schema in docs/protocol.md"


def _integer(low: int, high: int) -> Any:
    def check(value: object) -> bool:
        return type(value) is int and low <= value <= high

    return check


def _text(value: object) -> bool:
    if type(value) is not str or not 1 <= len(value) <= TEXT_CHARACTERS_MAX:
        return False
    return value.encode(errors="ignore").decode() == value  # JSON lets half a character through


def _bytes(size: int) -> Any:
    def check(value: object) -> bool:
        return type(value) is bytes and len(value) == size

    return check


_COMMON = {
    "v": _integer(SCHEMA_VERSION, SCHEMA_VERSION),
    "amount": _integer(1, 2**96 - 1),
    "block": _integer(0, _UINT64_MAX),
    "at": _integer(0, _UINT64_MAX),
}
_REQUIRED: Mapping[ReceiptType, Mapping[str, Any]] = {
    ReceiptType.REWARD: {
        **_COMMON,
        "programme": _text,
        "programme_hash": _bytes(WORD_BYTES),
        "quantity": _text,
        "taken": _integer(0, _UINT64_MAX),
        "reading": _bytes(WORD_BYTES),
    },
    ReceiptType.USAGE: {**_COMMON, "purpose": _text},
    ReceiptType.REQUEST: {**_COMMON, "purpose": _text, "request": _bytes(REQUEST_BYTES)},
}
_OPTIONAL: Mapping[str, Any] = {"original": _text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt as it is hashed, stored and sent: its type, its CBOR bytes and its salt."""

    type: ReceiptType
    cbor: bytes
    salt: bytes

    def __post_init__(self) -> None:
        if len(self.salt) != WORD_BYTES:
            raise MalformedReceipt("the salt is not 32 bytes")
        if len(self.cbor) > RECEIPT_BYTES_MAX:
            raise MalformedReceipt(f"the receipt is longer than {RECEIPT_BYTES_MAX} bytes")

    def reference(self) -> bytes:
        """32 bytes that commit to type, content and salt."""
        return hashlib.sha256(bytes([self.type]) + self.cbor + self.salt).digest()

    def fields(self) -> dict[str, Any]:
        """Decode and check the content; raises `MalformedReceipt`."""
        try:
            pairs = read_cbor(self.cbor)
        except NotCbor as error:
            raise MalformedReceipt(f"the receipt is not CBOR ({error.text})") from None
        if not isinstance(pairs, Pairs):
            raise MalformedReceipt("the receipt is not a map")
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if not isinstance(name, str):
                raise MalformedReceipt("a field's name in the receipt is not a text")
            fields[name] = value
        _check_fields(self.type, fields)
        if cbor2.dumps(fields, canonical=True) != self.cbor:  # equal keys, too, end here
            raise MalformedReceipt("the receipt is not in deterministic encoding")
        return fields


def _check_fields(kind: ReceiptType, fields: Mapping[str, Any]) -> None:
    required = _REQUIRED[kind]
    for name, check in required.items():
        if name not in fields or not check(fields[name]):
            raise MalformedReceipt(
                f"field {name!r} of a {kind.name.lower()} receipt is missing or wrong"
            )
    for name in fields.keys() - required.keys():
        if name not in _OPTIONAL or not _OPTIONAL[name](fields[name]):
            raise MalformedReceipt(f"field {name!r} of a receipt is unknown or wrong")


def make_receipt(kind: ReceiptType, fields: Mapping[str, Any], *, salt: bytes) -> Receipt:
    """Encode a receipt deterministically; raises `MalformedReceipt` if a field is wrong."""
    whole = {"v": SCHEMA_VERSION, **fields}
    _check_fields(kind, whole)
    return Receipt(type=kind, cbor=cbor2.dumps(whole, canonical=True), salt=salt)
