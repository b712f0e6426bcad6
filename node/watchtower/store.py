"""What a watchtower keeps: vouchers with their terms, when each wallet was seen, and the cursor.

Rule: one SQLite file (WAL, synchronous=FULL), committed in groups; a number that a peer or a
contract chose is stored as text, as SQLite's integers end at 2⁶³.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...channels.client.ledger import Ledger, Statement
from ...channels.client.records import (
    terms_from_record,
    terms_to_record,
    view_from_record,
    voucher_from_record,
    voucher_to_record,
)
from ...channels.deployment import Deployment
from ...channels.errors import LocalError
from ...channels.ids import Address, ChannelId, address_to_hex, to_hex
from ...channels.state import ChainStatus, ChainView
from ...channels.terms import Side, Terms
from ...channels.voucher import Voucher
from .deposits import Lane

DATABASE_NAME: Final = "watchtower.sqlite"

SCHEMA: Final = """
CREATE TABLE held (
    channel BLOB NOT NULL, payer INTEGER NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (channel, payer)
) WITHOUT ROWID;
CREATE TABLE seen (signer BLOB PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
"""


class OtherTowersDatabase(LocalError):
    """The database was written under another deployment or with another key."""

    code = "other-watchtowers-database"
    remedy = "use the folder's own deployment record and keystore, or give a new data_dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The newest settlement of a lane by this watchtower: up to what, in which block, when."""

    transferred_ucent: int
    block: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lane's greatest deposited voucher, and what the chain was last seen to say of it."""

    terms: Terms
    payer: Side
    depositor: Address
    voucher: Voucher
    view: ChainView
    answer: Answer | None = None

    @property
    def lane(self) -> Lane:
        """Which lane it is of."""
        return self.voucher.channel, self.payer

    @property
    def transferred_ucent(self) -> int:
        """What the voucher promises in all."""
        return self.voucher.total.transferred_ucent

    @property
    def unsettled_ucent(self) -> int:
        """What of it the chain does not know."""
        return max(0, self.transferred_ucent - self.view.settled_ucent[self.payer])

    @property
    def is_open(self) -> bool:
        """Whether the channel still holds money, so that it is watched."""
        return self.view.status in (ChainStatus.OPEN, ChainStatus.CLOSING)


class TowerStore:
    """The watchtower's tables in one file."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises `LedgerUnusable`."""
        self._path = path
        self._ledger = Ledger(path, schema=SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._ledger.close()

    def commit(self, statements: Iterable[Statement]) -> None:
        """Make all of them durable, or none; raises `LedgerUnusable`."""
        self._ledger.commit((), (), statements)

    def pin(self, deployment: Deployment, signer: Address) -> None:
        """Tie the database to one deployment and key; raises `OtherTowersDatabase`."""
        for what, given in (
            ("deployment", to_hex(deployment.deployment)),
            ("signer", address_to_hex(signer)),
        ):
            rows = self._ledger.query("SELECT value FROM setting WHERE key=?", (what,))
            if not rows:
                self.commit([("INSERT INTO setting VALUES (?, ?)", (what, given))])
            elif rows[0][0] != given:
                raise OtherTowersDatabase(f"{self._path} has {what} {rows[0][0]}, not {given}")

    def held(self) -> list[Held]:
        """Every voucher that is kept."""
        rows = self._ledger.query("SELECT channel, payer, record FROM held")
        return [held_from_row(*row) for row in rows]

    @staticmethod
    def remember(held: Held) -> Statement:
        """Keep a voucher in place of the lane's last one."""
        record = {
            "terms": terms_to_record(held.terms),
            "depositor": held.depositor.hex(),
            "voucher": voucher_to_record(held.voucher),
            "view": asdict(held.view),
            "answer": None if held.answer is None else asdict(held.answer),
        }
        return (
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?)",
            (held.voucher.channel, int(held.payer), json.dumps(record)),
        )

    @staticmethod
    def forget(lane: Lane) -> Statement:
        """Drop a lane whose channel has ended."""
        channel, payer = lane
        return "DELETE FROM held WHERE channel=? AND payer=?", (channel, int(payer))

    def seen(self) -> dict[Address, int]:
        """When each depositor was last connected, in Unix seconds."""
        rows = self._ledger.query("SELECT signer, at FROM seen")
        return {Address(signer): int(at) for signer, at in rows}

    @staticmethod
    def remember_seen(signer: Address, at: int) -> Statement:
        """Remember when a depositor was connected."""
        return "INSERT OR REPLACE INTO seen VALUES (?, ?)", (signer, str(at))

    @staticmethod
    def forget_seen(signer: Address) -> Statement:
        """Forget a depositor of whom nothing is held."""
        return "DELETE FROM seen WHERE signer=?", (signer,)

    def cursor(self) -> tuple[int, bytes] | None:
        """The last block whose logs were taken in, and its hash."""
        rows = self._ledger.query("SELECT value FROM setting WHERE key='cursor'")
        if not rows:
            return None
        number, block_hash = json.loads(rows[0][0])
        return number, bytes.fromhex(block_hash)

    @staticmethod
    def remember_cursor(number: int, block_hash: bytes) -> Statement:
        """Remember the last block whose logs were taken in."""
        value = json.dumps([number, block_hash.hex()])
        return "INSERT OR REPLACE INTO setting VALUES ('cursor', ?)", (value,)


def held_from_row(channel: bytes, payer: int, text: str) -> Held:
    """Read a row; only verified vouchers were ever written, so what is read back is one."""
    record: dict[str, Any] = json.loads(text)
    terms, side = terms_from_record(record["terms"]), Side(payer)
    answer = record["answer"]
    return Held(
        terms=terms,
        payer=side,
        depositor=Address(bytes.fromhex(record["depositor"])),
        voucher=voucher_from_record(record["voucher"], ChannelId(channel), terms.account(side)),
        view=view_from_record(record["view"]),
        answer=None if answer is None else Answer(**answer),
    )
