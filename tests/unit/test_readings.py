"""Readings from CSV: the demo's files to the last cell, and bad rows refused one by one."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from farthing.channels.senml import PackFormat, encode_json, parse
from farthing.devnet import readings
from farthing.devnet.readings import (
    ROOM_OCCUPANCY,
    WATER_FLOW,
    MalformedHeader,
    MissingReadings,
    Reading,
    RefusedRow,
    read_readings,
)
from farthing.node.programme import EXAMPLE, Rewarded, load_programme, nearest_taken, price

NOW = 1_795_000_000


def read(path: Path) -> list[Reading]:
    items = list(read_readings(path, now=NOW, base_name="urn:dev:alice/"))
    refused = [str(item) for item in items if isinstance(item, RefusedRow)]
    assert not refused
    return [item for item in items if isinstance(item, Reading)]


def read_text(folder: Path, text: str | bytes) -> list[Reading | RefusedRow]:
    path = folder / "mine.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_readings(path, now=NOW, base_name="urn:dev:bob/"))


def refused(folder: Path, text: str | bytes) -> list[RefusedRow]:
    items = read_text(folder, text)
    assert any(isinstance(item, Reading) for item in items)
    return [item for item in items if isinstance(item, RefusedRow)]


def test_the_files_of_the_demo_are_3304_readings() -> None:
    assert len(read(WATER_FLOW)) == 1268
    assert len(read(ROOM_OCCUPANCY)) == 4 * 509


def test_the_last_reading_is_moved_to_now_and_the_spacing_stays() -> None:
    flow = [item.record for item in read(WATER_FLOW)]
    assert flow[-1].time == NOW
    assert flow[0].original == "2022-03-20T11:00:00+01:00"
    assert flow[-1].original == "2022-05-16T22:00:00+02:00"
    # 57 days and 11 hours on the wall, less the hour that summer time took
    assert flow[-1].time - flow[0].time == (57 * 24 + 11 - 1) * 3600
    assert min(b.time - a.time for a, b in pairwise(flow)) == 3600


def test_a_room_without_offsets_keeps_every_row_and_its_own_spelling_of_the_time() -> None:
    room = read(ROOM_OCCUPANCY)
    first = [item.record for item in room[:4]]
    assert [(r.name, r.unit, str(r.value)) for r in first] == [
        ("urn:dev:alice/temperature", "Cel", "23.18"),
        ("urn:dev:alice/humidity", "%RH", "27.272"),
        ("urn:dev:alice/illuminance", "lx", "426.0"),
        ("urn:dev:alice/co2", "ppm", "721.25"),
    ]
    assert {r.original for r in first} == {"2015-02-04 17:51:00"}
    assert room[0].line == 2
    assert room[0].column == "V1"
    assert room[-1].record.time == NOW


def test_the_zone_of_the_room_is_an_hour_ahead_of_utc() -> None:
    offset = readings.ROOM_OCCUPANCY_MAPPING.zone.utcoffset(None)
    assert offset.total_seconds() == 3600


def test_each_reading_fits_a_pack_and_comes_back_from_it() -> None:
    for path in (WATER_FLOW, ROOM_OCCUPANCY):
        records = [item.record for item in read(path)[:64]]
        assert parse(encode_json(records), PackFormat.JSON, now=0) == tuple(records)


def test_the_demos_programme_rewards_all_but_three_cells_beyond_the_co2_sensors_range() -> None:
    programme = load_programme(EXAMPLE)
    paid_ucent, refusals = 0, []
    for path in (WATER_FLOW, ROOM_OCCUPANCY):
        rewarded: dict[str, list[Decimal]] = {}
        for item in read(path):
            times = rewarded.setdefault(item.record.name, [])
            nearest = nearest_taken(times, item.record.time)
            outcome = price(programme, item.record, now=NOW, nearest=nearest)
            if isinstance(outcome, Rewarded):
                times.append(item.record.time)
                paid_ucent += outcome.amount_ucent
            else:
                refusals.append((outcome.code, str(item.record.value)))
    assert refusals == [
        ("implausible", "2003.33333333333"),
        ("implausible", "2012.25"),
        ("implausible", "2012.5"),
    ]
    assert paid_ucent == 1268 * 12500 + 509 * (2500 + 2500 + 1250) + 506 * 5000


def test_anyones_file_is_read_by_its_heading(tmp_path: Path) -> None:
    items = read_text(
        tmp_path,
        "\ufeffTimestamp, Air Temp. (out) [°C] ,Noise [dB]\r\n"
        "2026-01-01T00:00:00Z, 4.5 ,1e1\r\n"
        "\r\n"
        "2026-01-01T01:30:00+01:00,+5,60.\r\n"
        '"1767229200.5",6,"70"\r\n',
    )
    records = [item.record for item in items if isinstance(item, Reading)]
    assert len(records) == len(items) == 6
    assert {(r.name, r.unit) for r in records} == {
        ("urn:dev:bob/air-temp-out", "Cel"),
        ("urn:dev:bob/noise", "dB"),
    }
    assert [str(r.time) for r in records[::2]] == [
        f"{NOW - 3601}.5",
        f"{NOW - 1801}.5",
        f"{NOW}.0",
    ]
    assert [r.value for r in records] == [Decimal(n) for n in ("4.5", "10", "5", "60", "6", "70")]


def test_a_wall_clock_time_that_comes_twice_loses_no_row(tmp_path: Path) -> None:
    items = read_text(
        tmp_path,
        "time,t [Cel]\n2022-10-30 02:30:00,1\n2022-10-30 02:30:00,2\n2022-10-30 03:30:00,3\n",
    )
    assert [item.record.value for item in items if isinstance(item, Reading)] == [1, 2, 3]


def test_bad_rows_are_refused_with_line_and_reason_and_the_rest_continues(tmp_path: Path) -> None:
    rows = [
        b"time,a [Cel],b [%RH]",
        b"2026-01-01T00:00:00Z,1,2",
        b"yesterday,1,2",
        b"2026-01-01T00:00:00Z,1",
        b"2026-01-01T00:00:00Z,1,2,3",
        b"2026-01-01T00:00:00Z,,x",
        b"2026-01-01T00:00:00Z,NaN,1e999",
        b"2026-01-01T00:00:00Z,\xff,1",
        b'2026-01-01T00:00:00Z,"1,2',
        b"2226-01-01T00:00:00Z,1,2",
        b"2026-13-01T00:00:00Z,1,2",
        b"9" * 9000 + b",1,2",
        b"0001-01-01T00:00:00+23:00,1,2",
        b"2026-01-01T00:00:00" + b"0" * 60 + b"Z,1,2",
        b"2026-01-01T00:00:00Z,3,4",
    ]
    found = refused(tmp_path, b"\n".join(rows))
    assert [(item.line, item.column) for item in found] == [
        (3, "time"),
        (4, None),
        (5, None),
        (6, "a [Cel]"),
        (6, "b [%RH]"),
        (7, "a [Cel]"),
        (7, "b [%RH]"),
        (8, None),
        (9, None),
        (10, "time"),
        (11, "time"),
        (12, None),
        (13, "a [Cel]"),
        (13, "b [%RH]"),
        (14, "time"),
    ]
    assert all(item.reason and item.remedy for item in found)
    assert str(found[0]) == (
        f"{tmp_path}/mine.csv, line 3, column 'time': 'yesterday' is not a time: "
        "write it as 2026-01-31T12:00:00+01:00 or in seconds since 1970"
    )


def test_a_long_line_counts_as_one_line(tmp_path: Path) -> None:
    text = "time,a [Cel]\n" + "x" * 50_000 + "\n1767225600,1\n1767225600,y\n" + "z" * 20_000
    assert [item.line for item in refused(tmp_path, text)] == [2, 4, 5]


def test_one_wrong_year_does_not_move_the_other_readings(tmp_path: Path) -> None:
    items = read_text(tmp_path, "time,a [Cel]\n2026-01-01T00:00:00Z,1\n2062-01-01T00:00:00Z,2\n")
    assert isinstance(items[0], Reading)
    assert items[0].record.time == NOW
    assert isinstance(items[1], RefusedRow)


def test_a_file_of_headings_only_has_no_readings(tmp_path: Path) -> None:
    assert read_text(tmp_path, "time,a [Cel]") == []


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("", "not 'time'"),
        ("value [Cel],time", "not 'time'"),
        ("time;a [Cel]", "not 'time'"),
        ("time", "0 columns"),
        ("time," + ",".join(f"a{n} [Cel]" for n in range(65)), "65 columns"),
        ("time,a", "no name with a unit"),
        ("time,[Cel]", "no name with a unit"),
        ("time,?? [Cel]", "no name with a unit"),
        ("time,a [furlong]", "not registered"),
        ("time,a [Cel],A [K]", "same name"),
        ('time,"a [Cel]', "not CSV"),
        (b"time,\xff [Cel]", "not CSV in UTF-8"),
        ("x" * 9000, "longer than"),
    ],
)
def test_a_heading_that_says_too_little_is_refused_before_any_row(
    tmp_path: Path, heading: str | bytes, said: str
) -> None:
    with pytest.raises(MalformedHeader, match=r"mine\.csv") as caught:
        read_text(tmp_path, heading)
    assert said in str(caught.value)
    assert caught.value.what_to_do


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingReadings, match=r"gone\.csv"):
        read_readings(tmp_path / "gone.csv", now=NOW, base_name="x/")
    with pytest.raises(MissingReadings, match="not a file"):
        read_readings(tmp_path, now=NOW, base_name="x/")


def test_a_base_name_that_senml_cannot_have_is_refused_cell_by_cell(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("time,a [Cel]\n1767225600,1\n")
    (item,) = read_readings(path, now=NOW, base_name="bad name/")
    assert isinstance(item, RefusedRow)
    assert "name" in item.reason
