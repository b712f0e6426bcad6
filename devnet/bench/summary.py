"""From several repetitions to one figure: the median, and how far the others are from it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def median_and_spread(values: Sequence[float], digits: int = 1) -> dict[str, Any]:
    """The median, the least, the greatest and all of them, in order."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "all": [round(value, digits) for value in values],
    }


def percentile(weighted: Iterable[tuple[float, int]], percent: float) -> float:
    """The least value that is not below `percent` of all; each comes with how many have it."""
    ordered = sorted(weighted)
    wanted = sum(count for _, count in ordered) * percent / 100
    reached = 0
    for value, count in ordered:
        reached += count
        if reached >= wanted:
            return value
    raise ValueError("there is no percentile of nothing")


BOUNDS_MS = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 100, 250, 1000)
"""Upper ends of the histogram's bars; the last bar is open."""


_NAMES = (*(f"<= {bound:g}" for bound in BOUNDS_MS), f"> {BOUNDS_MS[-1]:g}")


def histogram(weighted: Iterable[tuple[float, int]]) -> list[dict[str, Any]]:
    """How many of the values, in ms, are up to each bound and above the one before."""
    counts = [0] * len(_NAMES)
    for value, count in weighted:
        at = next((i for i, bound in enumerate(BOUNDS_MS) if value <= bound), len(BOUNDS_MS))
        counts[at] += count
    return [
        {"ms": name, "count": count} for name, count in zip(_NAMES, counts, strict=True) if count
    ]


def in_order(names: Iterable[str]) -> list[str]:
    """The bars' names from the shortest time to the longest."""
    return sorted(names, key=_NAMES.index)
