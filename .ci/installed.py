"""Compares what an environment has installed with a committed list.

usage: installed.py ENVIRONMENT LIST. ENVIRONMENT has the product's wheel and what it depends on.
"""

import subprocess
import sys
from pathlib import Path

PRODUCT = "farthing"
MUST_NOT_BE_THERE = ("web3", "eth", "vyper", "eth_account", "hypercorn", "starlette")
"""Import names: py-evm is `eth`. A device with a few MB of memory has no room for them."""


def main() -> int:
    """0 when the lists agree and no forbidden module can be found, else 1."""
    environment, committed = Path(sys.argv[1]), Path(sys.argv[2])
    python = environment / "bin" / "python"
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    installed = {line.replace("_", "-").lower() for line in listed}
    installed = {line for line in installed if not line.startswith(f"{PRODUCT}==")}
    expected = set(committed.read_text().split())
    for line in sorted(installed - expected):
        print(f"installed, but not in {committed}: {line}")
    for line in sorted(expected - installed):
        print(f"in {committed}, but not installed: {line}")
    probe = (
        f"import importlib.util as u; print(*(n for n in {MUST_NOT_BE_THERE!r} if u.find_spec(n)))"
    )
    found = subprocess.run(
        [python, "-I", "-c", probe], capture_output=True, text=True, check=True
    ).stdout.strip()
    if found:
        print(f"a device must not have: {found}")
    if installed != expected or found:
        return 1
    print(f"{len(installed)} packages, exactly those of {committed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
