"""Reads and checks settings from TOML and the environment; each error names the place.

Rule: a setting is right or the program does not start, and the text says which file, key and line
(or which environment variable) to change, and to what.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..channels.errors import LocalError
from ..channels.senml_record import number_problem
from .toml_lines import KeyPath, key_lines, line_of

TOML_BYTES_MAX = 256 * 1024
"""Thousands of tariff rows; more is a file that was named by mistake."""

TEXT_CHARACTERS_MAX = 500
"""Long enough for an address or a sentence of purpose, short enough for a screen."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_SHOWN_CHARACTERS = 60
_SHOWN_BITS_MAX = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a setting stands: a file, key and line, or an environment variable."""

    file: str
    key: str = ""
    line: int | None = None
    variable: str | None = None

    def __str__(self) -> str:
        if self.variable is not None:
            return f"environment variable {self.variable}"
        line = "" if self.line is None else f", line {self.line}"
        key = f", key {self.key!r}" if self.key else ""
        return f"{self.file}{line}{key}"


class Misconfigured(LocalError):
    """A setting or file of settings that cannot be used; `place` says where it stands."""

    def __init__(self, place: Place, text: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{place}: {text}", remedy=remedy)
        self.place = place


class UnreadableSettings(Misconfigured):
    """A file of settings that cannot be opened, or is far too long."""

    code = "unreadable-settings"
    remedy = "check the path and that this user may read the file"


class MalformedToml(Misconfigured):
    """A file of settings that is not TOML."""

    code = "malformed-toml"
    remedy = "correct the syntax (https://toml.io) at that place"


class UnknownSetting(Misconfigured):
    """A key or symbol that means nothing here: most often one that is mistyped."""

    code = "unknown-setting"

    def __init__(
        self, place: Place, given: str, known: Iterable[str], *, meant: str | None = None
    ) -> None:
        known = sorted(known)
        meant = meant or next(iter(difflib.get_close_matches(given, known, n=1, cutoff=0.5)), None)
        remedy = f"did you mean {meant!r}?" if meant else f"known are {', '.join(known)}"
        super().__init__(place, f"{shown(given)} is not known here", remedy=remedy)
        self.meant = meant


class MissingSetting(Misconfigured):
    """A key that must be given and is not."""

    code = "missing-setting"
    remedy = "add it"


class WrongSettingType(Misconfigured):
    """A value of another type than the setting has."""

    code = "wrong-setting-type"


class SettingOutOfRange(Misconfigured):
    """A number, time or text outside of what is allowed."""

    code = "setting-out-of-range"


class MalformedSetting(Misconfigured):
    """A text that is not of the form that the setting has."""

    code = "malformed-setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed TOML file that knows the line of each of its keys."""

    file: str
    data: bytes
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def place(self, *path: str | int) -> Place:
        """Return the place of a key, or of what is around it."""
        key = ".".join(str(part) for part in path)
        return Place(file=self.file, key=key, line=line_of(self.lines, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnquotedFraction:
    """A TOML float: kept as text only to be refused, as no float may come near a price."""

    text: str


def read_document(path: Path) -> Document:
    """Read a TOML file; raises `UnreadableSettings` or `MalformedToml`."""
    place = Place(file=str(path))
    try:
        with path.open("rb") as file:
            data = file.read(TOML_BYTES_MAX + 1)
    except OSError as error:
        text = f"the file cannot be read ({error.strerror})"
        raise UnreadableSettings(place, text) from None
    return parse_document(data, file=str(path))


def parse_document(data: bytes, *, file: str) -> Document:
    """Parse the bytes of a TOML file; raises `UnreadableSettings` or `MalformedToml`."""
    place = Place(file=file)
    if len(data) > TOML_BYTES_MAX:
        raise UnreadableSettings(place, f"the file is longer than {TOML_BYTES_MAX} bytes")
    try:
        text = data.decode()
        values = tomllib.loads(text, parse_float=lambda digits: _UnquotedFraction(text=digits))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MalformedToml(Place(file=file, line=line), "the text is not UTF-8") from None
    except RecursionError:
        raise MalformedToml(place, "the text is nested far too deeply") from None
    except ValueError as error:  # tomllib names line and column in its text
        raise MalformedToml(place, f"the text is not TOML ({error})") from None
    return Document(file=file, data=data, values=values, lines=key_lines(text))


def shown(raw: object, *, characters_max: int = _SHOWN_CHARACTERS) -> str:
    """Return a value as an error shows it: short, and with its type where that matters."""
    if type(raw) is int and raw.bit_length() > _SHOWN_BITS_MAX:
        return f"a number of {raw.bit_length()} bits"
    text = raw.text if isinstance(raw, _UnquotedFraction) else repr(raw)
    return text if len(text) <= characters_max else text[:characters_max] + "…"


def refuse_unknown(
    document: Document, path: KeyPath, table: Mapping[str, Any], known: Iterable[str]
) -> None:
    """Raise `UnknownSetting` for the first key of the table at that path that is not known."""
    for key in table:
        if key not in known:
            raise UnknownSetting(document.place(*path, key), key, known)


def as_text(place: Place, raw: object, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Return a text that is not empty; raises `WrongSettingType` or `SettingOutOfRange`."""
    if not isinstance(raw, str):
        raise WrongSettingType(place, f"{shown(raw)} is not a text", remedy="write it in quotes")
    if not raw.strip() or len(raw) > characters_max:
        raise SettingOutOfRange(
            place, "the text is empty or too long", remedy=f"give 1 to {characters_max} characters"
        )
    return raw


def as_integer(place: Place, raw: object, *, low: int, high: int) -> int:
    """Return a whole number within low..high; text is read where it comes from the environment."""
    remedy = f"give a whole number from {low} to {high}"
    if place.variable is not None and isinstance(raw, str) and _INTEGER.fullmatch(raw):
        raw = int(raw)
    if type(raw) is not int:
        raise WrongSettingType(place, f"{shown(raw)} is not a whole number", remedy=remedy)
    if not low <= raw <= high:
        raise SettingOutOfRange(place, f"{shown(raw)} is out of range", remedy=remedy)
    return raw


def as_decimal(place: Place, raw: object) -> Decimal:
    """Return an exact number from a whole number or a quoted decimal; never from a float."""
    remedy = 'write it as a whole number or in quotes, such as "0.5", so that it stays exact'
    if type(raw) is int or (isinstance(raw, str) and _DECIMAL.fullmatch(raw)):
        raw = Decimal(raw)
    if not isinstance(raw, Decimal):
        raise WrongSettingType(place, f"{shown(raw)} is not an exact number", remedy=remedy)
    problem = number_problem(raw)
    if problem:
        raise SettingOutOfRange(place, f"the number {problem}", remedy="give a number within it")
    return raw


def as_moment(place: Place, raw: object) -> int:
    """Return seconds since 1970 from a TOML date-time with an offset."""
    if not isinstance(raw, datetime) or raw.tzinfo is None:
        raise WrongSettingType(
            place,
            f"{shown(raw) if not isinstance(raw, datetime) else raw.isoformat()} is not a moment",
            remedy="write date, time and offset without quotes, such as 2026-01-01T00:00:00Z",
        )
    return (raw - _EPOCH) // timedelta(seconds=1)
