"""The channel that on_chain.json is about, open on the compiled contract."""

from collections.abc import Iterator

import pytest

from ..contract.city import City
from .forms import read, unhex
from .placed import evm_terms, open_channel, placed_city


@pytest.fixture(scope="session")
def opened_city() -> City:
    """The deployment of the vectors, with their channel open and both deposits at their most."""
    record = read("on_chain.json")
    city = placed_city(int(record["chain_id"]), unhex(record["contract"]), int(record["timestamp"]))
    terms = evm_terms(record["terms"])
    assert open_channel(city, terms, int(record["deposit_a"]), int(record["deposit_b"])) == terms
    assert city.channel(terms) == unhex(record["channel"])
    return city


@pytest.fixture
def city(opened_city: City) -> Iterator[City]:
    beginning = opened_city.evm.checkpoint()
    yield opened_city
    opened_city.evm.restore(beginning)
