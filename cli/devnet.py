"""farthing devnet: a development chain on this machine, and its clock."""

from __future__ import annotations

import json
import logging
import signal
import sys
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import httpx
import trio

from ..channels.errors import LocalError

if TYPE_CHECKING:
    from ..devnet.up import DevnetConfig

EXIT_REFUSED = 1
EXIT_UNKNOWN = 2
RPC_DEFAULT = "http://127.0.0.1:8545"
RPC_SECONDS_MAX = 120
"""Ten thousand blocks in one call take half a minute."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
rpc_option = click.option(
    "--rpc", default=RPC_DEFAULT, show_default=True, metavar="URL", help="The devnet's endpoint."
)


def _milliseconds(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Seconds with up to three decimals, as whole milliseconds."""
    try:
        milliseconds = Decimal(value) * 1_000
    except InvalidOperation:
        raise click.BadParameter(
            f"{value!r} is not a number of seconds, such as 1 or 0.5"
        ) from None
    if not milliseconds.is_finite() or milliseconds != int(milliseconds) or milliseconds < 0:
        raise click.BadParameter(f"{value!r} is not a number of whole milliseconds from 0 up")
    return int(milliseconds)


@click.group()
def devnet() -> None:
    r"""Run a development chain on this machine, and control its blocks and its clock.

    \b
    Exit codes: 0 fine, 1 refused, 2 could not tell (no answer), 64 wrong usage.

    \b
    Example:
      farthing devnet up --port 0 --data ./chain
    """


@devnet.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port", default=8545, show_default=True, type=click.IntRange(0, 65_535), help="0: any free."
)
@click.option(
    "--block-time",
    "block_time_ms",
    default="1",
    show_default=True,
    callback=_milliseconds,
    metavar="SECONDS",
    help="Seconds between blocks, empty ones too; 0: a block with each transaction.",
)
@click.option(
    "--data",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the chain in this folder and go on from it. Without: in memory.",
)
@click.option("--chain-id", default=20_262_026, show_default=True, help="EIP-155 chain id.")
@click.option(
    "--accounts", default=10, show_default=True, help="How many funded accounts with known keys."
)
@click.option(
    "--permissioned/--open",
    default=True,
    show_default=True,
    help="Take transactions from allowlisted senders only, or from anybody.",
)
@json_option
def up(  # noqa: PLR0913 - one argument for each option of the command
    *,
    host: str,
    port: int,
    block_time_ms: int,
    folder: Path | None,
    chain_id: int,
    accounts: int,
    permissioned: bool,
    as_json: bool,
) -> None:
    r"""Run a chain until Ctrl-C. Prints one line of JSON when it answers.

    Transactions that wait for a block are lost when it ends; mined blocks are kept (--data), even
    when it is killed. With a block time below 1 second, chain time runs ahead of the wall clock
    while transactions come, because every block takes at least one second of it.

    \b
    Example:
      farthing devnet up --port 0 --block-time 1 --data ./chain
    """
    # Importing py-evm takes most of a second: the other commands do without it.
    from ..devnet.up import DevnetConfig  # noqa: PLC0415

    config = DevnetConfig(
        host=host,
        port=port,
        chain_id=chain_id,
        accounts=accounts,
        block_time_ms=block_time_ms,
        folder=folder,
        permissioned=permissioned,
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    _run(config, quiet=as_json)


def _run(config: DevnetConfig, *, quiet: bool) -> None:
    from ..devnet.up import print_ready, serve  # noqa: PLC0415 - see `up`

    async def until_signalled() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                running = await nursery.start(partial(serve, config))
                print_ready(running)
                if not quiet:
                    kept = f"kept in {config.folder}" if config.folder else "in memory"
                    click.echo(f"The chain is {kept}. Stop it with Ctrl-C.", err=True)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    return

    refusals: list[BaseException] = []
    try:
        trio.run(until_signalled)
    except* LocalError as group:
        refusals.extend(group.exceptions)
    if refusals:
        _refuse(str(_first(refusals[0])))


def _first(error: BaseException) -> BaseException:
    """The error itself inside the groups that nurseries put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@devnet.command()
@click.argument("count", default=1, type=click.IntRange(1, 10_000))
@rpc_option
@json_option
def mine(*, count: int, rpc: str, as_json: bool) -> None:
    r"""Mine COUNT blocks now, one second of chain time apart.

    \b
    Example:
      farthing devnet mine 12
    """
    _call(rpc, "anvil_mine", [hex(count)])
    _show_head(rpc, as_json=as_json)


@devnet.command()
@click.argument("seconds", type=click.IntRange(0))
@rpc_option
@json_option
def warp(*, seconds: int, rpc: str, as_json: bool) -> None:
    r"""Move the chain's clock SECONDS forward and mine a block at the new time.

    \b
    Example:
      farthing devnet warp 3600
    """
    _call(rpc, "evm_increaseTime", [hex(seconds)])
    _call(rpc, "evm_mine", [])
    _show_head(rpc, as_json=as_json)


@devnet.command()
@click.option("--count", default=10, show_default=True, type=click.IntRange(1, 1_000))
@json_option
def accounts(*, count: int, as_json: bool) -> None:
    r"""List the development accounts and their keys, the same on every devnet: known to everybody.

    \b
    Example:
      farthing devnet accounts --count 2
    """
    from ..devnet.accounts import dev_accounts  # noqa: PLC0415 - see `up`

    rows = [
        {"address": account.checksum_address, "private_key": "0x" + account.private_key.hex()}
        for account in dev_accounts(count)
    ]
    if as_json:
        click.echo(json.dumps({"accounts": rows}))
        return
    for row in rows:
        click.echo(f"{row['address']}  {row['private_key']}")


def _show_head(rpc: str, *, as_json: bool) -> None:
    head = _call(rpc, "eth_getBlockByNumber", ["latest", False])
    if not isinstance(head, dict):
        _unknown(f"{rpc} answered eth_getBlockByNumber with something else than a block")
    number, timestamp = int(head["number"], 16), int(head["timestamp"], 16)
    if as_json:
        click.echo(json.dumps({"block": number, "timestamp": timestamp, "hash": head["hash"]}))
    else:
        click.echo(f"block {number}, timestamp {timestamp}")


def _call(rpc: str, method: str, params: list[object]) -> object:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    try:
        # Never through a proxy: the devnet is on this machine.
        with httpx.Client(timeout=RPC_SECONDS_MAX, trust_env=False) as client:
            answer = client.post(rpc, json=request).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        _unknown(f"no answer from {rpc} ({error}): start a devnet or give its URL with --rpc")
    if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
        _unknown(f"{rpc} does not answer as JSON-RPC: give a devnet's URL with --rpc")
    if "error" in answer:
        _refuse(f"{method} was refused: {answer['error'].get('message')}")
    return answer["result"]


def _refuse(text: str) -> NoReturn:
    click.echo(f"error: {text}", err=True)
    raise SystemExit(EXIT_REFUSED)


def _unknown(text: str) -> NoReturn:
    click.echo(f"error: {text}", err=True)
    raise SystemExit(EXIT_UNKNOWN)
