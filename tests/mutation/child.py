"""What runs in the forked child: pytest on chosen tests, with one module compiled from a mutant."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

# Whatever the tests use and the product does not define is imported once, before the forks.
import coincurve
import coverage
import hypothesis
import hypothesis.stateful
import pytest
import rlp
import trio.testing

from .mutants import Mutant

LIBRARIES = (coincurve, coverage, hypothesis, rlp, trio)
MEMORY_BYTES_MAX = 4 * 2**30
"""A mutant that allocates for ever is stopped before the machine is."""
HEAD = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--no-header",
    "--tb=no",
    "--assert=plain",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """How long each test took and which of the module's lines it ran."""

    seconds: dict[str, float]
    lines: dict[str, frozenset[int]]

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Baseline:
        """Read what `run_baseline` wrote."""
        lines = {test: frozenset(numbers) for test, numbers in record["lines"].items()}
        return cls(seconds=record["seconds"], lines=lines)

    def tests_of(self, line: int, end_line: int) -> tuple[str, ...]:
        """The tests that run one of these lines, quick ones first.

        Where none does, all: the line is run once, when the module is imported.
        """
        span = frozenset(range(line, end_line + 1))
        found = [test for test, numbers in self.lines.items() if span & numbers]
        return tuple(sorted(found or self.seconds, key=lambda test: self.seconds[test]))

    def seconds_of(self, tests: Sequence[str]) -> float:
        """How long these took without a mistake."""
        return sum(self.seconds[test] for test in tests)


class MutatedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from another text than its file holds."""

    text = b""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the mutated text; nothing of it is cached."""
        return self.source_to_code(self.text, self.get_filename(fullname))


class MutatedFinder(importlib.abc.MetaPathFinder):
    """Finds one module, and hands it to `MutatedLoader`."""

    def __init__(self, module: str, text: str) -> None:
        self.module = module
        self.text = text.encode()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of that module alone."""
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            raise ImportError(f"{fullname} was not found")
        loader = MutatedLoader(fullname, spec.origin)
        loader.text = self.text
        spec.loader = loader
        return spec


class Chosen:
    """A pytest plugin: runs the chosen tests in their order, with few and unshrunk examples."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    def pytest_sessionstart(self) -> None:
        """After conftest.py has chosen its profile."""
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutants", hypothesis.settings(), phases=phases, max_examples=50, derandomize=True
        )
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and sort what was chosen."""
        kept = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(kept, key=lambda item: self.order[item.nodeid])


class Recorder:
    """A pytest plugin: notes how long each test takes and which lines of one file it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(data_file=None, include=[str(path)], config_file=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around set-up, test and tear-down."""
        self.coverage.switch_context(item.nodeid)
        started = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - started
        return result

    def lines(self) -> dict[str, list[int]]:
        """By test: the lines it ran."""
        found: dict[str, list[int]] = {}
        data = self.coverage.get_data()
        for file in data.measured_files():
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    if context:
                        found.setdefault(context, []).append(line)
        return found


def _be_quiet() -> None:
    """Send what the child says nowhere; a failure is its exit code."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def run_baseline(module: str, path: Path, tests: Sequence[str], out: Path) -> int:
    """Run the tests without a mistake and write what each one ran.

    The module is loaded as a mutant is, so that what kills a mutant is never the loading.
    """
    recorder = Recorder(path.resolve())
    sys.meta_path.insert(0, MutatedFinder(f"farthing.channels.{module}", path.read_text()))
    recorder.coverage.start()
    files = [f"tests/{test}" for test in tests]
    code = pytest.main([*HEAD, "--tb=short", *files], plugins=[Settings(), recorder])
    recorder.coverage.stop()
    lines = recorder.lines()
    if code == 0 and not lines and "    def " in path.read_text():
        raise RuntimeError(f"no test runs a line of {module}")
    out.write_text(json.dumps({"seconds": recorder.seconds, "lines": lines}))
    return int(code)


class Settings(Chosen):
    """The same examples as with a mutant, of all tests."""

    def __init__(self) -> None:
        super().__init__(())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep all."""


def run_mutant(module: str, mutant: Mutant, tests: Sequence[str]) -> int:
    """Run these tests on the mutant; 0 only if all of them pass."""
    _be_quiet()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    sys.meta_path.insert(0, MutatedFinder(f"farthing.channels.{module}", mutant.source))
    files = sorted({test.partition("::")[0] for test in tests})
    return int(pytest.main([*HEAD, *files], plugins=[Chosen(tests)]))
