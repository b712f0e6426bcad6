"""JSON from strangers: parsed as ever, and refused before its nesting could crash the process."""

import json

import pytest

from farthing.channels.bounded_json import DEPTH_MAX, NotJson, parse


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "text",
        [],
        {},
        [[], {}, [1, {"a": [2]}]],
        {"brackets [ in { a string": '"}]"'},
        "\\",
        '\\"[',
        ["\\", "["],
        "µ¢\u2028",
    ],
)
def test_json_is_parsed_as_the_standard_library_does(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


def test_nesting_is_bounded_exactly() -> None:
    deepest = b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
    assert json.dumps(parse(deepest)).encode() == deepest
    with pytest.raises(NotJson, match="nests deeper"):
        parse(b"[" + deepest + b"]")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b"]",
        b"[}",
        b"[" * 1_000_000,
        b'{"a":' * 300_000,
        b'["' + b"[" * 1000,
        b"[" * 200_000 + b"]" * 200_000,
        b'"\\' * 1000,
        b"\xff",
        b'"\xed\xa0\x80"',
        b"1" * 10_000,
        b"[1,]",
        b"1 2",
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(NotJson):
        parse(content)
