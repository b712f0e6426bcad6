"""Changing the chain from outside, under the names of anvil, hardhat and ganache.

What is changed stands at once in the newest state; the next block starts from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from eth.abc import StateAPI
from eth_typing import Address as EvmAddress

from .. import __version__
from ..channels.hashing import keccak256
from ..channels.ids import to_hex
from . import params as read
from .chain import DevChain
from .errors import CheatRefused
from .fees import gas_price
from .method import Method
from .opening import BASE_FEE_WEI_MAX
from .params import BadParams, Params

INTERVAL_MS_MIN: Final = 50
INTERVAL_SECONDS_MAX: Final = 3_600

Answer = Callable[[DevChain, Params], object]


# State


def _set_balance(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    balance = params.required(1, read.amount)
    chain.alter(lambda state: state.set_balance(EvmAddress(address), balance))
    return None


def _set_code(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    code = params.required(1, read.data)
    chain.alter(lambda state: state.set_code(EvmAddress(address), code))
    return None


def _set_nonce(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    nonce = params.required(1, read.amount)
    now = chain.nonce(address)
    if not now <= nonce < read.UINT64_MAX:
        raise CheatRefused(f"the nonce is {now} and cannot become {nonce}: it only grows")
    chain.alter(lambda state: state.set_nonce(EvmAddress(address), nonce))
    return None


def _set_storage(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    slot = params.required(1, read.slot)
    value = int.from_bytes(params.required(2, read.word))

    def change(state: StateAPI) -> None:
        state.set_storage(EvmAddress(address), slot, value)

    chain.alter(change)
    return True


# Senders


def _impersonate(chain: DevChain, params: Params) -> object:
    chain.impersonated.add(params.required(0, read.address))
    return None


def _stop_impersonating(chain: DevChain, params: Params) -> object:
    chain.impersonated.discard(params.required(0, read.address))
    return None


def _impersonate_everybody(chain: DevChain, params: Params) -> object:
    chain.everybody_impersonated = params.required(0, read.flag)
    return None


def _set_coinbase(chain: DevChain, params: Params) -> object:
    chain.coinbase = params.required(0, read.address)
    return None


def _set_base_fee(chain: DevChain, params: Params) -> object:
    base_fee = params.required(0, read.amount)
    if base_fee and not chain.moving_base_fee:
        raise CheatRefused(
            "the base fee of this chain is 0 for ever, as with Besu's zeroBaseFee: "
            "start one with --base-fee"
        )
    if base_fee > BASE_FEE_WEI_MAX:
        raise BadParams(f"{base_fee} wei is out of bounds: give up to {BASE_FEE_WEI_MAX}")
    chain.set_next_base_fee(base_fee)
    return None


# The pool


def _drop(chain: DevChain, params: Params) -> object:
    name = params.required(0, read.word)
    if chain.pool.get(name) is None:
        return None
    chain.pool.drop(name)
    return to_hex(name)


def _drop_all(chain: DevChain, _params: Params) -> object:
    chain.pool.clear()
    return None


def _drop_sender(chain: DevChain, params: Params) -> object:
    chain.pool.drop_sender(params.required(0, read.address))
    return None


# Mining


def _set_automine(chain: DevChain, params: Params) -> object:
    chain.automine = params.required(0, read.flag)
    if chain.automine:
        chain.interval_ms = 0
        chain.mine_ready()
    return None


def _get_automine(chain: DevChain, _params: Params) -> object:
    return chain.automine


def _set_interval(chain: DevChain, params: Params) -> object:
    """In seconds, as anvil has it; 0 leaves mining to evm_mine."""
    chain.interval_ms = round(params.required(0, _seconds) * 1_000)
    chain.automine = False
    return None


def _seconds(value: object) -> float:
    number = value if isinstance(value, float) else read.amount(value)
    if number != 0 and not INTERVAL_MS_MIN / 1_000 <= number <= INTERVAL_SECONDS_MAX:
        raise BadParams(f"give seconds: 0, or {INTERVAL_MS_MIN / 1_000} to {INTERVAL_SECONDS_MAX}")
    return float(number)


def _get_interval(chain: DevChain, _params: Params) -> object:
    return chain.interval_ms / 1_000 if chain.interval_ms else None


# What this is


def _node_info(chain: DevChain, _params: Params) -> object:
    head = chain.head
    return {
        "currentBlockNumber": hex(head.number),
        "currentBlockTimestamp": head.timestamp,
        "currentBlockHash": to_hex(head.hash),
        "hardFork": "Prague",
        "transactionOrder": "fees" if chain.moving_base_fee else "fifo",
        "environment": {
            "baseFee": hex(chain.next_base_fee),
            "chainId": chain.chain_id,
            "gasLimit": hex(head.gas_limit),
            "gasPrice": hex(gas_price(chain)),
        },
        "forkConfig": {"forkUrl": None, "forkBlockNumber": None, "forkRetryBackoff": None},
    }


def _metadata(chain: DevChain, _params: Params) -> object:
    head = chain.head
    first = chain.header(1)
    return {
        "clientVersion": f"farthing-devnet/v{__version__}",
        "chainId": chain.chain_id,
        # The first block's randomness: another one for each chain that is made.
        "instanceId": to_hex(keccak256(b"" if first is None else first.hash)),
        "latestBlockNumber": head.number,
        "latestBlockHash": to_hex(head.hash),
    }


def _under(prefixes: tuple[str, ...], name: str, answer: Answer, most: int) -> dict[str, Method]:
    return {f"{prefix}_{name}": Method(answer=answer, most=most) for prefix in prefixes}


_TOOLS: Final = ("anvil", "hardhat")

METHODS: dict[str, Method] = {
    **_under(_TOOLS, "setBalance", _set_balance, 2),
    **_under(_TOOLS, "setCode", _set_code, 2),
    **_under(_TOOLS, "setNonce", _set_nonce, 2),
    **_under(_TOOLS, "setStorageAt", _set_storage, 3),
    **_under(_TOOLS, "impersonateAccount", _impersonate, 1),
    **_under(_TOOLS, "stopImpersonatingAccount", _stop_impersonating, 1),
    **_under(("anvil",), "autoImpersonateAccount", _impersonate_everybody, 1),
    **_under(_TOOLS, "setCoinbase", _set_coinbase, 1),
    **_under(_TOOLS, "setNextBlockBaseFeePerGas", _set_base_fee, 1),
    **_under(_TOOLS, "dropTransaction", _drop, 1),
    **_under(("anvil",), "dropAllTransactions", _drop_all, 0),
    **_under(("anvil",), "removePoolTransactions", _drop_sender, 1),
    **_under(("evm", "anvil"), "setAutomine", _set_automine, 1),
    **_under(_TOOLS, "getAutomine", _get_automine, 0),
    **_under(("evm", "anvil"), "setIntervalMining", _set_interval, 1),
    **_under(("anvil",), "getIntervalMining", _get_interval, 0),
    **_under(("anvil",), "nodeInfo", _node_info, 0),
    **_under(_TOOLS, "metadata", _metadata, 0),
}

NOT_SERVED: Final[dict[str, str]] = {
    "anvil_reset": "start a new devnet, or go back with evm_revert to an evm_snapshot",
    "hardhat_reset": "start a new devnet, or go back with evm_revert to an evm_snapshot",
    "anvil_dumpState": "keep the chain in a folder with --data",
    "anvil_loadState": "open a chain with --data",
    "anvil_setBlockTimestampInterval": "use evm_setNextBlockTimestamp, or anvil_mine with a count",
    "anvil_setMinGasPrice": "any price is taken that pays the base fee",
    "hardhat_setMinGasPrice": "any price is taken that pays the base fee",
    "hardhat_setPrevRandao": "a block's randomness follows from its parent's",
    "eth_getWork": "blocks are not mined by work here",
    "eth_sendBundle": "send the transactions one by one",
    "trace_transaction": "use debug_traceTransaction with the callTracer",
    "trace_block": "use debug_traceBlockByNumber with the callTracer",
    "eth_simulateV1": "use eth_call or debug_traceCall with overrides",
}
"""Methods of other nodes that are not served, and what to do instead."""
