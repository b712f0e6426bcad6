"""A wallet in a process of its own that withdraws and is killed at a named moment.

Run with a folder, a name of `MOMENTS` and µ¢. SIGKILL leaves on disk what was there at that
moment, and lets nothing be sent that was not on the socket.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio

from farthing.channels.client.chain import ChainReader
from farthing.channels.client.continuity import Continuity
from farthing.channels.client.driver import Driver
from farthing.channels.client.ports import SignerTransactions
from farthing.channels.client.wallet import open_wallet
from farthing.channels.events import Send, SubmitWithdrawal, TellWithdrawal
from farthing.channels.messages import WithdrawalOffer
from farthing.channels.senml import Record
from farthing.channels.state import Channel

PASSWORD = "correct horse"  # noqa: S105 - of keys that guard nothing; or a folder's own


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner: type[Any], name: str, when: Callable[..., bool]) -> None:
    """Die where a method would be called with such arguments."""
    method = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        if when(*arguments, **named):
            die()
        return method(self, *arguments, **named)

    setattr(owner, name, wrapped)


def is_offer(_: Channel, effect: Any, __: Any) -> bool:
    return isinstance(effect, Send) and isinstance(effect.message, WithdrawalOffer)


def is_submission(_: Channel, effect: Any, __: Any) -> bool:
    return isinstance(effect, SubmitWithdrawal)


def is_end(_: Channel, effect: Any, __: Any) -> bool:
    return isinstance(effect, TellWithdrawal)


def holds(effect_kind: type[Any]) -> Callable[[Any], bool]:
    return lambda batch: any(isinstance(e, effect_kind) for _, e, _ in batch.effects)


def after_submitting() -> None:
    withdraw = SignerTransactions.withdraw

    async def wrapped(self: Any, *arguments: Any, **named: Any) -> None:
        await withdraw(self, *arguments, **named)
        die()

    SignerTransactions.withdraw = wrapped  # type: ignore[method-assign]


MOMENTS: dict[str, Callable[[], None]] = {
    "before the offer is durable": lambda: at(Driver, "_make_durable", lambda b: b.offers > 0),
    "after the offer is durable, before it is counted beside": lambda: at(
        Continuity, "mark", lambda: PAID in STATE
    ),
    "before the offer leaves": lambda: at(Driver, "_carry_out", is_offer),
    "before the acceptance is durable": lambda: at(
        Driver, "_make_durable", holds(SubmitWithdrawal)
    ),
    "before it is submitted": lambda: at(Driver, "_carry_out", is_submission),
    "after its transaction is written down": lambda: at(ChainReader, "send_raw", lambda _: True),
    "before it is known to be mined": lambda: at(
        ChainReader, "wait_outcome", lambda *_, **__: True
    ),
    "after it is submitted": after_submitting,
    "before its end is durable": lambda: at(Driver, "_make_durable", holds(TellWithdrawal)),
    "before its end is told": lambda: at(Driver, "_carry_out", is_end),
}

PAID = "paid"
STATE: set[str] = set()
"""Holds `PAID` once the wallet has what it is going to withdraw."""


async def withdraw(folder: Path, amount_ucent: int) -> None:
    own = folder / "password"
    password = own.read_text().strip() if own.exists() else PASSWORD
    async with open_wallet(folder, password) as wallet:
        await wallet.join()
        record = Record(name="p/flow", time=Decimal(int(time.time())), value=Decimal(1), unit="l/s")
        await wallet.wait_outcome(await wallet.submit([record]))
        async for _ in wallet.receive(from_start=True):
            break
        STATE.add(PAID)
        await wallet.withdraw(amount_ucent)
        raise SystemExit("it was not killed")


if __name__ == "__main__":
    MOMENTS[sys.argv[2]]()
    trio.run(withdraw, Path(sys.argv[1]), int(sys.argv[3]))
