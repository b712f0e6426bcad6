"""Disks that fail under one folder alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def no_outbox(folder: Path) -> Iterator[None]:
    """Where the folder was there is a file: nothing can be written there, whoever runs this."""
    folder.rename(folder.with_name("away"))
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        folder.with_name("away").rename(folder)
