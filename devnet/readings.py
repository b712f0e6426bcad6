"""Turns CSV files of measurements into SenML records: the known files of the demo, and anyone's.

Rule: one cell is one record; what is malformed is refused by itself, with file, line and reason,
and the rest continues. All times of a file are shifted alike, so that its last reading was taken
now and the spacing stays; the time as the file wrote it goes along as the record's `original`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from ..channels.errors import LocalError
from ..channels.senml_record import ORIGINAL_CHARACTERS_MAX, ImpossibleRecord, Record
from ..channels.senml_units import COMMON_SPELLINGS, REGISTERED_UNITS

DATA = Path(__file__).with_name("data")
WATER_FLOW = DATA / "water-flow.csv"
ROOM_OCCUPANCY = DATA / "room-occupancy.csv"

LINE_BYTES_MAX = 8192
"""A row of readings has tens of bytes; a longer line is another kind of file."""

COLUMNS_MAX = 64
"""As many as a pack holds records, so that a row always fits one pack."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_TIME = re.compile(r"[0-9]{9,11}(?:\.[0-9]{1,9})?")
_NUMBER = re.compile(r"[-+]?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,3})?")
_HEADER = re.compile(r"(?P<name>[^\[\]]+)\[(?P<unit>[^\[\]]+)\]")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_TIME_NAMES = frozenset({"time", "timestamp", "date", "datetime"})


class UnusableReadings(LocalError):
    """A file of readings that cannot be read at all; `file` names it."""

    def __init__(self, file: Path, text: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{file}: {text}", remedy=remedy)
        self.file = file


class MissingReadings(UnusableReadings):
    """A path where no file can be read."""

    code = "missing-readings"
    remedy = "check the path and that this user may read the file"


class MalformedHeader(UnusableReadings):
    """A first line that does not say what the columns are."""

    code = "malformed-header"
    remedy = "begin the file with a line such as: time,temperature [Cel],humidity [%RH]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What the cells below one heading are: a quantity (the end of the SenML name) and a unit."""

    heading: str
    quantity: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMapping:
    """How a file is read: its time column is the first; `zone` is for times without an offset.

    A fixed offset and not a zone's name: it needs no zone database on the machine.
    """

    time_heading: str
    columns: tuple[Column, ...]
    zone: timezone


WATER_FLOW_MAPPING = FileMapping(
    time_heading="Time",
    columns=(Column(heading="Water flow [l/s]", quantity="water-flow", unit="l/s"),),
    zone=UTC,  # not used: each of its times carries its own offset, as summer time begins in it
)
ROOM_OCCUPANCY_MAPPING = FileMapping(
    time_heading="time",
    columns=(
        Column(heading="V1", quantity="temperature", unit="Cel"),
        Column(heading="V2", quantity="humidity", unit="%RH"),
        Column(heading="V3", quantity="illuminance", unit="lx"),
        Column(heading="V4", quantity="co2", unit="ppm"),
    ),
    # Measured in Mons, Belgium (Candanedo & Feldheim 2016): Europe/Brussels, which was UTC+1 on
    # all of its days, 4 to 10 February 2015.
    zone=timezone(timedelta(hours=1), "Europe/Brussels in winter"),
)
KNOWN_MAPPINGS = (WATER_FLOW_MAPPING, ROOM_OCCUPANCY_MAPPING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One cell as a record, and where it stood."""

    file: Path
    line: int
    column: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row, or one cell of it if `column` is given, that is no reading: why and what to do."""

    file: Path
    line: int
    column: str | None
    reason: str
    remedy: str

    def __str__(self) -> str:
        column = "" if self.column is None else f", column {self.column!r}"
        return f"{self.file}, line {self.line}{column}: {self.reason}: {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row with a usable time and the right number of cells."""

    line: int
    original: str
    time: Decimal
    cells: tuple[str, ...]


def read_readings(path: Path, *, now: int, base_name: str) -> Iterator[Reading | RefusedRow]:
    """Read a CSV file's cells as records, in the file's order.

    `now` is in seconds since 1970; the last reading of the file is moved there. A record's name is
    `base_name` followed by the column's quantity. A file that is neither known by its headings nor
    has a unit in brackets in each of them raises `MalformedHeader`; times without an offset are
    UTC there. The file is read twice and never held in memory.
    """
    if path.exists() and not path.is_file():
        raise MissingReadings(path, "it is not a file", remedy="name one that can be read twice")
    try:
        with path.open("rb") as file:
            first = file.readline(LINE_BYTES_MAX + 1)
    except OSError as error:
        raise MissingReadings(path, f"the file cannot be read ({error.strerror})") from None
    mapping = mapping_for(path, first)
    times = (row.time for row in _rows(path, mapping, now) if isinstance(row, _Row))
    shift = now - max(times, default=Decimal(now))
    return _readings(path, mapping, base_name, now, shift)


def _readings(
    path: Path, mapping: FileMapping, base_name: str, now: int, shift: Decimal
) -> Iterator[Reading | RefusedRow]:
    for row in _rows(path, mapping, now):
        if isinstance(row, RefusedRow):
            yield row
            continue
        for column, cell in zip(mapping.columns, row.cells, strict=True):
            yield _reading(path, row, column, cell, (base_name, shift))


def mapping_for(path: Path, first_line: bytes) -> FileMapping:
    """Return how to read a file that begins with that line; raises `MalformedHeader`."""
    if len(first_line) > LINE_BYTES_MAX:
        raise MalformedHeader(path, f"the first line is longer than {LINE_BYTES_MAX} bytes")
    try:
        headings = [heading.strip() for heading in _cells(first_line.decode("utf-8-sig"))]
    except ValueError as error:
        raise MalformedHeader(path, f"the first line is not CSV in UTF-8 ({error})") from None
    for mapping in KNOWN_MAPPINGS:
        if headings == [mapping.time_heading, *(column.heading for column in mapping.columns)]:
            return mapping
    if not headings or headings[0].casefold() not in _TIME_NAMES:
        raise MalformedHeader(path, f"the first column is {headings[:1]}, not 'time'")
    columns = tuple(_column(path, heading) for heading in headings[1:])
    if not 1 <= len(columns) <= COLUMNS_MAX:
        raise MalformedHeader(path, f"it has {len(columns)} columns beside time, not 1 to 64")
    if len({column.quantity for column in columns}) != len(columns):
        raise MalformedHeader(path, "two columns have the same name", remedy="rename one of them")
    return FileMapping(time_heading=headings[0], columns=columns, zone=UTC)


def _column(path: Path, heading: str) -> Column:
    match = _HEADER.fullmatch(heading)
    quantity = _NOT_IN_NAMES.sub("-", match["name"].lower()).strip("-") if match else ""
    if match is None or not quantity:
        raise MalformedHeader(path, f"column {heading[:80]!r} has no name with a unit in brackets")
    unit = COMMON_SPELLINGS.get(match["unit"].strip(), match["unit"].strip())
    if unit not in REGISTERED_UNITS:
        raise MalformedHeader(
            path,
            f"column {heading[:80]!r} has a unit that is not registered for SenML",
            remedy="use a symbol of the SenML units registry, such as Cel, %RH, lx, ppm or l/s",
        )
    return Column(heading=heading, quantity=quantity, unit=unit)


def _cells(line: str) -> list[str]:
    """Split one line; raises ValueError. A quote that is not closed ends with its own line."""
    try:
        return next(csv.reader([line.rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Give each line after the first with its number; of a long one only its beginning."""
    with path.open("rb") as file:
        number, is_inside = 0, False
        while piece := file.readline(LINE_BYTES_MAX + 1):
            if not is_inside:
                number += 1
                if number > 1 and piece.strip():
                    yield number, piece
            is_inside = not piece.endswith(b"\n")


def _rows(path: Path, mapping: FileMapping, now: int) -> Iterator[_Row | RefusedRow]:
    for line, raw in _lines(path):
        try:
            yield _row(line, raw, mapping, now)
        except _RowError as error:
            yield RefusedRow(
                file=path, line=line, column=error.column, reason=error.reason, remedy=error.remedy
            )


class _RowError(Exception):
    """Why a row is refused; never leaves this module."""

    def __init__(self, reason: str, remedy: str, *, column: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.column = column


def _row(line: int, raw: bytes, mapping: FileMapping, now: int) -> _Row:
    if len(raw) > LINE_BYTES_MAX:
        raise _RowError(f"the row is longer than {LINE_BYTES_MAX} bytes", "split or remove it")
    try:
        cells = _cells(raw.decode())
    except UnicodeDecodeError:
        raise _RowError("the row is not UTF-8", "save the file as UTF-8") from None
    except ValueError as error:
        raise _RowError(f"the row is not CSV ({error})", "correct its quotes") from None
    expected = 1 + len(mapping.columns)
    if len(cells) != expected:
        raise _RowError(
            f"the row has {len(cells)} cells and the heading {expected}",
            "give each column one cell, with a point and no comma inside numbers",
        )
    original = cells[0].strip()
    time = _moment(original, mapping)
    if time > now:
        raise _RowError(
            f"the time {original!r} lies in the future",
            "correct it: one wrong year would move every other reading",
            column=mapping.time_heading,
        )
    return _Row(line=line, original=original, time=time, cells=tuple(cells[1:]))


def _moment(text: str, mapping: FileMapping) -> Decimal:
    """Return exact seconds since 1970 from ISO 8601 or from such a number."""
    if _UNIX_TIME.fullmatch(text):
        return Decimal(text)
    try:
        if len(text) > ORIGINAL_CHARACTERS_MAX:
            raise ValueError  # noqa: TRY301 - the one answer to all that is no time
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=mapping.zone)
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise _RowError(
            f"{text[:ORIGINAL_CHARACTERS_MAX]!r} is not a time",
            "write it as 2026-01-31T12:00:00+01:00 or in seconds since 1970",
            column=mapping.time_heading,
        ) from None
    return Decimal(microseconds) / 1_000_000


def _reading(
    path: Path, row: _Row, column: Column, cell: str, placing: tuple[str, Decimal]
) -> Reading | RefusedRow:
    base_name, shift = placing
    text = cell.strip()
    reason, remedy = "the cell is empty", "fill it in, or leave the row out"
    if _NUMBER.fullmatch(text):
        try:
            record = Record(
                name=base_name + column.quantity,
                unit=column.unit,
                time=row.time + shift,
                value=Decimal(text),
                original=row.original,
            )
            return Reading(file=path, line=row.line, column=column.heading, record=record)
        except ImpossibleRecord as error:
            reason, remedy = error.text, error.what_to_do
    elif text:
        reason = f"{text[:40]!r} is not a number"
        remedy = "write a decimal number with a point, such as 21.5"
    return RefusedRow(file=path, line=row.line, column=column.heading, reason=reason, remedy=remedy)
