"""Admission that follows a member registry on the chain itself, beside the allowlist.

Rule: the registry decides about everybody whom it holds, the allowlist about all others. Whom the
registry holds and has not removed may send; suspended members and those whose time is over too, so
that they can close and be paid (docs/adr/0022-admission-follows-the-registry.md).

Nothing is remembered but the registry's address: who may send is read from the state that is asked
about. So it is right after a reorganisation, a revert and a restart, and inside a block.
"""

from __future__ import annotations

from typing import Final

from eth.abc import StateAPI
from eth_typing import Address as EvmAddress

from ..channels.hashing import keccak256
from ..channels.ids import Address, address_to_hex
from ..contracts.artifacts import load
from ..contracts.members import MemberStatus
from .allowlist import Allowlist
from .errors import CallRefused
from .store import ChainStore

SETTING: Final = "registry"
CHANGED: Final = keccak256(b"MemberChanged(address,address,uint8,uint8,uint64,bytes32,bytes32)")
WORDS_SLOT: Final = bytes(32)
"""Where the registry keeps its members: its first variable, a word for each address."""
STATUS_SHIFT: Final = 8
STATUS_MASK: Final = 0xFF


class NotARegistry(CallRefused):
    """The code at an address is not the member registry's."""

    code = "devnet-not-a-registry"
    remedy = "give the deployment record of this chain; `farthing devnet deploy` makes one"

    def __init__(self, address: Address) -> None:
        super().__init__(f"there is no member registry at {address_to_hex(address)}")
        self.address = address


class Following:
    """Who may send on a permissioned chain: its allowlist and the registry that it follows."""

    def __init__(self, store: ChainStore, allowlist: Allowlist) -> None:
        self._store = store
        self._allowlist = allowlist
        kept = bytes.fromhex(store.setting(SETTING) or "")
        self.registry: Address | None = Address(kept) if kept else None

    def follow(self, state: StateAPI, registry: Address | None) -> None:
        """Follow a registry from now on, None for none; kept. Raises `NotARegistry`."""
        if registry is not None:
            code = state.get_code(EvmAddress(registry))
            if not load("member_registry").runtime_matches(code):
                raise NotARegistry(registry)
        with self._store.writing():
            self._store.put_setting(SETTING, "" if registry is None else registry.hex())
        self.registry = registry

    def status(self, state: StateAPI, address: Address) -> MemberStatus:
        """What the registry holds of an address in a state; NONE where none is followed."""
        if self.registry is None:
            return MemberStatus.NONE
        slot = keccak256(WORDS_SLOT + bytes(12) + address)
        word = state.get_storage(EvmAddress(self.registry), int.from_bytes(slot))
        return MemberStatus(word >> STATUS_SHIFT & STATUS_MASK)

    def may_send(self, state: StateAPI, address: Address) -> bool:
        """Whether an address may send in a state."""
        status = self.status(state, address)
        if status is MemberStatus.NONE:
            return address in self._allowlist
        return status is not MemberStatus.REMOVED

    def admitted(self, state: StateAPI) -> tuple[Address, ...]:
        """Everybody who may send in the newest state, sorted."""
        known = set(self._allowlist.addresses())
        if self.registry is not None:
            known |= self._store.named_in(self.registry, CHANGED)
        return tuple(sorted(each for each in known if self.may_send(state, each)))
