"""A hub's parts without a chain or sockets: a chain that tests script, and wires that remember."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from farthing.channels.client.driver import Driver
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.wire import Wire
from farthing.channels.errors import PeerError
from farthing.channels.events import Event, ObservedChannel, Received
from farthing.channels.ids import Address, ChannelId
from farthing.channels.messages import Message, Reestablish
from farthing.channels.state import ChainStatus, ChainView, Channel, Moment, Settlement
from farthing.channels.terms import Side
from farthing.contracts.members import MemberStatus
from farthing.node.chain import Head, Logs, MemberRow, Mined, SettleRow, Web3Chain
from farthing.node.desk import ChainDesk
from farthing.node.engine import Engine, Offer
from farthing.node.follower import Members
from farthing.node.programme import Programme, parse_programme
from farthing.node.requests import Requests
from farthing.node.rewards import Rewards
from farthing.node.store import HubStore

from .hub_world import PROGRAMME
from .people import ALICE, DOMAIN, NOW, TERMS, moment, terms

ACCOUNT = TERMS.account_a
OFFER = Offer(challenge_seconds=3600, challenge_blocks=100, channels_max=10)
DEPOSIT_UCENT = 10_000_000


def programme(text: str = PROGRAMME, **changes: Any) -> Programme:
    """The programme of the tests."""
    return replace(parse_programme(text.encode(), file="test.toml"), **changes)


def member(account: Address, status: MemberStatus = MemberStatus.ACTIVE) -> MemberRow:
    return MemberRow(account=account, role=5, status=status, valid_until=0)


class ScriptedChain:
    """A chain port of which tests say what it answers; `failures` are raised first."""

    def __init__(self) -> None:
        self.number = 100
        self.fork = 0
        self.forked_after = 0
        self.timestamp = NOW
        self.news: dict[int, Logs] = {}
        self.views: dict[ChannelId, ChainView] = {}
        self.raised: dict[int, tuple[ChannelId, Address, Settlement]] = {}
        self.members: dict[Address, MemberRow] = {}
        self.failures: list[tuple[str, Exception]] = []
        self.settled: list[list[SettleRow]] = []
        self.finished: list[int] = []
        self.closed: list[int] = []
        self.asked: list[str] = []

    def desk(self) -> ChainDesk:
        return ChainDesk(cast("Web3Chain", self))

    def _may_fail(self, method: str) -> None:
        self.asked.append(method)
        for index, (name, error) in enumerate(self.failures):
            if name == method:
                del self.failures[index]
                raise error

    def _hash(self, number: int) -> bytes:
        fork = self.fork if number > self.forked_after else 0
        return bytes([fork]) + number.to_bytes(31, "big")

    def head(self) -> Head:
        self._may_fail("head")
        return Head(number=self.number, hash=self._hash(self.number), timestamp=self.timestamp)

    def block_hash(self, number: int) -> bytes:
        self._may_fail("block_hash")
        return self._hash(number)

    def logs(self, first: int, last: int) -> Logs:
        self._may_fail("logs")
        found = [self.news[n] for n in sorted(self.news) if first <= n <= last]
        return Logs(
            opened=tuple(o for logs in found for o in logs.opened),
            touched=frozenset(c for logs in found for c in logs.touched),
            members=tuple(m for logs in found for m in logs.members),
        )

    def member(self, account: Address, head: Head) -> MemberRow:
        self._may_fail("member")
        return self.members[account]

    def view(self, channel: ChannelId, head: Head) -> ChainView:
        self._may_fail("view")
        return replace(self.views[channel], block=head.number, timestamp=head.timestamp)

    def settlements(
        self, channel: ChannelId, payer: Address, first: int, last: int
    ) -> tuple[Settlement, ...]:
        self._may_fail("settlements")
        return tuple(
            row
            for block, (of, by, row) in sorted(self.raised.items())
            if (of, by) == (channel, payer) and first <= block <= last
        )

    def settle(self, rows: list[SettleRow]) -> Mined:
        self._may_fail("settle")
        self.settled.append(rows)
        return self._mined(settled=len(rows))

    def finish_close(self, terms: Any) -> Mined:
        self._may_fail("finish_close")
        self.finished.append(terms.sequence)
        return self._mined()

    def close(self, terms: Any, **_: Any) -> Mined:
        self._may_fail("close")
        self.closed.append(terms.sequence)
        return self._mined()

    def _mined(self, settled: int = 0) -> Mined:
        self.number += 1
        transaction = secrets.token_bytes(32)
        return Mined(transaction=transaction, block=self.number, gas_used=21_000, settled=settled)


class RememberingWire(Wire):
    """A connection that keeps what is said on it; it breaks when a test wants."""

    def __init__(self, peer: Address | None) -> None:
        self.peer = peer
        self.said: list[Message] = []
        self.error: PeerError | None = None
        self.is_closing = False

    def send(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.said.append(message)

    def close_soon(self) -> None:
        self.is_closing = True


@dataclass
class Parts:
    """An engine with its driver and store; alice's keys are the hub's, bob has a channel."""

    store: HubStore
    engine: Engine
    driver: Driver
    members: Members
    now: Moment = field(default_factory=moment)
    chain: ScriptedChain = field(default_factory=ScriptedChain)

    def hold(self, channel: Channel) -> Channel:
        """Take up a channel as confirmed."""
        self.driver.add(channel)
        self.feed(channel, ObservedChannel(view=self.open_view()))
        self.engine.on_opened(self.driver.get(channel.id))
        return self.driver.get(channel.id)

    def feed(self, channel: Channel, event: Event) -> None:
        self.driver.feed(channel.id, event)

    def open_view(self, **changes: Any) -> ChainView:
        fields: dict[str, Any] = {
            "block": self.now.head_block,
            "timestamp": self.now.head_timestamp,
            "status": ChainStatus.OPEN,
            "deposit_ucent": (DEPOSIT_UCENT, 0),
        }
        return ChainView(**{**fields, **changes})

    def greet(self, channel: Channel) -> None:
        """The wallet's newest vouchers: none."""
        message = Reestablish(channel=channel.id, sent=None, received=None)
        self.feed(channel, Received(message=message))

    def connect(self, channel: Channel) -> RememberingWire:
        """Its wallet connects and greets."""
        wire = RememberingWire(channel.terms.signer_b)
        self.engine.on_connected(wire, channel.terms.signer_b)
        self.greet(channel)
        return wire


def fresh_channel(number: int = 1, **changes: Any) -> Channel:
    """The hub's side of a channel that nobody has used."""
    from .people import BOB, CAROL, DEPLOYMENT  # noqa: PLC0415 - only here

    made = terms(BOB if number == 1 else CAROL, number)
    return Channel(id=DEPLOYMENT.channel_id(made), terms=made, side=Side.A, **changes)


@contextmanager
def parts(folder: Path, *programmes: Programme, offer: Offer = OFFER) -> Iterator[Parts]:
    """Everything of a hub that needs no chain; every party of the channels is a member."""
    store = HubStore(folder / "hub.sqlite")
    people = [
        address
        for number in (1, 2)
        for address in (
            fresh_channel(number).terms.account_b,
            fresh_channel(number).terms.signer_b,
        )
    ]
    members = Members([member(address) for address in people])
    made: list[Parts] = []

    def now() -> Moment:
        return made[0].now

    engine = Engine(store, Rewards(store, programmes or (programme(),)), members, now, offer)
    driver = Driver(store.ledger, ALICE, DOMAIN, now, engine)
    made.append(Parts(store=store, engine=engine, driver=driver, members=members))
    engine.attach(driver, Requests(store, driver, now))
    try:
        yield made[0]
    finally:
        store.ledger.close()


def reopened(store: HubStore) -> HubStore:
    """The same database as a later process finds it."""
    path = store.ledger.path
    store.ledger.close()
    return HubStore(path)


def committed(ledger: Ledger, *statements: Any) -> None:
    ledger.commit((), (), statements)
