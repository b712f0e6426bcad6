"""The schedule being carried out: kills, restarts and faults when they are due, in one thread."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...channels.errors import LocalError
from ..city import City, Say
from ..processes import READY_SECONDS_MAX, ProcessFailed
from .gauge import Gauge
from .lives import Life, wait_all_ready
from .schedule import HUB, KILL, Entry, Schedule
from .tally import Tally
from .troubles import Troubles

POLL_SECONDS = 0.05
PROGRESS_SECONDS = 2.0
POSTPONED_SECONDS = 0.2
"""A process that is down can be neither killed nor troubled: it is as soon as it was started."""
AWAY_SECONDS_MAX = 90.0
"""How long a hub may be away: a fault lasts seconds, a start on a busy machine several."""
REST_SECONDS_MAX = 120


class NotQuiet(LocalError):
    """Something was still outstanding long after the load had ended."""

    code = "not-quiet"
    remedy = "look at the logs in the folder that was kept"


@dataclass(slots=True, kw_only=True)
class WorkingTime:
    """A clock that stands still while the hub is away.

    The hub is back when it has said that it is ready and something was acknowledged since.
    """

    seconds: float = 0.0
    away_since: float | None = None
    _looked: float = field(default_factory=time.monotonic)
    _acknowledged: int = 0

    def hub_left(self, acknowledged: int) -> None:
        """The hub was killed, or has ended; so many payments were acknowledged before."""
        self.away_since = time.monotonic()
        self._acknowledged = acknowledged

    def look(self, *, ready: bool, acknowledged: int) -> None:
        """Move on by what has passed since the last look, if the hub was at work meanwhile."""
        now = time.monotonic()
        if self.away_since is None:
            self.seconds += now - self._looked
        elif ready and acknowledged > self._acknowledged:
            self.away_since = None
        elif now - self.away_since > AWAY_SECONDS_MAX:
            raise ProcessFailed(f"nothing was acknowledged for {AWAY_SECONDS_MAX:.0f} s")
        self._looked = now


@dataclass(slots=True)
class Storm:
    """What is done to a city by a schedule, and what ended by itself meanwhile."""

    city: City
    tally: Tally
    troubles: Troubles
    lives: dict[str, Life]
    gauge: Gauge
    say: Say
    kills: Counter[str] = field(default_factory=Counter)
    died: list[str] = field(default_factory=list)
    """Processes that ended by themselves and had no reason to."""
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)
    _clock: WorkingTime = field(default_factory=WorkingTime)

    def carry_out(self, schedule: Schedule) -> None:
        """Do everything when it is due; returns when the load has lasted as long as planned."""
        began = time.monotonic()
        self._clock = clock = WorkingTime()
        entries = list(schedule.entries)
        next_progress = began + PROGRESS_SECONDS
        while entries or self._due or clock.seconds < schedule.working_seconds:
            while entries and entries[0].at <= clock.seconds and clock.away_since is None:
                self._begin(entries.pop(0))
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            self._look_after()
            self.gauge.look(self.lives.values())
            acknowledged = self.tally.counts()[1]
            clock.look(ready=self.lives[HUB].ready, acknowledged=acknowledged)
            if now >= next_progress:
                next_progress += PROGRESS_SECONDS
                self._progress(now - began, clock, schedule)
            time.sleep(POLL_SECONDS)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), action))

    def _begin(self, entry: Entry) -> None:
        if entry.what == KILL:
            self._kill(entry, again=entry.again)
            return
        if self.troubles.begin(entry):
            self._later(entry.seconds, lambda: self.troubles.end(entry))
        elif entry.what not in self.troubles.not_available():
            self._later(POSTPONED_SECONDS, lambda: self._begin(entry))

    def _kill(self, entry: Entry, *, again: float) -> None:
        """Kill a process, start it after a while, and kill that one too if it is to be."""
        life = self.lives[entry.victim]
        if not life.up:
            self._later(POSTPONED_SECONDS, lambda: self._kill(entry, again=again))
            return
        ready, open_before = life.ready, self.tally.open_payments()
        life.kill()
        self.kills[entry.victim] += 1
        if life.is_wallet:
            self.tally.wallet_died(entry.victim, ready=ready)
        else:
            self._clock.hub_left(self.tally.counts()[1])

        def start() -> None:
            if not life.is_wallet:
                self.tally.hub_died(entry.victim, open_before, ready=ready)
            life.start()
            if again:
                self._later(again, lambda: self._kill(entry, again=0.0))

        self._later(entry.seconds, start)

    def _look_after(self) -> None:
        """Start again what ended by itself; it must have had a reason, and have said it."""
        for life in self.lives.values():
            if not life.ended():
                continue
            if life.is_wallet:
                self.tally.wallet_ended(life.name)
            else:
                self._clock.hub_left(self.tally.counts()[1])
            if not self.troubles.excuses(life):
                self.died.append(f"{life.name} ended by itself: {life.process.log_end()}")
            if not self.troubles.hinders(life):
                life.start()

    def calm_down(self) -> None:
        """End every trouble, start what is down, and wait until all processes are ready."""
        self.troubles.end_all()
        self._look_after()
        for life in self.lives.values():
            if not life.up:
                life.start()
        wait_all_ready(self.lives.values(), READY_SECONDS_MAX)

    def rest(self) -> float:
        """End the load, wait until all that fell due is ordered and nothing is outstanding.

        Returns when the load ended; raises `NotQuiet`.
        """
        ended = time.monotonic()
        while True:
            left = self._outstanding()
            if not left:
                return ended
            if time.monotonic() > ended + REST_SECONDS_MAX:
                raise NotQuiet(f"after {REST_SECONDS_MAX} s there is still outstanding: {left}")
            time.sleep(POLL_SECONDS)

    def _outstanding(self) -> dict[str, Any]:
        left: dict[str, Any] = {}
        for name in self.city.wallets:
            waiting = self.lives[name].process.ask("rest")
            if any(waiting.values()):
                left[name] = waiting
        unacknowledged = sum(row["unacknowledged"] for row in self.city.hub.ask("channels"))
        if unacknowledged:
            left[HUB] = unacknowledged
        return left

    def _progress(self, seconds: float, clock: WorkingTime, schedule: Schedule) -> None:
        offered, acknowledged = self.tally.counts()
        hub, everybody = self.kills[HUB], self.kills.total()
        share = min(clock.seconds / schedule.working_seconds, 1.0)
        self.say(
            f"{share:4.0%} after {seconds:.0f} s: {everybody} kills, {hub} of the hub;"
            f" {offered:,} payments offered, {acknowledged:,} acknowledged"
        )
