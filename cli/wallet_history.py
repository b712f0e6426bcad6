"""`farthing wallet history`: what was paid both ways, what for, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..channels.client.control import NotRunning
from ..channels.client.folder import Folder
from ..channels.ids import channel_from_hex
from .output import Form, emit_rows, reports_errors, rows_options
from .wallet_folder import ask, folder_option

DIRECTIONS = ("received", "sent")
SHOWN_DEFAULT = 20
"""Payments in a table, unless --last says otherwise: a screen of them."""

HISTORY_SHOWN = (
    *("paid at", "direction", "nonce", "amount µ¢", "total µ¢", "state", "type", "for", "channel"),
)


@click.command()
@folder_option
@click.option("--channel", metavar="ID", help="Only this channel.")
@click.option("--direction", type=click.Choice(DIRECTIONS), help="Only these.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(1),
    help=f"The newest N. Default: {SHOWN_DEFAULT} in a table, all with --json or --csv.",
)
@rows_options
@reports_errors
def history(
    *, folder: Path, channel: str | None, direction: str | None, last: int | None, form: Form
) -> None:
    r"""List payments, oldest first, with their receipts; works whether the wallet runs or not.

    pending: sent, and the hub has not said that it holds it. acknowledged: the payee holds it.
    settled: the chain has it, as the wallet last read it. missed: the channel closed on the chain
    without it. A total is the lane's, after the payment. Times are the payers', so that payments of
    two directions within seconds may stand in either order. A table leaves out what --json has.

    \b
    Example:
      farthing wallet history --folder alice --direction received --last 5
    """
    from ..channels.client.history import COLUMNS, Direction  # noqa: PLC0415 - not for --help
    from ..channels.client.offline import read_folder  # noqa: PLC0415 - as above

    with suppress(NotRunning):
        ask(folder, "wait_durable", {})  # so that what a command was just told is in what is read
    only = None if channel is None else channel_from_hex(channel)
    way = None if direction is None else Direction(direction)
    limit = SHOWN_DEFAULT if last is None and form is Form.TABLE else last
    with read_folder(Folder(path=folder)) as view:
        rows = view.history(channel=only, direction=way, last=limit)
        in_all = view.count_payments(channel=only, direction=way)
        gaps = view.gaps(channel=only, direction=way)
    emit_rows(
        [_history_row(row) for row in rows] if form is Form.TABLE else rows,
        COLUMNS,
        form,
        shown=HISTORY_SHOWN,
    )
    if len(rows) < in_all:
        click.echo(f"the newest {len(rows)} of {in_all}; all of them: --last {in_all}", err=True)
    say_gaps(gaps)


def say_gaps(gaps: Sequence[Mapping[str, Any]]) -> None:
    """Say beside the rows of which payments this wallet has no receipts."""
    for gap in gaps:
        click.echo(
            f"{gap['missing']} payments {gap['direction']} on channel {gap['channel']} are not"
            " here: this wallet was restored and has receipts from payment"
            f" {gap['first_nonce']} on; the hub has the others",
            err=True,
        )


def _history_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wants to see: times to read, and one column for what it was for."""
    what = [row["programme"], row["quantity"]] if row["type"] == "reward" else [row["purpose"]]
    taken = None if row["taken"] is None else f"taken {_utc(row['taken'])}"
    request = None if row["request"] is None else f"request {row['request']}"
    problem = None if row["problem"] is None else f"({row['problem']})"
    return {
        **row,
        "paid at": None if row["at"] is None else _utc(row["at"]),
        "amount µ¢": row["amount_ucent"],
        "total µ¢": row["transferred_ucent"],
        "for": ", ".join(text for text in (*what, taken, request, problem) if text),
    }


def _utc(seconds: int) -> str:
    """A time to read; one that no calendar has stays a number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
