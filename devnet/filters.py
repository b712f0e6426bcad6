"""Filters: what a client polls for, and the matching of logs that subscriptions use as well.

Source: ethereum/execution-apis, and geth. A filter holds a place in the chain's journal.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ..channels.ids import to_hex
from . import params as read
from .chain import LOGS_MAX, DevChain
from .errors import TooManyFilters, UnknownFilter
from .journal import Arrived, Entry, Mined, TakenBack
from .method import Method, number_of
from .params import BlockAt, Params
from .records import Header, Log, LogQuery
from .views import log_view

FILTERS_MAX: Final = 1_000
"""Of one chain; a client that forgets to uninstall its own loses them after `IDLE_SECONDS`."""
IDLE_SECONDS: Final = 300
"""As in geth: a filter that nobody asks for so long is forgotten."""
CHANGES_MAX: Final = LOGS_MAX
"""In one answer; the rest come with the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsWanted:
    """New logs of a range of blocks, of these addresses and topics (empty: of any)."""

    filter: read.Filter

    def matches(self, log: Log) -> bool:
        """Whether a log is wanted."""
        wanted = self.filter
        if wanted.addresses and log.address not in wanted.addresses:
            return False
        if len(wanted.topics) > len(log.topics):
            return False
        first, last = wanted.first.number, wanted.last.number
        if first is not None and log.block_number < first:
            return False
        if last is not None and log.block_number > last:
            return False
        return all(
            not choices or topic in choices
            for choices, topic in zip(wanted.topics, log.topics, strict=False)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksWanted:
    """Every new block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalsWanted:
    """Every transaction that begins to wait."""


Wanted = LogsWanted | BlocksWanted | ArrivalsWanted


def changes(wanted: Wanted, entry: Entry) -> Iterable[Header | bytes | tuple[Log, bool]]:
    """What an entry of the journal means to a reader: headers, hashes, or logs (and if removed)."""
    match entry:
        case Arrived():
            if isinstance(wanted, ArrivalsWanted):
                yield entry.transaction
        case Mined() | TakenBack():
            if isinstance(wanted, LogsWanted):
                removed = isinstance(entry, TakenBack)
                yield from ((log, removed) for log in entry.logs if wanted.matches(log))
            elif isinstance(wanted, BlocksWanted) and isinstance(entry, Mined):
                yield entry.header


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    wanted: Wanted
    place: int
    asked_at: float


class Filters:
    """The filters of one chain; they live as long as the process and as somebody asks for them."""

    def __init__(self) -> None:
        self._kept: dict[int, _Filter] = {}

    def add(self, chain: DevChain, wanted: Wanted) -> int:
        """Begin to listen from now on; returns the filter's id. Raises `TooManyFilters`."""
        now = chain.settings.wall_seconds()
        self._kept = {
            name: kept for name, kept in self._kept.items() if now - kept.asked_at < IDLE_SECONDS
        }
        if len(self._kept) >= FILTERS_MAX:
            raise TooManyFilters(FILTERS_MAX)
        name = secrets.randbits(127) | 1 << 127
        self._kept[name] = _Filter(wanted=wanted, place=chain.journal.end, asked_at=now)
        return name

    def changes(self, chain: DevChain, name: int) -> list[object]:
        """What is new since it was asked for last; raises `UnknownFilter`.

        Also where so much has happened since that a part of it is forgotten.
        """
        kept = self._asked(chain, name)
        entries = chain.journal.since(kept.place)
        if entries is None:
            del self._kept[name]
            raise UnknownFilter
        found: list[object] = []
        place = kept.place
        for entry in entries:
            if len(found) >= CHANGES_MAX:
                break
            found += [_change_view(change) for change in changes(kept.wanted, entry)]
            place += 1
        self._kept[name] = replace(self._kept[name], place=place)
        return found

    def logs_wanted(self, chain: DevChain, name: int) -> read.Filter:
        """What a filter of logs was made with; raises `UnknownFilter` for others, too."""
        wanted = self._asked(chain, name).wanted
        if not isinstance(wanted, LogsWanted):
            raise UnknownFilter
        return wanted.filter

    def forget(self, name: int) -> bool:
        """Uninstall; says whether there was one."""
        return self._kept.pop(name, None) is not None

    def _asked(self, chain: DevChain, name: int) -> _Filter:
        kept = self._kept.get(name)
        now = chain.settings.wall_seconds()
        if kept is None or now - kept.asked_at >= IDLE_SECONDS:
            raise UnknownFilter
        self._kept[name] = replace(kept, asked_at=now)
        return kept


def _change_view(change: Header | bytes | tuple[Log, bool]) -> object:
    match change:
        case Header():
            return to_hex(change.hash)
        case bytes():
            return to_hex(change)
        case (log, removed):
            return log_view(log, removed=removed)


_of_chains: weakref.WeakKeyDictionary[DevChain, Filters] = weakref.WeakKeyDictionary()


def filters_of(chain: DevChain) -> Filters:
    """The filters of a chain; they live as long as the process."""
    return _of_chains.setdefault(chain, Filters())


def logs_in(chain: DevChain, wanted: read.Filter) -> list[object]:
    """The logs that a filter object asks for; raises `UnknownBlock`, `TooManyLogs`."""
    head = chain.head.number
    if wanted.block is not None:
        first = last = number_of(chain, BlockAt(hash=wanted.block))
    else:
        first = head if wanted.first.number is None else wanted.first.number
        last = head if wanted.last.number is None else min(wanted.last.number, head)
    # A range that starts after the head is empty: that is how pollers ask for what is new.
    query = LogQuery(
        first_block=first, last_block=last, addresses=wanted.addresses, topics=wanted.topics
    )
    return [log_view(log) for log in chain.logs(query)]


def _logs(chain: DevChain, params: Params) -> object:
    return logs_in(chain, params.required(0, read.log_filter))


def _new_filter(chain: DevChain, params: Params) -> object:
    wanted = LogsWanted(filter=params.required(0, read.ranged_filter))
    return hex(filters_of(chain).add(chain, wanted))


def _new_block_filter(chain: DevChain, _params: Params) -> object:
    return hex(filters_of(chain).add(chain, BlocksWanted()))


def _new_arrival_filter(chain: DevChain, params: Params) -> object:
    params.optional(0, read.hashes_only, None)
    return hex(filters_of(chain).add(chain, ArrivalsWanted()))


def _changes(chain: DevChain, params: Params) -> object:
    return filters_of(chain).changes(chain, params.required(0, read.quantity))


def _filter_logs(chain: DevChain, params: Params) -> object:
    name = params.required(0, read.quantity)
    return logs_in(chain, filters_of(chain).logs_wanted(chain, name))


def _uninstall(chain: DevChain, params: Params) -> object:
    return filters_of(chain).forget(params.required(0, read.quantity))


METHODS: dict[str, Method] = {
    "eth_getFilterChanges": Method(answer=_changes, most=1),
    "eth_getFilterLogs": Method(answer=_filter_logs, most=1),
    "eth_getLogs": Method(answer=_logs, most=1),
    "eth_newBlockFilter": Method(answer=_new_block_filter, most=0),
    "eth_newFilter": Method(answer=_new_filter, most=1),
    "eth_newPendingTransactionFilter": Method(answer=_new_arrival_filter, most=1),
    "eth_uninstallFilter": Method(answer=_uninstall, most=1),
}
