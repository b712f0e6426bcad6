"""An error names its reason, its text says what to do next, and no base class is ever raised."""

import importlib
import pkgutil

import pytest

import farthing.channels
from farthing.channels.errors import (
    ChainError,
    FarthingError,
    InvariantBroken,
    LocalError,
    PeerError,
)
from farthing.channels.refusals import TooManyUnacknowledged


def every_error() -> list[type[FarthingError]]:
    for module in pkgutil.walk_packages(farthing.channels.__path__, "farthing.channels."):
        importlib.import_module(module.name)
    found: list[type[FarthingError]] = []
    waiting: list[type[FarthingError]] = [LocalError, PeerError, ChainError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            found.append(kind)
    return [kind for kind in found if kind.__module__.startswith("farthing.channels.")]


@pytest.mark.parametrize("base", [FarthingError, LocalError, PeerError, ChainError])
def test_a_base_class_cannot_be_raised(base: type[FarthingError]) -> None:
    with pytest.raises(TypeError, match="raise the class that names the reason"):
        base("something went wrong")


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_channels_has_a_code_in_one_spelling(kind: type[FarthingError]) -> None:
    assert kind.code == kind.code.lower()
    assert " " not in kind.code
    assert kind.__doc__


def test_an_error_reads_as_its_text_and_what_to_do() -> None:
    error = TooManyUnacknowledged("4096 payments are unacknowledged")
    assert str(error) == (
        "4096 payments are unacknowledged: wait for the peer's acknowledgements and try again"
    )
    assert (error.text, error.code) == ("4096 payments are unacknowledged", error.code)
    assert error.retryable


def test_a_remedy_of_its_own_replaces_that_of_the_class_and_an_empty_one_is_left_out() -> None:
    assert str(InvariantBroken("two is one", remedy="count again")) == "two is one: count again"
    assert str(InvariantBroken("two is one", remedy="")) == "two is one"
