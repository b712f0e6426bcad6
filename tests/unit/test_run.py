"""`run` says what a machine lacks instead of failing half-way; CI tests the installation."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# An interpreter like the real one, but for one line that is run first. It stands for a machine
# that has another Python, or Debian's Python without its venv package.
PRETENDER = """#!/bin/sh
exec {python} -I -c 'import sys
{lie}
code = sys.argv[3]  # after our own -c come -I and -c
sys.argv[1:4] = []
exec(code)' "$@"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that `run` reads, in a path with spaces, without any environment."""
    copy = tmp_path / "a folder" / "farthing"
    copy.mkdir(parents=True)
    shutil.copy(ROOT / "run", copy)
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copytree(ROOT / "requirements", copy / "requirements")
    return copy


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH that has the usual commands and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "dirname", "rm", "sed", "sh"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


def pretend(tools: Path, name: str, lie: str) -> None:
    script = tools / name
    script.write_text(PRETENDER.format(python=shlex.quote(sys.executable), lie=lie))
    script.chmod(0o755)


def run(
    checkout: Path, tools: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(checkout / "run"), *arguments],
        cwd=os.sep,
        env={"PATH": str(tools), **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("target", ["demo", "test"])
def test_without_ensurepip_it_names_the_package_to_install(
    checkout: Path, tools: Path, target: str
) -> None:
    pretend(tools, "python3", 'sys.modules["ensurepip"] = None')
    result = run(checkout, tools, target)
    assert result.returncode == 2
    assert f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in result.stderr
    assert "dnf install" in result.stderr
    assert result.stdout == ""
    assert not (checkout / ".venv").exists()


def test_without_any_python_it_says_which_ones_will_do(checkout: Path, tools: Path) -> None:
    result = run(checkout, tools, "demo")
    assert result.returncode == 2
    assert "needs Python 3.11, 3.12 or 3.13; found: none" in result.stderr


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_another_python_is_refused_by_its_version(
    checkout: Path, tools: Path, version: tuple[int, int]
) -> None:
    pretend(tools, "python3", f"sys.version_info = {version}")
    result = run(checkout, tools, "test")
    assert result.returncode == 2
    assert f"python3 is {version[0]}.{version[1]}" in result.stderr


def test_a_python_that_lacks_something_gives_way_to_one_that_does_not(
    checkout: Path, tools: Path
) -> None:
    pretend(tools, "python3", "sys.version_info = (3, 10)")
    pretend(tools, "python3.13", 'sys.modules["venv"] = None')
    # It would be chosen; that it cannot make an environment here ends the run before the network.
    pretend(tools, "python3.12", 'sys._base_executable = "/nowhere/python3.12"')
    result = run(checkout, tools, "install")
    assert "/nowhere/python3.12" in result.stderr


def test_the_variable_python_is_the_only_choice_when_it_is_set(checkout: Path, tools: Path) -> None:
    pretend(tools, "python3", 'sys._base_executable = "/nowhere/python3"')
    pretend(tools, "mine", "sys.version_info = (3, 10)")
    result = run(checkout, tools, "demo", PYTHON=str(tools / "mine"))
    assert result.returncode == 2
    assert "mine is 3.10" in result.stderr


def test_an_unknown_target_shows_the_usage(checkout: Path, tools: Path) -> None:
    result = run(checkout, tools, "dmeo")
    assert result.returncode == 64
    assert "usage:" in result.stderr


def test_help_needs_nothing_at_all(checkout: Path, tools: Path) -> None:
    result = run(checkout, tools, "help")
    assert result.returncode == 0
    assert "sh ./run TARGET" in result.stdout
