"""`farthing deploy`: the three contracts onto a chain, and the record that everybody pins."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .keys import FILE, key_options, read_key, rpc_option
from .output import emit, json_option, reports_errors


@click.command()
@rpc_option
@click.option(
    "--out",
    metavar="FILE",
    type=FILE,
    default=Path("deployment.json"),
    show_default=True,
    help="Record to write; it must not exist.",
)
@key_options
@json_option
@reports_errors
def deploy(
    *,
    rpc_url: str,
    out: Path,
    keystore: Path | None,
    password_file: Path | None,
    dev_account: int | None,
    as_json: bool,
) -> None:
    r"""Deploy the contracts; the sender becomes the first registrar.

    A second deployment into the same record is refused with exit code 1.

    \b
    Example:
      farthing deploy --rpc http://127.0.0.1:8545 --dev-account 0 --out deployment.json
    """
    signer = read_key(keystore, password_file, dev_account)
    from ..node.administration import deploy as run  # noqa: PLC0415 - web3 takes a second to import
    from ..node.sender import connect  # noqa: PLC0415 - as above

    deployment = run(connect(rpc_url), signer, out)
    emit({**json.loads(deployment.to_json()), "record": str(out)}, as_json=as_json)
