"""`farthing bench city`: what a city of many devices needs, computed from measured figures.

Every row says what it rests on: `measured`, `assumed` (a choice that the caller may change) or
`extrapolated` (measured figures times a number of devices that nobody has run).
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...channels.errors import LocalError

MEASURED_FILE: Final = Path(__file__).with_name("measured.toml")
"""The figures of docs/benchmarks.md."""
DAY_SECONDS: Final = 86_400
BUSY: Final = 0.5
"""How much of a core, and of a block's gas, is planned for: the rest is for peaks and repairs."""
CONNECTIONS_OF_HUB: Final = 10_000
"""As many as were measured on one process."""
KIB_OF_MIB: Final = 1024
GIB: Final = 2**30
_MICRO: Final = 1e6

MEASURED, ASSUMED, EXTRAPOLATED = "measured", "assumed", "extrapolated"


class ResultsMissing(LocalError):
    """A folder that lacks one of the results that the model needs."""

    code = "results-missing"
    remedy = "run `farthing bench all --save FOLDER` first, or leave the folder out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures that the model rests on, each of one benchmark."""

    hub_cpu_us_per_update: float
    kib_per_connection: float
    database_bytes_per_payment: float
    settle_gas_per_channel: float
    settle_calldata_bytes_per_channel: float
    block_gas_limit: float
    storm_connections: float
    storm_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class City:
    """What is asked: how many devices, and how they behave."""

    devices: int
    payments_per_device_day: float = 96.0
    peak: float = 3.0
    settle_days: float = 1.0
    block_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of the answer."""

    name: str
    value: float
    unit: str
    basis: str
    how: str


def read_measured(results: Path | None) -> Measured:
    """The product's own figures, or those of a folder of results; raises `ResultsMissing`."""
    if results is None:
        return Measured(**tomllib.loads(MEASURED_FILE.read_text(encoding="utf-8")))
    found = {name: _result(results, name) for name in ("fan-in", "memory", "settle")}
    return Measured(
        hub_cpu_us_per_update=found["fan-in"]["hub_cpu_us"]["median"],
        database_bytes_per_payment=found["fan-in"]["database_bytes_per_payment"],
        kib_per_connection=found["memory"]["kib_per_connection"],
        storm_connections=found["memory"]["connections"],
        storm_seconds=found["memory"]["storm_seconds"],
        settle_gas_per_channel=found["settle"]["gas_per_channel"],
        settle_calldata_bytes_per_channel=found["settle"]["calldata_bytes_per_channel"],
        block_gas_limit=found["settle"]["block_gas_limit"],
    )


def measured_toml(measured: Measured) -> str:
    """The figures as `MEASURED_FILE` holds them."""
    lines = (f"{name} = {value:g}\n" for name, value in asdict(measured).items())
    return "# Written by `farthing bench all --save`; see docs/benchmarks.md.\n" + "".join(lines)


def _result(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsMissing(f"{path} cannot be read ({error})") from error
    return record


def bench_city(city: City, results: Path | None = None) -> dict[str, Any]:
    """Compute what a city needs; nothing is run. Raises `ResultsMissing`."""
    measured = read_measured(results)
    hubs, rows = _hubs(city, measured)
    rows += _disk(city, measured)
    rows += _chain(city, measured)
    return {
        "benchmark": "city",
        "devices": city.devices,
        "hubs": hubs,
        "asked": asdict(city),
        "measured": asdict(measured),
        "rows": [asdict(row) for row in rows],
    }


def _hubs(city: City, measured: Measured) -> tuple[int, list[Row]]:
    a_second = city.devices * city.payments_per_device_day / DAY_SECONDS * city.peak
    core_a_second = _MICRO / measured.hub_cpu_us_per_update
    by_cpu = math.ceil(a_second / (core_a_second * BUSY))
    by_connections = math.ceil(city.devices / CONNECTIONS_OF_HUB)
    hubs = max(by_cpu, by_connections, 1)
    of_hub = city.devices / hubs
    storm = measured.storm_seconds * of_hub / measured.storm_connections
    return hubs, [
        _row("payments", a_second, "a second", ASSUMED, "devices × payments a day × peak"),
        _row("core", core_a_second, "payments a second", MEASURED, "fan-in: hub_cpu_us"),
        _row("hubs_by_cpu", by_cpu, "processes", EXTRAPOLATED, f"{BUSY:.0%} of a core each"),
        _row(
            "hubs_by_connections", by_connections, "processes", EXTRAPOLATED, "10,000 wallets each"
        ),
        _row("hubs", hubs, "processes", EXTRAPOLATED, "the greater of both; a core each"),
        _row(
            "memory_of_hub",
            of_hub * measured.kib_per_connection / KIB_OF_MIB,
            "MiB",
            EXTRAPOLATED,
            "memory: kib_per_connection, beside some 90 MiB of the process itself",
        ),
        _row("storm", storm, "s until all are back", EXTRAPOLATED, "memory: storm_seconds"),
    ]


def _disk(city: City, measured: Measured) -> list[Row]:
    payments = city.devices * city.payments_per_device_day
    whole = payments * measured.database_bytes_per_payment / GIB
    return [
        _row("disk_of_all_hubs", whole, "GiB a day", EXTRAPOLATED, "fan-in: database bytes"),
    ]


def _chain(city: City, measured: Measured) -> list[Row]:
    gas = city.devices * measured.settle_gas_per_channel
    blocks = math.ceil(gas / (measured.block_gas_limit * BUSY))
    in_period = city.settle_days * DAY_SECONDS / city.block_seconds
    calldata = city.devices * measured.settle_calldata_bytes_per_channel / GIB
    used = 100 * gas / (measured.block_gas_limit * in_period)
    return [
        _row("settle_gas", gas, "gas a period", EXTRAPOLATED, "settle: gas_per_channel"),
        _row("settle_blocks", blocks, "blocks a period", EXTRAPOLATED, f"{BUSY:.0%} of the limit"),
        _row(
            "settle_time",
            blocks * city.block_seconds / 3600,
            "h a period",
            EXTRAPOLATED,
            "if the blocks follow each other",
        ),
        _row("settle_share", used, "% of the period's gas", EXTRAPOLATED, "of full blocks"),
        _row("settle_calldata", calldata, "GiB a period", EXTRAPOLATED, "settle: calldata"),
    ]


def _row(name: str, value: float, unit: str, basis: str, how: str) -> Row:
    return Row(name=name, value=float(f"{value:.4g}"), unit=unit, basis=basis, how=how)
