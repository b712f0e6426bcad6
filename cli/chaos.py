"""`farthing chaos`: kill hub and wallets under load, and see whether anything is lost."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import click

from .output import EXIT_REFUSED, Form, emit_rows, json_option, reports_errors

WALLETS_MAX = 16
KILLS_MAX = 10_000
RATE_MAX = 20_000.0
MINUTES_MAX = 24 * 60


@click.command()
@click.option(
    "--kills",
    type=click.IntRange(0, KILLS_MAX),
    default=20,
    show_default=True,
    help="How often a process is killed with SIGKILL.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="The same seed kills the same processes after the same delays.",
)
@click.option("--wallets", type=click.IntRange(1, WALLETS_MAX), default=4, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(1, RATE_MAX),
    default=1_100.0,
    show_default=True,
    help="Payments a second of all wallets together, to the hub and from it.",
)
@click.option(
    "--faults",
    metavar="LIST",
    default="",
    help="Besides: any of wire,disk,chain,clock, or all.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep databases, logs, record and receipts there; kept anyway if something is wrong.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, MINUTES_MAX),
    default=0.0,
    help="Let the load last at least so long, whatever is killed: a soak.",
)
@click.option("--schedule", is_flag=True, help="Print what would be done and when, and do nothing.")
@json_option
@click.pass_context
@reports_errors
def chaos(  # noqa: PLR0913 - one for each option
    context: click.Context,
    *,
    kills: int,
    seed: int,
    wallets: int,
    rate: float,
    faults: str,
    keep: Path | None,
    minutes: float,
    schedule: bool,
    as_json: bool,
) -> None:
    r"""Run a chain, a hub and wallets under load, kill them at random, and compare in the end.

    Wallets pay the hub and are rewarded by it without pause. Hub and wallets are killed with
    SIGKILL and started again; faults are added on demand. In the end every payment that was
    acknowledged must be held by both sides, once, every channel must balance, and the audit must
    tie out: exit code 1 if not, with which payment and channel. Progress goes to stderr.
    A soak (no kills, many minutes) also ends with 1 if the memory of a process grew.

    \b
    Example:
      farthing chaos --kills 20 --seed 7 --json
    """
    from ..devnet.chaos.report import text_of  # noqa: PLC0415 - py-evm and web3 take seconds
    from ..devnet.chaos.run import Options, chaos_in, is_good  # noqa: PLC0415 - as above
    from ..devnet.chaos.schedule import faults_of  # noqa: PLC0415 - as above

    options = Options(
        kills=kills,
        seed=seed,
        wallets=wallets,
        rate=rate,
        faults=faults_of(faults),
        minutes=minutes,
    )
    if schedule:
        rows = [entry.record() for entry in options.schedule().entries]
        columns = ("at", "what", "victim", "seconds", "again", "amount")
        emit_rows(rows, columns, Form.JSON if as_json else Form.TABLE)
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # so that every process is stopped
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:5.1f} s  {text}", err=True)
        sys.stderr.flush()

    summary = chaos_in(keep, options, say)
    click.echo(json.dumps(summary) if as_json else text_of(summary))
    if not is_good(summary):
        context.exit(EXIT_REFUSED)
