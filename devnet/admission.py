"""Which transactions are taken: the checks of a real node's pool, in its order and words."""

from __future__ import annotations

from dataclasses import dataclass

from eth.abc import SignedTransactionAPI
from eth.constants import SECPK1_N

from ..channels.ids import Address
from .errors import (
    BadSignature,
    FeeOrderWrong,
    GasTooHigh,
    GasTooLow,
    InsufficientFunds,
    NonceTooLow,
    OversizedTransaction,
    SenderNotAllowed,
    WrongChainId,
)
from .evm import GAS_LIMIT, intrinsic_gas
from .records import Transaction

TRANSACTION_BYTES_MAX = 512 * 1024
"""Three times a settlement of 300 rows (173 kB). geth's pool stops at 128 KiB, Besu's does not."""
INIT_CODE_BYTES_MAX = 49_152
"""EIP-3860."""
NONCE_MAX = 2**64 - 2
"""EIP-2681."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the chain knows of a sender now; `registry` is what it was looked up in, if anything."""

    allowed: bool
    nonce: int
    balance_wei: int
    registry: Address | None = None


def check(
    record: Transaction, signed: SignedTransactionAPI, *, chain_id: int, standing: Standing
) -> None:
    """Refuse a transaction that can never be mined from here; raises a `TransactionRefused`."""
    if record.to is None and len(record.data) > INIT_CODE_BYTES_MAX:
        raise OversizedTransaction(len(record.data), INIT_CODE_BYTES_MAX, what="init code")
    if record.chain_id != chain_id:
        raise WrongChainId(record.chain_id, chain_id)
    if not 0 < record.s <= SECPK1_N // 2:
        raise BadSignature("invalid sender: the signature's s is too high")
    if not standing.allowed:
        raise SenderNotAllowed(record.sender, standing.registry)
    if record.max_priority_fee_wei > record.max_fee_wei:
        raise FeeOrderWrong(record.max_priority_fee_wei, record.max_fee_wei)
    if record.gas > GAS_LIMIT:
        raise GasTooHigh(record.gas, GAS_LIMIT)
    needed = intrinsic_gas(signed)
    if record.gas < needed:
        raise GasTooLow(record.gas, needed)
    if not standing.nonce <= record.nonce <= NONCE_MAX:
        raise NonceTooLow(record.nonce, standing.nonce)
    cost = record.value_wei + record.gas * record.max_fee_wei
    if standing.balance_wei < cost:
        raise InsufficientFunds(standing.balance_wei, cost)


def check_size(size_bytes: int) -> None:
    """Refuse a raw transaction before it is read; raises `OversizedTransaction`."""
    if size_bytes > TRANSACTION_BYTES_MAX:
        raise OversizedTransaction(size_bytes, TRANSACTION_BYTES_MAX)
