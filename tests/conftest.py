"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: fast (the default), ci and deep.

fast and ci try the same examples each time, so that a red run is red for everybody; deep looks for
new ones and is for the night before a release. An example has no deadline: a deadline would test
how busy the machine is.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from .hub_world import City

# Generating slowly is no bug on a shared machine; every other health check stays on.
UNHURRIED = [HealthCheck.too_slow]

settings.register_profile(
    "fast", max_examples=50, derandomize=True, deadline=None, suppress_health_check=UNHURRIED
)
settings.register_profile(
    "ci", max_examples=300, derandomize=True, deadline=None, suppress_health_check=UNHURRIED
)
settings.register_profile(
    "deep", max_examples=10_000, deadline=None, print_blob=True, suppress_health_check=UNHURRIED
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A shell's background job ignores ^C, and so would every process whose ^C is tested here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_FIRST = ("docs", "durability", "end_to_end", "fault", "byzantine")
"""Folders whose files take long: begun last, they would leave the other workers idle at the end."""


CLIENTS = Path(__file__).parent / "clients"
CHAIN = os.environ.get("FARTHING_TEST_CHAIN", "devnet")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out other people's clients, which need node, unless they are named."""
    named = any("clients" in argument for argument in config.args)
    return True if collection_path == CLIENTS and not named else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by folder; within one the order stays as collected.

    On another chain than the devnet, keep the tests that use the chain. Anvil takes transactions
    from anybody: tests marked `allowlist` are skipped there, for the reason that stands with them.
    """
    ranks = {folder: rank for rank, folder in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, len(ranks)))
    if CHAIN == "devnet":
        return
    of_the_chain = {
        item: not {"hub_city", "own_chain"}.isdisjoint(getattr(item, "fixturenames", ()))
        for item in items
    }
    config.hook.pytest_deselected(items=[item for item in items if not of_the_chain[item]])
    items[:] = [item for item in items if of_the_chain[item]]
    for item in items:
        mark = item.get_closest_marker("allowlist")
        if mark is not None and CHAIN == "anvil":
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


@pytest.fixture(scope="module")
def own_chain() -> Iterator[str]:
    """The URL of a chain of a file's own: the devnet unless FARTHING_TEST_CHAIN says another."""
    from .chains import served_chain  # noqa: PLC0415 - it imports an EVM, which not all need

    with served_chain() as url:
        yield url


@pytest.fixture(scope="session")
def hub_city(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[City]":
    """One chain with the contracts for every test of the hub; web3 is imported when used."""
    from .chains import served_chain  # noqa: PLC0415 - as said
    from .hub_world import build_city  # noqa: PLC0415 - as said

    with served_chain() as rpc_url:
        yield build_city(rpc_url, tmp_path_factory.mktemp("city"))


@pytest.fixture(autouse=True)
def machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own for each test: what is kept outside of folders, as on a new one."""
    home = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


@pytest.fixture
def quick_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hubs and towers of this process look and gather every few milliseconds."""
    for name in (
        "follower.POLL_SECONDS",
        "opener.GATHER_SECONDS",
        "liquidity.GATHER_SECONDS",
        "silence.LOOK_SECONDS",
        "settler.CHECK_SECONDS",
        "hub.SUBMIT_POLL_SECONDS",
        "sender.RECEIPT_POLL_SECONDS",
        "watchtower.lookout.POLL_SECONDS",
    ):
        monkeypatch.setattr(f"farthing.node.{name}", 0.02)
