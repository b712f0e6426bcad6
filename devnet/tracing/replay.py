"""Running mined transactions again, each on the state that it found."""

from __future__ import annotations

from collections.abc import Sequence

from eth.abc import BlockHeaderAPI, ComputationAPI, SignedTransactionAPI

from ..chain import DevChain
from ..evm import DevnetVM


class Replay:
    """A machine on its way through a mined block; `vm` stands before transaction `place`."""

    def __init__(self, chain: DevChain, number: int) -> None:
        self.vm: DevnetVM
        self.place = 0
        self._header: BlockHeaderAPI
        self._transactions: Sequence[SignedTransactionAPI]
        self.vm, self._header, self._transactions = chain.replayed(number)
        self.vm.block_preprocessing(self.vm.get_block())

    def go_to(self, place: int) -> None:
        """Run what comes before a transaction."""
        while self.place < place:
            self.step()

    def step(self) -> tuple[ComputationAPI, int]:
        """Run the next transaction; returns its computation and the gas that it used."""
        receipt, computation = self.vm.apply_transaction(
            self._header, self._transactions[self.place]
        )
        self.place += 1
        return computation, int(receipt.gas_used)
