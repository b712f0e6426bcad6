"""The hub's own tables beside the channels: what it answered, whom it rewarded, what it settled.

Rule: a number that a peer or a contract chose is stored as text, since SQLite's integers end at
2⁶³ and one value beyond would fail the commit of everybody's batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from ..channels.client.ledger import Ledger, Statement
from ..channels.deployment import Deployment
from ..channels.errors import LocalError
from ..channels.ids import Address, ChannelId, address_to_hex, to_hex
from ..channels.messages import RecordOutcome
from ..contracts.members import MemberStatus
from .chain import MemberRow, Mined

DAY_SECONDS: Final = 86_400
ROUNDING_SECONDS: Final = 0.001
"""More than a time since 1970 loses as a double: under a microsecond until the year 2242."""

HUB_SCHEMA: Final = """
CREATE TABLE submission (
    signer BLOB NOT NULL, id BLOB NOT NULL, outcomes TEXT NOT NULL, PRIMARY KEY (signer, id)
) WITHOUT ROWID;
CREATE TABLE rewarded (
    account BLOB NOT NULL, programme TEXT NOT NULL, quantity TEXT NOT NULL, taken TEXT NOT NULL,
    PRIMARY KEY (account, programme, quantity, taken)
) WITHOUT ROWID;
CREATE TABLE spent (programme TEXT PRIMARY KEY, ucent TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE member (
    account BLOB PRIMARY KEY, role INTEGER NOT NULL, status INTEGER NOT NULL,
    valid_until TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE settlement (
    tx BLOB PRIMARY KEY, block INTEGER NOT NULL, settled INTEGER NOT NULL,
    channels INTEGER NOT NULL,
    skipped INTEGER NOT NULL, gas_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE request (
    ours INTEGER NOT NULL, id BLOB NOT NULL, channel BLOB NOT NULL, amount_ucent TEXT NOT NULL,
    purpose TEXT NOT NULL, expires TEXT NOT NULL, state TEXT NOT NULL, nonce INTEGER,
    code TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (ours, id)
) WITHOUT ROWID;
CREATE INDEX request_state ON request (state);
"""

LATER_TABLES: Final = (
    "CREATE INDEX IF NOT EXISTS rewarded_time"
    " ON rewarded (account, programme, quantity, CAST(taken AS REAL))",
    # When each submission was decided, in days since 1970.
    "CREATE TABLE IF NOT EXISTS submission_day (day INTEGER NOT NULL, signer BLOB NOT NULL,"
    " id BLOB NOT NULL, PRIMARY KEY (day, signer, id)) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS top_up (
    id INTEGER PRIMARY KEY, channel BLOB NOT NULL, account BLOB NOT NULL,
    amount_ucent TEXT NOT NULL, deposit_before_ucent TEXT NOT NULL, nonce INTEGER NOT NULL,
    day INTEGER NOT NULL, block INTEGER, state TEXT NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS top_up_day ON top_up (day)",
    "CREATE INDEX IF NOT EXISTS top_up_sent ON top_up (state) WHERE state='sent'",
    """CREATE TABLE IF NOT EXISTS member_day (
    kind TEXT NOT NULL, account BLOB NOT NULL, day INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (kind, account)
) WITHOUT ROWID""",
    # `uptime` is the hub's running time at which a wallet was last heard; null while connected.
    """CREATE TABLE IF NOT EXISTS heard (
    channel BLOB PRIMARY KEY, uptime INTEGER, at INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS recent_block (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL, channels TEXT, members TEXT
)""",
)
"""Tables that came after version 2 of the database: made in those that lack them."""


BLOCKS_KEPT: Final = 64
"""Heads that are remembered with what they touched: a reorganisation among them is read again, and
no more; one that is deeper is read from the first block on."""
TOUCHED_MAX: Final = 1_000
"""Channels and members remembered for one head; where it touched more, it touched any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Of what the logs up to a head spoke, since the head before."""

    channels: frozenset[ChannelId]
    members: frozenset[Address]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentBlock:
    """A head that was taken in; `touched` is None where that is too much to remember."""

    number: int
    hash: bytes
    touched: Touched | None


class OtherHubsDatabase(LocalError):
    """The database was written under another deployment or with other keys."""

    code = "other-hubs-database"
    remedy = "use that deployment and those keys again, or give this hub another data_dir"

    def __init__(self, path: Path, what: str, stored: str, given: str) -> None:
        super().__init__(f"the database {path} is of {what} {stored}, not of {given}")
        self.what = what
        self.stored = stored
        self.given = given


class HubStore:
    """Reads of the hub's tables, and the statements that change them within a driver's commit."""

    def __init__(self, path: Path) -> None:
        """Open or create the database; raises `LedgerUnusable`."""
        self._path = path
        self.ledger = Ledger(path, schema=HUB_SCHEMA)
        self.ledger.commit((), (), [(sql, ()) for sql in LATER_TABLES])
        self._date_all(int(time.time()) // DAY_SECONDS)

    def _date_all(self, day: int) -> None:
        """Date what an earlier version decided without a date; it is kept from today on."""
        if not self.ledger.query("SELECT 1 FROM setting WHERE key='dated'"):
            sql = "INSERT OR IGNORE INTO submission_day SELECT ?, signer, id FROM submission"
            done = "INSERT INTO setting VALUES ('dated', '1')"
            self.ledger.commit((), (), [(sql, (day,)), (done, ())])

    def pin(self, deployment: Deployment, account: Address, signer: Address) -> None:
        """Tie the database to one deployment and one pair of keys; raises `OtherHubsDatabase`.

        Under other ones its channels would be signed for by a key that does not own them.
        """
        for what, given in (
            ("deployment", to_hex(deployment.deployment)),
            ("account", address_to_hex(account)),
            ("signer", address_to_hex(signer)),
        ):
            rows = self.ledger.query("SELECT value FROM setting WHERE key=?", (what,))
            if not rows:
                self.ledger.commit((), (), [("INSERT INTO setting VALUES (?, ?)", (what, given))])
            elif rows[0][0] != given:
                raise OtherHubsDatabase(self._path, what, rows[0][0], given)

    # -- readings ---------------------------------------------------------------------------

    def outcomes(self, signer: Address, submission: bytes) -> tuple[RecordOutcome, ...] | None:
        """What was answered to a submission before, or None."""
        rows = self.ledger.query(
            "SELECT outcomes FROM submission WHERE signer=? AND id=?", (signer, submission)
        )
        if not rows:
            return None
        return tuple(RecordOutcome(**outcome) for outcome in json.loads(rows[0][0]))

    @staticmethod
    def remember_outcomes(
        signer: Address, submission: bytes, outcomes: Iterable[RecordOutcome]
    ) -> Statement:
        """Remember an answer, so that a resubmission gets the same one and no second payment."""
        text = json.dumps([asdict(outcome) for outcome in outcomes])
        return "INSERT INTO submission VALUES (?, ?, ?)", (signer, submission, text)

    @staticmethod
    def date_submission(signer: Address, submission: bytes, now: int) -> Statement:
        """Note when a submission was decided, so that it can be forgotten."""
        day = now // DAY_SECONDS
        return "INSERT OR IGNORE INTO submission_day VALUES (?, ?, ?)", (day, signer, submission)

    def submissions_on(self, signer: bytes, day: int) -> int:
        """How many submissions of a wallet were decided on a day since 1970."""
        ((count,),) = self.ledger.query(
            "SELECT count(*) FROM submission_day WHERE day=? AND signer=?", (day, signer)
        )
        return int(count)

    def forget(self, before: int, *, rows: int) -> list[Statement]:
        """What forgets the oldest outcomes and unpaid requests of before a time; [] if none is.

        A request is as old as its expiry.
        """
        day = before // DAY_SECONDS
        old = self.ledger.query(
            "SELECT day, signer, id FROM submission_day WHERE day < ? ORDER BY day LIMIT ?",
            (day, rows),
        )
        statements: list[Statement] = []
        for its_day, signer, submission in old:
            where = (signer, submission)
            statements += [
                ("DELETE FROM submission WHERE signer=? AND id=?", where),
                (
                    "DELETE FROM submission_day WHERE day=? AND signer=? AND id=?",
                    (its_day, *where),
                ),
            ]
        requests = self.ledger.query(
            "SELECT ours, id FROM request WHERE state IN ('refused', 'expired')"
            " AND CAST(expires AS INTEGER) < ? LIMIT ?",
            (before, rows),
        )
        statements += [("DELETE FROM request WHERE ours=? AND id=?", row) for row in requests]
        return statements

    def rewarded(
        self, account: Address, programme: str, quantity: str, *, near: Decimal, seconds: int
    ) -> list[Decimal]:
        """When an account's rewarded readings were taken, of those within `seconds` of a time.

        Some just outside may be among them: SQLite compares rounded times.
        """
        rows = self.ledger.query(
            "SELECT taken FROM rewarded WHERE account=? AND programme=? AND quantity=?"
            " AND CAST(taken AS REAL) BETWEEN ? AND ?",
            (
                *(account, programme, quantity),
                *(
                    float(near) - seconds - ROUNDING_SECONDS,
                    float(near) + seconds + ROUNDING_SECONDS,
                ),
            ),
        )
        return sorted(Decimal(taken) for (taken,) in rows)

    @staticmethod
    def remember_rewarded(
        account: Address, programme: str, quantity: str, taken: Decimal
    ) -> Statement:
        """Remember a rewarded reading, so that the same moment is not rewarded again."""
        return "INSERT INTO rewarded VALUES (?, ?, ?, ?)", (
            account,
            programme,
            quantity,
            str(taken),
        )

    def spent_ucent(self, programme: str) -> int:
        """What a programme has paid so far, in µ¢."""
        rows = self.ledger.query("SELECT ucent FROM spent WHERE programme=?", (programme,))
        return int(rows[0][0]) if rows else 0

    @staticmethod
    def remember_spent(programme: str, ucent: int) -> Statement:
        """Remember what a programme has paid so far."""
        return (
            "INSERT INTO spent VALUES (?, ?) ON CONFLICT (programme) DO UPDATE SET"
            " ucent=excluded.ucent",
            (programme, str(ucent)),
        )

    # -- members and the chain's cursor -----------------------------------------------------

    def members(self) -> list[MemberRow]:
        """Every member as the logs up to the cursor say."""
        return [
            MemberRow(
                account=Address(account),
                role=role,
                status=MemberStatus(status),
                valid_until=int(valid_until),
            )
            for account, role, status, valid_until in self.ledger.query("SELECT * FROM member")
        ]

    @staticmethod
    def remember_member(row: MemberRow) -> Statement:
        """Remember a member's newest state."""
        return (
            "INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)",
            (row.account, row.role, int(row.status), str(row.valid_until)),
        )

    @staticmethod
    def forget_members() -> Statement:
        """Forget all members, before every event is read again."""
        return "DELETE FROM member", ()

    def cursor(self) -> tuple[int, bytes] | None:
        """The last block whose logs were taken in, and its hash."""
        rows = self.ledger.query("SELECT value FROM setting WHERE key='cursor'")
        if not rows:
            return None
        number, block_hash = json.loads(rows[0][0])
        return number, bytes.fromhex(block_hash)

    def recent_blocks(self) -> list[RecentBlock]:
        """The newest heads that were taken in, oldest first."""
        rows = self.ledger.query("SELECT * FROM recent_block ORDER BY number")
        return [
            RecentBlock(number=number, hash=block_hash, touched=_touched(channels, members))
            for number, block_hash, channels, members in rows
        ]

    @staticmethod
    def remember_block(block: RecentBlock, *, replaces_above: int | None = None) -> list[Statement]:
        """Remember a head as the cursor; `replaces_above` is the block that a fork began after."""
        cursor = json.dumps([block.number, block.hash.hex()])
        touched = block.touched
        if touched is not None and len(touched.channels) + len(touched.members) > TOUCHED_MAX:
            touched = None
        channels = members = None
        if touched is not None:
            channels = json.dumps([channel.hex() for channel in touched.channels])
            members = json.dumps([member.hex() for member in touched.members])
        statements: list[Statement] = []
        if replaces_above is not None:
            statements.append(("DELETE FROM recent_block WHERE number > ?", (replaces_above,)))
        return [
            *statements,
            ("INSERT OR REPLACE INTO setting VALUES ('cursor', ?)", (cursor,)),
            (
                "INSERT INTO recent_block VALUES (?, ?, ?, ?) ON CONFLICT (number) DO NOTHING",
                (block.number, block.hash, channels, members),
            ),
            (
                "DELETE FROM recent_block WHERE number NOT IN"
                " (SELECT number FROM recent_block ORDER BY number DESC LIMIT ?)",
                (BLOCKS_KEPT,),
            ),
        ]

    # -- settlements ------------------------------------------------------------------------

    @staticmethod
    def remember_settlement(mined: Mined) -> Statement:
        """Remember a settling transaction, for the operator's figures."""
        return (
            "INSERT OR REPLACE INTO settlement VALUES (?, ?, ?, ?, ?, ?)",
            (
                mined.transaction,
                mined.block,
                mined.settled,
                mined.settled_channels,
                mined.skipped,
                mined.gas_used,
            ),
        )

    def settlements(self) -> list[dict[str, int]]:
        """Every settling transaction's block, rows and gas, in order."""
        rows = self.ledger.query(
            "SELECT block, settled, channels, skipped, gas_used FROM settlement ORDER BY block"
        )
        return [
            {
                "block": block,
                "settled": settled,
                "channels": channels,
                "skipped": skipped,
                "gas_used": gas,
            }
            for block, settled, channels, skipped, gas in rows
        ]


def _touched(channels: str | None, members: str | None) -> Touched | None:
    if channels is None or members is None:
        return None
    return Touched(
        channels=frozenset(ChannelId(bytes.fromhex(text)) for text in json.loads(channels)),
        members=frozenset(Address(bytes.fromhex(text)) for text in json.loads(members)),
    )
