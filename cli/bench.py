"""`farthing bench`: what things cost, each figure with its conditions."""

from __future__ import annotations

from importlib.util import find_spec

import click

from .bench_speed import COMMANDS
from .output import Form, emit, emit_rows, reports_errors, rows_options

# Importing py-evm takes a second, so the command imports it itself; that it is there at all is
# looked up here, where the command line knows which extra to name.
for _module in ("eth", "web3"):
    if find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)


@click.group(epilog="Example: farthing bench gas")
def bench() -> None:
    """Measure what things cost; each figure comes with its conditions."""


for _command in COMMANDS:
    bench.add_command(_command)


@bench.command()
@rows_options
@reports_errors
def gas(*, form: Form) -> None:
    r"""Deploy to a devnet in this process, do every operation, and say what each used.

    Gas is the whole transaction's, intrinsic gas and calldata included, divided by `per`, the
    things that it does, and rounded up. Each effect is looked up on the chain afterwards; exit
    code 1 if one is missing. Takes some seconds and gives the same figures each time.

    \b
    Example:
      farthing bench gas --json
    """
    from ..devnet.bench.gas import measure_gas  # noqa: PLC0415 - py-evm and web3 take a second each

    report = measure_gas().record()
    if form is Form.JSON:  # with the chain's conditions
        emit(report, as_json=True)
    else:
        emit_rows(report["rows"], ("name", "gas", "per", "conditions"), form)
