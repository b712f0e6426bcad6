"""Overrides: a state and a block that a single call pretends to find, as geth defines them.

Source: geth's `StateOverride` and `BlockOverrides`. What a call pretends is thrown away with the
machine that it ran on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain as joined
from itertools import islice, repeat
from typing import Final

from eth_typing import Address as EvmAddress
from eth_typing import BlockNumber, Hash32

from ..channels.ids import Address
from . import params as read
from .evm import DevnetVM, context_with
from .params import BadParams, Params

ACCOUNTS_MAX: Final = 1_000
SLOTS_MAX: Final = 10_000
"""Of one account."""
NO_HASH: Final = Hash32(b"")
"""What BLOCKHASH finds where there is no block."""

ACCOUNT_FIELDS: Final = ("balance", "nonce", "code", "state", "stateDiff")
BLOCK_FIELDS: Final = {
    "number": "number",
    "time": "time",
    "gasLimit": "gasLimit",
    "coinbase": "coinbase",
    "feeRecipient": "coinbase",
    "random": "prevRandao",
    "prevRandao": "prevRandao",
    "baseFee": "baseFee",
    "baseFeePerGas": "baseFee",
}
"""Each name that is in use, and the one under which it is kept here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOverride:
    """What an account has instead; None leaves it alone. `state` replaces the whole storage."""

    balance: int | None
    nonce: int | None
    code: bytes | None
    state: tuple[tuple[int, int], ...] | None
    state_diff: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOverride:
    """What the block of a call says instead; None leaves it alone."""

    number: int | None = None
    time: int | None = None
    gas_limit: int | None = None
    coinbase: Address | None = None
    prev_randao: bytes | None = None
    base_fee: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Everything that one call pretends."""

    accounts: tuple[tuple[Address, AccountOverride], ...] = ()
    block: BlockOverride = BlockOverride()

    def apply(self, vm: DevnetVM) -> DevnetVM:
        """Change a machine's state and block; returns it."""
        for address, override in self.accounts:
            _override_account(vm, EvmAddress(address), override)
        if self.accounts:
            # As if a transaction before had done it: what SSTORE costs depends on it.
            vm.state.lock_changes()
        if self.block != BlockOverride():
            _override_block(vm, self.block)
        return vm


NO_OVERRIDES: Final = Overrides()


def _override_account(vm: DevnetVM, address: EvmAddress, override: AccountOverride) -> None:
    state = vm.state
    if override.balance is not None:
        state.set_balance(address, override.balance)
    if override.nonce is not None:
        state.set_nonce(address, override.nonce)
    if override.code is not None:
        state.set_code(address, override.code)
    if override.state is not None:
        state.delete_storage(address)
    for slot, value in (*(override.state or ()), *override.state_diff):
        state.set_storage(address, slot, value)


def _override_block(vm: DevnetVM, block: BlockOverride) -> None:
    state = vm.state
    now = state.execution_context
    number = now.block_number if block.number is None else block.number
    ahead = number - now.block_number
    # Hashes stay with the blocks that have them: later ones, which are pretended, have none.
    hashes = (
        joined(repeat(NO_HASH, ahead), now.prev_hashes)
        if ahead >= 0
        else islice(now.prev_hashes, -ahead, None)
    )
    state.execution_context = context_with(
        now,
        coinbase=now.coinbase if block.coinbase is None else EvmAddress(block.coinbase),
        timestamp=now.timestamp if block.time is None else block.time,
        block_number=BlockNumber(number),
        mix_hash=now.mix_hash if block.prev_randao is None else Hash32(block.prev_randao),
        gas_limit=now.gas_limit if block.gas_limit is None else block.gas_limit,
        prev_hashes=hashes,
    )
    if block.base_fee is not None:
        vm.pretend_base_fee(block.base_fee)


# Reading


def overrides(params: Params, index: int) -> Overrides:
    """The two optional arguments of a call from an index on: state and block overrides."""
    return Overrides(
        accounts=params.optional(index, account_overrides, ()),
        block=params.optional(index + 1, block_override, NO_OVERRIDES.block),
    )


def account_overrides(value: object) -> tuple[tuple[Address, AccountOverride], ...]:
    """A state override: an object from addresses to what is different there."""
    fields = _bounded(value, ACCOUNTS_MAX)
    return tuple(
        (read.address(name), read.named(name, _account_override, each))
        for name, each in fields.items()
    )


def _account_override(value: object) -> AccountOverride:
    fields = read.mapping(value)
    _refuse_unknown(fields, ACCOUNT_FIELDS)
    if fields.get("state") is not None and fields.get("stateDiff") is not None:
        raise BadParams('both "state" and "stateDiff" are set')
    return AccountOverride(
        balance=read.field(fields, "balance", read.quantity),
        nonce=read.field(fields, "nonce", _uint64),
        code=read.field(fields, "code", read.data),
        state=read.field(fields, "state", _slots),
        state_diff=read.field(fields, "stateDiff", _slots) or (),
    )


def _slots(value: object) -> tuple[tuple[int, int], ...]:
    fields = _bounded(value, SLOTS_MAX)
    return tuple((read.slot(name), int.from_bytes(read.word(at))) for name, at in fields.items())


def block_override(value: object) -> BlockOverride:
    """A block override."""
    given = read.mapping(value)
    _refuse_unknown(given, BLOCK_FIELDS)
    fields = {BLOCK_FIELDS[name]: each for name, each in given.items() if each is not None}
    return BlockOverride(
        number=read.field(fields, "number", _uint64),
        time=read.field(fields, "time", _uint64),
        gas_limit=read.field(fields, "gasLimit", _uint64),
        coinbase=read.field(fields, "coinbase", read.address),
        prev_randao=read.field(fields, "prevRandao", read.word),
        base_fee=read.field(fields, "baseFee", read.quantity),
    )


def _uint64(value: object) -> int:
    number = read.quantity(value)
    if number > read.UINT64_MAX:
        raise BadParams(f"{value} is larger than 64 bits")
    return number


def _bounded(value: object, most: int) -> dict[str, object]:
    fields = read.mapping(value)
    if len(fields) > most:
        raise BadParams(f"the object has {len(fields)} entries, want at most {most}")
    return fields


def _refuse_unknown(fields: dict[str, object], known: Collection[str]) -> None:
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise BadParams(f"{unknown[0][:64]!r} cannot be overridden: give {', '.join(known)}")
