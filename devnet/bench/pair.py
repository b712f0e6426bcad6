"""A payer and a payee, each a process of its own, started, followed and stopped."""

from __future__ import annotations

import json
import queue
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...channels.client.tls import certificate_hash, read_certificate
from ...node.certificate import CERTIFICATE_NAME, make_certificate
from ..processes import Process, ProcessFailed
from .limits import measure_limits, middle
from .machine import cpu_seconds, machine
from .stage import HOST

LINE_SECONDS_MAX = 240
"""A round takes seconds, connecting 10,000 wallets a minute; silence for so long is a hang."""

PAYEE = "farthing.devnet.bench.payee"
PAYER = "farthing.devnet.bench.payer"
GENERATOR = "farthing.devnet.bench.generator"

_MICRO = 1e6


class Program:
    """A process of a benchmark and the JSON lines that it says."""

    def __init__(self, folder: Path, name: str, program: str, arguments: Sequence[str]) -> None:
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.process = Process(
            name,
            ["--folder", str(folder), *arguments],
            folder / f"{name}.log",
            program=program,
            on_line=lambda line: self._lines.put(json.loads(line)),
        )

    def start(self) -> dict[str, Any]:
        """Start and wait for the first line."""
        self.process.start()
        return self.process.wait_ready()

    def next_line(self) -> dict[str, Any]:
        """The next line; raises `ProcessFailed` where none comes."""
        try:
            return self._lines.get(timeout=LINE_SECONDS_MAX)
        except queue.Empty:
            text = f"{self.process.name} said nothing for {LINE_SECONDS_MAX} s: "
            raise ProcessFailed(text + self.process.log_end()) from None

    def lines_so_far(self) -> list[dict[str, Any]]:
        """All lines that have come and were not taken."""
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return lines

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        return cpu_seconds(self.process.pid)

    def end(self) -> dict[str, Any]:
        """Stop in order; its last line."""
        self.process.stop()
        return self.next_line()


@dataclass(slots=True, kw_only=True)
class Stand:
    """A folder to run in, with the limits that were measured there so far."""

    folder: Path
    about: dict[str, Any]
    limits: list[dict[str, float]] = field(default_factory=list)
    quick: bool = False

    def measure(self) -> None:
        """Measure the primitives now, while nothing of ours runs."""
        if not (self.quick and self.limits):
            self.limits.append(measure_limits(self.folder))

    def sub(self, name: str) -> Path:
        """A new folder in it."""
        path = self.folder / name
        path.mkdir(mode=0o700)
        return path

    def record(self) -> dict[str, Any]:
        """What belongs to every result: the limits' medians and the machine."""
        return {"limits": middle(self.limits), "machine": self.about}


@contextmanager
def open_stand(within: Path | None, *, quick: bool = False) -> Iterator[Stand]:
    """A temporary folder on the disk that is to be used, the machine's temporary one if None.

    With `quick` the limits are measured once, for a test.
    """
    with TemporaryDirectory(prefix="farthing-bench-", dir=within) as name:
        folder = Path(name)
        stand = Stand(folder=folder, about=machine(folder), quick=quick)
        stand.measure()
        yield stand


@contextmanager
def payee(folder: Path, arguments: Sequence[str], *, tls: bool) -> Iterator[tuple[Program, str]]:
    """A hub that listens, and the pin of its certificate if it has one."""
    pin = ""
    if tls:
        if not (folder / CERTIFICATE_NAME).exists():
            make_certificate(folder, HOST)
        pin = certificate_hash(read_certificate(folder / CERTIFICATE_NAME)).hex()
        arguments = [*arguments, "--tls"]
    program = Program(folder, "payee", PAYEE, arguments)
    try:
        program.start()
        yield program, pin
    finally:
        program.process.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measured round of a pair."""

    payments: int
    seconds: float
    payer_us: float
    payee_us: float
    times: dict[str, Any]

    @property
    def per_second(self) -> float:
        """Payments a second by the clock."""
        return self.payments / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What a pair did: its rounds, and what each side said at the end."""

    rounds: tuple[Round, ...]
    payments: int
    payer: dict[str, Any]
    payee: dict[str, Any]

    def middle_of(self, value: Callable[[Round], float]) -> float:
        """The median over the rounds."""
        return statistics.median(value(one) for one in self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a payer is to do; see `payer`."""

    payments: int
    rounds: int = 1
    warm_up: int = 0
    window: int = 64
    per_signature: int = 1
    rate: float = 0.0
    each: bool = False
    tls: bool = False
    profile: bool = False

    @property
    def whole(self) -> int:
        """All payments, the warming up too."""
        return self.warm_up + self.rounds * self.payments

    def arguments(self, port: int, pin: str) -> list[str]:
        """The payer's command line."""
        return [
            *("--port", str(port)),
            *("--pin", pin),
            *("--payments", str(self.payments)),
            *("--rounds", str(self.rounds)),
            *("--warm-up", str(self.warm_up)),
            *("--window", str(self.window)),
            *("--per-signature", str(self.per_signature)),
            *("--rate", str(self.rate)),
            *(["--profile"] if self.profile else []),
        ]

    def payee_arguments(self) -> list[str]:
        """The payee's command line."""
        return [*(["--each"] if self.each else []), *(["--profile"] if self.profile else [])]


def run_pair(folder: Path, orders: Orders) -> Paid:
    """Run a pair to its end; raises `ProcessFailed`. What it stored stays in the folder."""
    with payee(folder, orders.payee_arguments(), tls=orders.tls) as (hub, pin):
        arguments = orders.arguments(int(hub.process.ready["port"]), pin)
        wallet = Program(folder, "payer", PAYER, arguments)
        try:
            wallet.start()
            rounds = tuple(_round(hub, wallet, orders.payments) for _ in range(orders.rounds))
            last = wallet.next_line()
        finally:
            wallet.process.stop()
        return Paid(rounds=rounds, payments=orders.whole, payer=last, payee=hub.end())


def _round(hub: Program, wallet: Program, payments: int) -> Round:
    wallet.next_line()
    began = hub.cpu_seconds()
    ended = wallet.next_line()
    payee_seconds = hub.cpu_seconds() - began
    return Round(
        payments=payments,
        seconds=ended["seconds"],
        payer_us=ended["cpu_seconds"] / payments * _MICRO,
        payee_us=payee_seconds / payments * _MICRO,
        times={name: ended[name] for name in ("p50_ms", "p99_ms", "max_ms", "histogram")},
    )


def kill_pair(folder: Path, orders: Orders, after: int) -> int:
    """Kill both sides once so many payments are acknowledged; how many were, as last told."""
    with payee(folder, orders.payee_arguments(), tls=orders.tls) as (hub, pin):
        arguments = [*orders.arguments(int(hub.process.ready["port"]), pin), "--tell"]
        wallet = Program(folder, "payer", PAYER, arguments)
        try:
            wallet.start()
            told = 0
            while told < after:
                told = int(wallet.next_line().get("acknowledged", told))
            hub.process.kill()
        finally:
            wallet.process.kill()
        later = (int(line.get("acknowledged", 0)) for line in wallet.lines_so_far())
        return max((told, *later))
