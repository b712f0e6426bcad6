"""`farthing deploy`: the three contracts onto a chain, and the record that everybody pins."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..channels.ids import Address, address_from_hex, address_to_hex
from .keys import FILE, key_options, read_key, rpc_option
from .output import emit, json_option, reports_errors


def _checksummed(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> Address | None:
    """Read an address that must carry its checksum, as nobody can correct it afterwards."""
    if value is None:
        return None
    address = address_from_hex(value)
    if value != address_to_hex(address):
        raise click.BadParameter(
            "write it with its checksum (upper and lower case): whoever it names governs for ever"
        )
    return address


out_option = click.option(
    "--out",
    metavar="FILE",
    type=FILE,
    default=Path("deployment.json"),
    show_default=True,
    help="Record to write; it must not exist.",
)


@click.command()
@rpc_option
@out_option
@click.option(
    "--governance",
    metavar="ADDRESS",
    callback=_checksummed,
    help="First and only registrar, such as a multi-signer wallet; without, it is the sender.",
)
@click.option(
    "--confirmations",
    metavar="N",
    type=click.IntRange(0, 1_000),
    default=0,
    show_default=True,
    help="Blocks to wait for on top of it; 0 where blocks are final, as with QBFT.",
)
@key_options
@json_option
@reports_errors
def deploy(  # noqa: PLR0913 - one argument for each option of the command
    *,
    rpc_url: str,
    out: Path,
    governance: Address | None,
    confirmations: int,
    keystore: Path | None,
    password_file: Path | None,
    dev_account: int | None,
    as_json: bool,
) -> None:
    r"""Deploy the contracts, check them on the chain, and write their record.

    Whatever stops it, the same command goes on from there and deploys nothing twice: what is under
    way is kept in FILE.partial. A second deployment into the same record is refused with exit
    code 1, as is what differs from what was to be deployed; 2 where the chain leaves it open.

    \b
    Example:
      farthing deploy --rpc http://127.0.0.1:8545 --dev-account 0 --out deployment.json
    """
    signer = read_key(keystore, password_file, dev_account)
    from ..node.deploying import deploy as run  # noqa: PLC0415 - web3 takes a second to import
    from ..node.sender import connect  # noqa: PLC0415 - as above

    def say(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    deployed = run(
        connect(rpc_url),
        signer,
        out,
        governance=governance,
        confirmations=confirmations,
        say=say,
    )
    record = json.loads(deployed.to_json())
    if not as_json:
        del record["transactions"]
    emit({**record, "record": str(out)}, as_json=as_json)
