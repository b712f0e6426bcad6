"""What is read off the processes of a long run, and when it says that memory grew."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from farthing.devnet.chaos.gauge import JUDGED_SECONDS_MIN, Gauge, Sample, resident_kib
from farthing.devnet.chaos.lives import Life
from farthing.devnet.processes import Process

QUARTER = 15


def gauge(folder: Path, period_seconds: float = 0.0) -> Gauge:
    return Gauge(
        databases={"hub": folder / "hub.sqlite"},
        outboxes={"hub": folder / "transactions"},
        record=folder / "samples.jsonl",
        period_seconds=period_seconds,
    )


def sample(number: int, resident_kib: int, *, pid: int = 7, every: float = 60.0) -> Sample:
    return Sample(
        at=number * every,
        name="hub",
        pid=pid,
        resident_kib=resident_kib,
        database_kib=number,
        write_ahead_kib=100 - number,
        log_kib=3,
        transactions=number % 5,
    )


def judged(folder: Path, resident: Callable[[int], int], *, every: float = 60.0) -> bool | None:
    looked = gauge(folder)
    looked.samples = [sample(n, resident(n), every=every) for n in range(4 * QUARTER)]
    flat: bool | None = looked.summary()["memory_flat"]
    return flat


@pytest.mark.parametrize(
    ("resident", "flat"),
    [
        (lambda n: 90_000, True),
        (lambda n: 60_000 + min(n, QUARTER - 1) * 2_000, True),  # it warms up, and then stays
        (lambda n: 90_000 + (n % 7) * 3_000, True),
        (lambda n: 90_000 + n * 200, False),
        (lambda n: 90_000 if n < 3 * QUARTER else 95_000, False),
    ],
)
def test_memory_is_flat_if_the_last_quarter_takes_no_more_than_the_second(
    tmp_path: Path, resident: Callable[[int], int], flat: bool
) -> None:
    assert judged(tmp_path, resident) is flat


def test_a_short_run_or_one_with_a_kill_says_nothing_of_it(tmp_path: Path) -> None:
    short = JUDGED_SECONDS_MIN / (4 * QUARTER)
    assert judged(tmp_path, lambda n: 90_000, every=short) is None
    killed = gauge(tmp_path)
    killed.samples = [sample(n, 90_000, pid=1 + n // QUARTER) for n in range(4 * QUARTER)]
    assert killed.summary()["memory_flat"] is None


def test_files_are_told_by_their_largest_size(tmp_path: Path) -> None:
    looked = gauge(tmp_path)
    looked.samples = [sample(n, 90_000 + n) for n in range(10)]
    assert looked.summary()["processes"]["hub"] == {
        "samples": 10,
        "flat": None,
        "resident_kib_max": 90_009,
        "database_kib": 9,
        "write_ahead_kib_max": 100,
        "log_kib": 3,
        "transactions_max": 4,
    }


def test_a_sample_holds_what_the_kernel_and_the_files_say(tmp_path: Path) -> None:
    (tmp_path / "hub.sqlite").write_bytes(bytes(2048))
    (tmp_path / "hub.sqlite-wal").write_bytes(bytes(1025))
    (tmp_path / "transactions").mkdir()
    (tmp_path / "transactions" / "1.json").write_text("{}")
    process = Process("hub", ["--help"], tmp_path / "hub.log")
    life = Life(name="hub", process=process, is_wallet=False)
    looked = gauge(tmp_path, period_seconds=1_000.0)
    looked.look([life])  # not started: there is nothing to see
    assert looked.samples == []
    looked = gauge(tmp_path, period_seconds=1_000.0)
    process.start()
    process.ready = {"port": 1}
    try:
        looked.look([life])
        looked.look([life])  # too early for another
    finally:
        process.kill()
    (taken,) = looked.samples
    assert (taken.name, taken.pid, taken.transactions) == ("hub", process.pid, 1)
    assert (taken.database_kib, taken.write_ahead_kib) == (2, 2)
    assert [json.loads(line)["pid"] for line in looked.record.read_text().splitlines()] == [
        taken.pid
    ]


def test_resident_memory_is_in_kib_and_of_the_process_asked_for() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    kib = pages * os.sysconf("SC_PAGE_SIZE") // 1024
    assert resident_kib(os.getpid()) == pytest.approx(kib, rel=0.05)
    assert resident_kib(2**22 + 1) == 0  # above the largest pid of a kernel
