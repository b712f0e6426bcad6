"""Removes each safety rule from a copy of the code and checks that exactly its attack succeeds.

    python tests/security/remove_rules.py [ID…]     run these removals, or all, and print a table
    python tests/security/remove_rules.py --write   run all; write docs/security-tests.md if exact

Rule: a removal is the exact text that it replaces, once in its file; what does not occur is an
error and not a skip. "Exactly" is meant within tests/security. Exit 1 where anything differs.
"""

import argparse
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "tests/security"
TABLE = ROOT / FOLDER / "removals.toml"
PAGE = ROOT / "docs" / "security-tests.md"
LIBRARIES = (
    "coincurve",
    "eth.vm.forks.prague",
    "eth_account",
    "httpx",
    "hypothesis",
    "pytest_trio.plugin",
    "trio",
    "vyper.compiler",
    "web3",
)
"""Imported once, before runs are forked: they are most of a run's time, and no rule is theirs."""
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

    @property
    def touches_contracts(self) -> bool:
        """Whether the contracts must be compiled anew."""
        return any(edit.file.endswith(".vy") for edit in self.edits)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What has to be covered, by section and key, and the removals that cover it."""

    items: dict[str, dict[str, str]]
    not_yet: dict[str, str]
    removals: tuple[Removal, ...]


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
        self._before: dict[str, bytes] = {}
        self._writes = 0

    def remove(self, removal: Removal) -> None:
        """Take a rule out; raises `ValueError` where its text is not there once."""
        names = {edit.file for edit in removal.edits}
        if removal.touches_contracts:
            artifacts = (self.root / "contracts" / "artifacts").glob("*.json")
            names |= {str(path.relative_to(self.root)) for path in artifacts}
        self._before = {name: (self.root / name).read_bytes() for name in names}
        for edit in removal.edits:
            self._write(edit.file, edit.applied(self.root).encode())

    def put_back(self) -> None:
        """Make the copy whole again."""
        for name, content in self._before.items():
            self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file at a time of its own: bytecode of another content is never taken for its."""
        path = self.root / name
        path.write_bytes(content)
        self._writes += 1
        os.utime(path, (self._writes, self._writes))


def run_here(copy: Copy, removal: Removal | None, result: Path) -> None:
    """Run the folder on the copy's code and write what came out; for a process of its own."""
    os.chdir(copy.root)
    sys.path.insert(0, str(copy.root / ".src"))
    signal.alarm(RUN_SECONDS_MAX)
    if removal is not None and removal.touches_contracts:
        import_module("farthing.contracts.compile").main([])
    recorder = Recorder()
    # Plain asserts: nobody reads here how they fail, and rewriting the tests takes a second.
    options = ["-q", "-p", "no:cacheprovider", "--tb=no", "--assert=plain", FOLDER]
    code = pytest.main(options, plugins=[recorder])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}:
        raise SystemExit(f"pytest ended with {code}")
    ran = Path(str(import_module("farthing.channels.state").__file__))
    if not ran.is_relative_to(copy.root):
        raise SystemExit(f"the tests ran the code in {ran}, not the copy's")
    result.write_text(json.dumps(recorder.outcomes), encoding="utf-8")


class Attempt:
    """One run in a forked process: it starts with the libraries that all runs import."""

    def __init__(self, copy: Copy, removal: Removal | None) -> None:
        self.copy = copy
        self.removal = removal
        self._result = copy.root.with_name(copy.root.name + ".json")
        self._output = copy.root.with_name(copy.root.name + ".txt")
        self._result.unlink(missing_ok=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run()

    def _run(self) -> NoReturn:
        code = 1
        try:
            output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            run_here(self.copy, self.removal, self._result)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def outcomes(self, status: int) -> dict[str, str]:
        """What came out of the process that has ended; raises `ValueError` where nothing did."""
        if os.WIFSIGNALED(status):
            raise ValueError(f"it did not end within {RUN_SECONDS_MAX} s, or was killed")
        if status != 0:
            raise ValueError(self._output.read_text(encoding="utf-8")[-2000:])
        outcomes: dict[str, str] = json.loads(self._result.read_text(encoding="utf-8"))
        return outcomes


def judge(removal: Removal, outcomes: dict[str, str], sound: dict[str, str]) -> str:
    """What is wrong with a removal by what came out of its run; empty where it is exact."""
    failed = {name for name, outcome in outcomes.items() if outcome == "failed"}
    if removal.attack not in failed:
        return "the attack does not succeed without the rule"
    if others := failed - {removal.attack}:
        return "others failed too: " + ", ".join(sorted(others))
    if missing := sound.keys() - outcomes.keys():
        return "not run: " + ", ".join(sorted(missing))
    return ""


def run(removals: tuple[Removal, ...], jobs: int) -> int:
    """Judge removals, each in a copy that passes untouched; prints as it goes; how many differ."""
    for library in LIBRARIES:
        import_module(library)
    gc.freeze()
    with tempfile.TemporaryDirectory() as scratch:
        free = [Copy(Path(scratch).resolve() / str(number)) for number in range(jobs)]
        untouched = Attempt(free[0], None)
        sound = untouched.outcomes(os.waitpid(untouched.pid, 0)[1])
        if not sound or set(sound.values()) != {"passed"}:
            failed = sorted(name for name, outcome in sound.items() if outcome != "passed")
            raise SystemExit("before anything is removed these do not pass: " + ", ".join(failed))
        waiting, running, wrong = list(removals), dict[int, Attempt](), 0
        while waiting or running:
            while waiting and free:
                copy, removal = free.pop(), waiting.pop(0)
                copy.remove(removal)
                attempt = Attempt(copy, removal)
                running[attempt.pid] = attempt
            pid, status = os.wait()
            attempt = running.pop(pid)
            attempt.copy.put_back()
            free.append(attempt.copy)
            wrong += bool(_tell(attempt, status, sound))
        return wrong


def _tell(attempt: Attempt, status: int, sound: dict[str, str]) -> str:
    if attempt.removal is None:
        raise TypeError("nothing was removed")
    try:
        problem = judge(attempt.removal, attempt.outcomes(status), sound)
    except ValueError as error:
        problem = str(error)
    sys.stdout.write(f"{'WRONG' if problem else 'exact'}  {attempt.removal.id}\n")
    if problem:
        sys.stdout.write(f"       {problem}\n")
    sys.stdout.flush()
    return problem


# -- the page -----------------------------------------------------------------------------------

_HEAD = """# Attacks and the rules that stop them

Each safety rule and each class of bug has a test of its own, written as an attack, in
`tests/security/`. Each row below also says how its rule is removed from the code: the exact texts
stand in `tests/security/removals.toml`. `python tests/security/remove_rules.py` removes one after
the other in a copy of the tree, compiles the contracts anew where they are touched, and runs the
whole folder: exactly the named test must fail, and every other one must pass. "Exactly" is meant
within `tests/security/`; many tests elsewhere notice as well. Where several lines of defence would
each stop an attack, the removal takes all of them away, and the row says so.

There are {count} removals. Each is run when its row is written, all of them before a release; a
test compares this page with the table.
"""


def render(table: Table) -> str:
    """The page's text."""
    parts = [_HEAD.format(count=len(table.removals))]
    for section, items in table.items.items():
        parts.append(f"\n## {section}\n\n| | attack | removed | id |\n|---|---|---|---|\n")
        for key, what in items.items():
            for removal in table.removals:
                if key in removal.covers:
                    path, _, name = removal.attack.partition("::")
                    attack = name.removeprefix("test_").replace("_", " ")
                    file = ", ".join(dict.fromkeys(f"`{e.file}`" for e in removal.edits))
                    parts.append(
                        f"| {what} | {attack} (`{Path(path).name}`) | {removal.removed} ({file})"
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
    chosen = parser.parse_args()
    table = read_table()
    if unknown := set(chosen.ids) - {removal.id for removal in table.removals}:
        parser.error("unknown: " + ", ".join(sorted(unknown)))
    if chosen.write and chosen.ids:
        parser.error("the page is written after a run of all removals")
    removals = tuple(r for r in table.removals if not chosen.ids or r.id in chosen.ids)
    for edit in (edit for removal in removals for edit in removal.edits):
        edit.applied(ROOT)  # before the first run: a text that is gone is an error, not a skip
    wrong = run(removals, chosen.jobs)
    sys.stdout.write(f"{len(removals)} removals, {len(removals) - wrong} exact\n")
    if not wrong and chosen.write:
        PAGE.write_text(render(table), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
