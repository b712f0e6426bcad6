"""Why a lane of the hub does not cover a payment: a code, a text and a remedy for each reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ..channels.errors import LocalError
from ..channels.state import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Why a lane does not cover a payment; `passing` where the same payment may be made later."""

    code: str
    text: str
    remedy: str
    passing: bool = True


TOPPING_UP: Final = Shortage(
    code="topping-up",
    text="this lane is being topped up",
    remedy="submit it again in a few seconds; wallets do that by themselves",
)
OUT_OF_FUNDS: Final = Shortage(
    code="hub-out-of-funds",
    text="the hub's account does not hold what this needs",
    remedy="the agency has been told; submit it again later, wallets do that by themselves",
)
DAY_CAP: Final = Shortage(
    code="member-day-cap",
    text="this member's lanes were topped up today with all that they may be",
    remedy="submit it again on the next day (UTC) of the chain's time, wallets do that themselves",
)
BUDGET: Final = Shortage(
    code="budget-exhausted",
    text="the hub's programmes have nothing left to pay with",
    remedy="ask the agency whether they will be continued",
)
LANE_FULL: Final = Shortage(
    code="lane-full",
    text="this channel has been given all that a channel can hold",
    remedy="close it and join again",
)
TOO_MUCH: Final = Shortage(
    code="too-much-at-once",
    text="no lane of this hub is ever given so much",
    remedy="submit fewer readings in one pack, or ask for less",
    passing=False,
)


class NotCovered(LocalError):
    """A payment that its lane does not cover now."""

    code = "not-covered"
    retryable = True

    def __init__(self, shortage: Shortage) -> None:
        super().__init__(f"{shortage.text} ({shortage.code})", remedy=shortage.remedy)
        self.shortage = shortage


class Cover(Protocol):
    """Says in time why a lane does not cover a payment; None where the core may decide."""

    def shortage(
        self, channel: Channel, amount_ucent: int, *, counted_ucent: int = 0
    ) -> Shortage | None:
        """Why not; asks for nothing. `counted_ucent` count as spent by their programmes already."""

    def refuse(
        self, channel: Channel, amount_ucent: int, *, counted_ucent: int = 0
    ) -> Shortage | None:
        """The same for a payment that is due: counts it, and has the lane topped up for it."""
