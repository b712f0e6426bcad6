"""Runs a `farthing` command with one other behaviour, or as it is: child.py BEHAVIOUR COMMAND…

Like the demo's child it ends when its standard input does.
"""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from farthing.channels.client import ledger
from farthing.channels.client.continuity import HeldFile
from farthing.channels.client.driver import Driver
from farthing.channels.client.ledger import Ledger, LedgerUnusable
from farthing.channels.client.records import channel_to_record
from farthing.channels.events import Send
from farthing.channels.messages import Ack, Update
from farthing.devnet.child import _end_with_parent


def says_at_once(message: type[Any]) -> None:
    """Send it when it is known, not when it is durable."""
    later = Driver._later

    def at_once(self: Driver, state: Any, effect: Any) -> None:
        if isinstance(effect, Send) and isinstance(effect.message, message):
            self._send(state.id, effect.message, self._wires.get(state.id))
        else:
            later(self, state, effect)

    Driver._later = at_once  # type: ignore[method-assign]


def forgets_offers() -> None:
    """Write channels without what was co-signed."""
    without = {"close": None, "withdrawals": [None, None]}
    vars(ledger)["channel_to_record"] = lambda channel: {**channel_to_record(channel), **without}


def syncs_less(mode: str) -> None:
    """Commit as SQLite does by other settings."""
    prepare = Ledger._prepare

    def wrapped(self: Ledger, schema: str) -> None:
        prepare(self, schema)
        self._db.execute(f"PRAGMA synchronous={mode}")

    Ledger._prepare = wrapped  # type: ignore[method-assign]


def trusts_the_log() -> None:
    """Go on behind what an earlier process left in the log."""
    Ledger.take_over = lambda self: None  # type: ignore[method-assign]


def is_killed_where_a_commit_fails() -> None:
    """No order at the end: what failed stays in the log."""
    make_durable = Driver._make_durable

    def wrapped(self: Driver, batch: Any) -> None:
        try:
            make_durable(self, batch)
        except LedgerUnusable:
            os.kill(os.getpid(), signal.SIGKILL)

    Driver._make_durable = wrapped  # type: ignore[method-assign]


def leaves_the_count_unsynced() -> None:
    """Write the count beside the database, and leave it to the kernel."""

    def write(self: HeldFile, content: bytes) -> None:
        assert self._descriptor is not None
        os.pwrite(self._descriptor, content, 0)

    HeldFile.write = write  # type: ignore[method-assign]


BEHAVIOURS: dict[str, Callable[[], None]] = {
    "as it is": lambda: None,
    "is killed where a commit fails": is_killed_where_a_commit_fails,
    "acknowledges before the commit": lambda: says_at_once(Ack),
    "signs before the commit": lambda: says_at_once(Update),
    "forgets co-signed offers": forgets_offers,
    "syncs at checkpoints alone": lambda: syncs_less("NORMAL"),
    "trusts the log of a process whose sync failed": trusts_the_log,
    "leaves the count unsynced": leaves_the_count_unsynced,
}

if __name__ == "__main__":
    BEHAVIOURS[sys.argv[1]]()
    sys.argv[1:] = sys.argv[2:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("farthing.cli.main", run_name="__main__", alter_sys=True)
