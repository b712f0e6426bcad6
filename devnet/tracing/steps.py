"""The default tracer: every instruction with gas, stack, memory and storage (struct logs).

Source: geth's struct logger; hex is written with 0x everywhere, as newer nodes do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast

from eth.abc import ComputationAPI, MessageAPI
from eth.exceptions import FullStack, InsufficientStack, OutOfGas, VMError

from ...channels.ids import to_hex
from .hooks import (
    CREATIONS,
    MNEMONICS,
    SLOAD,
    SSTORE,
    Budget,
    Tracer,
    memory_of,
    stack_of,
    top_of,
)
from .words import words_for

STEP_BYTES: Final = 120
WORD_BYTES: Final = 69
"""Of a word as JSON; a small one is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """What each step shows, and how many are shown (0: all)."""

    memory: bool = False
    stack: bool = True
    storage: bool = True
    return_data: bool = False
    limit: int = 0


@dataclass(slots=True)
class _Frame:
    """A call that is running: its step in the making, and what its contract's words are."""

    step: dict[str, object] | None = None
    gas: int = 0
    spent: int | None = None
    """What the step cost, known early where it calls: the rest is the child's."""
    refunds: int = 0
    """What comes back for what its callers and the calls it has ended have done so far."""
    counter: int = 0
    """Where the last step left the program counter: it does not move for the STOP after the end."""


@dataclass(slots=True)
class Steps(Tracer):
    """Collects the steps of one transaction."""

    options: StepOptions
    budget: Budget
    steps: list[dict[str, object]] = field(default_factory=list)
    _frames: list[_Frame] = field(default_factory=list)
    _words: dict[bytes, dict[str, str]] = field(default_factory=dict)
    _slot: int | None = None

    def enter(self, kind: int, message: MessageAPI, parent: ComputationAPI | None) -> None:
        """A call begins: what its caller has left is no part of the instruction's cost."""
        if parent is not None and self._frames:
            caller = self._frames[-1]
            handed_over = message.gas if kind in CREATIONS else 0
            caller.spent = caller.gas - parent.get_gas_remaining() - handed_over
            self._frames.append(_Frame(refunds=_refund(caller, parent)))
            return
        self._frames.append(_Frame())

    def leave(self, computation: ComputationAPI) -> None:
        """A call has ended: its refunds are its caller's."""
        self._frames.pop()
        if self._frames:
            self._frames[-1].refunds += computation.get_gas_refund()

    def abandon(self) -> None:
        """It came to nothing."""
        self._frames.pop()

    def before(self, instruction: int, computation: ComputationAPI) -> None:
        """Write down where the machine stands."""
        frame = self._frames[-1]
        frame.gas = computation.get_gas_remaining()
        frame.spent = None
        frame.step = None
        self._slot = top_of(computation) if instruction in (SLOAD, SSTORE) else None
        if self.options.limit and len(self.steps) >= self.options.limit:
            return
        if not computation.msg.code:
            return  # there is nothing to run; py-evm runs a STOP
        counter = computation.code.program_counter
        step: dict[str, object] = {
            "pc": counter if counter == frame.counter else counter - 1,
            "op": MNEMONICS[instruction],
            "gas": frame.gas,
            "gasCost": 0,
            "depth": computation.msg.depth + 1,
        }
        size = STEP_BYTES
        if self.options.stack:
            words = stack_of(computation)
            step["stack"] = [hex(word) for word in words]
            size += WORD_BYTES * len(words)
        if self.options.return_data:
            step["returnData"] = to_hex(computation.return_data)
            size += 2 * len(computation.return_data)
        if self.options.memory:
            memory = memory_of(computation)
            step["memory"] = [
                to_hex(memory[place : place + 32]) for place in range(0, len(memory), 32)
            ]
            size += WORD_BYTES * (len(memory) // 32)
        refund = _refund(frame, computation)
        if refund:
            step["refund"] = refund
        self.budget.spend(size)
        frame.step = step
        self.steps.append(step)

    def after(self, computation: ComputationAPI, error: VMError | None) -> None:
        """Add what the instruction cost and which word it read or wrote."""
        frame = self._frames[-1]
        frame.counter = computation.code.program_counter
        step = frame.step
        if step is None:
            return
        spent = frame.gas - computation.get_gas_remaining()
        step["gasCost"] = spent if frame.spent is None else frame.spent
        if isinstance(error, OutOfGas | InsufficientStack | FullStack):
            step["error"] = words_for(error)
        elif error is None and self._slot is not None and self.options.storage:
            step["storage"] = self._touched(computation)

    def _touched(self, computation: ComputationAPI) -> dict[str, str]:
        """The words of the contract that were touched so far, with this one."""
        address = computation.msg.storage_address
        slot = self._slot or 0
        words = self._words.setdefault(bytes(address), {})
        value = computation.state.get_storage(address, slot)
        words[to_hex(slot.to_bytes(32))] = to_hex(value.to_bytes(32))
        self.budget.spend(2 * WORD_BYTES * len(words))
        return dict(words)


def _refund(frame: _Frame, computation: ComputationAPI) -> int:
    return frame.refunds + int(cast(Any, computation).get_gas_meter().gas_refunded)
