"""`farthing wallet tower`: which watchtowers hold the wallet's vouchers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ..channels.client.control import NotRunning
from ..channels.client.folder import (
    Folder,
    Settings,
    TowerPlace,
    parse_hub_address,
    write_settings,
)
from ..channels.ids import Address, address_to_hex
from .keys import ADDRESS
from .output import Form, emit, emit_rows, json_option, reports_errors, rows_options
from .wallet_folder import ask, folder_option, look
from .wallet_trust import trust_of

COLUMNS = (
    *("tower", "connected", "acknowledged_at", "acknowledged_ucent", "uncovered_ucent"),
    *("signer", "trouble"),
)


@click.group(epilog="Example: farthing wallet tower list --folder alice")
def tower() -> None:
    """Choose the watchtowers that answer closes while the wallet sleeps."""


@tower.command()
@click.argument("address", metavar="HOST:PORT")
@click.argument("signer", type=ADDRESS)
@click.option(
    "--certificate",
    "certificates",
    metavar="HASH|FILE",
    multiple=True,
    help="sha256:… of the tower's certificate, or its PEM file; twice while it is renewed.",
)
@click.option(
    "--ca",
    metavar="system|FILE",
    help="Trust what this CA, or this machine's, vouches for under the tower's host name.",
)
@folder_option
@json_option
@reports_errors
def add(
    *,
    address: str,
    signer: Address,
    certificates: tuple[str, ...],
    ca: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    r"""Hand the newest vouchers to a watchtower; signer and certificate are in its ready line.

    A running wallet connects at once, another when it runs. A tower on another machine needs TLS:
    name its certificate, or a CA that vouches for its host name.

    \b
    Example:
      farthing wallet tower add 127.0.0.1:7272 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 \
        --folder alice
    """
    place = TowerPlace(
        address=parse_hub_address(address, of="tower"),
        signer=signer,
        trust=trust_of(certificates, ca),
    )
    try:
        ask(folder, "add_tower", place.record())
    except NotRunning:
        from ..channels.client.towers import with_tower  # noqa: PLC0415 - not for --help

        _change(folder, lambda settings: with_tower(settings, place))
    named, shown = place.record(), {"tower": str(place.address)}
    del named["address"]
    emit(shown | named, as_json=as_json)


@tower.command()
@click.argument("signer", type=ADDRESS)
@folder_option
@json_option
@reports_errors
def remove(*, signer: Address, folder: Path, as_json: bool) -> None:
    r"""Hand a watchtower nothing any more; what it holds it keeps.

    \b
    Example:
      farthing wallet tower remove 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --folder alice
    """
    try:
        ask(folder, "remove_tower", {"signer": address_to_hex(signer)})
    except NotRunning:
        from ..channels.client.towers import without_tower  # noqa: PLC0415 - not for --help

        _change(folder, lambda settings: without_tower(settings, signer))
    emit({"removed": address_to_hex(signer)}, as_json=as_json)


@tower.command("list")
@folder_option
@rows_options
@reports_errors
def list_towers(*, folder: Path, form: Form) -> None:
    r"""List the watchtowers: connected, last acknowledged, and what is not covered in µ¢.

    Without a running wallet: as last stored.

    \b
    Example:
      farthing wallet tower list --folder alice
    """
    emit_rows(look(folder, "towers", lambda view: view.towers()), COLUMNS, form)


def _change(folder: Path, change: Callable[[Settings], Settings]) -> None:
    """Change the settings of a wallet that does not run, and keep it from starting meanwhile."""
    home = Folder(path=folder)
    with home.locked():
        write_settings(home, change(home.settings()))
