"""What a benchmark looks at inside its processes: commits, verifications, and where time goes.

Nothing here changes what the product does, but for `each`, which makes a payee check more.
"""

from __future__ import annotations

import cProfile
import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, Final

from ...channels.client.driver import Driver
from ...channels.client.ledger import Ledger, Statement, StoredPayment
from ...channels.client.wire import Wire
from ...channels.events import Received
from ...channels.ids import ChannelId
from ...channels.messages import Update
from ...channels.state import Channel

PROFILE_ROWS: Final = 20
PROFILE_A_THREAD: Final = sys.version_info < (3, 12)
"""Later Pythons have one profile for all threads, which is then the main one's."""


class WatchedCommits:
    """Stands before a ledger's `commit` and keeps how often it ran and how long that took.

    The commits run in a thread; with `profile` it has a profile of its own.
    """

    def __init__(self, ledger: Ledger, *, profile: bool = False) -> None:
        self.count = 0
        self.payments = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._commit = ledger.commit
        is_possible = profile and PROFILE_A_THREAD
        self.profile = new_profile(wanted=is_possible)
        ledger.commit = self._watched  # type: ignore[method-assign]

    def _watched(
        self,
        channels: Iterable[Channel],
        payments: Iterable[tuple[ChannelId, int, StoredPayment]],
        statements: Iterable[Statement],
    ) -> None:
        rows = list(payments)
        began, cpu_began = time.perf_counter(), time.thread_time()
        if self.profile is None or threading.current_thread() is threading.main_thread():
            self._commit(channels, rows, statements)
        else:
            self.profile.runcall(self._commit, channels, rows, statements)
        self.count += 1
        self.payments += len(rows)
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.thread_time() - cpu_began

    def record(self) -> dict[str, Any]:
        """Commits, each of which is one sync or more, what they held and what they cost."""
        return {
            "commits": self.count,
            "syncs_at_least": self.count,
            "payments_stored": self.payments,
            "commit_seconds": round(self.seconds, 3),
            "commit_cpu_seconds": round(self.cpu_seconds, 3),
        }


class WatchedChannels:
    """The driver as a session sees it; counts the signatures that it is made to verify.

    The driver checks the newest voucher of what it reads. With `each` it is handed one message at a
    time, so that it verifies every one.
    """

    def __init__(self, driver: Driver, *, each: bool) -> None:
        self._driver = driver
        self._each = each
        self.verifications = 0
        self.updates = 0

    def linked(self, channel: ChannelId, wire: Wire) -> bool:
        """Whether this connection speaks for the channel."""
        return self._driver.linked(channel, wire)

    def unlink(self, wire: Wire) -> None:
        """Forget a connection that ended."""
        self._driver.unlink(wire)

    def receive(self, events: Iterable[tuple[ChannelId, Received]]) -> None:
        """Apply all messages of one read, together or one by one."""
        run = list(events)
        updates = [channel for channel, event in run if isinstance(event.message, Update)]
        self.updates += len(updates)
        if not self._each:
            self.verifications += len(set(updates))
            self._driver.receive(run)
            return
        self.verifications += len(updates)
        for one in run:
            self._driver.receive([one])


def used() -> dict[str, Any]:
    """What this process has used so far; of the CPU time, what its main thread has."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": round(time.process_time(), 3),
        "main_cpu_seconds": round(time.thread_time(), 3),
        "resident_kib_max": usage.ru_maxrss,
        "context_switches": usage.ru_nvcsw,
        "written_kib": _written_bytes() // 1024,
    }


def _written_bytes() -> int:
    """What this process has had written to disks, as the kernel counts it; 0 if it does not."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    counts = (line.split() for line in lines)
    return next((int(count) for name, count in counts if name == "write_bytes:"), 0)


def new_profile(*, wanted: bool) -> cProfile.Profile | None:
    """A profile of CPU time, if it is wanted."""
    return cProfile.Profile(time.thread_time) if wanted else None


@contextmanager
def profiled(profile: cProfile.Profile | None) -> Iterator[None]:
    """Profile what this thread runs while the block lasts, other tasks too."""
    if profile is None:
        yield
        return
    profile.enable()
    try:
        yield
    finally:
        profile.disable()


def profile_rows(profile: cProfile.Profile | None) -> list[dict[str, Any]]:
    """The functions that took most time themselves, with calls and their part of the whole."""
    if profile is None:
        return []
    table = _entries(profile)
    whole = sum(own for _, _, own, _ in table) or 1.0
    table.sort(key=lambda row: row[2], reverse=True)
    return [
        {
            "function": name,
            "calls": calls,
            "own_seconds": round(own, 3),
            "own_percent": round(100 * own / whole, 1),
            "with_calls_seconds": round(cumulative, 3),
        }
        for name, calls, own, cumulative in table[:PROFILE_ROWS]
    ]


def _entries(profile: cProfile.Profile) -> list[tuple[str, int, float, float]]:
    return [
        (_name(entry.code), entry.callcount, entry.inlinetime, entry.totaltime)
        for entry in profile.getstats()
    ]


def _name(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.name}:{code.co_firstlineno} {code.co_name}"


def say(line: str) -> None:
    """Write a line for the process that started this one, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
