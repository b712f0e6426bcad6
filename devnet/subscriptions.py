"""The subscriptions of one WebSocket connection: eth_subscribe, and what is told to each.

Source: geth's pub/sub API. Each subscription holds a place in the chain's journal; nothing waits
for a reader, and one that is overtaken by the journal's end is told no more.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import Final

from ..channels.ids import to_hex
from . import params as read
from .chain import DevChain
from .errors import TooManySubscriptions
from .filters import ArrivalsWanted, BlocksWanted, LogsWanted, Wanted, changes
from .method import Method
from .params import BadParams, Params
from .records import Header, Log
from .views import head_view, log_view, transaction_view

SUBSCRIPTIONS_MAX: Final = 100
"""Of one connection."""
ENTRIES_AT_ONCE: Final = 100
"""How much of the journal is turned into messages in one go."""
KINDS: Final = ("newHeads", "logs", "newPendingTransactions")
ANY_LOGS: Final = read.log_filter({})


class Overtaken(Exception):
    """The connection reads so slowly that a part of what it waits for is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subscription:
    wanted: Wanted
    whole: bool
    """Whole transactions instead of hashes."""
    place: int
    answered: bool
    """Whether the client knows its id: it is told nothing before that."""


class Subscriptions:
    """What one connection listens to; used where the chain is used, one piece of work at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, _Subscription] = {}

    def methods(self) -> dict[str, Method]:
        """The methods that a connection has besides those of the chain."""
        return {
            "eth_subscribe": Method(answer=self._subscribe, most=2),
            "eth_unsubscribe": Method(answer=self._unsubscribe, most=1),
        }

    def answered(self) -> bool:
        """Say that the answers that were made so far have been sent; whether that is news."""
        new = [name for name, kept in self._kept.items() if not kept.answered]
        for name in new:
            self._kept[name] = replace(self._kept[name], answered=True)
        return bool(new)

    def messages(self, chain: DevChain) -> tuple[list[str], bool]:
        """The next notifications, as JSON, and whether there is more; raises `Overtaken`."""
        journal = chain.journal
        places = [kept.place for kept in self._kept.values() if kept.answered]
        if not places:
            return [], False
        first = min(places)
        entries = journal.since(first, ENTRIES_AT_ONCE)
        if entries is None:
            raise Overtaken
        found: list[str] = []
        for place, entry in enumerate(entries, first):
            for name, kept in self._kept.items():
                if kept.answered and kept.place <= place:
                    views = (_view(chain, kept, change) for change in changes(kept.wanted, entry))
                    found += [_notification(name, view) for view in views if view is not None]
        end = first + len(entries)
        for name, kept in self._kept.items():
            if kept.answered and kept.place < end:
                self._kept[name] = replace(kept, place=end)
        return found, end < journal.end

    def _subscribe(self, chain: DevChain, params: Params) -> object:
        kind = params.required(0, _kind)
        whole = False
        wanted: Wanted
        if kind == "logs":
            asked = params.optional(1, read.ranged_filter, ANY_LOGS)
            wanted = LogsWanted(filter=asked)
        elif kind == "newHeads":
            params.optional(1, _nothing, None)
            wanted = BlocksWanted()
        else:
            whole = params.optional(1, read.flag, default=False)
            wanted = ArrivalsWanted()
        if len(self._kept) >= SUBSCRIPTIONS_MAX:
            raise TooManySubscriptions(SUBSCRIPTIONS_MAX)
        name = "0x" + secrets.token_hex(16)
        self._kept[name] = _Subscription(
            wanted=wanted, whole=whole, place=chain.journal.end, answered=False
        )
        return name

    def _unsubscribe(self, _chain: DevChain, params: Params) -> object:
        return self._kept.pop(to_hex(params.required(0, read.data)), None) is not None


def _kind(value: object) -> str:
    if not isinstance(value, str) or value not in KINDS:
        raise BadParams(f"there is no such subscription: give one of {', '.join(KINDS)}")
    return value


def _nothing(value: object) -> None:
    if value != {}:
        raise BadParams("newHeads takes no options")


def _view(
    chain: DevChain, kept: _Subscription, change: Header | bytes | tuple[Log, bool]
) -> object:
    match change:
        case Header():
            return head_view(change)
        case bytes():
            if not kept.whole:
                return to_hex(change)
            found = chain.transaction(change)
            return None if found is None else transaction_view(found[0])
        case (log, removed):
            return log_view(log, removed=removed)


def _notification(name: str, result: object) -> str:
    params = {"subscription": name, "result": result}
    return json.dumps(
        {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}, separators=(",", ":")
    )
