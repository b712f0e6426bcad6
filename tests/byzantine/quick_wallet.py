"""`farthing wallet run` in a process of its own that dials and looks at the chain without pauses.

The same product otherwise: only how long it waits between two tries is changed. Standard input is a
pipe whose end is the end of the test, and of this process.
"""

import os
import runpy
import signal
import sys
import threading

from farthing.channels.client import connection, follower, guard

PAUSE_SECONDS = 0.05


def end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass  # nobody writes
    os.kill(os.getpid(), signal.SIGTERM)


def hurry() -> None:
    for module, names in (
        (connection, ("BACKOFF_SECONDS_MIN", "BACKOFF_SECONDS_MAX")),
        (
            follower,
            ("POLL_SECONDS_MIN", "POLL_SECONDS_MAX", "RETRY_SECONDS_MIN", "RETRY_SECONDS_MAX"),
        ),
        (guard, ("SETTLE_AGAIN_SECONDS",)),
    ):
        for name in names:
            assert hasattr(module, name)
            setattr(module, name, PAUSE_SECONDS)


if __name__ == "__main__":
    hurry()
    threading.Thread(target=end_with_parent, daemon=True).start()
    runpy.run_module("farthing.cli.main", run_name="__main__", alter_sys=True)
