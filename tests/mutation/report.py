"""Writes docs/mutation.md from the results and reasons: `python -m tests.mutation.report`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
REASONS = HERE / "reasons.toml"
PAGE = HERE.parents[1] / "docs" / "mutation.md"
KILLED_PERCENT_MIN = 90

INTRODUCTION = """\
# Mutation testing

<!-- Made by `python -m tests.mutation.report` from the results of a run; do not edit. -->

A mutant is a module with one small mistake: `<` for `<=`, `+` for `-`, a condition, an argument, an
element or a statement left out, another constant, an error's other code, nothing returned. The
tests are good where they fail for it. What is not mutated: annotations, decorators, and sentences
for people.

```
.venv/bin/python -m tests.mutation.run             # all modules; stop it and go on when you like
.venv/bin/python -m tests.mutation.run transition  # one of them
.venv/bin/python -m tests.mutation.report          # this page
```

Each mutant runs in a process forked from one that has imported the libraries and nothing of the
product; the mutated source is compiled in the module's place, and of the module's tests those that
run the changed lines are run, quick ones first, until one fails. Tests of the core that need a
chain, a hub or a wallet do not count here: what they would catch on top is not in these figures.
Why a runner of our own: see [ADR 15](adr/0015-mutants-and-fuzzing-beside-the-lock.md).
"""


def page() -> str:
    """The page as it must stand."""
    results: dict[str, Any] = json.loads(RESULTS.read_text())
    reasons: dict[str, str] = tomllib.loads(REASONS.read_text())
    lines = [INTRODUCTION, "| Module | Mutants | Killed | Of them by the clock | % | Seconds |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    total = killed = clock = seconds = 0
    for module, one in results.items():
        dead = one["killed"] + one["timeout"]
        total, killed = total + one["mutants"], killed + dead
        clock, seconds = clock + one["timeout"], seconds + one["seconds"]
        lines.append(_row(module, one["mutants"], dead, one["timeout"], one["seconds"]))
    lines.append(_row("**all**", total, killed, clock, seconds))
    lines += ["", "## Survivors, and why", ""]
    lines += ["| Where | Mistake | Why no test fails |", "|---|---|---|"]
    for module, one in results.items():
        for survivor in one["survivors"]:
            where = f"{module}: `{survivor['function']}`"
            mistake = f"{_code(survivor['before'])} → {_code(survivor['after'])}"
            lines.append(f"| {where} | {mistake} | {reasons[survivor['name']]} |")
    return "\n".join(lines) + "\n"


def _row(name: str, mutants: int, killed: int, clock: int, seconds: int) -> str:
    percent = 100 * killed / mutants
    return f"| {name} | {mutants} | {killed} | {clock} | {percent:.1f} | {seconds} |"


def _code(text: str) -> str:
    text = text if len(text) <= 80 else text[:60] + " … " + text[-17:]
    return "`" + text.replace("|", "\\|") + "`"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
