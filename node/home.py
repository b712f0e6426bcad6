"""A hub's or watchtower's data folder: made with mode 0700, and owned by one running process.

Rule: two processes on one database would sign two different histories of the same lanes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..channels.client.durable_file import make_folder
from ..channels.errors import LocalError

LOCK_BYTES_MAX = 64
DATABASE_NAME = "hub.sqlite"
CONTROL_NAME = "control.sock"
LOCK_NAME = "lock"
OUTBOX_NAME = "transactions"
"""Folder of what the account has sent; see `channels.client.outbox`."""


class DataFolderUnusable(LocalError):
    """The data folder cannot be made or written."""

    code = "data-folder-unusable"
    remedy = "check data_dir in the configuration and the folder's permissions"


class HubInUse(LocalError):
    """Another process owns the folder."""

    code = "hub-in-use"
    what = "hub"

    def __init__(self, path: Path, holder: str) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(
            f"the {self.what} in {path} is run by {who}",
            remedy=f"use its commands (they reach the running {self.what}),"
            " or stop that process first",
        )
        self.holder = holder


class WatchtowerInUse(HubInUse):
    """Another process owns the watchtower's folder."""

    code = "watchtower-in-use"
    what = "watchtower"


@contextmanager
def owned(folder: Path, in_use: type[HubInUse] = HubInUse) -> Iterator[None]:
    """Make the folder and own it during the block; raises `in_use`, `DataFolderUnusable`."""
    try:
        make_folder(folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(folder / LOCK_NAME, flags, 0o600)
    except OSError as error:
        raise DataFolderUnusable(f"{folder} cannot be used ({error.strerror})") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, LOCK_BYTES_MAX, 0).decode(errors="replace").strip()
            raise in_use(folder, holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # which unlocks; the file stays, so that nobody locks a lost one
