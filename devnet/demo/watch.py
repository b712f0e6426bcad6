"""What the demo's live table shows: asked of the hub, and read from the wallets' own databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...channels.client.folder import Folder
from ...channels.errors import FarthingError
from ...channels.ids import address_to_hex
from ..city import City, Wallet

BUSY_SECONDS = 1
"""A wallet that commits holds its database for milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletFigures:
    """One wallet: readings by what became of them, µ¢ to it and from it, and its channel."""

    name: str
    sent: int
    rewarded: int
    refused: int
    earned_ucent: int
    spent_ucent: int
    settled_ucent: int
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFigures:
    """The hub and its view of the chain; amounts in µ¢, both lanes of all channels together.

    A closed channel's money is settled: the close paid it out.
    """

    block: int
    connections: int
    paid_ucent: int
    settled_ucent: int
    settlements: int
    gas: int

    @property
    def unsettled_ucent(self) -> int:
        """What the chain does not have yet."""
        return self.paid_ucent - self.settled_ucent


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything at one moment; None where the hub did not answer."""

    hub: HubFigures | None
    wallets: tuple[WalletFigures, ...]


def read_figures(city: City) -> Figures:
    """Ask and read; nothing is changed, and a wallet that was just killed is no error."""
    try:
        status, rows = city.hub.ask("status"), city.hub.ask("channels")
    except FarthingError:  # it starts or ends at this moment; the table says so
        status, rows = None, []
    channels = {row["account"]: row for row in rows}
    return Figures(
        hub=None if status is None else _hub(status, rows),
        wallets=tuple(
            _wallet(city, wallet, channels.get(address_to_hex(wallet.account)))
            for wallet in list(city.wallets.values())
        ),
    )


def _settled_ucent(row: Mapping[str, Any]) -> int:
    """A closed channel was paid out by its final totals, which the lanes' words do not hold."""
    paid_ucent: int = row["rewarded_ucent"] + row["received_ucent"]
    settled_ucent: int = row["settled_ucent"]
    return paid_ucent if row["phase"] == "closed" else settled_ucent


def _hub(status: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> HubFigures:
    return HubFigures(
        block=status["head_block"],
        connections=status["connections"],
        paid_ucent=sum(row["rewarded_ucent"] + row["received_ucent"] for row in rows),
        settled_ucent=sum(_settled_ucent(row) for row in rows),
        settlements=status["settlements"],
        gas=status["settlement_gas"],
    )


def _wallet(city: City, wallet: Wallet, row: Mapping[str, Any] | None) -> WalletFigures:
    ledger = Folder(path=city.folder / "wallets" / wallet.name).ledger_file
    sent, rewarded, refused = _readings(ledger)
    return WalletFigures(
        name=wallet.name,
        sent=sent,
        rewarded=rewarded,
        refused=refused,
        earned_ucent=0 if row is None else row["rewarded_ucent"],
        spent_ucent=0 if row is None else row["received_ucent"],
        settled_ucent=0 if row is None else _settled_ucent(row),
        channel="none" if row is None else row["phase"],
    )


def _readings(ledger: Path) -> tuple[int, int, int]:
    """How many readings a wallet queued, and how many of them were rewarded and refused."""
    try:
        with closing(
            sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        ) as db:
            (sent,) = db.execute("SELECT coalesce(sum(records), 0) FROM submission").fetchone()
            rewarded, refused = db.execute(
                "SELECT count(*) FILTER (WHERE code=''), count(*) FILTER (WHERE code<>'')"
                " FROM outcome"
            ).fetchone()
    except sqlite3.OperationalError:  # not made yet: the wallet is starting
        return 0, 0, 0
    return sent, rewarded, refused
