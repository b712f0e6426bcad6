"""Adds to the committed corpus what fuzzing found: `python -m tests.fuzz.keep [TARGET …]`.

Shortest first, an input is kept if it takes the target's modules over an edge that none before it
took. What once broke a target stays for ever.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from .run import CORPUS, FOUND, name_of
from .seeds import BROKE, SEEDS
from .targets import TARGETS
from .work import Edge, lines_of

INPUTS_MAX = 64
"""Of one target, those that broke it not counted: the replay is part of every test run."""


def keep(target: str) -> tuple[int, int]:
    """Write the smallest set; how many inputs there were and how many are kept."""
    chosen = TARGETS[target]
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {path.read_bytes() for path in folder.iterdir()} | set(SEEDS[target]())
    found = FOUND / target
    if found.is_dir():
        inputs |= {path.read_bytes() for path in found.iterdir()}
    chosen.one(b"")  # what is imported at the first use is nobody's edge
    kept: list[tuple[int, bytes]] = []
    seen: set[Edge] = set()
    for data in sorted(inputs, key=lambda one: (len(one), one)):
        with suppress(AssertionError):
            edges = lines_of(chosen.one, data, chosen.modules).edges
            if edges - seen:
                kept.append((len(edges - seen), data))
                seen |= edges
    best = sorted(kept, key=lambda one: one[0], reverse=True)[:INPUTS_MAX]
    for data in [*(data for _, data in best), *BROKE.get(target, [])]:
        (folder / name_of(data)).write_bytes(data)
    return len(inputs), len(best)


def main() -> None:
    """Keep for the named targets, or all."""
    for target in sys.argv[1:] or TARGETS:
        inputs, kept = keep(target)
        print(f"{target}: {kept} of {inputs}")


if __name__ == "__main__":
    main()
