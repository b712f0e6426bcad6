"""`farthing devnet console`: a Python prompt with the chain, its contracts and accounts bound."""

from __future__ import annotations

import code
import sys
from pathlib import Path

import click

from ..devnet.asking import HttpAsk
from .devnet_rpc import rpc_option
from .keys import FILE
from .output import json_option, reports_errors


@click.command(epilog="Example: farthing devnet console -c 'w3.eth.block_number'")
@click.option("-c", "--command", "command", metavar="CODE", help="Run this and end.")
@click.option(
    "--deployment",
    metavar="FILE",
    type=FILE,
    help="What `deploy` wrote. Default: deployment.json if it is there.",
)
@rpc_option
@json_option
@reports_errors
def console(*, command: str | None, deployment: Path | None, rpc_url: str, as_json: bool) -> None:
    """Open a Python prompt: w3, accounts, contracts, deployment, and mine, warp, ask.

    Transactions of the accounts are signed by the devnet: `.transact({"from": accounts[0]})`. With
    -c an expression's value is printed, with --json as JSON. Ctrl-D ends the prompt.
    """
    if as_json and command is None:
        raise click.UsageError("--json is for -c: a prompt answers in Python's way")
    with HttpAsk(rpc_url) as ask:
        ask("eth_chainId")  # so that a devnet that is not there is said in the devnet's words
    from ..devnet.console import Workbench  # noqa: PLC0415 - web3 takes a second to import

    with Workbench(rpc_url, deployment) as bench:
        if command is not None:
            text = bench.run(command, as_json=as_json)
            if text is not None:
                click.echo(text)
            return
        prompt = code.InteractiveConsole(dict(bench.names))
        prompt.interact(banner=bench.banner(), exitmsg="")
        sys.stdout.flush()
