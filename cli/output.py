"""How every command speaks: a table or one JSON object, and errors as exit codes.

Exit codes: 0 fine, 1 differs or refused, 2 could not tell, 64 wrong usage.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, ParamSpec

import click

from ..channels.errors import ChainError, FarthingError, LocalError

EXIT_REFUSED = 1
EXIT_UNKNOWN = 2

REFUSED_BY_THE_CHAIN = frozenset({"transaction-failed", "gas-above-limit"})
"""Codes of chain errors after which it is known what is so: nothing has changed."""

P = ParamSpec("P")


class FileUnusable(LocalError):
    """A file or folder that cannot be read or written."""

    code = "file-unusable"
    remedy = "check the path, its permissions and the space left"


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def emit(record: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print a record as `key  value` lines, rows as a table, or either as JSON."""
    if as_json:
        click.echo(json.dumps(record))
    elif isinstance(record, Mapping):
        width = max((len(key) for key in record), default=0)
        for key, value in record.items():
            click.echo(f"{key.ljust(width)}  {_text(value)}")
    elif record:
        _table(record)
    else:
        click.echo("none")


def _table(rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(rows[0])
    cells = [names, *([_text(row[name]) for name in names] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "" if value is None else str(value)


def fail(error: FarthingError, *, as_json: bool) -> NoReturn:
    """Print an error and end: 2 where the chain leaves open what is so, 1 otherwise."""
    if as_json:
        record = {"code": error.code, "text": error.text, "what_to_do": error.what_to_do}
        click.echo(json.dumps({"error": record}))
    click.echo(f"error: {error}", err=True)
    uncertain = isinstance(error, ChainError) and error.code not in REFUSED_BY_THE_CHAIN
    raise SystemExit(EXIT_UNKNOWN if uncertain else EXIT_REFUSED)


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Decorate a command so that Farthing's own errors end it with their text and exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except FarthingError as error:
            fail(error, as_json=bool(kwargs.get("as_json")))
        except BaseExceptionGroup as group:
            fail(_only_ours(group), as_json=bool(kwargs.get("as_json")))
        except OSError as error:
            if error.filename is None:
                raise
            what = FileUnusable(f"{error.filename} cannot be used ({error.strerror})")
            fail(what, as_json=bool(kwargs.get("as_json")))

    if wrapped.__doc__:  # click wants the character itself, which a raw docstring cannot hold
        wrapped.__doc__ = wrapped.__doc__.replace("\\b\n", "\b\n")
    return wrapped


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
