"""Mutation testing of the pure core: `python -m tests.mutation.run [MODULE …]`.

Each mutant runs in a process forked from this one, which has imported the libraries but nothing of
the product: the mutated module is compiled in its place, and the tests that run its changed lines
are run until one fails. What is done stands in .mutation/ and is not done again, so the run can be
stopped and goes on later. At the end the results are written beside this file, and
`python -m tests.mutation.report` makes docs/mutation.md of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from .child import Baseline, run_baseline, run_mutant
from .mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".mutation"
RESULTS = Path(__file__).with_name("results.json")

CORE = (
    "unit/test_transition.py",
    "unit/test_closing.py",
    "unit/test_withdrawing.py",
    "unit/test_state.py",
    "unit/test_restoring.py",
    "unit/test_doubt.py",
    "unit/test_two_cores_scenarios.py",
    "property/test_two_cores.py",
    "security/test_rule_01_largest_total_wins.py",
    "security/test_rule_02_a_signed_close_freezes.py",
    "security/test_rule_03_a_withdrawal_is_spent.py",
    "security/test_rule_04_nothing_on_a_stale_view.py",
    "security/test_rule_05_every_boot_is_stale.py",
    "security/test_rule_07_a_signed_voucher_is_spent.py",
    "security/test_counting.py",
    "unit/test_core_boundaries.py",
    "unit/test_vanished.py",
)
WIRE = (
    "unit/test_messages.py",
    "unit/test_packed.py",
    "unit/test_rlp_items.py",
    "unit/test_frames.py",
    "unit/test_fields.py",
    "unit/test_handshake.py",
    "interop/test_wire_messages.py",
    "docs/test_protocol.py",
    "security/test_frames.py",
    "unit/test_wire_boundaries.py",
)
SIGNED = (
    "unit/test_voucher.py",
    "unit/test_signing.py",
    "unit/test_ids.py",
    "unit/test_receipt.py",
    "interop/test_eip712_vectors.py",
    "interop/test_histories.py",
    "interop/test_refused_signatures.py",
    "security/test_signatures.py",
)
TESTS: dict[str, tuple[str, ...]] = {
    "voucher": (*SIGNED, "unit/test_wire_boundaries.py", *CORE),
    "state": CORE,
    "transition": CORE,
    "connecting": CORE,
    "observing": CORE,
    "restoring": ("property/test_restored_payee.py", *CORE),
    "closing": CORE,
    "withdrawing": CORE,
    "refusals": CORE,
    "codecs": WIRE,
    "packed": (*WIRE, *CORE),
    "rlp_items": WIRE,
    "frames": WIRE,
    "fields": WIRE,
    "messages": (*WIRE, *CORE),
    "eip712": (*SIGNED, "unit/test_wire_boundaries.py"),
    "client.balance": ("unit/test_balance.py", "unit/test_wallet_parts.py"),
}
"""Each module's tests, all in one process and without a chain; which of them run a line is found
out by running them once."""

SECONDS_BEFORE_TIMEOUT = 20
"""On top of five times what the tests took without a mistake."""


KILLED = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
"""A test failed, or the mutated module could not even be imported; anything else is our mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a mutant: killed by a test, by the clock, or not at all."""

    outcome: str
    seconds: float


def forked(job: object, seconds_max: float) -> Verdict:
    """Run a job in a child of this process; its exit code says whether a test failed."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            code = job()  # type: ignore[operator]
        finally:
            os._exit(code)
    descriptor = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([descriptor], [], [], seconds_max)
        if not ready:
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(descriptor)
    seconds = round(time.monotonic() - started, 2)
    if not ready:
        return Verdict(outcome="timeout", seconds=seconds)
    code = os.waitstatus_to_exitcode(status)
    if code == pytest.ExitCode.OK:
        return Verdict(outcome="survived", seconds=seconds)
    if code not in KILLED:
        raise SystemExit(f"the tests did not run: pytest ended with {code}")
    return Verdict(outcome="killed", seconds=seconds)


def module_path(module: str) -> Path:
    """The file of a module of channels/."""
    return ROOT / "channels" / (module.replace(".", "/") + ".py")


def fingerprint(module: str) -> str:
    """Of the tests: a surviving mutant is tried again when one of them has changed."""
    digest = hashlib.sha256()
    for name in TESTS[module]:
        digest.update((ROOT / "tests" / name).read_bytes())
    return digest.hexdigest()[:16]


class Progress:
    """One line of JSON for each mutant that was tried; the newest of a mutant counts."""

    def __init__(self, module: str) -> None:
        self.path = WORK / f"{module}.jsonl"
        self.tests = fingerprint(module)
        self.done: dict[str, dict[str, object]] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                row = json.loads(line)
                self.done[row["name"]] = row

    def is_done(self, mutant: Mutant) -> bool:
        row = self.done.get(mutant.name)
        return row is not None and (row["outcome"] != "survived" or row["tests"] == self.tests)

    def note(self, mutant: Mutant, verdict: Verdict) -> None:
        row = {
            "name": mutant.name,
            "outcome": verdict.outcome,
            "seconds": verdict.seconds,
            "tests": self.tests,
        }
        self.done[mutant.name] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def baseline_of(module: str) -> Baseline:
    """Which test runs which lines, and how long; made by one run without a mistake."""
    path = WORK / f"{module}.baseline.json"
    key = [fingerprint(module), hashlib.sha256(module_path(module).read_bytes()).hexdigest()]
    if path.exists():
        held = json.loads(path.read_text())
        if held.get("key") == key:  # none where an earlier run was stopped
            return Baseline.of_record(held)
    verdict = forked(lambda: run_baseline(module, module_path(module), TESTS[module], path), 1200)
    if verdict.outcome != "survived":
        raise SystemExit(f"the tests of {module} do not pass without a mistake: {verdict}")
    held = {**json.loads(path.read_text()), "key": key}
    path.write_text(json.dumps(held))
    return Baseline.of_record(held)


def run_module(module: str, deadline: float) -> bool:
    """Try every mutant that was not tried yet; returns whether all of them are done."""
    mutants = mutants_of(module_path(module).read_text())
    progress = Progress(module)
    todo = [mutant for mutant in mutants if not progress.is_done(mutant)]
    if todo:
        baseline = baseline_of(module)
        for number, mutant in enumerate(todo, 1):
            if time.monotonic() > deadline:
                return False
            chosen = baseline.tests_of(mutant.line, mutant.end_line)
            seconds_max = SECONDS_BEFORE_TIMEOUT + 5 * baseline.seconds_of(chosen)
            verdict = forked(lambda m=mutant, c=chosen: run_mutant(module, m, c), seconds_max)
            progress.note(mutant, verdict)
            if verdict.outcome == "survived":
                print(f"{module}:{mutant.line} survived: {mutant.before} -> {mutant.after}")
            elif number % 50 == 0:
                print(f"{module}: {number} of {len(todo)}", flush=True)
    write_results(module, mutants, progress)
    return True


def write_results(module: str, mutants: list[Mutant], progress: Progress) -> None:
    """Put a module's figures and survivors into the committed file."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    outcomes = [progress.done[mutant.name]["outcome"] for mutant in mutants]
    survivors = [
        {
            "name": mutant.name,
            "function": mutant.function,
            "kind": mutant.kind,
            "before": mutant.before,
            "after": mutant.after,
        }
        for mutant, outcome in zip(mutants, outcomes, strict=True)
        if outcome == "survived"
    ]
    seconds = sum(float(str(progress.done[mutant.name]["seconds"])) for mutant in mutants)
    results[module] = {
        "mutants": len(mutants),
        "killed": outcomes.count("killed"),
        "timeout": outcomes.count("timeout"),
        "seconds": round(seconds),
        "survivors": survivors,
    }
    ordered = {name: results[name] for name in TESTS if name in results}
    RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    killed = len(mutants) - len(survivors)
    print(f"{module}: {killed} of {len(mutants)} killed, {100 * killed / len(mutants):.1f} %")


def main() -> None:
    """Run the named modules, or all; exit code 1 where time ran out."""
    parser = argparse.ArgumentParser(description="Mutation testing of the pure core.")
    parser.add_argument("modules", nargs="*", choices=[*TESTS, []], metavar="MODULE")
    parser.add_argument("--minutes", type=float, default=120, help="stop after this long")
    arguments = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    os.chdir(ROOT)
    deadline = time.monotonic() + 60 * arguments.minutes
    complete = [run_module(module, deadline) for module in arguments.modules or TESTS]
    sys.exit(0 if all(complete) else 1)


if __name__ == "__main__":
    main()
