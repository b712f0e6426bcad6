"""Changes JSON as JSON: a value becomes an odd one, or is left out, doubled or moved.

A mutator of bytes breaks the text nearly every time, and what is behind the parser is never seen.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**53,
    2**64,
    -(2**255),
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "0x",
    "0x0",
    "0x1",
    "0x" + "f" * 64,
    "latest",
    "\ud800",
    "\x00\x1b[2J",
    "000001" + "9" * 30,
    "000001" + "9" * 5000,
    "a" * 300,
    [],
    {},
    [[]],
    {"": None},
)
"""Values of every kind, and those at which readers differ."""

Place = tuple[Any, Any]
"""A list or object, and an index or key of it."""


def mutated(data: bytes, bytes_max: int, seed: int) -> bytes | None:
    """A changed text of at most so many bytes, or None where the data is no JSON."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    try:
        value = [json.loads(data)]
    except (ValueError, RecursionError):
        return None
    for _ in range(dice.randint(1, 3)):
        places = _places(value)
        holder, key = places[dice.randrange(len(places))]
        _change(holder, key, places, dice)
        if not value:
            value = [None]
    changed = json.dumps(value[0]).encode(errors="surrogatepass")
    return changed if len(changed) <= bytes_max else None


def _places(root: list[Any]) -> list[Place]:
    found: list[Place] = []
    todo: list[Any] = [root]
    while todo:
        holder = todo.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])
    return found


def _change(holder: Any, key: Any, places: list[Place], dice: random.Random) -> None:
    what = dice.randrange(6)
    value = holder[key]
    if what == 0:
        del holder[key]
    elif what == 1:
        other, name = places[dice.randrange(len(places))]
        holder[key] = copy.deepcopy(other[name])
    elif what == 2 and isinstance(value, list) and value:
        value.append(copy.deepcopy(value[dice.randrange(len(value))]))
    elif what == 3 and type(value) is int:
        holder[key] = value + dice.choice((-1, 1, 2**32, 2**64, -(2**63)))
    elif what == 4 and isinstance(value, str) and value:
        index = dice.randrange(len(value))
        holder[key] = value[:index] + dice.choice("0a \ud800") + value[index + dice.randint(0, 1) :]
    else:
        holder[key] = copy.deepcopy(dice.choice(ODD))
