"""Signs transactions for chains from before EIP-1559, whose blocks have no base fee."""

from __future__ import annotations

from typing import Final

import rlp

from ..channels.client.transaction import Transaction
from ..channels.hashing import keccak256
from ..channels.signing import Signer

_PROTECTED: Final = 35
"""EIP-155: v is twice the chain id and this, or one more."""


def sign_legacy(transaction: Transaction, signer: Signer) -> bytes:
    """The raw legacy transaction, bound to its chain (EIP-155), for `eth_sendRawTransaction`."""
    fields: list[object] = [
        transaction.nonce,
        transaction.fee_per_gas_wei,
        transaction.gas_limit,
        transaction.to,
        0,  # value
        transaction.data,
    ]
    signature = signer.sign_digest(keccak256(rlp.encode([*fields, transaction.chain_id, 0, 0])))
    v = 2 * transaction.chain_id + _PROTECTED + signature[64] - 27
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:64], "big")
    encoded: bytes = rlp.encode([*fields, v, r, s])
    return encoded
