"""docs/deploy.md names errors, options and files that there are."""

import re

import click

from farthing.cli.main import root
from farthing.devnet.besu import OPTIONS
from farthing.node.deploying import (
    ChainContradicts,
    DeployedDiffers,
    DeploymentInUse,
    PlanDiffers,
)
from farthing.node.sender import TransactionFailed

from .pages import page

_TEXT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"farthing ((?:[a-z][a-z-]* )+)")


def options_of(words: list[str]) -> set[str]:
    command: click.Command = root
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None, words
        command = found
    return {option for parameter in command.params for option in parameter.opts}


def test_each_command_of_the_page_is_there_with_the_options_it_is_given() -> None:
    seen = 0
    for block in _TEXT.findall(page("deploy.md")):
        for command in re.split(r"\n(?=farthing )", block):
            found = _COMMAND.match(command)
            assert found is not None, command
            given = set(re.findall(r"--[a-z-]+", command))
            assert given <= options_of(found[1].split()), command
            seen += 1
    assert seen == 4


def test_each_code_that_the_page_explains_is_one_of_an_error() -> None:
    table = page("deploy.md").split("| what stopped it |")[1].split("\n\n")[0]
    named = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))
    errors = (PlanDiffers, DeploymentInUse, ChainContradicts, DeployedDiffers, TransactionFailed)
    assert named == {error.code for error in errors}


def test_the_page_says_plainly_what_was_not_tested() -> None:
    assert "Nothing on this page was tested against a real Besu" in page("deploy.md")
    for option in ("min-gas-price=0", "permissions_config.toml", "static-nodes.json"):
        assert option in page("deploy.md")
        assert option in OPTIONS
