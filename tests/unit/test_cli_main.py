"""Every command: its help with an example, its --json, and the exit codes of the whole."""

import importlib
from collections.abc import Iterator

import click
import pytest

from farthing.channels.errors import LocalError
from farthing.cli.main import COMMANDS, EXTRA_OF, root

from ..hub_world import farthing


def walked(command: click.Command, path: str = "farthing") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walked(found, f"{path} {name}")


ALL = dict(walked(root))
LEAVES = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}

WITHOUT_JSON = {
    "farthing completion": "what it prints is a program, and only a shell reads it",
}


@pytest.mark.parametrize("path", LEAVES)
def test_each_command_has_help_with_an_example_that_begins_with_its_name(path: str) -> None:
    arguments = path.split()[1:]
    done = farthing(*arguments, "--help")
    assert done.code == 0
    assert "Example:" in done.out
    assert path in done.out.split("Example:")[1]


@pytest.mark.parametrize("path", ALL)
def test_each_help_says_what_it_is_for_and_gives_an_example(path: str) -> None:
    done = farthing(*path.split()[1:], "--help")
    assert done.code == 0
    assert ALL[path].get_short_help_str()
    assert "farthing " in done.out.split("Example:")[1]
    assert "\\b" not in done.out  # a mark for click that it did not see


@pytest.mark.parametrize("path", LEAVES)
def test_each_command_can_speak_json(path: str) -> None:
    names = {option for parameter in LEAVES[path].params for option in parameter.opts}
    assert ("--json" in names) is (path not in WITHOUT_JSON)


def test_a_reason_is_given_only_for_commands_that_there_are() -> None:
    assert set(WITHOUT_JSON) <= set(LEAVES)
    assert all(WITHOUT_JSON.values())


@pytest.mark.parametrize("path", LEAVES)
def test_a_wrong_option_of_any_command_is_usage(path: str) -> None:
    done = farthing(*path.split()[1:], "--no-such-option")
    assert done.code == 64
    assert "no-such-option" in done.err


def test_the_top_lists_every_command_without_loading_one() -> None:
    done = farthing("--help")
    assert done.code == 0
    for name, (_, _, text) in COMMANDS.items():
        assert name in done.out
        assert text.split()[0] in done.out
    assert "Example:" in done.out


def test_the_version_is_told() -> None:
    assert farthing("--version").out.startswith("farthing, version ")


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["hub"], ["hub", "nonsense"]])
def test_wrong_usage_ends_with_64(arguments: list[str]) -> None:
    assert farthing(*arguments).code == 64


def test_a_command_whose_extra_is_missing_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str, package: str | None = None) -> None:
        raise ModuleNotFoundError("No module named 'web3'", name="web3")

    monkeypatch.setattr(importlib, "import_module", missing)
    done = farthing("deploy", "--help")
    assert done.code == 1
    assert "pip install 'farthing[hub]'" in done.err
    for name, extra in EXTRA_OF.items():
        assert f"farthing[{extra}]" in farthing(name, "--help").err


def test_a_module_of_our_own_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "ghost", ("ghost", "ghost", "Is not there."))
    with pytest.raises(ModuleNotFoundError):
        farthing("ghost")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.Abort(), 130),
        (click.ClickException("odd"), 1),
        (click.UsageError("wrong"), 64),
    ],
)
def test_what_click_raises_has_an_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(root, "main", fails)
    assert farthing().code == code


def test_an_error_in_an_argument_is_json_where_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong(LocalError):
        """Something wrong."""

        code = "wrong"

    def fails(**_: object) -> None:
        raise Wrong("it is wrong")

    monkeypatch.setattr(root, "main", fails)
    done = farthing("x", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "wrong")
