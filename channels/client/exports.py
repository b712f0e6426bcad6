"""Receipts as a file for auditors: one JSON object a line, one line a payment, both lanes.

The format is in docs/protocol.md. It holds no personal data and no reading's value, only what the
chain's settlements commit to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import LocalError
from ..ids import address_to_hex, to_hex
from .ledger import RECEIVED, SENT, Ledger, payer_and_payee

LINE_VERSION = 1


class NoDatabase(LocalError):
    """There is nothing to export from."""

    code = "no-database"
    remedy = "check the path; a hub or wallet that never ran has no receipts"


def receipt_lines(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Every payment that a ledger holds, channel by channel, lane by lane, in order of nonce."""
    for channel in ledger.load_channels():
        for direction in (SENT, RECEIVED):
            payer, payee = payer_and_payee(channel, direction)
            for stored in ledger.payments(channel.id, direction):
                receipt = stored.payment.receipt
                yield {
                    "v": LINE_VERSION,
                    "channel": to_hex(channel.id),
                    "payer": address_to_hex(payer),
                    "payee": address_to_hex(payee),
                    "nonce": stored.total.nonce,
                    "amount_ucent": stored.payment.amount_ucent,
                    "type": int(receipt.type),
                    "receipt": to_hex(receipt.cbor),
                    "salt": to_hex(receipt.salt),
                }


class FileExists(LocalError):
    """A file stands where the receipts were to be written; it was not touched."""

    code = "file-exists"
    remedy = "give a new file, or remove that one first"


def export_receipts(database: Path, out: Path) -> tuple[int, int]:
    """Write all receipts of a database that may be in use; returns their count and sum in µ¢.

    The file appears whole or not at all, and never replaces another: a mistyped name could be that
    of a key or a database. Raises `FileExists`, `NoDatabase`, `LedgerUnusable`, `OSError`.
    """
    if os.path.lexists(out):
        raise FileExists(f"{out} exists")
    if not database.is_file():  # opening would make an empty one, without the owner's tables
        raise NoDatabase(f"there is no database at {database}")
    ledger = Ledger(database)
    count = paid_ucent = 0
    partial = out.with_name(out.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        # Whom somebody paid, and for what, is for whom its owner gives the file to.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for line in receipt_lines(ledger):
                file.write(json.dumps(line) + "\n")
                count += 1
                paid_ucent += line["amount_ucent"]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        ledger.close()
        partial.unlink(missing_ok=True)
    return count, paid_ucent
