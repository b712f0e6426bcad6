"""docs/commands.md is what the commands say of themselves."""

import subprocess
import sys
from pathlib import Path

import click

from farthing.cli.reference import WIDTH, reference, walk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == reference(), (
        "write it again: python -m farthing.cli.reference > docs/commands.md"
    )


def test_the_module_prints_the_page_wherever_it_runs(tmp_path: Path) -> None:
    """The width and language of the terminal that it is run in leave no trace."""
    done = subprocess.run(
        [sys.executable, "-m", "farthing.cli.reference"],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={"COLUMNS": "40", "PATH": "", "LC_ALL": "C.UTF-8"},
    )
    assert done.stdout.decode() == PAGE.read_text()


def test_each_command_has_its_place_on_the_page() -> None:
    @click.group()
    def top() -> None:
        """Be the top."""

    @top.command()
    def below() -> None:
        """Be below."""

    found = dict(walk(top, ("top",)))
    assert list(found) == [("top",), ("top", "below")]
    assert found["top", "below"].startswith("Usage: top below")
    assert max(map(len, reference().splitlines())) <= WIDTH + len("  ")
