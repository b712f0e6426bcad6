"""The payer's process: a wallet's driver, ledger and connection, which pays as told.

usage: python -m farthing.devnet.bench.payer --folder FOLDER --port PORT [--pin HEX] MODE ...

It says `{"ready": ...}`, then one line for each round, then what it did and used. What it pays has
a receipt that is made, salted and hashed in the measured time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from ...channels.client.driver import Driver
from ...channels.client.ledger import Ledger
from ...channels.client.payments import usage_payment
from ...channels.client.schema import SCHEMA
from ...channels.client.session import run_session
from ...channels.client.tls import Trust, dial
from ...channels.client.wire import Wire
from ...channels.events import ChannelMessage
from ...channels.ids import ChannelId
from ...channels.messages import ChannelTerms, Message
from ...channels.state import Channel, Phase, SignedClose, Withdrawal, WithdrawalTerms
from ...channels.terms import Side
from ...channels.voucher import Payment
from .stage import AMOUNT_UCENT, DEPLOYMENT, HOST, HUB, PURPOSE, WALLET_DATABASE, member, moment
from .summary import histogram, percentile
from .watched import WatchedCommits, new_profile, profile_rows, profiled, say, used

BURST = 64
"""Payments that are signed before what has arrived is read."""
WAIT_SECONDS_MAX = 60
"""Without an acknowledgement for so long, something is wrong."""
TOLD_SECONDS = 0.05
"""How often the starter is told what is acknowledged, in a run that it is to kill."""
MILLI = 1000


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pin", default="")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--tell", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--payments", type=int, required=True, help="in each round")
    parser.add_argument("--warm-up", type=int, default=0, help="payments before the first round")
    parser.add_argument("--window", type=int, default=64, help="unacknowledged at most")
    parser.add_argument("--per-signature", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0, help="payments offered a second")
    return parser.parse_args(arguments)


class Unexpected(RuntimeError):
    """Something that a run without faults does not have: there is no figure then."""

    def __init__(self, what: object, channel: ChannelId) -> None:
        super().__init__(f"{what} came on channel 0x{channel.hex()}")


class Payer:
    """One wallet with one channel; handles messages and what its driver tells."""

    def __init__(self, ledger: Ledger) -> None:
        wallet = member(0)
        self._signer = wallet.signer
        known = wallet.channel(Side.B)
        self.channel: ChannelId = known.id
        self.driver = Driver(ledger, wallet.signer, DEPLOYMENT.domain(), moment, self)
        if self.channel not in self.driver.channels:
            self.driver.add(known)
        self.driver.on_change = self._changed
        self.news = trio.Event()
        self.acknowledged = self._held()
        self.times: list[tuple[float, int]] = []
        """Of each signature whose payments are acknowledged: ms, and how many they are."""
        self._waiting: deque[tuple[int, float, int]] = deque()

    # What is measured

    def _held(self) -> int:
        return self.driver.get(self.channel).sent.acknowledged_nonce

    @property
    def promised(self) -> int:
        """Payments so far."""
        return self.driver.get(self.channel).sent.promised.nonce

    @property
    def live(self) -> bool:
        """Whether the channel can be used."""
        return self.driver.get(self.channel).phase is Phase.LIVE

    def pay(self, count: int, began: float | None = None) -> None:
        """Make so many payments with receipts and promise them under one signature."""
        began = time.perf_counter() if began is None else began
        view = self.driver.get(self.channel).chain
        now = moment()
        payments: tuple[Payment, ...] = tuple(
            usage_payment(AMOUNT_UCENT, PURPOSE, now, view) for _ in range(count)
        )
        first = self.driver.pay(self.channel, payments, ())
        self._waiting.append((first + count - 1, began, count))

    def _changed(self) -> None:
        """What a waiting caller of a wallet sees, too: the payee has the payment, durably."""
        held = self._held()
        if held != self.acknowledged:
            self.acknowledged = held
            now = time.perf_counter()
            while self._waiting and self._waiting[0][0] <= held:
                _, began, count = self._waiting.popleft()
                self.times.append(((now - began) * MILLI, count))
        self.news.set()

    async def wait(self) -> None:
        """Wait for a change."""
        if not self.news.is_set():
            with trio.fail_after(WAIT_SECONDS_MAX):
                await self.news.wait()
        self.news = trio.Event()

    # Handler

    def on_message(self, wire: Wire, message: Message) -> None:
        """Speak for the channel once the hub has introduced it."""
        if not isinstance(message, ChannelTerms):
            raise Unexpected(message, self.channel)
        self.driver.link(self.channel, wire)

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Nothing comes before the channel is introduced."""
        raise Unexpected((message, wire), self.channel)

    # Application

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        """The payee pays nothing back."""
        raise Unexpected((first_nonce, payments), channel.id)

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        """Known already when it was received."""

    def on_stopped(self, channel: Channel, reason: str) -> None:
        """A benchmark whose channel stops has no figure."""
        raise Unexpected(reason, channel.id)

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        """Nobody closes."""
        raise Unexpected(close, channel.id)

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        """Nobody withdraws."""
        raise Unexpected(withdrawal, channel.id)

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        """Nobody withdraws."""
        raise Unexpected((terms, taken), channel.id)

    # Running

    async def connect(self, port: int, pin: str, nursery: trio.Nursery) -> None:
        """Dial, prove the key, and wait until the channel can be used."""
        trust = Trust(pins=(bytes.fromhex(pin),)) if pin else None
        dialled = await dial(HOST, port, trust)
        wire = Wire(dialled.stream, certificate=dialled.certificate)
        await wire.dial(DEPLOYMENT.domain(), self._signer, HUB.address)
        nursery.start_soon(run_session, wire, self.driver, self)
        while not self.live:
            await self.wait()


async def pipelined(payer: Payer, options: argparse.Namespace, count: int) -> None:
    """Pay as fast as the window lets, until all are acknowledged."""
    last = payer.promised + count
    while payer.acknowledged < last:
        signed = 0
        while payer.promised < last and signed < BURST:
            size = min(options.per_signature, last - payer.promised)
            if payer.promised - payer.acknowledged + size > options.window:
                break
            payer.pay(size)
            signed += 1
        if signed == BURST:
            await trio.lowlevel.checkpoint()
        else:
            await payer.wait()


async def offered(payer: Payer, options: argparse.Namespace, count: int) -> None:
    """Pay at a steady rate whatever comes back; each payment's time runs from when it was due."""
    began, clock_began = trio.current_time(), time.perf_counter()
    last = payer.promised + count
    for number in range(count):
        after = number / options.rate
        await trio.sleep_until(began + after)
        payer.pay(1, clock_began + after)
    while payer.acknowledged < last:
        await payer.wait()


async def _rounds(payer: Payer, options: argparse.Namespace) -> None:
    pay = offered if options.rate else pipelined
    if options.warm_up:
        await pipelined(payer, options, options.warm_up)
    for _ in range(options.rounds):
        await payer.driver.flush()
        payer.times.clear()
        say(json.dumps({"round": "begins"}))
        began, cpu_began = time.perf_counter(), time.process_time()
        await pay(payer, options, options.payments)
        seconds = time.perf_counter() - began
        say(
            json.dumps(
                {
                    "round": "ended",
                    "seconds": seconds,
                    "cpu_seconds": time.process_time() - cpu_began,
                    "p50_ms": percentile(payer.times, 50),
                    "p99_ms": percentile(payer.times, 99),
                    "max_ms": max(payer.times)[0],
                    "histogram": histogram(payer.times),
                }
            )
        )


async def _tell(payer: Payer) -> None:
    """Say over and over what is acknowledged: who is killed cannot say it afterwards."""
    while True:
        say(json.dumps({"acknowledged": payer.acknowledged}))
        await trio.sleep(TOLD_SECONDS)


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    ledger = Ledger(options.folder / WALLET_DATABASE, schema=SCHEMA)
    commits = WatchedCommits(ledger, profile=options.profile)
    profile = new_profile(wanted=options.profile)
    payer = Payer(ledger)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(payer.driver.run)
        await payer.connect(options.port, options.pin, nursery)
        say(json.dumps({"ready": True}))
        if options.tell:
            nursery.start_soon(_tell, payer)
        with profiled(profile):
            await _rounds(payer, options)
        await payer.driver.flush()
        nursery.cancel_scope.cancel()
    ledger.close()
    return {
        **commits.record(),
        **used(),
        "acknowledged": payer.acknowledged,
        "profile": profile_rows(profile),
        "commit_profile": profile_rows(commits.profile),
    }


def main(arguments: Sequence[str]) -> None:
    """Pay, then say what was done."""
    options = _options(arguments)
    say(json.dumps(trio.run(_run, options)))


if __name__ == "__main__":
    main(sys.argv[1:])
