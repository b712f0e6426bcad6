"""Runs a `farthing` command that does not outlive the demo, however the demo ends.

usage: python -m farthing.devnet.demo.child COMMAND ARGUMENT...

Standard input is a pipe whose other end only the demo holds. When the demo ends, by SIGKILL too,
the kernel closes that end; the command is then asked to stop, and killed if it does not. A signal
on the parent's death (Linux's PR_SET_PDEATHSIG) would come when the parent's *thread* ends, and the
demo starts a process again from a thread.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

STOP_SECONDS = 20
"""As long as the demo itself waits: time for a last commit."""


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass  # nobody writes; only the end is waited for
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # A daemon: it waits for the whole life of the command, and is not waited for.
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    runpy.run_module("farthing.cli.main", run_name="__main__", alter_sys=True)
