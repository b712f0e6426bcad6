"""Disks that fail under a running process: one that is full, and one whose fsync fails."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ...channels.errors import LocalError

STOPPED_TEXT = "could not be made durable"
"""What a process says that stops because a commit failed."""

LOG_ROOM_BYTES = 65_536
"""What a process may still write to its log, a file too, when nothing else fits any more."""

ATTACH_SECONDS = 5


class NotAttached(LocalError):
    """No strace, or it may not attach to a process, or that has just ended."""

    code = "not-attached"
    remedy = "install strace, and allow tracing of one's own processes (CAP_SYS_PTRACE)"


def fill(pid: int, log: Path) -> bool:
    """Let writes fail that make a file longer than the log and a little; whether it runs still.

    A limit on the length of files fails like a full disk (EFBIG instead of ENOSPC) and concerns one
    process alone. It ends with the process, or with `empty`.
    """
    limit = log.stat().st_size + LOG_ROOM_BYTES
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    except ProcessLookupError:
        return False
    return True


def empty(pid: int) -> None:
    """Let writes succeed again."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with suppress(ProcessLookupError):  # it has stopped, as it should
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


class FailingFsync:
    """Every fsync of a process fails with EIO, by strace's fault injection, until `end`."""

    def __init__(self, pid: int) -> None:
        """Attach; raises `NotAttached`."""
        path = shutil.which("strace")
        if path is None:
            raise NotAttached("strace is not installed")
        command = [
            *(path, "--follow-forks", "--attach", str(pid), "--output", "/dev/null"),
            *("--trace=fsync,fdatasync", "--inject=fsync,fdatasync:error=EIO"),
        ]
        self._strace = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, stderr=subprocess.PIPE, text=True
        )
        said = "" if self._strace.stderr is None else self._strace.stderr.readline()
        if "attached" not in said:
            self.end()
            raise NotAttached(f"strace cannot attach: {said.strip()}")

    def end(self) -> None:
        """Detach: what is called from now on succeeds."""
        self._strace.terminate()
        try:
            self._strace.wait(ATTACH_SECONDS)
        except subprocess.TimeoutExpired:
            self._strace.kill()
            self._strace.wait()
        if self._strace.stderr is not None:
            self._strace.stderr.close()


def why_no_failing_fsync() -> str | None:
    """Why this machine cannot let an fsync fail; None where it can, tried on a process of ours."""
    sleeping = [sys.executable, "-c", "input()"]
    with subprocess.Popen(sleeping, stdin=subprocess.PIPE) as process:  # noqa: S603 - as above
        try:
            FailingFsync(process.pid).end()
        except NotAttached as error:
            return error.text
        finally:
            process.kill()
    return None
