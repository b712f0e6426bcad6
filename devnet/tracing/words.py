"""How a failure is called: geth's words, which tools look for."""

from __future__ import annotations

from eth.abc import ComputationAPI
from eth.exceptions import (
    ContractCreationCollision,
    FullStack,
    InsufficientFunds,
    InsufficientStack,
    InvalidInstruction,
    InvalidJumpDestination,
    OutOfBoundsRead,
    OutOfGas,
    ReservedBytesInCode,
    Revert,
    StackDepthLimit,
    VMError,
    WriteProtection,
)

from .hooks import MNEMONICS

REVERTED = "execution reverted"

_WORDS: tuple[tuple[type[VMError], str], ...] = (
    (Revert, REVERTED),
    (OutOfGas, "out of gas"),
    (InsufficientStack, "stack underflow"),
    (FullStack, "stack limit reached 1024 (1023)"),
    (InvalidJumpDestination, "invalid jump destination"),
    (OutOfBoundsRead, "return data out of bounds"),
    (WriteProtection, "write protection"),
    (ReservedBytesInCode, "invalid code: must not begin with 0xef"),
    (ContractCreationCollision, "contract address collision"),
    (InsufficientFunds, "insufficient balance for transfer"),
    (StackDepthLimit, "max call depth exceeded"),
)


def words_for(error: VMError, computation: ComputationAPI | None = None) -> str:
    """What geth says where py-evm raises this."""
    if isinstance(error, InvalidInstruction) and computation is not None:
        value = getattr(computation, "instruction", 0xFE)
        name = "INVALID" if value == 0xFE else f"opcode {value:#x} not defined"  # noqa: PLR2004 - EIP-141
        return f"invalid opcode: {name}"
    for kind, text in _WORDS:
        if isinstance(error, kind):
            return text
    return f"{type(error).__name__} in {MNEMONICS[getattr(computation, 'instruction', 0)]}"
