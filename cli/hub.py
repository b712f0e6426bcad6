"""`farthing hub`: set up, run and operate an agency's hub."""

from __future__ import annotations

import json
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
from ..channels.client.tls import certificate_hash, fingerprint, read_certificate
from ..channels.errors import LocalError
from ..channels.ids import address_to_hex
from ..node.config import HubConfig, load
from ..node.home import CONTROL_NAME, DATABASE_NAME
from ..node.programme import EXAMPLE, check_programmes, load_programme
from .doctor import hub_doctor
from .keys import AMOUNT, FILE
from .output import EXIT_REFUSED, Form, emit, emit_rows, json_option, reports_errors, rows_options
from .serving import say_ready, serve_until_told

PASSWORD_BYTES = 24

CHANNEL_COLUMNS = (
    *("phase", "rewarded_ucent", "acknowledged_nonce", "unacknowledged", "received_ucent"),
    *("settled_ucent", "withdrawn_ucent", "available_ucent", "last_heard"),
    *("silent_seconds", "account", "channel"),
)
LIQUIDITY_COLUMNS = (
    *("deposit_ucent", "spent_ucent", "available_ucent", "topped_up_today_ucent"),
    *("member_today_ucent", "low", "on_its_way", "account", "channel"),
)
REQUEST_COLUMNS = (
    *("asked_by", "amount_ucent", "purpose", "expires", "state", "text", "id", "channel"),
)

host_option = click.option(
    "--host", metavar="NAME", help="Name or address in the certificate. Default: localhost."
)
config_option = click.option(
    "--config", metavar="FILE", type=FILE, required=True, help="The hub's TOML file."
)


def read_config(path: Path) -> HubConfig:
    """Read a hub's configuration with this process's environment; raises `LocalError`."""
    return load(path, os.environ)


class NoCertificate(LocalError):
    """A certificate was asked for where there is none."""

    code = "no-certificate"
    remedy = "make one with `farthing hub certificate` and name it in the configuration"


@click.group(epilog="Example: farthing hub status --config hub/hub.toml")
def hub() -> None:
    """Run and operate an agency's hub."""
    harden_process()


@hub.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--rpc", "rpc_url", metavar="URL", required=True, help="JSON-RPC endpoint.")
@click.option("--deployment", metavar="FILE", type=FILE, required=True)
@click.option(
    "--programme", metavar="FILE", type=FILE, multiple=True, help="Default: a copy of the example."
)
@click.option("--port", type=click.IntRange(0, 65535), default=7171, show_default=True)
@click.option("--tls", "with_tls", is_flag=True, help="Make a self-signed certificate too.")
@host_option
@json_option
@reports_errors
def init(  # noqa: PLR0913 - one argument for each option
    *,
    folder: Path,
    rpc_url: str,
    deployment: Path,
    programme: tuple[Path, ...],
    port: int,
    with_tls: bool,
    host: str | None,
    as_json: bool,
) -> None:
    r"""Make a hub's folder: two keys under a new password, and hub.toml to edit.

    Register both addresses with role hub, and mint credit to the account, before `hub serve`. With
    --tls wallets of other machines can connect, once listen_host is an address that they reach.

    \b
    Example:
      farthing hub init hub --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    if host is not None and not with_tls:
        raise click.UsageError("--host is the name in a certificate: give --tls too")
    read_deployment(deployment)
    check_programmes([load_programme(path) for path in programme])
    make_folder(folder)
    password_file = folder / "password"
    if not password_file.exists():
        write_new(password_file, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    password = read_password_file(password_file)
    account = create(folder / "account.json", password)
    signer = create(folder / "signer.json", password)
    if not programme:
        write_whole(folder / EXAMPLE.name, EXAMPLE.read_bytes())
    programmes = [str(path.resolve()) for path in programme] or [EXAMPLE.name]
    files = certificate_in(folder, host) if with_tls else {}
    text = f"""# A hub's configuration; see docs/configuration.md for every key.
listen_port = {port}
rpc_url = {toml(rpc_url)}
deployment_file = {toml(str(deployment.resolve()))}
data_dir = "data"
account_keystore = "account.json"
signer_keystore = "signer.json"
password_file = "password"
programme_files = {toml(programmes)}
{"".join(f"{key} = {toml(path.name)}" + chr(10) for key, path in files.items())}"""
    config = folder / "hub.toml"
    write_whole(config, text.encode())
    made = {
        "config": str(config),
        "account": address_to_hex(account),
        "signer": address_to_hex(signer),
    }
    if files:
        made["certificate"] = fingerprint_of(files["tls_certificate_file"])
    emit(made, as_json=as_json)


def certificate_in(folder: Path, host: str | None) -> dict[str, Path]:
    """Make a certificate and its key; their paths under the keys of a configuration."""
    from ..node.certificate import make_certificate  # noqa: PLC0415 - only here

    certificate, key = make_certificate(folder, host or "localhost")
    return {"tls_certificate_file": certificate, "tls_key_file": key}


def fingerprint_of(certificate_file: Path) -> str:
    """Return the hash of a PEM file's certificate, as wallets pin it; raises `MalformedTrust`."""
    return fingerprint(certificate_hash(read_certificate(certificate_file)))


@hub.command()
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), required=True
)
@host_option
@json_option
@reports_errors
def certificate(*, out: Path, host: str | None, as_json: bool) -> None:
    r"""Make a self-signed certificate and its key, as wallets pin it.

    Name both files in hub.toml. To renew, make one in another folder, give its hash to the wallets
    beside the old one (`wallet trust`), and only then serve it.

    \b
    Example:
      farthing hub certificate --out hub/2027 --host hub.city.example
    """
    make_folder(out)
    files = certificate_in(out, host)
    made = {key: str(path) for key, path in files.items()}
    shown = fingerprint_of(files["tls_certificate_file"])
    emit({**made, "certificate": shown}, as_json=as_json)


def toml(value: str | list[str]) -> str:
    """Write texts as TOML, whose strings are JSON's but for DEL and pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@hub.command()
@config_option
@click.option("--certificate", "only_certificate", is_flag=True, help="Print its hash alone.")
@json_option
@reports_errors
def addresses(*, config: Path, only_certificate: bool, as_json: bool) -> None:
    r"""Print the addresses of the hub's account and signer, for other commands to use.

    With TLS there is the certificate too, of which wallets pin the hash.

    \b
    Example:
      farthing member set $(farthing hub addresses --config hub/hub.toml) --role hub \
        --rpc http://127.0.0.1:8545 --deployment deployment.json --dev-account 0
    """
    settings = read_config(config)
    account = address_to_hex(address_of(settings.account_keystore))
    signer = address_to_hex(address_of(settings.signer_keystore))
    found = {"account": account, "signer": signer}
    certificate_file = settings.tls_certificate_file
    if only_certificate and certificate_file is None:
        raise NoCertificate("this hub has no TLS")
    if certificate_file is not None:
        found["certificate"] = fingerprint_of(certificate_file)
    if as_json:
        emit(found, as_json=True)
    elif only_certificate:
        click.echo(found["certificate"])
    else:
        click.echo(f"{account} {signer}")


@hub.command()
@config_option
@json_option
@reports_errors
def serve(*, config: Path, as_json: bool) -> None:
    r"""Serve wallets until interrupted; prints one JSON line when ready.

    \b
    Example:
      farthing hub serve --config hub/hub.toml
    """
    del as_json  # the ready line is JSON either way; the flag is there as on every command
    serve_until_told(partial(_run, read_config(config)))


async def _run(settings: HubConfig) -> None:
    from ..node.control import Operator  # noqa: PLC0415 - web3 takes a second to import
    from ..node.hub import open_hub  # noqa: PLC0415 - as above

    async with open_hub(settings) as running, trio.open_nursery() as nursery:
        path = settings.data_dir / CONTROL_NAME
        await nursery.start(serve_control, path, Operator(running).methods())
        ready = {
            "host": settings.listen_host,
            "port": running.port,
            "account": address_to_hex(running.account),
            "signer": address_to_hex(running.signer.address),
            "control": str(path),
        }
        if running.tls is not None:
            ready["certificate"] = running.tls.fingerprint
        say_ready(ready)


def ask(config: Path, method: str, params: Mapping[str, Any]) -> Any:
    """Ask the running hub; raises `NotRunning` and what it answers."""
    return call_control(read_config(config).data_dir / CONTROL_NAME, method, params)


@hub.command()
@config_option
@json_option
@reports_errors
def status(*, config: Path, as_json: bool) -> None:
    r"""Show connections, channels, totals, settlements, and what is left to pay with.

    \b
    Example:
      farthing hub status --config hub/hub.toml
    """
    found = ask(config, "status", {})
    if not as_json:
        found["limits_hit"] = [f"{code} {count}" for code, count in found["limits_hit"].items()]
    emit(found if as_json else _flat(found), as_json=as_json)


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Make a nested record one line a value, for people."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


@hub.command()
@config_option
@rows_options
@reports_errors
def liquidity(*, config: Path, form: Form) -> None:
    r"""List what the hub's lane of each channel holds, and what it was topped up with, in µ¢.

    Days are of the chain's time, in UTC. A lane is low below top_up_below_ucent.

    \b
    Example:
      farthing hub liquidity --config hub/hub.toml
    """
    emit_rows(ask(config, "liquidity", {}), LIQUIDITY_COLUMNS, form)


@hub.command()
@config_option
@rows_options
@reports_errors
def channels(*, config: Path, form: Form) -> None:
    r"""List the channels with their totals in µ¢.

    \b
    Example:
      farthing hub channels --config hub/hub.toml
    """
    emit_rows(ask(config, "channels", {}), CHANNEL_COLUMNS, form)


@hub.command("open")
@click.argument("pairs", metavar="ACCOUNT:SIGNER...", nargs=-1, required=True)
@config_option
@json_option
@click.pass_context
@reports_errors
def open_channels(
    context: click.Context, *, pairs: tuple[str, ...], config: Path, as_json: bool
) -> None:
    r"""Open channels with these accounts and signers in one transaction.

    Exit code 1 if the contract refused some: accounts and signers must be active members.

    \b
    Example:
      farthing hub open 0x7099…79C8:0x3C44…93BC --config hub/hub.toml
    """
    split = [pair.split(":") for pair in pairs]
    if any(len(pair) != 2 for pair in split):  # noqa: PLR2004 - an account and a signer
        raise click.UsageError("write each pair as ACCOUNT:SIGNER")
    answer = ask(config, "open", {"pairs": split})
    emit(answer, as_json=as_json)
    if answer["opened"] + answer["open_before"] < answer["asked"]:
        context.exit(EXIT_REFUSED)


@hub.command()
@config_option
@rows_options
@reports_errors
def requests(*, config: Path, form: Form) -> None:
    r"""List the payments that wallets asked for.

    \b
    Example:
      farthing hub requests --config hub/hub.toml
    """
    emit_rows(ask(config, "requests", {}), REQUEST_COLUMNS, form)


@hub.command()
@click.argument("request_id", metavar="ID")
@click.option("--pay/--refuse", required=True, help="Pay the request, or refuse it.")
@config_option
@json_option
@reports_errors
def answer(*, request_id: str, pay: bool, config: Path, as_json: bool) -> None:
    r"""Pay or refuse a payment that a wallet asked for.

    \b
    Example:
      farthing hub answer 0x00112233445566778899aabbccddeeff --pay --config hub/hub.toml
    """
    emit(ask(config, "answer", {"id": request_id, "pay": pay}), as_json=as_json)


@hub.command()
@click.argument("channel")
@click.argument("amount", type=AMOUNT)
@click.option("--purpose", metavar="TEXT", required=True, help="Up to 64 characters.")
@config_option
@json_option
@reports_errors
def request(*, channel: str, amount: int, purpose: str, config: Path, as_json: bool) -> None:
    r"""Ask a connected wallet to pay.

    \b
    Example:
      farthing hub request 0x5d1c…e0 0.5c --purpose parking --config hub/hub.toml
    """
    params = {"channel": channel, "amount_ucent": amount, "purpose": purpose}
    emit(ask(config, "request", params), as_json=as_json)


@hub.command()
@click.argument("channel")
@click.option(
    "--unilateral", is_flag=True, help="Without the wallet, through the challenge window."
)
@config_option
@json_option
@reports_errors
def close(*, channel: str, unilateral: bool, config: Path, as_json: bool) -> None:
    r"""Ask a channel's wallet for a close by agreement, or start one without it.

    The running hub finishes what it starts, once the challenge window is over.

    \b
    Example:
      farthing hub close 0x5d1c…e0 --config hub/hub.toml
    """
    params = {"channel": channel, "unilateral": unilateral}
    emit(ask(config, "close", params), as_json=as_json)


@hub.command()
@click.argument("channel")
@click.argument("amount", type=AMOUNT)
@config_option
@json_option
@reports_errors
def withdraw(*, channel: str, amount: int, config: Path, as_json: bool) -> None:
    r"""Take the hub's own money out of an open channel, in agreement with its wallet.

    The wallet must be connected. `hub channels` shows when it is on-chain.

    \b
    Example:
      farthing hub withdraw 0x5d1c…e0 50c --config hub/hub.toml
    """
    params = {"channel": channel, "amount_ucent": amount}
    emit(ask(config, "withdraw", params), as_json=as_json)


@hub.command()
@click.option("--out", metavar="FILE", type=FILE, required=True)
@config_option
@json_option
@reports_errors
def receipts(*, out: Path, config: Path, as_json: bool) -> None:
    r"""Export every receipt for the auditor; works whether the hub runs or not.

    \b
    Example:
      farthing hub receipts --out receipts.jsonl --config hub/hub.toml
    """
    from ..channels.client.exports import export_receipts  # noqa: PLC0415 - not for --help

    count, ucent = export_receipts(read_config(config).data_dir / DATABASE_NAME, out)
    emit({"file": str(out), "receipts": count, "paid_ucent": ucent}, as_json=as_json)


hub.add_command(hub_doctor)
