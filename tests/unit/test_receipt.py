"""A receipt commits to what a payment was for, and only a receipt of the schema is read."""

import contextlib
import hashlib
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.receipt import (
    PURPOSE_CHARACTERS_MAX,
    RECEIPT_BYTES_MAX,
    MalformedReceipt,
    Receipt,
    ReceiptType,
    make_receipt,
)

SALT = bytes(range(32))
COMMON = {"amount": 12_500, "block": 7, "at": 1_800_000_000}
FIELDS: dict[ReceiptType, dict[str, Any]] = {
    ReceiptType.REWARD: {
        **COMMON,
        "programme": "water-flow",
        "programme_hash": b"\x01" * 32,
        "quantity": "flow",
        "taken": 1_799_999_000,
        "reading": b"\x02" * 32,
    },
    ReceiptType.USAGE: {**COMMON, "purpose": "parking"},
    ReceiptType.REQUEST: {**COMMON, "purpose": "charging", "request": b"\x03" * 16},
}
EVERY_FIELD = [(kind, name) for kind, fields in FIELDS.items() for name in fields]


def make(kind: ReceiptType, **changes: Any) -> Receipt:
    return make_receipt(kind, FIELDS[kind] | changes, salt=SALT)


def raw(content: bytes, kind: ReceiptType = ReceiptType.USAGE) -> Receipt:
    return Receipt(type=kind, cbor=content, salt=SALT)


@pytest.mark.parametrize("kind", ReceiptType)
def test_a_receipt_reads_back_as_what_was_written(kind: ReceiptType) -> None:
    assert make(kind).fields() == {"v": 1, **FIELDS[kind]}


def test_a_reward_may_keep_the_time_as_the_sensor_wrote_it() -> None:
    receipt = make(ReceiptType.REWARD, original="2015-02-02 14:19:00")
    assert receipt.fields()["original"] == "2015-02-02 14:19:00"


def test_the_reference_is_the_hash_of_type_content_and_salt() -> None:
    receipt = make(ReceiptType.USAGE)
    assert receipt.reference() == hashlib.sha256(b"\x02" + receipt.cbor + SALT).digest()


def test_the_reference_changes_with_type_content_and_salt() -> None:
    receipt = make(ReceiptType.USAGE)
    others = [
        Receipt(type=ReceiptType.REQUEST, cbor=receipt.cbor, salt=SALT),
        make(ReceiptType.USAGE, amount=12_501),
        Receipt(type=receipt.type, cbor=receipt.cbor, salt=bytes(32)),
    ]
    assert len({receipt.reference(), *(other.reference() for other in others)}) == 4


@pytest.mark.parametrize(("kind", "name"), EVERY_FIELD)
def test_a_field_that_is_missing_or_of_another_type_is_refused_by_name(
    kind: ReceiptType, name: str
) -> None:
    fields = {key: value for key, value in FIELDS[kind].items() if key != name}
    for wrong in (fields, fields | {name: None}, fields | {name: 1.0}, fields | {name: [1]}):
        with pytest.raises(MalformedReceipt, match=f"'{name}'"):
            make_receipt(kind, wrong, salt=SALT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("v", True),
        ("amount", 0),
        ("amount", -1),
        ("amount", 2**96),
        ("amount", True),
        ("block", -1),
        ("block", 2**64),
        ("at", 2**64),
        ("purpose", ""),
        ("purpose", "x" * (PURPOSE_CHARACTERS_MAX + 1)),
        ("purpose", b"parking"),
        ("purpose", "half a character: \ud800"),
    ],
)
def test_a_value_outside_its_bounds_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedReceipt, match=f"'{name}'"):
        make(ReceiptType.USAGE, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("amount", 1), ("amount", 2**96 - 1), ("block", 0), ("at", 2**64 - 1), ("purpose", "é" * 64)],
)
def test_a_value_at_its_bound_is_taken_and_read_back(name: str, value: object) -> None:
    assert make(ReceiptType.USAGE, **{name: value}).fields()[name] == value


@pytest.mark.parametrize("changes", [{"owner": "alice"}, {"original": 5}, {"request": b"x" * 16}])
def test_a_field_that_the_schema_does_not_know_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedReceipt, match="unknown or wrong"):
        make(ReceiptType.USAGE, **changes)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_salt_that_is_not_32_bytes_is_refused(size: int) -> None:
    with pytest.raises(MalformedReceipt, match="salt"):
        Receipt(type=ReceiptType.USAGE, cbor=b"", salt=bytes(size))


def test_a_receipt_longer_than_its_limit_is_refused() -> None:
    raw(bytes(RECEIPT_BYTES_MAX))
    with pytest.raises(MalformedReceipt, match="longer"):
        raw(bytes(RECEIPT_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not CBOR"),
        (b"\xff", "not CBOR"),
        (b"\xa1", "not CBOR"),
        (b"\x81" * 1000, "not CBOR"),
        (b"\x9b" + b"\xff" * 8, "not CBOR"),
        (b"\x5b\x7f" + b"\xff" * 7, "not CBOR"),
        (b"\x01", "not a map"),
        (b"\x80", "not a map"),
        (b"\xa1\x01\x02", "not a text"),
        (b"\xa1\x80\x01", "not a text"),
        (b"\xa0", "'v'"),
        (cbor2.dumps(cbor2.CBORTag(35, 5)), "not a map"),
        (cbor2.dumps({"v": cbor2.CBORTag(4, ["a", "b"])}), "'v'"),
        (cbor2.dumps({"v": cbor2.CBORTag(5, [2**62, 1])}), "'v'"),
    ],
)
def test_bytes_that_are_no_receipt_are_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(MalformedReceipt, match=why):
        raw(content).fields()


def test_one_content_has_one_encoding() -> None:
    fields = {"v": 1, **FIELDS[ReceiptType.USAGE]}
    good = make(ReceiptType.USAGE).cbor
    assert raw(good).fields() == fields
    twice = b"\xa6" + good[1:] + cbor2.dumps("v") + b"\x01"
    for other in (
        cbor2.dumps(dict(reversed(fields.items()))),
        b"\xbf" + good[1:] + b"\xff",
        good.replace(cbor2.dumps(12_500), b"\x1a" + (12_500).to_bytes(4, "big")),
        twice,
    ):
        assert other != good
        with pytest.raises(MalformedReceipt, match="deterministic"):
            raw(other).fields()
    with pytest.raises(MalformedReceipt):
        raw(good + b"\x00").fields()


@given(st.binary(max_size=40), st.integers(0, 60))
def test_any_bytes_are_read_or_refused_and_nothing_else_happens(noise: bytes, at: int) -> None:
    good = make(ReceiptType.USAGE).cbor
    for content in (noise, good[:at] + noise + good[at + len(noise) :]):
        with contextlib.suppress(MalformedReceipt):
            assert raw(content).fields()["v"] == 1
