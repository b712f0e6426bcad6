"""docs/auditors.md: its audits and its tampering, typed as they stand, on a demo that was kept."""

import re
import sys
from pathlib import Path

from farthing.node.audit.contract import Difference
from farthing.node.audit.records import Code, Severity

from .pages import page
from .walkthrough import Sandbox, blocks


def test_the_page_works_as_written(tmp_path: Path) -> None:
    steps = blocks(page("auditors.md"))
    commands = [command.text for block in steps for command in block.commands]
    assert sum(text.startswith("farthing audit check") for text in commands) >= 5
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(steps)


def test_every_code_of_a_difference_is_explained_once() -> None:
    table = page("auditors.md").split("<!-- differences -->")[1].split("<!-- /differences -->")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [code for row in rows for code in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(named) == sorted(code.value for code in Difference)


def test_every_code_of_a_finding_is_explained_once_and_information_is_called_so() -> None:
    table = page("auditors.md").split("<!-- codes -->")[1].split("<!-- /codes -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = [code for row in rows for code in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(named) == sorted(code.value for code in Code)
    information = {code.value for code in Code if code.severity is Severity.INFORMATION}
    told = next(row for row in rows if "information:" in row)
    assert set(re.findall(r"`([a-z-]+)`", told)) == information
