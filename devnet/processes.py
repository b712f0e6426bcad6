"""Processes of the demo and of chaos: real ones, started, killed, waited for, started again.

None outlives the process that started it, however that ends: see `child`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ..channels.client.control import NotRunning, call_control
from ..channels.errors import LocalError

READY_SECONDS_MAX = 60
"""A process that imports much on a busy machine of two cores is ready in a few seconds."""
STOP_SECONDS_MAX = 20
LOG_BYTES_SHOWN = 2000

FARTHING = "farthing.cli.main"
"""The program of the `farthing` command."""


class ProcessFailed(LocalError):
    """A process that was started ended, or did not say that it is ready."""

    code = "process-failed"
    remedy = "read its log, whose path the text names"


class Process:
    """A program in a process of its own, the `farthing` command unless told.

    Its first line of output is JSON and says that it is ready. What it says further goes to
    `on_line`, in a thread of this process, or to the log file, as all its errors do.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        *,
        program: str = FARTHING,
        clock: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self._program = program
        self._clock = clock
        self.log = log
        self._on_line = on_line
        self._process: subprocess.Popen[str] | None = None
        self._reading: threading.Thread | None = None
        self._said_first = threading.Event()
        self._log_start = 0
        self._starting = threading.Lock()
        self._is_over = False
        self.ready: dict[str, Any] = {}

    def command_line(self) -> list[str]:
        """What is run in its next life."""
        clock = [] if self._clock is None else ["--clock", str(self._clock)]
        child = [sys.executable, "-m", "farthing.devnet.child", *clock]
        return [*child, self._program, *self.arguments]

    def start(self) -> None:
        """Start without waiting; see `wait_ready`. Raises `ProcessFailed` after `end`."""
        self.ready = {}
        self._said_first = threading.Event()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self._starting, self.log.open("a") as log:
            if self._is_over:
                raise ProcessFailed(
                    f"{self.name} is not started again: everything is being stopped"
                )
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                self.command_line(),
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.PIPE,  # nothing is written: its end is the end of this process
                text=True,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    # Wallets of a demo leave no counts among those of real ones.
                    "XDG_STATE_HOME": str(self.log.absolute().parent / "state"),
                },
            )
        self._reading = threading.Thread(
            target=self._read, args=(self._process.stdout, self._said_first), daemon=True
        )
        self._reading.start()

    def _read(self, output: IO[str], said_first: threading.Event) -> None:
        """Read to the end, so that a full pipe cannot stop the process."""
        try:
            with output, self.log.open("a") as log:
                for line in output:
                    if not said_first.is_set():
                        self.ready = _ready(line)
                        said_first.set()
                    elif self._on_line is not None:
                        self._on_line(line)
                    else:
                        log.write(line)
        finally:
            said_first.set()

    def wait_ready(self) -> dict[str, Any]:
        """Wait for the first line, which is JSON; raises `ProcessFailed`."""
        self._said_first.wait(READY_SECONDS_MAX)
        if not self.ready:
            raise ProcessFailed(
                f"{self.name} did not start; its log {self.log} ends with: {self.log_end()}"
            )
        return self.ready

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ProcessFailed(f"{self.name} was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The process's id; raises `ProcessFailed` if it was never started."""
        return self._running.pid

    def exit_code(self) -> int | None:
        """How it ended (minus the signal's number), None while it runs."""
        return self._running.poll()

    def wait_ended(self, seconds: float) -> bool:
        """Wait for it to end by itself; whether it did."""
        try:
            self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._finish_reading()
        return True

    def log_end(self) -> str:
        """The last part of what it has written to its log since it was started."""
        said = self.log.read_bytes()[self._log_start :]
        return said[-LOG_BYTES_SHOWN:].decode(errors="replace").strip()

    def ask(self, method: str, **params: Any) -> Any:
        """Ask over the control socket that the ready line names; raises `FarthingError`."""
        try:
            return call_control(Path(self.ready["control"]), method, params)
        except NotRunning as error:
            raise ProcessFailed(
                f"{self.name} does not answer ({error.text}); its log {self.log} ends with: "
                f"{self.log_end()}"
            ) from error

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._running.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone and all that it had said was read."""
        self._running.kill()
        self._running.wait(STOP_SECONDS_MAX)
        self._finish_reading()

    def end(self) -> None:
        """SIGTERM without waiting, also where it is stopped, and for good: no life follows."""
        with self._starting:
            self._is_over = True
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it does not end in time."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
        self._finish_reading()

    def _finish_reading(self) -> None:
        """Wait until all that an ended process has written was read."""
        if self._running.stdin is not None:
            self._running.stdin.close()
        if self._reading is not None:
            self._reading.join(STOP_SECONDS_MAX)


def _ready(line: str) -> dict[str, Any]:
    """Read a first line; an empty record where it is not what was agreed on."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
