"""Files and folders that are there after a power cut: their content is synced, and their names.

A file's own fsync covers its content alone; its name is the folder's content, and a new folder's
name is its parent's.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; raises `OSError`."""
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


def replace(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all, over an older one; raises `OSError`."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o600)
    draft.replace(path)
    sync_folder(path.parent)
