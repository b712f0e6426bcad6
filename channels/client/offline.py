"""Reads a wallet's folder while no wallet runs, or beside one that does: what is durable there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from ..ids import ChannelId
from .balance import Balance, balance_of, unacknowledged_ucent
from .covered import load_kept, tower_row
from .evidence import load_shown
from .exports import receipt_lines
from .folder import Folder, Settings
from .history import Direction, count_payments, find_gaps, read_history
from .ledger import Ledger
from .payments import load_requests
from .results import channel_record
from .schema import SCHEMA


class StoredWallet:
    """What a ledger says of a wallet; nothing here changes it."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings

    def balance(self) -> Balance:
        """The balance as last stored; what the chain says of the account is left open."""
        channels = self._ledger.load_channels()
        (waiting,) = self._ledger.query("SELECT count(*) FROM submission WHERE answered=0")[0]
        return balance_of(
            channels,
            requests=load_requests(self._ledger),
            submissions_waiting=waiting,
            sent_unacknowledged_ucent=unacknowledged_ucent(self._ledger, channels),
            funds=None,
        )

    def channels(self) -> list[dict[str, Any]]:
        """Every channel as plain values."""
        return [channel_record(channel) for channel in self._ledger.load_channels()]

    def towers(self) -> list[dict[str, Any]]:
        """Every watchtower on the list, and what it was known to hold."""
        kept = load_kept(self._ledger)
        channels = self._ledger.load_channels()
        shown = load_shown(self._ledger)
        places = self._settings.towers
        return [tower_row(place, kept.get(place.signer, {}), channels, shown) for place in places]

    def history(
        self,
        *,
        channel: ChannelId | None = None,
        direction: Direction | None = None,
        last: int | None = None,
    ) -> list[dict[str, Any]]:
        """Payments as plain values, oldest first; see `history.read_history`."""
        entries = read_history(self._ledger, channel=channel, direction=direction, last=last)
        return [entry.record() for entry in entries]

    def count_payments(
        self, *, channel: ChannelId | None = None, direction: Direction | None = None
    ) -> int:
        """How many payments there are; see `history.count_payments`."""
        return count_payments(self._ledger, channel=channel, direction=direction)

    def gaps(
        self, *, channel: ChannelId | None = None, direction: Direction | None = None
    ) -> list[dict[str, Any]]:
        """Lanes of which this wallet lacks receipts, as plain values; see `history.find_gaps`."""
        gaps = find_gaps(self._ledger, channel=channel, direction=direction)
        return [gap.record() for gap in gaps]

    def receipts(self) -> Iterator[str]:
        """Every payment as a line of a receipts file."""
        for line in receipt_lines(self._ledger):
            yield json.dumps(line)


@contextlib.contextmanager
def read_folder(folder: Folder) -> Iterator[StoredWallet]:
    """Open the ledger of a folder; raises `FolderUnusable`, `LedgerUnusable`."""
    settings = folder.settings()
    ledger = Ledger(folder.ledger_file, schema=SCHEMA)
    try:
        yield StoredWallet(ledger, settings)
    finally:
        ledger.close()
