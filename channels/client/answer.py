"""The bytes of an endpoint's HTTP answer, no more of them than are taken.

Rule: whoever asks is not filled by what is answered. The size that counts is the one in memory, so
that a compressed answer, of which a little becomes much, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ASKED_PLAIN: Final = {"Accept-Encoding": "identity"}
"""The header with which an answer is asked for that is not compressed."""


class Answer:
    """What was received of one answer so far."""

    def __init__(self, maximum_bytes: int) -> None:
        """Nothing is received yet."""
        self._maximum_bytes = maximum_bytes
        self._received = bytearray()

    @staticmethod
    def is_plain(headers: Mapping[str, str]) -> bool:
        """Whether it comes as it was asked for; take nothing of another."""
        return headers.get("Content-Encoding", "identity") == "identity"

    def take(self, chunk: bytes) -> bool:
        """Add what came next; False, and nothing is added, where that is too much in all."""
        if len(self._received) + len(chunk) > self._maximum_bytes:
            return False
        self._received += chunk
        return True

    def content(self) -> bytes:
        """All that was taken."""
        return bytes(self._received)
