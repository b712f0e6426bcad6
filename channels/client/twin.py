"""Another process that uses this wallet's key: noticed, told, and left in peace for long.

Rule: a wallet has one connection at a time and closes it before it dials the next. Whoever is told
on the connection it uses that another one took over has a twin.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

from ..errors import PeerError
from ..messages import Error

REPLACED: Final = "replaced"
CODE: Final = "running-twice"

BACKOFF_SECONDS_MIN: Final = 10.0
BACKOFF_SECONDS_MAX: Final = 3600.0
"""The first time it may have been a process that is just ending; then it is a matter for people."""


class RunningTwice(PeerError):
    """Another process with this wallet's key took the connection over."""

    code = CODE
    remedy = "stop one of the two; if you run only one, its key or its folder was copied"


class Twin:
    """What is known of another process with our key; it is remembered until this one ends."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._dice = dice
        self._times = 0
        self._told: int | None = None
        self._unsaid = False
        self.pause_seconds = 0.0
        """How long to stay away before dialling again; 0 where nobody took over."""

    def hear(self, message: Error) -> bool:
        """Take a message of the hub; whether it says that there is a twin, here for the first time.

        Raises `RunningTwice` where the connection was taken over.
        """
        if message.code == REPLACED:
            self._seen()
            least = min(BACKOFF_SECONDS_MIN * 2**self._times, BACKOFF_SECONDS_MAX)
            self._times += 1
            # Half of it at random: two that wait equally long would meet again.
            self.pause_seconds = least * (0.5 + self._dice() / 2)
            self._unsaid = True
            raise RunningTwice("another process uses this wallet's key at the same time")
        if message.code != CODE:
            return False
        is_news = self._told is None
        self._seen()
        return is_news

    def _seen(self) -> None:
        self._told = int(self._clock())

    def to_say(self) -> Error | None:
        """What the hub is told on the next connection, once for each takeover."""
        if not self._unsaid:
            return None
        self._unsaid = False
        text = "this wallet's connection was taken over by another process with its key"
        return Error(code=CODE, channel=b"", text=text, what_to_do=RunningTwice.remedy)

    def rested(self) -> float:
        """The pause before the next connection, once."""
        pause, self.pause_seconds = self.pause_seconds, 0.0
        return pause

    def record(self) -> dict[str, Any] | None:
        """As plain values for people and programs; None where there is none."""
        if self._told is None:
            return None
        return {"seen": self._told, "text": RunningTwice("another process uses this key").text}
