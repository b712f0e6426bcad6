"""The chain's clock: the wall clock, moved by whole seconds, always later than the parent block."""

from __future__ import annotations

from collections.abc import Callable

from .errors import TimeRefused

SHIFT_SECONDS_MAX = 10**10
"""About 300 years: enough for any test, and timestamps stay far below 2**63."""


class ChainClock:
    """Says which timestamp the next block gets.

    A header's time is max(parent + 1, wall clock + offset), or exactly what was asked for by
    `set_next`. Consensus wants each header later than its parent by at least a second; a burst of
    blocks within one second therefore runs ahead of the wall clock, and the chain waits for it
    afterwards: later blocks take parent + 1 until the wall clock has caught up.
    """

    def __init__(self, wall_seconds: Callable[[], float], offset_seconds: int = 0) -> None:
        self._wall_seconds = wall_seconds
        self.offset_seconds = offset_seconds
        self.next_exact: int | None = None

    def now(self) -> int:
        """The wall clock and the offset, in whole seconds."""
        return int(self._wall_seconds()) + self.offset_seconds

    def next_timestamp(self, parent: int) -> int:
        """The time of a block mined now on a parent of this time; changes nothing."""
        if self.next_exact is not None:
            return self.next_exact
        return max(parent + 1, self.now())

    def increase(self, seconds: int) -> None:
        """Move the clock forward; raises `TimeRefused` for a move back or too far."""
        if not 0 <= seconds <= SHIFT_SECONDS_MAX:
            raise TimeRefused(
                f"the clock cannot move by {seconds} seconds",
                remedy=f"give 0 to {SHIFT_SECONDS_MAX}: chain time never goes back",
            )
        if self.offset_seconds + seconds > SHIFT_SECONDS_MAX:
            raise TimeRefused(
                f"the clock is {self.offset_seconds} seconds ahead already",
                remedy=f"it may run ahead by {SHIFT_SECONDS_MAX} seconds at most",
            )
        self.offset_seconds += seconds

    def set_next(self, timestamp: int, parent: int) -> None:
        """Give the next block exactly this time; raises `TimeRefused`."""
        if not parent < timestamp <= parent + SHIFT_SECONDS_MAX:
            raise TimeRefused(
                f"timestamp {timestamp} is not possible after {parent}, the head's",
                remedy=f"give a later one, at most {SHIFT_SECONDS_MAX} seconds later",
            )
        self.next_exact = timestamp

    def offset_after(self, timestamp: int) -> int:
        """The offset once the next block is mined: a time that was asked for sets the clock."""
        if self.next_exact is None:
            return self.offset_seconds
        return self.offset_seconds + timestamp - self.now()

    def block_mined(self, offset_seconds: int) -> None:
        """Take over what `offset_after` said once the block is kept."""
        self.next_exact = None
        self.offset_seconds = offset_seconds

    def catch_up(self, timestamp: int) -> bool:
        """Move the clock forward to a block's time if it is behind; says whether it moved."""
        behind = max(0, timestamp - self.now())
        self.offset_seconds += behind
        return behind > 0
