"""Fixtures of the contract tests: one city is built, and each test starts from it anew.

After each test its money must be conserved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from . import conservation
from .city import City, compiled
from .evm import Contract, Evm, Person

if TYPE_CHECKING:
    from .lively import Lively


@contextmanager
def anew(built: City) -> Iterator[City]:
    beginning = built.evm.checkpoint()
    try:
        yield built
        conservation.check(built)
    finally:
        built.evm.restore(beginning)


@pytest.fixture(scope="session")
def built_city() -> City:
    return City.built(Evm())


@pytest.fixture
def city(built_city: City) -> Iterator[City]:
    with anew(built_city) as city:
        yield city


@pytest.fixture(scope="session")
def built_hostile_city() -> City:
    evm = Evm()
    token: Contract = evm.deploy(Person("mallory"), *compiled("hostile_token"))
    return City.built(evm, token)


@pytest.fixture
def hostile_city(built_hostile_city: City) -> Iterator[City]:
    """A city whose token misbehaves towards the receivers that a test names."""
    with anew(built_hostile_city) as city:
        yield city


@pytest.fixture(scope="session")
def lively_devnet(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Lively]":
    """A served devnet with channels that were opened and settled; tests leave it as it was."""
    from .lively import lively  # noqa: PLC0415 - web3 takes a second to import

    with lively(tmp_path_factory.mktemp("lively")) as world:
        yield world
