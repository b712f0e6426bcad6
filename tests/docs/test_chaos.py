"""docs/chaos.md: its commands as they stand, and every fault that it names."""

import re
import sys
from pathlib import Path

from farthing.devnet.chaos.schedule import Fault, FaultKind

from .pages import page
from .walkthrough import Sandbox, blocks


def test_the_page_works_as_written(tmp_path: Path) -> None:
    steps = blocks(page("chaos.md"))
    assert len(steps) == 2
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(steps)


def test_every_fault_is_named_under_its_kind() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, -]+) \|", page("chaos.md"), re.MULTILINE)
    named = {f"{kind}-{fault}" for kind, faults in rows for fault in faults.split(", ")}
    assert [kind for kind, _ in rows] == list(FaultKind)
    assert named == set(Fault)
