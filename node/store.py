"""The hub's own tables beside the channels: what it answered, whom it rewarded, what it settled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

from ..channels.client.ledger import Ledger, Statement
from ..channels.ids import Address, ChannelId
from ..channels.messages import RecordOutcome
from .chain import MemberRow, MemberStatus, Mined

HUB_SCHEMA = """
CREATE TABLE submission (
    signer BLOB NOT NULL, id BLOB NOT NULL, outcomes TEXT NOT NULL, PRIMARY KEY (signer, id)
) WITHOUT ROWID;
CREATE TABLE rewarded (
    account BLOB NOT NULL, quantity TEXT NOT NULL, taken TEXT NOT NULL,
    PRIMARY KEY (account, quantity, taken)
) WITHOUT ROWID;
CREATE TABLE spent (programme TEXT PRIMARY KEY, ucent TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE member (
    account BLOB PRIMARY KEY, role INTEGER NOT NULL, status INTEGER NOT NULL,
    valid_until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE settlement (
    tx BLOB PRIMARY KEY, block INTEGER NOT NULL, settled INTEGER NOT NULL,
    skipped INTEGER NOT NULL, gas_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE request (
    id BLOB PRIMARY KEY, channel BLOB NOT NULL, amount_ucent TEXT NOT NULL, purpose TEXT NOT NULL,
    expires INTEGER NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
"""


class HubStore:
    """Reads of the hub's tables, and the statements that change them within a driver's commit."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path, schema=HUB_SCHEMA)

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

    def rewarded(self, account: Address, quantity: str) -> list[Decimal]:
        """When the rewarded readings of an account and quantity were taken, ascending."""
        rows = self.ledger.query(
            "SELECT taken FROM rewarded WHERE account=? AND quantity=?", (account, quantity)
        )
        return sorted(Decimal(taken) for (taken,) in rows)

    @staticmethod
    def remember_rewarded(account: Address, quantity: str, taken: Decimal) -> Statement:
        """Remember a rewarded reading, so that the same moment is not rewarded again."""
        return "INSERT INTO rewarded VALUES (?, ?, ?)", (account, quantity, str(taken))

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
                valid_until=valid_until,
            )
            for account, role, status, valid_until in self.ledger.query("SELECT * FROM member")
        ]

    @staticmethod
    def remember_member(row: MemberRow) -> Statement:
        """Remember a member's newest state."""
        return (
            "INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)",
            (row.account, row.role, int(row.status), row.valid_until),
        )

    def cursor(self) -> tuple[int, bytes] | None:
        """The last block whose logs were taken in, and its hash."""
        rows = self.ledger.query("SELECT value FROM setting WHERE key='cursor'")
        if not rows:
            return None
        number, block_hash = json.loads(rows[0][0])
        return number, bytes.fromhex(block_hash)

    @staticmethod
    def remember_cursor(number: int, block_hash: bytes) -> Statement:
        """Remember the last block whose logs were taken in."""
        value = json.dumps([number, block_hash.hex()])
        return "INSERT OR REPLACE INTO setting VALUES ('cursor', ?)", (value,)

    # -- settlements ------------------------------------------------------------------------

    @staticmethod
    def remember_settlement(mined: Mined) -> Statement:
        """Remember a settling transaction, for the operator's figures."""
        return (
            "INSERT OR REPLACE INTO settlement VALUES (?, ?, ?, ?, ?)",
            (mined.transaction, mined.block, mined.settled, mined.skipped, mined.gas_used),
        )

    def settlements(self) -> list[dict[str, int]]:
        """Every settling transaction's block, rows and gas, in order."""
        rows = self.ledger.query(
            "SELECT block, settled, skipped, gas_used FROM settlement ORDER BY block"
        )
        return [
            {"block": block, "settled": settled, "skipped": skipped, "gas_used": gas}
            for block, settled, skipped, gas in rows
        ]

    # -- payment requests -------------------------------------------------------------------

    @staticmethod
    def remember_request(
        request_id: bytes,
        channel: ChannelId,
        amount_ucent: int,
        purpose: str,
        expires: int,
        state: str,
    ) -> Statement:
        """Remember a wallet's request; a repeated one changes nothing."""
        return (
            "INSERT OR IGNORE INTO request VALUES (?, ?, ?, ?, ?, ?)",
            (request_id, channel, str(amount_ucent), purpose, expires, state),
        )

    @staticmethod
    def decide_request(request_id: bytes, state: str) -> Statement:
        """Remember that a request was paid or refused."""
        return "UPDATE request SET state=? WHERE id=?", (state, request_id)

    def request(self, request_id: bytes) -> tuple[ChannelId, int, str, int, str] | None:
        """A request's channel, amount in µ¢, purpose, expiry and state, or None."""
        rows = self.ledger.query(
            "SELECT channel, amount_ucent, purpose, expires, state FROM request WHERE id=?",
            (request_id,),
        )
        if not rows:
            return None
        channel, amount, purpose, expires, state = rows[0]
        return ChannelId(channel), int(amount), purpose, expires, state

    def requests(self) -> list[dict[str, str | int]]:
        """Every request, open ones first."""
        rows = self.ledger.query(
            "SELECT id, channel, amount_ucent, purpose, expires, state FROM request"
            " ORDER BY state <> 'open', expires"
        )
        return [
            {
                "id": "0x" + request_id.hex(),
                "channel": "0x" + channel.hex(),
                "amount_ucent": int(amount),
                "purpose": purpose,
                "expires": expires,
                "state": state,
            }
            for request_id, channel, amount, purpose, expires, state in rows
        ]
