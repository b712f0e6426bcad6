"""A program on a pseudo-terminal of its own, typed to and read as by a person."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 300.0

# Makes the terminal the one that Ctrl-C comes from, which a program that is just started has not.
_OWNS_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """What a person has before them: keys to type, and what was printed."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self._unread = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait(self, text: str) -> str:
        """Read until a text appears after what was waited for before; all up to its end."""
        deadline = time.monotonic() + WAIT_SECONDS
        while text not in self._unread:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(0.0, left))
            assert ready, f"no {text!r} in {self._unread!r}"
            self._unread += os.read(self._master, 65536).decode(errors="replace")
        before, self._unread = self._unread.split(text, 1)
        return before + text


@contextmanager
def terminal(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    lines: int = 40,
    columns: int = 100,
) -> Iterator[Terminal]:
    """Start a program; at the end of the block it is killed if it has not ended."""
    master, theirs = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNS_TERMINAL, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **environment},
        cwd=folder,
    )
    os.close(theirs)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@contextmanager
def bash(folder: Path, *, columns: int = 100) -> Iterator[Terminal]:
    """An interactive bash with nobody's settings, which finds `farthing`."""
    programs = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PS1": "ready> ",
        "HOME": str(folder),
        "INPUTRC": "/dev/null",
        "TERM": "dumb",  # so that what is typed is echoed plainly
    }
    command = ["bash", "--norc", "--noprofile", "-i"]
    with terminal(command, folder=folder, environment=environment, columns=columns) as typing:
        typing.wait("ready> ")
        yield typing
