"""What the tests of the pages share: the pages, their programs, and the hub that they run on."""

import re
from pathlib import Path

from .walkthrough import Block, blocks

DOCS = Path(__file__).resolve().parents[2] / "docs"
HUB_SECTION = "From an empty machine to a running hub"

_PROGRAM = re.compile(r"^```python\n# (\w+\.py)[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def running_hub() -> list[Block]:
    """The steps of docs/operators.md up to a hub that runs, for the pages that stand on it."""
    steps = blocks(page("operators.md"), section=HUB_SECTION)
    assert steps
    return steps


def programs(markdown: str) -> dict[str, str]:
    """The programs of a page, by the file name in their first line, as they stand there."""
    found = {}
    for match in _PROGRAM.finditer(markdown):
        found[match[1]] = match[0].removeprefix("```python\n").removesuffix("```")
    return found
