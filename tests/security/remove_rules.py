"""Removes each safety rule from a copy of the code and checks that exactly its attack succeeds.

    python tests/security/remove_rules.py [ID…]     run these removals, or all, and print a table
    python tests/security/remove_rules.py --write   run all; write docs/security-tests.md if exact

Rule: a removal is the exact text that it replaces, once in its file; what does not occur is an
error and not a skip. "Exactly" is meant within tests/security. Exit 1 where anything differs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "tests/security"
TABLE = ROOT / FOLDER / "removals.toml"
PAGE = ROOT / "docs" / "security-tests.md"
RUN_SECONDS_MAX = 300
"""Of one run of the folder, which takes a few seconds; a removal must not make it hang."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A text that stands once in a file, and what stands there instead."""

    file: str
    old: str
    new: str

    def applied(self, root: Path) -> str:
        """The file's text with the edit; raises `ValueError` where the text is not there once."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} holds this {found} times instead of once: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A rule, the attack that must succeed without it, and how it is removed."""

    id: str
    covers: tuple[str, ...]
    attack: str
    removed: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """What has to be covered, by section and key, and the removals that cover it."""

    items: dict[str, dict[str, str]]
    not_yet: dict[str, str]
    removals: tuple[Removal, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one removal; fine if nothing is wrong."""

    removal: Removal
    wrong: str = ""


def read_table() -> Table:
    """Read removals.toml."""
    record: dict[str, Any] = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    removals = tuple(
        Removal(
            id=row["id"],
            covers=tuple(row["covers"]),
            attack=f"{FOLDER}/{row['attack']}",
            removed=row["removed"],
            edits=tuple(Edit(**edit) for edit in row["edit"]),
        )
        for row in record["removal"]
    )
    return Table(items=record["items"], not_yet=record["not_yet"], removals=removals)


# -- running ------------------------------------------------------------------------------------


@dataclass(eq=False)  # pytest keeps plugins in a set
class Recorder:
    """A pytest plugin that notes the outcome of each test function, its parameters together."""

    outcomes: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[0]
        if report.failed:
            self.outcomes[name] = "failed"
        elif report.when == "call":
            self.outcomes.setdefault(name, report.outcome)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"


def record(path: Path) -> None:
    """Run the folder in this process and write what came out; the code must be the copy's own."""
    from farthing.channels import state  # noqa: PLC0415 - only in the copy

    recorder = Recorder()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--tb=no", FOLDER], plugins=[recorder])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}:
        raise SystemExit(f"pytest ended with {code}")
    path.write_text(json.dumps({"code": state.__file__, "outcomes": recorder.outcomes}))


class Copy:
    """A copy of the working tree in which rules are removed and put back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout.decode()
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, root / name
            if source.exists() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        # No bytecode: a file that is changed twice in a second would be taken from the cache.
        # No coverage either: code that lacks a rule says nothing about the tests of the real one.
        self._env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")},
            "PYTHONPATH": str(root / ".src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def outcomes(self) -> dict[str, str]:
        """Run the folder; raises `ValueError` where it does not end or runs other code."""
        with tempfile.TemporaryDirectory() as scratch:
            result = Path(scratch) / "outcomes.json"
            self._python(f"{FOLDER}/remove_rules.py", "--record", str(result))
            found: dict[str, Any] = json.loads(result.read_text())
        if not Path(found["code"]).is_relative_to(self.root):
            raise ValueError(f"the tests ran the code in {found['code']}, not the copy's")
        outcomes: dict[str, str] = found["outcomes"]
        return outcomes

    def _python(self, *arguments: str) -> None:
        try:
            subprocess.run(
                [sys.executable, *arguments],
                cwd=self.root,
                env=self._env,
                check=True,
                capture_output=True,
                timeout=RUN_SECONDS_MAX,
            )
        except subprocess.CalledProcessError as error:
            raise ValueError(error.stderr.decode()[-2000:]) from None
        except subprocess.TimeoutExpired:
            raise ValueError(f"it did not end within {RUN_SECONDS_MAX} s") from None

    @contextmanager
    def without(self, removal: Removal) -> Iterator[None]:
        """The copy without a rule; contracts are compiled anew."""
        touched = {edit.file for edit in removal.edits}
        if any(name.endswith(".vy") for name in touched):
            artifacts = (self.root / "contracts" / "artifacts").glob("*.json")
            touched |= {str(path.relative_to(self.root)) for path in artifacts}
        before = {name: (self.root / name).read_bytes() for name in touched}
        try:
            for edit in removal.edits:
                (self.root / edit.file).write_text(edit.applied(self.root), encoding="utf-8")
            if any(name.endswith(".vy") for name in touched):
                self._python("-m", "farthing.contracts.compile")
            yield
        finally:
            for name, content in before.items():
                (self.root / name).write_bytes(content)


def judge(copy: Copy, removal: Removal, sound: dict[str, str]) -> Verdict:
    """Remove one rule and compare what failed with what should."""
    try:
        with copy.without(removal):
            outcomes = copy.outcomes()
    except ValueError as error:
        return Verdict(removal=removal, wrong=str(error))
    failed = {name for name, outcome in outcomes.items() if outcome == "failed"}
    if outcomes.get(removal.attack) != "failed":
        return Verdict(removal=removal, wrong="the attack does not succeed without the rule")
    if others := failed - {removal.attack}:
        return Verdict(removal=removal, wrong="others failed too: " + ", ".join(sorted(others)))
    if missing := sound.keys() - outcomes.keys():
        return Verdict(removal=removal, wrong="not run: " + ", ".join(sorted(missing)))
    return Verdict(removal=removal)


def run(removals: tuple[Removal, ...], jobs: int) -> list[Verdict]:
    """Judge removals, each in a copy that was seen to pass untouched; prints as it goes."""
    with tempfile.TemporaryDirectory() as scratch:
        copies: SimpleQueue[Copy] = SimpleQueue()
        made = [Copy(Path(scratch).resolve() / str(number)) for number in range(jobs)]
        sound = made[0].outcomes()
        if not sound or set(sound.values()) != {"passed"}:
            failed = sorted(name for name, outcome in sound.items() if outcome != "passed")
            raise SystemExit("before anything is removed these do not pass: " + ", ".join(failed))
        for copy in made:
            copies.put(copy)

        def one(removal: Removal) -> Verdict:
            copy = copies.get()
            try:
                verdict = judge(copy, removal, sound)
            finally:
                copies.put(copy)
            sys.stdout.write(f"{'WRONG' if verdict.wrong else 'exact':5}  {removal.id}\n")
            if verdict.wrong:
                sys.stdout.write(f"       {verdict.wrong}\n")
            sys.stdout.flush()
            return verdict

        with ThreadPoolExecutor(max_workers=jobs) as pool:
            return list(pool.map(one, removals))


# -- the page -----------------------------------------------------------------------------------

_HEAD = """# Attacks and the rules that stop them

Each safety rule and each class of bug has a test of its own, written as an attack, in
`tests/security/`. Each row below also says how its rule is removed from the code: the exact texts
stand in `tests/security/removals.toml`. `python tests/security/remove_rules.py` removes one after
the other in a copy of the tree, compiles the contracts anew where they are touched, and runs the
whole folder: exactly the named test must fail, and every other one must pass. "Exactly" is meant
within `tests/security/`; many tests elsewhere notice as well. Where several lines of defence would
each stop an attack, the removal takes all of them away, and the row says so.

The last full run: {count} removals, and each made exactly its own attack succeed.
This page is written by that run (`--write`), and a test compares it with the table.
"""


def render(table: Table) -> str:
    """The page's text, as after a run in which every removal was exact."""
    parts = [_HEAD.format(count=len(table.removals))]
    for section, items in table.items.items():
        parts.append(f"\n## {section}\n\n| | attack | removed | id |\n|---|---|---|---|\n")
        for key, what in items.items():
            for removal in table.removals:
                if key in removal.covers:
                    name = removal.attack.rpartition("::")[2].removeprefix("test_")
                    file = ", ".join(dict.fromkeys(f"`{e.file}`" for e in removal.edits))
                    parts.append(
                        f"| {what} | {name.replace('_', ' ')} | {removal.removed} ({file})"
                        f" | {removal.id} |\n"
                    )
    parts.append("\n## Not yet\n\nWhat these would attack does not exist yet.\n\n| | why |\n")
    parts.append("|---|---|\n")
    parts += [f"| {what} | {why} |\n" for what, why in table.not_yet.items()]
    return "".join(parts)


def main() -> int:
    """Run what the command line asks for; 0 where every removal was exact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ids", nargs="*", metavar="ID", help="removals to run; all unless given")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at the same time")
    parser.add_argument("--write", action="store_true", help="write the page after an exact run")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.record is not None:
        record(chosen.record)
        return 0
    table = read_table()
    if unknown := set(chosen.ids) - {removal.id for removal in table.removals}:
        parser.error("unknown: " + ", ".join(sorted(unknown)))
    if chosen.write and chosen.ids:
        parser.error("the page is written after a run of all removals")
    removals = tuple(r for r in table.removals if not chosen.ids or r.id in chosen.ids)
    wrong = sum(bool(verdict.wrong) for verdict in run(removals, chosen.jobs))
    sys.stdout.write(f"{len(removals)} removals, {len(removals) - wrong} exact\n")
    if not wrong and chosen.write:
        PAGE.write_text(render(table), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
