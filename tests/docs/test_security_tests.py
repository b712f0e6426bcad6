"""docs/security-tests.md, the table of removals and the attacks themselves say the same.

The removals are carried out by hand (`python tests/security/remove_rules.py`): it takes minutes.
"""

import ast
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ..security.remove_rules import (
    FOLDER,
    PAGE,
    ROOT,
    Edit,
    Removal,
    judge,
    read_table,
    render,
)

TABLE = read_table()
REMOVALS = pytest.mark.parametrize("removal", TABLE.removals, ids=lambda removal: removal.id)


def attacks() -> set[str]:
    """Every test function of the folder."""
    return {
        f"{FOLDER}/{path.name}::{node.name}"
        for path in (ROOT / FOLDER).glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


@REMOVALS
def test_what_a_removal_replaces_stands_once_in_its_file(removal: Removal) -> None:
    for edit in removal.edits:
        assert edit.applied(ROOT) != (ROOT / edit.file).read_text(encoding="utf-8")


def test_a_text_that_is_gone_or_stands_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("one two two")
    for old in ("three", "two"):
        with pytest.raises(ValueError, match="instead of once"):
            Edit(file="code.py", old=old, new="").applied(tmp_path)


def test_every_attack_has_a_removal_of_its_own() -> None:
    assert {removal.attack for removal in TABLE.removals} == attacks()
    for named in ("id", "attack"):
        counted = Counter(getattr(removal, named) for removal in TABLE.removals)
        assert set(counted.values()) == {1}


def test_every_rule_and_class_is_attacked() -> None:
    keys = [key for items in TABLE.items.values() for key in items]
    assert len(keys) == len(set(keys))
    assert {key for removal in TABLE.removals for key in removal.covers} == set(keys)


def test_the_page_lists_the_removals_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(TABLE)


@pytest.mark.parametrize(
    ("outcomes", "wrong"),
    [
        ({"attack": "failed", "other": "passed"}, ""),
        ({"attack": "passed", "other": "passed"}, "the attack does not succeed"),
        ({"other": "passed"}, "the attack does not succeed"),
        ({"attack": "failed", "other": "failed"}, "others failed too: other"),
        ({"attack": "failed", "other": "passed", "conftest.py": "failed"}, "others failed too"),
        ({"attack": "failed"}, "not run: other"),
    ],
)
def test_a_removal_is_exact_only_if_its_attack_alone_succeeds(
    outcomes: dict[str, str], wrong: str
) -> None:
    removal = replace(TABLE.removals[0], attack="attack")
    sound = {"attack": "passed", "other": "passed"}
    found = judge(removal, outcomes, sound)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def test_the_runner_removes_one_rule_and_sees_its_attack_succeed_alone() -> None:
    # Its code lacks a rule and stands elsewhere: it says nothing about what the tests cover.
    uncovered = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / FOLDER / "remove_rules.py"), "frozen"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=uncovered,
    )
    assert done.stdout == "exact  frozen\n1 removals, 1 exact\n"
    assert done.returncode == 0
