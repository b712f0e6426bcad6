"""Makes vectors/receipts.json: deterministic CBOR written by hand, references by hashlib."""

import hashlib
from typing import Any, TypeAlias

from .forms import as_text, hexed

Value: TypeAlias = int | str | bytes

TYPES = {"reward": 1, "usage": 2, "request": 3}


def head(major: int, number: int) -> bytes:
    """RFC 8949 section 3: major type and the shortest form of the number."""
    if number < 24:
        return bytes([major << 5 | number])
    for more, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | more]) + number.to_bytes(size, "big")
    raise ValueError(number)


def cbor(value: Value) -> bytes:
    if isinstance(value, int):
        if value < 2**64:
            return head(0, value)
        number = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return head(6, 2) + head(2, len(number)) + number  # tag 2, section 3.4.3
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(2, len(value)) + value


def cbor_map(fields: dict[str, Value]) -> bytes:
    """Section 4.2.1: keys sorted by the bytes of their encoding."""
    rows = sorted((cbor(name), cbor(value)) for name, value in fields.items())
    return head(5, len(rows)) + b"".join(name + value for name, value in rows)


def reference(kind: str, encoded: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(bytes([TYPES[kind]]) + encoded + salt).digest()


def usage(amount: int, **changes: Value) -> dict[str, Value]:
    fields: dict[str, Value] = {"v": 1, "amount": amount, "block": 100, "at": 1_800_000_000}
    return fields | {"purpose": "parking"} | changes


PLAIN: dict[str, dict[str, Value]] = {
    "reward": {
        "v": 1,
        "amount": 12_500,
        "block": 7,
        "at": 1_800_000_000,
        "programme": "city-block",
        "programme_hash": bytes(range(32)),
        "quantity": "temperature",
        "taken": 1_799_999_990,
        "reading": b"\xab" * 32,
    },
    "usage": usage(250),
    "request": usage(99, request=bytes(range(16))),
}
BOUNDS: dict[str, tuple[Value, ...]] = {
    "amount": (
        1,
        23,
        24,
        255,
        256,
        *(2**bits - less for bits in (16, 32, 64) for less in (1, 0)),
        2**96 - 1,
    ),
    "block": (0, 1, 2**64 - 1),
    "at": (0, 1, 2**64 - 1),
    "taken": (0, 1, 2**64 - 1),
    "programme": ("x", "x" * 64, "Straße 🌳"),
    "quantity": ("x", "ü" * 64),
    "purpose": ("x", "x" * 64),
    "original": ("2026-07-28T05:00:00+00:00",),
    "programme_hash": (bytes(32), b"\xff" * 32),
    "reading": (bytes(32), b"\xff" * 32),
    "request": (bytes(16), b"\xff" * 16),
}


def chosen() -> list[tuple[str, dict[str, Value]]]:
    found = list(PLAIN.items())
    for kind, fields in PLAIN.items():
        for name, bounds in BOUNDS.items():
            if name in fields or (name, kind) == ("original", "reward"):
                found += [(kind, fields | {name: bound}) for bound in bounds]
    return found


def written(fields: dict[str, Value]) -> list[dict[str, str]]:
    kinds = {int: "uint", str: "text", bytes: "bytes"}
    return [
        {
            "name": name,
            "type": kinds[type(value)],
            "value": hexed(value) if isinstance(value, bytes) else str(value),
        }
        for name, value in fields.items()
    ]


def refused_fields() -> list[tuple[str, str, dict[str, Value]]]:
    wrong: dict[str, tuple[Value, ...]] = {
        "v": (0, 2),
        "amount": (0, 2**96, "1"),
        "block": (2**64,),
        "at": (2**64, b"\x01"),
        "taken": (2**64,),
        "programme": ("", "x" * 65, b"x"),
        "quantity": ("", "x" * 65),
        "purpose": ("", "x" * 65),
        "original": ("", "x" * 65),
        "programme_hash": (bytes(31), bytes(33)),
        "reading": (bytes(31), bytes(33)),
        "request": (bytes(15), bytes(17)),
    }
    found = []
    for kind, fields in PLAIN.items():
        for name, values in wrong.items():
            if name in fields or (name, kind) == ("original", "reward"):
                found += [(f"{name} out of range", kind, fields | {name: v}) for v in values]
        for name in fields:
            found.append((f"{name} missing", kind, {n: v for n, v in fields.items() if n != name}))
        found.append(("an unknown field", kind, fields | {"note": "hello"}))
    found.append(("another type's fields", "usage", PLAIN["request"]))
    return found


def refused_bytes() -> list[tuple[str, str, bytes]]:
    fields = PLAIN["usage"]
    good = cbor_map(fields)
    rows = sorted((cbor(name), cbor(value)) for name, value in fields.items())
    pairs = [name + value for name, value in rows]
    return [
        ("nothing", "usage", b""),
        ("no map", "usage", cbor("parking")),
        ("bytes left over", "usage", good + b"\x00"),
        ("cut short", "usage", good[:-1]),
        ("a map without a length", "usage", b"\xbf" + b"".join(pairs) + b"\xff"),
        ("keys in another order", "usage", head(5, 5) + b"".join(reversed(pairs))),
        ("a key twice", "usage", head(5, 6) + b"".join([*pairs, pairs[-1]])),
        ("a key that is no text", "usage", head(5, 6) + b"\x00\x00" + b"".join(pairs)),
        ("a number in a longer form", "usage", good.replace(b"\x18\xfa", b"\x19\x00\xfa")),
        ("a length in a longer form", "usage", good.replace(b"\x67park", b"\x78\x07park")),
        ("a small number as a bignum", "usage", good.replace(b"\x18\xfa", b"\xc2\x41\xfa")),
        ("a float", "usage", good.replace(b"\x18\xfa", b"\xf9\x5b\xd0")),
        ("a text that is not UTF-8", "usage", good.replace(b"park", b"\xff\xfe\xfd\xfc")),
        ("longer than 1,024 bytes", "usage", cbor_map(fields | {"purpose": "x" * 1024})),
    ]


def text() -> str:
    receipts = []
    for number, (kind, fields) in enumerate(chosen()):
        salt = hashlib.sha256(b"salt %d" % number).digest() if number else bytes(32)
        encoded = cbor_map(fields)
        receipts.append(
            {
                "kind": kind,
                "type": TYPES[kind],
                "fields": written(fields),
                "salt": hexed(salt),
                "cbor": hexed(encoded),
                "reference": hexed(reference(kind, encoded, salt)),
            }
        )
    refused: list[dict[str, Any]] = [
        {"why": why, "kind": kind, "type": TYPES[kind], "cbor": hexed(cbor_map(fields))}
        for why, kind, fields in refused_fields()
    ]
    refused += [
        {"why": why, "kind": kind, "type": TYPES[kind], "cbor": hexed(encoded)}
        for why, kind, encoded in refused_bytes()
    ]
    return as_text({"types": TYPES, "receipts": receipts, "refused": refused})
