"""The chain's SQLite file: py-evm's key-value store, the settings, the allowlist and the logs.

Rule: everything a block changes is written in one SQL transaction (`writing`), and nothing is
written outside one; so a devnet that is killed comes back at its last mined block.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB

from ..channels.ids import Address
from .errors import FolderInUse, FolderUnusable
from .records import Log, LogQuery

FILE_NAME = "chain.sqlite"
TOPICS_MAX = 4

_SCHEMA = """
CREATE TABLE IF NOT EXISTS node (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS allowed (address BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    block_number INTEGER NOT NULL, log_index INTEGER NOT NULL, block_hash BLOB NOT NULL,
    transaction_hash BLOB NOT NULL, transaction_index INTEGER NOT NULL, address BLOB NOT NULL,
    topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, data BLOB NOT NULL,
    PRIMARY KEY (block_number, log_index)
) WITHOUT ROWID;
"""

# NORMAL with a write-ahead log survives the death of the process at any point. A power failure may
# take the last blocks with it, never the file. EXCLUSIVE keeps a second devnet out of the folder.
_PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -65536",
)


class _Nodes(BaseDB):
    """The `node` table as the mapping py-evm wants."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getitem__(self, key: bytes) -> bytes:
        row = self._connection.execute("SELECT value FROM node WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        value: bytes = row[0]
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        if not self._connection.in_transaction:
            raise RuntimeError("the chain's store is written inside `writing` only")
        self._connection.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        if not self._connection.in_transaction:
            raise RuntimeError("the chain's store is written inside `writing` only")
        if self._connection.execute("DELETE FROM node WHERE key = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        query = "SELECT 1 FROM node WHERE key = ?"
        return self._connection.execute(query, (key,)).fetchone() is not None


class ChainStore(AtomicDB):
    """A devnet's database, in a folder or (folder None) in memory; one thread at a time.

    Raises `FolderInUse` or `FolderUnusable` when it cannot be opened.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._connection = _memory() if folder is None else _open_file(folder / FILE_NAME)
        super().__init__(_Nodes(self._connection))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One SQL transaction: all of it is kept, or, when the body raises, nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A failed COMMIT (disk full) may already have rolled back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def setting(self, name: str) -> str | None:
        """A stored setting's text, or None."""
        row = self._connection.execute(
            "SELECT value FROM setting WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else str(row[0])

    def put_setting(self, name: str, value: str) -> None:
        """Store a setting, replacing the old one; inside `writing`."""
        self._connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def allowed(self) -> tuple[Address, ...]:
        """The allowlist, sorted by address."""
        rows = self._connection.execute("SELECT address FROM allowed ORDER BY address")
        return tuple(Address(row[0]) for row in rows)

    def allow(self, addresses: Iterable[Address]) -> None:
        """Add addresses to the allowlist; inside `writing`."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO allowed VALUES (?)", ((address,) for address in addresses)
        )

    def disallow(self, addresses: Iterable[Address]) -> None:
        """Take addresses off the allowlist; inside `writing`."""
        self._connection.executemany(
            "DELETE FROM allowed WHERE address = ?", ((address,) for address in addresses)
        )

    def add_logs(self, logs: Iterable[Log]) -> None:
        """Store a block's logs; inside `writing`."""
        self._connection.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    log.block_number,
                    log.log_index,
                    log.block_hash,
                    log.transaction_hash,
                    log.transaction_index,
                    log.address,
                    *log.topics,
                    *(None,) * (TOPICS_MAX - len(log.topics)),
                    log.data,
                )
                for log in logs
            ),
        )

    def forget_logs(self, number: int) -> None:
        """Forget the logs of all blocks above a number; inside `writing`."""
        self._connection.execute("DELETE FROM log WHERE block_number > ?", (number,))

    def logs(self, query: LogQuery, limit: int) -> tuple[Log, ...]:
        """The first `limit` logs that match, in the order of the chain."""
        where = ["block_number BETWEEN ? AND ?"]
        values: list[object] = [query.first_block, query.last_block]
        if query.addresses:
            where.append(f"address IN ({_places(query.addresses)})")
            values.extend(query.addresses)
        for place, topics in enumerate(query.topics):
            if topics:
                where.append(f"topic{place} IN ({_places(topics)})")
                values.extend(topics)
            else:
                # An empty place matches any topic, but there has to be one.
                where.append(f"topic{place} IS NOT NULL")
        rows = self._connection.execute(
            f"SELECT * FROM log WHERE {' AND '.join(where)} "  # noqa: S608 - only places for values
            "ORDER BY block_number, log_index LIMIT ?",
            (*values, limit),
        )
        return tuple(_log(row) for row in rows)

    def named_in(self, address: Address, event: bytes) -> set[Address]:
        """The addresses that a contract's events of one kind name in their first argument."""
        rows = self._connection.execute(
            "SELECT DISTINCT topic1 FROM log WHERE address = ? AND topic0 = ? AND topic1 NOT NULL",
            (address, event),
        )
        return {Address(_bytes(row[0])[12:]) for row in rows}

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._connection.close()


def _places(values: tuple[bytes, ...]) -> str:
    return ",".join("?" * len(values))


def _log(row: tuple[object, ...]) -> Log:
    number, index, block, transaction, position, address, *rest = row
    *topics, data = rest
    return Log(
        address=Address(_bytes(address)),
        topics=tuple(_bytes(topic) for topic in topics if topic is not None),
        data=_bytes(data),
        block_number=_int(number),
        block_hash=_bytes(block),
        transaction_hash=_bytes(transaction),
        transaction_index=_int(position),
        log_index=_int(index),
    )


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"the log table holds {type(value).__name__} where bytes belong")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"the log table holds {type(value).__name__} where an integer belongs")
    return value


def _memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(_SCHEMA)
    return connection


def _open_file(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnusable(str(path.parent), error.strerror or str(error)) from error
    # No waiting for the lock: a devnet holds it for as long as it lives.
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.executescript(_SCHEMA)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise FolderInUse(str(path)) from error
        raise FolderUnusable(str(path), str(error)) from error
    return connection
