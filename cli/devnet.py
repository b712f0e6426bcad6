"""`farthing devnet`: a development chain on this machine, its clock and what is on it."""

from __future__ import annotations

from importlib.util import find_spec

import click

from .besu import export_besu
from .devnet_blocks import block, mine, reorg, revert, snapshot, warp
from .devnet_city import accounts, deploy, follow, members
from .devnet_console import console
from .devnet_transactions import logs, tx
from .devnet_up import down, status, up

# Importing py-evm takes a second, so the commands that need it import it themselves; that it is
# there at all is looked up here, where the command line knows which extra to name.
for _module in ("eth", "hypercorn", "jinja2", "starlette"):
    if find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)


@click.group(epilog="Example: farthing devnet up --port 0 --data ./chain")
def devnet() -> None:
    """Run a development chain on this machine, control its clock, and look at what is on it."""


for _command in (
    *(up, status, down, accounts, deploy, members, follow, console, export_besu),
    *(mine, warp, snapshot, revert, reorg, block, tx, logs),
):
    devnet.add_command(_command)
