"""What can be wrong with a pack of readings: one class per reason, naming record and field.

Rule: a pack is taken whole or refused whole (RFC 8428), so the first thing that is wrong ends it.
"""

from __future__ import annotations

from .errors import PeerError


class MalformedReading(PeerError):
    """A pack that cannot be read; `record` (from 0) and `field` (its label) say where, if known."""

    def __init__(
        self,
        text: str,
        *,
        record: int | None = None,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        places = []
        if record is not None:
            places.append(f"record {record}")
        if field is not None:
            places.append(f"field {field[:40]!r}")
        where = ", ".join(places)
        super().__init__(f"{where}: {text}" if where else text, remedy=remedy)
        self.record = record
        self.field = field


class UnknownFormat(MalformedReading):
    """A format number that is neither SenML in JSON nor in CBOR."""

    code = "unknown-senml-format"
    remedy = "send application/senml+json as format 110 or application/senml+cbor as format 112"


class PackTooLong(MalformedReading):
    """More bytes than a pack may have."""

    code = "pack-too-long"
    remedy = "split the readings over several packs"


class TooManyRecords(MalformedReading):
    """More records than a pack may have."""

    code = "too-many-records"
    remedy = "split the readings over several packs"


class NotJson(MalformedReading):
    """Bytes that are no JSON text in UTF-8."""

    code = "not-json"
    remedy = "send one JSON text in UTF-8: an array of SenML records (RFC 8428 section 5)"


class NotCbor(MalformedReading):
    """Bytes that are no single well-formed CBOR item."""

    code = "not-cbor"
    remedy = "send one CBOR item: an array of SenML records (RFC 8428 section 6)"


class NotAPack(MalformedReading):
    """Well-formed data that is not an array of one or more records."""

    code = "not-a-pack"
    remedy = "send an array of at least one SenML record, each a map of fields"


class DuplicateField(MalformedReading):
    """One field twice in one record: readers would disagree on which of them counts."""

    code = "duplicate-field"
    remedy = "give each field once in a record"


class UnknownRequirement(MalformedReading):
    """A field that must be understood (its label ends in '_') and is not."""

    code = "unknown-requirement"
    remedy = "leave this field out: no extension that must be understood is supported"


class UnsupportedVersion(MalformedReading):
    """A version other than 10 (RFC 8428) or 26 (with secondary units, RFC 9100)."""

    code = "unsupported-senml-version"
    remedy = "leave 'bver' out, or give 10 or 26, the same in the whole pack"


class WrongFieldType(MalformedReading):
    """A field whose value is of another type than its label says."""

    code = "wrong-field-type"
    remedy = "see the types of the fields in RFC 8428, section 5 for JSON and 6 for CBOR"


class NumberOutOfRange(MalformedReading):
    """NaN, an infinity, or a number beyond what anything on earth measures."""

    code = "number-out-of-range"
    remedy = "send a finite number between 1e-30 and 1e30 in size, or zero, of at most 160 digits"


class MalformedName(MalformedReading):
    """A base name and name that together are no SenML name."""

    code = "malformed-name"
    remedy = "use letters, digits and - : . / _ and start with a letter or digit"


class MalformedUnit(MalformedReading):
    """A unit that cannot be the symbol of one."""

    code = "malformed-unit"
    remedy = "use a symbol of the SenML units registry, such as Cel, %RH, lx or l/s"


class MalformedText(MalformedReading):
    """A text that is too long or cannot be written as UTF-8."""

    code = "malformed-text"
    remedy = "send valid Unicode within the limit"


class MissingValue(MalformedReading):
    """A record with neither a value nor a sum."""

    code = "missing-value"
    remedy = "give one of v, vs, vb and vd in each record"


class SeveralValues(MalformedReading):
    """A record with more than one value."""

    code = "several-values"
    remedy = "give only one of v, vs, vb and vd in each record"


class TimeOutOfRange(MalformedReading):
    """A time before 1978, which SenML cannot express, or after the year 9999."""

    code = "time-out-of-range"
    remedy = "give seconds since 1970, or below 2**28 seconds relative to now (RFC 8428, 4.5.3)"
