"""Processes that all tests here share: each test has channels of its own."""

from collections.abc import Iterator

import pytest

from ..hub_world import City
from .hub import HonestHub, honest_hub
from .wallet import HonestWallet, honest_wallet


@pytest.fixture(scope="session")
def hub(hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HonestHub]:
    with honest_hub(hub_city, tmp_path_factory.mktemp("honest"), channels=48) as hub:
        yield hub


@pytest.fixture(scope="session")
def wallet(hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HonestWallet]:
    folder = tmp_path_factory.mktemp("device")
    with honest_wallet(hub_city, folder, channels=32) as wallet:
        yield wallet
