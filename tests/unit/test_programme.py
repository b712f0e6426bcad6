"""Programmes: what a reading earns, why it is refused, and what a wrong file is told."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from farthing.channels.senml import Record, Value
from farthing.node import programme as programmes
from farthing.node import settings
from farthing.node.programme import EXAMPLE as CITY_BLOCK
from farthing.node.programme import (
    FUTURE_SECONDS_MAX,
    REMEDIES,
    ClashingProgrammes,
    Programme,
    Reason,
    Refused,
    Rewarded,
    check_programmes,
    load_programme,
    nearest_taken,
    parse_programme,
    price,
)

NOW = 1_790_000_000
TEXT = """id = "block"
version = 3
agency = "City"
purpose = "Clean air"
contact = "appeals@city.example"
valid_from = 2026-01-01T00:00:00Z
valid_until = 2027-01-01T00:00:00Z
budget_ucent = 100000

[[tariff]]
quantity = "co2"
sensor = "*/co2"
unit = "ppm"
amount_ucent = 5000
minimum = 300
maximum = "2000.5"
interval_seconds_min = 600
age_seconds_max = 86400

[[tariff]]
quantity = "flow"
sensor = "urn:dev:pump"
unit = "l/s"
amount_ucent = 1
minimum = "-0.5"
maximum = 10
interval_seconds_min = 0
age_seconds_max = 86400
"""


def load(text: str = TEXT) -> Programme:
    return parse_programme(text.encode(), file="block.toml")


def reading(
    value: Value | None = Decimal(400),
    *,
    name: str = "urn:dev:alice/co2",
    unit: str | None = "ppm",
    taken: Decimal | int = NOW,
) -> Record:
    value_sum = Decimal(1) if value is None else None
    return Record(name=name, unit=unit, time=Decimal(taken), value=value, value_sum=value_sum)


def refusal(record: Record, nearest: Decimal | None = None, spent_ucent: int = 0) -> str:
    outcome = price(load(), record, now=NOW, nearest=nearest, spent_ucent=spent_ucent)
    assert isinstance(outcome, Refused)
    assert outcome.text
    assert outcome.remedy
    return outcome.code


def test_the_programme_of_the_demo_loads_and_pays_fractions_of_a_cent() -> None:
    programme = load_programme(CITY_BLOCK)
    assert programme.hash == hashlib.sha256(CITY_BLOCK.read_bytes()).digest()
    amounts = {tariff.quantity: tariff.amount_ucent for tariff in programme.tariffs}
    assert amounts == {
        "water-flow": 12500,
        "temperature": 2500,
        "humidity": 2500,
        "illuminance": 1250,
        "co2": 5000,
    }


def test_a_file_says_what_the_programme_is() -> None:
    programme = load()
    assert (programme.id, programme.version, programme.budget_ucent) == ("block", 3, 100_000)
    assert (programme.valid_from, programme.valid_until) == (1767225600, 1798761600)
    assert programme.hash == hashlib.sha256(TEXT.encode()).digest()
    assert programme.tariffs[0].maximum == Decimal("2000.5")
    without = load(TEXT.replace("budget_ucent = 100000\n", ""))
    assert without.budget_ucent is None
    assert without.hash != programme.hash


def test_a_reading_within_all_bounds_is_rewarded() -> None:
    outcome = price(load(), reading(taken=Decimal(NOW) - Decimal("0.5")), now=NOW, nearest=None)
    assert outcome == Rewarded(amount_ucent=5000, quantity="co2", taken=NOW - 1)


@pytest.mark.parametrize("value", ["300", "2000.5", "2000.50"])
def test_plausible_bounds_are_inclusive_and_exact(value: str) -> None:
    outcome = price(load(), reading(Decimal(value)), now=NOW, nearest=None)
    assert isinstance(outcome, Rewarded)


@pytest.mark.parametrize("value", ["299.99999999999999999999", "2000.5000000000000000001", "-400"])
def test_a_value_just_outside_is_implausible(value: str) -> None:
    assert refusal(reading(Decimal(value))) == Reason.IMPLAUSIBLE


@pytest.mark.parametrize("name", ["urn:dev:alice/co3", "co2", "x:co2", "urn:dev:pump2", "pump"])
def test_a_sensor_that_no_row_names_is_an_unknown_quantity(name: str) -> None:
    assert refusal(reading(name=name)) == Reason.UNKNOWN_QUANTITY


def test_a_whole_name_matches_only_itself() -> None:
    record = reading(Decimal(1), name="urn:dev:pump", unit="l/s")
    assert isinstance(price(load(), record, now=NOW, nearest=None), Rewarded)


@pytest.mark.parametrize("unit", [None, "/", "PPM"])
def test_another_unit_is_refused_and_never_converted(unit: str | None) -> None:
    assert refusal(reading(unit=unit)) == Reason.WRONG_UNIT


@pytest.mark.parametrize("value", ["400", True, b"400", None])
def test_only_a_number_is_a_value(value: Value | None) -> None:
    assert refusal(reading(value)) == Reason.NO_VALUE


def test_a_reading_is_too_old_from_the_second_after_its_age() -> None:
    assert isinstance(price(load(), reading(taken=NOW - 86400), now=NOW, nearest=None), Rewarded)
    assert refusal(reading(taken=NOW - 86401)) == Reason.TOO_OLD


def test_a_clock_may_run_ahead_a_little() -> None:
    ahead = NOW + FUTURE_SECONDS_MAX
    assert isinstance(price(load(), reading(taken=ahead), now=NOW, nearest=None), Rewarded)
    assert refusal(reading(taken=ahead + 1)) == Reason.IN_THE_FUTURE


def test_readings_count_while_the_programme_is_valid() -> None:
    start, end = 1767225600, 1798761600
    for taken, is_paid in ((start - 1, False), (start, True), (end - 1, True), (end, False)):
        outcome = price(load(), reading(taken=taken), now=taken, nearest=None)
        assert isinstance(outcome, Rewarded) is is_paid
        assert is_paid or (isinstance(outcome, Refused) and outcome.code == Reason.OUTSIDE_PERIOD)


@pytest.mark.parametrize("side", [-1, 1])
def test_readings_keep_their_distance_on_both_sides(side: int) -> None:
    at = NOW - 3600
    assert refusal(reading(taken=at), nearest=Decimal(at)) == Reason.DUPLICATE
    near = Decimal(at) + side * Decimal("599.9")
    assert refusal(reading(taken=at), nearest=near) == Reason.TOO_FREQUENT
    far = Decimal(at + side * 600)
    assert isinstance(price(load(), reading(taken=at), now=NOW, nearest=far), Rewarded)


def test_a_queue_that_arrives_late_is_judged_by_its_neighbours_and_not_by_the_newest() -> None:
    rewarded = [Decimal(NOW - 7200), Decimal(NOW)]
    late = Decimal(NOW - 3600)
    outcome = price(load(), reading(taken=late), now=NOW, nearest=nearest_taken(rewarded, late))
    assert isinstance(outcome, Rewarded)


@pytest.mark.parametrize(
    ("taken", "nearest"), [(0, 10), (10, 10), (14, 10), (16, 20), (20, 20), (99, 30)]
)
def test_the_nearest_time_is_found(taken: int, nearest: int) -> None:
    times = [Decimal(10), Decimal(20), Decimal(30)]
    assert nearest_taken(times, Decimal(taken)) == nearest
    assert nearest_taken([], Decimal(taken)) is None


def test_the_budget_is_spent_to_its_last_microcent_and_no_further() -> None:
    outcome = price(load(), reading(), now=NOW, nearest=None, spent_ucent=95_000)
    assert isinstance(outcome, Rewarded)
    assert refusal(reading(), spent_ucent=95_001) == Reason.BUDGET_SPENT


def test_every_reason_has_a_remedy_and_appeals_name_the_contact() -> None:
    assert set(REMEDIES) == set(Reason)
    outcome = price(load(), reading(Decimal(1)), now=NOW, nearest=None)
    assert isinstance(outcome, Refused)
    assert "appeals@city.example" in outcome.remedy


def test_the_same_reading_is_priced_the_same_each_time() -> None:
    outcomes = {price(load(), reading(), now=NOW, nearest=None) for _ in range(3)}
    assert len(outcomes) == 1


@pytest.mark.parametrize(
    ("before", "after", "kind", "where"),
    [
        ('id = "block"\n', "", settings.MissingSetting, "key 'id'"),
        ('id = "block"', 'id = "Block!"', settings.MalformedSetting, "line 1, key 'id'"),
        ("version = 3", "version = 0", settings.SettingOutOfRange, "line 2, key 'version'"),
        ("version = 3", "version = true", settings.WrongSettingType, "line 2"),
        ("purpose =", "purpos =", settings.UnknownSetting, "line 4, key 'purpos'"),
        ("2027-01-01T00:00:00Z", "2025-01-01T00:00:00Z", settings.SettingOutOfRange, "line 7"),
        ("2027-01-01T00:00:00Z", '"2027"', settings.WrongSettingType, "line 7"),
        ("= 100000", "= 0", settings.SettingOutOfRange, "line 8, key 'budget_ucent'"),
        ("= 5000", "= 0.5", settings.WrongSettingType, "line 14, key 'tariff.0.amount_ucent'"),
        ("= 5000", "= -1", settings.SettingOutOfRange, "line 14"),
        ("= 5000", "= 0x" + "f" * 25, settings.SettingOutOfRange, "line 14"),
        ('"ppm"', '"PPM"', settings.UnknownSetting, "line 13"),
        ('"ppm"', '"°C"', settings.UnknownSetting, "did you mean 'Cel'?"),
        ('"*/co2"', '"*/co2*"', settings.MalformedSetting, "line 12"),
        ('"*/co2"', '"*"', settings.MalformedSetting, "line 12"),
        ("minimum = 300", "minimum = 300.5", settings.WrongSettingType, "line 15"),
        ("minimum = 300", "minimum = 3000", settings.SettingOutOfRange, "line 16"),
        ("interval_seconds_min = 0\n", "", settings.MissingSetting, "line 20"),
        ("age_seconds_max", "age_seconds", settings.UnknownSetting, "did you mean 'age_sec"),
        ('"flow"', '"co2"', programmes.ClashingTariffs, "line 21, key 'tariff.1.quantity'"),
        ('"urn:dev:pump"', '"urn:x/co2"', programmes.ClashingTariffs, "line 22"),
        ('"urn:dev:pump"', '"*x/co2"', programmes.ClashingTariffs, "line 22"),
        ('"urn:dev:pump"', '"*o2"', programmes.ClashingTariffs, "line 22"),
        ("[[tariff]]", "[[tarif]]", settings.UnknownSetting, "did you mean 'tariff'?"),
    ],
)
def test_a_wrong_file_is_refused_by_key_and_line(
    before: str, after: str, kind: type[settings.Misconfigured], where: str
) -> None:
    assert before in TEXT
    with pytest.raises(kind) as caught:
        load(TEXT.replace(before, after))
    assert str(caught.value).startswith("block.toml")
    assert where in str(caught.value)
    assert caught.value.what_to_do


@pytest.mark.parametrize("rows", ["tariff = 5", "tariff = [1]", "tariff = []", ""])
def test_a_programme_has_rows(rows: str) -> None:
    head = TEXT.split("[[tariff]]", maxsplit=1)[0]
    with pytest.raises(settings.Misconfigured, match="tariff"):
        load(head + rows)


def test_programmes_of_one_hub_must_not_pay_for_one_sensor_twice() -> None:
    other = TEXT.replace('id = "block"', 'id = "other"').replace("urn:dev:pump", "urn:dev:pump2")
    check_programmes([load(), load(other.replace("*/co2", "*/no2"))])
    with pytest.raises(ClashingProgrammes, match=r"\*/co2"):
        check_programmes([load(), load(other)])
    with pytest.raises(ClashingProgrammes, match="id block"):
        check_programmes([load(), load()])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(settings.UnreadableSettings, match=r"gone\.toml"):
        load_programme(tmp_path / "gone.toml")
