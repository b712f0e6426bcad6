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
