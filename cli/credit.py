"""`farthing credit`: the city's credit, minted by the treasury under a funding reference."""

from __future__ import annotations

from pathlib import Path

import click

from ..channels.ids import Address, address_to_hex, bytes_from_hex
from ..channels.units import format_cents
from .keys import (
    ADDRESS,
    AMOUNT,
    administrator,
    deployment_option,
    key_options,
    read_key,
    rpc_option,
)
from .output import emit, json_option, reports_errors


@click.group(epilog="Example: farthing credit balance --help")
def credit() -> None:
    """Mint and read city credit."""


@credit.command()
@click.argument("to", type=ADDRESS)
@click.argument("amount", type=AMOUNT)
@click.option("--reference", metavar="HEX", required=True, help="32 bytes: the funding decision.")
@rpc_option
@deployment_option
@key_options
@json_option
@reports_errors
def mint(  # noqa: PLR0913 - one argument for each option of the command
    *,
    to: Address,
    amount: int,
    reference: str,
    rpc_url: str,
    deployment: Path,
    keystore: Path | None,
    password_file: Path | None,
    dev_account: int | None,
    as_json: bool,
) -> None:
    r"""Mint credit to an address; the treasury signs.

    Each reference mints once: repeat a mint whose outcome you do not know, and if it took
    effect the repetition is refused.

    \b
    Example:
      farthing credit mint 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 1000000c \
        --reference 0x0000000000000000000000000000000000000000000000000000000000000001 \
        --rpc http://127.0.0.1:8545 --deployment deployment.json --dev-account 1
    """
    funding = bytes_from_hex(reference, 32, what="reference")
    admin = administrator(rpc_url, deployment, read_key(keystore, password_file, dev_account))
    block = admin.mint(to, amount, funding)
    emit({"to": address_to_hex(to), "amount_ucent": amount, "block": block}, as_json=as_json)


@credit.command()
@click.argument("address", type=ADDRESS)
@rpc_option
@deployment_option
@json_option
@reports_errors
def balance(*, address: Address, rpc_url: str, deployment: Path, as_json: bool) -> None:
    r"""Show an address's credit outside channels.

    \b
    Example:
      farthing credit balance 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 \
        --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    ucent = administrator(rpc_url, deployment, None).balance_ucent(address)
    record = {"address": address_to_hex(address), "balance_ucent": ucent}
    emit(record if as_json else {**record, "balance": format_cents(ucent)}, as_json=as_json)
