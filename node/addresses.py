"""How the handshakes that a server takes are shared among the addresses that they come from.

Rule: an address takes at most as much as it leaves for others, so that whoever takes the most
leaves as much again to those who come next; and a part is kept for the addresses of members.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ..channels.client.pace import TokenBucket
from ..channels.ids import Address

BURST_SECONDS: Final = 10
"""Handshakes saved up while nobody comes: after a restart of the hub all wallets come at once.
One that was taken is forgotten at the same pace."""

ADDRESSES_MAX: Final = 4096
"""Addresses whose handshakes are counted; the one that was quiet the longest is forgotten."""

HOMES_MAX: Final = 8192
"""Members of whom it is remembered where they last came from; each is 200 bytes."""

STRANGERS_PART: Final = 0.75
"""Of all handshakes; the rest is kept for addresses from which members have come."""

_IPV6_PREFIX: Final = 64
"""Who has one IPv6 address has 2⁶⁴ of them."""


@dataclass(slots=True)
class _Fading:
    """A count of what happened lately: each fades away with the time constant of a burst.

    At a full count of `n` bursts, `n` a second fade: as many as may then be added.
    """

    count: float = 0.0
    at: float = 0.0

    def now(self, now: float) -> float:
        """What is left of it."""
        self.count *= math.exp((self.at - now) / BURST_SECONDS)
        self.at = now
        return self.count

    def add(self, now: float) -> None:
        """Count one more."""
        self.count = self.now(now) + 1


@dataclass(slots=True, kw_only=True)
class _Caller:
    """One address: its own limit, and what it has taken lately."""

    own: TokenBucket
    taken: _Fading = field(default_factory=_Fading)


class Addresses:
    """Shares out handshakes; `turned_away` counts those refused to who had not had its share."""

    def __init__(self, per_second: int, per_address: int) -> None:
        """`per_address` is 0 where all come from one address: then nothing is shared out."""
        self._most = per_second * BURST_SECONDS
        self._per_address = per_address
        self._callers: OrderedDict[str, _Caller] = OrderedDict()
        self._all = _Fading()
        self._strangers = _Fading()
        self._homes: OrderedDict[Address, str] = OrderedDict()
        self._members: Counter[str] = Counter()
        self.turned_away = 0

    def __len__(self) -> int:
        return len(self._callers)

    def take(self, key: str, now: float) -> str:
        """Take a handshake for an address; why there is none, or nothing."""
        if not self._per_address:
            if self._free(key, now) < 1:
                self.turned_away += 1
                return "too many connections begin"
            self._count(key, now)
            return ""
        caller = self._caller(key, now)
        taken = caller.taken.now(now)
        problem = ""
        if not caller.own.take(now):
            problem = "too many connections begin from this address"
        elif taken + 1 > self._free(key, now):
            problem = "too many connections begin"
        if problem:
            self.turned_away += key in self._members or taken < 1
            return problem
        caller.taken.add(now)
        self._count(key, now)
        return ""

    def remember(self, signer: Address, key: str) -> None:
        """Note where a member has come from; one address of each is remembered, the last."""
        self._move(self._homes.pop(signer, None), -1)
        self._homes[signer] = key
        self._move(key, 1)
        if len(self._homes) > HOMES_MAX:
            self._move(self._homes.popitem(last=False)[1], -1)

    def _move(self, key: str | None, by: int) -> None:
        if key is not None:
            self._members[key] += by
            if not self._members[key]:
                del self._members[key]

    def _free(self, key: str, now: float) -> float:
        """What an address could take if it had taken nothing yet."""
        free = self._most - self._all.now(now)
        if key in self._members:
            return free
        return min(free, self._most * STRANGERS_PART - self._strangers.now(now))

    def _count(self, key: str, now: float) -> None:
        self._all.add(now)
        if key not in self._members:
            self._strangers.add(now)

    def _caller(self, key: str, now: float) -> _Caller:
        caller = self._callers.pop(key, None)
        if caller is None:
            most = self._per_address * BURST_SECONDS
            caller = _Caller(own=TokenBucket(self._per_address, most, now))
            if len(self._callers) >= ADDRESSES_MAX:
                self._callers.popitem(last=False)
        self._callers[key] = caller
        return caller


def key_of(host: str) -> str:
    """What counts as one address: an IPv6 network of /64 does."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6:  # noqa: PLR2004 - of the two there are
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
