"""Options that commands share: the chain, the deployment record, and the key that signs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..channels.client.deployment_file import read_deployment
from ..channels.client.keystore import read_password_file, unlock
from ..channels.client.secrecy import harden_process
from ..channels.ids import Address, address_from_hex
from ..channels.signing import Signer
from ..channels.units import parse_amount

if TYPE_CHECKING:
    from ..node.administration import Administrator

FILE = click.Path(path_type=Path, dir_okay=False)

rpc_option = click.option(
    "--rpc", "rpc_url", metavar="URL", required=True, help="JSON-RPC endpoint."
)
deployment_option = click.option(
    "--deployment", metavar="FILE", type=FILE, required=True, help="What `farthing deploy` wrote."
)


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which key signs; exactly one way must be given."""
    for option in (
        click.option("--dev-account", type=click.IntRange(0, 99), help="A devnet's account."),
        click.option("--password-file", metavar="FILE", type=FILE, help="Mode 600."),
        click.option("--keystore", metavar="FILE", type=FILE, help="Keystore v3 of the sender."),
    ):
        command = option(command)
    return command


def read_key(keystore: Path | None, password_file: Path | None, dev_account: int | None) -> Signer:
    """Unlock the key that the options name; raises `LocalError` or `click.UsageError`."""
    if dev_account is not None and keystore is None:
        from ..devnet.accounts import development_signer  # noqa: PLC0415 - an extra of its own

        return development_signer(dev_account)
    if keystore is None or password_file is None or dev_account is not None:
        raise click.UsageError("give --keystore with --password-file, or --dev-account alone")
    harden_process()
    return unlock(keystore, read_password_file(password_file))


def administrator(rpc_url: str, deployment: Path, signer: Signer | None) -> Administrator:
    """Connect to the chain of a deployment, which is checked first; raises `ChainError`."""
    from ..node.administration import Administrator  # noqa: PLC0415 - web3 takes a second to import
    from ..node.chain import Web3Chain  # noqa: PLC0415
    from ..node.sender import connect  # noqa: PLC0415

    record = read_deployment(deployment)
    web3 = connect(rpc_url)
    Web3Chain(web3, record, signer=None).check_identity()
    return Administrator(web3, record, signer)


class AddressType(click.ParamType[Address]):
    """An address with its checksum."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> Address:
        """Read the address; raises `LocalError`, which becomes exit code 1."""
        del param, ctx
        return value if isinstance(value, bytes) else address_from_hex(value)  # type: ignore[return-value]


class AmountType(click.ParamType[int]):
    """An amount: whole microcents, or cents with a c."""

    name = "amount"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read the amount in µ¢; raises `LocalError`, which becomes exit code 1."""
        del param, ctx
        return value if isinstance(value, int) else parse_amount(value)


ADDRESS = AddressType()
AMOUNT = AmountType()
