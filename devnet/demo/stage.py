"""Where the demo says what it does: as plain lines, or beside a live table (`live`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import Protocol

from ..city import City, Say


class Part(Enum):
    """The parts of the demo, in order; done is none of them, but the state after the last."""

    START = "start"
    REPLAY = "replay and pay"
    CLOSE = "settle and close"
    AUDIT = "audit"
    DONE = "done"


class Stage(Protocol):
    """What the demo tells while it runs."""

    def say(self, text: str) -> None:
        """Tell one thing that happened; from any thread."""

    def progress(self, text: str) -> None:
        """Tell figures that change all the time, in one line."""

    def begin(self, part: Part) -> None:
        """Tell that a part begins, and with it that those before are over."""

    def watching(self, city: City) -> AbstractContextManager[None]:
        """Show the city for as long as the block lasts."""


class Lines:
    """Every thing said is a line; nothing else is shown."""

    def __init__(self, write: Say) -> None:
        self.say = self.progress = write

    def begin(self, part: Part) -> None:
        """Say nothing: what the part does is said as it happens."""

    @contextmanager
    def watching(self, city: City) -> Iterator[None]:
        """Show nothing."""
        del city
        yield
