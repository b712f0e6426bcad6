"""Every payment of a wallet, both lanes of every channel in order, with what it was for.

Rule: reads a ledger and nothing else, so it says the same whether the wallet runs or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from heapq import merge
from typing import Any

from ..ids import ChannelId, to_hex
from ..receipt import ReceiptType
from ..state import ChainStatus, Channel
from .closings import Totals, kept_totals
from .driver import UnknownChannel
from .ledger import RECEIVED, SENT, Ledger, StoredPayment
from .payments import read_incoming
from .results import chain_status

COLUMNS = (
    *("at", "direction", "nonce", "amount_ucent", "transferred_ucent", "state", "type"),
    *("purpose", "programme", "quantity", "taken", "original"),
    *("block", "request", "problem", "channel", "reference"),
)
"""The keys of an entry's record, each of them always there; None where a payment has no such."""


class Direction(Enum):
    """Who paid: the hub, or this wallet."""

    RECEIVED = "received"
    SENT = "sent"


class PaymentState(Enum):
    """How far a payment has come.

    PENDING: signed and spent, the hub has not said that it holds it. ACKNOWLEDGED: the payee holds
    the voucher, durably. SETTLED: the chain's total of the lane covers it. MISSED: the channel
    closed on the chain by totals that do not cover it, so it never will be settled. While only the
    close was read and not its totals, what was not settled before stays as it was.
    """

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    SETTLED = "settled"
    MISSED = "missed"


_LANES = {Direction.RECEIVED: RECEIVED, Direction.SENT: SENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One payment; `fields` is its receipt's content, None with a `problem` if unreadable."""

    channel: ChannelId
    direction: Direction
    nonce: int
    amount_ucent: int
    transferred_ucent: int
    """The lane's total after this payment."""
    state: PaymentState
    type: ReceiptType
    fields: dict[str, Any] | None
    problem: str
    reference: bytes

    @property
    def at(self) -> int:
        """When it was paid, in seconds of chain time, as the payer's receipt says; 0 unknown."""
        at: int = 0 if self.fields is None else self.fields["at"]
        return at

    def record(self) -> dict[str, Any]:
        """As plain values, one for each of `COLUMNS`."""
        fields = self.fields or {}
        request = fields.get("request")
        return {
            "at": fields.get("at"),
            "direction": self.direction.value,
            "nonce": self.nonce,
            "amount_ucent": self.amount_ucent,
            "transferred_ucent": self.transferred_ucent,
            "state": self.state.value,
            "type": self.type.name.lower(),
            **{
                key: fields.get(key)
                for key in ("purpose", "programme", "quantity", "taken", "original", "block")
            },
            "request": None if request is None else to_hex(request),
            "problem": self.problem or None,
            "channel": to_hex(self.channel),
            "reference": to_hex(self.reference),
        }


def count_payments(
    ledger: Ledger, *, channel: ChannelId | None = None, direction: Direction | None = None
) -> int:
    """How many payments `read_history` would give without `last`; raises `UnknownChannel`."""
    return sum(
        ledger.count(state.id, _LANES[way], last_nonce=_payments_of(state, way))
        for state in _channels(ledger, channel)
        for way in _directions(direction)
    )


def read_history(
    ledger: Ledger,
    *,
    channel: ChannelId | None = None,
    direction: Direction | None = None,
    last: int | None = None,
) -> list[Entry]:
    """The payments, oldest first; only the newest `last` of them where that is given.

    A lane is in order of nonce. Lanes are put together by the times in the receipts, each of which
    is its payer's view of the chain: payments of two lanes within seconds of each other may stand
    in either order. Raises `UnknownChannel`, `LedgerUnusable`.
    """
    totals = kept_totals(ledger)
    lanes = [
        _lane(ledger, state, way, last, totals.get(state.id))
        for state in _channels(ledger, channel)
        for way in _directions(direction)
    ]
    entries = list(merge(*lanes, key=lambda entry: entry.at))
    return entries if last is None else entries[max(0, len(entries) - last) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A lane of which this wallet has the total and not every payment: it was restored.

    The receipts begin with payment `first_nonce`; the `missing` ones are the peer's to show.
    """

    channel: ChannelId
    direction: Direction
    first_nonce: int
    missing: int

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "channel": to_hex(self.channel),
            "direction": self.direction.value,
            "first_nonce": self.first_nonce,
            "missing": self.missing,
        }


def find_gaps(
    ledger: Ledger, *, channel: ChannelId | None = None, direction: Direction | None = None
) -> list[Gap]:
    """The lanes of which receipts are missing; raises `UnknownChannel`, `LedgerUnusable`."""
    gaps = []
    for state in _channels(ledger, channel):
        for way in _directions(direction):
            payments = _payments_of(state, way)
            missing = payments - ledger.count(state.id, _LANES[way], last_nonce=payments)
            if missing > 0:
                first = ledger.first_nonce(state.id, _LANES[way]) or payments + 1
                gap = Gap(channel=state.id, direction=way, first_nonce=first, missing=missing)
                gaps.append(gap)
    return gaps


def _channels(ledger: Ledger, channel: ChannelId | None) -> list[Channel]:
    found = [c for c in ledger.load_channels() if channel in (None, c.id)]
    if channel is not None and not found:
        raise UnknownChannel(f"channel {to_hex(channel)} is unknown")
    return found


def _directions(direction: Direction | None) -> tuple[Direction, ...]:
    return tuple(Direction) if direction is None else (direction,)


def _payments_of(channel: Channel, direction: Direction) -> int:
    """As many as there are in the lane; not those that were received and are told to nobody."""
    return channel.sent.total.nonce if direction is Direction.SENT else channel.told_nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class _Covers:
    """What the chain has of a lane, as the wallet last read it; `is_final` once it never changes.

    A close by agreement leaves the settled totals as they were and pays out by the agreed ones,
    above or below them: those of the `Closed` event, never those that were only signed.
    """

    transferred_ucent: int
    is_final: bool

    @classmethod
    def of(cls, channel: Channel, direction: Direction, closed: Totals | None) -> _Covers:
        side = channel.side if direction is Direction.SENT else channel.side.other
        if closed is not None and chain_status(channel) is ChainStatus.CLOSED:
            return cls(transferred_ucent=closed[side], is_final=True)
        settled_ucent = 0 if channel.chain is None else channel.chain.settled_ucent[side]
        return cls(transferred_ucent=settled_ucent, is_final=False)


def _lane(
    ledger: Ledger, channel: Channel, direction: Direction, last: int | None, closed: Totals | None
) -> Iterator[Entry]:
    """One lane, or its newest payments: more than `last` of them are never shown."""
    last_nonce = _payments_of(channel, direction)
    first_nonce = 1 if last is None else max(1, last_nonce - last + 1)
    covers = _Covers.of(channel, direction, closed)
    for stored in ledger.payments(
        channel.id, _LANES[direction], first_nonce=first_nonce, last_nonce=last_nonce
    ):
        yield _entry(channel, direction, stored, covers)


def _entry(channel: Channel, direction: Direction, stored: StoredPayment, covers: _Covers) -> Entry:
    nonce, receipt = stored.total.nonce, stored.payment.receipt
    read = read_incoming(channel.id, nonce, stored.payment)
    return Entry(
        channel=channel.id,
        direction=direction,
        nonce=nonce,
        amount_ucent=stored.payment.amount_ucent,
        transferred_ucent=stored.total.transferred_ucent,
        state=_state(channel, direction, stored, covers),
        type=receipt.type,
        fields=read.fields,
        problem=read.problem,
        reference=receipt.reference(),
    )


def _state(
    channel: Channel, direction: Direction, stored: StoredPayment, covers: _Covers
) -> PaymentState:
    if stored.total.transferred_ucent <= covers.transferred_ucent:
        return PaymentState.SETTLED
    if covers.is_final:
        return PaymentState.MISSED
    if direction is Direction.SENT and stored.total.nonce > channel.sent.acknowledged_nonce:
        return PaymentState.PENDING
    return PaymentState.ACKNOWLEDGED  # what we received was acknowledged when it was stored
