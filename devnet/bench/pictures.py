"""What each benchmark's picture shows, and the files that a saved result is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .plot import Bars, footing_of, svg

_MICRO = 1e6
Result = Mapping[str, Any]


def save(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write a result as JSON and as a picture; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    name = result["benchmark"]
    record, picture = folder / f"{name}.json", folder / f"{name}.svg"
    record.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    picture.write_text(draw(result), encoding="utf-8")
    return record, picture


def draw(result: Result) -> str:
    """A result's picture as SVG."""
    return svg(PICTURES[result["benchmark"]](result), footing_of(result))


def _updates(result: Result) -> Bars:
    limits = result["limits"]
    target = 0.70 * result["limit_per_second"]
    return Bars(
        title="One payment, one signature, one verification, durable on both sides",
        unit="a second; dashed: 0.70 of the lower limit",
        rows=[
            ("sign limit, one core", _MICRO / limits["sign_us"]),
            ("verify limit, one core", _MICRO / limits["verify_us"]),
            ("what the busier side's CPU allows", result["ratio_by_cpu"] * target / 0.70),
            ("measured", result["plain"]["per_second"]["median"]),
            ("measured, TLS", result["tls"]["per_second"]["median"]),
            ("measured, newest of a read verified", result["as_shipped"]["per_second"]["median"]),
        ],
        target=target,
    )


def _coalesced(result: Result) -> Bars:
    return Bars(
        title=f"{result['payments_per_signature']} payments under one signature, each a receipt",
        unit="payments a second; dashed: 150,000",
        rows=[
            ("what the busier side's CPU allows", result["payments_per_second_by_cpu"]),
            ("measured", result["plain"]["per_second"]["median"]),
            ("measured, TLS", result["tls"]["per_second"]["median"]),
        ],
        target=150_000,
    )


def _latency(result: Result) -> Bars:
    return Bars(
        title=f"Due until durably acknowledged, {result['offered_per_second']} payments/s offered",
        unit=f"payments by ms, logarithmic; p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms",
        rows=[(f"{bar['ms']} ms", bar["count"]) for bar in result["histogram"]],
        logarithmic=True,
    )


def _peers(result: Result) -> Bars:
    names = {
        "ours": "Farthing",
        "eth_account": "eth-account",
        "x402": "x402",
        "eth_account_without_coincurve": "eth-account without coincurve",
        "x402_without_coincurve": "x402 without coincurve",
    }
    return Bars(
        title="Sign and verify one cumulative voucher",
        unit="µs of CPU, logarithmic",
        rows=[(text, result[f"{name}_us"]["median"]) for name, text in names.items()],
        logarithmic=True,
    )


def _fan_in(result: Result) -> Bars:
    limits = result["limits"]
    return Bars(
        title=f"{result['connections']} connected wallets, one update in flight each",
        unit="µs of the hub's CPU for an update; dashed: what ratio 0.45 allows",
        rows=[
            ("verifying alone", limits["verify_us"]),
            ("the hub, whole", result["hub_cpu_us"]["median"]),
            ("the generator", result["generator_cpu_us"]["median"]),
        ],
        target=limits["verify_us"] / 0.45,
    )


def _memory(result: Result) -> Bars:
    return Bars(
        title=f"Memory of the hub for each of {result['connections']} connected wallets",
        unit="KiB; dashed: 24",
        rows=[
            ("channel, not connected", result["kib_per_channel"]),
            ("connection and channel", result["kib_per_connection"]),
            ("the same with TLS", result["tls"]["kib_per_connection"]),
            ("kernel memory, both ends", result["kernel_kib_per_connection"]),
        ],
        target=24,
    )


def _settle(result: Result) -> Bars:
    return Bars(
        title="Settling channels in transactions of many rows",
        unit="gas for each channel, settled for the second time",
        rows=[(f"{row['channels']} channels", row["gas_per_channel"]) for row in result["rows"]],
    )


def _devnet(result: Result) -> Bars:
    return Bars(
        title="The devnet: time it takes, as a part of what is allowed",
        unit="%; dashed: all that is allowed",
        rows=[
            ("start to the first answer, of 3 s", 100 * result["start_seconds"] / 3),
            (f"logs of {result['blocks_asked_for']} blocks, of 100 ms", result["logs_ms"]),
            ("100 channels opened, of 1 s", 100 * 100 / result["openings_per_second"]),
        ],
        target=100,
    )


PICTURES: Mapping[str, Callable[[Result], Bars]] = {
    "updates": _updates,
    "coalesced": _coalesced,
    "latency": _latency,
    "peers": _peers,
    "fan-in": _fan_in,
    "memory": _memory,
    "settle": _settle,
    "devnet": _devnet,
}
