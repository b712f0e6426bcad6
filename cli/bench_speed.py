"""`farthing bench updates` and its neighbours: how fast, how much memory, compared with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from .output import Form, emit, emit_rows, json_option, reports_errors, rows_options

# py-evm, web3 and the hub take seconds to import, so each command imports its benchmark itself.

_SHOWN: Final = (str, int, float)
_WIDE: Final = ("limits", "machine")


def speed_options(command: Callable[..., Mapping[str, Any]]) -> Callable[..., None]:
    """Print, and save if told, what a benchmark returns; its errors end with exit code 1."""

    @wraps(command)
    def wrapped(*, as_json: bool, save: Path | None, **options: Any) -> None:
        result = command(**options)
        if save is not None:
            from ..devnet.bench.pictures import save as write  # noqa: PLC0415 - see above

            write(result, save)
        emit(result if as_json else _short(result), as_json=as_json)

    shown = json_option(reports_errors(wrapped))
    folder = click.Path(file_okay=False, path_type=Path)
    save_text = "Write NAME.json and NAME.svg into this folder, too."
    shown = click.option("--save", type=folder, default=None, help=save_text)(shown)
    within_text = "Run in a new folder in this one: the disk whose syncs count."
    present = click.Path(exists=True, file_okay=False, path_type=Path)
    return click.option("--within", type=present, default=None, help=within_text)(shown)


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    """What fits a terminal: the plain values, then the limits and the machine."""
    shown = {name: value for name, value in result.items() if isinstance(value, _SHOWN)}
    for name in _WIDE:
        for inner, value in result[name].items():
            if isinstance(value, _SHOWN):
                shown[f"{name}.{inner}"] = value
    return shown


@click.command()
@speed_options
def updates(*, within: Path | None) -> Mapping[str, Any]:
    r"""One payer and one payee, a signature and a verification for each payment.

    Two processes over loopback, durable on both sides, without and with TLS; both are killed once,
    and what was acknowledged is looked for. `ratio` is updates a second, by the clock, over what
    one core can sign or verify, whichever is less; `ratio_by_cpu` is the same of the busier side's
    CPU time, which other programs on the machine do not change. Two minutes at most.

    \b
    Example:
      farthing bench updates --json
    """
    from ..devnet.bench.updates import bench_updates  # noqa: PLC0415 - see above

    return bench_updates(within=within)


@click.command()
@speed_options
def coalesced(*, within: Path | None) -> Mapping[str, Any]:
    r"""Many payments under one signature, each with a receipt made in the measured time.

    Afterwards every stored receipt is hashed again, and gives the voucher's history.

    \b
    Example:
      farthing bench coalesced --json
    """
    from ..devnet.bench.coalesced import bench_coalesced  # noqa: PLC0415 - see above

    return bench_coalesced(within=within)


@click.command()
@speed_options
def latency(*, within: Path | None) -> Mapping[str, Any]:
    r"""From when a payment is due to its durable acknowledgement, 1,000 offered a second.

    A payment that has to wait for the one before it waits in the measured time.

    \b
    Example:
      farthing bench latency --json
    """
    from ..devnet.bench.latency import bench_latency  # noqa: PLC0415 - see above

    return bench_latency(within=within)


@click.command("fan-in")
@speed_options
def fan_in(*, within: Path | None) -> Mapping[str, Any]:
    r"""1,000 connected wallets that sign live, one update in flight each.

    `ratio` is the CPU time of a verification over the hub's CPU time for an update. Every
    channel's receipts are replayed afterwards. It needs 1,100 open files in each process.

    \b
    Example:
      farthing bench fan-in --json
    """
    from ..devnet.bench.fan_in import bench_fan_in  # noqa: PLC0415 - see above

    return bench_fan_in(within=within)


@click.command()
@speed_options
@click.option("--connections", default=10_000, show_default=True, help="Wallets that connect.")
def memory(*, within: Path | None, connections: int) -> Mapping[str, Any]:
    r"""10,000 connected wallets on one hub: memory for each, and all of them coming back.

    The hub is restarted, and all wallets dial at once, with a wallet's own pauses. It needs as many
    open files in each process (`ulimit -Hn`).

    \b
    Example:
      farthing bench memory --json
    """
    from ..devnet.bench.memory import bench_memory  # noqa: PLC0415 - see above

    return bench_memory(connections=connections, within=within)


@click.command()
@speed_options
def settle(*, within: Path | None) -> Mapping[str, Any]:
    r"""Gas, calldata and time for each settled channel as their number grows.

    On a chain in this process; each row's effect is looked up afterwards.

    \b
    Example:
      farthing bench settle --json
    """
    from ..devnet.bench.settle import bench_settle  # noqa: PLC0415 - see above

    return bench_settle(within=within)


@click.command("devnet")
@speed_options
def devnet_speed(*, within: Path | None) -> Mapping[str, Any]:
    r"""How soon a devnet answers, finds the logs of 1,000 blocks, and opens channels.

    Processes that are asked over HTTP. The logs and the opened channels are checked one by one.

    \b
    Example:
      farthing bench devnet --json
    """
    from ..devnet.bench.devnet import bench_devnet  # noqa: PLC0415 - see above

    return bench_devnet(within=within)


@click.command()
@speed_options
@click.option(
    "--environment",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="The Python of an environment that holds x402, eth-account and coincurve.",
)
def peers(*, within: Path | None, environment: Path | None) -> Mapping[str, Any]:
    r"""The same voucher signed and verified by Farthing, by eth-account and by x402.

    Installs the others from the package index into a folder that is deleted afterwards, and runs
    all of them in turn; the figures without coincurve stand beside.

    \b
    Example:
      farthing bench peers --json
    """
    from ..devnet.bench.peers import bench_peers  # noqa: PLC0415 - see above

    return bench_peers(environment=environment, within=within)


@click.command("all")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Write NAME.json and NAME.svg of each benchmark into this folder.",
)
@json_option
@reports_errors
def everything(*, save: Path, as_json: bool) -> None:
    r"""Run all of these one after the other and write results and pictures; about ten minutes.

    This is how docs/benchmarks is made. One that fails ends it, with what was written before.

    \b
    Example:
      farthing bench all --save docs/benchmarks
    """
    from ..devnet.bench.everything import run_all  # noqa: PLC0415 - see above

    emit(run_all(save), as_json=as_json)


@click.command()
@click.option("--devices", default=1_000_000, show_default=True, help="Wallets of the city.")
@click.option("--payments-a-day", default=96.0, show_default=True, help="Of each device.")
@click.option("--peak", default=3.0, show_default=True, help="The busiest hour over the mean.")
@click.option("--settle-days", default=1.0, show_default=True, help="Between two settlements.")
@click.option("--block-seconds", default=5.0, show_default=True, help="Between two blocks.")
@click.option(
    "--results",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Figures of this folder (`farthing bench all`) in place of those of the documentation.",
)
@rows_options
@reports_errors
def city(*, results: Path | None, payments_a_day: float, form: Form, **asked: Any) -> None:
    r"""Compute hubs, disk, blocks and time that a city needs, from measured figures.

    Nothing is run. Each row says whether it is measured, assumed or extrapolated.

    \b
    Example:
      farthing bench city --devices 1000000
    """
    from ..devnet.bench.capacity import City, bench_city  # noqa: PLC0415 - see above

    answer = bench_city(City(payments_per_device_day=payments_a_day, **asked), results)
    if form is Form.JSON:
        emit(answer, as_json=True)
    else:
        emit_rows(answer["rows"], ("name", "value", "unit", "basis", "how"), form)


COMMANDS: Final = (
    *(updates, coalesced, fan_in, latency, memory, settle, devnet_speed, peers),
    *(everything, city),
)
