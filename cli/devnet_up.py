"""`farthing devnet up | status | down`: the devnet's process."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import trio

from ..channels.client.continuity import state_home
from ..channels.client.deployment_file import read_deployment
from ..channels.client.durable_file import make_folder
from ..channels.errors import LocalError
from ..devnet.asking import METHOD_NOT_FOUND, HttpAsk, NoDevnet, RefusedByDevnet
from .devnet_rpc import rpc_option, shown_time
from .keys import FILE
from .output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from ..devnet.up import DevnetConfig, RunningDevnet

WEI_PER_GWEI = 10**9
DOWN_SECONDS_MAX = 30
"""A block with as much as fits takes seconds."""
DOWN_POLL_SECONDS = 0.02
LOG_BYTES_SHOWN = 2_000


class NotADevnet(LocalError):
    """What answers there is another chain's node."""

    code = "not-a-devnet"
    remedy = "give the URL of a `farthing devnet up` with --rpc"


class StillUp(LocalError):
    """The devnet was told to stop and still holds its port."""

    code = "devnet-still-up"
    remedy = "look at its log, and end its process by its id if it hangs"


class DidNotStart(LocalError):
    """A devnet in the background ended before it answered."""

    code = "devnet-did-not-start"
    remedy = "put right what it says"


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


def _wei(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Gwei with up to nine decimals, as whole wei."""
    if value is None:
        return None
    try:
        wei = Decimal(value) * WEI_PER_GWEI
    except InvalidOperation:
        raise click.BadParameter(f"{value!r} is not a number of gwei, such as 1 or 0.5") from None
    if not wei.is_finite() or wei != int(wei) or wei <= 0:
        raise click.BadParameter(
            f"{value!r} is not a number of whole wei above 0; gas is free without this option"
        )
    return int(wei)


def _fee_option(base_fee_wei: int | None) -> tuple[str, ...]:
    """The same fees for the process in the background."""
    if base_fee_wei is None:
        return ()
    if base_fee_wei == 0:
        return ("--gas-price", "0")
    return ("--base-fee", f"{Decimal(base_fee_wei) / WEI_PER_GWEI:f}")


@click.command(epilog="Example: farthing devnet up --port 0 --block-time 1 --data ./chain")
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
@click.option(
    "--gas-price",
    type=click.Choice(["0"]),
    metavar="0",
    help="0: gas is free and the base fee 0 for ever, as without --base-fee.",
)
@click.option(
    "--base-fee",
    "base_fee_wei",
    callback=_wei,
    metavar="GWEI",
    help="Let the base fee move with demand (EIP-1559), from this in the genesis block.",
)
@click.option(
    "--follow-registry",
    "registry_file",
    metavar="FILE",
    type=FILE,
    help="The deployment of the chain in --data: who may send follows its registry; see `follow`.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Return when it answers, and let it run on in the background; see `down`.",
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
    gas_price: str | None,
    base_fee_wei: int | None,
    registry_file: Path | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Run a chain until Ctrl-C; prints one line of JSON when it answers.

    Mined blocks are kept (--data), even when it is killed; transactions that wait for a block are
    not. With a block time below 1 second, chain time runs ahead of the wall clock while
    transactions come, because every block takes at least one second of it.
    """
    if gas_price is not None and base_fee_wei is not None:
        raise click.UsageError("gas is free (--gas-price 0) or its price moves (--base-fee)")
    from ..devnet.up import DevnetConfig  # noqa: PLC0415 - py-evm takes a second to import

    config = DevnetConfig(
        host=host,
        port=port,
        chain_id=chain_id,
        accounts=accounts,
        block_time_ms=block_time_ms,
        folder=folder,
        permissioned=permissioned,
        base_fee_wei=base_fee_wei if gas_price is None else 0,
        registry=None if registry_file is None else read_deployment(registry_file).member_registry,
    )
    if detach:
        _detach(config, registry_file, as_json=as_json)
        return
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    trio.run(_run, config, as_json)


async def _run(config: DevnetConfig, quiet: bool) -> None:  # noqa: FBT001 - trio.run passes by place
    from ..devnet.up import print_ready  # noqa: PLC0415 - as above

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            print_ready(await nursery.start(_serve, config, nursery.cancel_scope))
            if not quiet:
                kept = "in memory" if config.folder is None else f"kept in {config.folder}"
                click.echo(f"The chain is {kept}. Stop it with Ctrl-C.", err=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


async def _serve(
    config: DevnetConfig,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[RunningDevnet] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve, and end everything once `down` has ended that."""
    from ..devnet.up import serve  # noqa: PLC0415 - as above

    await serve(config, task_status=task_status)
    scope.cancel()


def _detach(config: DevnetConfig, registry_file: Path | None, *, as_json: bool) -> None:
    """Start the same command in a session of its own; raises `DidNotStart`."""
    log = (config.folder or state_home(os.environ)).resolve() / "devnet.log"
    make_folder(log.parent)
    command = [
        *(sys.executable, "-m", "farthing.cli.main", "devnet", "up", "--json"),
        *("--host", config.host, "--port", str(config.port), "--chain-id", str(config.chain_id)),
        *("--accounts", str(config.accounts)),
        *("--block-time", str(Decimal(config.block_time_ms) / 1_000)),
        "--permissioned" if config.permissioned else "--open",
        *_fee_option(config.base_fee_wei),
        *(() if config.folder is None else ("--data", str(config.folder))),
        *(() if registry_file is None else ("--follow-registry", str(registry_file))),
    ]
    with log.open("ab") as errors:
        began = errors.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    if process.stdout is None:
        raise DidNotStart("its output cannot be read")
    with process.stdout as output:
        said = _record(output.readline())
    if "rpc" not in said:
        process.wait()
        if isinstance(error := said.get("error"), dict):
            raise DidNotStart(str(error["text"]), remedy=str(error["what_to_do"]))
        with log.open("rb") as errors:
            errors.seek(began)
            text = errors.read()[-LOG_BYTES_SHOWN:].decode(errors="replace").strip()
        raise DidNotStart(f"the devnet ended with exit code {process.returncode}: {text}")
    click.echo(json.dumps({**said, "pid": process.pid, "log": str(log)}))
    if not as_json:
        where = "" if said["rpc"].endswith(":8545") else f" --rpc {said['rpc']}"
        click.echo(f"Stop it with `farthing devnet down{where}`.", err=True)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


@click.command(epilog="Example: farthing devnet status")
@rpc_option
@json_option
@reports_errors
def status(*, rpc_url: str, as_json: bool) -> None:
    """Show what runs there: chain, clock, what waits, and since when; exit code 2 if nothing."""
    with HttpAsk(rpc_url) as ask:
        found = status_of(ask)
    if not as_json:
        found["timestamp"] = f"{found['timestamp']} ({shown_time(found['timestamp'])})"
        found["folder"] = found["folder"] or "none: in memory"
        found["follows_registry"] = found["follows_registry"] or "none"
    emit(found, as_json=as_json)


def status_of(ask: HttpAsk) -> dict[str, Any]:
    """What a devnet says of itself; raises `NotADevnet`, `NoDevnet`."""
    try:
        found = ask("farthing_status")
    except RefusedByDevnet as refusal:
        if refusal.rpc_code != METHOD_NOT_FOUND:
            raise
        raise NotADevnet(f"what answers at {ask.rpc_url} is no Farthing devnet") from None
    if not isinstance(found, dict) or not isinstance(found.get("timestamp"), int):
        raise NoDevnet(f"{ask.rpc_url} says nothing of itself")
    # The URL as it was given: through a tunnel it is another than the devnet's own.
    return {**found, "rpc": ask.rpc_url}


@click.command(epilog="Example: farthing devnet down")
@rpc_option
@json_option
@reports_errors
def down(*, rpc_url: str, as_json: bool) -> None:
    """Stop the devnet there, whoever started it; returns when its port and its folder are free."""
    with HttpAsk(rpc_url) as ask:
        found = status_of(ask)
        ask("farthing_stop")
    if not _is_gone(rpc_url):
        raise StillUp(f"the devnet at {rpc_url} (process {found['pid']}) still listens")
    kept = {key: found[key] for key in ("rpc", "block", "folder", "pid")}
    emit({"stopped": True, **kept}, as_json=as_json)


def _is_gone(rpc_url: str) -> bool:
    """Wait until nothing listens there; whether that came in time."""
    parts = urlsplit(rpc_url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    deadline = time.monotonic() + DOWN_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=DOWN_SECONDS_MAX).close()
        except OSError:
            return True
        time.sleep(DOWN_POLL_SECONDS)  # a port that is let go tells nobody
    return False
