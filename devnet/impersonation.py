"""Transactions of accounts whose key nobody has: a signature that names the sender.

Rule of this chain: a legacy transaction whose s is 1 and whose r starts with a mark was sent by the
address in r. Only the devnet makes such ones; whoever sends one in from outside is refused. So a
block that holds one is imported by every chain of this kind with equal roots, and by no other.
"""

from __future__ import annotations

from typing import Any, Final, cast

from eth.abc import SignedTransactionAPI
from eth.vm.forks.prague.blocks import PragueBlock, PragueBlockHeader
from eth.vm.forks.prague.transactions import PragueLegacyTransaction, PragueTransactionBuilder
from eth.vm.forks.shanghai.withdrawals import Withdrawal
from eth_typing import Address as EvmAddress
from rlp.sedes import CountableList

from ..channels.ids import Address
from .records import CallRequest

MARK: Final = int.from_bytes(b"\x0fimpersonate") << 160
MARK_MASK: Final = ((1 << 96) - 1) << 160
S: Final = 1


def impersonated(r: int, s: int) -> Address | None:
    """The address that a signature names, or None for a real one."""
    if s != S or r & MARK_MASK != MARK:
        return None
    return Address((r & ((1 << 160) - 1)).to_bytes(20))


class _Legacy(PragueLegacyTransaction):
    def get_sender(self) -> EvmAddress:
        named = impersonated(self.r, self.s)
        return EvmAddress(named) if named is not None else super().get_sender()

    def check_signature_validity(self) -> None:
        if impersonated(self.r, self.s) is None:
            super().check_signature_validity()


class TransactionBuilder(PragueTransactionBuilder):
    """Prague's, which knows impersonated senders."""

    legacy_signed = _Legacy


class DevnetBlock(PragueBlock):
    """Prague's block, which may hold transactions of impersonated senders."""

    transaction_builder = TransactionBuilder
    fields = [  # noqa: RUF012 - a list in the class above, too
        ("header", PragueBlockHeader),
        ("transactions", CountableList(TransactionBuilder)),
        ("uncles", CountableList(None, max_length=0)),
        ("withdrawals", CountableList(Withdrawal)),
    ]


def unsigned_by(
    request: CallRequest, *, chain_id: int, nonce: int, gas: int
) -> SignedTransactionAPI:
    """A transaction of an account that is impersonated."""
    return cast(
        SignedTransactionAPI,
        cast(Any, _Legacy)(
            nonce=nonce,
            gas_price=request.fee_cap_wei,
            gas=gas,
            to=b"" if request.to is None else request.to,
            value=request.value_wei,
            data=request.data,
            v=2 * chain_id + 35,
            r=MARK | int.from_bytes(request.sender),
            s=S,
        ),
    )
