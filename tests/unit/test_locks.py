"""The committed locks fit pyproject.toml and each other; checked without a network."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"client": None, "demo": "devnet", "dev": "dev"}
"""Each lock and the extra that it is for."""

DEVICE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
}
"""Where requirements/client-installed.txt says what `pip list` shows."""

RUN_AGAIN = "run `sh ./run lock`"


def pins(lock: str) -> dict[str, Requirement]:
    """Name to pinned requirement of one lock; refuses a pin that has no hash."""
    found: dict[str, Requirement] = {}
    logical_lines = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ")
    for line in logical_lines.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin, *hashes = re.split(r"\s+--hash=", line)
        assert hashes, f"{lock}.txt: no hash for {pin}"
        requirement = Requirement(pin)
        found[canonicalize_name(requirement.name)] = requirement
    return found


def version(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def asked(extra: str | None) -> list[Requirement]:
    """What pyproject.toml asks for with an extra; `farthing[x]` stands for the extra x."""
    lines = list(PROJECT["dependencies"])
    waiting = [extra] if extra else []
    while waiting:
        for line in PROJECT["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(line)
            if requirement.name == PROJECT["name"]:
                waiting.extend(requirement.extras)
            else:
                lines.append(line)
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_pyproject_asks_for(lock: str) -> None:
    locked = pins(lock)
    for requirement in asked(LOCKS[lock]):
        pin = locked.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{lock}.txt lacks {requirement}: {RUN_AGAIN}"
        assert requirement.specifier.contains(version(pin), prereleases=True), (
            f"{lock}.txt has {pin}, pyproject.toml asks for {requirement}: {RUN_AGAIN}"
        )


def test_what_the_tests_ran_with_is_what_a_device_and_a_demo_install() -> None:
    dev = pins("dev")
    for lock in ("client", "demo"):
        for name, pin in pins(lock).items():
            assert str(dev[name].specifier) == str(pin.specifier), f"{name}: {RUN_AGAIN}"


def test_the_device_installs_no_chain_library_and_no_compiler() -> None:
    forbidden = {"aiohttp", "eth-account", "hypercorn", "py-evm", "starlette", "vyper", "web3"}
    assert forbidden.isdisjoint(pins("client"))


def test_the_list_of_what_a_device_has_installed_is_its_lock_without_other_platforms() -> None:
    listed = sorted((ROOT / "requirements" / "client-installed.txt").read_text().split())
    on_device = sorted(
        f"{name}=={version(pin)}"
        for name, pin in pins("client").items()
        if pin.marker is None or pin.marker.evaluate(DEVICE)
    )
    assert listed == on_device, RUN_AGAIN
