"""A lane's total can only be one that payments add up to."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.hashing import keccak256
from farthing.channels.ids import ZERO_WORD
from farthing.channels.terms import Side
from farthing.channels.units import NONCE_MAX, TRANSFERRED_MAX, AmountOutOfRange
from farthing.channels.voucher import (
    LaneTotal,
    MalformedVoucher,
    Payment,
    UnverifiedVoucher,
    Voucher,
    extend_history,
    replay,
)

from ..people import CHANNEL, TERMS, lane, payment, voucher

HISTORY = b"\x01" * 32


def total(nonce: int, transferred_ucent: int, history: bytes = HISTORY) -> LaneTotal:
    return LaneTotal(nonce=nonce, transferred_ucent=transferred_ucent, history=history)


@pytest.mark.parametrize("amount", [0, -1, TRANSFERRED_MAX + 1])
def test_a_payment_below_one_microcent_or_above_a_lane_cannot_exist(amount: int) -> None:
    with pytest.raises(AmountOutOfRange):
        Payment(amount_ucent=amount, receipt=payment().receipt)


def test_a_history_extends_by_the_amount_as_a_word_and_the_reference() -> None:
    reference = payment(5).receipt.reference()
    expected = keccak256(ZERO_WORD + (5).to_bytes(32, "big") + reference)
    assert extend_history(ZERO_WORD, 5, reference) == expected


def test_a_lane_counts_payments_adds_amounts_and_chains_their_references() -> None:
    payments = [payment(5, number=1), payment(7, number=2)]
    first, second = replay(LaneTotal(), payments)
    assert (first.nonce, first.transferred_ucent) == (1, 5)
    assert (second.nonce, second.transferred_ucent) == (2, 12)
    assert second.history == extend_history(first.history, 7, payments[1].receipt.reference())
    assert replay(first, payments[1:]) == (second,)
    assert replay(first, []) == ()


def test_the_same_amounts_in_another_order_are_another_history() -> None:
    payments = [payment(5, number=1), payment(5, number=2)]
    there = replay(LaneTotal(), payments)[-1]
    back = replay(LaneTotal(), payments[::-1])[-1]
    assert there.transferred_ucent == back.transferred_ucent
    assert there.history != back.history


@pytest.mark.parametrize(
    ("nonce", "transferred", "history", "why"),
    [
        (-1, 0, HISTORY, "nonce -1"),
        (NONCE_MAX + 1, TRANSFERRED_MAX, HISTORY, "nonce"),
        (2, 1, HISTORY, "1 µ¢ after 2 payments"),
        (1, TRANSFERRED_MAX + 1, HISTORY, "out of range"),
        (1, -1, HISTORY, "out of range"),
        (1, 1, b"", "not 32 bytes"),
        (1, 1, HISTORY + b"\x01", "not 32 bytes"),
        (1, 1, ZERO_WORD, "empty lane"),
        (0, 0, HISTORY, "empty lane"),
        (0, 1, ZERO_WORD, "empty lane"),
    ],
)
def test_a_total_that_no_payments_add_up_to_cannot_exist(
    nonce: int, transferred: int, history: bytes, why: str
) -> None:
    with pytest.raises(MalformedVoucher, match=why):
        total(nonce, transferred, history)


def test_a_lane_is_taken_at_its_bounds_and_not_beyond_them() -> None:
    assert total(NONCE_MAX, TRANSFERRED_MAX).nonce == NONCE_MAX
    for full in (total(NONCE_MAX, NONCE_MAX), total(1, TRANSFERRED_MAX)):
        with pytest.raises(MalformedVoucher):
            full.after(payment())


@pytest.mark.parametrize("kind", [UnverifiedVoucher, Voucher])
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signature": bytes(64)}, "64 bytes is not 65"),
        ({"signature": bytes(66)}, "66 bytes is not 65"),
        ({"conditions": b""}, "conditions"),
        ({"conditions": bytes(33)}, "conditions"),
    ],
)
def test_a_voucher_with_a_misshapen_signature_or_condition_cannot_exist(
    kind: type[Any], changes: dict[str, Any], why: str
) -> None:
    fields = {"channel": CHANNEL, "payer": TERMS.account_a, "total": lane(5)}
    with pytest.raises(MalformedVoucher, match=why):
        kind(**(fields | {"signature": bytes(65)} | changes))


def test_checked_and_unchecked_vouchers_are_never_equal() -> None:
    good = voucher(Side.A, lane(5))
    fields = {name: getattr(good, name) for name in ("channel", "payer", "total", "signature")}
    unchecked: object = UnverifiedVoucher(**fields)
    assert good == replace(good)
    assert good != unchecked
