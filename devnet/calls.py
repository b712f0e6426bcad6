"""Running messages without a block: eth_call and eth_estimateGas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

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

from . import authorizations
from .errors import (
    ExecutionFailed,
    ExecutionReverted,
    FeeCapTooLow,
    FeeOrderWrong,
    GasExceedsAllowance,
    GasTooLow,
    InsufficientFunds,
)
from .evm import GAS_LIMIT, DevnetVM, intrinsic_gas
from .records import CallRequest, CallResult

ERROR_SELECTOR = bytes.fromhex("08c379a0")
"""Error(string), what Solidity and Vyper revert with when a reason is given."""
STIPEND_GAS = 2_300
OUT_OF_GAS = "out of gas"

_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (OutOfGas, OUT_OF_GAS),
    (InvalidJumpDestination, "invalid jump destination"),
    (InvalidInstruction, "invalid opcode"),
    (WriteProtection, "write protection"),
    (ContractCreationCollision, "contract address collision"),
    (EvmInsufficientFunds, "insufficient balance for transfer"),
)


def gas_for(request: CallRequest) -> int:
    """The gas that a message gets: more than a block holds is never mined, and runs for hours."""
    return min(request.gas or GAS_LIMIT, GAS_LIMIT)


def execute(vm: DevnetVM, request: CallRequest, gas: int) -> tuple[ComputationAPI, int]:
    """Run a message on a machine; returns its computation and the gas that it used.

    A price that it names is paid, as its value is; without one gas is free for it. Raises
    `FeeOrderWrong`, `FeeCapTooLow`, `InsufficientFunds`, `GasTooLow`.
    """
    state = vm.state
    cap, tip = request.fee_cap_wei, request.tip_cap_wei
    if tip > cap:
        raise FeeOrderWrong(tip, cap)
    if cap == 0:
        vm.lift_base_fee()
    base_fee = int(state.execution_context.base_fee_per_gas or 0)
    if cap < base_fee:
        raise FeeCapTooLow(request.sender, cap, base_fee)
    balance, cost = state.get_balance(EvmAddress(request.sender)), request.value_wei + gas * cap
    if balance < cost:
        raise InsufficientFunds(balance, cost)
    message = _message(vm, state, request, gas)
    computation = state.apply_transaction(message)
    return computation, int(type(vm).finalize_gas_used(message, computation))


def run(vm: DevnetVM, request: CallRequest, *, gas: int | None = None) -> CallResult:
    """Run a message on a virtual machine whose state is thrown away afterwards.

    Raises what `execute` raises.
    """
    computation, gas_used = execute(vm, request, gas_for(request) if gas is None else gas)
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


def estimate(machine: Callable[[], DevnetVM], request: CallRequest) -> int:
    """The least gas with which the message succeeds; `machine` makes a fresh one for each try.

    Raises what `result_or_raise` raises when it fails even with all the gas there is, and
    `GasExceedsAllowance` where its sender cannot pay for enough of it.
    """
    most = _with_most_gas(machine, request)
    cap = most.gas
    result_or_raise(most.result)

    def succeeds(gas: int) -> bool:
        return run(machine(), request, gas=gas).succeeded

    vm = machine()
    least = intrinsic_gas(_message(vm, vm.state, request, cap))
    # Nearly always what it used is enough. It is not where a call keeps back a 64th (EIP-150),
    # where gas came back at the end (refunds), or where a contract looks at the gas it has.
    used = max(most.result.gas_used, least)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Most:
    gas: int
    result: CallResult


def _with_most_gas(machine: Callable[[], DevnetVM], request: CallRequest) -> _Most:
    """Run a message with all the gas that it may have, and that its sender can pay for."""
    gas, vm = gas_for(request), machine()
    if request.fee_cap_wei == 0:
        return _Most(gas=gas, result=run(vm, request, gas=gas))
    balance = vm.state.get_balance(EvmAddress(request.sender))
    allowance = max(balance - request.value_wei, 0) // request.fee_cap_wei
    if gas <= allowance:
        return _Most(gas=gas, result=run(vm, request, gas=gas))
    try:
        result = run(vm, request, gas=allowance)
    except GasTooLow:
        raise GasExceedsAllowance(allowance) from None
    if result.failure == OUT_OF_GAS:
        raise GasExceedsAllowance(allowance)
    return _Most(gas=allowance, result=result)


def _message(vm: DevnetVM, state: StateAPI, request: CallRequest, gas: int) -> SignedTransactionAPI:
    unsigned = vm.create_unsigned_transaction(
        nonce=state.get_nonce(EvmAddress(request.sender)),
        gas_price=request.fee_cap_wei,
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
        + len(request.authorizations) * authorizations.GAS_EACH
    )
    kind: dict[str, Any] = {}
    if request.authorizations:
        kind = {
            "type_id": authorizations.SET_CODE,
            "authorization_list": authorizations.for_machine(request.authorizations),
        }
    spoof = SpoofTransaction(
        unsigned,
        from_=request.sender,
        max_fee_per_gas=request.fee_cap_wei,
        max_priority_fee_per_gas=request.tip_cap_wei,
        intrinsic_gas=own_gas,
        **kind,
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
