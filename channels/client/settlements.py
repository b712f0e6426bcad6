"""By which payments a peer's lane was settled above what we hold of it, as the chain's events say.

Searched for newest block first and a part at each look: a database may be months old. Rule: what
was read counts only once its head is known to stand, and only when nothing in between is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from ..ids import Address, ChannelId
from ..restoring import above, are_all, needs_settlements
from ..state import ChainView, Channel, Settlement
from .rpc import RpcAnswerTooLarge, RpcRefused

BLOCKS_PER_QUESTION: Final = 2_000
"""As many as endpoints answer for in one `eth_getLogs`."""

QUESTIONS_PER_LOOK: Final = 16
"""For all channels together: a look at the chain must not be held up by what is long ago."""

Found: TypeAlias = dict[ChannelId, tuple[Settlement, ...]]
"""Of each channel that was read all that is known; nothing where it is not all yet."""


class SettledPort(Protocol):
    """What is asked of the chain; raises `ChainError`."""

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        """By which payments these blocks settled a payer's lane, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """How far a search has come, down from the head at which the lane was settled this far."""

    settled_ucent: int
    last_block: int
    found: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledLook:
    """What a look has found, and where the next one goes on."""

    found: Found
    searches: dict[ChannelId, _Search]


class Settlements:
    """The searches that are under way."""

    def __init__(self, first_block: int = 0) -> None:
        """No channel was settled before `first_block`."""
        self._first_block = first_block
        self._searches: dict[ChannelId, _Search] = {}

    async def look(
        self,
        chain: SettledPort,
        channels: Iterable[Channel],
        views: Mapping[ChannelId, ChainView],
        head_block: int,
        *,
        replaced: bool,
    ) -> SettledLook:
        """Search for each channel with a view that is behind it; changes nothing here.

        After blocks were `replaced` every search begins anew. Raises the `ChainError` of an
        endpoint in trouble; one that refuses these events is asked again at the next look.
        """
        look = SettledLook(found={}, searches={} if replaced else dict(self._searches))
        questions = QUESTIONS_PER_LOOK
        for channel in channels:
            view = views.get(channel.id)
            if view is None:
                continue
            settled_ucent = view.settled_ucent[channel.side.other]
            held_ucent = channel.received.total.transferred_ucent
            if not needs_settlements(channel, view):
                look.searches.pop(channel.id, None)
                look.found[channel.id] = ()
            elif not replaced and are_all(channel.settlements, held_ucent, settled_ucent):
                look.found[channel.id] = channel.settlements
            else:
                search = look.searches.get(channel.id)
                if search is None or search.settled_ucent != settled_ucent:
                    search = _Search(settled_ucent=settled_ucent, last_block=head_block)
                search, questions = await self._go_on(chain, channel, search, questions)
                look.searches[channel.id] = search
                look.found[channel.id] = ()
                if are_all(search.found, held_ucent, settled_ucent):
                    look.found[channel.id] = search.found
                elif search.last_block < self._first_block:  # not all was given: from the top
                    del look.searches[channel.id]
        return look

    async def _go_on(
        self, chain: SettledPort, channel: Channel, search: _Search, questions: int
    ) -> tuple[_Search, int]:
        """Search on, with so many questions at most; gives how many are left."""
        held_ucent = channel.received.total.transferred_ucent
        while (
            questions
            and search.last_block >= self._first_block
            and not are_all(search.found, held_ucent, search.settled_ucent)
        ):
            first = max(self._first_block, search.last_block - BLOCKS_PER_QUESTION + 1)
            questions -= 1
            try:
                rows = await chain.settlements(
                    channel.id, channel.peer_account, first, search.last_block
                )
            except (RpcRefused, RpcAnswerTooLarge):
                break
            found = (*above(rows, held_ucent), *search.found)
            search = replace(search, last_block=first - 1, found=found)
        return search, questions

    def take_in(self, look: SettledLook) -> Found:
        """Go on from there the next time, now that the look's block is known to stand."""
        self._searches = look.searches
        return look.found
