"""What an input costs a target, counted and not timed: lines of the product run, edges, memory."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

Edge = tuple[str, int, int]
"""A file, the line before and the line after."""


@dataclass
class Work:
    """How many lines ran, from which to which, and how many bytes were held at most."""

    lines: int = 0
    edges: set[Edge] = field(default_factory=set)
    bytes_max: int = 0


def lines_of(one: Callable[[bytes], None], data: bytes, modules: tuple[str, ...] = ()) -> Work:
    """Run a target and count the product's lines; edges are those of the given modules."""
    work = Work()

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("farthing."):
            return None
        last = 0
        keep = name in modules
        file = name

        def line(inner: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                work.lines += 1
                if keep:
                    work.edges.add((file, last, inner.f_lineno))
                last = inner.f_lineno
            return line

        return line

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        one(data)
    finally:
        sys.settrace(before)
    return work


def memory_of(one: Callable[[bytes], None], data: bytes) -> int:
    """The most bytes that Python held for it at one time."""
    tracemalloc.start()
    try:
        one(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
