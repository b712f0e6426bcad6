"""Reads JSON from strangers: nesting is bounded before the parser, which recurses, sees it.

Python's own bound does not do: libraries raise it for the whole process (py_ecc, which reading a
keystore loads, to 100,000), and 64 KiB of opening brackets then overflow the stack and kill it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

DEPTH_MAX: Final = 64
"""Nothing that is read here nests deeper than 8."""

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


class NotJson(ValueError):
    """Bytes that are no JSON in UTF-8, or nest deeper than `DEPTH_MAX`; callers name the thing."""


PairsHook = Callable[[list[tuple[str, Any]]], Any]


def parse(content: bytes, *, object_pairs_hook: PairsHook | None = None) -> Any:
    """Parse JSON text; raises `NotJson`, whatever the bytes are.

    `object_pairs_hook` makes a value of each object's pairs, as for `json.loads`.
    """
    brackets = _STRINGS.sub(b"", content).translate(None, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):  # each round takes away the innermost level
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:  # deeper, or not balanced and so no JSON
        raise NotJson(f"it is not balanced or nests deeper than {DEPTH_MAX}")
    try:
        return json.loads(content.decode(), object_pairs_hook=object_pairs_hook)
    except ValueError as error:
        raise NotJson(f"it is not JSON: {error}") from None
