"""`farthing bench latency`: from a payment that is due to its durable acknowledgement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .pair import Orders, Paid, Stand, open_stand
from .sides import measured, profiles, side_by_side
from .summary import in_order

RATE = 1_000
SECONDS = 8
ROUNDS = 5


def bench_latency(
    *, rate: int = RATE, seconds: float = SECONDS, rounds: int = ROUNDS, within: Path | None = None
) -> dict[str, Any]:
    """Offer payments at a steady rate, without and with TLS; raises `FigureVoid`."""
    payments = max(1, int(rate * seconds))
    orders = Orders(payments=payments, rounds=rounds, warm_up=min(500, payments), rate=rate)
    with open_stand(within, quick=seconds < SECONDS) as stand:
        plain, checked = measured(stand, "plain", orders)
        tls, _ = measured(stand, "tls", replace(orders, tls=True, rounds=max(1, rounds // 2)))
        profiled, _ = measured(stand, "profile", replace(orders, rounds=1, profile=True))
        return _record(stand, rate, (plain, tls, profiled), checked)


def _record(
    stand: Stand, rate: int, done: tuple[Paid, Paid, Paid], checked: dict[str, Any]
) -> dict[str, Any]:
    plain, tls, profiled = done
    counts: dict[str, int] = {}
    for one in plain.rounds:
        for bar in one.times["histogram"]:
            counts[bar["ms"]] = counts.get(bar["ms"], 0) + bar["count"]
    return {
        "benchmark": "latency",
        "offered_per_second": rate,
        "p50_ms": round(plain.middle_of(lambda one: one.times["p50_ms"]), 3),
        "p99_ms": round(plain.middle_of(lambda one: one.times["p99_ms"]), 3),
        "max_ms": round(plain.middle_of(lambda one: one.times["max_ms"]), 3),
        "done_per_second": round(plain.middle_of(lambda one: one.per_second), 1),
        "histogram": [{"ms": name, "count": counts[name]} for name in in_order(counts)],
        "payments_in_a_round": plain.rounds[0].payments,
        "plain": side_by_side(plain),
        "tls": side_by_side(tls),
        "checked": checked,
        "profile": profiles(profiled),
        **stand.record(),
    }
