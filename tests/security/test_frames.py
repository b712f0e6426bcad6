"""Frames that are huge, truncated, nested or endless, and a stranger that never finishes."""

import pytest
import rlp
import trio
from trio.testing import MockClock, memory_stream_pair

from farthing.channels.client.wire import HANDSHAKE_SECONDS_MAX, ConnectionLost, Wire
from farthing.channels.fields import MalformedMessage
from farthing.channels.frames import GREETING_BYTES_MAX, FrameReader, FrameTooLong, encode_frame
from farthing.channels.rlp_items import DEPTH_MAX, ITEMS_MAX, read_list

from ..people import ALICE, DOMAIN


def test_a_huge_frame_is_refused_before_its_bytes_have_come() -> None:
    with pytest.raises(FrameTooLong):
        FrameReader().feed((2**32 - 1).to_bytes(4, "big"))
    with pytest.raises(FrameTooLong):
        FrameReader().feed((GREETING_BYTES_MAX + 1).to_bytes(4, "big"))


def test_a_truncated_frame_is_no_message_until_its_rest_has_come() -> None:
    frame = encode_frame(b"a whole message")
    reader = FrameReader()
    for one in frame[:-1]:
        assert reader.feed(bytes([one])) == []
    assert reader.feed(frame[-1:]) == [b"a whole message"]


def test_lists_nested_without_end_are_refused() -> None:
    nested: list[object] = []
    for _ in range(DEPTH_MAX - 1):
        nested = [nested]
    assert read_list(rlp.encode(nested)) == nested
    with pytest.raises(MalformedMessage, match="nested"):
        read_list(rlp.encode([nested]))


def test_a_list_of_endless_items_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="items"):
        read_list(rlp.encode([b""] * ITEMS_MAX))


async def test_a_stranger_that_never_finishes_its_greeting_is_sent_away(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    with trio.fail_after(2 * HANDSHAKE_SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, b"\x00\x00")
            with pytest.raises(ConnectionLost, match="authenticate"):
                await Wire(ours).accept(DOMAIN, ALICE)
