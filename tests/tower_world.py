"""A watchtower's world for tests: its folder, a hub that only signs and closes, and depositors."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import trio

from farthing.channels.client import keystore
from farthing.channels.client.wire import ConnectionLost, Wire
from farthing.channels.errors import FarthingError
from farthing.channels.ids import Address, ChannelId
from farthing.channels.messages import Error, Message, VoucherDeposit, VoucherKept
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.state import ChainView
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN, Side, Terms
from farthing.channels.voucher import LaneTotal, Voucher
from farthing.node.administration import Role
from farthing.node.chain import OpenRow, Web3Chain
from farthing.node.sender import connect
from farthing.node.watchtower.config import load
from farthing.node.watchtower.tower import Tower, open_tower

from .hub_world import DEPOSIT_UCENT, PASSWORD, WAIT_SECONDS, City, new_signer, plain_errors


def tower_folder(city: City, folder: Path, **settings: Any) -> Path:
    """Make a registered watchtower's folder; returns its watchtower.toml."""
    folder.mkdir(parents=True)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD + "\n")
    city.register(keystore.create(folder / "keystore.json", PASSWORD), role=Role.RELAYER)
    values = {
        "listen_port": 0,
        "rpc_url": city.rpc_url,
        "deployment_file": str(city.deployment_file),
        "data_dir": "data",
        "keystore": "keystore.json",
        "password_file": "password",
        **settings,
    }
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    config = folder / "watchtower.toml"
    config.write_text("".join(lines))
    return config


@asynccontextmanager
async def running_tower(config: Path, **environ: str) -> AsyncIterator[Tower]:
    """A watchtower in this process; whatever ends it is raised as itself."""
    with plain_errors():
        async with open_tower(load(config, environ)) as tower:
            yield tower


@dataclass
class Street:
    """A hub's keys without a hub: opens channels, signs vouchers, closes and says nothing."""

    city: City
    account: Signer
    signer: Signer
    chain: Web3Chain

    def open(self, *owners: Signer) -> list[Terms]:
        """A channel with each of these signers, who own their own money."""
        self.city.register(*(owner.address for owner in owners))
        mined = self.chain.open_many(
            [OpenRow(account_b=o.address, signer_b=o.address) for o in owners],
            account=self.account.address,
            signer=self.signer.address,
            challenge_seconds=CHALLENGE_SECONDS_MIN,
            challenge_blocks=CHALLENGE_BLOCKS_MIN,
            deposit_ucent=DEPOSIT_UCENT,
        )
        assert len(mined.opened) == len(owners)
        return [one.terms for one in mined.opened]

    def id_of(self, terms: Terms) -> ChannelId:
        return self.city.deployment.channel_id(terms)

    def voucher(self, terms: Terms, transferred_ucent: int, *, nonce: int = 1) -> Voucher:
        """What the hub signed for that much in all."""
        return voucher_of(self.city, terms, Side.A, self.signer, transferred_ucent, nonce=nonce)

    def start_close(self, terms: Terms) -> None:
        """Close with nothing settled, as a hub does that hopes for a sleeping wallet."""
        self.chain.start_close(terms)

    def view(self, terms: Terms) -> ChainView:
        return self.chain.view(self.id_of(terms), self.chain.head())

    def tokens(self, account: Address) -> int:
        return self.city.treasury.balance_ucent(account)

    def pass_window(self) -> None:
        """Let the shortest window pass, in seconds and blocks."""
        self.city.warp(CHALLENGE_SECONDS_MIN + 1)
        self.city.mine(CHALLENGE_BLOCKS_MIN + 1)


def make_street(city: City) -> Street:
    account, signer = new_signer(), new_signer()
    city.register(account.address, signer.address, role=Role.HUB)
    city.fund(account.address)
    chain = Web3Chain(connect(city.rpc_url), city.deployment, signer=account)
    return Street(city=city, account=account, signer=signer, chain=chain)


def voucher_of(
    city: City, terms: Terms, payer: Side, signer: Signer, transferred_ucent: int, *, nonce: int = 1
) -> Voucher:
    """A voucher under any signature; its history is made up, as nobody replays it here."""
    return sign_voucher(
        city.deployment.domain().separator(),
        signer,
        channel=city.deployment.channel_id(terms),
        payer=terms.account(payer),
        total=LaneTotal(
            nonce=nonce, transferred_ucent=transferred_ucent, history=secrets.token_bytes(32)
        ),
    )


def deposit_of(terms: Terms, voucher: Voucher, **changes: Any) -> VoucherDeposit:
    """The message; a test may change any field of it."""
    values: dict[str, Any] = {
        "channel": voucher.channel,
        **{f.name: getattr(terms, f.name) for f in fields(Terms)},
        "nonce": voucher.total.nonce,
        "transferred_ucent": voucher.total.transferred_ucent,
        "history": voucher.total.history,
        "conditions": voucher.conditions,
        "signature": voucher.signature,
    }
    return VoucherDeposit(**(values | changes))


@dataclass
class Depositor:
    """One authenticated connection to a watchtower, and what came back on it."""

    wire: Wire
    heard: list[Message] = field(default_factory=list)
    ended: FarthingError | None = None

    async def answer(self, message: Message) -> Message:
        """Send a message and wait for the next one that comes."""
        await self.wire.say_now(message)
        return await self.hear()

    async def hear(self) -> Message:
        with trio.fail_after(WAIT_SECONDS):
            while not self.heard:
                self.heard = await self.wire.receive()
        return self.heard.pop(0)

    async def kept(self, message: VoucherDeposit) -> None:
        """Deposit, and be told that exactly this is kept."""
        assert await self.answer(message) == VoucherKept(
            channel=message.channel,
            nonce=message.nonce,
            transferred_ucent=message.transferred_ucent,
        )

    async def refused(self, message: Message) -> str:
        """Send what is not taken; the code of the error."""
        answer = await self.answer(message)
        assert isinstance(answer, Error)
        return answer.code

    async def is_ended(self) -> bool:
        """Whether the tower has ended the connection, and said no more."""
        try:
            await self.hear()
        except ConnectionLost:
            return True
        return False


@asynccontextmanager
async def depositor(
    city: City, tower: Tower | tuple[int, Address], signer: Signer
) -> AsyncIterator[Depositor]:
    """Dial a watchtower under a key."""
    port, peer = (tower.port, tower.signer.address) if isinstance(tower, Tower) else tower
    wire = Wire(await trio.open_tcp_stream("127.0.0.1", port))
    try:
        await wire.dial(city.deployment.domain(), signer, peer)
        yield Depositor(wire)
    finally:
        await wire.finish()
