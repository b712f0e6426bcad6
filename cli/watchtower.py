"""`farthing watchtower`: set up, run and look at a watchtower."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from ..channels.client.control import call_control, serve_control
from ..channels.client.deployment_file import read_deployment
from ..channels.client.durable_file import make_folder, write_new, write_whole
from ..channels.client.keystore import address as address_of
from ..channels.client.keystore import create, read_password_file
from ..channels.client.secrecy import harden_process
from ..channels.ids import address_to_hex
from ..node.home import CONTROL_NAME
from ..node.watchtower.config import TowerConfig, load
from .doctor import tower_doctor
from .hub import (
    PASSWORD_BYTES,
    NoCertificate,
    certificate_in,
    fingerprint_of,
    host_option,
    toml,
)
from .keys import FILE, deployment_option, rpc_option
from .output import Form, emit, emit_rows, json_option, reports_errors, rows_options
from .serving import say_ready, serve_until_told

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
    harden_process()


@watchtower.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@rpc_option
@deployment_option
@click.option("--listen-port", type=click.IntRange(0, 65535), default=7272, show_default=True)
@click.option("--tls", "with_tls", is_flag=True, help="Make a self-signed certificate too.")
@host_option
@json_option
@reports_errors
def init(  # noqa: PLR0913 - one argument for each option
    *,
    folder: Path,
    rpc_url: str,
    deployment: Path,
    listen_port: int,
    with_tls: bool,
    host: str | None,
    as_json: bool,
) -> None:
    r"""Make a watchtower's folder: a key under a new password, and watchtower.toml to edit.

    Register the address with role relayer before a close has to be answered. With --tls wallets of
    other machines can connect, once listen_host is an address that they reach.

    \b
    Example:
      farthing watchtower init tower --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    if host is not None and not with_tls:
        raise click.UsageError("--host is the name in a certificate: give --tls too")
    read_deployment(deployment)
    make_folder(folder)
    password_file = folder / "password"
    if not password_file.exists():
        write_new(password_file, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    signer = create(folder / "keystore.json", read_password_file(password_file))
    files = certificate_in(folder, host) if with_tls else {}
    text = f"""# A watchtower's configuration; see docs/watchtower.md for every key.
listen_port = {listen_port}
rpc_url = {toml(rpc_url)}
deployment_file = {toml(str(deployment.resolve()))}
data_dir = "data"
keystore = "keystore.json"
password_file = "password"
{"".join(f"{key} = {toml(path.name)}" + chr(10) for key, path in files.items())}"""
    config = folder / "watchtower.toml"
    write_whole(config, text.encode())
    made = {"config": str(config), "watchtower": address_to_hex(signer)}
    if files:
        made["certificate"] = fingerprint_of(files["tls_certificate_file"])
    emit(made, as_json=as_json)


@watchtower.command()
@config_option
@click.option("--certificate", "only_certificate", is_flag=True, help="Print its hash alone.")
@json_option
@reports_errors
def address(*, config: Path, only_certificate: bool, as_json: bool) -> None:
    r"""Print the watchtower's address, which wallets name and the registry must hold.

    With TLS there is the certificate too, of which wallets pin the hash.

    \b
    Example:
      farthing member set $(farthing watchtower address --config tower/watchtower.toml) \
        --role relayer --rpc http://127.0.0.1:8545 --deployment deployment.json --dev-account 0
    """
    settings = read_config(config)
    found = {"watchtower": address_to_hex(address_of(settings.keystore))}
    certificate_file = settings.tls_certificate_file
    if only_certificate and certificate_file is None:
        raise NoCertificate("this watchtower has no TLS")
    if certificate_file is not None:
        found["certificate"] = fingerprint_of(certificate_file)
    if as_json:
        emit(found, as_json=True)
    else:
        click.echo(found["certificate" if only_certificate else "watchtower"])


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
    serve_until_told(partial(_run, read_config(config)))


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
        if running.tls is not None:
            ready["certificate"] = running.tls.fingerprint
        say_ready(ready)


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


watchtower.add_command(tower_doctor)
