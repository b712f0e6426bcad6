"""The machine and the versions that a figure was measured with."""

from __future__ import annotations

import os
import platform
import sqlite3
import ssl
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("coincurve", "safe-pysha3", "cbor2", "trio", "py-evm", "eth-account")
_UNKNOWN = "unknown"
_CPU_TIME = 2


def machine(folder: Path) -> dict[str, Any]:
    """Processor, memory, system and versions; `folder` is on the disk that is used."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory": _field(Path("/proc/meminfo"), "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(folder),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "farthing": version("farthing"),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _field(path: Path, name: str) -> str:
    """The value of the first line `name: value` of one of the kernel's files."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return _UNKNOWN
    values = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(values, _UNKNOWN)


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, as the kernel lists its mounts."""
    best, kind = "", _UNKNOWN
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        _, at, of_type, *_ = line.split()
        inside = folder.resolve() == Path(at) or Path(at) in folder.resolve().parents
        if inside and len(at) > len(best):
            best, kind = at, of_type
    return kind


def cpu_seconds(pid: int) -> float:
    """User and system time of another process so far, all of its threads.

    Linux makes a clock for each process, whose number is its id's complement and the kind 2
    (clock_getcpuclockid(3)); /proc would tell hundredths of a second.
    """
    return time.clock_gettime((~pid << 3) | _CPU_TIME)
