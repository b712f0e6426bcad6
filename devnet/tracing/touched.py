"""Which accounts and words a transaction touches: for access lists and for prestates."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth.abc import ComputationAPI, MessageAPI

from .hooks import CREATIONS, SLOAD, SSTORE, Tracer, account_looked_at, top_of


@dataclass(slots=True)
class Touched(Tracer):
    """Collects addresses with the words of their storage, in the order of their first touch."""

    words: dict[bytes, dict[int, None]] = field(default_factory=dict)
    created: set[bytes] = field(default_factory=set)
    delegate: bytes | None = None
    """Whose code the transaction's own call runs, where it is not its target's (EIP-7702)."""

    def touch(self, address: bytes) -> None:
        """Put an address on the list."""
        self.words.setdefault(address, {})

    def enter(self, kind: int, message: MessageAPI, parent: ComputationAPI | None) -> None:
        """A creation touches what it makes, a delegation (EIP-7702) what it runs."""
        if kind in CREATIONS:
            self.created.add(bytes(message.storage_address))
            if parent is not None:
                self.touch(bytes(message.storage_address))
        elif message.is_delegation and parent is not None:
            self.touch(bytes(message.code_address))

    def delegated(self, address: bytes) -> None:
        """The transaction's own call runs somebody else's code."""
        self.delegate = address
        self.touch(address)

    def before(self, instruction: int, computation: ComputationAPI) -> None:
        """An instruction may touch an account or a word."""
        if instruction in (SLOAD, SSTORE):
            slot = top_of(computation)
            if slot is not None:
                address = bytes(computation.msg.storage_address)
                self.words.setdefault(address, {})[slot] = None
            return
        account = account_looked_at(instruction, computation)
        if account is not None:
            self.touch(account)
