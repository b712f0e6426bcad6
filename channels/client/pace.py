"""How much of this process one connection may use: token buckets, and messages cut into slices.

Rule: whoever sends too fast is read more slowly, which TCP hands on to it; nobody is cut off for
being fast. No connection keeps the loop longer than a slice takes before others have their turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import trio

from ..errors import PeerError
from ..messages import (
    Ack,
    ChannelProposal,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Message,
    PaymentRequest,
    Reestablish,
    SubmitReadings,
    Update,
    WithdrawalAccept,
    WithdrawalOffer,
)

POINTS_PER_SECOND: Final = 100_000
"""A point is what 10 µs of a core do. 30,000 updates a second are a third of it, one payment in
each; in batches, a tenth."""
POINTS_BURST: Final = 200_000
"""What a wallet says at once after it was away: its whole queue, and a lane's payments again."""
SLICE_POINTS: Final = 1_000
"""About 10 ms: what one connection does before all others have had a turn."""
BYTES_PER_SECOND: Final = 32 * 2**20
"""30,000 payments a second with receipts of the greatest length."""
BYTES_BURST: Final = 64 * 2**20
REESTABLISH_PER_SECOND: Final = 1
"""Each may make us read and send a lane again; one a channel begins a connection."""
REESTABLISH_BURST: Final = 64

_PAYMENTS_PER_POINT: Final = 4
_CONTROL_POINTS: Final = 50
_POINTS_PER_KIB: Final = 50
"""A pack of readings of 48 KiB is 64 records to parse, price and pay."""
_POINTS: Final[dict[type, int]] = {
    Ack: 1,
    Reestablish: 1_000,
    ChannelProposal: 1_000,
    PaymentRequest: 500,
    CloseRequest: 200,
    CloseOffer: 500,
    CloseAccept: 500,
    WithdrawalOffer: 500,
    WithdrawalAccept: 500,
}


class TooManyReestablish(PeerError):
    """A peer that has us show our vouchers again and again."""

    code = "too-many-reestablish"
    remedy = "show the vouchers once when the connection begins, and in answer to a repeat"


class TokenBucket:
    """Tokens that come at a steady rate up to a burst; the caller brings the time."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def borrow(self, cost: float, now: float) -> float:
        """Take tokens that may not be there yet; returns the seconds until they are."""
        self._fill(now)
        self._tokens -= cost
        return max(0.0, -self._tokens / self._rate)


class Pace:
    """The buckets of one connection; `tally` counts for all of them what was slowed.

    `points` may be a bucket that several connections share, at a time or one after the other.
    """

    def __init__(
        self, tally: Counter[str] | None = None, points: TokenBucket | None = None
    ) -> None:
        now = trio.current_time()
        self._tally = Counter[str]() if tally is None else tally
        self._points = points or TokenBucket(POINTS_PER_SECOND, POINTS_BURST, now)
        self._bytes = TokenBucket(BYTES_PER_SECOND, BYTES_BURST, now)
        self._reestablish = TokenBucket(REESTABLISH_PER_SECOND, REESTABLISH_BURST, now)

    def slices(self, messages: list[Message]) -> Iterator[tuple[list[Message], int]]:
        """Cut what was read into parts of about `SLICE_POINTS`, each with its cost.

        Raises `TooManyReestablish` once the parts before it have been given.
        """
        part: list[Message] = []
        points = 0
        for message in messages:
            cost = cost_of(message)
            if part and points + cost > SLICE_POINTS:
                yield part, points
                part, points = [], 0
            if isinstance(message, Reestablish) and not self._may_reestablish():
                if part:
                    yield part, points
                raise TooManyReestablish(
                    f"vouchers were shown over {REESTABLISH_BURST} times, more than once a second"
                )
            part.append(message)
            points += cost
        if part:
            yield part, points

    def _may_reestablish(self) -> bool:
        return self._reestablish.take(trio.current_time())

    async def spend(self, points: int, read_bytes: int) -> None:
        """Wait until this connection may do that much."""
        now = trio.current_time()
        seconds = max(self._points.borrow(points, now), self._bytes.borrow(read_bytes, now))
        if seconds:
            self._tally["slowed"] += 1
            await trio.sleep(seconds)


def cost_of(message: Message) -> int:
    """What a message costs its reader, in points."""
    match message:
        case Update():
            return 1 + len(message.payments) // _PAYMENTS_PER_POINT
        case SubmitReadings():
            return _CONTROL_POINTS + _POINTS_PER_KIB * len(message.senml) // 1024
        case _:
            return _POINTS.get(type(message), _CONTROL_POINTS)
