"""What bounds the database's growth: how much one wallet may add in a day, and what is forgotten.

Rule: only what no payment hangs on is forgotten. A submission that is sent again after its outcome
was forgotten is priced again, and refused: its readings are too old, or were rewarded already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from ..channels.client.driver import Driver
from ..channels.state import Moment
from .store import DAY_SECONDS, HubStore

FORGET_SECONDS: Final = 3600
FORGET_ROWS: Final = 1000
"""In one commit, which everybody's payments share: a few milliseconds."""


class DailyAllowance:
    """Counts what each wallet has used of a day's allowance."""

    def __init__(
        self, per_day: int, used_before: Callable[[bytes, int], int] = lambda _, __: 0
    ) -> None:
        """Take from `used_before(who, day)` what a wallet had used before this process began."""
        self._per_day = per_day
        self._used_before = used_before
        self._day = -1
        self._used: dict[bytes, int] = {}

    def is_left(self, who: bytes, now: int) -> bool:
        """Whether somebody may still use some of it, at a time in seconds since 1970."""
        day = now // DAY_SECONDS
        if day != self._day:
            self._day = day
            self._used.clear()
        if who not in self._used:
            self._used[who] = self._used_before(who, day)
        return self._used[who] < self._per_day

    def use(self, who: bytes) -> None:
        """Count one use, after `is_left` was asked."""
        self._used[who] += 1


async def forget_old(
    store: HubStore, driver: Driver, moment: Callable[[], Moment], keep_days: int
) -> None:
    """Forget what is older, a little at a time, until cancelled."""
    while True:
        before = moment().now - keep_days * DAY_SECONDS
        while statements := store.forget(before, rows=FORGET_ROWS):
            driver.store(statements)
            await driver.wait_durable()
        await trio.sleep(FORGET_SECONDS)
