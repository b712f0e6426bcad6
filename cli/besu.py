"""`farthing devnet export-besu`: the files of a Besu QBFT chain with the registry's members."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ..channels.client.deployment_file import read_deployment
from ..channels.ids import Address, address_to_hex
from .keys import ADDRESS, FILE
from .output import emit, json_option, reports_errors


@click.command("export-besu")
@click.option(
    "--validators",
    metavar="ENODE",
    multiple=True,
    required=True,
    help="A validator's enode://KEY@IP:PORT. Give it once for each, four or more.",
)
@click.option("--node", "nodes", metavar="ENODE", multiple=True, help="A node that only follows.")
@click.option("--chain-id", type=click.IntRange(1, 2**53 - 1), required=True, help="Your own.")
@click.option(
    "--account",
    "accounts",
    metavar="ADDRESS",
    type=ADDRESS,
    multiple=True,
    help="An account to admit, such as the deployer and the governance.",
)
@click.option("--rpc", "rpc_url", metavar="URL", help="Admit the members of a registry there.")
@click.option("--deployment", metavar="FILE", type=FILE, help="That registry's deployment.json.")
@click.option("--block-seconds", type=click.IntRange(1, 60), default=2, show_default=True)
@click.option(
    "--gas-limit",
    type=click.IntRange(10_000_000, 2**53 - 1),
    default=30_000_000,
    show_default=True,
    help="Of a block; a batch of 256 openings needs about 8 million.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("besu"),
    show_default=True,
    help="Folder to write.",
)
@json_option
@reports_errors
def export_besu(  # noqa: PLR0913 - one argument for each option of the command
    *,
    validators: tuple[str, ...],
    nodes: tuple[str, ...],
    chain_id: int,
    accounts: tuple[Address, ...],
    rpc_url: str | None,
    deployment: Path | None,
    block_seconds: int,
    gas_limit: int,
    out: Path,
    as_json: bool,
) -> None:
    r"""Write genesis, allowlists, static nodes and options of a Besu QBFT chain.

    Run again on a folder that has them, it keeps the genesis and writes the allowlists anew. All
    members are admitted that the registry has not removed. See docs/deploy.md for what is to be
    done with the files, and for what of it was tested.

    \b
    Example: farthing devnet export-besu --chain-id 20271 --out besu --account 0xf39F... \
        --validators enode://4f5a...@10.0.0.1:30303 --validators enode://8a1c...@10.0.1.1:30303
    """
    if (rpc_url is None) != (deployment is None):
        raise click.UsageError("give --rpc and --deployment together, or neither")
    from ..devnet.besu import VALIDATORS_TOLERANT_MIN, BesuChain, Node, export  # noqa: PLC0415

    members: tuple[Address, ...] = ()
    if rpc_url is not None and deployment is not None:
        from ..devnet.registered import members_to_admit  # noqa: PLC0415 - web3 takes a second

        members = members_to_admit(rpc_url, read_deployment(deployment))
    chain = BesuChain(
        chain_id=chain_id,
        validators=tuple(map(Node.parse, validators)),
        nodes=tuple(map(Node.parse, nodes)),
        accounts=tuple(sorted({*accounts, *members})),
        block_seconds=block_seconds,
        gas_limit=gas_limit,
    )
    paths = export(chain, out, now=int(time.time()))
    if len(validators) < VALIDATORS_TOLERANT_MIN:
        click.echo(
            f"warning: a chain of {len(validators)} validators stops when one fails;"
            f" {VALIDATORS_TOLERANT_MIN} bear that",
            err=True,
        )
    emit(
        {
            **{name: str(path) for name, path in paths.items()},
            "validators": [address_to_hex(node.address) for node in chain.validators],
            "accounts": [address_to_hex(account) for account in chain.accounts],
        },
        as_json=as_json,
    )
