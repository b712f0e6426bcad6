"""How a wallet knows its hub over TLS: options of `wallet init`, and `farthing wallet trust`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..channels.client.folder import Folder, write_settings
from ..channels.client.tls import (
    FINGERPRINT_PREFIX,
    SYSTEM_CA,
    Trust,
    certificate_hash,
    fingerprint,
    parse_fingerprint,
    read_certificate,
)
from .output import emit, json_option, reports_errors
from .wallet_folder import folder_option

certificate_option = click.option(
    "--hub-certificate",
    "certificates",
    metavar="HASH|FILE",
    multiple=True,
    help="sha256:… of the hub's certificate, or its PEM file; twice while it is renewed.",
)
ca_option = click.option(
    "--hub-ca",
    "ca",
    metavar="system|FILE",
    help="Trust what this CA, or this machine's, vouches for under the hub's host name.",
)


def trust_of(certificates: tuple[str, ...], ca: str | None) -> Trust | None:
    """Make what the options say, None without any; raises `MalformedTrust`."""
    if not certificates and ca is None:
        return None
    path = ca if ca in (None, SYSTEM_CA) else str(Path(ca).resolve())
    made = Trust(pins=tuple(_pin(text) for text in certificates), ca=path or "")
    made.context()  # a CA file that cannot be used is said now
    return made


def _pin(text: str) -> bytes:
    if text.lower().startswith(FINGERPRINT_PREFIX):
        return parse_fingerprint(text)
    return certificate_hash(read_certificate(Path(text)))


def trust_record(made: Trust | None) -> dict[str, Any]:
    """How the hub is known, as plain values."""
    if made is None:
        return {"hub_certificates": [], "hub_ca": None}
    return {
        "hub_certificates": [fingerprint(pin) for pin in made.pins],
        "hub_ca": made.ca or None,
    }


@click.command()
@folder_option
@certificate_option
@ca_option
@json_option
@reports_errors
def trust(*, folder: Path, certificates: tuple[str, ...], ca: str | None, as_json: bool) -> None:
    r"""Say anew how the hub is known over TLS, such as before its certificate is renewed.

    Stop the wallet first. Without options: show what is trusted now.

    \b
    Example:
      farthing wallet trust --folder alice --hub-certificate old.pem --hub-certificate new.pem
    """
    home = Folder(path=folder)
    made = trust_of(certificates, ca)
    if made is not None:
        with home.locked():
            write_settings(home, replace(home.settings(), trust=made))
    emit(trust_record(home.settings().trust), as_json=as_json)
