"""Processes over all their lives: killed, down, started again, and noticed when they end alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..processes import Process, ProcessFailed

READY_POLL_SECONDS = 0.05


@dataclass(slots=True, kw_only=True)
class Life:
    """One process's lives. A wallet is told which one it is in, and where its load stands."""

    name: str
    process: Process
    is_wallet: bool
    resume: Callable[[], Sequence[str]] = tuple
    """Gives a wallet's arguments about the load so far."""
    boot: int = 1
    down_since: float | None = None
    excused: str = ""
    """The fault that this life has met and that has to end it; empty if there was none."""
    stopped_itself: bool = False
    """Whether it is down because it ended by itself."""
    base_arguments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.base_arguments = tuple(self.process.arguments)

    @property
    def up(self) -> bool:
        """Whether it was started and has not been found ended since."""
        return self.down_since is None

    @property
    def ready(self) -> bool:
        """Whether it runs and has said so."""
        return self.up and bool(self.process.ready) and self.process.exit_code() is None

    def kill(self) -> None:
        """SIGKILL; all that it had said is read when this returns."""
        self.process.kill()
        self.down_since = time.monotonic()

    def ended(self) -> bool:
        """Note that it has ended by itself, if it has."""
        if not self.up or self.process.exit_code() is None:
            return False
        self.process.wait_ended(0)
        self.down_since = time.monotonic()
        self.stopped_itself = True
        return True

    def start(self) -> None:
        """Start its next life, without waiting for it."""
        self.boot += 1
        if self.is_wallet:
            more = ("--boot", str(self.boot), *self.resume())
            self.process.arguments = [*self.base_arguments, *more]
        self.down_since = None
        self.stopped_itself = False
        self.excused = ""
        self.process.start()


def wait_all_ready(lives: Iterable[Life], seconds: float) -> None:
    """Wait until all are; raises `ProcessFailed` for the first that is not in time."""
    deadline = time.monotonic() + seconds
    for life in lives:
        while not life.ready:
            if time.monotonic() > deadline or life.process.exit_code() is not None:
                raise ProcessFailed(
                    f"{life.name} is not ready; its log ends with: {life.process.log_end()}"
                )
            time.sleep(READY_POLL_SECONDS)
