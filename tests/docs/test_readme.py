"""README's first steps do what README says, in the terminals it names."""

import sys
from pathlib import Path

from .walkthrough import Sandbox, blocks

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SECTION = "First steps"


def test_the_first_steps_work_as_written(tmp_path: Path) -> None:
    steps = blocks(README, section=SECTION)
    assert steps or not README, f"README.md has no console block under '{SECTION}'"
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(steps)
