"""Memory and files of the processes while the load lasts: what a soak is read by."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .lives import Life

SAMPLES = 60
"""How many times a run is looked at, if it lasts long enough."""
PERIOD_SECONDS_MIN = 1.0
JUDGED_SECONDS_MIN = 600.0
"""A shorter run has not warmed up: nothing is said of whether memory stays as it was."""
GROWTH_MAX = 1.05
"""What the last quarter of a run may take over its second one, which has warmed up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One process at one moment; sizes in KiB, 0 for a file that is not there."""

    at: float
    name: str
    pid: int
    resident_kib: int
    database_kib: int
    write_ahead_kib: int
    log_kib: int
    transactions: int


@dataclass(slots=True, kw_only=True)
class Gauge:
    """Looks at running processes every so often and keeps what it saw, in a file too."""

    databases: Mapping[str, Path]
    outboxes: Mapping[str, Path]
    record: Path
    period_seconds: float
    samples: list[Sample] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _next: float = 0.0

    def look(self, lives: Iterable[Life]) -> None:
        """Take a sample of each process that runs, when it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.period_seconds
        taken = [self._sample(life, now - self._began) for life in lives if life.ready]
        self.samples += taken
        with self.record.open("a") as file:
            file.writelines(json.dumps(asdict(sample)) + "\n" for sample in taken)

    def _sample(self, life: Life, at: float) -> Sample:
        database = self.databases[life.name]
        return Sample(
            at=round(at, 1),
            name=life.name,
            pid=life.process.pid,
            resident_kib=resident_kib(life.process.pid),
            database_kib=_kib(database),
            write_ahead_kib=_kib(database.with_name(f"{database.name}-wal")),
            log_kib=_kib(life.process.log),
            transactions=len(list(self.outboxes[life.name].glob("*.json"))),
        )

    def summary(self) -> dict[str, Any]:
        """What each process took, and whether that stayed so: `memory_flat`.

        It is None for a run that cannot tell: one that was short, or in which something was killed.
        """
        rows = {name: self._row(name) for name in self.databases}
        flat = [row["flat"] for row in rows.values()]
        known = None not in flat
        return {"processes": rows, "memory_flat": all(flat) if known else None}

    def _row(self, name: str) -> dict[str, Any]:
        taken = [sample for sample in self.samples if sample.name == name]
        resident = [sample.resident_kib for sample in taken]
        row: dict[str, Any] = {"samples": len(taken), "flat": None}
        if not taken:
            return row
        quarter = len(taken) // 4
        one_life = len({sample.pid for sample in taken}) == 1
        if one_life and taken[-1].at - taken[0].at >= JUDGED_SECONDS_MIN:
            row["second_quarter_kib"] = round(statistics.median(resident[quarter : 2 * quarter]))
            row["last_quarter_kib"] = round(statistics.median(resident[-quarter:]))
            row["flat"] = row["last_quarter_kib"] <= GROWTH_MAX * row["second_quarter_kib"]
        return row | {
            "resident_kib_max": max(resident),
            "database_kib": taken[-1].database_kib,
            "write_ahead_kib_max": max(sample.write_ahead_kib for sample in taken),
            "log_kib": taken[-1].log_kib,
            "transactions_max": max(sample.transactions for sample in taken),
        }


def resident_kib(pid: int) -> int:
    """Resident memory of a process as the kernel counts it; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0]) if sizes else 0


def _kib(path: Path) -> int:
    try:
        return -(-path.stat().st_size // 1024)
    except FileNotFoundError:
        return 0
