"""Fixtures of the contract tests: one city is built, and each test starts from it anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import vyper

from .city import City
from .evm import Contract, Evm, Person


@pytest.fixture(scope="session")
def built_city() -> City:
    return City.built(Evm())


@pytest.fixture
def city(built_city: City) -> Iterator[City]:
    beginning = built_city.evm.checkpoint()
    yield built_city
    built_city.evm.restore(beginning)


@pytest.fixture(scope="session")
def built_hostile_city() -> City:
    source = Path(__file__).with_name("hostile_token.vy").read_text(encoding="utf-8")
    compiled = vyper.compile_code(source, output_formats=["abi", "bytecode"])
    evm = Evm()
    bytecode = bytes.fromhex(compiled["bytecode"][2:])
    token: Contract = evm.deploy(Person("mallory"), compiled["abi"], bytecode)
    return City.built(evm, token)


@pytest.fixture
def hostile_city(built_hostile_city: City) -> Iterator[City]:
    """A city whose token misbehaves towards the receivers that a test names."""
    beginning = built_hostile_city.evm.checkpoint()
    yield built_hostile_city
    built_hostile_city.evm.restore(beginning)
