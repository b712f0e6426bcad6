"""Running messages without a block: eth_call and eth_estimateGas."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from eth.abc import ComputationAPI, SignedTransactionAPI, StateAPI
from eth.constants import CREATE_CONTRACT_ADDRESS
from eth.exceptions import (
    ContractCreationCollision,
    InvalidInstruction,
    InvalidJumpDestination,
    OutOfGas,
    Revert,
    WriteProtection,
)
from eth.exceptions import InsufficientFunds as EvmInsufficientFunds
from eth.vm.forks.berlin.constants import (
    ACCESS_LIST_ADDRESS_COST_EIP_2930,
    ACCESS_LIST_STORAGE_KEY_COST_EIP_2930,
)
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode as decode_abi
from eth_abi.exceptions import DecodingError
from eth_typing import Address as EvmAddress

from .errors import ExecutionFailed, ExecutionReverted, GasTooLow, InsufficientFunds
from .evm import GAS_LIMIT, FreeGasVM, intrinsic_gas
from .records import CallRequest, CallResult

ERROR_SELECTOR = bytes.fromhex("08c379a0")
"""Error(string), what Solidity and Vyper revert with when a reason is given."""
STIPEND_GAS = 2_300

_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (OutOfGas, "out of gas"),
    (InvalidJumpDestination, "invalid jump destination"),
    (InvalidInstruction, "invalid opcode"),
    (WriteProtection, "write protection"),
    (ContractCreationCollision, "contract address collision"),
    (EvmInsufficientFunds, "insufficient balance for transfer"),
)


def gas_for(request: CallRequest) -> int:
    """The gas that a message gets: more than a block holds is never mined, and runs for hours."""
    return min(request.gas or GAS_LIMIT, GAS_LIMIT)


def execute(vm: FreeGasVM, request: CallRequest, gas: int) -> tuple[ComputationAPI, int]:
    """Run a message on a machine; returns its computation and the gas that it used.

    The sender's nonce and gas are not charged; its value is. Raises `InsufficientFunds`,
    `GasTooLow`.
    """
    state = vm.state
    balance = state.get_balance(EvmAddress(request.sender))
    if balance < request.value_wei:
        raise InsufficientFunds(balance, request.value_wei)
    message = _message(vm, state, request, gas)
    computation = state.costless_execute_transaction(message)
    return computation, int(type(vm).finalize_gas_used(message, computation))


def run(vm: FreeGasVM, request: CallRequest, *, gas: int | None = None) -> CallResult:
    """Run a message on a virtual machine whose state is thrown away afterwards.

    Raises what `execute` raises.
    """
    computation, gas_used = execute(vm, request, gas or gas_for(request))
    if computation.is_success:
        return CallResult(
            succeeded=True,
            reverted=False,
            output=computation.output,
            gas_used=gas_used,
            failure=None,
        )
    return _failed(computation, gas_used)


def result_or_raise(result: CallResult) -> bytes:
    """The output of a call; raises `ExecutionReverted` or `ExecutionFailed`."""
    if result.succeeded:
        return result.output
    if result.reverted:
        raise ExecutionReverted(result.output, revert_reason(result.output))
    raise ExecutionFailed(result.failure or "execution failed")


def revert_reason(data: bytes) -> str | None:
    """The text of an Error(string), else None."""
    if data[:4] != ERROR_SELECTOR:
        return None
    try:
        reason = decode_abi(["string"], data[4:])[0]
    except (DecodingError, UnicodeDecodeError):
        return None
    return str(reason)


def estimate(machine: Callable[[], FreeGasVM], request: CallRequest) -> int:
    """The least gas with which the message succeeds; `machine` makes a fresh one for each try.

    Raises what `result_or_raise` raises when it fails even with all the gas there is.
    """
    cap = gas_for(request)
    most = run(machine(), request, gas=cap)
    result_or_raise(most)

    def succeeds(gas: int) -> bool:
        return run(machine(), request, gas=gas).succeeded

    vm = machine()
    least = intrinsic_gas(_message(vm, vm.state, request, cap))
    # Nearly always what it used is enough. It is not where a call keeps back a 64th (EIP-150),
    # where gas came back at the end (refunds), or where a contract looks at the gas it has.
    used = max(most.gas_used, least)
    if used >= cap or succeeds(used):
        return min(used, cap)
    failing, enough = used, cap
    guess = (used + STIPEND_GAS) * 64 // 63
    while enough - failing > 1 + failing // 1_000:
        if succeeds(guess):
            enough = guess
        else:
            failing = guess
        # From far below, double; else halve the gap.
        guess = min((failing + enough) // 2, 2 * failing)
    return enough


def _message(
    vm: FreeGasVM, state: StateAPI, request: CallRequest, gas: int
) -> SignedTransactionAPI:
    unsigned = vm.create_unsigned_transaction(
        nonce=state.get_nonce(EvmAddress(request.sender)),
        gas_price=request.gas_price_wei,
        gas=gas,
        to=CREATE_CONTRACT_ADDRESS if request.to is None else EvmAddress(request.to),
        value=request.value_wei,
        data=request.data,
    )
    slots = sum(len(keys) for _, keys in request.access_list)
    own_gas = (
        unsigned.intrinsic_gas
        + len(request.access_list) * ACCESS_LIST_ADDRESS_COST_EIP_2930
        + slots * ACCESS_LIST_STORAGE_KEY_COST_EIP_2930
    )
    spoof = SpoofTransaction(
        unsigned,
        from_=request.sender,
        intrinsic_gas=own_gas,
        access_list=[
            (address, [int.from_bytes(key, "big") for key in keys])
            for address, keys in request.access_list
        ],
    )
    # It has every field of a signed transaction, with a signature that is not looked at.
    message = cast(SignedTransactionAPI, spoof)
    needed = intrinsic_gas(message)
    if gas < needed:
        raise GasTooLow(gas, needed)
    return message


def _failed(computation: ComputationAPI, gas_used: int) -> CallResult:
    error = computation.error
    if isinstance(error, Revert):
        data = error.args[0] if error.args and isinstance(error.args[0], bytes) else b""
        return CallResult(
            succeeded=False, reverted=True, output=data, gas_used=gas_used, failure=None
        )
    texts = (text for kind, text in _FAILURES if isinstance(error, kind))
    text = next(texts, f"execution failed ({type(error).__name__})")
    return CallResult(succeeded=False, reverted=False, output=b"", gas_used=gas_used, failure=text)
