"""How every command speaks: a table, JSON or CSV, and errors as exit codes.

Exit codes: 0 fine, 1 differs or refused, 2 could not tell, 64 wrong usage.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NoReturn, ParamSpec

import click

from ..channels.errors import ChainError, FarthingError, LocalError

EXIT_REFUSED = 1
EXIT_UNKNOWN = 2

REFUSED_BY_THE_CHAIN = frozenset({"transaction-failed", "gas-above-limit", "deployed-differs"})
"""Codes of chain errors after which it is known what is so: nothing has changed, or it differs."""

P = ParamSpec("P")


class FileUnusable(LocalError):
    """A file or folder that cannot be read or written."""

    code = "file-unusable"
    remedy = "check the path, its permissions and the space left"


class Form(Enum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def rows_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json and --csv to a command that prints rows; it is called with their `form`."""

    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, as_csv: bool, **kwargs: Any) -> None:
        if as_json and as_csv:
            raise click.UsageError("give --json or --csv, not both")
        form = Form.JSON if as_json else Form.CSV if as_csv else Form.TABLE
        command(*args, form=form, **kwargs)

    for option in (
        click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a line of names."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        wrapped = option(wrapped)
    return wrapped


def emit(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a record as `key  value` lines, or as one JSON object."""
    if as_json:
        click.echo(json.dumps(record))
        return
    width = max((len(key) for key in record), default=0)
    for key, value in record.items():
        click.echo(f"{key.ljust(width)}  {_text(value)}")


def emit_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    form: Form,
    *,
    shown: Sequence[str] | None = None,
) -> None:
    """Print rows: these columns as CSV, those to be shown (or all) as a table, or all as JSON.

    A table keeps every value whole and on its line, numbers to the right; where there is no row it
    is `none`, and CSV is its line of names.
    """
    match form:
        case Form.JSON:
            click.echo(json.dumps(list(rows)))
        case Form.CSV:
            click.echo(_csv(rows, columns), nl=False)
        case Form.TABLE:
            click.echo(_table(rows, shown or columns) if rows else "none")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    cells = [list(columns), *([_text(row[name]) for name in columns] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    right = [_is_number(rows, name) for name in columns]
    lines = (
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def _is_number(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column holds numbers, and nothing else but gaps."""
    values = [row[column] for row in rows if row[column] is not None]
    return bool(values) and all(type(value) in (int, float) for value in values)


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - as said
"""A spreadsheet takes a text that begins so for a formula, and a purpose is the other side's."""


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """RFC 4180; a text that a spreadsheet would run is preceded by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = "\n".join(printable(line) for line in value.split("\n"))
    return f"'{text}" if value.startswith(_FORMULA) else text


def printable(text: str) -> str:
    """Keep what a hub or a sensor wrote from moving the terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(printable(str(item)) for item in value) or "none"
    return "" if value is None else printable(str(value))


def fail(error: FarthingError, *, as_json: bool) -> NoReturn:
    """Print an error and end: 2 where the chain leaves open what is so, 1 otherwise."""
    if as_json:
        record = {"code": error.code, "text": error.text, "what_to_do": error.what_to_do}
        click.echo(json.dumps({"error": record}))
    click.echo(f"error: {printable(str(error))}", err=True)
    uncertain = isinstance(error, ChainError) and error.code not in REFUSED_BY_THE_CHAIN
    raise SystemExit(EXIT_UNKNOWN if uncertain else EXIT_REFUSED)


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Decorate a command so that Farthing's own errors end it with their text and exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except FarthingError as error:
            fail(error, as_json=_as_json(kwargs))
        except BaseExceptionGroup as group:
            fail(_only_ours(group), as_json=_as_json(kwargs))
        except OSError as error:
            if error.filename is None:
                raise
            what = FileUnusable(f"{error.filename} cannot be used ({error.strerror})")
            fail(what, as_json=_as_json(kwargs))

    if wrapped.__doc__:  # click wants the character itself, which a raw docstring cannot hold
        wrapped.__doc__ = wrapped.__doc__.replace("\\b\n", "\b\n")
    return wrapped


def _as_json(options: Mapping[str, Any]) -> bool:
    return bool(options.get("as_json")) or options.get("form") is Form.JSON


def _only_ours(group: BaseExceptionGroup[BaseException]) -> FarthingError:
    """Return the first of Farthing's errors in nested groups; raises the group if it has others."""
    ours, others = group.split(FarthingError)
    if others is not None or ours is None:
        raise group
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, FarthingError):
        raise group
    return error
