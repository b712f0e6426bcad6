"""Durable state in SQLite: channels, their payments, and what the application commits with them.

Rule: one writer, one transaction per batch (group commit); what a batch holds is durable when
`commit` returns (WAL, synchronous=FULL), and nothing of it is if it raises.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LocalError
from ..ids import Address, ChannelId
from ..receipt import Receipt, ReceiptType
from ..state import Channel
from ..voucher import LaneTotal, Payment
from .records import channel_from_record, channel_to_record

SCHEMA_VERSION = 3
"""2: a channel's record holds withdrawals, which software of version 1 would forget. 3: it says of
which payments the user is not told, of which software of version 2 would tell."""
BUSY_TIMEOUT_SECONDS = 5
"""Only another process that should not be there can hold the database; say so soon."""
REWRITE_BYTES = 2**20
COMMITS_IN_LOG_MAX = 200
ROWS_IN_LOG_MAX = 8192
"""After either the log's pages go into the database file: SQLite's own 1,000 pages, about. SQLite
would do so by itself, and keep to itself that the disk failed."""

SENT, RECEIVED = 0, 1
NONCE_MAX = 2**63 - 1
"""The greatest integer that SQLite holds; a lane of a payment a microsecond lasts 292,000 years."""

_SCHEMA = """
CREATE TABLE channel (id BLOB PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE payment (
    channel BLOB NOT NULL, direction INTEGER NOT NULL, nonce INTEGER NOT NULL,
    amount_ucent TEXT NOT NULL, type INTEGER NOT NULL, receipt BLOB NOT NULL, salt BLOB NOT NULL,
    transferred_ucent TEXT NOT NULL, history BLOB NOT NULL,
    PRIMARY KEY (channel, direction, nonce)
) WITHOUT ROWID;
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters, to be committed with a batch."""


class LedgerUnusable(LocalError):
    """The database cannot be opened, belongs to newer software, or failed to commit."""

    code = "ledger-unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPayment:
    """A payment as stored, with the lane's total after it."""

    payment: Payment
    total: LaneTotal


class Ledger:
    """One SQLite file; every method but `commit` and `payments` is for start-up or for people."""

    def __init__(self, path: Path, *, schema: str = "") -> None:
        """Open or create the file with mode 0600; `schema` adds the application's own tables."""
        self.path = path
        self._held: list[Callable[[], None]] = []
        self._commits_in_log = self._rows_before_log = 0
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS
            )
            self._prepare(_SCHEMA + schema)
            self._reader = sqlite3.connect(  # sees only what is committed
                path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS
            )
        except (OSError, sqlite3.Error, LedgerUnusable) as error:
            if hasattr(self, "_db"):
                self._db.close()
            if isinstance(error, LedgerUnusable):
                raise
            raise LedgerUnusable(
                f"the database {path} cannot be opened ({error})",
                remedy="check that the folder exists, is writable and has space left",
            ) from error

    def _prepare(self, schema: str) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise LedgerUnusable(
                f"the database {self.path} has version {version}, this software knows "
                f"{SCHEMA_VERSION}",
                remedy="use the newer software that wrote it",
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        if version == 0:
            self._db.executescript(f"BEGIN; {schema} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version < SCHEMA_VERSION:  # the tables are the same, records are read forwards
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def take_over(self) -> None:
        """Write anew what an earlier process left in the log, and sync it.

        For who owns the database, before it says anything. The log may end with a batch whose fsync
        failed: the kernel shows such bytes to readers and never writes them, and a later fsync of
        the same file says nothing of it. What is committed behind them would go with them in a
        power cut. The same bytes in the same place do no harm. Raises `LedgerUnusable`.
        """
        try:
            descriptor = os.open(f"{self.path}-wal", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it was closed in order
        except OSError as error:
            raise self._cannot_take_over(error) from error
        try:
            for offset in range(0, os.fstat(descriptor).st_size, REWRITE_BYTES):
                os.pwrite(descriptor, os.pread(descriptor, REWRITE_BYTES, offset), offset)
            os.fsync(descriptor)
        except OSError as error:
            raise self._cannot_take_over(error) from error
        finally:
            os.close(descriptor)

    def _cannot_take_over(self, error: OSError) -> LedgerUnusable:
        return LedgerUnusable(
            f"what was committed to {self.path} cannot be made durable ({error.strerror})",
            remedy="free space or repair the disk, then start again: nothing is lost",
        )

    def hold(self, close: Callable[[], None]) -> None:
        """Call this when the database is closed."""
        self._held.append(close)

    def close(self) -> None:
        """Close the file; nothing that was committed depends on it."""
        for close in self._held:
            close()
        self._reader.close()
        self._db.close()

    def commit(
        self,
        channels: Iterable[Channel],
        payments: Iterable[tuple[ChannelId, int, StoredPayment]],
        statements: Iterable[Statement],
    ) -> None:
        """Write one batch in one transaction; raises `LedgerUnusable` and keeps nothing of it."""
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO channel VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET record=excluded.record",
                [(c.id, json.dumps(channel_to_record(c))) for c in channels],
            )
            db.executemany(
                "INSERT INTO payment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(channel, direction, stored) for channel, direction, stored in payments],
            )
            for sql, parameters in statements:
                db.execute(sql, parameters)
            db.execute("COMMIT")
            self._move_log_when_due()
        except BaseException as error:
            with suppress(sqlite3.Error):  # what is broken may not even take a rollback
                if db.in_transaction:
                    db.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error | OverflowError):  # SQLite's integers end at 2⁶³
                raise
            raise LedgerUnusable(
                f"a batch could not be made durable in {self.path} ({error})",
                remedy="free space or repair the disk, then start again: nothing was acknowledged",
            ) from error

    def _move_log_when_due(self) -> None:
        """Keep the log short; a disk that fails here fails the batch, which is then held unsaid."""
        self._commits_in_log += 1
        rows = self._db.total_changes - self._rows_before_log
        if self._commits_in_log >= COMMITS_IN_LOG_MAX or rows >= ROWS_IN_LOG_MAX:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._commits_in_log, self._rows_before_log = 0, self._db.total_changes

    def load_channels(self) -> list[Channel]:
        """Every channel as last committed, with what is unacknowledged, before any connection."""
        rows = self.query("SELECT record FROM channel ORDER BY id")
        return [channel_from_record(json.loads(r), self._unacknowledged) for (r,) in rows]

    def _unacknowledged(self, channel: ChannelId, acknowledged_nonce: int) -> tuple[LaneTotal, ...]:
        rows = self.payments(channel, SENT, first_nonce=acknowledged_nonce + 1)
        return tuple(stored.total for stored in rows)

    def payments(
        self,
        channel: ChannelId,
        direction: int,
        *,
        first_nonce: int = 1,
        last_nonce: int = NONCE_MAX,
    ) -> Iterator[StoredPayment]:
        """Payments of a lane from a nonce on, in order."""
        rows = self._rows(
            "SELECT nonce, amount_ucent, type, receipt, salt, transferred_ucent, history"
            " FROM payment WHERE channel=? AND direction=? AND nonce BETWEEN ? AND ?"
            " ORDER BY nonce",
            (channel, direction, first_nonce, last_nonce),
        )
        for nonce, amount, kind, cbor, salt, transferred, history in rows:
            yield StoredPayment(
                payment=Payment(
                    amount_ucent=int(amount),
                    receipt=Receipt(type=ReceiptType(kind), cbor=cbor, salt=salt),
                ),
                total=LaneTotal(nonce=nonce, transferred_ucent=int(transferred), history=history),
            )

    def count(self, channel: ChannelId, direction: int, *, last_nonce: int = NONCE_MAX) -> int:
        """How many payments of a lane are stored, up to a nonce."""
        ((count,),) = self._rows(
            "SELECT count(*) FROM payment WHERE channel=? AND direction=? AND nonce<=?",
            (channel, direction, last_nonce),
        )
        return int(count)

    def first_nonce(self, channel: ChannelId, direction: int) -> int | None:
        """The number of a lane's oldest stored payment; None where there is none."""
        ((nonce,),) = self._rows(
            "SELECT min(nonce) FROM payment WHERE channel=? AND direction=?", (channel, direction)
        )
        return None if nonce is None else int(nonce)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read rows of the application's own tables."""
        return list(self._rows(sql, parameters))

    def _rows(self, sql: str, parameters: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._reader.execute(sql, parameters)
        except sqlite3.Error as error:
            raise LedgerUnusable(
                f"the database {self.path} cannot be read ({error})",
                remedy="stop, keep the file, and restore it from a backup",
            ) from error


def _row(channel: ChannelId, direction: int, stored: StoredPayment) -> tuple[Any, ...]:
    receipt = stored.payment.receipt
    return (
        channel,
        direction,
        stored.total.nonce,
        str(stored.payment.amount_ucent),
        int(receipt.type),
        receipt.cbor,
        receipt.salt,
        str(stored.total.transferred_ucent),
        stored.total.history,
    )


def payer_and_payee(channel: Channel, direction: int) -> tuple[Address, Address]:
    """The accounts on a stored lane's two ends, the payer's first."""
    if direction == SENT:
        return channel.our_account, channel.peer_account
    return channel.peer_account, channel.our_account
