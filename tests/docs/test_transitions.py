"""docs/transitions.md is what the core's table and its steps give."""

from farthing.channels.state import Phase

from .make_transitions import PAGE, arrows, page


def test_the_page_of_transitions_is_the_one_that_the_core_gives() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.docs.make_transitions"


def test_every_phase_is_entered_and_all_but_the_last_are_left() -> None:
    found = arrows()
    assert {target for _, target in found} == set(Phase)
    assert {source for source, _ in found} == set(Phase) - {Phase.STOPPED}
