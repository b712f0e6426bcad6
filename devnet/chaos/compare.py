"""The comparison: what was acknowledged against what both databases hold, lane by lane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import cbor2

from ...channels.client.ledger import RECEIVED, SENT, Ledger
from ...channels.ids import ChannelId, to_hex
from ...channels.receipt import ReceiptType
from ...channels.state import Channel
from ...channels.voucher import LaneTotal
from .tally import Reported

SHOWN_MAX = 20
"""Problems of one kind and lane that are spelled out; all are counted."""


class Wrong(StrEnum):
    """What may be wrong in the end."""

    LOST = "lost"
    DOUBLE_COUNTED = "double-counted"
    UNBALANCED = "unbalanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: with which reference, on which channel, in words."""

    wrong: Wrong
    channel: str
    reference: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One lane as one side's database holds it."""

    total: LaneTotal
    payments: tuple[tuple[int, int, str], ...]
    """Nonce, amount in µ¢ and reference of each payment, in order."""

    def references(self) -> Counter[str]:
        """How often each reference is held."""
        return Counter(reference for _, _, reference in self.payments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One channel in both databases: the wallet's lane to the hub, and the hub's to the wallet."""

    channel: ChannelId
    paid: tuple[Held, Held]
    """The lane to the hub, as its payer (the wallet) and its payee (the hub) hold it."""
    rewarded: tuple[Held, Held]
    """The lane to the wallet, as its payer (the hub) and its payee (the wallet) hold it."""
    refused: int = 0
    """Readings for which the wallet's database holds a refusal."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What the comparison found: counts of what is wrong, and some of it in words."""

    lost: int = 0
    double_counted: int = 0
    unbalanced: int = 0
    problems: list[Problem] = field(default_factory=list)
    _told: Counter[tuple[Wrong, str, str]] = field(default_factory=Counter)

    def add(self, wrong: Wrong, channel: str, reference: str, text: str) -> None:
        """Count something wrong."""
        match wrong:
            case Wrong.LOST:
                self.lost += 1
            case Wrong.DOUBLE_COUNTED:
                self.double_counted += 1
            case Wrong.UNBALANCED:
                self.unbalanced += 1
        self._told[wrong, channel, text] += 1
        if self._told[wrong, channel, text] <= SHOWN_MAX:
            problem = Problem(wrong=wrong, channel=channel, reference=reference, text=text)
            self.problems.append(problem)


def compare(found: Comparison, reported: Reported, sides: Sides) -> None:
    """Compare what a wallet reported with what both sides hold of its channel."""
    channel = to_hex(sides.channel)
    promised = reported.decided | reported.received
    for acknowledged, (payer, payee), lane in (
        (reported.acknowledged, sides.paid, "to the hub"),
        (promised, sides.rewarded, "to the wallet"),
    ):
        for held, who in ((payer, "payer"), (payee, "payee")):
            references = held.references()
            for reference in sorted(acknowledged - references.keys()):
                text = f"an acknowledged payment {lane} is not held by its {who}"
                found.add(Wrong.LOST, channel, reference, text)
            for reference, count in references.items():
                for _ in range(count - 1):
                    text = f"a payment {lane} is held twice by its {who}"
                    found.add(Wrong.DOUBLE_COUNTED, channel, reference, text)
            for text in _wrong_in_lane(held):
                found.add(Wrong.UNBALANCED, channel, "", f"the lane {lane} of its {who}: {text}")
        if payer != payee:
            text = f"the lane {lane} differs: {_difference(payer, payee)}"
            found.add(Wrong.UNBALANCED, channel, "", text)
    _compare_queue(found, channel, reported, sides)


def _compare_queue(found: Comparison, channel: str, reported: Reported, sides: Sides) -> None:
    """A reading on the wallet's disk is paid for or refused, in the end."""
    unpaid = sorted(reported.submitted - sides.rewarded[0].references().keys())
    for reference in unpaid[sides.refused :]:
        text = "a reading that was queued on disk was neither paid for nor refused"
        found.add(Wrong.LOST, channel, reference, text)


def _wrong_in_lane(held: Held) -> Iterator[str]:
    nonces = [nonce for nonce, _, _ in held.payments]
    if nonces != list(range(1, held.total.nonce + 1)):
        yield f"{len(nonces)} payments are stored, the voucher counts {held.total.nonce}"
    amount_ucent = sum(amount for _, amount, _ in held.payments)
    if amount_ucent != held.total.transferred_ucent:
        yield f"its payments are {amount_ucent} µ¢, its voucher {held.total.transferred_ucent} µ¢"


def _difference(payer: Held, payee: Held) -> str:
    """Name the first thing in which two sides of a lane differ."""
    for (nonce, *ours), (_, *theirs) in zip(payer.payments, payee.payments, strict=False):
        if ours != theirs:
            return f"payment {nonce} is {ours} and {theirs}"
    return f"{payer.total} and {payee.total}"


def read_sides(hub: Ledger, wallet: Ledger) -> Iterator[Sides]:
    """Read every channel that a wallet's database holds, from both databases."""
    of_hub = {channel.id: channel for channel in hub.load_channels()}
    refused = wallet.query("SELECT count(*) FROM outcome WHERE amount_ucent='0'")[0][0]
    for ours in wallet.load_channels():
        theirs = of_hub.get(ours.id)
        yield Sides(
            channel=ours.id,
            paid=(_held(wallet, ours, SENT), _held(hub, theirs, RECEIVED)),
            rewarded=(_held(hub, theirs, SENT), _held(wallet, ours, RECEIVED)),
            refused=refused,
        )


def _held(ledger: Ledger, channel: Channel | None, direction: int) -> Held:
    """Read a lane; an empty one where the channel is not there at all."""
    if channel is None:
        return Held(total=LaneTotal(), payments=())
    lane = channel.sent if direction == SENT else channel.received
    rows = ledger.query(
        "SELECT nonce, amount_ucent, type, receipt FROM payment"
        " WHERE channel=? AND direction=? ORDER BY nonce",
        (channel.id, direction),
    )
    return Held(
        total=lane.total,
        payments=tuple(
            (nonce, int(amount), _reference(ReceiptType(kind), receipt))
            for nonce, amount, kind, receipt in rows
        ),
    )


def _reference(kind: ReceiptType, receipt: bytes) -> str:
    """The harness's own reference of a payment, which its receipt carries."""
    fields = cbor2.loads(receipt)
    if kind is ReceiptType.REWARD:
        reading: bytes = fields["reading"]
        return reading.hex()
    purpose: str = fields["purpose"]
    return purpose


def compare_all(
    hub: Path, wallets: Mapping[str, Path], reported: Mapping[str, Reported]
) -> tuple[Comparison, dict[str, list[Sides]]]:
    """Compare every wallet's databases and reports; what is wrong, and what the databases hold.

    Raises `LedgerUnusable`.
    """
    found = Comparison()
    held: dict[str, list[Sides]] = {}
    hub_ledger = Ledger(hub)
    try:
        for name, path in wallets.items():
            ledger = Ledger(path)
            try:
                held[name] = list(read_sides(hub_ledger, ledger))
            finally:
                ledger.close()
            _compare_wallet(found, name, reported[name], held[name])
    finally:
        hub_ledger.close()
    return found, held


def _compare_wallet(
    found: Comparison, name: str, reported: Reported, channels: list[Sides]
) -> None:
    if len(channels) == 1:
        compare(found, reported, channels[0])
        return
    text = f"{name} holds {len(channels)} channels instead of one"
    found.add(Wrong.UNBALANCED, "", "", text)
    for reference in sorted(reported.acknowledged | reported.decided | reported.received):
        found.add(Wrong.LOST, "", reference, text)


def promised(held: Mapping[str, Iterable[Sides]]) -> set[str]:
    """Every payment to the hub that its payer's database holds."""
    return {
        reference
        for channels in held.values()
        for sides in channels
        for _, _, reference in sides.paid[0].payments
    }
