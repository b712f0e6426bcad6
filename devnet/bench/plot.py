"""A result as a picture: bars in an SVG, with a dashed line where the figure to reach stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 760
LABELS: Final = 270
"""Room for the bars' names, to the left of them."""
VALUES: Final = 90
ROW: Final = 26
BAR: Final = 16
TOP: Final = 64
BOTTOM: Final = 40

_FONT = "font-family='sans-serif' font-size='12'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A picture: named values in one unit, the figure to reach if there is one."""

    title: str
    unit: str
    rows: Sequence[tuple[str, float]]
    target: float | None = None
    logarithmic: bool = False


def svg(bars: Bars, footing: str) -> str:
    """Draw it; `footing` says where it was measured."""
    height = TOP + ROW * len(bars.rows) + BOTTOM
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}'"
        f" viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{escape(bars.title)}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
        f"<text x='12' y='24' {_FONT} font-weight='bold'>{escape(bars.title)}</text>",
        f"<text x='12' y='44' {_FONT} fill='#555555'>{escape(bars.unit)}</text>",
    ]
    scale = _scale(bars)
    for number, (name, value) in enumerate(bars.rows):
        y = TOP + ROW * number
        length = scale(value)
        parts += [
            f"<text x='{LABELS - 8}' y='{y + 13}' {_FONT} text-anchor='end'>{escape(name)}</text>",
            f"<rect x='{LABELS}' y='{y}' width='{length:.1f}' height='{BAR}' fill='#2f6f8f'/>",
            f"<text x='{LABELS + length + 6:.1f}' y='{y + 13}' {_FONT}>{_number(value)}</text>",
        ]
    if bars.target is not None:
        x, end = LABELS + scale(bars.target), TOP + ROW * len(bars.rows)
        parts += [
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP - 6}' y2='{end}' stroke='#b03a2e'"
            " stroke-dasharray='4 3'/>",
            f"<text x='{x:.1f}' y='{TOP - 10}' {_FONT} fill='#b03a2e' text-anchor='middle'>"
            f"{_number(bars.target)}</text>",
        ]
    parts.append(f"<text x='12' y='{height - 14}' {_FONT} fill='#555555'>{escape(footing)}</text>")
    return "\n".join([*parts, "</svg>", ""])


def _scale(bars: Bars) -> Callable[[float], float]:
    """From a value to its bar's length."""
    room = WIDTH - LABELS - VALUES
    greatest = max([value for _, value in bars.rows] + [bars.target or 0.0, 1e-9])
    if not bars.logarithmic:
        return lambda value: max(value, 0.0) / greatest * room
    whole = math.log10(1 + greatest)
    return lambda value: math.log10(1 + max(value, 0.0)) / whole * room


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def footing_of(result: Mapping[str, Any]) -> str:
    """One line on where a result was measured."""
    about = result["machine"]
    return (
        f"{about['cores']} cores of {about['processor']}, Python {about['python']},"
        f" load before {about['load_before'][0]}"
    )
