"""How long the wallet's methods wait for hub and chain, and what they say when it was too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JOIN_SECONDS: Final = 120.0
"""A hub opens a channel with its next transaction; a permissioned chain confirms in seconds."""
PAY_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 180.0
"""An offer lives up to 120 s and is submitted within them."""
CHAIN_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the wallet's methods wait unless told otherwise."""

    join_seconds: float = JOIN_SECONDS
    pay_seconds: float = PAY_SECONDS
    close_seconds: float = CLOSE_SECONDS
    chain_seconds: float = CHAIN_SECONDS


JOIN: Final = "see `farthing wallet status`; the wallet keeps trying while it runs"
QUEUE: Final = "see `farthing wallet status`; the readings stay queued on disk"
WITHDRAWAL: Final = "see `farthing wallet status`: it is taken in time or free again"
CLOSE: Final = "wait longer, or close without the hub: `farthing wallet close --unilateral`"
CHAIN: Final = "look with `farthing wallet status`, then try again: repeating it is harmless"
