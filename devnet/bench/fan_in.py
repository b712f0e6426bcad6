"""`farthing bench fan-in`: many connected wallets, one update in flight each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .checked import check_hub, expect
from .crowd import generator
from .pair import Stand, open_stand, payee
from .payee import WORKERS
from .stage import HUB_DATABASE
from .summary import median_and_spread

CONNECTIONS = 1_000
PAYMENTS = 5
"""Of each wallet in a round."""
ROUNDS = 5
_MICRO = 1e6


def bench_fan_in(
    *,
    connections: int = CONNECTIONS,
    payments: int = PAYMENTS,
    rounds: int = ROUNDS,
    within: Path | None = None,
) -> dict[str, Any]:
    """Measure without and with TLS, then once under a profile; raises `FigureVoid`."""
    with open_stand(within, quick=connections < CONNECTIONS) as stand:
        plain = _crowded(stand, "plain", (connections, payments, rounds))
        few = (connections, payments, max(1, rounds // 2))
        tls = _crowded(stand, "tls", few, tls=True)
        profiled = _crowded(stand, "profile", (connections, payments, 1), profile=True)
        return _record(stand, connections, plain) | {
            "tls": _without_profile(tls),
            "profile": profiled["profile"],
        }


def _without_profile(crowded: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in crowded.items() if name != "profile"}


def _record(stand: Stand, connections: int, plain: dict[str, Any]) -> dict[str, Any]:
    record = stand.record()
    return {
        "benchmark": "fan-in",
        "ratio": round(record["limits"]["verify_us"] / plain["hub_cpu_us"]["median"], 4),
        "updates_per_second": plain["updates_per_second"]["median"],
        "workers": WORKERS,
        "two_workers": None,
        "connections": connections,
        "database_bytes_per_payment": plain["database_bytes_per_payment"],
        "hub_cpu_us": plain["hub_cpu_us"],
        "generator_cpu_us": plain["generator_cpu_us"],
        "p50_ms": plain["p50_ms"],
        "p99_ms": plain["p99_ms"],
        "plain": _without_profile(plain),
        **record,
    }


def _crowded(
    stand: Stand,
    name: str,
    size: tuple[int, int, int],
    *,
    tls: bool = False,
    profile: bool = False,
) -> dict[str, Any]:
    """Let so many wallets pay so often in so many rounds, and check every channel."""
    connections, payments, rounds = size
    folder = stand.sub(name)
    started = ["--channels", str(connections), "--each", *(["--profile"] if profile else [])]
    lines, hub_us = [], []
    with payee(folder, started, tls=tls) as (hub, pin):
        with generator(folder, connections, pin) as crowd:
            crowd.do("port", int(hub.process.ready["port"]))
            expect("connected wallets", crowd.do("connect")["connected"], connections)
            crowd.do("pay", 1)  # warming up
            for _ in range(rounds):
                began = hub.cpu_seconds()
                line = crowd.do("pay", payments)
                hub_us.append((hub.cpu_seconds() - began) / line["payments"] * _MICRO)
                lines.append(line)
        said = hub.end()
    checked = check_hub(folder, [1 + rounds * payments] * connections)
    expect("verified signatures", said["verifications"], checked["payments"])
    stand.measure()
    return {
        "updates_per_second": median_and_spread(
            [one["payments"] / one["seconds"] for one in lines]
        ),
        "hub_cpu_us": median_and_spread(hub_us),
        "generator_cpu_us": median_and_spread(
            [one["cpu_seconds"] / one["payments"] * _MICRO for one in lines]
        ),
        "p50_ms": median_and_spread([one["p50_ms"] for one in lines], 2),
        "p99_ms": median_and_spread([one["p99_ms"] for one in lines], 2),
        "hub": {name: value for name, value in said.items() if not name.endswith("profile")},
        "checked": checked,
        "database_bytes_per_payment": round(
            (folder / HUB_DATABASE).stat().st_size / checked["payments"], 1
        ),
        "profile": {
            "payee_main": said.get("profile", []),
            "payee_commits": said["commit_profile"],
        },
    }
