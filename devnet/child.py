"""Runs a program that does not outlive the one that started it, however that ends.

usage: python -m farthing.devnet.child [--clock FILE] PROGRAM ARGUMENT...

PROGRAM is a module's name, or the path of a Python file. With --clock, the program's wall clock is
the machine's plus the seconds in FILE (an 8-byte double), which may change at any time.

Standard input is a pipe whose other end only the parent holds. When the parent ends, by SIGKILL
too, the kernel closes that end; the program is then asked to stop, and killed if it does not. A
signal on the parent's death (Linux's PR_SET_PDEATHSIG) would come when the parent's *thread* ends,
and a parent may start a process again from a thread.
"""

from __future__ import annotations

import mmap
import os
import runpy
import signal
import struct
import sys
import threading
import time
from pathlib import Path

STOP_SECONDS = 20
"""As long as the parent itself waits: time for a last commit."""

CLOCK = struct.Struct("=d")
"""How a clock's file holds the seconds that it is ahead."""


def set_clock(file: Path, ahead_seconds: float) -> None:
    """Put the clock of every program that was started with this file ahead, or behind."""
    with file.open("r+b" if file.exists() else "w+b") as clock:
        clock.write(CLOCK.pack(ahead_seconds))


def _follow_clock(file: Path) -> None:
    """Replace `time.time` before the program is imported."""
    machine_time = time.time
    with file.open("rb") as opened:
        clock = mmap.mmap(opened.fileno(), CLOCK.size, access=mmap.ACCESS_READ)
    time.time = lambda: machine_time() + float(CLOCK.unpack_from(clock)[0])


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass  # nobody writes; only the end is waited for
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _main(arguments: list[str]) -> None:
    # A daemon: it waits for the whole life of the program, and is not waited for.
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    if arguments[0] == "--clock":
        _follow_clock(Path(arguments[1]))
        arguments = arguments[2:]
    program = arguments[0]
    sys.argv = arguments
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
