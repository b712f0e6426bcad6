"""Files that appear whole and durable or not at all, for their owner's eyes alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, or make it, with mode 0600 whatever the umask; raises `OSError`.

    A crash leaves the old content or the new one. Written under another name in the same folder,
    synced, renamed, and the folder synced: a file's own sync does not cover its name.
    """
    draft: str | None = None
    try:
        descriptor, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
        draft = None
        sync_folder(path.parent)
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                Path(draft).unlink()


def sync_folder(path: Path) -> None:
    """Make names in a folder durable; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder with mode 0700 where there is none, parents too; raises `OSError`.

    One that is there may have been made by a process that was killed before it synced its name.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)
    if not missing:
        with contextlib.suppress(PermissionError):  # of a parent's owner, who made this folder
            sync_folder(path.absolute().parent)


def write_new(path: Path, text: str) -> None:
    """Write a file of mode 0600 that must not exist; raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    sync_folder(path.parent)
