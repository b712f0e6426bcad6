"""`farthing wallet`: make, run and use a device wallet."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..channels.client.control import NotRunning, call_control, serve_control
from ..channels.client.folder import Folder, Policy, Settings, create_folder, parse_hub_address
from ..channels.client.keystore import read_password_file
from ..channels.errors import LocalError
from ..channels.ids import Address, address_to_hex
from .keys import ADDRESS, AMOUNT, FILE, read_deployment
from .output import EXIT_REFUSED, EXIT_UNKNOWN, emit, json_option, reports_errors

PASSWORD_BYTES = 24
PACK_FILE_BYTES_MAX = 1 << 20
"""A pack is 48 KiB at most; this much is read to say so."""
CALL_SECONDS = 120
MARGIN_SECONDS = 10
"""A command waits this much longer than the wallet, so that the wallet's own answer arrives."""

folder_option = click.option(
    "--folder",
    metavar="DIR",
    envvar="FARTHING_WALLET",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The wallet's folder; or set FARTHING_WALLET.",
)
password_option = click.option(
    "--password-file", metavar="FILE", type=FILE, help="Mode 600. Default: DIR/password."
)
channel_option = click.option("--channel", metavar="ID", help="Needed where several are open.")
timeout_option = click.option(
    "--timeout", "timeout_seconds", type=click.FloatRange(0.1, 600), help="Seconds to wait."
)


@click.group()
def wallet() -> None:
    """Run and use a device wallet."""


# -- making and running ---------------------------------------------------------------------------


@wallet.command()
@folder_option
@click.option("--hub", "hub_address", metavar="HOST:PORT", required=True, help="As it listens.")
@click.option("--hub-signer", type=ADDRESS, required=True, help="From the hub's ready line.")
@click.option("--rpc", "rpc_url", metavar="URL", required=True, help="JSON-RPC endpoint.")
@click.option("--deployment", metavar="FILE", type=FILE, required=True)
@click.option("--account", type=ADDRESS, help="Who owns the money. Default: the new key.")
@password_option
@json_option
@reports_errors
def init(  # noqa: PLR0913 - one argument for each option
    *,
    folder: Path,
    hub_address: str,
    hub_signer: Address,
    rpc_url: str,
    deployment: Path,
    account: Address | None,
    password_file: Path | None,
    as_json: bool,
) -> None:
    r"""Make a wallet: a folder with a new key, where its hub is, and which chain it trusts.

    Register its signer (and its account, if another) as a member, then `wallet run`.

    \b
    Example:
      farthing wallet init --folder alice --hub 127.0.0.1:7171 --hub-signer 0x7099…79C8 \
        --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    record = read_deployment(deployment)
    hub = parse_hub_address(hub_address)
    made: list[Settings] = []

    def settings(signer: Address) -> Settings:
        made.append(
            Settings(
                hub=hub,
                hub_signer=hub_signer,
                rpc_url=rpc_url,
                account=account or signer,
                deployment=record,
                policy=Policy(),
            )
        )
        return made[0]

    password = _password(folder, password_file, make=True)
    create_folder(folder, password, settings)
    from ..channels.client.keystore import address  # noqa: PLC0415 - not for --help

    emit(
        {
            "folder": str(folder),
            "signer": address_to_hex(address(Folder(path=folder).keystore_file)),
            "account": address_to_hex(made[0].account),
            "settings": str(Folder(path=folder).settings_file),
        },
        as_json=as_json,
    )


def _password(folder: Path, password_file: Path | None, *, make: bool = False) -> str:
    """Read the password; without an option it is the folder's own file, made with the wallet."""
    path = password_file or folder / "password"
    if make and password_file is None and not path.exists():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from None
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    return read_password_file(path)


class NotWritable(LocalError):
    """A file that cannot be written or read."""

    code = "file-unusable"
    remedy = "check the path, its permissions and the space left"


def _unwritable(path: Path, error: OSError) -> NotWritable:
    return NotWritable(f"{path} cannot be used ({error.strerror})")


@wallet.command()
@folder_option
@password_option
@json_option
@reports_errors
def run(*, folder: Path, password_file: Path | None, as_json: bool) -> None:
    r"""Run the wallet until interrupted; prints one JSON line when ready.

    Then a line for each thing that happens; with --json these are JSON too.

    \b
    Example:
      farthing wallet run --folder alice
    """
    import trio  # noqa: PLC0415 - not for --help

    password = _password(folder, password_file)
    trio.run(partial(_run, as_json=as_json), folder, password, strict_exception_groups=True)


async def _run(folder: Path, password: str, *, as_json: bool) -> None:
    import trio  # noqa: PLC0415 - as above

    from ..channels.client.service import Service  # noqa: PLC0415 - as above
    from ..channels.client.wallet import open_wallet  # noqa: PLC0415 - as above

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_wallet(folder, password) as running, trio.open_nursery() as nursery:
            notices = running.listen()
            control = running.folder.control_file
            await nursery.start(serve_control, control, Service(running).methods())
            ready = {
                "wallet": address_to_hex(running.signer),
                "account": address_to_hex(running.account),
                "control": str(control),
            }
            click.echo(json.dumps(ready))

            async def tell() -> None:
                async for notice in notices:
                    values = {"kind": notice.kind, "text": notice.text, **notice.values}
                    click.echo(json.dumps(values) if as_json else notice.text)

            nursery.start_soon(tell)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


def _ask(
    folder: Path, method: str, params: Mapping[str, Any], *, seconds: float = CALL_SECONDS
) -> Any:
    """Ask the running wallet; raises `NotRunning`, which says how to start it."""
    home = Folder(path=folder)
    home.settings()  # a folder without a wallet is a clearer reason than one that does not answer
    try:
        return call_control(
            home.control_file, method, params, timeout_seconds=seconds + MARGIN_SECONDS
        )
    except NotRunning as error:
        raise NotRunning(
            f"the wallet in {folder} does not answer ({error.text})",
            remedy=f"start it: farthing wallet run --folder {folder}",
        ) from None


def _given(**params: Any) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}


# -- using it -------------------------------------------------------------------------------------


@wallet.command()
@folder_option
@timeout_option
@json_option
@reports_errors
def join(*, folder: Path, timeout_seconds: float | None, as_json: bool) -> None:
    r"""Wait for a channel with the hub, and ask it to open one if there is none.

    \b
    Example:
      farthing wallet join --folder alice
    """
    params = _given(timeout_seconds=timeout_seconds)
    emit(_ask(folder, "join", params, seconds=timeout_seconds or CALL_SECONDS), as_json=as_json)


@wallet.command()
@folder_option
@click.argument("file", type=FILE, required=False)
@click.option("--name", help="A sensor's name, instead of FILE.")
@click.option("--unit", help="Its SenML unit, such as l/s.")
@click.option("--value", metavar="NUMBER", help="What it reads now.")
@click.option("--id", "submission", metavar="ID", help="16 bytes of hex, to submit but once.")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0, 600), default=0.0)
@json_option
@reports_errors
def submit(  # noqa: PLR0913 - one argument for each option
    *,
    folder: Path,
    file: Path | None,
    name: str | None,
    unit: str | None,
    value: str | None,
    submission: str | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    r"""Queue readings: a file of SenML (.json or .cbor), or one value read now.

    They are on disk when this returns; --wait shows what the hub decides.

    \b
    Example:
      farthing wallet submit --folder alice --name urn:dev:river:flow --unit l/s --value 12.5 \
        --wait 10
    """
    if (file is None) == (name is None or value is None):
        raise click.UsageError("give FILE, or --name with --value")
    pack = _pack_of_file(file) if file is not None else _pack_of_value(name, unit, value)
    made = _ask(folder, "submit", {**pack, **_given(id=submission)})
    if not wait_seconds:
        emit({**made, "answered": False}, as_json=as_json)
        return
    params = {**made, "timeout_seconds": wait_seconds}
    outcome = _ask(folder, "outcome", params, seconds=wait_seconds)
    emit(outcome, as_json=as_json)
    if any("code" in row for row in outcome["outcomes"]):
        raise SystemExit(EXIT_REFUSED)


def _pack_of_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(PACK_FILE_BYTES_MAX)
    except OSError as error:
        raise _unwritable(file, error) from None
    if file.suffix == ".cbor":
        return {"senml": "0x" + content.hex(), "format": 112}
    return {"senml": content.decode(errors="surrogateescape")}


def _pack_of_value(name: str | None, unit: str | None, value: str | None) -> dict[str, Any]:
    """Write one record with the number as it was typed, so that it stays exact."""
    fields = [f'"n":{json.dumps(name)}', f'"v":{value}', '"t":0']
    if unit is not None:
        fields.append(f'"u":{json.dumps(unit)}')
    return {"senml": "[{" + ",".join(fields) + "}]"}


@wallet.command()
@click.argument("amount", type=AMOUNT)
@folder_option
@click.option("--purpose", metavar="TEXT", default="use", show_default=True)
@timeout_option
@json_option
@reports_errors
def pay(
    *, amount: int, folder: Path, purpose: str, timeout_seconds: float | None, as_json: bool
) -> None:
    r"""Pay the hub: whole microcents, or cents with a c.

    Exit code 2: sent and not acknowledged yet. It is spent; do not pay again.

    \b
    Example:
      farthing wallet pay 0.0125c --purpose parking --folder alice
    """
    params = _given(amount_ucent=amount, purpose=purpose, timeout_seconds=timeout_seconds)
    seconds = timeout_seconds or CALL_SECONDS
    _emit_paid(_ask(folder, "pay", params, seconds=seconds), as_json=as_json)


def _emit_paid(payment: Mapping[str, Any], *, as_json: bool) -> None:
    emit(payment, as_json=as_json)
    if not payment["acknowledged"]:
        raise SystemExit(EXIT_UNKNOWN)


@wallet.command()
@click.argument("amount", type=AMOUNT)
@folder_option
@click.option("--purpose", metavar="TEXT", required=True, help="Up to 64 characters.")
@json_option
@reports_errors
def request(*, amount: int, folder: Path, purpose: str, as_json: bool) -> None:
    r"""Ask the hub for a payment.

    \b
    Example:
      farthing wallet request 5c --purpose refund --folder alice
    """
    params = {"amount_ucent": amount, "purpose": purpose}
    emit(_ask(folder, "request", params), as_json=as_json)


@wallet.command()
@folder_option
@json_option
@reports_errors
def requests(*, folder: Path, as_json: bool) -> None:
    r"""List the payments that the hub asks for, and those that this wallet asked for.

    \b
    Example:
      farthing wallet requests --folder alice
    """
    emit(_ask(folder, "requests", {}), as_json=as_json)


@wallet.command()
@click.argument("request_id", metavar="ID")
@folder_option
@timeout_option
@json_option
@reports_errors
def answer(*, request_id: str, folder: Path, timeout_seconds: float | None, as_json: bool) -> None:
    r"""Pay what the hub asks for. Exit code 2: sent and not acknowledged yet.

    \b
    Example:
      farthing wallet answer 0x00112233445566778899aabbccddeeff --folder alice
    """
    params = _given(id=request_id, timeout_seconds=timeout_seconds)
    _emit_paid(_ask(folder, "answer", params), as_json=as_json)


@wallet.command()
@click.argument("request_id", metavar="ID")
@folder_option
@json_option
@reports_errors
def refuse(*, request_id: str, folder: Path, as_json: bool) -> None:
    r"""Refuse what the hub asks for.

    \b
    Example:
      farthing wallet refuse 0x00112233445566778899aabbccddeeff --folder alice
    """
    emit(_ask(folder, "refuse", {"id": request_id}), as_json=as_json)


# -- looking --------------------------------------------------------------------------------------


def _look(folder: Path, method: str, offline: Callable[[Any], Any]) -> Any:
    """Ask the running wallet, or read its folder where none runs."""
    try:
        return _ask(folder, method, {})
    except NotRunning:
        from ..channels.client.offline import read_folder  # noqa: PLC0415 - not for --help

        with read_folder(Folder(path=folder)) as view:
            return offline(view)


@wallet.command()
@folder_option
@json_option
@reports_errors
def balance(*, folder: Path, as_json: bool) -> None:
    r"""Show what is pending, in channels and on the chain, in µ¢.

    Without a running wallet: as last stored, without the account's tokens.

    \b
    Example:
      farthing wallet balance --folder alice
    """
    emit(_look(folder, "balance", lambda view: view.balance().record()), as_json=as_json)


@wallet.command()
@folder_option
@json_option
@reports_errors
def channels(*, folder: Path, as_json: bool) -> None:
    r"""List the channels with their totals in µ¢.

    \b
    Example:
      farthing wallet channels --folder alice
    """
    emit(_look(folder, "channels", lambda view: view.channels()), as_json=as_json)


@wallet.command()
@folder_option
@json_option
@reports_errors
def status(*, folder: Path, as_json: bool) -> None:
    r"""Show the connection, the chain view, the queue and the channels.

    \b
    Example:
      farthing wallet status --folder alice
    """
    found = _ask(folder, "status", {})
    emit(found if as_json else _flat(found), as_json=as_json)


def _flat(status: Mapping[str, Any]) -> dict[str, Any]:
    """Make a nested record one line a value, for people."""
    flat: dict[str, Any] = {}
    for key, value in status.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif key == "channels":
            flat |= {f"channel {c['channel']}": _channel_line(c) for c in value}
        else:
            flat[key] = value
    return flat


def _channel_line(channel: Mapping[str, Any]) -> str:
    return f"{channel['phase']}, {channel['balance_ucent']} µ¢ to spend"


@wallet.command()
@folder_option
@click.option("--out", metavar="FILE", type=FILE, help="Default: standard output.")
@json_option
@reports_errors
def receipts(*, folder: Path, out: Path | None, as_json: bool) -> None:
    r"""Export every receipt for an auditor; works whether the wallet runs or not.

    \b
    Example:
      farthing wallet receipts --folder alice --out alice.jsonl
    """
    from ..channels.client.exports import export_receipts  # noqa: PLC0415 - not for --help
    from ..channels.client.offline import read_folder  # noqa: PLC0415 - as above

    home = Folder(path=folder)
    home.settings()
    if out is None:
        with read_folder(home) as view:
            for line in view.receipts():
                click.echo(line)
        return
    try:
        count, ucent = export_receipts(home.ledger_file, out)
    except OSError as error:
        raise _unwritable(out, error) from None
    emit({"file": str(out), "receipts": count, "paid_ucent": ucent}, as_json=as_json)


# -- closing --------------------------------------------------------------------------------------


@wallet.command()
@folder_option
@channel_option
@click.option("--unilateral", is_flag=True, help="Without the hub, through the challenge window.")
@timeout_option
@json_option
@reports_errors
def close(
    *,
    folder: Path,
    channel: str | None,
    unilateral: bool,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    r"""Close in agreement with the hub, or start a close without it.

    \b
    Example:
      farthing wallet close --folder alice
    """
    method = "start_close" if unilateral else "close"
    params = _given(channel=channel, timeout_seconds=timeout_seconds)
    emit(_ask(folder, method, params, seconds=timeout_seconds or 2 * CALL_SECONDS), as_json=as_json)


@wallet.command("finish-close")
@folder_option
@channel_option
@timeout_option
@json_option
@reports_errors
def finish_close(
    *, folder: Path, channel: str | None, timeout_seconds: float | None, as_json: bool
) -> None:
    r"""End a channel whose challenge window has passed.

    \b
    Example:
      farthing wallet finish-close --folder alice
    """
    params = _given(channel=channel, timeout_seconds=timeout_seconds)
    seconds = timeout_seconds or 2 * CALL_SECONDS
    emit(_ask(folder, "finish_close", params, seconds=seconds), as_json=as_json)
