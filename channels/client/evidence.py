"""Vouchers that a hub has shown to a wallet that may not accept anything yet.

Rule: each is verified, and only ever pays us. It is no lane's state: the hub sends the payments
under it again once the wallet is out of doubt. Until then it is what a close is answered with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ..ids import Address, ChannelId
from ..state import Channel
from ..voucher import LaneTotal, Voucher
from .ledger import Ledger, Statement

_PREFIX: Final = "shown-"
"""Of the setting that holds one: databases of every version have room for it."""


def keep_shown(voucher: Voucher) -> Statement:
    """The statement that stores a verified voucher of the peer's."""
    record = {
        "payer": voucher.payer.hex(),
        "nonce": voucher.total.nonce,
        "transferred_ucent": voucher.total.transferred_ucent,
        "history": voucher.total.history.hex(),
        "conditions": voucher.conditions.hex(),
        "signature": voucher.signature.hex(),
    }
    return "INSERT INTO setting VALUES (?, ?)", (
        _PREFIX + voucher.channel.hex(),
        json.dumps(record),
    )


def load_shown(ledger: Ledger) -> dict[ChannelId, Voucher]:
    """Every voucher that was kept; only verified ones ever were."""
    rows = ledger.query(
        "SELECT key, value FROM setting WHERE key>=? AND key<?", (_PREFIX, _PREFIX + "g")
    )
    found = {}
    for key, value in rows:
        record = json.loads(value)
        channel = ChannelId(bytes.fromhex(key.removeprefix(_PREFIX)))
        found[channel] = Voucher(
            channel=channel,
            payer=Address(bytes.fromhex(record["payer"])),
            total=LaneTotal(
                nonce=record["nonce"],
                transferred_ucent=record["transferred_ucent"],
                history=bytes.fromhex(record["history"]),
            ),
            conditions=bytes.fromhex(record["conditions"]),
            signature=bytes.fromhex(record["signature"]),
        )
    return found


def newest(channel: Channel, shown: Mapping[ChannelId, Voucher]) -> Voucher | None:
    """The voucher of the peer's lane that pays us most: the accepted one, or one that was shown."""
    vouchers = [one for one in (channel.received.voucher, shown.get(channel.id)) if one is not None]
    return max(vouchers, key=lambda one: one.total.transferred_ucent, default=None)
