"""`farthing devnet`: a development chain on this machine, its blocks and its clock."""

from __future__ import annotations

import logging
import signal
import sys
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx
import trio

from ..channels.errors import ChainError, LocalError
from .besu import export_besu
from .output import Form, emit, emit_rows, json_option, reports_errors, rows_options

if TYPE_CHECKING:
    from ..devnet.up import DevnetConfig

RPC_DEFAULT = "http://127.0.0.1:8545"
RPC_SECONDS_MAX = 120
"""Ten thousand blocks in one call take half a minute."""

# Importing py-evm takes a second, so the commands that need it import it themselves; that it is
# there at all is looked up here, where the command line knows which extra to name.
for _module in ("eth", "hypercorn", "starlette"):
    if find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)

rpc_option = click.option(
    "--rpc", "rpc_url", default=RPC_DEFAULT, show_default=True, metavar="URL", help="The devnet."
)


class NoDevnet(ChainError):
    """Nothing answers as a devnet there."""

    code = "devnet-no-answer"
    remedy = "start one with `farthing devnet up`, or give its URL with --rpc"
    retryable = True


class RefusedByDevnet(LocalError):
    """The devnet answered with an error."""

    code = "devnet-refused"


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


@click.group(epilog="Example: farthing devnet up --port 0 --data ./chain")
def devnet() -> None:
    """Run a development chain on this machine, and control its blocks and its clock."""


devnet.add_command(export_besu)


@devnet.command(epilog="Example: farthing devnet up --port 0 --block-time 1 --data ./chain")
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
@reports_errors
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
    """Run a chain until Ctrl-C; prints one line of JSON when it answers.

    Mined blocks are kept (--data), even when it is killed; transactions that wait for a block are
    not. With a block time below 1 second, chain time runs ahead of the wall clock while
    transactions come, because every block takes at least one second of it.
    """
    from ..devnet.up import DevnetConfig  # noqa: PLC0415 - see the top

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
    trio.run(_run, config, as_json)


async def _run(config: DevnetConfig, quiet: bool) -> None:  # noqa: FBT001 - trio.run passes by place
    from ..devnet.up import print_ready, serve  # noqa: PLC0415 - see the top

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            print_ready(await nursery.start(serve, config))
            if not quiet:
                kept = "in memory" if config.folder is None else f"kept in {config.folder}"
                click.echo(f"The chain is {kept}. Stop it with Ctrl-C.", err=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


@devnet.command(epilog="Example: farthing devnet mine 12")
@click.argument("count", default=1, type=click.IntRange(1, 10_000))
@rpc_option
@json_option
@reports_errors
def mine(*, count: int, rpc_url: str, as_json: bool) -> None:
    """Mine COUNT blocks now, one second of chain time apart."""
    _call(rpc_url, "anvil_mine", [hex(count)])
    emit(_head(rpc_url), as_json=as_json)


@devnet.command(epilog="Example: farthing devnet warp 3600")
@click.argument("seconds", type=click.IntRange(0))
@rpc_option
@json_option
@reports_errors
def warp(*, seconds: int, rpc_url: str, as_json: bool) -> None:
    """Move the chain's clock SECONDS forward and mine a block at the new time."""
    _call(rpc_url, "evm_increaseTime", [hex(seconds)])
    _call(rpc_url, "evm_mine", [])
    emit(_head(rpc_url), as_json=as_json)


@devnet.command(epilog="Example: farthing devnet accounts --count 2")
@click.option("--count", default=10, show_default=True, type=click.IntRange(1, 1_000))
@rows_options
@reports_errors
def accounts(*, count: int, form: Form) -> None:
    """List the development accounts and their keys: the same everywhere, known to everybody."""
    from ..devnet.accounts import dev_accounts  # noqa: PLC0415 - see the top

    rows = [
        {"address": account.checksum_address, "private_key": "0x" + account.private_key.hex()}
        for account in dev_accounts(count)
    ]
    emit_rows(rows, ("address", "private_key"), form)


def _head(rpc_url: str) -> dict[str, object]:
    head = _call(rpc_url, "eth_getBlockByNumber", ["latest", False])
    try:
        return {
            "block": int(head["number"], 16),  # type: ignore[index]  # checked by trying
            "timestamp": int(head["timestamp"], 16),  # type: ignore[index]  # as above
            "hash": head["hash"],  # type: ignore[index]  # as above
        }
    except (KeyError, TypeError, ValueError):
        raise NoDevnet(f"{rpc_url} answered with something else than a block") from None


def _call(rpc_url: str, method: str, params: list[object]) -> object:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    try:
        # Never through a proxy: the devnet is on this machine.
        with httpx.Client(timeout=RPC_SECONDS_MAX, trust_env=False) as client:
            answer = client.post(rpc_url, json=request).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NoDevnet(f"no answer from {rpc_url} ({error})") from error
    if not isinstance(answer, dict):
        raise NoDevnet(f"{rpc_url} does not speak JSON-RPC")
    refusal = answer.get("error")
    if refusal is not None:
        text = refusal.get("message") if isinstance(refusal, dict) else refusal
        raise RefusedByDevnet(f"{method} was refused: {text}")
    return answer.get("result")
