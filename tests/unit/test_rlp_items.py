"""RLP from strangers is read as the library reads it, within bounds and in linear time."""

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.fields import MalformedMessage
from farthing.channels.rlp_items import DEPTH_MAX, ITEMS_MAX, read_list

ITEMS = st.recursive(
    st.binary(max_size=80), lambda inner: st.lists(inner, max_size=4), max_leaves=20
)


def depth(item: Any) -> int:
    return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0


def listed(content: bytes) -> bytes:
    """A list with that content."""
    size = len(content)
    if size <= 55:
        return bytes([0xC0 + size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([0xF7 + width]) + size.to_bytes(width, "big") + content


def nested(levels: int) -> bytes:
    """That many lists, each in the other."""
    payload = b""
    for _ in range(levels):
        payload = listed(payload)
    return payload


@given(st.lists(ITEMS, max_size=6).filter(lambda items: depth(items) <= DEPTH_MAX))
def test_what_the_library_writes_is_read_back(items: list[Any]) -> None:
    assert read_list(rlp.encode(items)) == items


@given(st.binary(max_size=200) | st.lists(ITEMS, max_size=6).map(rlp.encode), st.data())
def test_what_is_accepted_is_what_the_library_accepts(payload: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, max(0, len(payload) - 1)))
        noise = data.draw(st.binary(min_size=1, max_size=2))
        payload = payload[:at] + noise + payload[at + 1 :]
    try:
        expected = rlp.decode(payload)
    except (rlp.DecodingError, IndexError):
        expected = None
    if isinstance(expected, list) and depth(expected) <= DEPTH_MAX:
        assert read_list(payload) == expected
    else:
        with pytest.raises(MalformedMessage):
            read_list(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x05",  # no list
        b"\x83abc",
        b"\xc0\xc0",  # two items
        b"\xc2\x01",  # cut off
        b"\xc1\x83",
        b"\xc2\x83a",
        b"\xc2\x81\x05",  # one byte in a longer form
        b"\xc3\xb8\x01a",  # a long form for a short string
        b"\xc4\xb9\x00\x38a",  # a length with a leading zero
        b"\xc1\xbf",  # a length that is cut off
        b"\xf8\x01\x05",  # a long form for a short list
        b"\xf9\x00\x38" + bytes(56),
        b"\xf8",
        b"\xf8\x38" + bytes(55),
        b"\xff" * 9,
    ],
)
def test_rlp_that_is_cut_off_doubled_or_not_canonical_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_list(payload)


def test_lists_nest_as_deep_as_a_message_needs_and_no_deeper() -> None:
    assert depth(read_list(nested(DEPTH_MAX))) == DEPTH_MAX
    for levels in (DEPTH_MAX + 1, 1000, 20_000):
        with pytest.raises(MalformedMessage, match="nested deeper"):
            read_list(nested(levels))


def test_a_message_holds_a_bounded_number_of_items() -> None:
    assert len(read_list(rlp.encode([b""] * (ITEMS_MAX - 1)))) == ITEMS_MAX - 1
    for count in (ITEMS_MAX, 2**20 - 4):
        with pytest.raises(MalformedMessage, match="more than"):
            read_list(listed(b"\xc0" * count))
