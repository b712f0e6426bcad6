"""Who may connect: strangers, guests and members, each with a limit of its own.

Rule: what somebody costs before it has proven to be a member, others cannot be made to pay for: the
places of members are theirs, and a stranger that lingers makes room for the next one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from ..channels.client import pace
from ..channels.client.pace import TokenBucket
from ..channels.client.wire import HANDSHAKE_SECONDS_MAX
from ..channels.errors import PeerError
from ..channels.ids import Address

BURST_SECONDS: Final = 10
"""Handshakes saved up while nobody comes: after a restart of the hub all wallets come at once."""

TAKEOVERS_MAX: Final = 64
"""Connections beyond the limit while those that they replace are ending, seconds at most."""

ADDRESSES_MAX: Final = 4096
"""Addresses whose handshakes are counted; the one that was quiet the longest is forgotten."""

SIGNERS_MAX: Final = 4096
"""Members whose points are remembered after they have gone, beside those who are connected."""

GUEST_POINTS_PER_SECOND: Final = 20_000
"""Of all guests together, a fifth of a core: whoever is to be registered says little."""

_IPV6_PREFIX: Final = 64
"""Who has one IPv6 address has 2⁶⁴ of them."""


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
    """One connection at the door; `scope` is cancelled when its time or its place is gone."""

    scope: trio.CancelScope
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
        self._guests: set[Visit] = set()
        self._members = 0
        self._addresses: OrderedDict[str, TokenBucket] = OrderedDict()
        self._all = self._bucket(limits.handshakes_per_second)
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

    def arrive(self, host: str) -> Visit:
        """Let a stranger begin, in place of the oldest where all are taken.

        Raises `TooManyHandshakes`.
        """
        now = trio.current_time()
        if self._limits.handshakes_per_address and not self._bucket_of(host).take(now):
            raise TooManyHandshakes("too many connections begin from this address")
        if not self._all.take(now):
            raise TooManyHandshakes("too many connections begin")
        if len(self._strangers) >= self._limits.strangers_max:
            oldest, _ = self._strangers.popitem(last=False)
            oldest.overtaken = True
            oldest.scope.cancel()
            self.hits[Overtaken.code] += 1
        visit = Visit(scope=trio.CancelScope(deadline=now + HANDSHAKE_SECONDS_MAX))
        self._strangers[visit] = None
        return visit

    def admit(self, visit: Visit, signer: Address) -> None:
        """Give a proven signer its place; raises `TooManyConnections`, `TooManyGuests`.

        A wallet that is connected already takes over its own place, which is free in a moment.
        """
        for guest in [g for g in self._guests if g.signer and self._is_member(g.signer)]:
            self._guests.remove(guest)  # it was registered meanwhile
            self._place(guest, _Standing.MEMBER)
        more = TAKEOVERS_MAX if self._is_connected(signer) else 0
        if self._is_member(signer):
            if self._members >= self._limits.connections_max + more:
                raise TooManyConnections(f"{self._limits.connections_max} are connected")
            standing = _Standing.MEMBER
        else:
            if len(self._guests) >= self._limits.guests_max + more:
                raise TooManyGuests(f"{self._limits.guests_max} that are no members are connected")
            standing = _Standing.GUEST
        self._strangers.pop(visit, None)
        visit.signer = signer
        self._place(visit, standing)

    def _place(self, visit: Visit, standing: _Standing) -> None:
        visit.standing = standing
        if standing is _Standing.GUEST:
            self._guests.add(visit)
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
                self._guests.discard(visit)
            case _Standing.MEMBER:
                self._members -= 1

    def _bucket(self, per_second: int) -> TokenBucket:
        return TokenBucket(per_second, per_second * BURST_SECONDS, trio.current_time())

    def _bucket_of(self, host: str) -> TokenBucket:
        key = _key_of(host)
        bucket = self._addresses.pop(key, None)
        if bucket is None:
            bucket = self._bucket(self._limits.handshakes_per_address)
            if len(self._addresses) >= ADDRESSES_MAX:
                self._addresses.popitem(last=False)
        self._addresses[key] = bucket
        return bucket


def _key_of(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6:  # noqa: PLR2004 - of the two there are
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
