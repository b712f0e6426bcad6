"""Blocks as records, the newest of them kept, and forgotten again where a chain takes them back."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import rlp
from eth.abc import BlockHeaderAPI
from eth.chains.base import Chain
from eth.db.schema import SchemaV1
from eth.rlp.sedes import chain_gaps
from eth_typing import BlockNumber, Hash32

from .evm import block_size, header_record, receipt_records, transaction_record
from .pool import Undone
from .records import Block

BLOCKS_CACHED: Final = 256


class BlockRecords:
    """Reads blocks of one chain; a record is found by its block's hash."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    def read(self, header: BlockHeaderAPI) -> Block:
        """The block of a header that the chain holds."""
        cached = self._blocks.get(header.hash)
        if cached is not None:
            self._blocks.move_to_end(header.hash)
            return cached
        block = self._chain.get_block_by_header(header)
        transactions = tuple(transaction_record(each) for each in block.transactions)
        receipts = block.get_receipts(self._chain.chaindb)
        return self.remember(
            Block(
                header=header_record(header),
                transactions=transactions,
                receipts=receipt_records(header, transactions, receipts),
                size_bytes=block_size(block),
            )
        )

    def remember(self, block: Block) -> Block:
        """Keep a block that was just made, in place of the one that was asked for longest ago."""
        self._blocks[block.header.hash] = block
        if len(self._blocks) > BLOCKS_CACHED:
            self._blocks.popitem(last=False)
        return block


def take_back(chain: Chain, fork: BlockHeaderAPI, newest: int) -> tuple[Undone, ...]:
    """Forget the blocks after `fork`, through `newest`; returns what they held, oldest first.

    Within one writing of the store, which then has to forget their logs.
    """
    undone: list[Undone] = []
    database = chain.chaindb.db
    for above in range(fork.block_number + 1, newest + 1):
        header = chain.get_canonical_block_header_by_number(BlockNumber(above))
        for signed in chain.get_block_by_header(header).transactions:
            record = transaction_record(signed)
            undone.append(Undone(record=record, signed=signed))
            lookup = SchemaV1.make_transaction_hash_to_block_lookup_key(Hash32(record.hash))
            del database[lookup]
        del database[SchemaV1.make_block_number_to_hash_lookup_key(BlockNumber(above))]
    database[SchemaV1.make_canonical_head_hash_lookup_key()] = fork.hash
    gaps = rlp.encode(((), fork.block_number + 1), sedes=chain_gaps)  # none, up to the new head
    database[SchemaV1.make_header_chain_gaps_lookup_key()] = gaps
    database[SchemaV1.make_chain_gaps_lookup_key()] = gaps
    return tuple(undone)
