"""Writes the payments of a channel as lines of a receipts file; the format is in docs/protocol.md."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..ids import address_to_hex, to_hex
from ..state import Channel
from .ledger import RECEIVED, SENT, Ledger, payer_and_payee

LINE_VERSION = 1


def receipt_lines(ledger: Ledger, channel: Channel) -> Iterator[str]:
    """Every payment of both lanes, in order of their nonces, one JSON object each, no line end."""
    for direction in (SENT, RECEIVED):
        payer, payee = payer_and_payee(channel, direction)
        for stored in ledger.payments(channel.id, direction):
            receipt = stored.payment.receipt
            record = {
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
            yield json.dumps(record, separators=(",", ":"))
