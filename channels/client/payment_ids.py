"""Ids that a caller gives to its payments, so that a payment that is asked for again is made once.

Rule: an id is durable in the commit that holds its payment. It is this wallet's own note: a folder
that was lost has lost its ids too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from ..errors import LocalError
from ..ids import ChannelId, to_hex
from .ledger import Ledger, Statement

PAYMENT_ID_BYTES: Final = 16
_PREFIX: Final = "payment-"
"""Of the setting that holds an id: databases of every version have room for it."""


class MalformedPaymentId(LocalError):
    """An id of another length."""

    code = "malformed-payment-id"
    remedy = f"give {PAYMENT_ID_BYTES} bytes, random or made of what is paid for"


class PaymentIdConflict(LocalError):
    """The id was used for another payment; nothing was paid."""

    code = "payment-id-conflict"
    remedy = "give another payment another id"

    def __init__(self, payment_id: bytes, kept: KeptPayment) -> None:
        super().__init__(
            f"id {to_hex(payment_id)} is of a payment of {kept.amount_ucent} µ¢ for"
            f" {kept.purpose!r}"
        )
        self.kept = kept


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPayment:
    """What was paid under an id, and where it stands."""

    amount_ucent: int
    purpose: str
    channel: ChannelId
    nonce: int


class PaymentIds:
    """The ids of one wallet's payments."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._uncommitted: dict[bytes, KeptPayment] = {}

    def find(self, payment_id: bytes, amount_ucent: int, purpose: str) -> KeptPayment | None:
        """The payment under this id, None where there is none.

        Raises `MalformedPaymentId`, and `PaymentIdConflict` where it was another one.
        """
        if len(payment_id) != PAYMENT_ID_BYTES:
            raise MalformedPaymentId(f"an id of {len(payment_id)} bytes was given")
        kept = self._uncommitted.get(payment_id) or self._stored(payment_id)
        if kept is not None and (kept.amount_ucent, kept.purpose) != (amount_ucent, purpose):
            raise PaymentIdConflict(payment_id, kept)
        return kept

    def _stored(self, payment_id: bytes) -> KeptPayment | None:
        key = _PREFIX + payment_id.hex()
        rows = self._ledger.query("SELECT value FROM setting WHERE key=?", (key,))
        if not rows:
            return None
        record = json.loads(rows[0][0])
        channel = ChannelId(bytes.fromhex(record.pop("channel")))
        return KeptPayment(channel=channel, **record)

    def keep(self, payment_id: bytes, kept: KeptPayment) -> tuple[Statement, Callable[[], None]]:
        """What belongs into the payment's own commit, and what is to be called after it."""
        self._uncommitted[payment_id] = kept
        record = {**asdict(kept), "channel": kept.channel.hex()}
        values = (_PREFIX + payment_id.hex(), json.dumps(record))
        statement = ("INSERT INTO setting VALUES (?, ?)", values)
        return statement, lambda: self._forget(payment_id)

    def _forget(self, payment_id: bytes) -> None:
        del self._uncommitted[payment_id]
