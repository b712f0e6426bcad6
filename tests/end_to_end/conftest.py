"""Fixtures of the wallet's tests: a small city whose clocks and retries are quick."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farthing.channels.client import connection, follower, guard, submissions

from .small_city import SmallCity, open_city


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the chain and dial the hub every few milliseconds instead of every second."""
    for module, name in (
        (follower, "POLL_SECONDS_MIN"),
        (follower, "POLL_SECONDS_MAX"),
        (follower, "RETRY_SECONDS_MIN"),
        (follower, "RETRY_SECONDS_MAX"),
        (connection, "BACKOFF_SECONDS_MIN"),
        (connection, "BACKOFF_SECONDS_MAX"),
        (connection, "PROPOSE_AFTER_SECONDS"),
        (connection, "PROPOSE_AGAIN_SECONDS"),
        (submissions, "RETRY_SECONDS_MIN"),
        (guard, "SETTLE_AGAIN_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)


@pytest.fixture
async def city(tmp_path: Path, quick: None) -> AsyncIterator[SmallCity]:
    async with open_city(tmp_path) as opened:
        yield opened


@pytest.fixture
async def empty_city(tmp_path: Path, quick: None) -> AsyncIterator[SmallCity]:
    """A city in which no channel was opened yet."""
    async with open_city(tmp_path, channel=False) as opened:
        yield opened
