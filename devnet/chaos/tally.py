"""The harness's own record: what wallets reported as acknowledged, and what was open at a kill.

Rule: nothing here comes from a database of the product. A line that was not whole in the pipe when
its process was killed counts for nothing; one that was counts for ever.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO


class Event(StrEnum):
    """What a wallet reports of references.

    Of payments to the hub: ordered, then acknowledged (the hub's acknowledgement is there) or
    refused (before anything was promised). Of readings: submitted (on the wallet's disk), decided
    (the hub has answered that it pays), received (its payment is on the wallet's disk), or refused.
    """

    ORDERED = "ordered"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    SUBMITTED = "submitted"
    DECIDED = "decided"
    RECEIVED = "received"


@dataclass(slots=True, kw_only=True)
class Reported:
    """What one wallet has reported, over all its lives; references of payments and of readings."""

    acknowledged: set[str] = field(default_factory=set)
    """Payments to the hub: the wallet has the hub's acknowledgement."""
    submitted: set[str] = field(default_factory=set)
    """Readings: the wallet has them on its disk."""
    decided: set[str] = field(default_factory=set)
    """Readings: the hub has answered that it pays for them."""
    received: set[str] = field(default_factory=set)
    """Readings: the hub's payment for them is on the wallet's disk."""
    open: set[str] = field(default_factory=set)
    """Payments ordered in its present life, neither acknowledged nor refused."""
    ordered: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    def take(self, said: Mapping[str, Any]) -> None:
        """Take one report."""
        references: list[str] = said["references"]
        match Event(said["event"]):
            case Event.ORDERED:
                self.ordered += len(references)
                self.open.update(references)
            case Event.ACKNOWLEDGED:
                self.acknowledged.update(references)
                self.open.difference_update(references)
            case Event.REFUSED:
                self.refusals[said["code"]] += len(references)
                if self.open.issuperset(references):  # of payments, not of readings
                    self.ordered -= len(references)
                    self.open.difference_update(references)
            case Event.SUBMITTED:
                self.submitted.update(references)
            case Event.DECIDED:
                self.decided.update(references)
            case Event.RECEIVED:
                self.received.update(references)

    @property
    def acknowledged_count(self) -> int:
        """Payments of both directions that are acknowledged."""
        return len(self.acknowledged) + len(self.decided | self.received)

    @property
    def offered_count(self) -> int:
        """Payments ordered and readings submitted, less those refused at once."""
        return self.ordered + len(self.submitted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A process killed: whose, whether it was at work, and the payments open at that moment."""

    victim: str
    ready: bool
    open: frozenset[str]


def reported_in(file: Path) -> dict[str, Reported]:
    """Read the record that a run has kept, to compare with it again."""
    wallets: dict[str, Reported] = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            said = json.loads(line)
            wallets.setdefault(said["wallet"], Reported()).take(said)
    return wallets


class Tally:
    """Takes what wallets say, from any thread, and keeps it in a file as well."""

    def __init__(self, wallets: Collection[str], file: Path) -> None:
        self.wallets = {name: Reported() for name in wallets}
        self.kills: list[Kill] = []
        self._lock = threading.Lock()
        self._file: TextIO = file.open("w", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def take(self, name: str, line: str) -> None:
        """Take a line of a wallet; one cut off by a kill is dropped."""
        if not line.endswith("\n"):
            return
        said = json.loads(line)
        with self._lock:
            self._file.write(f'{{"wallet": "{name}", {line[1:]}')
            self.wallets[name].take(said)

    def open_payments(self) -> frozenset[str]:
        """Payments of all wallets that are ordered and not acknowledged now."""
        with self._lock:
            return frozenset().union(*(r.open for r in self.wallets.values()))

    def wallet_died(self, name: str, *, ready: bool) -> None:
        """Note the end of a wallet's life, once all that it had said was taken."""
        with self._lock:
            reported = self.wallets[name]
            self.kills.append(Kill(victim=name, ready=ready, open=frozenset(reported.open)))
            reported.open.clear()

    def wallet_ended(self, name: str) -> None:
        """Note that a wallet ended by itself: what it had ordered stays as open as it was."""
        with self._lock:
            self.wallets[name].open.clear()

    def hub_died(self, victim: str, before: frozenset[str], *, ready: bool) -> None:
        """Note a kill of the hub: what was open before it, and still is when it is started."""
        still_open = before & self.open_payments()
        with self._lock:
            self.kills.append(Kill(victim=victim, ready=ready, open=still_open))

    def counts(self) -> tuple[int, int]:
        """How many payments are offered and acknowledged so far."""
        with self._lock:
            reported = self.wallets.values()
            return (
                sum(r.offered_count for r in reported),
                sum(r.acknowledged_count for r in reported),
            )

    def in_flight(self, is_promised: Callable[[str], bool]) -> int:
        """Kills of a working process with an update unacknowledged.

        One counts where a payment was open that its payer's database turned out to hold: it had
        been promised, and its acknowledgement had not been received.
        """
        return sum(
            1 for kill in self.kills if kill.ready and any(is_promised(ref) for ref in kill.open)
        )
