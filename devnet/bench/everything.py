"""`farthing bench all`: every benchmark in turn, its result and its picture in one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from .capacity import measured_toml, read_measured
from .coalesced import bench_coalesced
from .devnet import bench_devnet
from .fan_in import bench_fan_in
from .latency import bench_latency
from .memory import bench_memory
from .peers import bench_peers
from .pictures import save
from .report import PAGE_NAME, results_page
from .settle import bench_settle
from .updates import bench_updates

MEASURED_NAME: Final = "measured.toml"

BENCHMARKS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "peers": bench_peers,
    "updates": bench_updates,
    "latency": bench_latency,
    "coalesced": bench_coalesced,
    "fan-in": bench_fan_in,
    "memory": bench_memory,
    "settle": bench_settle,
    "devnet": bench_devnet,
}

HEADLINES: Final = (
    *("ratio", "ratio_by_cpu", "payments_per_second", "p50_ms", "p99_ms"),
    *("kib_per_connection", "storm_seconds", "gas_per_channel"),
    *("ours_vs_eth_account", "ours_vs_x402"),
    *("start_seconds", "logs_ms", "openings_per_second"),
)


def run_all(folder: Path) -> dict[str, Any]:
    """Run and save all of them; the figures by benchmark. Raises what they raise."""
    figures: dict[str, Any] = {}
    for name, benchmark in BENCHMARKS.items():
        result = benchmark()
        save(result, folder)
        figures |= {f"{name}.{key}": result[key] for key in HEADLINES if key in result}
    measured = measured_toml(read_measured(folder))
    (folder / MEASURED_NAME).write_text(measured, encoding="utf-8")
    (folder / PAGE_NAME).write_text(results_page(folder), encoding="utf-8")
    return figures
