"""Who may connect: strangers, guests and members, each with a limit of its own.

Rule: what somebody costs before it has proven to be a member, others cannot be made to pay for: the
places of members are theirs, and a stranger that lingers makes room for the next one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from ..channels.client import pace
from ..channels.client.pace import TokenBucket
from ..channels.client.wire import HANDSHAKE_SECONDS_MAX
from ..channels.errors import PeerError
from ..channels.ids import Address
from .addresses import Addresses, key_of

TAKEOVERS_MAX: Final = 64
"""Connections beyond the limit while those that they replace are ending, seconds at most."""

SIGNERS_MAX: Final = 4096
"""Members whose points are remembered after they have gone, beside those who are connected."""

GUEST_POINTS_PER_SECOND: Final = 20_000
"""Of all guests together, a fifth of a core: whoever is to be registered says little."""

GUEST_SECONDS: Final = 30
"""A guest's place is its own for so long: a watchtower keeps its deposit in one of them, and an
agency that registers a wallet while it waits needs none of it."""


class TooManyHandshakes(PeerError):
    """More connections begin than the hub takes."""

    code = "too-many-handshakes"
    remedy = "connect again in a while"
    retryable = True


class TooManyConnections(PeerError):
    """The hub serves as many members as it is configured for."""

    code = "too-many-connections"
    remedy = "try again later"
    retryable = True


class TooManyGuests(PeerError):
    """The hub serves as many wallets as it is configured for that are no members yet."""

    code = "too-many-guests"
    remedy = "ask the agency to register this wallet; members have places of their own"
    retryable = True


class Overtaken(PeerError):
    """A stranger that had not authenticated when its place was needed."""

    code = "overtaken"
    remedy = "connect again and authenticate at once"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """The limits of a configuration; `handshakes_per_address` is 0 where there is none."""

    connections_max: int
    guests_max: int = 64
    strangers_max: int = 256
    handshakes_per_second: int = 200
    handshakes_per_address: int = 100


class _Standing(Enum):
    STRANGER = "stranger"
    GUEST = "guest"
    MEMBER = "member"


@dataclass(eq=False, slots=True, kw_only=True)
class Visit:
    """One connection at the door; `scope` is cancelled when its time or its place is gone.

    `end` ends it once it has authenticated; `key` stands for the address that it comes from.
    """

    scope: trio.CancelScope
    key: str
    end: Callable[[PeerError], None] = lambda _: None
    since: float = 0.0
    overtaken: bool = False
    signer: Address | None = None
    standing: _Standing = field(default=_Standing.STRANGER)


class Door:
    """Counts connections by standing; `hits` counts what each limit refused."""

    def __init__(
        self,
        limits: DoorLimits,
        is_member: Callable[[Address], bool],
        is_connected: Callable[[Address], bool],
    ) -> None:
        self._limits = limits
        self._is_member = is_member
        self._is_connected = is_connected
        self._strangers: OrderedDict[Visit, None] = OrderedDict()
        self._guests: OrderedDict[Visit, None] = OrderedDict()
        self._ending: set[Visit] = set()
        self._members = 0
        self._addresses = Addresses(limits.handshakes_per_second, limits.handshakes_per_address)
        self._turned_away = 0
        self._points: OrderedDict[Address, TokenBucket] = OrderedDict()
        self._guest_points = TokenBucket(
            GUEST_POINTS_PER_SECOND, 2 * GUEST_POINTS_PER_SECOND, trio.current_time()
        )
        self.hits: Counter[str] = Counter()

    @property
    def strangers(self) -> int:
        """Connections that have not authenticated."""
        return len(self._strangers)

    @property
    def guests(self) -> int:
        """Connections of signers that are no members and have no channel."""
        return len(self._guests)

    @property
    def members(self) -> int:
        """Connections of members."""
        return self._members

    @property
    def turned_away(self) -> int:
        """How many were refused, or lost their place, for want of room that others had taken.

        Whoever had taken more than its share itself is not counted, unless members come from
        there: so this grows only while a wallet that wants to be heard may not be.
        """
        return self._turned_away + self._addresses.turned_away

    def arrive(self, host: str) -> Visit:
        """Let a stranger begin; where all places are taken, one of the fullest address makes room.

        Raises `TooManyHandshakes`.
        """
        now, key = trio.current_time(), key_of(host)
        problem = self._addresses.take(key, now)
        if problem:
            raise TooManyHandshakes(problem)
        if len(self._strangers) >= self._limits.strangers_max:
            oldest, crowd = _oldest_of_most(self._strangers, key)
            del self._strangers[oldest]
            oldest.overtaken = True
            oldest.scope.cancel()
            self.hits[Overtaken.code] += 1
            self._turned_away += crowd == 1
        visit = Visit(scope=trio.CancelScope(deadline=now + HANDSHAKE_SECONDS_MAX), key=key)
        self._strangers[visit] = None
        return visit

    def admit(self, visit: Visit, signer: Address) -> None:
        """Give a proven signer its place; raises `TooManyConnections`, `TooManyGuests`.

        A wallet that is connected already takes over its own place, which is free in a moment.
        """
        for guest in [g for g in self._guests if g.signer and self._is_member(g.signer)]:
            del self._guests[guest]  # it was registered meanwhile
            self._place(guest, _Standing.MEMBER)
        more = TAKEOVERS_MAX if self._is_connected(signer) else 0
        if self._is_member(signer):
            if self._members >= self._limits.connections_max + more:
                self._turned_away += 1
                raise TooManyConnections(f"{self._limits.connections_max} are connected")
            standing = _Standing.MEMBER
            self._addresses.remember(signer, visit.key)
        else:
            if len(self._guests) >= self._limits.guests_max + more:
                self._end_a_guest(visit.key)
            standing = _Standing.GUEST
        self._strangers.pop(visit, None)
        visit.signer = signer
        visit.since = trio.current_time()
        self._place(visit, standing)

    def _end_a_guest(self, key: str) -> None:
        """End a guest for one from this address: of the fullest one the oldest, if it may be.

        Raises `TooManyGuests` where the newcomer's own address has the most and all are young, or
        many are ending: so guests keep nobody out for ever, and two addresses keep out none.
        """
        oldest, _ = _oldest_of_most(self._guests, key)
        has_had_its_time = trio.current_time() - oldest.since > GUEST_SECONDS
        text = f"{self._limits.guests_max} that are no members are connected"
        is_kept = oldest.key == key and not has_had_its_time
        if is_kept or len(self._ending) >= TAKEOVERS_MAX:
            raise TooManyGuests(text)
        del self._guests[oldest]
        self._ending.add(oldest)
        oldest.end(TooManyGuests(text))

    def _place(self, visit: Visit, standing: _Standing) -> None:
        visit.standing = standing
        if standing is _Standing.GUEST:
            self._guests[visit] = None
        else:
            self._members += 1

    def points(self, visit: Visit) -> TokenBucket:
        """What an admitted connection may do: a member what it has left, however it reconnects.

        All guests have one share together, as a key costs nothing to make.
        """
        if visit.signer is None or visit.standing is not _Standing.MEMBER:
            return self._guest_points
        bucket = self._points.pop(visit.signer, None)
        if bucket is None:
            bucket = TokenBucket(pace.POINTS_PER_SECOND, pace.POINTS_BURST, trio.current_time())
        self._points[visit.signer] = bucket
        while len(self._points) > SIGNERS_MAX + self._limits.connections_max:
            self._points.popitem(last=False)
        return bucket

    def leave(self, visit: Visit) -> None:
        """Free the place of a connection that has ended."""
        match visit.standing:
            case _Standing.STRANGER:
                self._strangers.pop(visit, None)
            case _Standing.GUEST:
                self._guests.pop(visit, None)
                self._ending.discard(visit)
            case _Standing.MEMBER:
                self._members -= 1


def _oldest_of_most(visits: Iterable[Visit], key: str) -> tuple[Visit, int]:
    """Return the oldest visit from the address with most, and how many: `key` has one more.

    It looks at all of them: 256 are 20 µs, which a handshake costs many times over.
    """
    crowds = Counter(visit.key for visit in visits)
    crowds[key] += 1
    oldest = max(visits, key=lambda visit: crowds[visit.key])  # the first of equals
    return oldest, crowds[oldest.key]
