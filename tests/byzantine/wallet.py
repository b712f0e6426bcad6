"""A real wallet's process that has joined mallory's hub, and mallory's listener."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from farthing.channels.client.wire import Wire
from farthing.channels.ids import Address, address_from_hex, address_to_hex, to_hex
from farthing.channels.messages import Reestablish
from farthing.channels.signing import Signer
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN, Side
from farthing.devnet.processes import Process
from farthing.node.administration import Role
from farthing.node.chain import OpenRow, Web3Chain
from farthing.node.sender import connect

from ..hub_world import DEPOSIT_UCENT, City, farthing, new_signer
from .mallory import PATIENCE_SECONDS, Mallory, announced

QUICK_WALLET = Path(__file__).with_name("quick_wallet.py")


class QuickProcess(Process):
    """The wallet's command in the launcher that shortens its pauses."""

    def command_line(self) -> list[str]:
        return [sys.executable, str(QUICK_WALLET), *self.arguments]


@dataclass
class HonestWallet:
    """The process, and the hub that it believes in."""

    city: City
    process: Process
    account: Address
    hub_signer: Signer
    hub_account: Signer
    port: int
    unused: list[Mallory] = field(default_factory=list)

    def row(self, mallory: Mallory) -> dict[str, Any]:
        """What the wallet believes of that channel; an empty record before it is taken up."""
        rows = self.process.ask("channels")
        found = [one for one in rows if one["channel"] == to_hex(mallory.channel)]
        return dict(found[0]) if found else {}

    def money(self, mallory: Mallory) -> dict[str, Any]:
        """The same without what a connection alone changes."""
        row = self.row(mallory)
        return {key: row[key] for key in row if key.endswith(("_ucent", "_payments"))}

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the process does by itself."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, self.process.ask("status")
            pause.wait(0.05)

    def until_phase(self, mallory: Mallory, phase: str) -> None:
        self.until(lambda: bool(self.row(mallory).get("phase") == phase))

    @property
    def chain(self) -> Web3Chain:
        """The hub's own way to the chain."""
        return Web3Chain(connect(self.city.rpc_url), self.city.deployment, signer=self.hub_account)

    def take(self) -> Mallory:
        """A channel that no test has used."""
        return self.unused.pop()

    @asynccontextmanager
    async def called(self, *channels: Mallory) -> AsyncIterator[Mallory]:
        """The wallet's next call, proved; these channels are announced, the first one answers."""
        first = channels[0]
        calls: list[trio.SocketStream] = []
        got = trio.Event()
        over = trio.Event()

        async def answer(stream: trio.SocketStream) -> None:
            if not calls:
                calls.append(stream)
                got.set()
                await over.wait()
            await trio.aclose_forcefully(stream)

        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, listeners)
            with trio.fail_after(PATIENCE_SECONDS):
                await got.wait()
            wire = Wire(calls[0])
            await wire.accept(first.domain, first.signer)
            first.begin(wire)
            await first.say(*(announced(channel.terms) for channel in channels))
            try:
                yield first
            finally:
                over.set()
                await wire.finish()
                nursery.cancel_scope.cancel()

    async def greet(self, mallory: Mallory) -> None:
        """Show what it holds, once the wallet has taken the channel up and shown its own."""
        await mallory.until(lambda: any(isinstance(m, Reestablish) for m in mallory.heard))
        await mallory.greet()


@contextmanager
def honest_wallet(city: City, folder: Path, *, channels: int) -> Iterator[HonestWallet]:
    """A wallet that mallory's hub has opened so many channels with; none was announced yet."""
    hub_signer, hub_account = new_signer(), new_signer()
    city.register(hub_signer.address, hub_account.address, role=Role.HUB)
    city.fund(hub_account.address)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folder / "wallet"
    made = farthing(
        *("wallet", "init", "--folder", home, "--json"),
        *("--hub", f"127.0.0.1:{port}", "--hub-signer", address_to_hex(hub_signer.address)),
        *("--rpc", city.rpc_url, "--deployment", city.deployment_file),
    )
    assert made.code == 0, made.err
    account = address_from_hex(json.loads(made.out)["account"])
    city.register(account)
    process = QuickProcess(
        "wallet", ["wallet", "run", "--folder", str(home), "--json"], folder / "wallet.log"
    )
    process.start()
    try:
        process.wait_ready()
        wallet = HonestWallet(
            city=city,
            process=process,
            account=account,
            hub_signer=hub_signer,
            hub_account=hub_account,
            port=port,
        )
        opened = wallet.chain.open_many(
            [OpenRow(account_b=account, signer_b=account)] * channels,
            account=hub_account.address,
            signer=hub_signer.address,
            challenge_seconds=CHALLENGE_SECONDS_MIN,
            challenge_blocks=CHALLENGE_BLOCKS_MIN,
            deposit_ucent=DEPOSIT_UCENT,
        ).opened
        wallet.unused = [
            Mallory(
                domain=city.deployment.domain(),
                signer=hub_signer,
                terms=one.terms,
                channel=one.channel,
                side=Side.A,
            )
            for one in opened
        ]
        assert len(wallet.unused) == channels
        yield wallet
    finally:
        process.stop()
