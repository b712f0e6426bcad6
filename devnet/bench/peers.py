"""`farthing bench peers`: a voucher signed and verified with what a user would pick instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from ...channels.errors import LocalError
from ...channels.signing import sign_voucher, verify_voucher
from ...channels.terms import Side
from ...channels.voucher import LaneTotal, UnverifiedVoucher
from .pair import Stand, open_stand
from .stage import AMOUNT_UCENT, DEPLOYMENT, member
from .summary import median_and_spread

REQUIREMENTS: Final = ("x402[evm]==2.25.0", "eth-account==0.14.0", "coincurve==21.0.0")
"""Into an environment of their own: nothing of the product depends on them."""
ROUNDS = 7
COUNT = 400
COUNT_WITHOUT = 12
"""Without coincurve each takes some 10 ms."""
INSTALL_SECONDS_MAX = 150
ANSWER_SECONDS_MAX = 60
_MICRO = 1e6


class PeersMissing(LocalError):
    """The others' libraries could not be installed, or do not answer."""

    code = "peers-missing"
    remedy = "a package index has to be reachable; or give --environment with them installed"


def make_environment(folder: Path) -> Path:
    """Make an environment with the others' libraries; returns its Python."""
    python = folder / "bin" / "python"
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS])
    except (subprocess.SubprocessError, OSError) as error:
        raise PeersMissing(f"{' '.join(REQUIREMENTS)} could not be installed ({error})") from error
    return python


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(  # noqa: S603 - our own command, no shell
        command, check=True, timeout=INSTALL_SECONDS_MAX, stdout=sys.stderr, env=environment
    )


class Others:
    """A process of that environment, which does its work when asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.about = self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise PeersMissing("the others' process ended; see what it said above")
        record: dict[str, Any] = json.loads(line)
        return record

    def us(self, name: str, count: int) -> float:
        """µs of CPU of signing and verifying one voucher, over so many."""
        if self._process.stdin is None:
            raise PeersMissing("the others' process cannot be asked")
        self._process.stdin.write(f"{name} {count}\n")
        self._process.stdin.flush()
        return float(self._answer()["us"])


@contextmanager
def _others(python: Path, coincurve: str) -> Iterator[Others]:
    program = Path(__file__).with_name("peers_others.py")
    with subprocess.Popen(  # noqa: S603 - our own command, no shell
        [str(python), "-I", str(program), coincurve],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Others(process)
        finally:
            process.kill()


def ours_us(count: int) -> float:
    """µs of CPU of signing and verifying one voucher with the product's own code."""
    one = member(0)
    channel = one.channel(Side.B)
    separator = DEPLOYMENT.domain().separator()
    began = time.process_time()
    for number in range(count):
        total = LaneTotal(
            nonce=number + 1,
            transferred_ucent=AMOUNT_UCENT * (number + 1),
            history=channel.id,
        )
        made = sign_voucher(
            separator, one.signer, channel=channel.id, payer=channel.our_account, total=total
        )
        came = UnverifiedVoucher(
            channel=made.channel, payer=made.payer, total=made.total, signature=made.signature
        )
        verify_voucher(separator, came, one.signer.address)
    return (time.process_time() - began) / count * _MICRO


def bench_peers(
    *,
    count: int = COUNT,
    rounds: int = ROUNDS,
    environment: Path | None = None,
    within: Path | None = None,
) -> dict[str, Any]:
    """Measure all of them in turn, round by round; raises `PeersMissing`.

    `environment` is a Python that has the others installed already.
    """
    with open_stand(within, quick=count < COUNT) as stand, ExitStack() as stack:
        python = environment or make_environment(stand.sub("environment"))
        fast = stack.enter_context(_others(python, "with"))
        slow = stack.enter_context(_others(python, "without"))
        few = min(count, COUNT_WITHOUT)
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, us in (
                ("ours", ours_us(count)),
                ("eth_account", fast.us("eth_account", count)),
                ("x402", fast.us("x402", count)),
                ("eth_account_without_coincurve", slow.us("eth_account", few)),
                ("x402_without_coincurve", slow.us("x402", few)),
            ):
                taken.setdefault(name, []).append(us)
        stand.measure()
        return _record(stand, taken, (fast.about, slow.about))


def _record(
    stand: Stand, taken: dict[str, list[float]], abouts: tuple[dict[str, Any], dict[str, Any]]
) -> dict[str, Any]:
    rows = {f"{name}_us": median_and_spread(all_us) for name, all_us in taken.items()}
    limits = stand.record()["limits"]
    ours = rows["ours_us"]["median"]
    return {
        "benchmark": "peers",
        **{
            f"ours_vs_{name}": round(rows[f"{name}_us"]["median"] / ours, 2)
            for name in taken
            if name != "ours"
        },
        "ours_vs_limit": round((limits["sign_us"] + limits["verify_us"]) / ours, 3),
        "work": "sign and verify one cumulative voucher, µs of CPU on one core",
        **rows,
        "with_coincurve": abouts[0],
        "without_coincurve": abouts[1],
        **stand.record(),
    }
