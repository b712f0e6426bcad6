"""Listening to py-evm: a computation class that tells a tracer of each call, step and log.

Rule: a tracer only listens. What a traced machine does is what the same machine does untraced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from eth.abc import ComputationAPI, MessageAPI, StateAPI, TransactionContextAPI
from eth.exceptions import Halt, VMError
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.logic.invalid import InvalidOpcode

from ..authorizations import delegate_of
from ..errors import TraceTooLarge
from ..evm import DevnetVM

TRACE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of one answer, roughly; a settlement of 300 rows is a third of it without memory."""

CALL, CALLCODE, DELEGATECALL, STATICCALL = 0xF1, 0xF2, 0xF4, 0xFA
CREATE, CREATE2, SELFDESTRUCT = 0xF0, 0xF5, 0xFF
SLOAD, SSTORE = 0x54, 0x55
BALANCE, EXTCODESIZE, EXTCODECOPY, EXTCODEHASH = 0x31, 0x3B, 0x3C, 0x3F
CALLS: Final = (CALL, CALLCODE, DELEGATECALL, STATICCALL)
CREATIONS: Final = (CREATE, CREATE2)
LOOKS: Final = (BALANCE, EXTCODESIZE, EXTCODECOPY, EXTCODEHASH, SELFDESTRUCT)
"""Instructions whose first argument is the address of an account."""

SHA3: Final = 0x20


def _mnemonic(value: int) -> str:
    if value == SHA3:
        return "KECCAK256"
    known = PRAGUE_OPCODES.get(value)
    if known is None:
        return "INVALID"
    return str(getattr(known, "mnemonic", None) or cast(Any, known).__wrapped__.mnemonic)


MNEMONICS: Final = tuple(_mnemonic(value) for value in range(256))


class Budget:
    """How large an answer may become, shared by all traces in it."""

    def __init__(self, left: int = TRACE_BYTES_MAX) -> None:
        self._left = left

    def spend(self, size_bytes: int) -> None:
        """Take a part of it; raises `TraceTooLarge` when there is none left."""
        self._left -= size_bytes
        if self._left < 0:
            raise TraceTooLarge(TRACE_BYTES_MAX)


class Tracer:
    """Hears what a machine does; what a kind of tracer does not care for it leaves as it is."""

    def enter(self, kind: int, message: MessageAPI, parent: ComputationAPI | None) -> None:
        """A call or creation begins; `kind` is the instruction that made it."""

    def delegated(self, address: bytes) -> None:
        """The transaction's own call runs the code of this account in the place of its target's."""

    def leave(self, computation: ComputationAPI) -> None:
        """It has ended, one way or the other."""

    def abandon(self) -> None:
        """It came to nothing before its first step, and its caller fails."""

    def before(self, instruction: int, computation: ComputationAPI) -> None:
        """An instruction is about to run."""

    def after(self, computation: ComputationAPI, error: VMError | None) -> None:
        """The instruction has run, or failed."""

    def logged(self, address: bytes, topics: tuple[int, ...], data: bytes) -> None:
        """An event was logged."""


def traced(vm: DevnetVM, tracer: Tracer) -> DevnetVM:
    """Let a tracer hear what a machine does from now on; returns the machine."""
    computation = type(
        "TracedComputation",
        (_TracedComputation,),
        {"tracer": tracer, "opcodes": _listening(tracer)},
    )
    cast(Any, vm.state).computation_class = computation
    return vm


def stack_of(computation: ComputationAPI) -> list[int]:
    """The stack's words, the top one last."""
    values: list[int | bytes] = cast(Any, computation)._stack.values  # noqa: SLF001 - no other way
    return [value if isinstance(value, int) else int.from_bytes(value) for value in values]


def top_of(computation: ComputationAPI, place: int = 0) -> int | None:
    """A word of the stack, counted from the top; None where it is too short."""
    values: list[int | bytes] = cast(Any, computation)._stack.values  # noqa: SLF001 - no other way
    if len(values) <= place:
        return None
    value = values[-1 - place]
    return value if isinstance(value, int) else int.from_bytes(value)


def memory_of(computation: ComputationAPI) -> bytes:
    """The memory as it is."""
    memory = cast(Any, computation)._memory  # noqa: SLF001 - no other way
    return bytes(memory.read_bytes(0, len(memory)))


def account_looked_at(instruction: int, computation: ComputationAPI) -> bytes | None:
    """The account that an instruction is about to look at, or None."""
    if instruction in LOOKS:
        word = top_of(computation)
    elif instruction in CALLS:
        word = top_of(computation, 1)
    else:
        return None
    return None if word is None else word.to_bytes(32)[12:]


class _TracedComputation(PragueComputation):
    tracer: Tracer
    instruction = 0

    @classmethod
    def apply_message(
        cls,
        state: StateAPI,
        message: MessageAPI,
        transaction_context: TransactionContextAPI,
        parent_computation: ComputationAPI | None = None,
    ) -> ComputationAPI:
        if message.is_create:  # it is a part of what apply_create_message does
            return super().apply_message(state, message, transaction_context, parent_computation)
        cls.tracer.enter(_kind(parent_computation, CALL), message, parent_computation)
        if parent_computation is None:
            delegate = delegate_of(state.get_code(message.to))
            if delegate is not None:
                cls.tracer.delegated(delegate)
        try:
            done = super().apply_message(state, message, transaction_context, parent_computation)
        except VMError:
            cls.tracer.abandon()
            raise
        cls.tracer.leave(done)
        return done

    @classmethod
    def apply_create_message(
        cls,
        state: StateAPI,
        message: MessageAPI,
        transaction_context: TransactionContextAPI,
        parent_computation: ComputationAPI | None = None,
    ) -> ComputationAPI:
        cls.tracer.enter(_kind(parent_computation, CREATE), message, parent_computation)
        try:
            done = super().apply_create_message(
                state, message, transaction_context, parent_computation
            )
        except VMError:
            cls.tracer.abandon()
            raise
        cls.tracer.leave(done)
        return done

    def add_log_entry(self, account: Any, topics: tuple[int, ...], data: bytes) -> None:
        super().add_log_entry(account, topics, data)
        self.tracer.logged(bytes(account), topics, data)


def _kind(parent: ComputationAPI | None, root: int) -> int:
    return root if parent is None else cast(_TracedComputation, parent).instruction


def _listening(tracer: Tracer) -> dict[int, Callable[..., None]]:
    """Every instruction, the unknown ones too, with a tracer that hears it."""

    def listening(value: int) -> Callable[..., None]:
        run = cast(Callable[..., None], PRAGUE_OPCODES.get(value) or InvalidOpcode(value))

        def instruction(computation: ComputationAPI) -> None:
            cast(_TracedComputation, computation).instruction = value
            tracer.before(value, computation)
            try:
                run(computation=computation)
            except Halt:
                tracer.after(computation, None)
                raise
            except VMError as error:
                tracer.after(computation, error)
                raise
            tracer.after(computation, None)

        return instruction

    return {value: listening(value) for value in range(256)}
