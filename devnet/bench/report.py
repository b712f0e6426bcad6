"""The page of results: what was wanted, what was found, under which limits, and where time went."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PAGE_NAME: Final = "results.md"
PROFILE_SHOWN: Final = 12
Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that a benchmark is to reach."""

    benchmark: str
    field: str
    wanted: float
    at_least: bool
    wallets: int = 0
    """With how many connected wallets it is to be reached, where that matters."""

    def is_reached(self, found: float) -> bool:
        """Whether a figure is good enough."""
        return found >= self.wanted if self.at_least else found <= self.wanted


GOALS: Final = (
    Goal(benchmark="updates", field="ratio", wanted=0.70, at_least=True),
    Goal(benchmark="coalesced", field="payments_per_second", wanted=150_000, at_least=True),
    Goal(benchmark="coalesced", field="p99_ms", wanted=50, at_least=False),
    Goal(benchmark="fan-in", field="ratio", wanted=0.45, at_least=True),
    Goal(benchmark="latency", field="p50_ms", wanted=3, at_least=False),
    Goal(benchmark="latency", field="p99_ms", wanted=15, at_least=False),
    Goal(benchmark="memory", field="kib_per_connection", wanted=24, at_least=False, wallets=10_000),
    Goal(benchmark="memory", field="storm_seconds", wanted=120, at_least=False, wallets=10_000),
    Goal(benchmark="peers", field="ours_vs_eth_account", wanted=8, at_least=True),
    Goal(benchmark="peers", field="ours_vs_x402", wanted=9, at_least=True),
    Goal(benchmark="devnet", field="start_seconds", wanted=3, at_least=False),
    Goal(benchmark="devnet", field="logs_ms", wanted=100, at_least=False),
    Goal(benchmark="devnet", field="openings_per_second", wanted=100, at_least=True),
)


def results_page(folder: Path) -> str:
    """The page of all results in a folder, as Markdown; those that are missing are left out."""
    results = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    parts = [
        "# Results of the benchmarks",
        "Written by `farthing bench all --save`; what each figure is and what is checked stands in"
        " [benchmarks.md](../benchmarks.md).",
        _table(("benchmark", "figure", "wanted", "found", "reached"), _goals(results)),
    ]
    for name, result in results.items():
        parts += _section(name, result)
    return "\n\n".join(parts) + "\n"


def _read(path: Path) -> Result:
    record: Result = json.loads(path.read_text(encoding="utf-8"))
    return record


def _goals(results: Mapping[str, Result]) -> Iterator[Sequence[str]]:
    for goal in GOALS:
        if goal.benchmark in results:
            found = results[goal.benchmark][goal.field]
            sign = "≥" if goal.at_least else "≤"
            reached = "yes" if goal.is_reached(found) else "**no**"
            wallets = results[goal.benchmark].get("connections", 0)
            if wallets < goal.wallets:
                reached = f"**open**: run with {wallets:,} wallets, not {goal.wallets:,}"
            wanted = f"{sign} {goal.wanted:,g}"
            yield goal.benchmark, f"`{goal.field}`", wanted, _number(found), reached


def _section(name: str, result: Result) -> Iterator[str]:
    about = result["machine"]
    yield f"## {name}"
    yield f"![{name}]({name}.svg)"
    plain = {k: v for k, v in result.items() if isinstance(v, str | int | float)}
    yield _table(("field", "value"), ((f"`{k}`", _number(v)) for k, v in plain.items()))
    medians = {
        f"{kind}.{key}": value
        for kind in ("plain", "tls", "as_shipped")
        for key, value in result.get(kind, {}).items()
        if isinstance(value, dict) and "median" in value
    }
    if medians:
        yield _table(
            ("over the rounds", "median", "least", "greatest"),
            (
                (f"`{k}`", _number(v["median"]), _number(v["min"]), _number(v["max"]))
                for k, v in medians.items()
            ),
        )
    limits = ", ".join(f"`{k}` {_number(v)}" for k, v in result["limits"].items())
    yield f"Limits of the same run: {limits}."
    yield (
        f"Machine: {about['cores']} cores of {about['processor']}, {about['system']},"
        f" {about['file_system']}, Python {about['python']}, SQLite {about['sqlite']}; the load"
        f" of the machine before the run was {about['load_before'][0]}."
    )
    for thread, rows in result.get("profile", {}).items():
        if rows:
            yield f"Profile of `{thread}`, by a function's own CPU time:"
            yield _profile(rows)


def _profile(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("%", "calls", "own s", "with calls s", "function"),
        (
            (
                f"{row['own_percent']}",
                f"{row['calls']:,}",
                f"{row['own_seconds']}",
                f"{row['with_calls_seconds']}",
                f"`{row['function']}`",
            )
            for row in rows[:PROFILE_SHOWN]
        ),
    )


def _table(names: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"  # noqa: PLR2004 - four digits
