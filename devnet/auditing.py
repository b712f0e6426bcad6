"""The audit at the end of a run: the auditor's own command, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .city import City
from .processes import FARTHING, ProcessFailed


def audit(city: City, receipts: Path, *, seconds_max: int) -> dict[str, Any]:
    """Give the auditor the RPC endpoint and the receipts alone; its report.

    Raises `ProcessFailed` if it printed none.
    """
    command = [
        *(sys.executable, "-m", FARTHING, "audit", "check", "--json", "--rpc", city.rpc_url),
        *("--deployment", str(city.folder / "deployment.json"), "--receipts", str(receipts)),
    ]
    done = subprocess.run(  # noqa: S603 - our own command, no shell
        command, capture_output=True, text=True, timeout=seconds_max, check=False
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ProcessFailed(f"the audit ended with {done.returncode}: {done.stderr}") from None
    return report
