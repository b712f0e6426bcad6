"""Filling a block: which waiting transactions go into it, and what they do to the state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eth.abc import BlockHeaderAPI, ReceiptAPI, VirtualMachineAPI
from eth_utils.exceptions import ValidationError

from ..channels.ids import Address
from .evm import BASE_TRANSACTION_GAS
from .pool import Waiting

_log = logging.getLogger(__name__)


class MachineFailed(Exception):
    """A transaction on which py-evm itself failed: build the block again without it.

    Never leaves the chain: one such transaction must not stop it.
    """

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.record.hash.hex())
        self.waiting = waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A block's contents: its header so far, what was taken, and what can never be taken."""

    header: BlockHeaderAPI
    taken: tuple[Waiting, ...]
    receipts: tuple[ReceiptAPI, ...]
    unfit: tuple[Waiting, ...]


def fill(
    vm: VirtualMachineAPI,
    header: BlockHeaderAPI,
    ready: Iterable[Waiting],
    may_send: Callable[[Address], bool],
) -> Filling:
    """Apply transactions in order until the block is full; raises `MachineFailed`.

    A transaction that does not fit, or that has become impossible since it was checked, is passed
    over together with the later ones of its sender. `may_send` is asked of the state so far.
    """
    taken: list[Waiting] = []
    receipts: list[ReceiptAPI] = []
    unfit: list[Waiting] = []
    passed_over: set[Address] = set()
    for waiting in ready:
        if header.gas_limit - header.gas_used < BASE_TRANSACTION_GAS:
            break
        sender = waiting.record.sender
        if sender in passed_over:
            continue
        if not may_send(sender):
            _log.warning("dropped transaction 0x%s: not allowed", waiting.record.hash.hex())
            passed_over.add(sender)
            unfit.append(waiting)
            continue
        if waiting.record.gas > header.gas_limit - header.gas_used:
            passed_over.add(sender)
            continue
        try:
            receipt, _ = vm.apply_transaction(header, waiting.signed)
        except ValidationError as error:
            # Raised before the state was touched: funds spent meanwhile, for example.
            _log.warning("dropped transaction 0x%s: %s", waiting.record.hash.hex(), error)
            passed_over.add(sender)
            unfit.append(waiting)
        except Exception as error:
            raise MachineFailed(waiting) from error
        else:
            header = vm.add_receipt_to_header(header, receipt)
            taken.append(waiting)
            receipts.append(receipt)
    return Filling(header=header, taken=tuple(taken), receipts=tuple(receipts), unfit=tuple(unfit))
