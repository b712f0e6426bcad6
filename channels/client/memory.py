"""What all connections of a process together keep in memory for their peers, and its limit.

Rule: over the limit the connection that holds the most ends, so that a few slow readers cost
themselves their connections and nobody else.
"""

from __future__ import annotations

from typing import Final, Protocol

from ..errors import PeerError

BYTES_MAX: Final = 256 * 2**20
"""Unsent and half-read bytes of all connections; 1,000 that behave hold a few kilobytes each."""


class MemoryFull(PeerError):
    """All connections together hold too much, and this one the most of it."""

    code = "memory-full"
    remedy = "reconnect and read faster"
    retryable = True


class Holder(Protocol):
    """A connection that may be told to give up."""

    def give_up(self, error: PeerError) -> None:
        """End at once, for this reason."""


class Memory:
    """Counts what every connection holds; see `BYTES_MAX`."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held: dict[Holder, int] = {}
        self.total_bytes = 0

    def hold(self, holder: Holder, held_bytes: int) -> None:
        """Note what a connection holds now; 0 forgets it. Over the limit the greatest gives up."""
        self.total_bytes += held_bytes - self._held.pop(holder, 0)
        if held_bytes:
            self._held[holder] = held_bytes
        while self.total_bytes > self._bytes_max:
            greatest = max(self._held, key=self._held.__getitem__)
            its_bytes = self._held.pop(greatest)
            self.total_bytes -= its_bytes
            greatest.give_up(MemoryFull(f"{its_bytes} bytes wait for the peer to read or finish"))
