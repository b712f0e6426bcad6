"""Folders that a run writes into and keeps."""

from __future__ import annotations

from pathlib import Path

from ..channels.errors import LocalError


class FolderNotEmpty(LocalError):
    """The folder to keep a run in holds something."""

    code = "folder-not-empty"
    remedy = "give --keep a folder that is empty or does not exist"


def empty(folder: Path) -> Path:
    """Make a folder, or take an empty one; its absolute path. Raises `FolderNotEmpty`."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FolderNotEmpty(f"{folder} is not empty")
    return folder
