"""Writes docs/commands.md: `python -m farthing.cli.reference > docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from .completion import PROGRAM
from .main import root

WIDTH = 100
"""Columns of a help text on the page, wherever it is written."""

_HEAD = """# Commands

Every command with its options, as `--help` shows them. This page is written by
`python -m farthing.cli.reference > docs/commands.md`; a test fails when the two differ.

Commands print a table or `key  value` lines for people, and JSON with `--json`. Those that print
rows have `--csv` too: RFC 4180, whole numbers, times in Unix seconds; a text that a spreadsheet
would take for a formula is preceded by an apostrophe. Amounts are µ¢ (10⁻⁶ cent), as `…_ucent`
says. Errors go to stderr, with `--json` also to stdout:
`{"error": {"code": …, "text": …, "what_to_do": …}}`.

| exit code | meaning |
|---|---|
| 0 | fine |
| 1 | it differs, or was refused: nothing has changed |
| 2 | it could not be told, such as a payment that is sent and not acknowledged |
| 64 | wrong usage |
| 130 | interrupted |
"""


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give each command under one, itself first: its words and its help text."""
    context = click.Context(
        command, info_name=" ".join(path), terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from walk(found, (*path, name))


def reference() -> str:
    """Write the whole page; needs every extra, as it loads every command."""
    parts = [_HEAD]
    for path, text in walk(root, (PROGRAM,)):
        parts.append(f"\n## {' '.join(path)}\n\n```text\n{text.rstrip()}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    click.echo(reference(), nl=False)
