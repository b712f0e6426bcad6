"""What happened on the chain lately, in order: what filters and subscriptions read from.

Each reader keeps a place of its own, so nothing is queued for it; one that falls behind the oldest
entry that is still kept has lost something and is told so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from .records import Header, Log

ENTRIES_MAX = 20_000
"""Twice what is mined in one call."""
LOGS_MAX = 100_000
"""Of all entries together; some 60 MB. The oldest entries go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A block was put on the head."""

    header: Header
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """The newest blocks were taken back; `logs` are those that they held, in order."""

    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A transaction began to wait."""

    transaction: bytes


Entry = Mined | TakenBack | Arrived


class Journal:
    """The newest entries, numbered from 0; as little thread-safe as the chain."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._logs = 0
        self.end = 0
        """The number that the next entry gets."""

    @property
    def start(self) -> int:
        """The number of the oldest entry that is still kept."""
        return self.end - len(self._entries)

    def add(self, entry: Entry) -> None:
        """Write an entry; old ones are forgotten as the limits ask."""
        self._entries.append(entry)
        self.end += 1
        self._logs += _logs_of(entry)
        while len(self._entries) > ENTRIES_MAX or (
            self._logs > LOGS_MAX and len(self._entries) > 1
        ):
            self._logs -= _logs_of(self._entries.popleft())

    def since(self, place: int, most: int = ENTRIES_MAX) -> Sequence[Entry] | None:
        """The first `most` entries from a place on; None where some of them are forgotten."""
        if place < self.start:
            return None
        first = place - self.start
        return tuple(islice(self._entries, first, first + most))


def _logs_of(entry: Entry) -> int:
    return 0 if isinstance(entry, Arrived) else len(entry.logs)
