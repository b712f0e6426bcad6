"""`farthing wallet backup` and `recover`: what a lost folder is made of again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..channels.client.folder import Folder
from ..channels.ids import address_to_hex
from .keys import FILE
from .output import emit, json_option, printable, reports_errors
from .wallet_folder import folder_option, read_password

if TYPE_CHECKING:
    from ..channels.client.bundle import Bundle
    from ..channels.client.recover import Recovery


@click.command()
@click.argument("file", type=FILE)
@folder_option
@click.option(
    "--with-keystore", is_flag=True, help="The key too, encrypted under the wallet's password."
)
@json_option
@reports_errors
def backup(*, file: Path, folder: Path, with_keystore: bool, as_json: bool) -> None:
    r"""Write a small recovery bundle: all of the wallet that stays as it is.

    Works whether the wallet runs or not. Write it again when there is a new channel, and keep it
    on another machine. It never replaces a bundle that knows more, or another wallet's.

    \b
    Example:
      farthing wallet backup alice.bundle --folder alice --with-keystore
    """
    from ..channels.client.bundle import bundle_of, write_bundle  # noqa: PLC0415 - not for --help

    bundle = bundle_of(Folder(path=folder), with_keystore=with_keystore)
    written = write_bundle(file, bundle)
    emit(
        {
            "file": str(file),
            "written": written,
            "signer": address_to_hex(bundle.signer),
            "channels": len(bundle.channels),
            "keystore": bundle.keystore is not None,
        },
        as_json=as_json,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--bundle", "bundle_file", metavar="FILE", type=FILE, required=True)
@click.option(
    "--keystore", "keystore_file", metavar="FILE", type=FILE, help="Default: the bundle's."
)
@click.option("--password-file", metavar="FILE", type=FILE, required=True, help="Mode 600.")
@click.option("--offline", is_flag=True, help="Without asking the hub: from the chain alone.")
@json_option
@reports_errors
def recover(
    *,
    folder: Path,
    bundle_file: Path,
    keystore_file: Path | None,
    password_file: Path,
    offline: bool,
    as_json: bool,
) -> None:
    r"""Make a lost wallet's folder again, from its bundle, key, hub and chain.

    FOLDER must not exist, or be empty. Then `wallet run`: for two minutes of chain time it neither
    pays nor takes anything, then it goes on where it was. If the hub is gone, run it all the same
    and close without the hub: `wallet close --unilateral`, `wallet finish-close`.

    \b
    Example:
      farthing wallet recover alice --bundle alice.bundle --password-file alice.password
    """
    import trio  # noqa: PLC0415 - not for --help

    from ..channels.client.bundle import read_bundle  # noqa: PLC0415 - as above

    bundle = read_bundle(bundle_file)
    password = read_password(folder, password_file)

    async def run() -> Recovery:
        from ..channels.client.chain import ChainReader  # noqa: PLC0415 - as above
        from ..channels.client.recover import recover as make  # noqa: PLC0415 - as above
        from ..channels.client.rpc import RpcClient  # noqa: PLC0415 - as above

        settings = bundle.settings
        async with RpcClient(settings.rpc_url) as rpc:
            chain = ChainReader(
                rpc, settings.deployment, confirmations=settings.policy.confirmations
            )
            return await make(
                folder, bundle, password, chain, keystore_file=keystore_file, offline=offline
            )

    recovery: Recovery = trio.run(run, strict_exception_groups=True)
    record = _record(folder, bundle, recovery, offline=offline)
    emit(record if as_json else _lines(record), as_json=as_json)


def _record(folder: Path, bundle: Bundle, recovery: Recovery, *, offline: bool) -> dict[str, Any]:
    from ..channels.client.recover import report  # noqa: PLC0415 - not for --help

    def place(trouble: str) -> str:
        return trouble or "answered"

    return {
        "folder": str(folder),
        "signer": address_to_hex(bundle.signer),
        "account": address_to_hex(bundle.settings.account),
        "chain": place(recovery.chain_trouble),
        "hub": "not asked" if offline else place(recovery.hub_trouble),
        "channels": [report(found) for found in recovery.found],
        "lost": LOST,
        "next": f"farthing wallet run --folder {folder}",
    }


LOST = (
    "what only the old folder held: receipts of payments that this wallet made, readings that were"
    " still queued, ids of payments (`pay --id`); received payments come again from the hub"
)


def _lines(record: Mapping[str, Any]) -> dict[str, Any]:
    """One line a value, for people."""
    lines = {key: value for key, value in record.items() if key != "channels"}
    for row in record["channels"]:
        amounts = ", ".join(
            f"{name.removesuffix('_ucent').replace('_', ' ')} {row[name]} µ¢"
            for name in ("received_ucent", "sent_ucent", "settled_received_ucent")
            if row[name] is not None
        )
        where = ", ".join(row["found"])
        lines[f"channel {row['channel']}"] = printable(
            f"{row['status']}; in {where}; {amounts}; at risk: {row['at_risk']}"
        )
    return lines
