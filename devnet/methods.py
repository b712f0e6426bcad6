"""The methods that the devnet serves over JSON-RPC: one short function each, in one table."""

from __future__ import annotations

from collections.abc import Callable

from .. import __version__
from ..channels.hashing import keccak256
from ..channels.ids import Address, to_hex
from . import account_methods, calls, cheats, fee_methods, filters
from . import params as read
from .calls import result_or_raise
from .chain import DevChain
from .errors import TimeRefused
from .method import Method, block_of, machines, state_at
from .overrides import overrides
from .params import LATEST, PENDING, BadParams, BlockAt, Params
from .reorg import Fate, reorganise, snapshots_of
from .served import status, stop
from .tracing import methods as tracing
from .views import (
    block_view,
    mined_transaction_view,
    pending_block_view,
    receipt_view,
    transaction_view,
)

# Chain and accounts


def _chain_id(chain: DevChain, _params: Params) -> object:
    return hex(chain.chain_id)


def _net_version(chain: DevChain, _params: Params) -> object:
    return str(chain.chain_id)


def _client_version(_chain: DevChain, _params: Params) -> object:
    return f"farthing-devnet/v{__version__}"


def _sha3(_chain: DevChain, params: Params) -> object:
    return to_hex(keccak256(params.required(0, read.data)))


def _syncing(_chain: DevChain, _params: Params) -> object:
    return False


def _listening(_chain: DevChain, _params: Params) -> object:
    return True


def _no_quantity(_chain: DevChain, _params: Params) -> object:
    return "0x0"


def _accounts(chain: DevChain, _params: Params) -> object:
    return [to_hex(account.address) for account in chain.accounts]


def _block_number(chain: DevChain, _params: Params) -> object:
    return hex(chain.head.number)


def _balance(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    return hex(chain.balance(address, state_at(chain, params, 1)))


def _code(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    return to_hex(chain.code(address, state_at(chain, params, 1)))


def _storage(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    slot = params.required(1, read.slot)
    return to_hex(chain.storage(address, slot, state_at(chain, params, 2)))


def _nonce(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    if params.optional(1, read.block_at, LATEST).pending:
        return hex(chain.pending_nonce(address))
    return hex(chain.nonce(address, state_at(chain, params, 1)))


# Running messages


def _call(chain: DevChain, params: Params) -> object:
    request = params.required(0, read.call_request)
    at = params.optional(1, read.block_at, LATEST)
    machine = machines(chain, at, overrides(params, 2))()
    return to_hex(result_or_raise(calls.run(machine, request)))


def _estimate_gas(chain: DevChain, params: Params) -> object:
    request = params.required(0, read.call_request)
    at = params.optional(1, read.block_at, PENDING)
    # The newest state means: as if it were mined now.
    at = PENDING if at == LATEST else at
    return hex(calls.estimate(machines(chain, at, overrides(params, 2)), request))


# Transactions


def _send_raw(chain: DevChain, params: Params) -> object:
    return to_hex(chain.submit(params.required(0, read.data)))


def _send(chain: DevChain, params: Params) -> object:
    request = params.required(0, read.call_request)
    return to_hex(chain.send(request, params.required(0, read.call_nonce)))


def _transaction(chain: DevChain, params: Params) -> object:
    found = chain.transaction(params.required(0, read.word))
    if found is None:
        return None
    transaction, receipt = found
    return transaction_view(transaction) if receipt is None else mined_transaction_view(receipt)


def _transaction_in(by_hash: bool) -> Callable[[DevChain, Params], object]:  # noqa: FBT001 - two rows of a table
    def answer(chain: DevChain, params: Params) -> object:
        block = block_of(chain, _block_argument(params, by_hash=by_hash))
        index = params.required(1, read.quantity)
        if block is None or index >= len(block.receipts):
            return None
        return mined_transaction_view(block.receipts[index])

    return answer


def _transaction_count_in(by_hash: bool) -> Callable[[DevChain, Params], object]:  # noqa: FBT001 - two rows of a table
    def answer(chain: DevChain, params: Params) -> object:
        block = block_of(chain, _block_argument(params, by_hash=by_hash))
        return None if block is None else hex(len(block.receipts))

    return answer


def _block_argument(params: Params, *, by_hash: bool) -> BlockAt:
    if by_hash:
        return BlockAt(hash=params.required(0, read.word))
    return params.required(0, read.block_at)


def _receipt(chain: DevChain, params: Params) -> object:
    receipt = chain.receipt(params.required(0, read.word))
    return None if receipt is None else receipt_view(receipt)


# Blocks


def _block_by_number(chain: DevChain, params: Params) -> object:
    at = params.required(0, read.block_at)
    full = params.optional(1, read.flag, default=False)
    if at.pending:
        header, transactions = chain.pending()
        return pending_block_view(header, transactions, full=full)
    block = block_of(chain, at)
    return None if block is None else block_view(block, full=full)


def _block_by_hash(chain: DevChain, params: Params) -> object:
    block = chain.block_by_hash(params.required(0, read.word))
    full = params.optional(1, read.flag, default=False)
    return None if block is None else block_view(block, full=full)


def _block_receipts(chain: DevChain, params: Params) -> object:
    block = block_of(chain, params.required(0, read.block_at))
    return None if block is None else [receipt_view(receipt) for receipt in block.receipts]


# Time and mining


def _increase_time(chain: DevChain, params: Params) -> object:
    return hex(chain.increase_time(params.required(0, read.amount)))


def _set_next_timestamp(chain: DevChain, params: Params) -> object:
    chain.set_next_timestamp(params.required(0, read.amount))
    return None


def _evm_mine(chain: DevChain, params: Params) -> object:
    timestamp = params.optional(0, _mine_timestamp, None)
    if timestamp is not None:
        chain.set_next_timestamp(timestamp)
    chain.mine()
    return "0x0"


def _mine_timestamp(value: object) -> int | None:
    """A timestamp, or an object with one (both forms are in use)."""
    if isinstance(value, dict):
        unknown = set(value) - {"timestamp"}
        if unknown:
            raise BadParams(f"{sorted(unknown)} is not known here: use anvil_mine for many blocks")
        inner = value.get("timestamp")
        return None if inner is None else read.amount(inner)
    return read.amount(value)


def _anvil_mine(chain: DevChain, params: Params) -> object:
    count = params.optional(0, read.amount, 1)
    interval = params.optional(1, read.amount, 1)
    if interval < 1:
        raise TimeRefused(
            "blocks cannot be 0 seconds apart", remedy="give an interval of at least 1 second"
        )
    chain.mine(count, interval)
    return None


# Taking blocks back


def _snapshot(chain: DevChain, _params: Params) -> object:
    return hex(snapshots_of(chain).take(chain))


def _revert(chain: DevChain, params: Params) -> object:
    return snapshots_of(chain).revert(chain, params.required(0, read.amount))


def _reorg(chain: DevChain, params: Params) -> object:
    """Depth, and what becomes of the transactions: again (default), waiting or dropped."""
    depth = params.required(0, read.amount)
    return to_hex(reorganise(chain, depth, params.optional(1, _fate, Fate.AGAIN)).hash)


def _fate(value: object) -> Fate:
    try:
        return Fate(value)
    except ValueError:
        raise BadParams(f"give one of {', '.join(fate.value for fate in Fate)}") from None


def _anvil_reorg(chain: DevChain, params: Params) -> object:
    """Depth; anvil's list of transactions for the new blocks has to be empty here."""
    depth = params.required(0, read.amount)
    params.optional(1, _no_transactions, None)
    reorganise(chain, depth, Fate.DROPPED)
    return None


def _no_transactions(value: object) -> None:
    if value != []:
        raise BadParams("transactions for the new blocks are not taken: use farthing_reorg")


# Permissions: Besu's names, result shapes and words


def _allowlist_accounts(value: object) -> tuple[Address, ...]:
    return read.addresses(value)


def _allow(chain: DevChain, params: Params) -> object:
    chain.allow(params.required(0, _allowlist_accounts))
    return "Success"


def _disallow(chain: DevChain, params: Params) -> object:
    chain.disallow(params.required(0, _allowlist_accounts))
    return "Success"


def _allowlist(chain: DevChain, _params: Params) -> object:
    return [to_hex(address) for address in chain.allowed()]


def _follow_registry(chain: DevChain, params: Params) -> object:
    """The registry's address; null, or nothing, for none."""
    registry = params.optional(0, read.address, None)
    chain.follow(registry)
    return None if registry is None else to_hex(registry)


METHODS: dict[str, Method] = {
    **account_methods.METHODS,
    **cheats.METHODS,
    **fee_methods.METHODS,
    **filters.METHODS,
    **tracing.METHODS,
    "anvil_increaseTime": Method(answer=_increase_time, most=1),
    "anvil_mine": Method(answer=_anvil_mine, most=2),
    "anvil_reorg": Method(answer=_anvil_reorg, most=2),
    "anvil_setNextBlockTimestamp": Method(answer=_set_next_timestamp, most=1),
    "eth_accounts": Method(answer=_accounts, most=0),
    "eth_blockNumber": Method(answer=_block_number, most=0),
    "eth_call": Method(answer=_call, most=4),
    "eth_chainId": Method(answer=_chain_id, most=0),
    "eth_estimateGas": Method(answer=_estimate_gas, most=4),
    "eth_getBalance": Method(answer=_balance, most=2),
    "eth_getBlockByHash": Method(answer=_block_by_hash, most=2),
    "eth_getBlockByNumber": Method(answer=_block_by_number, most=2),
    "eth_getBlockReceipts": Method(answer=_block_receipts, most=1),
    "eth_getBlockTransactionCountByHash": Method(
        answer=_transaction_count_in(by_hash=True), most=1
    ),
    "eth_getBlockTransactionCountByNumber": Method(
        answer=_transaction_count_in(by_hash=False), most=1
    ),
    "eth_getCode": Method(answer=_code, most=2),
    "eth_getStorageAt": Method(answer=_storage, most=3),
    "eth_getTransactionByBlockHashAndIndex": Method(answer=_transaction_in(by_hash=True), most=2),
    "eth_getTransactionByBlockNumberAndIndex": Method(
        answer=_transaction_in(by_hash=False), most=2
    ),
    "eth_getTransactionByHash": Method(answer=_transaction, most=1),
    "eth_getTransactionCount": Method(answer=_nonce, most=2),
    "eth_getTransactionReceipt": Method(answer=_receipt, most=1),
    "eth_sendRawTransaction": Method(answer=_send_raw, most=1),
    "eth_sendTransaction": Method(answer=_send, most=1),
    "eth_syncing": Method(answer=_syncing, most=0),
    "evm_increaseTime": Method(answer=_increase_time, most=1),
    "evm_mine": Method(answer=_evm_mine, most=1),
    "evm_revert": Method(answer=_revert, most=1),
    "evm_setNextBlockTimestamp": Method(answer=_set_next_timestamp, most=1),
    "evm_snapshot": Method(answer=_snapshot, most=0),
    "farthing_followRegistry": Method(answer=_follow_registry, most=1),
    "farthing_reorg": Method(answer=_reorg, most=2),
    "farthing_status": Method(answer=status, most=0),
    "farthing_stop": Method(answer=stop, most=0),
    "hardhat_mine": Method(answer=_anvil_mine, most=2),
    "net_listening": Method(answer=_listening, most=0),
    "net_peerCount": Method(answer=_no_quantity, most=0),
    "net_version": Method(answer=_net_version, most=0),
    "perm_addAccountsToAllowlist": Method(answer=_allow, most=1),
    "perm_getAccountsAllowlist": Method(answer=_allowlist, most=0),
    "perm_removeAccountsFromAllowlist": Method(answer=_disallow, most=1),
    "web3_clientVersion": Method(answer=_client_version, most=0),
    "web3_sha3": Method(answer=_sha3, most=1),
}
