"""By which totals each closed channel was paid out, as its `Closed` event on the chain says.

The contract keeps only totals that were settled before: a close by agreement pays out by others.
Rule: what two parties signed says nothing here; only what a confirmed block holds does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ..ids import ChannelId
from ..state import ChainStatus, ChainView, Channel
from .ledger import Ledger, Statement
from .rpc import RpcAnswerTooLarge, RpcRefused

Totals: TypeAlias = tuple[int, int]
"""The transferred totals of A and B, in µ¢."""

BLOCKS_PER_LOOK: Final = 2_000
"""Searched for one channel at one head: a search of years must not hold up what is read besides."""

_PREFIX: Final = "closed:"


class ClosedPort(Protocol):
    """What is asked of the chain; raises `ChainError`."""

    async def closed_totals(
        self, channel: ChannelId, first_block: int, last_block: int
    ) -> Totals | None:
        """The totals of the channel's `Closed` event, None if these blocks hold none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What all is known after a look, and what of it is to be written down."""

    totals: dict[ChannelId, Totals]
    next_block: dict[ChannelId, int]
    statements: tuple[Statement, ...]


class Closings:
    """Searches for the events of closed channels, newest block first and a part at each head."""

    def __init__(
        self, first_block: int = 0, known: Mapping[ChannelId, Totals] | None = None
    ) -> None:
        """No channel closed before `first_block`; `known` is what an earlier process found."""
        self._first_block = first_block
        self._totals = dict(known or {})
        self._next_block: dict[ChannelId, int] = {}

    async def look(
        self,
        chain: ClosedPort,
        channels: Iterable[Channel],
        views: Mapping[ChannelId, ChainView],
        head_block: int,
        *,
        replaced: bool,
    ) -> Look:
        """Search once for each closed channel that needs it; changes nothing before `take_in`.

        After blocks were `replaced` every channel is searched for anew. An endpoint that has no
        such event, or gives no logs, is asked again by the next process.
        """
        totals, next_block = dict(self._totals), dict(self._next_block)
        statements: list[Statement] = []
        for channel in list(channels):
            view = views.get(channel.id, channel.chain)
            is_closed = view is not None and view.status is ChainStatus.CLOSED
            if replaced or not is_closed:
                next_block.pop(channel.id, None)
                if totals.pop(channel.id, None) is not None:
                    statements.append(_forget(channel.id))
            last = next_block.get(channel.id, head_block)
            if not is_closed or channel.id in totals or last < self._first_block:
                continue
            first = max(self._first_block, last - BLOCKS_PER_LOOK + 1)
            try:
                found = await chain.closed_totals(channel.id, first, last)
            except (RpcRefused, RpcAnswerTooLarge):  # it gives no logs, whatever the range
                found, first = None, self._first_block
            next_block[channel.id] = first - 1
            if found is not None:
                totals[channel.id] = found
                statements.append(_keep(channel.id, found))
        return Look(totals=totals, next_block=next_block, statements=tuple(statements))

    def take_in(self, look: Look) -> tuple[Statement, ...]:
        """Know what a look has found, once its block is known to stand; gives what to commit."""
        self._totals, self._next_block = look.totals, look.next_block
        return look.statements


def kept_totals(ledger: Ledger) -> dict[ChannelId, Totals]:
    """The totals of closed channels that were found so far; raises `LedgerUnusable`."""
    rows = ledger.query("SELECT key, value FROM setting WHERE key GLOB ?", (_PREFIX + "*",))
    found = {}
    for key, value in rows:
        a, b = json.loads(value)
        found[ChannelId(bytes.fromhex(key.removeprefix(_PREFIX)))] = (int(a), int(b))
    return found


def _keep(channel: ChannelId, totals: Totals) -> Statement:
    value = json.dumps([str(total) for total in totals])
    return "INSERT OR REPLACE INTO setting VALUES (?, ?)", (_PREFIX + channel.hex(), value)


def _forget(channel: ChannelId) -> Statement:
    return "DELETE FROM setting WHERE key=?", (_PREFIX + channel.hex(),)
