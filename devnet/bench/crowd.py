"""Starting the generator's process and giving it orders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .generator import ORDERS
from .pair import GENERATOR, Program


class Ordered:
    """The generator, one order after the other."""

    def __init__(self, program: Program, orders: IO[str]) -> None:
        self.program = program
        self._orders = orders

    def tell(self, name: str, value: float = 0) -> None:
        """Give an order without waiting for it."""
        self._orders.write(f"{name} {value}\n")
        self._orders.flush()

    def done(self) -> dict[str, Any]:
        """Wait until the order that was given is done; what it says."""
        return self.program.next_line()

    def do(self, name: str, value: float = 0) -> dict[str, Any]:
        """Give an order and wait until it is done."""
        self.tell(name, value)
        return self.done()


@contextmanager
def generator(folder: Path, wallets: int, pin: str) -> Iterator[Ordered]:
    """So many wallets in a process; raises `ProcessFailed`."""
    arguments = ["--wallets", str(wallets), "--pin", pin]
    program = Program(folder, "generator", GENERATOR, arguments)
    try:
        program.start()
        with (folder / ORDERS).open("w", encoding="utf-8") as orders:
            yield Ordered(program, orders)
    finally:
        program.process.stop()
        (folder / ORDERS).unlink(missing_ok=True)
