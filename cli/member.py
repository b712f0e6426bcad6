"""`farthing member`: who may take part; every change is an event on the chain."""

from __future__ import annotations

from pathlib import Path

import click

from ..channels.ids import Address, address_to_hex
from ..contracts.members import MemberStatus
from .keys import (
    ADDRESS,
    administrator,
    deployment_option,
    key_options,
    read_key,
    rpc_option,
)
from .output import EXIT_REFUSED, emit, json_option, reports_errors

ROLES = ("registrar", "treasury", "hub", "resident", "device", "relayer", "auditor")
STATUSES = ("active", "suspended", "removed")
REASON_BYTES_MAX = 32


@click.group(epilog="Example: farthing member show --help")
def member() -> None:
    """Register members and read the registry."""


@member.command("set")
@click.argument("addresses", metavar="ADDRESS...", type=ADDRESS, nargs=-1, required=True)
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--status", type=click.Choice(STATUSES), default="active", show_default=True)
@click.option(
    "--valid-until",
    metavar="SECONDS",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    help="Unix time after which the membership ends; 0 for no end.",
)
@click.option("--reason", metavar="CODE", default="", help="Up to 32 bytes; no personal data.")
@rpc_option
@deployment_option
@key_options
@json_option
@reports_errors
def set_member(  # noqa: PLR0913 - one argument for each option of the command
    *,
    addresses: tuple[Address, ...],
    role: str,
    status: str,
    valid_until: int,
    reason: str,
    rpc_url: str,
    deployment: Path,
    keystore: Path | None,
    password_file: Path | None,
    dev_account: int | None,
    as_json: bool,
) -> None:
    r"""Register addresses, or change their role, status or end; a registrar signs.

    On a devnet, active members are admitted to the chain as well.

    \b
    Example:
      farthing member set 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --role device \
        --rpc http://127.0.0.1:8545 --deployment deployment.json --dev-account 0
    """
    code = reason.encode()
    if len(code) > REASON_BYTES_MAX:
        raise click.UsageError(f"--reason is longer than {REASON_BYTES_MAX} bytes")
    admin = administrator(rpc_url, deployment, read_key(keystore, password_file, dev_account))
    from ..node.administration import Registration, Role  # noqa: PLC0415 - web3 takes a second

    rows = [
        Registration(
            account=account,
            role=Role[role.upper()],
            status=MemberStatus[status.upper()],
            valid_until=valid_until,
            reason=code.ljust(REASON_BYTES_MAX, b"\0"),
        )
        for account in addresses
    ]
    blocks = admin.set_members(rows)
    admitted = status == "active" and admin.admit(addresses)
    emit(
        {
            "members": [address_to_hex(account) for account in addresses],
            "role": role,
            "status": status,
            "block": blocks[-1],
            "admitted": admitted,
        },
        as_json=as_json,
    )


@member.command()
@click.argument("address", type=ADDRESS)
@rpc_option
@deployment_option
@json_option
@click.pass_context
@reports_errors
def show(
    context: click.Context, *, address: Address, rpc_url: str, deployment: Path, as_json: bool
) -> None:
    r"""Show what the registry says of an address; exit code 1 if it is no active member.

    \b
    Example:
      farthing member show 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 \
        --rpc http://127.0.0.1:8545 --deployment deployment.json
    """
    found = administrator(rpc_url, deployment, None).member(address)
    record = {"address": address_to_hex(address), "role": None, "status": "none", "valid_until": 0}
    if found is not None:
        record.update(
            role=found.role.name.lower(),
            status=found.status.name.lower(),
            valid_until=found.valid_until,
        )
    emit(record, as_json=as_json)
    if record["status"] != "active":
        context.exit(EXIT_REFUSED)
