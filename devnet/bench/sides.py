"""What a pair did, as a benchmark prints it: medians with their spread, and each side's costs."""

from __future__ import annotations

from typing import Any

from .checked import check_pair, expect
from .pair import Orders, Paid, Stand, run_pair
from .stage import HUB_DATABASE, WALLET_DATABASE
from .summary import median_and_spread


def measured(stand: Stand, name: str, orders: Orders) -> tuple[Paid, dict[str, Any]]:
    """Run a pair in a folder of its own and check what it stored; raises `FigureVoid`."""
    folder = stand.sub(name)
    paid = run_pair(folder, orders)
    checked = check_pair(folder, paid.payments)
    for side, database in (("payee", HUB_DATABASE), ("payer", WALLET_DATABASE)):
        checked[f"{side}_database_bytes_per_payment"] = round(
            (folder / database).stat().st_size / paid.payments, 1
        )
    if orders.each:
        expect("verified signatures", paid.payee["verifications"], paid.payments)
    stand.measure()
    return paid, checked


def side_by_side(paid: Paid) -> dict[str, Any]:
    """The rounds' medians and spreads, and what each side used and synced."""
    return {
        "per_second": median_and_spread([one.per_second for one in paid.rounds]),
        "p50_ms": median_and_spread([one.times["p50_ms"] for one in paid.rounds], 3),
        "p99_ms": median_and_spread([one.times["p99_ms"] for one in paid.rounds], 3),
        "payer_cpu_us": median_and_spread([one.payer_us for one in paid.rounds]),
        "payee_cpu_us": median_and_spread([one.payee_us for one in paid.rounds]),
        "payer": _side(paid.payer),
        "payee": _side(paid.payee),
        "payments": paid.payments,
    }


def _side(said: dict[str, Any]) -> dict[str, Any]:
    """What a side said of itself, without its profile."""
    return {name: value for name, value in said.items() if not name.endswith("profile")}


def profiles(paid: Paid) -> dict[str, Any]:
    """Where the time of both sides went, by thread."""
    return {
        "payer_main": paid.payer["profile"],
        "payer_commits": paid.payer["commit_profile"],
        "payee_main": paid.payee["profile"],
        "payee_commits": paid.payee["commit_profile"],
    }
