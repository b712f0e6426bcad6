"""`farthing devnet accounts | deploy | members`: who and what is on the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..channels.client.deployment_file import read_deployment
from ..channels.ids import address_to_hex
from ..devnet.asking import METHOD_NOT_FOUND, HttpAsk, RefusedByDevnet
from .deploy import out_option
from .devnet_rpc import rpc_option
from .keys import FILE
from .output import Form, emit, emit_rows, json_option, reports_errors, rows_options

REGISTRAR, TREASURY = 0, 1
"""Numbers of the development accounts that `deploy` gives these roles."""
MEMBER_COLUMNS = ("member", "role", "status", "valid_until", "admitted", "since_block")

record_option = click.option(
    "--deployment",
    metavar="FILE",
    type=FILE,
    default=Path("deployment.json"),
    show_default=True,
    help="What `deploy` wrote.",
)


@click.command(epilog="Example: farthing devnet accounts --count 2")
@click.option("--count", default=10, show_default=True, type=click.IntRange(1, 1_000))
@rows_options
@reports_errors
def accounts(*, count: int, form: Form) -> None:
    """List the development accounts and their keys: the same everywhere, known to everybody."""
    from ..devnet.accounts import dev_accounts  # noqa: PLC0415 - eth-account takes a second

    rows = [
        {"address": account.checksum_address, "private_key": "0x" + account.private_key.hex()}
        for account in dev_accounts(count)
    ]
    emit_rows(rows, ("address", "private_key"), form)


@click.command(epilog="Example: farthing devnet deploy --out deployment.json")
@out_option
@rpc_option
@json_option
@reports_errors
def deploy(*, out: Path, rpc_url: str, as_json: bool) -> None:
    """Deploy the contracts, with account 0 as registrar and account 1 as treasury.

    The same as `farthing deploy --dev-account 0` and `farthing member set` for the treasury.
    """
    with HttpAsk(rpc_url) as ask:
        ask("eth_chainId")  # so that a devnet that is not there is said in the devnet's words
    from ..devnet.accounts import development_signer  # noqa: PLC0415 - web3 takes a second
    from ..devnet.client import web3_at  # noqa: PLC0415 - as above
    from ..node.administration import Administrator, Registration, Role  # noqa: PLC0415 - as above
    from ..node.deploying import deploy as run  # noqa: PLC0415 - as above

    def say(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    registrar, treasury = development_signer(REGISTRAR), development_signer(TREASURY)
    with web3_at(rpc_url) as web3:
        deployment = run(web3, registrar, out, say=say).deployment
        Administrator(web3, deployment, registrar).set_members(
            [Registration(account=treasury.address, role=Role.TREASURY)]
        )
    emit(
        {
            "record": str(out),
            "member_registry": address_to_hex(deployment.member_registry),
            "city_credit": address_to_hex(deployment.city_credit),
            "payment_channels": address_to_hex(deployment.payment_channels),
            "registrar": address_to_hex(registrar.address),
            "treasury": address_to_hex(treasury.address),
        },
        as_json=as_json,
    )


@click.command(epilog="Example: farthing devnet follow --deployment deployment.json")
@record_option
@click.option("--stop", is_flag=True, help="Follow none any more: the allowlist decides.")
@rpc_option
@json_option
@reports_errors
def follow(*, deployment: Path, stop: bool, rpc_url: str, as_json: bool) -> None:
    """Let the registry say who may send: whom it holds and has not removed.

    Suspended members and those whose time is over may still send, so that they can close. About
    addresses that the registry never held the allowlist decides. Kept with the chain.
    """
    registry = None if stop else address_to_hex(read_deployment(deployment).member_registry)
    with HttpAsk(rpc_url) as ask:
        ask("farthing_followRegistry", *(() if registry is None else (registry,)))
        admitted = len(ask("perm_getAccountsAllowlist"))
    emit({"follows_registry": registry, "may_send": admitted}, as_json=as_json)


@click.command(epilog="Example: farthing devnet members --deployment deployment.json")
@record_option
@rpc_option
@rows_options
@reports_errors
def members(*, deployment: Path, rpc_url: str, form: Form) -> None:
    """List everybody in the registry: role, status, and whether the chain takes their transactions.

    Admitted is empty on a chain that is open to anybody.
    """
    record = read_deployment(deployment)
    with HttpAsk(rpc_url) as ask:
        listed = _allowlist(ask)
    from ..devnet.registered import members_of  # noqa: PLC0415 - web3 takes a second

    rows: list[dict[str, Any]] = [
        {
            "member": address_to_hex(held.account),
            "role": held.role.name.lower(),
            "status": held.status.name.lower(),
            "valid_until": held.valid_until,
            "admitted": None if listed is None else held.account.hex() in listed,
            "since_block": held.block,
        }
        for held in members_of(rpc_url, record)
    ]
    emit_rows(rows, MEMBER_COLUMNS, form)


def _allowlist(ask: HttpAsk) -> set[str] | None:
    """Whose transactions are taken, as hex without 0x; None where everybody's are."""
    try:
        return {str(each).lower()[2:] for each in ask("perm_getAccountsAllowlist")}
    except RefusedByDevnet as refusal:
        if refusal.rpc_code == METHOD_NOT_FOUND or "has not been enabled" in refusal.text:
            return None
        raise
