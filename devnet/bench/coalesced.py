"""`farthing bench coalesced`: many payments under one signature, each with its receipt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...channels.client.payments import usage_payment
from .checked import expect
from .pair import Orders, Paid, Stand, open_stand
from .sides import measured, profiles, side_by_side
from .stage import AMOUNT_UCENT, PURPOSE, moment

PAYMENTS = 20_000
ROUNDS = 5
PER_SIGNATURE = 512
WINDOW = 2_048
RECEIPT_BYTES_MIN = 64
_MICRO = 1e6


def receipt_bytes() -> int:
    """What one payment's receipt takes, its salt aside."""
    return len(usage_payment(AMOUNT_UCENT, PURPOSE, moment(), None).receipt.cbor)


def bench_coalesced(
    *, payments: int = PAYMENTS, rounds: int = ROUNDS, within: Path | None = None
) -> dict[str, Any]:
    """Measure without and with TLS; raises `FigureVoid`."""
    expect("a receipt of 64 bytes or more", receipt_bytes() >= RECEIPT_BYTES_MIN, expected=True)
    orders = Orders(
        payments=payments,
        rounds=rounds,
        warm_up=payments // 10,
        window=WINDOW,
        per_signature=PER_SIGNATURE,
    )
    with open_stand(within, quick=payments < PAYMENTS) as stand:
        plain, checked = measured(stand, "plain", orders)
        tls, _ = measured(stand, "tls", replace(orders, tls=True))
        profiled, _ = measured(stand, "profile", replace(orders, rounds=1, profile=True))
        return _record(stand, (plain, tls, profiled), checked)


def _record(stand: Stand, done: tuple[Paid, Paid, Paid], checked: dict[str, Any]) -> dict[str, Any]:
    plain, tls, profiled = done
    rate = plain.middle_of(lambda one: one.per_second)
    busiest_us = plain.middle_of(lambda one: max(one.payer_us, one.payee_us))
    return {
        "benchmark": "coalesced",
        "payments_per_second": round(rate, 1),
        "payments_per_second_by_cpu": round(_MICRO / busiest_us, 1),
        "p50_ms": round(plain.middle_of(lambda one: one.times["p50_ms"]), 3),
        "p99_ms": round(plain.middle_of(lambda one: one.times["p99_ms"]), 3),
        "verify_limit_per_second": round(_MICRO / stand.record()["limits"]["verify_us"], 1),
        "receipt_bytes": receipt_bytes(),
        "payments_per_signature": PER_SIGNATURE,
        "window": WINDOW,
        "payments_in_a_round": plain.rounds[0].payments,
        "plain": side_by_side(plain),
        "tls": side_by_side(tls),
        "checked": checked,
        "profile": profiles(profiled),
        **stand.record(),
    }
