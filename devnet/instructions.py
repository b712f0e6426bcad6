"""The commonest instructions of the machine, run in one Python call where py-evm needs five.

Rule: each does what py-evm's own does in the plain case, and hands over to that one, with nothing
touched, in every other: too little gas, a stack too short or too full, memory that has to grow,
the end of the code, a jump to where none was yet. Half of the time of a call goes into these.
A traced machine runs py-evm's own, and so does the test that compares them.
"""
# ruff: noqa: SLF001 - py-evm offers its computation's parts under no other name

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES

Instruction = Callable[[Any], None]

BASE_GAS, VERY_LOW_GAS, HIGH_GAS, JUMPDEST_GAS = 2, 3, 10, 1
STACK_MAX: Final = 1_024
WORD: Final = 32
WORD_MASK: Final = (1 << 256) - 1
SHIFT_MAX: Final = 256
JUMPDEST: Final = 0x5B


def _own(value: int) -> Instruction:
    """Py-evm's instruction."""
    return cast(Instruction, PRAGUE_OPCODES[value])


def _push(value: int, size: int) -> Instruction:
    own = _own(value)

    def push(computation: Any) -> None:
        meter, values = computation._gas_meter, computation._stack.values
        code = computation.code
        end = code.program_counter + size
        if (
            meter.gas_remaining < VERY_LOW_GAS
            or len(values) >= STACK_MAX
            or end > code._length_cache
        ):
            own(computation)
            return
        meter.gas_remaining -= VERY_LOW_GAS
        values.append(code._raw_code_bytes[code.program_counter : end])
        code.program_counter = end

    return push


def _dup(value: int, place: int) -> Instruction:
    own = _own(value)

    def dup(computation: Any) -> None:
        meter, values = computation._gas_meter, computation._stack.values
        if meter.gas_remaining < VERY_LOW_GAS or not place <= len(values) < STACK_MAX:
            own(computation)
            return
        meter.gas_remaining -= VERY_LOW_GAS
        values.append(values[-place])

    return dup


def _swap(value: int, place: int) -> Instruction:
    own = _own(value)
    other = -1 - place

    def swap(computation: Any) -> None:
        meter, values = computation._gas_meter, computation._stack.values
        if meter.gas_remaining < VERY_LOW_GAS or len(values) <= place:
            own(computation)
            return
        meter.gas_remaining -= VERY_LOW_GAS
        values[-1], values[other] = values[other], values[-1]

    return swap


def _binary(value: int, result: Callable[[int, int], int]) -> Instruction:
    """One of two words from the top, the topmost first, that leaves one."""
    own = _own(value)

    def binary(computation: Any) -> None:
        meter, values = computation._gas_meter, computation._stack.values
        if meter.gas_remaining < VERY_LOW_GAS or len(values) < 2:  # noqa: PLR2004 - two words
            own(computation)
            return
        meter.gas_remaining -= VERY_LOW_GAS
        left, right = values.pop(), values[-1]
        values[-1] = result(
            int.from_bytes(left) if isinstance(left, bytes) else left,
            int.from_bytes(right) if isinstance(right, bytes) else right,
        )

    return binary


def _pop(computation: Any) -> None:
    meter, values = computation._gas_meter, computation._stack.values
    if meter.gas_remaining < BASE_GAS or not values:
        _OWN_POP(computation)
        return
    meter.gas_remaining -= BASE_GAS
    values.pop()


def _is_zero(computation: Any) -> None:
    meter, values = computation._gas_meter, computation._stack.values
    if meter.gas_remaining < VERY_LOW_GAS or not values:
        _OWN_ISZERO(computation)
        return
    meter.gas_remaining -= VERY_LOW_GAS
    word = values[-1]
    values[-1] = int((int.from_bytes(word) if isinstance(word, bytes) else word) == 0)


def _load(computation: Any) -> None:
    meter, values = computation._gas_meter, computation._stack.values
    if meter.gas_remaining >= VERY_LOW_GAS and values:
        memory, word = computation._memory._bytes, values[-1]
        start = int.from_bytes(word) if isinstance(word, bytes) else word
        if start + WORD <= len(memory):
            meter.gas_remaining -= VERY_LOW_GAS
            values[-1] = bytes(memory[start : start + WORD])
            return
    _OWN_MLOAD(computation)


def _store(computation: Any) -> None:
    meter, values = computation._gas_meter, computation._stack.values
    if meter.gas_remaining >= VERY_LOW_GAS and len(values) >= 2:  # noqa: PLR2004 - place and word
        memory, word = computation._memory._bytes, values[-1]
        start = int.from_bytes(word) if isinstance(word, bytes) else word
        if start + WORD <= len(memory):
            meter.gas_remaining -= VERY_LOW_GAS
            stored = values[-2]
            del values[-2:]
            memory[start : start + WORD] = (
                stored.rjust(WORD, b"\0") if isinstance(stored, bytes) else stored.to_bytes(WORD)
            )
            return
    _OWN_MSTORE(computation)


def _jump_if(computation: Any) -> None:
    meter, values = computation._gas_meter, computation._stack.values
    if meter.gas_remaining >= HIGH_GAS and len(values) >= 2:  # noqa: PLR2004 - place and condition
        condition = values[-2]
        if not (int.from_bytes(condition) if isinstance(condition, bytes) else condition):
            meter.gas_remaining -= HIGH_GAS
            del values[-2:]
            return
    _OWN_JUMPI(computation)


def _jump_destination(computation: Any) -> None:
    meter = computation._gas_meter
    if meter.gas_remaining < JUMPDEST_GAS:
        _OWN_JUMPDEST(computation)
        return
    meter.gas_remaining -= JUMPDEST_GAS


def _shifted_left(shift: int, word: int) -> int:
    return (word << shift) & WORD_MASK if shift < SHIFT_MAX else 0


def _shifted_right(shift: int, word: int) -> int:
    return word >> shift if shift < SHIFT_MAX else 0


_BINARY: Final[Mapping[int, Callable[[int, int], int]]] = {
    0x01: lambda left, right: (left + right) & WORD_MASK,
    0x03: lambda left, right: (left - right) & WORD_MASK,
    0x10: lambda left, right: int(left < right),
    0x11: lambda left, right: int(left > right),
    0x14: lambda left, right: int(left == right),
    0x16: operator.and_,
    0x17: operator.or_,
    0x18: operator.xor,
    0x1B: _shifted_left,
    0x1C: _shifted_right,
}
_OWN_ISZERO, _OWN_POP, _OWN_MLOAD, _OWN_MSTORE = _own(0x15), _own(0x50), _own(0x51), _own(0x52)
_OWN_JUMPI, _OWN_JUMPDEST = _own(0x57), _own(JUMPDEST)

QUICK: Final[Mapping[int, Instruction]] = {
    **{value: _binary(value, result) for value, result in _BINARY.items()},
    0x15: _is_zero,
    0x50: _pop,
    0x51: _load,
    0x52: _store,
    0x57: _jump_if,
    JUMPDEST: _jump_destination,
    **{0x5F + size: _push(0x5F + size, size) for size in range(1, 33)},
    **{0x7F + place: _dup(0x7F + place, place) for place in range(1, 17)},
    **{0x8F + place: _swap(0x8F + place, place) for place in range(1, 17)},
}
"""By opcode."""


class QuickComputation(PragueComputation):
    """Prague's computation with these instructions in the place of its own."""

    opcodes = {**PRAGUE_OPCODES, **QUICK}  # type: ignore[dict-item] # noqa: RUF012 - as in the class above
