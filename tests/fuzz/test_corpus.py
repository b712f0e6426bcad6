"""Every input that fuzzing found worth keeping, again: nothing breaks, and nothing costs much."""

from pathlib import Path
from typing import Any

import pytest

from .mutate import mutated
from .run import CORPUS, name_of
from .seeds import BROKE, SEEDS
from .targets import TARGETS
from .work import lines_of, memory_of

LINES_BASE, LINES_PER_BYTE = 4_000, 60
"""The product's lines that an input may run: a fixed part, and a part for each of its bytes."""
MEMORY_BASE, MEMORY_PER_BYTE = 2_000_000, 400
STRETCHED_BYTES = 6_000


def corpus(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


def stretched(data: bytes) -> bytes:
    """The same input with its middle repeated: where work grows faster than the input, it shows."""
    third = len(data) // 3
    middle = data[third : 2 * third] or b"["
    return data[:third] + middle * (STRETCHED_BYTES // len(middle)) + data[2 * third :]


def test_every_target_has_seeds_and_a_corpus_and_no_other_has() -> None:
    assert TARGETS.keys() == SEEDS.keys() == {path.name for path in CORPUS.iterdir()}
    for target in TARGETS:
        for path in corpus(target):
            assert path.name == name_of(path.read_bytes())


def test_what_once_broke_a_target_is_in_its_corpus() -> None:
    for target, inputs in BROKE.items():
        assert {name_of(data) for data in inputs} <= {path.name for path in corpus(target)}


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_reaches_what_the_seeds_reach(target: str) -> None:
    modules = TARGETS[target].modules
    TARGETS[target].one(b"")  # what is imported at the first use is nobody's edge
    seeds, kept = (
        set().union(*(lines_of(TARGETS[target].one, data, modules).edges for data in inputs))
        for inputs in (SEEDS[target](), [path.read_bytes() for path in corpus(target)])
    )
    assert kept
    assert len(seeds - kept) <= len(seeds) // 10  # what a devnet runs depends on what it ran


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_of_the_corpus_breaks_anything_or_costs_more_than_its_length_allows(
    target: str,
) -> None:
    one = TARGETS[target].one
    one(b"")
    for path in corpus(target):
        data = path.read_bytes()
        for case in (data, stretched(data)):
            work = lines_of(one, case)
            assert work.lines <= LINES_BASE + LINES_PER_BYTE * len(case), path.name
        assert memory_of(one, data) <= MEMORY_BASE + MEMORY_PER_BYTE * len(data), path.name


@pytest.mark.parametrize("target", TARGETS)
def test_a_hundred_changes_of_the_first_json_break_nothing(target: str) -> None:
    """What the mutator of JSON makes is fuzzed here a little, without atheris."""
    for seed in SEEDS[target]()[:3]:
        for number in range(100):
            changed = mutated(seed, TARGETS[target].bytes_max, number)
            if changed is None:
                break
            TARGETS[target].one(changed)


def test_work_that_grows_with_the_square_of_the_input_is_noticed() -> None:
    """The counter counts: a reader as bad as the library's own list reader is over the limit."""

    def quadratic(data: bytes) -> None:
        while data:
            data = namespace["slow_reader"](data)

    namespace: dict[str, Any] = {"__name__": "farthing.slow"}
    exec("def slow_reader(data):\n for _ in data:\n  pass\n return data[1:]\n", namespace)  # noqa: S102
    lines = lines_of(quadratic, bytes(1000)).lines
    assert lines > LINES_BASE + LINES_PER_BYTE * 1000
