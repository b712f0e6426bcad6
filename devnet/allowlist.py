"""Who may send transactions on a permissioned chain, kept in the chain's store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ..channels.ids import Address
from .errors import AllowlistRefused


class Kept(Protocol):
    """Where the addresses are kept: a chain's store, or a test's memory."""

    def allowed(self) -> Sequence[Address]:
        """All addresses."""

    def allow(self, addresses: Sequence[Address]) -> None:
        """Add addresses."""

    def disallow(self, addresses: Sequence[Address]) -> None:
        """Remove addresses."""

    def writing(self) -> AbstractContextManager[object]:
        """What is changed inside is changed as one."""


class Allowlist:
    """The addresses of one chain's allowlist; its errors are in Besu's words."""

    def __init__(self, store: Kept) -> None:
        self._store = store
        self._allowed = frozenset(store.allowed())

    def __contains__(self, address: Address) -> bool:
        return address in self._allowed

    def addresses(self) -> tuple[Address, ...]:
        """All of them, sorted."""
        return tuple(sorted(self._allowed))

    def add(self, addresses: Sequence[Address]) -> None:
        """Add addresses, all or none; raises `AllowlistRefused`."""
        _check_entries(addresses)
        if not self._allowed.isdisjoint(addresses):
            raise AllowlistRefused("Cannot add an existing account to allowlist")
        with self._store.writing():
            self._store.allow(addresses)
        self._allowed |= frozenset(addresses)

    def remove(self, addresses: Sequence[Address]) -> None:
        """Remove addresses, all or none; raises `AllowlistRefused`."""
        _check_entries(addresses)
        if not self._allowed.issuperset(addresses):
            raise AllowlistRefused("Cannot remove an absent account from allowlist")
        with self._store.writing():
            self._store.disallow(addresses)
        self._allowed -= frozenset(addresses)


def _check_entries(addresses: Sequence[Address]) -> None:
    if not addresses:
        raise AllowlistRefused("Request contains an empty list of accounts")
    if len(set(addresses)) != len(addresses):
        raise AllowlistRefused("Request contains duplicate accounts")
