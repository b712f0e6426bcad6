"""Frames are cut from a stream at any boundary, and a bad length is refused before its bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    LENGTH_BYTES,
    FrameEmpty,
    FrameReader,
    FrameTooLong,
    encode_frame,
)


def test_a_frame_is_its_length_and_its_payload() -> None:
    assert encode_frame(b"abc") == b"\0\0\0\x03abc"


def test_a_payload_over_the_limit_is_not_sent() -> None:
    assert len(encode_frame(bytes(FRAME_BYTES_MAX))) == LENGTH_BYTES + FRAME_BYTES_MAX
    with pytest.raises(FrameTooLong) as caught:
        encode_frame(bytes(FRAME_BYTES_MAX + 1))
    assert caught.value.announced_bytes == FRAME_BYTES_MAX + 1


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_any_cut_of_the_stream_gives_the_same_payloads(
    payloads: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(encode_frame(payload) for payload in payloads)
    reader = FrameReader()
    seen: list[bytes] = []
    position = 0
    while position < len(stream):
        step = cuts[position % len(cuts)]
        seen += reader.feed(stream[position : position + step])
        position += step
    assert seen == payloads
    assert not reader.partial


def test_a_stream_that_stops_within_a_frame_is_known_to_be_partial() -> None:
    reader = FrameReader()
    assert reader.feed(encode_frame(b"whole") + b"\0\0") == [b"whole"]
    assert reader.partial
    assert reader.feed(b"\0\x02a") == []
    assert reader.feed(b"b") == [b"ab"]
    assert not reader.partial


def test_a_frame_that_announces_too_much_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader()
    assert reader.feed(encode_frame(bytes(GREETING_BYTES_MAX))) == [bytes(GREETING_BYTES_MAX)]
    with pytest.raises(FrameTooLong) as caught:
        reader.feed((GREETING_BYTES_MAX + 1).to_bytes(LENGTH_BYTES, "big"))
    assert caught.value.maximum_bytes == GREETING_BYTES_MAX


def test_the_greatest_length_there_is_is_refused() -> None:
    with pytest.raises(FrameTooLong):
        FrameReader(frame_bytes_max=FRAME_BYTES_MAX).feed(b"\xff" * LENGTH_BYTES)


def test_a_frame_of_no_bytes_is_refused() -> None:
    with pytest.raises(FrameEmpty):
        FrameReader().feed(bytes(LENGTH_BYTES))


def test_an_authenticated_peer_may_send_longer_frames() -> None:
    reader = FrameReader()
    reader.frame_bytes_max = FRAME_BYTES_MAX
    assert reader.feed(encode_frame(bytes(FRAME_BYTES_MAX))) == [bytes(FRAME_BYTES_MAX)]
