"""What the watchtowers hold of a wallet's vouchers, as the ledger remembers it, and what they lack.

Rule: what counts as covered is what a tower has acknowledged or the chain has settled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from ..errors import FarthingError
from ..ids import Address, ChannelId, address_from_hex, address_to_hex, channel_from_hex, to_hex
from ..state import ChainStatus, Channel
from ..voucher import Voucher
from .evidence import newest
from .folder import TowerPlace
from .ledger import Ledger, Statement
from .results import chain_status
from .tls import fingerprint

_PREFIX: Final = "tower:"
"""Of the ledger's settings: `tower:<signer>:<channel>` holds what that tower acknowledged."""


NONE_SHOWN: Final[Mapping[ChannelId, Voucher]] = MappingProxyType({})
"""Of a wallet that was never recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The newest voucher of a channel that a tower has acknowledged, and when."""

    nonce: int
    transferred_ucent: int
    at: int


KeptByTower: TypeAlias = dict[Address, dict[ChannelId, Kept]]


def load_kept(ledger: Ledger) -> KeptByTower:
    """What each tower has acknowledged, as last committed."""
    kept: KeptByTower = {}
    rows = ledger.query("SELECT key, value FROM setting WHERE key GLOB ?", (_PREFIX + "*",))
    for key, value in rows:
        tower, channel = key.removeprefix(_PREFIX).split(":")
        one = Kept(**json.loads(value))
        kept.setdefault(address_from_hex(tower), {})[channel_from_hex(channel)] = one
    return kept


def remember(tower: Address, channel: ChannelId, kept: Kept) -> Statement:
    """Remember what a tower holds of a channel, in place of what it held before."""
    key = f"{_PREFIX}{address_to_hex(tower)}:{to_hex(channel)}"
    return "INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, json.dumps(asdict(kept)))


def forget(tower: Address) -> Statement:
    """Forget a tower that was taken off the list."""
    return "DELETE FROM setting WHERE key GLOB ?", (f"{_PREFIX}{address_to_hex(tower)}:*",)


def uncovered_ucent(
    channel: Channel, kept: Kept | None, shown: Mapping[ChannelId, Voucher] = NONE_SHOWN
) -> int:
    """What of a channel's received payments neither the chain nor the tower holds, in µ¢.

    What the hub has only `shown` counts as received: it is a promise all the same.
    """
    chain = channel.chain
    if chain is None or chain.status not in (ChainStatus.OPEN, ChainStatus.CLOSING):
        return 0
    held = 0 if kept is None else kept.transferred_ucent
    covered = max(held, chain.settled_ucent[channel.side.other])
    voucher = newest(channel, shown)
    return 0 if voucher is None else max(0, voucher.total.transferred_ucent - covered)


def tower_row(
    place: TowerPlace,
    kept: dict[ChannelId, Kept],
    channels: Iterable[Channel],
    shown: Mapping[ChannelId, Voucher] = NONE_SHOWN,
    *,
    connected: bool = False,
    trouble: FarthingError | None = None,
) -> dict[str, Any]:
    """A tower as plain values: how it is known, last acknowledged, and what it does not cover."""
    held = list(channels)
    covered = [c for c in held if chain_status(c) is not ChainStatus.CLOSED and c.id in kept]
    return {
        "tower": str(place.address),
        "signer": address_to_hex(place.signer),
        "certificates": [] if place.trust is None else [fingerprint(p) for p in place.trust.pins],
        "ca": None if place.trust is None else place.trust.ca or None,
        "connected": connected,
        "acknowledged_at": max((one.at for one in kept.values()), default=None),
        "acknowledged_ucent": sum(kept[c.id].transferred_ucent for c in covered),
        "uncovered_ucent": sum(uncovered_ucent(c, kept.get(c.id), shown) for c in held),
        "trouble": None if trouble is None else str(trouble),
    }
