"""Shell completion: in a real bash, and what zsh and fish run; fast, and without a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import FishComplete, ShellComplete, ZshComplete

from farthing.cli.completion import SHELLS
from farthing.cli.main import COMMANDS, root

from ..hub_world import farthing
from ..terminals import bash

BIN = Path(sys.executable).parent
HEAVY = {"web3", "eth", "eth_account", "eth_keyfile", "hypercorn", "requests"}
COMPLETE = """
import sys
from click.shell_completion import BashComplete
from farthing.cli.main import root
completing = BashComplete(root, {}, "farthing", "_FARTHING_COMPLETE")
"""


def asked(words: str, place: int, *, of: str = "bash", python: str = "") -> str:
    """What the program answers a shell that completes the word at a place."""
    command = [sys.executable, "-c", python] if python else [str(BIN / "farthing")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "_FARTHING_COMPLETE": f"{of}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": words.split(" ")[place] if of == "fish" else str(place),
        },
    )
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    (tmp_path / "only.toml").touch()
    with bash(tmp_path) as typing:
        typing.type('eval "$(farthing completion bash)"\n')
        typing.wait("ready> ")
        for keys, completed in (
            ("wal\t", "wallet "),
            ("wallet hist\t", "wallet history "),
            ("wallet history --dir\t", "wallet history --direction "),
            ("wallet history --direction se\t", "wallet history --direction sent "),
            ("hub status --config on\t", "hub status --config only.toml "),
        ):
            typing.type(f"farthing {keys}")
            typing.wait(f"farthing {completed}")
            # Ctrl-A goes to the start of the line, so that what stands there is printed, not run.
            typing.type("\x01echo '[\x05]'\n")
            typing.wait(f"\n[farthing {completed}]")
            typing.wait("ready> ")


@pytest.mark.parametrize("kind", [ZshComplete, FishComplete])
def test_the_script_for_another_shell_is_what_click_makes(kind: type[ShellComplete]) -> None:
    script = kind(root, {}, "farthing", "_FARTHING_COMPLETE").source()
    assert farthing("completion", kind.name).out == script + "\n"
    assert re.search(rf"_FARTHING_COMPLETE={kind.name}_complete", script)


def test_zsh_and_fish_are_answered_in_their_own_form() -> None:
    text = COMMANDS["wallet"][2]
    assert asked("farthing wal", 1, of="zsh") == f"plain\nwallet\n{text}\n"
    assert asked("farthing wal", 1, of="fish") == f"plain,wallet\t{text}\n"


def test_every_shell_of_the_help_has_a_script() -> None:
    for shell in SHELLS:
        assert "_FARTHING_COMPLETE" in farthing("completion", shell).out
    assert farthing("completion", "tcsh").code == 64


def test_all_commands_are_offered_without_loading_one() -> None:
    program = COMPLETE + (
        "print(*(item.value for item in completing.get_completions([], '')))\n"
        "print(*(name for name in sys.modules if name.startswith('farthing.cli.')))"
    )
    names, modules = asked("", 0, python=program).splitlines()
    assert names.split() == sorted(COMMANDS)
    assert set(modules.split()) == {
        f"farthing.cli.{name}" for name in ("main", "output", "completion")
    }


@pytest.mark.parametrize("command", ["wallet", "hub", "devnet"])
def test_completing_below_a_command_loads_nothing_heavy(command: str) -> None:
    program = COMPLETE + f"completing.get_completions([{command!r}], '')\nprint(*sys.modules)"
    loaded = set(asked("", 0, python=program).split())
    assert f"farthing.cli.{command}" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    "words",
    [
        "farthing wallet pay five --fol",  # no amount
        "farthing member show 0x1 --dep",  # no address
        "farthing devnet up --block-time soon --por",
        "farthing wallet nonsense --fol",
        "farthing nonsense --fol",
        "farthing wallet pay --folder /nowhere 0.5 --pur",
    ],
)
def test_what_stands_before_may_be_wrong_and_nothing_is_said_of_it(words: str) -> None:
    answer = asked(words, len(words.split(" ")) - 1)
    assert all(line.startswith("plain,--") for line in answer.splitlines() if line)
    assert ("nonsense" in words) or answer.startswith("plain,--")


def test_a_missing_extra_offers_nothing_and_says_nothing() -> None:
    program = (
        "import sys; sys.modules['eth'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'eth' else found(name, *a)\n"
        "sys.argv = ['farthing']; from farthing.cli.main import main; main()"
    )
    assert asked("farthing devnet u", 2, python=program).strip() == ""
