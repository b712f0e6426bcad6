"""Reads a ledger that may be in use, missing or damaged, and changes nothing of it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..state import Channel
from .ledger import BUSY_TIMEOUT_SECONDS, SCHEMA_VERSION, LedgerUnusable
from .records import channel_from_record


class Peek:
    """A read-only connection; every method raises `LedgerUnusable`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Read rows."""
        try:
            yield from self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise LedgerUnusable(
                f"the database {self.path} cannot be read ({error})",
                remedy="stop, keep the file, and recover: see docs/recovery.md",
            ) from error

    def version(self) -> int:
        """The schema's version; 0 for a database without tables."""
        ((version,),) = self.rows("PRAGMA user_version")
        return int(version)

    def settings(self) -> dict[str, str]:
        """The few settings that stand for the whole database."""
        names = ("database", "offers", "doubt", "elsewhere")
        rows = self.rows("SELECT key, value FROM setting WHERE key IN (?,?,?,?)", names)
        return {str(key): str(value) for key, value in rows}

    def channels(self) -> list[Channel]:
        """Every channel, without what is unacknowledged."""
        rows = self.rows("SELECT record FROM channel ORDER BY id")
        return [channel_from_record(_parsed(self.path, r), lambda _, __: ()) for (r,) in rows]


def _parsed(path: Path, record: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(record)
    except ValueError:
        raise LedgerUnusable(
            f"the database {path} holds a channel that cannot be read",
            remedy="stop, keep the file, and recover: see docs/recovery.md",
        ) from None
    return parsed


@contextlib.contextmanager
def peek(path: Path) -> Iterator[Peek | None]:
    """Open a database to look into it; None where there is none or it is empty.

    Raises `LedgerUnusable`, also where newer software wrote it.
    """
    if not path.exists():
        yield None
        return
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_SECONDS,
        )
    except sqlite3.Error as error:
        raise LedgerUnusable(
            f"the database {path} cannot be read ({error})",
            remedy="check the path and its permissions",
        ) from error
    with contextlib.closing(connection):
        found = Peek(path, connection)
        version = found.version()
        if version > SCHEMA_VERSION:
            raise LedgerUnusable(
                f"the database {path} has version {version}, this software knows {SCHEMA_VERSION}",
                remedy="use the newer software that wrote it",
            )
        yield found if version else None
