"""Each kind of value has one form on the wire, and every other form is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.fields import (
    TEXT_BYTES_MAX,
    Field,
    MalformedMessage,
    UnwritableValue,
    decode_text,
    encode_text,
    fixed,
    need_bytes,
    need_list,
    uint,
    upto,
)


@pytest.mark.parametrize("bits", [8, 16, 64, 96])
def test_an_integer_is_taken_at_its_bounds_and_refused_beyond_them(bits: int) -> None:
    field = uint(bits)
    for value in (0, 1, 2**bits - 1):
        assert field.decode(field.encode(value)) == value
    with pytest.raises(MalformedMessage, match=f"uint{bits}"):
        field.decode(b"\x01" + bytes(bits // 8))
    for value in (-1, 2**bits):
        with pytest.raises(UnwritableValue, match=f"no uint{bits}"):
            field.encode(value)


@pytest.mark.parametrize("data", [b"\0", b"\0\x01", b"\0" * 8])
def test_an_integer_with_leading_zeros_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="canonical"):
        uint(64).decode(data)


@pytest.mark.parametrize("field", [uint(64), fixed(4), upto(4), upto(4, lengths=(0, 4))])
def test_a_list_is_refused_where_bytes_belong(field: object) -> None:
    with pytest.raises(MalformedMessage, match="a list stands"):
        field.decode([])  # type: ignore[attr-defined]


def test_bytes_of_another_length_are_refused() -> None:
    assert fixed(4).decode(b"abcd") == b"abcd"
    assert upto(4).decode(b"") == b""
    assert upto(4).decode(b"abcd") == b"abcd"
    assert upto(4, lengths=(0, 4)).decode(b"") == b""
    for field, data in (
        (fixed(4), b"abc"),
        (fixed(4), b"abcde"),
        (upto(4), b"abcde"),
        (upto(4, lengths=(0, 4)), b"ab"),
    ):
        with pytest.raises(MalformedMessage, match="bytes stand where"):
            field.decode(data)


@pytest.mark.parametrize(
    ("field", "sizes", "wrong"),
    [
        (fixed(4), (4,), (0, 3, 5)),
        (upto(4), (0, 1, 4), (5,)),
        (upto(4, lengths=(0, 4)), (0, 4), (1, 3, 5)),
    ],
)
def test_bytes_of_another_length_are_not_written(
    field: Field, sizes: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    for size in sizes:
        assert field.encode(bytes(size)) == bytes(size)
    for size in wrong:
        with pytest.raises(UnwritableValue, match=f"{size} bytes"):
            field.encode(bytes(size))


def test_bytes_are_refused_where_a_list_belongs_and_a_list_of_another_length_too() -> None:
    assert need_list([b"a"]) == [b"a"]
    assert need_list([b"a"], 1) == [b"a"]
    assert need_bytes(b"a") == b"a"
    for item, length in ((b"a", None), ([b"a"], 2), ([], 1)):
        with pytest.raises(MalformedMessage, match="where a list belongs"):
            need_list(item, length)


def test_a_text_that_is_too_long_is_cut_when_written_and_refused_when_read() -> None:
    assert decode_text(b"x" * TEXT_BYTES_MAX) == "x" * TEXT_BYTES_MAX
    with pytest.raises(MalformedMessage, match="longer"):
        decode_text(b"x" * (TEXT_BYTES_MAX + 1))
    assert encode_text("x" * 5000) == b"x" * TEXT_BYTES_MAX


def test_a_text_is_cut_between_characters() -> None:
    written = encode_text("x" + "¢" * TEXT_BYTES_MAX)
    assert len(written) == TEXT_BYTES_MAX - 1
    assert decode_text(written) == "x" + "¢" * 255


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    for data in (b"\xff", b"\xc2", b"\xed\xa0\x80"):
        with pytest.raises(MalformedMessage, match="UTF-8"):
            decode_text(data)


def test_half_a_character_quoted_from_a_peer_is_written_as_a_question_mark() -> None:
    assert encode_text("sensor \ud800") == b"sensor ?"


@given(st.text(max_size=TEXT_BYTES_MAX))
def test_whatever_text_is_written_can_be_read(text: str) -> None:
    read = decode_text(encode_text(text))
    assert len(read.encode()) <= TEXT_BYTES_MAX
    assert text.encode(errors="replace").decode().startswith(read)
