"""Payments, the running history of a lane, and the voucher that promises its total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import LocalError
from .hashing import keccak256
from .ids import WORD_BYTES, ZERO_WORD, Address, ChannelId
from .receipt import Receipt
from .units import NONCE_MAX, TRANSFERRED_MAX, check_amount

SIGNATURE_BYTES = 65
"""r, s, v with v 27 or 28 and a low s: the one format there is."""


class MalformedVoucher(LocalError):
    """A voucher whose fields cannot be those of any lane."""

    code = "malformed-voucher"
    remedy = "drop it: no payer may sign it and no contract would settle it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment: an amount of at least 1 µ¢ and the receipt that says what it was for."""

    amount_ucent: int
    receipt: Receipt

    def __post_init__(self) -> None:
        check_amount(self.amount_ucent)


def extend_history(history: bytes, amount_ucent: int, reference: bytes) -> bytes:
    """keccak256(history ‖ uint256(amount) ‖ reference): 32 bytes, starting from 32 zero bytes."""
    return keccak256(history + amount_ucent.to_bytes(32, "big") + reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTotal:
    """A lane after `nonce` payments: the cumulative µ¢ and the history over all of them."""

    nonce: int = 0
    transferred_ucent: int = 0
    history: bytes = ZERO_WORD

    def __post_init__(self) -> None:
        if not 0 <= self.nonce <= NONCE_MAX:
            raise MalformedVoucher(f"nonce {self.nonce} is out of range")
        if not self.nonce <= self.transferred_ucent <= TRANSFERRED_MAX:
            raise MalformedVoucher(
                f"{self.transferred_ucent} µ¢ after {self.nonce} payments is out of range"
            )
        if len(self.history) != WORD_BYTES:
            raise MalformedVoucher("the history is not 32 bytes")
        if (self.nonce == 0) != (self.history == ZERO_WORD) or (
            self.nonce == 0 and self.transferred_ucent != 0
        ):
            raise MalformedVoucher("an empty lane has no history and no total, any other has both")

    def after(self, payment: Payment) -> LaneTotal:
        """The lane one payment later; raises `MalformedVoucher` where a counter would overflow."""
        return LaneTotal(
            nonce=self.nonce + 1,
            transferred_ucent=self.transferred_ucent + payment.amount_ucent,
            history=extend_history(self.history, payment.amount_ucent, payment.receipt.reference()),
        )


def replay(start: LaneTotal, payments: Iterable[Payment]) -> tuple[LaneTotal, ...]:
    """The lane after each payment, in order."""
    totals: list[LaneTotal] = []
    for payment in payments:
        start = start.after(payment)
        totals.append(start)
    return tuple(totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SignedTotal:
    channel: ChannelId
    payer: Address
    total: LaneTotal
    conditions: bytes = ZERO_WORD
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.signature) != SIGNATURE_BYTES:
            raise MalformedVoucher(f"a signature of {len(self.signature)} bytes is not 65")
        if len(self.conditions) != WORD_BYTES:
            raise MalformedVoucher("the conditions are not 32 bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedVoucher(_SignedTotal):
    """A voucher that somebody sent; only `signing.verify_voucher` turns it into a `Voucher`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher(_SignedTotal):
    """A voucher whose signature was made or verified by this process's own `signing`."""
