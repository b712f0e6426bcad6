"""Many wallets in one process: each with a connection, a key and a lane, signing live.

usage: python -m farthing.devnet.bench.generator --folder FOLDER --wallets N [--pin HEX]

It reads orders from a file and says a JSON line for each (see `Orders`). A wallet here stores
nothing: what is measured is the hub. Each wallet's receipt is made once, its history and its
signature for each payment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from ...channels.client.connection import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN
from ...channels.client.payments import usage_payment
from ...channels.client.tls import Trust, certificate_hash
from ...channels.client.wire import ConnectionLost, Wire
from ...channels.errors import PeerError
from ...channels.ids import ZERO_WORD
from ...channels.messages import Ack, Message, Ping, Pong, Reestablish, SignedTotal, Update
from ...channels.signing import sign_voucher
from ...channels.terms import Side
from ...channels.voucher import LaneTotal, Voucher
from .stage import AMOUNT_UCENT, DEPLOYMENT, HOST, HUB, PURPOSE, member, moment
from .summary import histogram, percentile
from .watched import say, used

DIALLING_MAX: Final = 100
"""Wallets that connect at one time where there is no storm."""
TRY_SECONDS_MAX: Final = 20
MILLI: Final = 1000
ORDERS: Final = "orders"
"""A named pipe in the folder, from which lines are read."""


class Crowd:
    """All wallets of the process; each that is connected is read from in `nursery`."""

    def __init__(self, count: int, pin: str, nursery: trio.Nursery) -> None:
        self.wallets = [LightWallet(number, pin) for number in range(count)]
        self.nursery = nursery
        self.port = 0
        self.tries = 0
        self.times: list[tuple[float, int]] = []

    @property
    def connected(self) -> int:
        """Wallets that have a connection now."""
        return sum(1 for wallet in self.wallets if wallet.wire is not None)


class LightWallet:
    """A wallet without a store: it dials, shows its vouchers, and pays on its one lane."""

    def __init__(self, number: int, pin: str) -> None:
        one = member(number)
        self.number = number
        self._signer = one.signer
        self._account = one.terms.account_b
        self._channel = DEPLOYMENT.channel_id(one.terms)
        self._trust = Trust(pins=(bytes.fromhex(pin),)) if pin else None
        self._payment = usage_payment(AMOUNT_UCENT, PURPOSE, moment(), one.channel(Side.B).chain)
        self.voucher: Voucher | None = None
        self.wire: Wire | None = None
        self._acknowledged: LaneTotal | None = None
        self._news = trio.Event()
        self._speaking = trio.Lock()

    @property
    def total(self) -> LaneTotal:
        """What it has signed."""
        return LaneTotal() if self.voucher is None else self.voucher.total

    async def connect(self, port: int) -> None:
        """Dial and take the channel up; raises `OSError`, `PeerError`, `trio.TooSlowError`."""
        with trio.fail_after(TRY_SECONDS_MAX):
            stream, certificate = await self._dialled(port)
            wire = Wire(stream, certificate=certificate)
            try:
                await wire.dial(DEPLOYMENT.domain(), self._signer, HUB.address)
                await self._greet(wire)
            except BaseException:
                await wire.finish()
                raise
        self.wire = wire

    async def _dialled(self, port: int) -> tuple[trio.abc.Stream, bytes]:
        """Connect from a loopback address of its own, as wallets come from many addresses."""
        own = trio.socket.socket()
        try:
            high, low = divmod(self.number % 40_000, 200)
            await own.bind((f"127.1.{high + 1}.{low + 1}", 0))
            await own.connect((HOST, port))
        except BaseException:
            own.close()
            raise
        plain = trio.SocketStream(own)
        if self._trust is None:
            return plain, ZERO_WORD
        secured = trio.SSLStream(
            plain, self._trust.context(), server_hostname=HOST, https_compatible=True
        )
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(plain)
            raise
        return secured, certificate_hash(secured.getpeercert(binary_form=True))

    async def _greet(self, wire: Wire) -> None:
        """Show our newest voucher once the hub has shown what it holds of it."""
        while True:
            for message in await wire.receive():
                if isinstance(message, Reestablish):
                    shown = message.received
                    if (LaneTotal() if shown is None else shown.total) != self.total:
                        raise RuntimeError(f"the hub holds {shown}, not {self.total}")
                    await wire.say_now(self._shown())
                    return

    def _shown(self) -> Reestablish:
        ours = self.voucher
        if ours is None:
            return Reestablish(channel=self._channel, sent=None, received=None)
        sent = SignedTotal(total=ours.total, conditions=ours.conditions, signature=ours.signature)
        return Reestablish(channel=self._channel, sent=sent, received=None)

    async def pay(self) -> None:
        """Sign one payment and wait until it is acknowledged; raises `PeerError`."""
        wire = self.wire
        if wire is None:
            raise RuntimeError("a wallet that is not connected was to pay")
        total = self.total.after(self._payment)
        voucher = sign_voucher(
            DEPLOYMENT.domain().separator(),
            self._signer,
            channel=self._channel,
            payer=self._account,
            total=total,
        )
        self.voucher = voucher
        update = Update(
            channel=self._channel,
            first_nonce=total.nonce,
            signature=voucher.signature,
            payments=(self._payment,),
        )
        await self._say(wire, update)
        while self._acknowledged != total:
            if self.wire is not wire:
                raise ConnectionLost("the hub ended the connection while a payment was under way")
            await self._news.wait()
            self._news = trio.Event()

    async def read_forever(self) -> None:
        """Answer heartbeats and take acknowledgements until the connection ends."""
        wire = self.wire
        if wire is None:
            return
        try:
            while True:
                for message in await wire.receive():
                    await self._take(wire, message)
        except PeerError:  # its end is seen by whoever counts the connections, or waits
            if self.wire is wire:
                self.wire = None
            self._news.set()
            await wire.finish()

    async def _say(self, wire: Wire, message: Message) -> None:
        """Send, one message at a time: a heartbeat's answer may come between a payment's bytes."""
        async with self._speaking:
            await wire.say_now(message)

    async def _take(self, wire: Wire, message: Message) -> None:
        if isinstance(message, Ping):
            await self._say(wire, Pong(token=message.token))
        elif isinstance(message, Ack):
            total = self.total
            if (message.nonce, message.history) != (total.nonce, total.history):
                raise RuntimeError(f"{message} acknowledges something else than {total}")
            self._acknowledged = total
            self._news.set()

    async def hang_up(self) -> None:
        """Give the connection back."""
        wire, self.wire = self.wire, None
        if wire is not None:
            await wire.finish()


async def connect_all(crowd: Crowd) -> dict[str, Any]:
    """Connect one after the other, some at a time, dialling again as a wallet does."""
    places = trio.CapacityLimiter(DIALLING_MAX)

    async def one(wallet: LightWallet) -> None:
        async with places:
            await _dial_until_connected(crowd, wallet)

    return await _all(crowd, one)


async def storm(crowd: Crowd) -> dict[str, Any]:
    """All dial at once, each again after the wallet's own growing and random pauses."""

    async def one(wallet: LightWallet) -> None:
        await _dial_until_connected(crowd, wallet)

    return await _all(crowd, one)


async def _all(crowd: Crowd, one: Any) -> dict[str, Any]:
    began, crowd.tries = time.perf_counter(), 0
    async with trio.open_nursery() as nursery:
        for wallet in crowd.wallets:
            nursery.start_soon(one, wallet)
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), "connected": crowd.connected, "tries": crowd.tries}


async def _dial_until_connected(crowd: Crowd, wallet: LightWallet) -> None:
    delay = BACKOFF_SECONDS_MIN
    while wallet.wire is None:
        crowd.tries += 1
        try:
            await wallet.connect(crowd.port)
        except (OSError, PeerError, trio.TooSlowError, trio.BrokenResourceError):
            await trio.sleep(delay * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            delay = min(2 * delay, BACKOFF_SECONDS_MAX)
    crowd.nursery.start_soon(wallet.read_forever)


async def pay_all(crowd: Crowd, payments: int) -> dict[str, Any]:
    """Each wallet pays so often, the next when the last is acknowledged."""
    crowd.times.clear()

    async def one(wallet: LightWallet) -> None:
        for _ in range(payments):
            began = time.perf_counter()
            await wallet.pay()
            crowd.times.append(((time.perf_counter() - began) * MILLI, 1))

    began, cpu_began = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for wallet in crowd.wallets:
            nursery.start_soon(one, wallet)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "payments": payments * len(crowd.wallets),
        "p50_ms": round(percentile(crowd.times, 50), 2),
        "p99_ms": round(percentile(crowd.times, 99), 2),
        "histogram": histogram(crowd.times),
    }


async def stay(crowd: Crowd, seconds: float) -> dict[str, Any]:
    """Stay connected, answering heartbeats; how many still are."""
    await trio.sleep(seconds)
    return {"connected": crowd.connected}


async def hang_up_all(crowd: Crowd) -> dict[str, Any]:
    """Close every connection from this side."""
    for wallet in crowd.wallets:
        await wallet.hang_up()
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A line of the pipe: what to do, and its number if it has one."""

    name: str
    value: float


async def obey(crowd: Crowd, order: Order) -> dict[str, Any]:
    """Do one order; raises `ValueError` where there is no such one."""
    match order.name:
        case "port":
            crowd.port = int(order.value)
            return {}
        case "connect":
            return await connect_all(crowd)
        case "storm":
            return await storm(crowd)
        case "pay":
            return await pay_all(crowd, int(order.value))
        case "stay":
            return await stay(crowd, order.value)
        case "hang-up":
            return await hang_up_all(crowd)
        case _:
            raise ValueError(f"there is no order {order.name!r}")


async def _run(options: argparse.Namespace, orders: Path) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(options.wallets, options.pin, nursery)
        say(json.dumps({"ready": True}))
        async with await trio.open_file(orders) as lines:
            async for line in lines:
                name, _, value = line.strip().partition(" ")
                done = await obey(crowd, Order(name=name, value=float(value or 0)))
                say(json.dumps({"order": name, **done}))
        nursery.cancel_scope.cancel()


def main(arguments: Sequence[str]) -> None:
    """Obey until the pipe ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--wallets", type=int, required=True)
    parser.add_argument("--pin", default="")
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    orders = options.folder / ORDERS
    os.mkfifo(orders, 0o600)
    trio.run(_run, options, orders)
    say(json.dumps({"order": "end", **used()}))


if __name__ == "__main__":
    main(sys.argv[1:])
