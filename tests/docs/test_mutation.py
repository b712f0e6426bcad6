"""docs/mutation.md says what the last run found, and why each survivor may live."""

import json
import tomllib

from ..mutation.mutants import mutants_of
from ..mutation.report import KILLED_PERCENT_MIN, PAGE, REASONS, RESULTS, page
from ..mutation.run import TESTS, module_path


def test_the_page_is_made_from_the_results() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.mutation.report"


def test_every_module_was_run_and_nearly_every_mutant_was_killed() -> None:
    results = json.loads(RESULTS.read_text())
    assert list(results) == list(TESTS)
    for module, one in results.items():
        killed = one["killed"] + one["timeout"]
        assert killed + len(one["survivors"]) == one["mutants"]
        assert 100 * killed >= KILLED_PERCENT_MIN * one["mutants"], module


def test_every_reason_is_that_of_a_survivor() -> None:
    results = json.loads(RESULTS.read_text())
    survivors = {survivor["name"] for one in results.values() for survivor in one["survivors"]}
    assert survivors == tomllib.loads(REASONS.read_text()).keys()


def test_every_mutant_is_another_program_with_a_name_of_its_own() -> None:
    for module in TESTS:
        source = module_path(module).read_text()
        mutants = mutants_of(source)
        assert len({mutant.name for mutant in mutants}) == len(mutants) > 0
        assert all(mutant.source != source for mutant in mutants)
        for mutant in mutants:
            compile(mutant.source, module, "exec")


def test_a_name_does_not_change_with_the_line() -> None:
    source = "def f(a: int) -> bool:\n    return a < 1\n"
    moved = "X = 5\n\n\n" + source
    names = {mutant.name for mutant in mutants_of(source)}
    assert names < {mutant.name for mutant in mutants_of(moved)}
    assert {m.after for m in mutants_of(source)} == {
        "return None",
        "(a <= 1)",
        "(a >= 1)",
        "(2)",
    }
