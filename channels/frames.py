"""Frames over a byte stream: a 4-byte big-endian length, then that many bytes of RLP."""

from __future__ import annotations

from .errors import PeerError

LENGTH_BYTES = 4
FRAME_BYTES_MAX = 2**20
"""1 MiB: 900 payments with the longest receipts, 6,000 with usual ones, fit one update."""
GREETING_BYTES_MAX = 1024
"""Before the peer has authenticated, so that a stranger's bytes cost little memory."""


class FrameTooLong(PeerError):
    """A frame that announces more bytes than it may have."""

    code = "frame-too-long"
    remedy = "send less in one message, see the limits in docs/protocol.md"

    def __init__(self, announced_bytes: int, maximum_bytes: int) -> None:
        super().__init__(f"a frame of {announced_bytes} bytes is over the {maximum_bytes} allowed")
        self.announced_bytes = announced_bytes
        self.maximum_bytes = maximum_bytes


class FrameEmpty(PeerError):
    """A frame without content."""

    code = "frame-empty"
    remedy = "every frame holds one RLP list"


def encode_frame(payload: bytes) -> bytes:
    """Put the length before the payload; raises `FrameTooLong` before anything is sent."""
    if len(payload) > FRAME_BYTES_MAX:
        raise FrameTooLong(len(payload), FRAME_BYTES_MAX)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class FrameReader:
    """Cuts a byte stream into payloads; keeps at most one frame and one read in memory."""

    def __init__(self, *, frame_bytes_max: int = GREETING_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes in, give the payloads that are complete; raises a `PeerError`."""
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:end], "big")
            if length > self.frame_bytes_max:
                raise FrameTooLong(length, self.frame_bytes_max)
            if length == 0:
                raise FrameEmpty("the peer sent a frame of 0 bytes")
            if len(self._buffer) - end < length:
                break
            payloads.append(bytes(self._buffer[end : end + length]))
            start = end + length
        del self._buffer[:start]
        return payloads

    @property
    def partial_bytes(self) -> int:
        """How much of a frame that is not complete has come."""
        return len(self._buffer)

    @property
    def partial(self) -> bool:
        """Whether the stream would end in the middle of a frame."""
        return bool(self._buffer)
