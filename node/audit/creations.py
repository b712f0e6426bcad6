"""Reads the transactions that made a deployment's contracts, and proves each by its hash.

Rule: of what an endpoint says of a transaction only what its hash and its signature stand for is
believed. So a record pins who sent which bytes, whoever is asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import rlp

from ...channels.errors import ChainError
from ...channels.hashing import keccak256
from ...channels.ids import ADDRESS_BYTES, WORD_BYTES, Address, to_hex
from ...channels.signing import BadSignature, recover
from .abi import data_from_hex, number_from_hex
from .records import BlockRef

_FEE_MARKET: Final = b"\x02"
"""EIP-2718 number of an EIP-1559 transaction."""
_PROTECTED: Final = 35
"""EIP-155: v is twice the chain id and this, or one more."""


class CreationUnreadable(ChainError):
    """The endpoint does not show a transaction that made a contract, or shows another one."""

    code = "creation-unreadable"
    remedy = "ask a node that keeps all transactions and their index, best one of your own"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A mined transaction: its proven sender, nonce, receiver and bytes, and its block.

    `in_block` is what the endpoint says.
    """

    sender: Address
    nonce: int
    to: bytes
    data: bytes
    in_block: BlockRef

    @property
    def address(self) -> Address:
        """Where the contract is that it makes."""
        return created_address(self.sender, self.nonce)


def created_address(sender: Address, nonce: int) -> Address:
    """The address of what an account's transaction of this nonce creates."""
    encoded: bytes = rlp.encode([sender, nonce])
    return Address(keccak256(encoded)[-ADDRESS_BYTES:])


def read_creation(transaction_hash: bytes, answer: object) -> Creation:
    """Read what `eth_getTransactionByHash` answers; raises `CreationUnreadable`, `ChainError`."""
    name = f"transaction {to_hex(transaction_hash)}"
    if not isinstance(answer, dict) or answer.get("blockNumber") is None:
        raise CreationUnreadable(f"the endpoint shows {name} in no block")
    try:
        to = b"" if answer["to"] is None else data_from_hex(answer["to"])
        fields, signature, prefix = _signed(answer, to)
        encoded: bytes = rlp.encode([*fields, *signature.parts])
        if keccak256(prefix + encoded) != transaction_hash:
            raise CreationUnreadable(f"what the endpoint shows as {name} has another hash")
        signed: bytes = rlp.encode([*fields, *signature.protection])
        return Creation(
            sender=recover(keccak256(prefix + signed), signature.compact()),
            nonce=number_from_hex(answer["nonce"]),
            to=to,
            data=data_from_hex(answer["input"]),
            in_block=BlockRef(
                number=number_from_hex(answer["blockNumber"]),
                hash=data_from_hex(answer["blockHash"]),
            ),
        )
    except (KeyError, OverflowError, BadSignature) as error:
        raise CreationUnreadable(f"what the endpoint shows as {name} is none ({error})") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """As it stands in a transaction, `protection` being what a legacy one signs in its place."""

    v: int
    parity: int
    r: int
    s: int
    protection: tuple[int, ...] = ()

    @property
    def parts(self) -> tuple[int, int, int]:
        return self.v, self.r, self.s

    def compact(self) -> bytes:
        """65 bytes with v 27 or 28."""
        words = (number.to_bytes(WORD_BYTES, "big") for number in (self.r, self.s))
        return b"".join(words) + bytes([27 + self.parity])


def _signed(answer: Mapping[str, Any], to: bytes) -> tuple[list[object], _Signature, bytes]:
    """The fields that are signed, the signature, and the type's prefix."""
    r, s = number_from_hex(answer["r"]), number_from_hex(answer["s"])
    v = number_from_hex(answer.get("yParity") or answer["v"])
    nonce, gas, value = (number_from_hex(answer[key]) for key in ("nonce", "gas", "value"))
    data = data_from_hex(answer["input"])
    kind = number_from_hex(answer.get("type", "0x0"))
    if kind == 0:
        chain_id, parity = divmod(v - _PROTECTED, 2)
        fields = [nonce, number_from_hex(answer["gasPrice"]), gas, to, value, data]
        signature = _Signature(v=v, parity=parity, r=r, s=s, protection=(max(chain_id, 0), 0, 0))
        return fields, signature, b""
    if kind != _FEE_MARKET[0] or answer.get("accessList") or v > 1:
        raise CreationUnreadable(
            f"a transaction of type {kind} is none that `farthing deploy` sends"
        )
    fees = (answer["maxPriorityFeePerGas"], answer["maxFeePerGas"])
    chain_id = number_from_hex(answer["chainId"])
    fields = [chain_id, nonce, *map(number_from_hex, fees), gas, to, value, data, []]
    return fields, _Signature(v=v, parity=v, r=r, s=s), _FEE_MARKET
