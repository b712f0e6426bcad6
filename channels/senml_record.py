"""One resolved SenML record: what it may hold, how it is written, and the hash that commits to it.

Numbers are Decimal from the text to the tariff; no float stands in between.
Source: RFC 8428 (SenML), RFC 9100 (versions).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import cbor2

from .errors import LocalError
from .senml_units import SECONDARY_UNITS

Value: TypeAlias = Decimal | bool | str | bytes
_Plain: TypeAlias = str | bool | bytes

NAME_CHARACTERS_MAX = 256
"""Room for a device URN with a path; SenML sets no limit of its own."""

UNIT_CHARACTERS_MAX = 32
"""Twice the longest symbol that is registered, and then some."""

ORIGINAL_CHARACTERS_MAX = 64
"""Room for a time as any file writes it; it goes into the receipt."""

DIGITS_MAX = 160
"""Every double of that magnitude has at most 122 significant digits when written exactly."""

MAGNITUDE_MAX = 30
"""Powers of ten: the mass of the earth is 6e24 kg, of a proton 2e-27 kg."""

RELATIVE_TIME_BELOW = 2**28
"""Times below are relative to now; as seconds since 1970 it is July 1978 (RFC 8428, 4.5.3)."""

TIME_MAX = 253_402_300_799
"""The last second of the year 9999, the last that calendars in software can write."""

SUBMISSION_BYTES = 16
VERSION_BASE = 10
VERSION_SECONDARY_UNITS = VERSION_BASE + 2**4
"""Feature 4 of RFC 9100: the pack uses secondary units."""

_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9:./_]*")
_UNIT = re.compile(r"[!-~]+")
_UINT32_MAX = 2**32 - 1


class ImpossibleRecord(LocalError):
    """A record that SenML cannot express; nothing was built."""

    code = "impossible-record"
    remedy = "compare the field with RFC 8428 and the limits in docs/protocol.md"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} of a reading {problem}")
        self.field = field


class MalformedSubmission(LocalError):
    """A submission id or record index that cannot stand in a commitment."""

    code = "malformed-submission"
    remedy = f"give {SUBMISSION_BYTES} random bytes as the id, kept for each resubmission"


def name_problem(name: str) -> str | None:
    """Say what is wrong with a whole SenML name, or None (RFC 8428 section 4.5.1)."""
    if len(name) > NAME_CHARACTERS_MAX:
        return f"is longer than {NAME_CHARACTERS_MAX} characters"
    if _NAME.fullmatch(name) is None:
        return f"{name[:NAME_CHARACTERS_MAX]!r} is not a SenML name" if name else "is empty"
    return None


def unit_problem(unit: str) -> str | None:
    """Say what is wrong with a unit's spelling, or None; it need not be a registered one."""
    if len(unit) > UNIT_CHARACTERS_MAX or _UNIT.fullmatch(unit) is None:
        return f"{unit[:UNIT_CHARACTERS_MAX]!r} is not the symbol of a unit"
    return None


def number_problem(number: Decimal) -> str | None:
    """Say what is wrong with a number's size, or None."""
    if not number.is_finite():
        return "is not a finite number, or far too large for one"
    if number and not -MAGNITUDE_MAX <= number.adjusted() <= MAGNITUDE_MAX:
        return f"is about 1e{number.adjusted()}, outside 1e±{MAGNITUDE_MAX}"
    if len(number.as_tuple().digits) > DIGITS_MAX:
        return f"has more than {DIGITS_MAX} digits"
    return None


def time_problem(time: Decimal) -> str | None:
    """Say what is wrong with an absolute time, or None."""
    problem = number_problem(time)
    if problem is None and not RELATIVE_TIME_BELOW <= time <= TIME_MAX:
        return f"of {number_text(time)} s since 1970 is before July 1978 or after the year 9999"
    return problem


def text_problem(text: str, *, characters_max: int | None = None) -> str | None:
    """Say what is wrong with a free text, or None."""
    if characters_max is not None and not 1 <= len(text) <= characters_max:
        return f"is empty or longer than {characters_max} characters"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return None


def number_text(number: Decimal) -> str:
    """Write a number exactly, without exponent or trailing zeros: equal numbers, equal texts."""
    if not number:
        return "0"  # whatever its exponent, which `format` would write out
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A resolved record; raises `ImpossibleRecord` when SenML cannot express it.

    `time` is in seconds since 1970 (POSIX, leap seconds not counted), `value_sum` in the unit
    times seconds, `update_seconds` the longest time until the next reading. `value` is None only
    where a sum stands in its place. `original` is the time as its source wrote it: the field
    "original" of this project, which other readers of SenML ignore (RFC 8428 section 4.4).
    """

    name: str
    time: Decimal
    value: Value | None
    unit: str | None = None
    value_sum: Decimal | None = None
    update_seconds: Decimal | None = None
    original: str | None = None

    def __post_init__(self) -> None:
        if self.value is None and self.value_sum is None:
            raise ImpossibleRecord("the value", "is missing and there is no sum either")
        for field, problem in (
            ("the name", name_problem(self.name)),
            ("the unit", self.unit and unit_problem(self.unit)),
            ("the time", time_problem(self.time)),
            ("the value", _value_problem(self.value)),
            ("the sum", _value_problem(self.value_sum)),
            ("the update time", _value_problem(self.update_seconds)),
            ("the original time", _original_problem(self.original)),
        ):
            if problem:
                raise ImpossibleRecord(field, problem)


def _value_problem(value: Value | None) -> str | None:
    if isinstance(value, Decimal):
        return number_problem(value)
    return text_problem(value) if isinstance(value, str) else None


def _original_problem(original: str | None) -> str | None:
    if original is None:
        return None
    return text_problem(original, characters_max=ORIGINAL_CHARACTERS_MAX)


_OTHER_VALUES: Mapping[type, str] = {bool: "vb", str: "vs", bytes: "vd"}


def _fields(record: Record) -> dict[str, _Plain]:
    """Return the record as labels and values, every number as its exact text."""
    fields: dict[str, _Plain] = {"n": record.name, "t": number_text(record.time)}
    if record.unit:
        fields["u"] = record.unit
    if isinstance(record.value, Decimal):
        fields["v"] = number_text(record.value)
    elif record.value is not None:
        fields[_OTHER_VALUES[type(record.value)]] = record.value
    if record.value_sum is not None:
        fields["s"] = number_text(record.value_sum)
    if record.update_seconds is not None:
        fields["ut"] = number_text(record.update_seconds)
    if record.original is not None:
        fields["original"] = record.original
    return fields


_NUMBERS = ("t", "v", "s", "ut")


def _json_value(label: str, value: _Plain) -> str:
    if label in _NUMBERS:
        return str(value)
    if isinstance(value, bytes):
        value = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    return json.dumps(value, ensure_ascii=False)


def encode_json(records: Sequence[Record]) -> bytes:
    """Write records as application/senml+json in resolved form, numbers exact.

    Limits on the count and size of a pack are the reader's: see `senml.parse`.
    """
    objects = [
        [f'"{label}":{_json_value(label, value)}' for label, value in _fields(record).items()]
        for record in records
    ]
    if any(record.unit in SECONDARY_UNITS for record in records):
        # RFC 9100 section 2: all records of a pack have the version that the first one states.
        objects[0].insert(0, f'"bver":{VERSION_SECONDARY_UNITS}')
    return ("[" + ",".join("{" + ",".join(fields) + "}" for fields in objects) + "]").encode()


def record_commitment(submission_id: bytes, index: int, record: Record) -> bytes:
    """32 bytes that commit to one record of a submission without telling its value.

    SHA-256(submission id ‖ uint32 index ‖ deterministic CBOR of the resolved record), the record
    as a map from SenML labels to values with each number as its exact text. The id is random and
    known only to the two parties, so that a value cannot be guessed from the commitment.
    """
    if len(submission_id) != SUBMISSION_BYTES:
        raise MalformedSubmission(f"a submission id has {len(submission_id)} bytes")
    if not 0 <= index <= _UINT32_MAX:
        raise MalformedSubmission(f"a record cannot have the index {index}")
    content = cbor2.dumps(_fields(record), canonical=True)
    return hashlib.sha256(submission_id + index.to_bytes(4, "big") + content).digest()
