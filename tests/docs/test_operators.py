"""docs/operators.md does what it says, from the empty machine to the backup."""

import sys
from pathlib import Path

from .pages import page
from .walkthrough import Sandbox, blocks


def test_the_page_works_as_written(tmp_path: Path) -> None:
    steps = blocks(page("operators.md"))
    assert len(steps) > 10
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(steps)
    assert (tmp_path / "hub-backup.tar.gz").stat().st_mode & 0o077 == 0
