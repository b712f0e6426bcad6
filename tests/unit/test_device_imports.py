"""A device installs and loads little: what its client imports is checked in a fresh process."""

import json
import subprocess
import sys

import pytest

# Not installed on a device, or too heavy to load with the client.
FORBIDDEN = {
    "asyncio",
    "eth",
    "eth_abi",
    "eth_account",
    "eth_keyfile",
    "eth_keys",
    "hypercorn",
    "starlette",
    "vyper",
    "web3",
}
PROGRAM = """
import importlib, json, pkgutil, sys
before = set(sys.modules)  # a measuring tool may have loaded more
import farthing.channels.client as client
for module in pkgutil.iter_modules(client.__path__):
    importlib.import_module(f"{client.__name__}.{module.name}")
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""
CORE_PROGRAM = """
import importlib, json, pkgutil, sys
before = set(sys.modules)  # a measuring tool may have loaded more
import farthing.channels as core
for module in pkgutil.iter_modules(core.__path__):
    if module.name != "client":
        importlib.import_module(f"{core.__name__}.{module.name}")
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


def loaded(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("program", [PROGRAM, CORE_PROGRAM], ids=["client", "core"])
def test_importing_loads_nothing_that_a_device_lacks(program: str) -> None:
    assert loaded(program) & FORBIDDEN == set()


def test_the_core_loads_no_network_and_no_database() -> None:
    assert loaded(CORE_PROGRAM) & {"httpx", "trio", "sqlite3"} == set()
