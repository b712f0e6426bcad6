"""`farthing watchtower`: set up, run and look at a watchtower."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import trio

from ..channels.client.control import call_control, serve_control
from ..channels.client.deployment_file import read_deployment
from ..channels.client.keystore import address as address_of
from ..channels.client.keystore import create, read_password_file
from ..channels.ids import address_to_hex
from ..node.home import CONTROL_NAME
from ..node.watchtower.config import TowerConfig, load
from .hub import PASSWORD_BYTES, toml
from .keys import FILE, deployment_option, rpc_option
from .output import Form, emit, emit_rows, json_option, reports_errors, rows_options

CHANNEL_COLUMNS = (
    *("status", "transferred_ucent", "settled_ucent", "seen_at", "answered_ucent", "answered_at"),
    *("deadline_seconds", "deadline_block", "wallet", "channel"),
)

config_option = click.option(
    "--config", metavar="FILE", type=FILE, required=True, help="The watchtower's TOML file."
)


def read_config(path: Path) -> TowerConfig:
    """Read a configuration with this process's environment; raises `LocalError`."""
    return load(path, os.environ)


@click.group(epilog="Example: farthing watchtower status --config tower/watchtower.toml")
def watchtower() -> None:
    """Run a watchtower, which answers closes for wallets that sleep."""


@watchtower.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@rpc_option
@deployment_option
@click.option("--listen-port", type=click.IntRange(0, 65535), default=7272, show_default=True)
@json_option
@reports_errors
def init(*, folder: Path, rpc_url: str, deployment: Path, listen_port: int, as_json: bool) -> None:
    r"""Make a watchtower's folder: a key under a new password, and watchtower.toml to edit.

    Register the address with role relayer before a close has to be answered.

    \b
    Example:
      farthing watchtower init tower --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    read_deployment(deployment)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password_file = folder / "password"
    if not password_file.exists():
        handle = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    signer = create(folder / "keystore.json", read_password_file(password_file))
    text = f"""# A watchtower's configuration; see docs/watchtower.md for every key.
listen_port = {listen_port}
rpc_url = {toml(rpc_url)}
deployment_file = {toml(str(deployment.resolve()))}
data_dir = "data"
keystore = "keystore.json"
password_file = "password"
"""
    config = folder / "watchtower.toml"
    config.write_text(text, encoding="utf-8")
    emit({"config": str(config), "watchtower": address_to_hex(signer)}, as_json=as_json)


@watchtower.command()
@config_option
@json_option
@reports_errors
def address(*, config: Path, as_json: bool) -> None:
    r"""Print the watchtower's address, which wallets name and the registry must hold.

    \b
    Example:
      farthing member set $(farthing watchtower address --config tower/watchtower.toml) \
        --role relayer --rpc http://127.0.0.1:8545 --deployment deployment.json --dev-account 0
    """
    found = address_to_hex(address_of(read_config(config).keystore))
    if as_json:
        emit({"watchtower": found}, as_json=True)
    else:
        click.echo(found)


@watchtower.command()
@config_option
@json_option
@reports_errors
def serve(*, config: Path, as_json: bool) -> None:
    r"""Watch and answer until interrupted; prints one JSON line when ready.

    \b
    Example:
      farthing watchtower serve --config tower/watchtower.toml
    """
    del as_json  # the ready line is JSON either way; the flag is there as on every command
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    trio.run(_serve, read_config(config), strict_exception_groups=True)


async def _serve(settings: TowerConfig) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, settings)
            async for _ in signals:  # while it starts, too
                nursery.cancel_scope.cancel()
                break


async def _run(settings: TowerConfig) -> None:
    from ..node.watchtower.tower import open_tower  # noqa: PLC0415 - web3 takes a second to import

    async with open_tower(settings) as running, trio.open_nursery() as nursery:
        path = settings.data_dir / CONTROL_NAME
        await nursery.start(serve_control, path, running.methods())
        ready = {
            "host": settings.listen_host,
            "port": running.port,
            "watchtower": address_to_hex(running.signer.address),
            "control": str(path),
        }
        click.echo(json.dumps(ready))
        sys.stdout.flush()


def ask(config: Path, method: str, params: Mapping[str, Any]) -> Any:
    """Ask the running watchtower; raises `NotRunning` and what it answers."""
    return call_control(read_config(config).data_dir / CONTROL_NAME, method, params)


@watchtower.command()
@config_option
@json_option
@reports_errors
def status(*, config: Path, as_json: bool) -> None:
    r"""Show what is watched, which wallets are silent, and the chain view.

    \b
    Example:
      farthing watchtower status --config tower/watchtower.toml
    """
    emit(ask(config, "status", {}), as_json=as_json)


@watchtower.command()
@config_option
@rows_options
@reports_errors
def channels(*, config: Path, form: Form) -> None:
    r"""List the held vouchers: whose, how much in µ¢, when the wallet was seen, the chain's word.

    \b
    Example:
      farthing watchtower channels --config tower/watchtower.toml
    """
    emit_rows(ask(config, "channels", {}), CHANNEL_COLUMNS, form)
