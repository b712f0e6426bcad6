"""`farthing wallet`: make, run and use a device wallet."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..channels.client.control import serve_control
from ..channels.client.deployment_file import read_deployment
from ..channels.client.folder import (
    Folder,
    Policy,
    Settings,
    check_private,
    create_folder,
    parse_hub_address,
)
from ..channels.client.keystore import address as address_of
from ..channels.client.secrecy import harden_process
from ..channels.ids import Address, address_to_hex
from . import (
    doctor,
    wallet_history,
    wallet_payments,
    wallet_recovery,
    wallet_towers,
    wallet_trust,
)
from .keys import ADDRESS, FILE
from .output import Form, emit, emit_rows, json_option, printable, reports_errors, rows_options
from .wallet_folder import ask, folder_option, look, password_option, read_password, unwritable

CHANNEL_COLUMNS = (
    *("phase", "balance_ucent", "received_ucent", "received_payments", "settled_received_ucent"),
    *("sent_ucent", "sent_payments", "acknowledged_payments", "settled_sent_ucent"),
    "withdrawn_ucent",
    *("sequence", "challenge_seconds", "challenge_blocks", "deadline_seconds", "deadline_block"),
    *("stopped", "channel"),
)
CHANNEL_SHOWN = (*CHANNEL_COLUMNS[:10], "channel")


@click.group(epilog="Example: farthing wallet balance --folder alice")
def wallet() -> None:
    """Run and use a device wallet."""
    harden_process()


# -- making and running ---------------------------------------------------------------------------


@wallet.command()
@folder_option
@click.option("--hub", "hub_address", metavar="HOST:PORT", required=True, help="As it listens.")
@click.option("--hub-signer", type=ADDRESS, required=True, help="From the hub's ready line.")
@click.option("--rpc", "rpc_url", metavar="URL", required=True, help="JSON-RPC endpoint.")
@click.option("--deployment", metavar="FILE", type=FILE, required=True)
@click.option("--account", type=ADDRESS, help="Who owns the money. Default: the new key.")
@wallet_trust.certificate_option
@wallet_trust.ca_option
@click.option(
    "--keystore", "keystore_file", metavar="FILE", type=FILE, help="Take up this key again."
)
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
    certificates: tuple[str, ...],
    ca: str | None,
    keystore_file: Path | None,
    password_file: Path | None,
    as_json: bool,
) -> None:
    r"""Make a wallet: a folder with a new key, where its hub is, and which chain it trusts.

    Register its signer (and its account, if another) as a member, then `wallet run`. A hub on
    another machine needs TLS: name its certificate, or a CA that vouches for its host name. With
    --keystore (and --password-file) it is a lost wallet's new folder: the hub shows its channels.

    \b
    Example:
      farthing wallet init --folder alice --hub 127.0.0.1:7171 --hub-signer 0x7099…79C8 \
        --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    record = read_deployment(deployment)
    hub = parse_hub_address(hub_address)
    trust = wallet_trust.trust_of(certificates, ca)
    check_private(hub, trust)
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
                trust=trust,
            )
        )
        return made[0]

    if keystore_file is not None:
        from ..channels.client.recover import take_up  # noqa: PLC0415 - not for --help

        if password_file is None:
            raise click.UsageError("give --password-file with --keystore")
        take_up(folder, read_password(folder, password_file), keystore_file, settings)
    else:
        password = read_password(folder, password_file, make=True)
        create_folder(folder, password, settings)
    emit(
        {
            "folder": str(folder),
            "signer": address_to_hex(address_of(Folder(path=folder).keystore_file)),
            "account": address_to_hex(made[0].account),
            "settings": str(Folder(path=folder).settings_file),
        },
        as_json=as_json,
    )


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

    password = read_password(folder, password_file)
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
                    click.echo(json.dumps(values) if as_json else printable(notice.text))

            nursery.start_soon(tell)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


# -- looking --------------------------------------------------------------------------------------


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
    emit(look(folder, "balance", lambda view: view.balance().record()), as_json=as_json)


@wallet.command()
@folder_option
@rows_options
@reports_errors
def channels(*, folder: Path, form: Form) -> None:
    r"""List the channels with their totals in µ¢.

    \b
    Example:
      farthing wallet channels --folder alice
    """
    rows = look(folder, "channels", lambda view: view.channels())
    emit_rows(rows, CHANNEL_COLUMNS, form, shown=CHANNEL_SHOWN)


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
    found = ask(folder, "status", {})
    emit(found if as_json else _flat(found), as_json=as_json)


def _flat(status: Mapping[str, Any]) -> dict[str, Any]:
    """Make a nested record one line a value, for people."""
    flat: dict[str, Any] = {}
    for key, value in status.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif key == "towers":
            flat |= {f"tower {t['tower']}": _tower_line(t) for t in value}
        elif key == "channels":
            flat |= {f"channel {c['channel']}": _channel_line(c) for c in value}
        else:
            flat[key] = value
    return flat


def _tower_line(tower: Mapping[str, Any]) -> str:
    state = "connected" if tower["connected"] else "not connected"
    line = f"{state}, {tower['uncovered_ucent']} µ¢ not covered"
    return line if tower["trouble"] is None else f"{line}: {tower['trouble']}"


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
            wallet_history.say_gaps(view.gaps())
        return
    try:
        count, ucent = export_receipts(home.ledger_file, out)
    except OSError as error:
        raise unwritable(out, error) from None
    with read_folder(home) as view:
        gaps = view.gaps()
    made = {"file": str(out), "receipts": count, "paid_ucent": ucent}
    emit({**made, "gaps": gaps} if as_json else made, as_json=as_json)
    wallet_history.say_gaps(gaps)


@wallet.command()
@folder_option
@json_option
@reports_errors
def address(*, folder: Path, as_json: bool) -> None:
    r"""Print the addresses of the wallet's account and signer, for other commands to use.

    \b
    Example:
      farthing member set $(farthing wallet address --folder alice) --role resident \
        --rpc http://127.0.0.1:8545 --deployment deployment.json --dev-account 0
    """
    place = Folder(path=folder)
    account = address_to_hex(place.settings().account)
    signer = address_to_hex(address_of(place.keystore_file))
    if as_json:
        emit({"account": account, "signer": signer}, as_json=True)
    else:
        click.echo(signer if signer == account else f"{account} {signer}")


for command in (
    wallet_history.history,
    doctor.wallet_doctor,
    wallet_recovery.backup,
    wallet_recovery.recover,
    wallet_trust.trust,
    wallet_payments.join,
    wallet_payments.submit,
    wallet_payments.pay,
    wallet_payments.request,
    wallet_payments.requests,
    wallet_payments.answer,
    wallet_payments.refuse,
    wallet_payments.withdraw,
    wallet_payments.claim,
    wallet_payments.close,
    wallet_payments.finish_close,
    wallet_towers.tower,
):
    wallet.add_command(command)
