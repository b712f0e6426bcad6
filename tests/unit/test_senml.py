"""SenML packs: what RFC 8428 says, what it leaves open, and what hostile bytes try."""

from __future__ import annotations

import hashlib
import json
import struct
from decimal import Decimal

import cbor2
import pytest

from farthing.channels import messages, senml_errors
from farthing.channels.errors import LocalError, PeerError
from farthing.channels.senml import (
    PACK_BYTES_MAX,
    RECORDS_MAX,
    MalformedReading,
    PackFormat,
    Record,
    Value,
    encode_json,
    parse,
    record_commitment,
)
from farthing.channels.senml_record import (
    DIGITS_MAX,
    NAME_CHARACTERS_MAX,
    SUBMISSION_BYTES,
    ImpossibleRecord,
    MalformedSubmission,
)

NOW = 1_700_000_000
T = 1_650_000_000


def read(pack: object) -> tuple[Record, ...]:
    return parse(json.dumps(pack).encode(), PackFormat.JSON, now=NOW)


def read_cbor(pack: object) -> tuple[Record, ...]:
    return parse(cbor2.dumps(pack), PackFormat.CBOR, now=NOW)


def refusal(pack: object) -> MalformedReading:
    data = pack if isinstance(pack, bytes) else json.dumps(pack).encode()
    with pytest.raises(MalformedReading) as caught:
        parse(data, PackFormat.JSON, now=NOW)
    return caught.value


def refusal_cbor(pack: object) -> MalformedReading:
    data = pack if isinstance(pack, bytes) else cbor2.dumps(pack)
    with pytest.raises(MalformedReading) as caught:
        parse(data, PackFormat.CBOR, now=NOW)
    return caught.value


def test_limits_are_those_of_the_message_that_carries_a_pack() -> None:
    assert PACK_BYTES_MAX == messages.READINGS_BYTES_MAX
    assert RECORDS_MAX == messages.OUTCOMES_MAX
    assert SUBMISSION_BYTES == messages.SUBMISSION_BYTES
    assert all(0 < number < 256 for number in PackFormat)


def test_the_rfcs_example_of_current_over_six_seconds_resolves_as_the_rfc_resolves_it() -> None:
    records = read(
        [
            {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1276020076.001, "bu": "A", "bver": 10}
            | {"n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "t": -5, "v": 1.2},
            {"n": "current", "t": -4, "v": 1.3},
            {"n": "current", "v": 1.7},
        ]
    )
    assert [(r.name, r.unit, str(r.time), str(r.value)) for r in records] == [
        ("urn:dev:ow:10e2073a0108006:voltage", "V", "1276020076.001", "120.1"),
        ("urn:dev:ow:10e2073a0108006:current", "A", "1276020071.001", "1.2"),
        ("urn:dev:ow:10e2073a0108006:current", "A", "1276020072.001", "1.3"),
        ("urn:dev:ow:10e2073a0108006:current", "A", "1276020076.001", "1.7"),
    ]


def test_base_value_and_base_sum_are_added_and_a_missing_one_counts_as_zero() -> None:
    first, second, third = read(
        [
            {"bn": "m", "bt": T, "bv": 20, "bs": 100, "v": 0.5, "s": 1},
            {"t": 1},
            {"t": 2, "vb": True},
        ]
    )
    assert (first.value, first.value_sum) == (Decimal("20.5"), Decimal(101))
    assert (second.value, second.value_sum) == (Decimal(20), Decimal(100))
    assert third.value is True


def test_a_base_holds_until_the_next_record_that_has_it() -> None:
    records = read(
        [
            {"bn": "a/", "bt": T, "n": "x", "v": 1},
            {"bn": "b/", "n": "y", "v": 2},
            {"n": "z", "v": 3},
        ]
    )
    assert [r.name for r in records] == ["a/x", "b/y", "b/z"]
    assert {r.time for r in records} == {Decimal(T)}


def test_an_empty_unit_is_no_unit() -> None:
    assert read([{"bu": "Cel", "u": "", "n": "x", "v": 1}])[0].unit is None


@pytest.mark.parametrize(
    ("time", "resolved"),
    [
        (0, NOW),
        (-5, NOW - 5),
        (5, NOW + 5),
        (2**28 - 1, NOW + 2**28 - 1),
        (2**28, 2**28),
        (T, T),
    ],
)
def test_times_below_2_to_the_28_are_relative_to_now(time: int, resolved: int) -> None:
    assert read([{"n": "x", "t": time, "v": 1}])[0].time == resolved
    assert read([{"n": "x", "bt": time, "v": 1}])[0].time == resolved


@pytest.mark.parametrize("time", [-NOW, -(10**20), 253_402_300_800, 10**20])
def test_a_time_that_no_calendar_has_is_refused(time: int) -> None:
    error = refusal([{"n": "x", "t": time, "v": 1}])
    assert isinstance(error, senml_errors.TimeOutOfRange)
    assert (error.record, error.field) == (0, "t")


def test_numbers_are_exact_from_the_text_on() -> None:
    record = parse(
        b'[{"n":"x","t":1650000000.123456789,"v":0.1000000000000000000001}]',
        PackFormat.JSON,
        now=NOW,
    )[0]
    assert record.value == Decimal("0.1000000000000000000001")
    assert record.time == Decimal("1650000000.123456789")


def test_sums_with_a_base_do_not_round() -> None:
    pack = b'[{"bn":"x","bv":1e30,"v":1e-30}]'
    assert parse(pack, PackFormat.JSON, now=NOW)[0].value == Decimal(f"1{'0' * 30}.{'0' * 29}1")


def test_every_kind_of_value_is_read_from_json_and_cbor_alike() -> None:
    json_records = read(
        [
            {"n": "x", "t": T, "vs": "ä€"},
            {"n": "x", "t": T, "vb": False},
            {"n": "x", "t": T, "vd": "aGkgXw"},
            {"n": "x", "t": T, "v": 3, "ut": 60, "original": "yesterday"},
            {"n": "x", "t": T, "s": 7, "u": "J"},
        ]
    )
    cbor_records = read_cbor(
        [
            {0: "x", 6: T, 3: "ä€"},
            {0: "x", 6: T, 4: False},
            {0: "x", 6: T, 8: b"hi _"},
            {0: "x", 6: T, 2: 3, 7: 60, "original": "yesterday"},
            {0: "x", 6: T, 5: 7, 1: "J"},
        ]
    )
    assert json_records == cbor_records
    assert [r.value for r in json_records] == ["ä€", False, b"hi _", Decimal(3), None]
    assert json_records[3].original == "yesterday"
    assert json_records[3].update_seconds == 60


def test_cbor_base_fields_have_their_negative_labels() -> None:
    record = read_cbor([{-1: 10, -2: "a/", -3: T, -4: "Cel", -5: 20, -6: 1, 0: "x", 6: 1, 2: 1}])[0]
    assert record == Record(
        name="a/x",
        unit="Cel",
        time=Decimal(T + 1),
        value=Decimal(21),
        value_sum=Decimal(1),
    )


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (b"\xf9\x3e\x00", Decimal("1.5")),
        (b"\xfa\x3d\xcc\xcc\xcd", Decimal("0.100000001490116119384765625")),
        (
            b"\xfb" + struct.pack(">d", 0.1),
            Decimal("0.1000000000000000055511151231257827021181583404541015625"),
        ),
        (b"\xfb" + struct.pack(">d", -(2.0**-20)), Decimal("-9.5367431640625e-7")),
        (b"\xc4\x82\x21\x19\x09\x0e", Decimal("23.18")),
        (b"\xc4\x82\x21\x39\x09\x0d", Decimal("-23.18")),
        (b"\xc4\x82\x00\x00", Decimal(0)),
        (b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", Decimal(2**64)),
        (b"\xc3\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", Decimal(-1 - 2**64)),
        (b"\xc4\x82\x20\xc2\x41\x0f", Decimal("1.5")),
        (b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", Decimal(-(2**64))),
    ],
)
def test_cbor_numbers_are_taken_at_their_exact_value(item: bytes, value: Decimal) -> None:
    pack = b"\x81\xa2\x00\x61x\x02" + item
    assert parse(pack, PackFormat.CBOR, now=NOW)[0].value == value


def test_cbor_of_indefinite_length_is_read() -> None:
    pack = b"\x9f\xbf\x00\x7f\x61x\x61y\xff\x02\x01\xff\xff"
    assert parse(pack, PackFormat.CBOR, now=NOW)[0].name == "xy"


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e31",
        "1e-31",
        "1e999999999",
        "-1e999999999999999999999",
        "0." + "1" * (DIGITS_MAX + 1),
        "1" * 5000,
    ],
)
@pytest.mark.parametrize("field", ["v", "t", "bt", "bv", "s", "bs", "ut"])
def test_numbers_beyond_measure_are_refused_by_record_and_field(number: str, field: str) -> None:
    pack = f'[{{"n":"x","vb":true}},{{"n":"x","{field}":{number}}}]'.encode()
    error = refusal(pack)
    assert isinstance(error, senml_errors.NumberOutOfRange)
    assert (error.record, error.field) == (1, field)
    assert str(error).startswith(f"record 1, field '{field}': ")
    assert len(str(error)) < 400


@pytest.mark.parametrize("zero", ["0", "-0", "0.000", "0e999999999", "-0e-999999999"])
def test_a_zero_is_a_zero_however_it_is_written(zero: str) -> None:
    pack = f'[{{"n":"x","t":{T},"bv":1.5,"v":{zero}}},{{"n":"x","bv":0,"v":{zero}}}]'.encode()
    first, second = parse(pack, PackFormat.JSON, now=NOW)
    assert (first.value, second.value) == (Decimal("1.5"), 0)
    assert b'"v":0}' in encode_json([second])


@pytest.mark.parametrize(
    "item",
    [
        b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\xfb\xff\xf0\x00\x00\x00\x00\x00\x00",
        b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
        b"\xc4\x82\x3b\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xc2\x58\x50" + b"\xff" * 80,
        b"\xc4\x82\x20\xc2\x58\x50" + b"\xff" * 80,
    ],
)
def test_cbor_numbers_beyond_measure_are_refused(item: bytes) -> None:
    error = refusal_cbor(b"\x81\xa2\x00\x61x\x02" + item)
    assert isinstance(error, senml_errors.NumberOutOfRange)
    assert error.field == "v"


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (b"", senml_errors.NotJson),
        (b"[", senml_errors.NotJson),
        (b"[{},]", senml_errors.NotJson),
        (b"\xff\xfe[\x00]\x00", senml_errors.NotJson),
        (b"\xef\xbb\xbf[]", senml_errors.NotJson),
        (b"[" * 40_000, senml_errors.NotJson),
        (b'[{"n":' * 8_000, senml_errors.NotJson),
        (b'"' + b'\\"' * 24_000, senml_errors.NotJson),
        (b'"\\', senml_errors.NotJson),
        (b'{"n":"x","v":1}', senml_errors.NotAPack),
        (b"7", senml_errors.NotAPack),
        (b"[]", senml_errors.NotAPack),
        (b"[1]", senml_errors.NotAPack),
        (b"[[]]", senml_errors.NotAPack),
        (b'[{"n":"x","v":1}]x', senml_errors.NotJson),
        (b" " * (PACK_BYTES_MAX + 1), senml_errors.PackTooLong),
        (b'[{"n":"x","v":1,"v":2}]', senml_errors.DuplicateField),
        (b'[{"n":"x","other":1,"other":2,"v":1}]', senml_errors.DuplicateField),
        (b'[{"n":"x","vs":"\\ud800"}]', senml_errors.MalformedText),
    ],
)
def test_bytes_that_are_no_pack_are_refused(pack: bytes, kind: type[MalformedReading]) -> None:
    assert type(refusal(pack)) is kind


@pytest.mark.parametrize(
    ("record", "kind", "field"),
    [
        ({"n": "x"}, senml_errors.MissingValue, None),
        ({"n": "x", "v": 1, "vs": "1"}, senml_errors.SeveralValues, "vs"),
        ({"n": "x", "v": "1"}, senml_errors.WrongFieldType, "v"),
        ({"n": "x", "v": True}, senml_errors.WrongFieldType, "v"),
        ({"n": "x", "v": None}, senml_errors.WrongFieldType, "v"),
        ({"n": "x", "v": [1]}, senml_errors.WrongFieldType, "v"),
        ({"n": "x", "v": {"a": 1}}, senml_errors.WrongFieldType, "v"),
        ({"n": "x", "vs": 1}, senml_errors.WrongFieldType, "vs"),
        ({"n": "x", "vb": 1}, senml_errors.WrongFieldType, "vb"),
        ({"n": "x", "vd": "a"}, senml_errors.WrongFieldType, "vd"),
        ({"n": "x", "vd": "a+/b"}, senml_errors.WrongFieldType, "vd"),
        ({"n": "x", "vd": "ää"}, senml_errors.WrongFieldType, "vd"),
        ({"n": 7, "v": 1}, senml_errors.WrongFieldType, "n"),
        ({"n": "x", "v": 1, "mood_": 1}, senml_errors.UnknownRequirement, "mood_"),
        ({"n": "x", "v": 1, "bver": 5}, senml_errors.UnsupportedVersion, "bver"),
        ({"n": "x", "v": 1, "bver": 11}, senml_errors.UnsupportedVersion, "bver"),
        ({"n": "x", "v": 1, "u": "deg C"}, senml_errors.MalformedUnit, "u"),
        ({"n": "x", "v": 1, "u": "°C"}, senml_errors.MalformedUnit, "u"),
        ({"n": "x", "v": 1, "bu": "u" * 33}, senml_errors.MalformedUnit, "bu"),
        ({"n": "", "v": 1}, senml_errors.MalformedName, "n"),
        ({"v": 1}, senml_errors.MalformedName, "n"),
        ({"n": "-x", "v": 1}, senml_errors.MalformedName, "n"),
        ({"n": "a b", "v": 1}, senml_errors.MalformedName, "n"),
        ({"n": "käse", "v": 1}, senml_errors.MalformedName, "n"),
        ({"n": "x\n", "v": 1}, senml_errors.MalformedName, "n"),
        ({"n": "x" * (NAME_CHARACTERS_MAX + 1), "v": 1}, senml_errors.MalformedName, "n"),
        ({"n": "x", "v": 1, "original": ""}, senml_errors.MalformedText, "original"),
        ({"n": "x", "v": 1, "original": "x" * 65}, senml_errors.MalformedText, "original"),
        ({"n": "x", "bv": 9e30, "v": 9e30}, senml_errors.NumberOutOfRange, "v"),
    ],
)
def test_a_malformed_record_is_refused_by_its_number_and_field(
    record: dict[str, object], kind: type[MalformedReading], field: str | None
) -> None:
    error = refusal([{"n": "x", "v": 1}, record] if "bver" not in record else [record])
    assert type(error) is kind
    assert error.record == (0 if "bver" in record else 1)
    assert error.field == field
    assert error.what_to_do
    assert isinstance(error, PeerError)


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (b"", senml_errors.NotCbor),
        (b"\x81", senml_errors.NotCbor),
        (b"\x80", senml_errors.NotAPack),
        (b"\xa0", senml_errors.NotAPack),
        (b"\x81\x01", senml_errors.NotAPack),
        (b"\x81" * 40_000, senml_errors.NotCbor),
        (b"\xc1" * 40_000, senml_errors.NotCbor),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", senml_errors.NotCbor),
        (b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", senml_errors.NotCbor),
        (b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", senml_errors.NotCbor),
        (b"\x81\xa2\x00\x61x\x02\x01\x00", senml_errors.NotCbor),
        (b"\x81\xa2\x00\x61\xff\x02\x01", senml_errors.NotCbor),
        (b"\xff", senml_errors.NotCbor),
        (b"\x81\xff", senml_errors.NotCbor),
        (b"\x1c", senml_errors.NotCbor),
        (b"\x1f", senml_errors.NotCbor),
        (b"\xdf", senml_errors.NotCbor),
        (b"\x7f\x41a\xff", senml_errors.NotCbor),
        (b"\x7f\x7f\xff\xff", senml_errors.NotCbor),
        (b"\xbf\x00\xff", senml_errors.NotCbor),
        (b"\x9f\x9f", senml_errors.NotCbor),
        (b"\x81\xa3\x00\x61x\x02\x01\x02\x02", senml_errors.DuplicateField),
        (b"\x81\xa3\x00\x61x\x02\x01\x61v\x02", senml_errors.DuplicateField),
        (b"\x81\xa2\x41x\x61x\x02\x01", senml_errors.WrongFieldType),
        (b"\x81\xa2\x00\x61x\x02\xf7", senml_errors.WrongFieldType),
        (b"\x81\xa2\x00\x61x\x02\xd8\x23\x63a+a", senml_errors.WrongFieldType),
        (b"\x81\xa2\x00\x61x\x02\xc5\x82\x01\x01", senml_errors.WrongFieldType),
        (b"\x81\xa2\x00\x61x\x02\xc4\x81\x01", senml_errors.WrongFieldType),
        (b"\x81\xa2\x00\x61x\x02\xc4\x82\x61a\x01", senml_errors.WrongFieldType),
        (b"\x81\xa2\x00\x61x\x02\xc2\x61a", senml_errors.WrongFieldType),
    ],
)
def test_cbor_that_is_no_pack_is_refused(pack: bytes, kind: type[MalformedReading]) -> None:
    assert type(refusal_cbor(pack)) is kind


def test_unknown_fields_are_ignored_whatever_they_hold() -> None:
    assert read([{"n": "x", "v": 1, "l": {"deep": [[[]]]}, "mood": "good"}])[0].value == 1
    assert read_cbor([{0: "x", 2: 1, 99: [1], "mood": cbor2.CBORTag(35, "a+"), -9: None}])


def test_brackets_in_texts_are_no_nesting() -> None:
    assert read([{"n": "x", "vs": '[[[[[[[[[[{{"\\'}])[0].value == '[[[[[[[[[[{{"\\'
    assert read([{"n": "x", "v": 1, "l": [[[[[[]]]]]]}])
    assert "deeper than 8" in str(refusal([{"n": "x", "v": 1, "l": [[[[[[[]]]]]]]}]))


def test_more_records_than_a_pack_may_have_are_refused() -> None:
    assert len(read([{"n": "x", "v": 1}] * RECORDS_MAX)) == RECORDS_MAX
    error = refusal([{"n": "x", "v": 1}] * (RECORDS_MAX + 1))
    assert type(error) is senml_errors.TooManyRecords


def test_one_pack_has_one_version() -> None:
    assert read([{"bver": 26, "n": "x", "u": "ppm", "v": 1}, {"bver": 26, "n": "x", "v": 1}])
    assert read([{"bver": 26, "n": "x", "u": "ppm", "v": 1}, {"n": "x", "v": 1}])
    error = refusal([{"n": "x", "v": 1}, {"bver": 26, "n": "x", "v": 1}])
    assert type(error) is senml_errors.UnsupportedVersion
    assert error.record == 1


def test_an_unknown_format_number_is_refused() -> None:
    with pytest.raises(senml_errors.UnknownFormat):
        parse(b"[]", 0, now=NOW)


def test_each_reason_has_a_code_and_a_remedy_of_its_own() -> None:
    kinds = MalformedReading.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.remedy for kind in kinds)
    with pytest.raises(TypeError):
        MalformedReading("a base class")


def test_a_pack_that_is_written_reads_back_and_shows_numbers_as_they_are() -> None:
    record = Record(
        name="urn:dev:alice-1/temperature",
        unit="Cel",
        time=Decimal("1650000000.50"),
        value=Decimal("23.1800"),
        original="2015-02-04 17:51:00",
    )
    data = encode_json([record])
    assert data == (
        b'[{"n":"urn:dev:alice-1/temperature","t":1650000000.5,"u":"Cel","v":23.18,'
        b'"original":"2015-02-04 17:51:00"}]'
    )
    assert parse(data, PackFormat.JSON, now=NOW) == (record,)


def test_a_pack_with_a_secondary_unit_states_the_version_that_has_them() -> None:
    first = Record(name="x", unit="Cel", time=Decimal(T), value=Decimal(1))
    second = Record(name="x", unit="ppm", time=Decimal(T), value=Decimal(1))
    assert json.loads(encode_json([first, second]))[0]["bver"] == 26
    assert "bver" not in json.loads(encode_json([first]))[0]
    assert encode_json([]) == b"[]"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "bad name"},
        {"unit": "°C"},
        {"time": Decimal(5)},
        {"time": Decimal("NaN")},
        {"value": None},
        {"value": Decimal("Infinity")},
        {"value": "\ud800"},
        {"value_sum": Decimal("1e99")},
        {"update_seconds": Decimal("NaN")},
        {"original": "x" * 65},
    ],
)
def test_a_record_that_senml_cannot_express_does_not_come_to_be(change: dict[str, object]) -> None:
    fields = {"name": "x", "unit": "Cel", "time": Decimal(T), "value": Decimal(1)} | change
    with pytest.raises(ImpossibleRecord) as caught:
        Record(**fields)  # type: ignore[arg-type]
    assert isinstance(caught.value, LocalError)


def test_a_commitment_is_the_hash_that_the_protocol_describes() -> None:
    record = Record(name="x", unit="Cel", time=Decimal(T), value=Decimal("21.50"), original="then")
    content = cbor2.dumps(
        {"n": "x", "t": str(T), "u": "Cel", "v": "21.5", "original": "then"}, canonical=True
    )
    expected = hashlib.sha256(b"i" * 16 + b"\0\0\0\x03" + content).digest()
    assert record_commitment(b"i" * 16, 3, record) == expected


def test_a_commitment_tells_kinds_of_value_apart() -> None:
    values: list[Value] = [Decimal(1), "1", True, b"1", Decimal(2)]
    records = [Record(name="x", time=Decimal(T), value=value) for value in values]
    records.append(
        Record(
            name="x",
            time=Decimal(T),
            value=None,
            value_sum=Decimal(1),
            update_seconds=Decimal(3),
        )
    )
    assert len({record_commitment(bytes(16), 0, record) for record in records}) == len(records)


def test_a_commitment_needs_an_id_of_16_bytes_and_an_index() -> None:
    record = Record(name="x", time=Decimal(T), value=Decimal(1))
    with pytest.raises(MalformedSubmission):
        record_commitment(b"short", 0, record)
    with pytest.raises(MalformedSubmission):
        record_commitment(bytes(16), -1, record)


def test_a_full_pack_of_binary_values_round_trips() -> None:
    record = Record(name="x", time=Decimal(T), value=b"\xff\xfe\x00", value_sum=Decimal(-2))
    truth = Record(name="x", time=Decimal(T), value=True, update_seconds=Decimal(60))
    assert parse(encode_json([record, truth]), PackFormat.JSON, now=NOW) == (record, truth)
