"""The demo's processes: real ones, started, asked for their ready line, killed and waited for.

None outlives the demo, however that ends: see `child`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ...channels.client.control import NotRunning, call_control
from ...channels.errors import LocalError

READY_SECONDS_MAX = 60
"""A process that imports much on a busy machine of two cores is ready in a few seconds."""
STOP_SECONDS_MAX = 20
LOG_BYTES_SHOWN = 2000


class ProcessFailed(LocalError):
    """A process of the demo ended, or did not say that it is ready."""

    code = "process-failed"
    remedy = "read its log, whose path the text names"


class Process:
    """A `farthing` command in a process of its own; its output goes to a log file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._arguments = [sys.executable, "-m", "farthing.devnet.demo.child", *arguments]
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._copying: threading.Thread | None = None
        self.ready: dict[str, Any] = {}

    def start(self) -> None:
        """Start without waiting; see `wait_ready`."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                self._arguments,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.PIPE,  # nothing is written: its end is the end of the demo
                text=True,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    # Wallets of a demo leave no counts among those of real ones.
                    "XDG_STATE_HOME": str(self._log.absolute().parent / "state"),
                },
            )

    def wait_ready(self) -> dict[str, Any]:
        """Wait for the first line, which is JSON; raises `ProcessFailed`."""
        output = self._running.stdout
        line = ""
        if output is not None and select.select([output], [], [], READY_SECONDS_MAX)[0]:
            line = output.readline()
        try:
            self.ready = json.loads(line)
        except ValueError:
            raise ProcessFailed(
                f"{self.name} did not start; its log {self._log} ends with: {self._log_end()}"
            ) from None
        self._drain(output)
        return self.ready

    def _drain(self, output: IO[str] | None) -> None:
        """Let the rest of the output go to the log, so that a full pipe cannot stop the process."""
        if output is None:
            return

        def copy() -> None:
            with output, self._log.open("a") as log:
                for line in output:
                    log.write(line)

        self._copying = threading.Thread(target=copy, daemon=True)
        self._copying.start()

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ProcessFailed(f"{self.name} was not started")
        return self._process

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_BYTES_SHOWN:].strip()

    def ask(self, method: str, **params: Any) -> Any:
        """Ask over the control socket that the ready line names; raises `FarthingError`."""
        try:
            return call_control(Path(self.ready["control"]), method, params)
        except NotRunning as error:
            raise ProcessFailed(
                f"{self.name} does not answer ({error.text}); its log {self._log} ends with: "
                f"{self._log_end()}"
            ) from error

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._running.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._running.kill()
        self._running.wait(STOP_SECONDS_MAX)
        self._finish_log()

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
        self._finish_log()

    def _finish_log(self) -> None:
        """Wait until all that an ended process has written is in its log."""
        if self._running.stdin is not None:
            self._running.stdin.close()
        if self._copying is not None:
            self._copying.join(STOP_SECONDS_MAX)
        elif self._running.stdout is not None:
            self._running.stdout.close()
