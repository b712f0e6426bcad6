"""docs/recovery.md: its commands run as they stand there, against the hub of docs/operators.md."""

import sys
from pathlib import Path

from .pages import page, running_hub
from .walkthrough import Sandbox, blocks


def test_the_page_works_as_written(tmp_path: Path) -> None:
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(running_hub() + blocks(page("recovery.md")))
