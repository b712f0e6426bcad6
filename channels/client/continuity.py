"""Whether this database is the newest there was: a count of signed offers, kept twice (rule 5).

Each signature on a close or a withdrawal raises a count in the database, in the same commit, and
then in a small file beside it, before the signature leaves. A database that is older than the
file, or another one than the file names, was restored: it may have forgotten an offer that the peer
holds. Payments need no such count: the peer shows them on each connection.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import bounded_json
from ..bounded_json import NotJson
from ..state import DOUBT_UNKNOWN
from .files import sync_folder
from .ledger import Ledger, LedgerUnusable, Statement

DATABASE_ID_BYTES = 16
MARKER_BYTES = 256
"""Less than a disk's sector, so that a write is whole or not there."""

_SET = "INSERT INTO setting VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value=excluded.value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What the file says: of which database, and how many offers it had signed."""

    database: str
    offers: int


class Continuity:
    """The count of one ledger; `doubt_ends` is None where nothing can have been forgotten."""

    def __init__(self, ledger: Ledger, token: Callable[[int], str] = secrets.token_hex) -> None:
        """Compare database and file, and make both if there is neither; raises `LedgerUnusable`."""
        self.path = ledger.path.with_name(ledger.path.name + ".continuity")
        self.doubt_ends: int | None = None
        settings = dict(ledger.query("SELECT key, value FROM setting"))
        marker, is_there = self._read(), self.path.exists()
        known = settings.get("database")
        self._database = token(DATABASE_ID_BYTES) if known is None else known
        self._offers = int(settings.get("offers", "0"))
        if "doubt" in settings:
            self.doubt_ends = int(settings["doubt"])
        elif is_there if known is None else not self._continues(marker):
            self.doubt_ends = DOUBT_UNKNOWN
        self._offers = max(self._offers, 0 if marker is None else marker.offers)
        self._file = self._open()
        ledger.hold(self._file.close)
        # In this order: a crash in between leaves a difference, which is a doubt again.
        ledger.commit((), (), self._settings())
        self.mark()

    def _continues(self, marker: Marker | None) -> bool:
        """Whether the database holds all that it ever signed; it may be ahead of the file."""
        return (
            marker is not None
            and marker.database == self._database
            and marker.offers <= self._offers
        )

    def _settings(self) -> list[Statement]:
        statements: list[Statement] = [
            (_SET, ("database", self._database)),
            (_SET, ("offers", str(self._offers))),
        ]
        if self.doubt_ends is not None:
            statements.append((_SET, ("doubt", str(self.doubt_ends))))
        return statements

    def count(self, offers: int) -> list[Statement]:
        """Count signatures on offers; the statements belong into the commit that stores them."""
        self._offers += offers
        return [(_SET, ("offers", str(self._offers)))]

    def note(self, doubt_ends: int | None) -> list[Statement]:
        """Take what a channel has learned of the doubt: when it ends, or that it has ended."""
        if self.doubt_ends is None or doubt_ends == self.doubt_ends:
            return []
        self.doubt_ends = doubt_ends
        if doubt_ends is None:
            return [("DELETE FROM setting WHERE key=?", ("doubt",))]
        return [(_SET, ("doubt", str(doubt_ends)))]

    def _read(self) -> Marker | None:
        """The file's content; None where there is none that can be used."""
        try:
            with self.path.open("rb") as file:
                record: Any = bounded_json.parse(file.read(MARKER_BYTES))
        except (OSError, NotJson):
            return None
        match record:
            case {"database": str(database), "offers": int(offers)} if type(offers) is int:
                return Marker(database=database, offers=offers)
            case _:
                return None

    def mark(self) -> None:
        """Write the count to the file, after the commit and before the signatures leave.

        In place, through a descriptor that is held: strangers' connections cannot use it up. A
        write that is torn by a power cut reads as damage, which is a doubt. Raises
        `LedgerUnusable`: what cannot be noted must not be said.
        """
        text = json.dumps({"database": self._database, "offers": self._offers})
        try:
            self._file.write(text.ljust(MARKER_BYTES - 1).encode() + b"\n")
        except OSError as error:
            raise LedgerUnusable(
                f"{self.path} cannot be written ({error})",
                remedy="repair the disk and start again: what was asked for is stored and goes on",
            ) from error

    def _open(self) -> HeldFile:
        """Make the file where there is none, and hold it open as long as the ledger."""
        try:
            file = HeldFile(self.path, MARKER_BYTES)
            sync_folder(self.path.parent)
        except OSError as error:
            raise LedgerUnusable(
                f"{self.path} cannot be written ({error.strerror})",
                remedy="check that it is a file, that its folder may be written, and the disk",
            ) from error
        return file


class HeldFile:
    """A short file of a fixed size that stays open and is written in place; raises `OSError`."""

    def __init__(self, path: Path, size: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptor: int | None = os.open(path, flags, 0o600)
        os.ftruncate(self._descriptor, size)

    def write(self, content: bytes) -> None:
        """Replace the content, durably; a file that was closed is not written."""
        if self._descriptor is None:
            raise OSError(errno.EBADF, "it was closed")
        os.pwrite(self._descriptor, content, 0)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close it; its number may be another file's from now on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
