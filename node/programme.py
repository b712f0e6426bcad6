"""A programme: what a city agency rewards, at which tariff, and why a reading is refused.

Rule: pricing is a function of the programme, the reading, the time and what was rewarded before;
it reads no clock and keeps no state, so that an auditor can repeat each decision.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from ..channels.errors import LocalError
from ..channels.senml_record import Record, number_text
from ..channels.senml_units import COMMON_SPELLINGS, REGISTERED_UNITS
from ..channels.units import TRANSFERRED_MAX, format_cents
from .settings import (
    Document,
    MalformedSetting,
    Misconfigured,
    MissingSetting,
    SettingOutOfRange,
    UnknownSetting,
    WrongSettingType,
    as_decimal,
    as_integer,
    as_moment,
    as_text,
    parse_document,
    read_document,
    refuse_unknown,
    shown,
)

TARIFFS_MAX = 1000
"""A reading is matched against each row; a city's list of sensor kinds is far shorter."""

FUTURE_SECONDS_MAX = 300
"""How far ahead of ours a device's clock may run: cheap clocks drift by minutes in a month."""

CONTACT_CHARACTERS_MAX = 200
"""It is part of a remedy, which has to fit a message's texts of 512 bytes."""

_YEAR_SECONDS = 366 * 24 * 3600
_UINT32_MAX = 2**32 - 1
_IDENTIFIER = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,62}[a-z0-9])?")
_SENSOR = re.compile(r"(?:\*[-:./_A-Za-z0-9]|[A-Za-z0-9])[-:./_A-Za-z0-9]{0,254}")


EXAMPLE = Path(__file__).with_name("city-block.toml")
"""The programme that a new hub starts with, and the demo's: water, air and light of one block."""


class Reason(StrEnum):
    """Why a reading is not rewarded; the text goes over the wire and into the device's log."""

    UNKNOWN_QUANTITY = "unknown-quantity"
    NO_VALUE = "no-value"
    WRONG_UNIT = "wrong-unit"
    IMPLAUSIBLE = "implausible"
    OUTSIDE_PERIOD = "outside-period"
    IN_THE_FUTURE = "in-the-future"
    TOO_OLD = "too-old"
    DUPLICATE = "duplicate"
    TOO_FREQUENT = "too-frequent"
    BUDGET_SPENT = "budget-spent"


_Finding: TypeAlias = tuple[Reason, str]

REMEDIES: Mapping[Reason, str] = {
    Reason.UNKNOWN_QUANTITY: "send only quantities that the programme lists, by their sensor names",
    Reason.NO_VALUE: "send the reading as a number in field v",
    Reason.WRONG_UNIT: "send the value in the tariff's unit",
    Reason.IMPLAUSIBLE: "check the sensor; if the value is right, write to {contact}",
    Reason.OUTSIDE_PERIOD: "send readings that were taken while the programme is valid",
    Reason.IN_THE_FUTURE: "set the device's clock, then send readings taken from now on",
    Reason.TOO_OLD: "empty the device's queue more often",
    Reason.DUPLICATE: "nothing: this quantity was rewarded for the same moment before",
    Reason.TOO_FREQUENT: "send fewer readings of this quantity",
    Reason.BUDGET_SPENT: "ask {contact} whether it will be continued",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewarded:
    """A reading that is paid for; `taken` is in whole seconds since 1970, rounded down."""

    amount_ucent: int
    quantity: str
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A reading that is not paid for: why, in words, and what to do about it."""

    code: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One row: which sensor in which unit earns how many µ¢ a reading, within which bounds.

    `sensor` is a whole SenML name, or a star and the end of one ("*/room/co2").
    """

    quantity: str
    sensor: str
    unit: str
    amount_ucent: int
    minimum: Decimal
    maximum: Decimal
    interval_seconds_min: int
    age_seconds_max: int

    def matches(self, name: str) -> bool:
        """Say whether this row is for the sensor of that name."""
        if self.sensor.startswith("*"):
            return name.endswith(self.sensor[1:])
        return name == self.sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """A programme as its file states it; `hash` is the SHA-256 of the file's bytes.

    Times are seconds since 1970: readings count that were taken in valid_from..valid_until, the
    end excluded. `budget_ucent` None means that the agency sets none here.
    """

    id: str
    version: int
    agency: str
    purpose: str
    contact: str
    valid_from: int
    valid_until: int
    budget_ucent: int | None
    tariffs: tuple[Tariff, ...]
    hash: bytes

    def tariff_for(self, name: str) -> Tariff | None:
        """Return the row for a sensor's name; loading made sure that there is at most one."""
        return next((tariff for tariff in self.tariffs if tariff.matches(name)), None)


_TARIFF_KEYS = frozenset(field.name for field in fields(Tariff))
_PROGRAMME_KEYS = frozenset(field.name for field in fields(Programme)) - {"hash", "tariffs"} | {
    "tariff"
}


def price(
    programme: Programme,
    record: Record,
    *,
    now: int,
    nearest: Decimal | None,
    spent_ucent: int = 0,
) -> Rewarded | Refused:
    """Decide what a reading earns.

    `now` is in seconds since 1970. `nearest` is when that reading was taken which is nearest in
    time to this one, among those of the same device and quantity that were rewarded already (see
    `nearest_taken`): not the last one, as a queue may arrive after newer readings. `spent_ucent`
    is what the programme has paid so far.
    """
    tariff = programme.tariff_for(record.name)
    if tariff is None:
        text = f"no tariff is for a sensor named {record.name}"
        return _refused(programme, (Reason.UNKNOWN_QUANTITY, text))
    finding = (
        _check_value(tariff, record)
        or _check_time(programme, tariff, record.time, now)
        or _check_repetition(tariff, record.time, nearest)
        or _check_budget(programme, tariff, spent_ucent)
    )
    if finding is not None:
        return _refused(programme, finding)
    return Rewarded(
        amount_ucent=tariff.amount_ucent, quantity=tariff.quantity, taken=int(record.time)
    )


def _refused(programme: Programme, finding: _Finding) -> Refused:
    reason, text = finding
    remedy = REMEDIES[reason].replace("{contact}", programme.contact)
    return Refused(code=reason.value, text=text, remedy=remedy)


def _check_value(tariff: Tariff, record: Record) -> _Finding | None:
    if record.unit != tariff.unit:
        given = f"in {record.unit}" if record.unit else "without a unit"
        text = f"{tariff.quantity} was sent {given}; the tariff is for {tariff.unit}"
        return (Reason.WRONG_UNIT, text)
    if not isinstance(record.value, Decimal):
        return (Reason.NO_VALUE, f"{tariff.quantity} was sent without a number as value")
    if not tariff.minimum <= record.value <= tariff.maximum:
        low, high = number_text(tariff.minimum), number_text(tariff.maximum)
        return (
            Reason.IMPLAUSIBLE,
            f"{number_text(record.value)} {tariff.unit} is outside {low} to {high} {tariff.unit}",
        )
    return None


def _check_time(programme: Programme, tariff: Tariff, taken: Decimal, now: int) -> _Finding | None:
    age = now - taken
    if age < -FUTURE_SECONDS_MAX:
        ahead = number_text(-age)
        return (Reason.IN_THE_FUTURE, f"it was taken {ahead} s from now, says its clock")
    if not programme.valid_from <= taken < programme.valid_until:
        return (Reason.OUTSIDE_PERIOD, f"programme {programme.id} was not valid then")
    if age > tariff.age_seconds_max:
        return (
            Reason.TOO_OLD,
            f"it was taken {number_text(age)} s ago; {tariff.age_seconds_max} s are allowed",
        )
    return None


def _check_repetition(tariff: Tariff, taken: Decimal, nearest: Decimal | None) -> _Finding | None:
    if nearest is None:
        return None
    apart = abs(taken - nearest)
    if apart == 0:
        return (Reason.DUPLICATE, f"{tariff.quantity} of that moment is rewarded already")
    if apart < tariff.interval_seconds_min:
        return (
            Reason.TOO_FREQUENT,
            f"it was taken {number_text(apart)} s from another one that is rewarded; "
            f"{tariff.interval_seconds_min} s must lie between",
        )
    return None


def _check_budget(programme: Programme, tariff: Tariff, spent_ucent: int) -> _Finding | None:
    budget = programme.budget_ucent
    if budget is None or spent_ucent + tariff.amount_ucent <= budget:
        return None
    text = f"the budget of {format_cents(budget)} does not hold this reward any more"
    return (Reason.BUDGET_SPENT, text)


def nearest_taken(rewarded: Sequence[Decimal], taken: Decimal) -> Decimal | None:
    """Return the time nearest to `taken` from an ascending sequence of times, or None."""
    at = bisect_left(rewarded, taken)
    return min(rewarded[max(at - 1, 0) : at + 1], key=lambda time: abs(time - taken), default=None)


class ClashingTariffs(Misconfigured):
    """Two rows that are for the same sensor, or two of one name, so that it is open which pays."""

    code = "clashing-tariffs"
    remedy = "make the sensor of one of them longer, or remove one"


class ClashingProgrammes(LocalError):
    """Two programmes that would both pay for the same sensor."""

    code = "clashing-programmes"
    remedy = "run them on different hubs, or remove the row from one of them"


def load_programme(path: Path) -> Programme:
    """Read a programme's file; raises a `Misconfigured` that names file, key and line."""
    return _programme(read_document(path))


def parse_programme(data: bytes, *, file: str) -> Programme:
    """Read a programme from the bytes of its file; raises a `Misconfigured`."""
    return _programme(parse_document(data, file=file))


def check_programmes(programmes: Iterable[Programme]) -> None:
    """Raise `ClashingProgrammes` if two of them would pay for one sensor, or share an id."""
    seen: list[Programme] = []
    for programme in programmes:
        for other in seen:
            if programme.id == other.id:
                raise ClashingProgrammes(f"two programmes have the id {programme.id}")
            for row in programme.tariffs:
                clash = next((t for t in other.tariffs if _overlap(row, t)), None)
                if clash is not None:
                    raise ClashingProgrammes(
                        f"{programme.id} and {other.id} both have a tariff for {row.sensor}"
                    )
        seen.append(programme)


def _overlap(one: Tariff, other: Tariff) -> bool:
    """Say whether some name matches both: each star stands for any beginning."""
    first, second = one.sensor, other.sensor
    if first.startswith("*") and second.startswith("*"):
        return first.endswith(second[1:]) or second.endswith(first[1:])
    return one.matches(second) or other.matches(first)


def _programme(document: Document) -> Programme:
    values = document.values
    refuse_unknown(document, (), values, _PROGRAMME_KEYS)
    top = _Table(document, (), values)
    valid_from = as_moment(*top.need("valid_from"))
    valid_until = as_moment(*top.need("valid_until"))
    if valid_until <= valid_from:
        raise SettingOutOfRange(
            document.place("valid_until"),
            "the programme ends before it begins",
            remedy="give a moment after valid_from",
        )
    budget = values.get("budget_ucent")
    return Programme(
        id=top.identifier("id"),
        version=top.integer("version", 1, _UINT32_MAX),
        agency=as_text(*top.need("agency")),
        purpose=as_text(*top.need("purpose")),
        contact=as_text(*top.need("contact"), characters_max=CONTACT_CHARACTERS_MAX),
        valid_from=valid_from,
        valid_until=valid_until,
        budget_ucent=None if budget is None else top.integer("budget_ucent", 1, TRANSFERRED_MAX),
        tariffs=_tariffs(document),
        hash=hashlib.sha256(document.data).digest(),
    )


class _Table:
    """One table of the document: gives each key's place and value."""

    def __init__(self, document: Document, path: tuple[str | int, ...], values: Any) -> None:
        self._document = document
        self._path = path
        self._values = values

    def need(self, key: str) -> tuple[Any, Any]:
        place = self._document.place(*self._path, key)
        if key not in self._values:
            raise MissingSetting(place, "it is missing")
        return place, self._values[key]

    def integer(self, key: str, low: int, high: int) -> int:
        return as_integer(*self.need(key), low=low, high=high)

    def identifier(self, key: str) -> str:
        place, raw = self.need(key)
        text = as_text(place, raw)
        if _IDENTIFIER.fullmatch(text) is None:
            raise MalformedSetting(
                place,
                f"{shown(text)} is not an identifier",
                remedy="use up to 64 small letters, digits, dots and hyphens",
            )
        return text


def _tariffs(document: Document) -> tuple[Tariff, ...]:
    rows = document.values.get("tariff", [])
    place = document.place("tariff")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WrongSettingType(place, "tariff is not a list of tables", remedy="write [[tariff]]")
    if not 1 <= len(rows) <= TARIFFS_MAX:
        raise SettingOutOfRange(
            place,
            f"the programme has {len(rows)} tariffs",
            remedy=f"give 1 to {TARIFFS_MAX} tables [[tariff]]",
        )
    tariffs: list[Tariff] = []
    for number, row in enumerate(rows):
        refuse_unknown(document, ("tariff", number), row, _TARIFF_KEYS)
        tariff = _tariff(_Table(document, ("tariff", number), row))
        for other in tariffs:
            if tariff.quantity == other.quantity or _overlap(tariff, other):
                key = "quantity" if tariff.quantity == other.quantity else "sensor"
                raise ClashingTariffs(
                    document.place("tariff", number, key),
                    f"{tariff.quantity} ({tariff.sensor}) and {other.quantity} ({other.sensor}) "
                    "cannot be told apart",
                )
        tariffs.append(tariff)
    return tuple(tariffs)


def _tariff(table: _Table) -> Tariff:
    minimum = as_decimal(*table.need("minimum"))
    maximum = as_decimal(*table.need("maximum"))
    if maximum < minimum:
        raise SettingOutOfRange(
            table.need("maximum")[0], "it is below the minimum", remedy="exchange the two"
        )
    return Tariff(
        quantity=table.identifier("quantity"),
        sensor=_sensor(table),
        unit=_unit(table),
        amount_ucent=table.integer("amount_ucent", 1, TRANSFERRED_MAX),
        minimum=minimum,
        maximum=maximum,
        interval_seconds_min=table.integer("interval_seconds_min", 0, _YEAR_SECONDS),
        age_seconds_max=table.integer("age_seconds_max", 1, _YEAR_SECONDS),
    )


def _sensor(table: _Table) -> str:
    place, raw = table.need("sensor")
    text = as_text(place, raw)
    if _SENSOR.fullmatch(text) is None:
        raise MalformedSetting(
            place,
            f"{shown(text)} is not the name of a sensor",
            remedy="write a whole SenML name, or a star and the end of one, such as */room/co2",
        )
    return text


def _unit(table: _Table) -> str:
    place, raw = table.need("unit")
    text = as_text(place, raw)
    if text not in REGISTERED_UNITS:
        raise UnknownSetting(place, text, REGISTERED_UNITS, meant=COMMON_SPELLINGS.get(text))
    return text
