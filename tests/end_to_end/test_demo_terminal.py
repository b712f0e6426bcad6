"""The demo on a terminal: its live table, Ctrl-C in the middle, and a kill it cannot catch."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..terminals import bash

PROC = Path("/proc")
pytestmark = pytest.mark.skipif(
    not PROC.is_dir(), reason="finds the demo's processes by their command lines in /proc"
)

END_SECONDS = 120
SHOW_CURSOR = "\x1b[?25h"
CURSOR_UP = "\x1b[1A"
READY = "wallets joined"
PROCESSES = 6
"""The demo, its chain and its hub, two residents and a device."""


def running(folder: Path) -> set[int]:
    """The processes that were told of this folder: the demo, its chain, hub and wallets."""
    found = set()
    for entry in PROC.glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        if os.fsencode(folder) in command and int(entry.name) != os.getpid():
            found.add(int(entry.name))
    return found


def wait_ended(pids: set[int]) -> None:
    """Wait until each has ended, without being its parent."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], END_SECONDS)[0], f"process {pid} runs on"
        finally:
            os.close(handle)


def own_readings(folder: Path, rows: int) -> Path:
    file = folder / "own.csv"
    lines = [f"2026-01-01T{hour:02}:00:00Z,{hour}.5\n" for hour in range(rows)]
    file.write_text("time,water-flow [l/s]\n" + "".join(lines))
    return file


def test_a_table_is_redrawn_in_place_and_the_last_one_stays(tmp_path: Path) -> None:
    readings, kept = own_readings(tmp_path, 5), tmp_path / "kept"
    with bash(tmp_path) as typing:
        typing.type(f"TERM=xterm farthing demo --devices 1 --readings {readings} --keep {kept}\n")
        typing.wait("▶ start")
        seen = typing.wait("✓ audit")
        assert CURSOR_UP in seen
        assert "▶ replay and pay" in seen
        last = typing.wait(SHOW_CURSOR)
        assert "alice-device-1" in last
        assert "closed" in last
        typing.wait("ties out, difference 0 µ¢")
        typing.wait("ready> ")
    assert running(kept) == set()


def test_ctrl_c_stops_everything_and_gives_the_terminal_back(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with bash(tmp_path) as typing:
        typing.type(f"TERM=xterm farthing demo --devices 1 --keep {kept}\n")
        typing.wait(READY)
        typing.wait("alice-device-1")
        mine = running(kept)
        assert len(mine) == PROCESSES
        typing.type("\x03")
        typing.wait(SHOW_CURSOR)
        typing.wait("ready> ")
        wait_ended(mine)
        typing.type("echo code $?, $(stty -a | grep -ow -e echo -e icanon | sort | xargs)\n")
        typing.wait("code 130, echo icanon")
    assert running(kept) == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_demo_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    demo = subprocess.Popen(
        [sys.executable, "-m", "farthing.cli.main", "demo", "--devices", "1", "--keep", str(kept)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert demo.stderr is not None
        said = next(line for line in demo.stderr if READY in line)
        assert "\x1b" not in said  # plain lines where there is no terminal
        mine = running(kept)
        assert len(mine) == PROCESSES
        demo.send_signal(number)
        wait_ended(mine)
        assert demo.wait(END_SECONDS) != 0
        assert "is back" not in demo.stderr.read()  # it did not replay everything first
    finally:
        demo.kill()
        demo.communicate()
        for left in running(kept):  # none, unless the test has failed
            os.kill(left, signal.SIGKILL)
