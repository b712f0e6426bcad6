"""docs/devnet.md shows what the devnet's commands print."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.chains import served_devnet

from farthing.cli.devnet import devnet

from .pages import page, programs
from .walkthrough import blocks, matches, shapes

PROCESS = "up"
"""This command starts a process: tests/contract/test_devnet_commands.py starts and stops one."""


def test_the_page_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [command for block in blocks(page("devnet.md")) for command in block.commands]
    assert len(commands) > 10
    monkeypatch.chdir(tmp_path)
    last_hash = ""
    with served_devnet() as rpc_url:
        monkeypatch.setenv("FARTHING_DEVNET", rpc_url)
        for command in commands:
            program, group, *words = shlex.split(command.text)
            assert (program, group) == ("farthing", "devnet")
            if words[0] == PROCESS:
                continue
            if words[0] == "tx":  # of this chain: the one that the console has just sent
                words[1] = last_hash
            done = CliRunner().invoke(devnet, words)
            assert done.exit_code == 0, done.output
            if sent := re.fullmatch(r"'(0x[0-9a-f]{64})'\s*", done.stdout):
                last_hash = sent[1]
            shown = [re.sub(r"^folder  .*", "folder  none: in memory", x) for x in command.expected]
            assert matches(shapes(shown), shapes(done.output.splitlines())), done.output


def test_the_fixtures_work_as_the_page_shows_them(tmp_path: Path) -> None:
    [(name, text)] = programs(page("devnet.md")).items()
    (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", name]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
