"""Reads packs of sensor readings: SenML (RFC 8428) in JSON or CBOR, checked and resolved.

Rule: a pack is taken whole or refused whole, numbers are exact decimals from the bytes on, and
the work is bounded by the limits below whatever the bytes are.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import IntEnum
from typing import Any

from .senml_cbor import DEPTH_MAX, Pairs, read_cbor
from .senml_errors import (
    DuplicateField,
    MalformedName,
    MalformedReading,
    MalformedText,
    MalformedUnit,
    MissingValue,
    NotAPack,
    NotJson,
    NumberOutOfRange,
    PackTooLong,
    SeveralValues,
    TimeOutOfRange,
    TooManyRecords,
    UnknownFormat,
    UnknownRequirement,
    UnsupportedVersion,
    WrongFieldType,
)
from .senml_record import (
    ORIGINAL_CHARACTERS_MAX,
    RELATIVE_TIME_BELOW,
    VERSION_BASE,
    VERSION_SECONDARY_UNITS,
    Record,
    Value,
    encode_json,
    name_problem,
    number_problem,
    record_commitment,
    text_problem,
    time_problem,
    unit_problem,
)

__all__ = [
    "PACK_BYTES_MAX",
    "RECORDS_MAX",
    "MalformedReading",
    "PackFormat",
    "Record",
    "Value",
    "encode_json",
    "parse",
    "record_commitment",
]

PACK_BYTES_MAX = 48 * 1024
"""768 bytes for each of the records; leaves room for the frame's other fields in 64 KiB."""

RECORDS_MAX = 64
"""Each record may cost a signature and a receipt: a pack then takes a hub a few milliseconds."""

_VERSIONS = (VERSION_BASE, VERSION_SECONDARY_UNITS)
_ZERO = Decimal(0)
_NESTING = re.compile(r'"(?:[^"\\]|\\.?)*"?|[\[\]{}]', re.DOTALL)
"""Strings, closed or not, so that brackets in them do not count, and brackets."""

_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_BASE64 = re.compile(r"[-A-Za-z0-9_]*")

_EXACT = Context(prec=512, traps=[Inexact, InvalidOperation, Overflow])
"""Two numbers within `number_problem`'s bounds add up in at most 222 digits: nothing rounds."""


class PackFormat(IntEnum):
    """How a pack is written, by its CoAP content format (RFC 8428 section 12.3)."""

    JSON = 110
    CBOR = 112


def parse(data: bytes, pack_format: int, *, now: Decimal | int) -> tuple[Record, ...]:
    """Read a pack into resolved records, in the pack's order.

    `now` is in seconds since 1970 and is added to relative times. Fields that are unknown are
    ignored, unless their label ends in an underscore. Raises a `MalformedReading`.
    """
    if len(data) > PACK_BYTES_MAX:
        raise PackTooLong(f"a pack of {len(data)} bytes is over the {PACK_BYTES_MAX} allowed")
    if pack_format == PackFormat.JSON:
        pack = _read_json(data)
    elif pack_format == PackFormat.CBOR:
        pack = read_cbor(data)
    else:
        raise UnknownFormat(f"format {pack_format} is not one of SenML's")
    if not isinstance(pack, list) or isinstance(pack, Pairs):
        raise NotAPack("the pack is not an array")
    if not pack:
        raise NotAPack("the pack holds no record")
    if len(pack) > RECORDS_MAX:
        raise TooManyRecords(f"a pack of {len(pack)} records is over the {RECORDS_MAX} allowed")
    bases = _Bases()
    return tuple(
        _resolve(_checked_fields(raw, index), bases, index, Decimal(now))
        for index, raw in enumerate(pack)
    )


def _json_number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what even Decimal can hold
        return Decimal("Infinity")


def _check_depth(text: str) -> None:
    """Refuse what is nested so deeply that the parser, which recurses, could run out of stack."""
    depth = 0
    for token in _NESTING.finditer(text):
        depth += _STEPS.get(token[0], 0)
        if depth > DEPTH_MAX:
            raise NotJson(f"values are nested deeper than {DEPTH_MAX}")


def _read_json(data: bytes) -> object:
    try:
        text = data.decode()
        _check_depth(text)
        return json.loads(
            text,
            parse_float=_json_number,
            parse_int=_json_number,
            parse_constant=_json_number,
            object_pairs_hook=Pairs,
        )
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} is not UTF-8") from None
    except ValueError as error:
        raise NotJson(f"the text is not JSON ({error})") from None


def _text(raw: object, index: int, label: str) -> str:
    if not isinstance(raw, str):
        raise WrongFieldType("is not a text", record=index, field=label)
    problem = text_problem(raw)
    if problem:
        raise MalformedText(problem, record=index, field=label)
    return raw


def _number(raw: object, index: int, label: str) -> Decimal:
    if isinstance(raw, bool) or not isinstance(raw, int | Decimal):
        raise WrongFieldType("is not a number", record=index, field=label)
    number = Decimal(raw)
    problem = number_problem(number)
    if problem:
        raise NumberOutOfRange(problem, record=index, field=label)
    return number or _ZERO  # a zero may have a huge exponent, which sums would carry on


def _version(raw: object, index: int, label: str) -> int:
    number = _number(raw, index, label)
    if number not in _VERSIONS:
        raise UnsupportedVersion(f"version {number} is not known", record=index, field=label)
    return int(number)


def _truth(raw: object, index: int, label: str) -> bool:
    if not isinstance(raw, bool):
        raise WrongFieldType("is neither true nor false", record=index, field=label)
    return raw


def _octets(raw: object, index: int, label: str) -> bytes:
    """Read binary data: bytes in CBOR, URL-safe base64 in JSON, with or without padding."""
    if isinstance(raw, bytes):
        return raw
    text = _text(raw, index, label).rstrip("=")
    if _BASE64.fullmatch(text) is None or len(text) % 4 == 1:
        raise WrongFieldType("is not URL-safe base64", record=index, field=label)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _unit(raw: object, index: int, label: str) -> str:
    unit = _text(raw, index, label)
    problem = unit_problem(unit) if unit else None
    if problem:
        raise MalformedUnit(problem, record=index, field=label)
    return unit


def _original(raw: object, index: int, label: str) -> str:
    text = _text(raw, index, label)
    problem = text_problem(text, characters_max=ORIGINAL_CHARACTERS_MAX)
    if problem:
        raise MalformedText(problem, record=index, field=label)
    return text


_FIELDS: Mapping[str, Callable[[object, int, str], Any]] = {
    "bn": _text,
    "bt": _number,
    "bu": _unit,
    "bv": _number,
    "bs": _number,
    "bver": _version,
    "n": _text,
    "u": _unit,
    "v": _number,
    "vs": _text,
    "vb": _truth,
    "vd": _octets,
    "s": _number,
    "t": _number,
    "ut": _number,
    "original": _original,
}
_CBOR_LABELS: Mapping[int, str] = {
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
_VALUE_LABELS = ("v", "vs", "vb", "vd")


def _label(raw: object, index: int) -> str:
    """Return a field's label as text, from either form."""
    if isinstance(raw, str):
        return raw
    if type(raw) is int:
        return _CBOR_LABELS.get(raw, f"label {raw}")
    raise WrongFieldType("a label is neither a text nor an integer", record=index)


def _checked_fields(raw: object, index: int) -> dict[str, Any]:
    """Return the known fields of one record, each of its own type."""
    if not isinstance(raw, Pairs):
        raise NotAPack("is not a map of fields", record=index)
    fields: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in raw:
        label = _label(key, index)
        if label in seen:
            raise DuplicateField("stands twice", record=index, field=label)
        seen.add(label)
        if label in _FIELDS:
            fields[label] = _FIELDS[label](value, index, label)
        elif label.endswith("_"):
            raise UnknownRequirement("must be understood and is not", record=index, field=label)
    return fields


@dataclass(slots=True)
class _Bases:
    """The base fields in force, each from the last record that gave it (RFC 8428, 4.1)."""

    name: str = ""
    time: Decimal = _ZERO
    unit: str | None = None
    value: Decimal | None = None
    value_sum: Decimal | None = None
    version: int = VERSION_BASE

    def take(self, fields: Mapping[str, Any], index: int) -> None:
        version = fields.get("bver", VERSION_BASE if index == 0 else self.version)
        if index and version != self.version:
            raise UnsupportedVersion(
                f"version {version} differs from {self.version} before it",
                record=index,
                field="bver",
            )
        self.version = version
        self.name = fields.get("bn", self.name)
        self.time = fields.get("bt", self.time)
        self.unit = fields.get("bu", self.unit)
        self.value = fields.get("bv", self.value)
        self.value_sum = fields.get("bs", self.value_sum)


def _resolve(fields: Mapping[str, Any], bases: _Bases, index: int, now: Decimal) -> Record:
    bases.take(fields, index)
    name = bases.name + fields.get("n", "")
    problem = name_problem(name)
    if problem:
        raise MalformedName(f"the name {problem}", record=index, field="n")
    value_sum = _total(bases.value_sum, fields.get("s"), index, "s")
    value = _value(fields, bases, index)
    if value is None and value_sum is None:
        raise MissingValue("the record has no value", record=index)
    return Record(
        name=name,
        unit=fields.get("u", bases.unit) or None,
        time=_time(bases.time, fields.get("t", _ZERO), index, now),
        value=value,
        value_sum=value_sum,
        update_seconds=fields.get("ut"),
        original=fields.get("original"),
    )


def _value(fields: Mapping[str, Any], bases: _Bases, index: int) -> Value | None:
    given = [label for label in _VALUE_LABELS if label in fields]
    if len(given) > 1:
        raise SeveralValues(f"the record has {' and '.join(given)}", record=index, field=given[1])
    if given and given[0] != "v":
        other: Value = fields[given[0]]
        return other
    return _total(bases.value, fields.get("v"), index, "v")


def _total(base: Decimal | None, own: Decimal | None, index: int, label: str) -> Decimal | None:
    """Add base and own; a missing one counts as zero (RFC 8428, 4.5.4)."""
    if base is None or own is None:
        return base if own is None else own
    total = _EXACT.add(base, own)
    problem = number_problem(total)
    if problem:
        raise NumberOutOfRange(f"with its base {problem}", record=index, field=label)
    return total


def _time(base: Decimal, own: Decimal, index: int, now: Decimal) -> Decimal:
    time = _EXACT.add(base, own)
    if time < RELATIVE_TIME_BELOW:
        time = _EXACT.add(time, now)
    problem = time_problem(time)
    if problem:
        raise TimeOutOfRange(f"the time {problem}", record=index, field="t")
    return time
