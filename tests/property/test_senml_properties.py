"""SenML for all packs: what is written reads back, both forms agree, no bytes do harm."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.senml import (
    RECORDS_MAX,
    MalformedReading,
    PackFormat,
    Record,
    encode_json,
    parse,
    record_commitment,
)
from farthing.channels.senml_cbor import read_cbor
from farthing.channels.senml_errors import NotCbor
from farthing.channels.senml_record import number_text

NOW = 1_700_000_000

numbers = st.decimals(
    min_value=Decimal("-1e20"), max_value=Decimal("1e20"), places=9, allow_nan=False
)
names = st.from_regex(r"[A-Za-z0-9][-A-Za-z0-9:./_]{0,20}", fullmatch=True)
records = st.builds(
    Record,
    name=names,
    unit=st.none() | st.sampled_from(["Cel", "%RH", "lx", "ppm", "l/s"]),
    time=st.decimals(min_value=2**28, max_value=253_402_300_799, places=6),
    value=numbers | st.booleans() | st.text(max_size=20) | st.binary(max_size=20),
    value_sum=st.none() | numbers,
    original=st.none() | st.text(min_size=1, max_size=64),
)
packs = st.lists(records, min_size=1, max_size=8)

_LABELS = {
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "vd": 8,
}


def as_cbor(record: Record) -> dict[object, object]:
    fields: dict[object, object] = {0: record.name, 6: record.time}
    if record.unit:
        fields[1] = record.unit
    kinds = {Decimal: 2, str: 3, bool: 4, bytes: 8}
    fields[kinds[type(record.value)]] = record.value
    if record.value_sum is not None:
        fields[5] = record.value_sum
    if record.original is not None:
        fields["original"] = record.original
    return fields


@given(packs)
def test_a_pack_that_is_written_reads_back_the_same(pack: list[Record]) -> None:
    assert parse(encode_json(pack), PackFormat.JSON, now=NOW) == tuple(pack)


@given(packs)
def test_decimal_fractions_in_cbor_are_the_same_records_as_json(pack: list[Record]) -> None:
    data = cbor2.dumps([as_cbor(record) for record in pack])
    assert parse(data, PackFormat.CBOR, now=0) == tuple(pack)


@given(records, records)
def test_commitments_are_equal_exactly_when_records_are(one: Record, other: Record) -> None:
    equal = record_commitment(bytes(16), 0, one) == record_commitment(bytes(16), 0, other)
    # the types count too: in Python a true is equal to a one
    assert equal == (one == other and type(one.value) is type(other.value))


@given(numbers)
def test_the_text_of_a_number_is_exact_and_has_one_spelling(number: Decimal) -> None:
    text = number_text(number)
    assert Decimal(text) == number
    assert "e" not in text.lower()
    assert number_text(Decimal(text)) == text
    assert number_text(number * 1) == number_text(Decimal(text) + Decimal("0.000"))


def refusal(data: bytes, form: PackFormat) -> MalformedReading | None:
    """Read a pack; anything but a record or a refusal is a failure of the test that asks."""
    try:
        pack = parse(data, form, now=NOW)
    except MalformedReading as error:
        return error
    return None if 1 <= len(pack) <= RECORDS_MAX else MalformedReading("never")


@given(st.binary(max_size=200), st.sampled_from(PackFormat))
def test_any_bytes_are_read_or_refused_with_a_reason(data: bytes, form: PackFormat) -> None:
    error = refusal(data, form)
    assert error is None or (error.code and error.what_to_do)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
labels = st.sampled_from(["bn", "bt", "bu", "bv", "bs", "bver", *_LABELS, "ut", "x", "x_"])


@given(st.lists(st.dictionaries(labels, json_values, max_size=5), max_size=3))
def test_any_json_or_cbor_in_the_shape_of_a_pack_is_read_or_refused(
    pack: list[dict[str, object]],
) -> None:
    coded = [{_LABELS.get(key, key): value for key, value in record.items()} for record in pack]
    for data, form in (
        (json.dumps(pack).encode(), PackFormat.JSON),
        (cbor2.dumps(coded), PackFormat.CBOR),
    ):
        error = refusal(data, form)
        assert error is None or error.code


cbor_values = st.recursive(
    st.booleans()
    | st.integers(min_value=-(2**64), max_value=2**64 - 1)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(cbor_values)
def test_the_cbor_reader_agrees_with_the_general_one(value: object) -> None:
    assert read_cbor(cbor2.dumps(value)) == value


@given(st.binary(max_size=40))
def test_what_the_cbor_reader_takes_the_general_one_takes_too(data: bytes) -> None:
    try:
        read_cbor(data)
    except NotCbor:
        return
    # The general one also judges what tags mean, so only its structural refusals count here.
    try:
        stream = io.BytesIO(data)
        cbor2.CBORDecoder(stream).decode()
    except cbor2.CBORDecodeEOF:
        raise AssertionError("the general reader finds these bytes cut off") from None
    except (cbor2.CBORDecodeError, TypeError):
        pass
