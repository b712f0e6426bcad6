"""`farthing demo`: one city block on this machine, from real readings to an audited settlement."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import EXIT_REFUSED, json_option, reports_errors

if TYPE_CHECKING:
    from ..devnet.demo.stage import Stage

DEVICES_MAX = 32


@click.command()
@click.option("--devices", type=click.IntRange(1, DEVICES_MAX), default=4, show_default=True)
@click.option(
    "--readings",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replay this CSV file instead: a column of times, then columns named 'quantity [unit]'.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep chain, databases and receipts there.",
)
@json_option
@click.pass_context
@reports_errors
def demo(
    context: click.Context, *, devices: int, readings: Path | None, keep: Path | None, as_json: bool
) -> None:
    r"""Run a chain, a hub, residents and devices as processes on this machine.

    Devices submit real readings and are rewarded at once; residents pay per use; a device is killed
    and recovers; channels settle and close; an auditor ties everything out. Progress goes to
    stderr, on a terminal as a live table (unless --json), the summary to stdout. Exit code 1 if
    anything was lost or does not tie out.

    \b
    Example:
      farthing demo --keep kept --json
    """
    from ..devnet.demo.run import (  # noqa: PLC0415 - py-evm and web3 take seconds to import
        Options,
        is_good,
        run_demo,
        text_of,
    )

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # so that every process is stopped
    with _stage(live=not as_json) as stage:
        summary = run_demo(Options(devices=devices, readings=readings, keep=keep), stage)
    click.echo(json.dumps(summary) if as_json else text_of(summary))
    if not is_good(summary):
        context.exit(EXIT_REFUSED)


@contextmanager
def _stage(*, live: bool) -> Iterator[Stage]:
    """A live table where stderr is a terminal that can redraw one, else plain lines."""
    from ..devnet.demo.live import LiveStage, live_console  # noqa: PLC0415 - an extra of its own
    from ..devnet.demo.stage import Lines  # noqa: PLC0415 - as above

    console = live_console(sys.stderr) if live else None
    if console is not None:
        on_terminal = LiveStage(console)
        with on_terminal.opened():
            yield on_terminal
        return
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:5.1f} s  {text}", err=True)
        sys.stderr.flush()

    yield Lines(say)
