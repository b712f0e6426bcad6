"""`farthing audit`: an independent check of the chain against the receipts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..channels.ids import Address
from .keys import ADDRESS
from .output import json_option

# \b keeps the lines as they are.
_CHECK_EPILOG = """
Exit codes: 0 it ties out, 1 it differs and the findings say in what, 2 it could not tell.

\b
Example:
  farthing audit check --rpc http://127.0.0.1:8545 --deployment deployment.json \\
    --receipts hub.jsonl --receipts wallet.jsonl
"""


_CONTRACT_EPILOG = """
Exit codes: 0 as it was made, 1 it differs and the findings say in what, 2 it could not tell.

\b
Example:
  farthing audit contract --rpc http://127.0.0.1:8545 --deployment deployment.json
"""

_rpc_option = click.option(
    "--rpc", "rpc_url", metavar="URL", required=True, help="JSON-RPC endpoint to read."
)
# Any path: one that cannot be read is an audit that could not tell.
_deployment_option = click.option(
    "--deployment",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The deployment.json that `farthing deploy` wrote.",
)


@click.group(epilog="Example: farthing audit check --help")
def audit() -> None:
    """Check the chain's settlements against the receipts, trusting no hub."""


@audit.command(epilog=_CHECK_EPILOG)
@_rpc_option
@_deployment_option
@click.option(
    "--receipts",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Receipts, one JSON object a line. Give it once for each file.",
)
@click.option(
    "--block",
    metavar="N",
    type=click.IntRange(min=0),
    help="Audit as of this block; the newest at the start by default.",
)
@json_option
@click.pass_context
def check(
    context: click.Context,
    *,
    rpc_url: str,
    deployment: Path,
    receipts: tuple[Path, ...],
    block: int | None,
    as_json: bool,
) -> None:
    """Tie out deposits, payouts, settlements and memberships with the receipts.

    It works from the chain and the receipts alone, and checks first that both the chain and the
    contracts are those of the deployment.
    """
    # Here, not above: `--help` needs no HTTP client.
    from ..node.audit.audit import check as run  # noqa: PLC0415

    outcome = run(rpc_url=rpc_url, deployment=deployment, receipts=receipts, block=block)
    click.echo(json.dumps(outcome.to_json()) if as_json else outcome.to_text())
    context.exit(outcome.exit_code)


@audit.command(epilog=_CONTRACT_EPILOG)
@_rpc_option
@_deployment_option
@click.option(
    "--governance",
    metavar="ADDRESS",
    type=ADDRESS,
    help="Who must be registrar now; the first one by default.",
)
@click.option(
    "--block",
    metavar="N",
    type=click.IntRange(min=0),
    help="Check as of this block; the newest at the start by default.",
)
@json_option
@click.pass_context
def contract(
    context: click.Context,
    *,
    rpc_url: str,
    deployment: Path,
    governance: Address | None,
    block: int | None,
    as_json: bool,
) -> None:
    """Compare the contracts on the chain with those that are shipped, byte for byte.

    Code, immutables, constructors and their arguments, and who may change the registry: where the
    deployer handed over to a governance, it must have no role left.
    """
    from ..node.audit.contract import check_contracts  # noqa: PLC0415 - as above

    outcome = check_contracts(
        rpc_url=rpc_url, deployment=deployment, governance=governance, block=block
    )
    click.echo(json.dumps(outcome.to_json()) if as_json else outcome.to_text())
    context.exit(outcome.exit_code)
