"""Starts a `farthing` process under strace, and reads what it did once it has ended."""

import copy
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from farthing.devnet.processes import Process

from .disk import Disk
from .trace import CALLS, Trace, read_trace

STATE = "state"
"""Of each process's own disk, so that its count outside of its folder is on it too."""
CHILD = Path(__file__).with_name("child.py")
TEXT_BYTES_MAX = 2**22
END_SECONDS_MAX = 20
OPTIONS = ("-D", "-f", "--seccomp-bpf", "-ttt", "-T", "-xx", "-yy", "-s", str(TEXT_BYTES_MAX))
"""-D: strace is the command's grandchild, so that the command is ours to signal."""


def need_strace(folder: Path) -> str:
    """The path of a strace that may trace; without one this fails in CI and skips elsewhere."""
    path = shutil.which("strace")
    problem = "strace is not installed: apt-get install strace"
    if path is not None:
        command = [path, *OPTIONS, "-o", str(folder / "probe"), "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return path
        problem = f"strace may not trace here: {done.stderr.strip()}"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)


class Traced(Process):
    """A command under strace, each life of which leaves a trace of its own."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, *, root: Path) -> None:
        super().__init__(name, arguments, log)
        self._command = list(arguments)
        self._root = root
        self._lives = 0
        self.behaviour = "as it is"
        """A name of `child.BEHAVIOURS`, for the next life."""
        self.inject = ""
        """strace's expression for calls that are to fail in the next life."""
        self._before: Disk | None = None

    @property
    def disk(self) -> Disk:
        """A model of the disk as it was before the first life."""
        assert self._before is not None
        return copy.deepcopy(self._before)

    def _trace(self, life: int) -> Path:
        return self.log.with_suffix(f".{life}.trace")

    def start(self) -> None:
        if self._before is None:
            self._before = Disk(self._root)
        self._lives += 1
        super().start()

    def command_line(self) -> list[str]:
        inject = ["-e", self.inject] if self.inject else []
        strace = ["strace", *OPTIONS, "-e", f"trace={','.join(CALLS)}", *inject]
        strace += [
            "-E",
            f"XDG_STATE_HOME={self._root / STATE}",
            "-o",
            str(self._trace(self._lives)),
        ]
        child = [sys.executable, str(CHILD), self.behaviour]
        return [*strace, *child, *self._command]

    def wait_end(self) -> int:
        """Wait until the process has ended by itself; its exit code."""
        code = self._running.wait(END_SECONDS_MAX)
        self._finish_reading()
        return code

    def traces(self) -> list[Trace]:
        """What each life did, once all have ended."""
        return [self._ended(self._trace(life)) for life in range(1, self._lives + 1)]

    def _ended(self, path: Path) -> Trace:
        """Read a trace, whose last lines strace writes after the process has ended."""
        deadline, pause = time.monotonic() + END_SECONDS_MAX, threading.Event()
        while not is_whole(path):
            assert time.monotonic() < deadline, path
            pause.wait(0.02)
        return read_trace(path)


def is_whole(path: Path) -> bool:
    """Whether the last line is the end of the first thread, which the kernel reports last."""
    with path.open("rb") as file:
        first = file.readline().split(b" ", 1)[0]
        file.seek(max(0, path.stat().st_size - 200))
        *_, last, rest = (b"\n" + file.read()).split(b"\n")
    return rest == b"" and last.startswith(first + b" ") and last.endswith(b" +++")
