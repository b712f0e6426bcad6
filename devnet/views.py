"""Blocks, transactions, receipts and logs as the JSON objects of the Ethereum JSON-RPC.

Source: ethereum/execution-apis. Quantities are hex without leading zeros, bytes are hex.
"""

from __future__ import annotations

from ..channels.ids import to_hex
from .records import Block, Header, Log, Receipt, Transaction

Json = dict[str, object]


def header_view(header: Header) -> Json:
    """The fields of a block that stand in its header."""
    return {
        "number": hex(header.number),
        "hash": to_hex(header.hash),
        "parentHash": to_hex(header.parent_hash),
        "timestamp": hex(header.timestamp),
        "stateRoot": to_hex(header.state_root),
        "transactionsRoot": to_hex(header.transactions_root),
        "receiptsRoot": to_hex(header.receipts_root),
        "withdrawalsRoot": to_hex(header.withdrawals_root),
        "parentBeaconBlockRoot": to_hex(header.parent_beacon_root),
        "requestsHash": to_hex(header.requests_hash),
        "sha3Uncles": to_hex(header.uncles_hash),
        "logsBloom": to_hex(header.bloom),
        "miner": to_hex(header.miner),
        "mixHash": to_hex(header.mix_hash),
        "nonce": to_hex(header.nonce),
        "extraData": to_hex(header.extra_data),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "baseFeePerGas": hex(header.base_fee),
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "uncles": [],
        "withdrawals": [],
    }


def head_view(header: Header) -> Json:
    """A header as a subscriber to new heads gets it: without what does not stand in it."""
    beyond = ("totalDifficulty", "uncles", "withdrawals")
    return {name: value for name, value in header_view(header).items() if name not in beyond}


def block_view(block: Block, *, full: bool) -> Json:
    """A mined block; `full` gives whole transactions instead of hashes."""
    transactions: list[object] = [
        mined_transaction_view(receipt) if full else to_hex(receipt.transaction.hash)
        for receipt in block.receipts
    ]
    return {
        **header_view(block.header),
        "size": hex(block.size_bytes),
        "transactions": transactions,
    }


def pending_block_view(
    header: Header, transactions: tuple[Transaction, ...], *, full: bool
) -> Json:
    """The block that would be mined now: what is not known yet is null."""
    return {
        **header_view(header),
        "hash": None,
        "nonce": None,
        "miner": None,
        "logsBloom": None,
        "size": "0x0",
        "transactions": [
            transaction_view(each) if full else to_hex(each.hash) for each in transactions
        ],
    }


def transaction_view(transaction: Transaction) -> Json:
    """A transaction that waits: it has no place in a block yet."""
    view: Json = {
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        "hash": to_hex(transaction.hash),
        "type": hex(transaction.kind),
        "from": to_hex(transaction.sender),
        "to": None if transaction.to is None else to_hex(transaction.to),
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas),
        "gasPrice": hex(transaction.max_fee_wei),
        "value": hex(transaction.value_wei),
        "input": to_hex(transaction.data),
        "v": hex(transaction.v),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if transaction.chain_id is not None:
        view["chainId"] = hex(transaction.chain_id)
    if transaction.kind > 0:
        view["yParity"] = hex(transaction.y_parity)
        view["accessList"] = [
            {"address": to_hex(address), "storageKeys": [to_hex(key) for key in keys]}
            for address, keys in transaction.access_list
        ]
    if transaction.kind > 1:
        view["maxFeePerGas"] = hex(transaction.max_fee_wei)
        view["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_wei)
    if transaction.authorizations:
        view["authorizationList"] = [
            {
                "chainId": hex(each.chain_id),
                "address": to_hex(each.address),
                "nonce": hex(each.nonce),
                "yParity": hex(each.y_parity),
                "r": hex(each.r),
                "s": hex(each.s),
            }
            for each in transaction.authorizations
        ]
    return view


def mined_transaction_view(receipt: Receipt) -> Json:
    """A transaction in its block."""
    return {
        **transaction_view(receipt.transaction),
        "blockHash": to_hex(receipt.block_hash),
        "blockNumber": hex(receipt.block_number),
        "transactionIndex": hex(receipt.transaction_index),
        "gasPrice": hex(receipt.gas_price_wei),
    }


def receipt_view(receipt: Receipt) -> Json:
    """A receipt; `gasUsed` is the transaction's own."""
    transaction = receipt.transaction
    return {
        "transactionHash": to_hex(transaction.hash),
        "transactionIndex": hex(receipt.transaction_index),
        "blockHash": to_hex(receipt.block_hash),
        "blockNumber": hex(receipt.block_number),
        "from": to_hex(transaction.sender),
        "to": None if transaction.to is None else to_hex(transaction.to),
        "contractAddress": (
            None if receipt.contract_address is None else to_hex(receipt.contract_address)
        ),
        "status": hex(receipt.succeeded),
        "gasUsed": hex(receipt.gas_used),
        "cumulativeGasUsed": hex(receipt.cumulative_gas_used),
        "effectiveGasPrice": hex(receipt.gas_price_wei),
        "logsBloom": to_hex(receipt.bloom),
        "logs": [log_view(log) for log in receipt.logs],
        "type": hex(transaction.kind),
    }


def log_view(log: Log, *, removed: bool = False) -> Json:
    """An event; `removed` where its block was taken back."""
    return {
        "address": to_hex(log.address),
        "topics": [to_hex(topic) for topic in log.topics],
        "data": to_hex(log.data),
        "blockNumber": hex(log.block_number),
        "blockHash": to_hex(log.block_hash),
        "transactionHash": to_hex(log.transaction_hash),
        "transactionIndex": hex(log.transaction_index),
        "logIndex": hex(log.log_index),
        "removed": removed,
    }
