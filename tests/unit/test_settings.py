"""Settings files: every key is found on its line, and every error says where and what to do."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from farthing.node import settings
from farthing.node.settings import Misconfigured, Place, parse_document, read_document
from farthing.node.toml_lines import key_lines, line_of

TEXT = '''# a comment with = and [brackets]
title = "one # not a comment"
'quoted key' = 1
"es\\"caped" = 2
a.b . c = 3

long = """
fake = 1
[fake]
still \\""" inside"""
raw = \'\'\'
fake2 = "
\'\'\'
list = [ # comment ]
  "x]", [1, 2], # "
  { inner = 1 },
]
inline = { p = 1, q = "}" } # end
[table.sub] # header
key = 1
[[row]]
x = 1
[[row]]
x = 2
[row.detail]
y = 3
[[row.item]]
z = 4
'''


def test_every_key_is_found_on_its_line() -> None:
    lines = key_lines(TEXT)
    assert lines == {
        ("title",): 2,
        ("quoted key",): 3,
        ('es"caped',): 4,
        ("a",): 5,
        ("a", "b"): 5,
        ("a", "b", "c"): 5,
        ("long",): 7,
        ("raw",): 11,
        ("list",): 14,
        ("inline",): 18,
        ("table",): 19,
        ("table", "sub"): 19,
        ("table", "sub", "key"): 20,
        ("row",): 21,
        ("row", 0): 21,
        ("row", 0, "x"): 22,
        ("row", 1): 23,
        ("row", 1, "x"): 24,
        ("row", 1, "detail"): 25,
        ("row", 1, "detail", "y"): 26,
        ("row", 1, "item"): 27,
        ("row", 1, "item", 0): 27,
        ("row", 1, "item", 0, "z"): 28,
    }


def test_line_ends_of_windows_count_alike() -> None:
    assert key_lines(TEXT.replace("\n", "\r\n")) == key_lines(TEXT)


def test_a_key_that_is_not_found_is_on_the_line_of_what_is_around_it() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("inline", "q")) == 18
    assert line_of(lines, ("row", 0, "missing")) == 21
    assert line_of(lines, ("nowhere",)) is None
    assert parse_document(TEXT.encode(), file="t.toml").place("row", 1, "x") == Place(
        file="t.toml", key="row.1.x", line=24
    )


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b"a = 1\nb = = 2\n", settings.MalformedToml, "line 2"),
        (b"a = 1\na = 2\n", settings.MalformedToml, "line 2"),
        (b"a = 1\nb = '\xff'\n", settings.MalformedToml, "t.toml, line 2: the text is not UTF-8"),
        (b"a = " + b"[" * 100_000, settings.MalformedToml, "t.toml"),
        (b"a = " + b"9" * 5000, settings.MalformedToml, "t.toml"),
        (b"#" * 300_000, settings.UnreadableSettings, "longer than"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(
    data: bytes, kind: type[Misconfigured], text: str
) -> None:
    with pytest.raises(kind) as caught:
        parse_document(data, file="t.toml")
    assert text in str(caught.value)
    assert caught.value.what_to_do


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(settings.UnreadableSettings, match=r"missing\.toml"):
        read_document(tmp_path / "missing.toml")
    with pytest.raises(settings.UnreadableSettings):
        read_document(tmp_path)


PLACE = Place(file="t.toml", key="k", line=3)
VARIABLE = Place(file="t.toml", key="k", variable="FARTHING_HUB_K")


def toml(text: str) -> object:
    return parse_document(f"k = {text}".encode(), file="t.toml").values["k"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", "7"), ('"0.50"', "0.5"), ('"-30.0"', "-30"), ('"+1"', "1"), ("-5", "-5")],
)
def test_decimals_are_exact(text: str, number: str) -> None:
    assert settings.as_decimal(PLACE, toml(text)) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["0.5", "1e3", "inf", "nan", "true", '"1e3"', '"1,5"', '""', "[1]", "1979-05-27"]
)
def test_floats_and_other_things_are_no_decimals(text: str) -> None:
    with pytest.raises(settings.WrongSettingType, match=r"t\.toml, line 3, key 'k': .*quotes"):
        settings.as_decimal(PLACE, toml(text))


def test_a_decimal_beyond_measure_is_out_of_range() -> None:
    with pytest.raises(settings.SettingOutOfRange):
        settings.as_decimal(PLACE, toml("1" + "0" * 40))


@pytest.mark.parametrize("text", ["true", '"7"', "7.0", "[7]"])
def test_integers_are_whole_numbers_without_quotes(text: str) -> None:
    with pytest.raises(settings.WrongSettingType, match="whole number from 0 to 9"):
        settings.as_integer(PLACE, toml(text), low=0, high=9)


@pytest.mark.parametrize("text", ["-1", "10", "0x" + "f" * 5000])
def test_integers_out_of_range_are_refused_in_short_words(text: str) -> None:
    with pytest.raises(settings.SettingOutOfRange) as caught:
        settings.as_integer(PLACE, toml(text), low=0, high=9)
    assert len(str(caught.value)) < 200


def test_the_environment_gives_integers_as_text() -> None:
    assert settings.as_integer(VARIABLE, "7", low=0, high=9) == 7
    with pytest.raises(settings.WrongSettingType, match="environment variable FARTHING_HUB_K: "):
        settings.as_integer(VARIABLE, "seven", low=0, high=9)
    with pytest.raises(settings.WrongSettingType):
        settings.as_integer(VARIABLE, "9" * 5000, low=0, high=9)


def test_moments_need_an_offset() -> None:
    assert settings.as_moment(PLACE, toml("2026-01-01T00:00:00Z")) == 1767225600
    assert settings.as_moment(PLACE, toml("2026-01-01T01:00:00+01:00")) == 1767225600
    for text in ("2026-01-01T00:00:00", "2026-01-01", '"2026-01-01T00:00:00Z"', "5"):
        with pytest.raises(settings.WrongSettingType, match="offset"):
            settings.as_moment(PLACE, toml(text))


@pytest.mark.parametrize("text", ['""', '"  "', '"' + "x" * 501 + '"'])
def test_texts_have_bounds(text: str) -> None:
    with pytest.raises(settings.SettingOutOfRange):
        settings.as_text(PLACE, toml(text))
    with pytest.raises(settings.WrongSettingType):
        settings.as_text(PLACE, 5)
