"""`doctor` of a wallet, a hub and a watchtower: rows of what was looked at, and what to do."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ..channels.client.folder import Folder
from ..channels.deployment import Deployment
from .keys import FILE
from .output import EXIT_REFUSED, Form, emit_rows, reports_errors, rows_options

if TYPE_CHECKING:
    from ..channels.client.doctor import Check
    from ..channels.client.ports import ChainPort
    from ..node.config import HubConfig
    from ..node.watchtower.config import TowerConfig

Server = TypeVar("Server", "HubConfig", "TowerConfig")

COLUMNS = ("verdict", "what", "found", "what_to_do")


@click.command("doctor")
@click.argument(
    "folder", envvar="FARTHING_WALLET", type=click.Path(path_type=Path, file_okay=False)
)
@click.option("--password-file", metavar="FILE", type=FILE, help="Default: FOLDER/password.")
@click.option("--bundle", metavar="FILE", type=FILE, help="A recovery bundle to check as well.")
@rows_options
@reports_errors
def wallet_doctor(
    *, folder: Path, password_file: Path | None, bundle: Path | None, form: Form
) -> None:
    r"""Check a wallet: files, clock, disk, versions, database, chain, hub, and what is at risk.

    It changes nothing and works whether the wallet runs or not. Exit code 1 if there is a problem;
    a warning is none yet.

    \b
    Example:
      farthing wallet doctor alice --bundle alice.bundle
    """
    from ..channels.client.doctor import examine  # noqa: PLC0415 - not for --help

    home = Folder(path=folder)
    settings = home.settings()

    async def look(chain: ChainPort) -> list[Check]:
        return await examine(
            home, chain, password_file=password_file or folder / "password", bundle=bundle
        )

    confirmations = settings.policy.confirmations
    _tell(_with_chain(settings.rpc_url, settings.deployment, confirmations, look), form)


@click.command("doctor")
@click.option("--config", metavar="FILE", type=FILE, required=True, help="The hub's TOML file.")
@rows_options
@reports_errors
def hub_doctor(*, config: Path, form: Form) -> None:
    r"""Check a hub: files, clock, disk, versions, database, chain, and what is at risk.

    It changes nothing and works whether the hub runs or not. Exit code 1 if there is a problem.

    \b
    Example:
      farthing hub doctor --config hub/hub.toml
    """
    from ..node.config import load  # noqa: PLC0415 - not for --help
    from ..node.doctor import examine  # noqa: PLC0415 - as above

    _tell_of_server(load(config, os.environ), examine, form)


@click.command("doctor")
@click.option("--config", metavar="FILE", type=FILE, required=True, help="The tower's TOML file.")
@rows_options
@reports_errors
def tower_doctor(*, config: Path, form: Form) -> None:
    r"""Check a watchtower: files, clock, disk, what it holds, chain, membership, silent wallets.

    It changes nothing and works whether the tower runs or not. Exit code 1 if there is a problem.

    \b
    Example:
      farthing watchtower doctor --config tower/watchtower.toml
    """
    from ..node.watchtower.config import load  # noqa: PLC0415 - not for --help
    from ..node.watchtower.doctor import examine  # noqa: PLC0415 - as above

    _tell_of_server(load(config, os.environ), examine, form)


def _tell_of_server(
    settings: Server, examine: Callable[[Server, ChainPort], Awaitable[list[Check]]], form: Form
) -> None:
    from ..channels.client.deployment_file import read_deployment  # noqa: PLC0415 - not for --help

    deployment = read_deployment(settings.deployment_file)
    look = partial(examine, settings)
    _tell(_with_chain(settings.rpc_url, deployment, settings.confirmations, look), form)


def _with_chain(
    rpc_url: str,
    deployment: Deployment,
    confirmations: int,
    look: Callable[[ChainPort], Awaitable[list[Check]]],
) -> list[Check]:
    import trio  # noqa: PLC0415 - not for --help

    from ..channels.client.chain import ChainReader  # noqa: PLC0415 - as above
    from ..channels.client.rpc import RpcClient  # noqa: PLC0415 - as above

    async def run() -> list[Check]:
        async with RpcClient(rpc_url) as rpc:
            return await look(ChainReader(rpc, deployment, confirmations=confirmations))

    rows: list[Check] = trio.run(run, strict_exception_groups=True)
    return rows


def _tell(rows: Sequence[Check], form: Form) -> None:
    from ..channels.client.doctor import is_fine, records  # noqa: PLC0415 - not for --help

    emit_rows(records(rows), COLUMNS, form)
    if not is_fine(rows):
        raise SystemExit(EXIT_REFUSED)
