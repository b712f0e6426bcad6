"""`farthing bench updates`: one payer, one payee, a signature and a verification per payment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .checked import check_killed
from .pair import Orders, Paid, Stand, kill_pair, open_stand
from .sides import measured, profiles, side_by_side

PAYMENTS = 4_000
ROUNDS = 5
WINDOW = 256
"""Enough that both sides work at one time; more costs the payer more for each payment."""
STORE = "SQLite, WAL, synchronous=FULL, one transaction for all that arrived meanwhile"
_MICRO = 1e6


def bench_updates(
    *, payments: int = PAYMENTS, rounds: int = ROUNDS, within: Path | None = None
) -> dict[str, Any]:
    """Measure without and with TLS, as shipped too, and with a kill; raises `FigureVoid`."""
    orders = Orders(
        payments=payments, rounds=rounds, warm_up=payments // 5, window=WINDOW, each=True
    )
    with open_stand(within, quick=payments < PAYMENTS) as stand:
        plain, checked = measured(stand, "plain", orders)
        tls, _ = measured(stand, "tls", replace(orders, tls=True))
        shipped, _ = measured(stand, "shipped", replace(orders, each=False))
        killed_in = stand.sub("killed")
        killed = check_killed(
            killed_in, kill_pair(killed_in, replace(orders, rounds=100), after=payments // 2)
        )
        profiled, _ = measured(stand, "profile", replace(orders, rounds=1, profile=True))
        return _record(stand, orders, {"plain": plain, "tls": tls, "shipped": shipped}) | {
            "checked": checked,
            "killed": killed,
            "profile": profiles(profiled),
            **stand.record(),
        }


def _record(stand: Stand, orders: Orders, by_name: dict[str, Paid]) -> dict[str, Any]:
    limits = stand.record()["limits"]
    slower_us = max(limits["sign_us"], limits["verify_us"])
    plain = by_name["plain"]
    rate = plain.middle_of(lambda one: one.per_second)
    busiest_us = plain.middle_of(lambda one: max(one.payer_us, one.payee_us))
    return {
        "benchmark": "updates",
        "ratio": round(rate * slower_us / _MICRO, 4),
        "ratio_by_cpu": round(slower_us / busiest_us, 4),
        "updates_per_second": round(rate, 1),
        "limit_per_second": round(_MICRO / slower_us, 1),
        "store": STORE,
        "payments_in_a_round": orders.payments,
        "window": orders.window,
        "plain": side_by_side(plain),
        "tls": side_by_side(by_name["tls"]),
        "as_shipped": side_by_side(by_name["shipped"]),
    }
