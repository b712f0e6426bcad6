"""State that was changed from outside, and that the next block starts from instead of its parent's.

Rule: the head's header stays as it is. A block that was built on changed state cannot be imported
by another chain, so what it started from is kept, for those that run it again.
"""

from __future__ import annotations

from collections.abc import Callable

from eth.abc import BlockHeaderAPI, StateAPI

from .evm import DevnetVM
from .store import ChainStore

SETTING = "altered"
_BEFORE = b"farthing state before "


class Alterations:
    """The state root that stands in for the head's; kept in the store until a block takes it up."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store
        self.root: bytes | None = bytes.fromhex(store.setting(SETTING) or "") or None

    def alter(self, machine: DevnetVM, change: Callable[[StateAPI], None]) -> None:
        """Change the state of a machine on the head, and keep it."""
        with self._store.writing():
            change(machine.state)
            machine.state.lock_changes()
            machine.state.persist()
            root = bytes(machine.state.state_root)
            self._store.put_setting(SETTING, root.hex())
        self.root = root

    def put(self, root: bytes | None) -> None:
        """Go back to a root that was there before, or to the head's own."""
        if root != self.root:
            with self._store.writing():
                self._store.put_setting(SETTING, "" if root is None else root.hex())
            self.root = root

    def over(self, header: BlockHeaderAPI) -> BlockHeaderAPI:
        """A header with this root in the place of its own, where there is one."""
        return header if self.root is None else header.copy(state_root=self.root)

    def taken_up(self, block: bytes) -> None:
        """Write down what a block starts from; inside `writing`, before it is forgotten here."""
        if self.root is not None:
            self._store[_BEFORE + block] = self.root
            self._store.put_setting(SETTING, "")

    def before(self, block: bytes, parent: BlockHeaderAPI) -> bytes:
        """The state root that a mined block started from."""
        return bytes(self._store.get(_BEFORE + block, parent.state_root))
