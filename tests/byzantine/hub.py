"""A real hub's process, and as many of mallory's channels with it as the tests want."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from farthing.channels.client import keystore
from farthing.channels.ids import Address, to_hex
from farthing.channels.messages import ChannelProposal, ChannelTerms
from farthing.channels.signing import Signer
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN, Side, Terms
from farthing.devnet.processes import Process
from farthing.node.chain import SettleRow, Web3Chain
from farthing.node.sender import connect

from ..hub_world import PASSWORD, City, hub_folder, new_signer, submit_message
from .mallory import PATIENCE_SECONDS, Mallory


@dataclass
class HonestHub:
    """The process, and what an operator sees of it."""

    city: City
    process: Process
    folder: Path
    unused: list[Mallory] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.process.ready["port"])

    @property
    def key(self) -> Signer:
        """The hub's own signer: what it may have signed elsewhere, a test can sign."""
        return keystore.unlock(self.folder / "signer.json", PASSWORD)

    @property
    def signer(self) -> Address:
        return keystore.address(self.folder / "signer.json")

    def row(self, mallory: Mallory) -> dict[str, Any]:
        """What the hub believes of that channel."""
        rows = self.process.ask("channels")
        (row,) = (one for one in rows if one["channel"] == to_hex(mallory.channel))
        return dict(row)

    def belief(self, mallory: Mallory) -> dict[str, Any]:
        """What no message may change: not when it was heard, nor what the hub settles meanwhile."""
        row = self.row(mallory)
        meanwhile = ("last_heard", "silent_seconds", "settled_ucent")
        return {key: row[key] for key in row if key not in meanwhile}

    def money(self, mallory: Mallory) -> dict[str, Any]:
        """The same without what a connection alone changes."""
        row = self.belief(mallory)
        return {key: row[key] for key in row if key.endswith("_ucent")}

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the process does by itself."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, self.process.ask("status")
            pause.wait(0.05)

    def until_phase(self, mallory: Mallory, phase: str) -> None:
        self.until(lambda: bool(self.row(mallory)["phase"] == phase))

    def caught_up(self) -> None:
        """Wait until the hub has read the newest block."""
        head = self.city.chain.head().number
        self.until(lambda: bool(self.process.ask("status")["head_block"] >= head))

    def take(self) -> Mallory:
        """A channel that no test has used."""
        return self.unused.pop()

    def chain(self, mallory: Mallory) -> Web3Chain:
        """Mallory's own way to the chain, with the account's key."""
        web3 = connect(self.city.rpc_url)
        return Web3Chain(web3, self.city.deployment, signer=mallory.signer)


@contextmanager
def honest_hub(city: City, folder: Path, *, channels: int) -> Iterator[HonestHub]:
    """A hub with that many channels of mallory's, each under keys of its own."""
    config = hub_folder(
        city, folder / "hub", settle_age_seconds=86_400, settle_unsettled_ucent=10**12
    )
    process = Process("hub", ["hub", "serve", "--config", str(config)], folder / "hub.log")
    process.start()
    try:
        process.wait_ready()
        hub = HonestHub(city=city, process=process, folder=config.parent)
        signers = [new_signer() for _ in range(channels)]
        city.register(*(signer.address for signer in signers))
        hub.caught_up()
        trio.run(_join, hub, signers)
        yield hub
    finally:
        process.stop()


async def _join(hub: HonestHub, signers: list[Signer]) -> None:
    async with trio.open_nursery() as nursery:
        for signer in signers:
            nursery.start_soon(_join_one, hub, signer)


async def _join_one(hub: HonestHub, signer: Signer) -> None:
    deployment = hub.city.deployment
    mallory = Mallory(
        domain=deployment.domain(),
        signer=signer,
        terms=None,  # type: ignore[arg-type]  # known once the hub has announced them
        channel=None,  # type: ignore[arg-type]
        side=Side.B,
    )
    async with mallory.dialled(hub.port, hub.signer):
        await mallory.say(
            ChannelProposal(
                account=signer.address,
                challenge_seconds=CHALLENGE_SECONDS_MIN,
                challenge_blocks=CHALLENGE_BLOCKS_MIN,
            )
        )
        await mallory.until(lambda: any(isinstance(m, ChannelTerms) for m in mallory.heard))
        message = next(m for m in mallory.heard if isinstance(m, ChannelTerms))
        names = Terms.__dataclass_fields__
        mallory.terms = Terms(**{name: getattr(message, name) for name in names})
        mallory.channel = deployment.channel_id(mallory.terms)
    hub.unused.append(mallory)


async def be_rewarded(mallory: Mallory) -> None:
    """Submit one reading, and wait for the payment."""
    before = mallory.their_total.nonce
    submission = mallory.signer.sign_digest(bytes(24) + (before + 1).to_bytes(8, "big"))[:16]
    await mallory.say(submit_message(submission, "1.5"))
    await mallory.until(lambda: mallory.their_total.nonce == before + 1)


def rows_of(mallory: Mallory, of_theirs: int, of_mine: int) -> list[SettleRow]:
    """Both lanes at older states: after so many payments each."""
    rows = []
    for side, lane, count in (
        (mallory.side.other, mallory.theirs, of_theirs),
        (mallory.side, mallory.mine, of_mine),
    ):
        if count:
            shown = lane[count - 1]
            rows.append(
                SettleRow(
                    terms=mallory.terms,
                    lane=side,
                    nonce=shown.total.nonce,
                    transferred_ucent=shown.total.transferred_ucent,
                    history=shown.total.history,
                    conditions=shown.conditions,
                    signature=shown.signature,
                )
            )
    return rows
