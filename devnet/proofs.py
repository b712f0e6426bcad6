"""Merkle proofs of accounts and words (EIP-1186)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import rlp
from eth.constants import BLANK_ROOT_HASH, EMPTY_SHA3
from eth.rlp.accounts import Account
from trie.hexary import HexaryTrie

from ..channels.hashing import keccak256
from ..channels.ids import Address, to_hex
from .evm import DevnetVM

HASH_BYTES = 32
WORDS_MAX = 1_000


def proof(machine: DevnetVM, address: Address, slots: Sequence[int]) -> dict[str, object]:
    """The account of an address with the nodes that lead to it, and those of its words."""
    database = machine.chaindb.db
    found, nodes = _lookup(database, machine.state.state_root, keccak256(address))
    account: Any = (
        rlp.decode(found, sedes=Account)
        if found
        else Account(storage_root=BLANK_ROOT_HASH, code_hash=EMPTY_SHA3)
    )
    return {
        "address": to_hex(address),
        "accountProof": nodes,
        "balance": hex(account.balance),
        "codeHash": to_hex(account.code_hash),
        "nonce": hex(account.nonce),
        "storageHash": to_hex(account.storage_root),
        "storageProof": [_word(database, account.storage_root, slot) for slot in slots],
    }


def _word(database: Any, root: bytes, slot: int) -> dict[str, object]:
    found, nodes = _lookup(database, root, keccak256(slot.to_bytes(32)))
    value = int.from_bytes(cast(bytes, rlp.decode(found))) if found else 0
    return {"key": hex(slot), "value": hex(value), "proof": nodes}


def _lookup(database: Any, root: bytes, key: bytes) -> tuple[bytes, list[str]]:
    """What stands under a key, and the nodes on the way; small ones stand inside their parents."""
    if root == BLANK_ROOT_HASH:
        return b"", []
    trie: Any = HexaryTrie(database, root)
    encoded = [rlp.encode(node) for node in trie.get_proof(key)]
    nodes = [
        to_hex(node) for place, node in enumerate(encoded) if place == 0 or len(node) >= HASH_BYTES
    ]
    return bytes(trie.get(key)), nodes
