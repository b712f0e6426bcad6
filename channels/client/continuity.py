"""Whether this database is the newest there was: a count of signed offers, kept apart (rule 5).

Each signature on a close or a withdrawal raises a count in the database, in the same commit, and
then in a small file beside it and in one elsewhere on this machine, before the signature leaves. A
database that is older than a file, or another one than a file names, was restored: it may have
forgotten an offer that the peer holds. The file elsewhere is what shows that a whole folder was put
back, or brought here from another machine. Payments need no such count: the peer shows them on each
connection.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import bounded_json
from ..bounded_json import NotJson
from ..errors import LocalError
from ..ids import Address
from ..state import DOUBT_UNKNOWN
from .durable_file import make_folder, sync_folder
from .ledger import Ledger, LedgerUnusable, Statement

DATABASE_ID_BYTES = 16
MARKER_BYTES = 256
"""Less than a disk's sector, so that a write is whole or not there."""

_ELSEWHERE = "elsewhere"
"""The setting of a database whose count is kept elsewhere too: there it is missed."""

_SETTINGS = ("database", "offers", "doubt", _ELSEWHERE)
_DEPLOYMENT_BYTES = 8
"""Of its id, in a file's name."""

_SET = "INSERT INTO setting VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value=excluded.value"


class NoHome(LocalError):
    """There is no place outside the folder to keep the count in."""

    code = "no-home"
    remedy = "set HOME or XDG_STATE_HOME, or name a folder as `marker_dir` in the settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What the file says: of which database, and how many offers it had signed."""

    database: str
    offers: int


class Continuity:
    """The count of one ledger; `doubt_ends` is None where nothing can have been forgotten."""

    def __init__(
        self,
        ledger: Ledger,
        token: Callable[[int], str] = secrets.token_hex,
        *,
        elsewhere: Path | None = None,
    ) -> None:
        """Compare database and files, and make what there is not; raises `LedgerUnusable`.

        `elsewhere` is a file outside the database's folder that keeps the count as well.
        """
        self.path = ledger.path.with_name(ledger.path.name + ".continuity")
        self.doubt_ends: int | None = None
        settings = dict(
            ledger.query("SELECT key, value FROM setting WHERE key IN (?,?,?,?)", _SETTINGS)
        )
        known = settings.get("database")
        self._database = token(DATABASE_ID_BYTES) if known is None else known
        self._offers = int(settings.get("offers", "0"))
        paths = [self.path] if elsewhere is None else [self.path, elsewhere]
        markers = [read_marker(path) for path in paths]
        is_new = known is None
        # Elsewhere, a file is missed only by a database that has written one.
        missed = [not is_new, not is_new and _ELSEWHERE in settings]
        if "doubt" in settings:
            self.doubt_ends = int(settings["doubt"])
        elif any(
            is_new or not self._continues(marker) if path.exists() else is_missed
            for path, marker, is_missed in zip(paths, markers, missed, strict=False)
        ):
            self.doubt_ends = DOUBT_UNKNOWN
        self._offers = max(self._offers, *(0 if one is None else one.offers for one in markers))
        self._files = [_open(path) for path in paths]
        for file in self._files:
            ledger.hold(file.close)
        # In this order: a crash in between leaves a difference, which is a doubt again.
        ledger.commit((), (), self._settings())
        self.mark()
        if elsewhere is not None and _ELSEWHERE not in settings:  # now that there is one
            ledger.commit((), (), [(_SET, (_ELSEWHERE, "kept"))])

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

    def note(self, doubt_ends: int | None, *, was: int | None) -> list[Statement]:
        """Take what a channel has learned of its doubt: that it began, when it ends, or its end.

        It begins where confirmed blocks were replaced, so that ended offers may live again. The
        longest doubt of all channels counts: who starts again in between has it for all of them.
        """
        known = self.doubt_ends
        if doubt_ends == known or (
            known is not None and was != known and known > (doubt_ends or 0)
        ):
            return []
        self.doubt_ends = doubt_ends
        if doubt_ends is None:
            return [("DELETE FROM setting WHERE key=?", ("doubt",))]
        return [(_SET, ("doubt", str(doubt_ends)))]

    def mark(self) -> None:
        """Write the count to the files, after the commit and before the signatures leave.

        In place, through a descriptor that is held: strangers' connections cannot use it up. A
        write that is torn by a power cut reads as damage, which is a doubt. Raises
        `LedgerUnusable`: what cannot be noted must not be said.
        """
        text = json.dumps({"database": self._database, "offers": self._offers})
        for file in self._files:
            try:
                file.write(text.ljust(MARKER_BYTES - 1).encode() + b"\n")
            except OSError as error:
                raise LedgerUnusable(
                    f"{file.path} cannot be written ({error})",
                    remedy="repair the disk and start again: what was asked for is stored and goes"
                    " on",
                ) from error


def read_marker(path: Path) -> Marker | None:
    """A file's content; None where there is none that can be used."""
    try:
        with path.open("rb") as file:
            record: Any = bounded_json.parse(file.read(MARKER_BYTES))
    except (OSError, NotJson):
        return None
    match record:
        case {"database": str(database), "offers": int(offers)} if type(offers) is int:
            return Marker(database=database, offers=offers)
        case _:
            return None


def _open(path: Path) -> HeldFile:
    """Make the file where there is none, and hold it open as long as the ledger."""
    try:
        make_folder(path.parent)
        file = HeldFile(path, MARKER_BYTES)
        sync_folder(path.parent)
    except OSError as error:
        raise LedgerUnusable(
            f"{path} cannot be written ({error.strerror})",
            remedy="check that it is a file, that its folder may be written, and the disk;"
            " `marker_dir` of the settings names another one",
        ) from error
    return file


def state_home(environ: Mapping[str, str]) -> Path:
    """Where this machine keeps counts unless told: $XDG_STATE_HOME/farthing; raises `NoHome`.

    (XDG Base Directory Specification.)
    """
    given = environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):  # the specification: a relative one is to be ignored
        return Path(given) / "farthing"
    try:
        return Path.home() / ".local" / "state" / "farthing"
    except RuntimeError:
        raise NoHome("there is no home folder to keep the count of signed offers in") from None


def elsewhere(folder: Path, signer: Address, deployment: bytes) -> Path:
    """The count's file of a signer on one deployment, whichever folder its database is in."""
    return folder / f"{signer.hex()}-{deployment[:_DEPLOYMENT_BYTES].hex()}.continuity"


class HeldFile:
    """A short file of a fixed size that stays open and is written in place; raises `OSError`."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
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
