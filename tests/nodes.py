"""Two ends of real connections: drivers over SQLite files, joined by sockets on loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from farthing.channels.client.driver import Driver
from farthing.channels.client.ledger import RECEIVED, SENT, Ledger, StoredPayment
from farthing.channels.client.session import run_session, say_error
from farthing.channels.client.wire import Wire
from farthing.channels.errors import FarthingError
from farthing.channels.events import ChannelMessage, ObservedChannel
from farthing.channels.ids import ChannelId
from farthing.channels.messages import Message
from farthing.channels.signing import Signer
from farthing.channels.state import (
    Channel,
    Moment,
    Phase,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Terms
from farthing.channels.voucher import Payment

from .people import ALICE, BOB, CHANNEL, DEPLOYMENT, DOMAIN, TERMS, moment, payment, view

PATIENCE_SECONDS = 60
"""No test takes nearly as long; one that would wait for ever fails with this."""


@dataclass
class Notes:
    """An application and a handler that do nothing but take notes and wake whoever waits."""

    received: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    closes: list[SignedClose] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    withdrawn: list[tuple[WithdrawalTerms, bool]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    strange: list[ChannelMessage] = field(default_factory=list)
    ended: list[FarthingError] = field(default_factory=list)
    on_ack: Callable[[int], None] = lambda _: None
    _changed: trio.Event = field(default_factory=trio.Event)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that these notes, or a channel's state, will show."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not condition():
                await self._changed.wait()

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        self.received.extend(range(first_nonce, first_nonce + len(payments)))
        self.wake()

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        self.on_ack(nonce)
        self.acknowledged.append(nonce)
        self.wake()

    def on_stopped(self, channel: Channel, reason: str) -> None:
        self.stopped.append(reason)
        self.wake()

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        self.closes.append(close)
        self.wake()

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        self.withdrawals.append(withdrawal)
        self.wake()

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        self.withdrawn.append((terms, taken))
        self.wake()

    def on_message(self, wire: Wire, message: Message) -> None:
        self.messages.append(message)
        self.wake()

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        self.strange.append(message)
        self.wake()


class Node:
    """One party's process: a ledger in a file, a driver, and notes."""

    def __init__(self, path: Path, signer: Signer, elsewhere: Path | None = None) -> None:
        self.path = path
        self.signer = signer
        self.now: Callable[[], Moment] = moment
        self.notes = Notes()
        self.ledger = Ledger(path)
        self.driver = Driver(
            self.ledger, signer, DOMAIN, self._moment, self.notes, elsewhere=elsewhere
        )
        self.driver.on_change = self.notes.wake
        self.wires: list[Wire] = []
        self.port = 0

    def _moment(self) -> Moment:
        return self.now()  # which a test may replace

    def hold(self, terms: Terms = TERMS) -> ChannelId:
        """Hold a channel that the chain has confirmed."""
        side = terms.side_of_signer(self.signer.address)
        assert side is not None
        channel = DEPLOYMENT.channel_id(terms)
        self.driver.add(Channel(id=channel, terms=terms, side=side))
        self.driver.feed(channel, ObservedChannel(view=view()))
        return channel

    def state(self, channel: ChannelId = CHANNEL) -> Channel:
        """The channel as it is in memory."""
        return self.driver.get(channel)

    def pay(self, *amounts: int, channel: ChannelId = CHANNEL) -> int:
        """Order payments numbered as they will be; the first one's number."""
        first = self.state(channel).sent.promised.nonce + 1
        payments = tuple(payment(amount, number=n) for n, amount in enumerate(amounts, first))
        return self.driver.pay(channel, payments, ())

    async def until_live(self, channel: ChannelId = CHANNEL) -> None:
        """Wait until both sides have shown their vouchers."""
        await self.notes.until(lambda: self.state(channel).phase is Phase.LIVE)

    async def until_down(self) -> None:
        """Wait until the end of the connection has been noticed."""
        await self.notes.until(lambda: self.state().phase is Phase.DOWN)

    async def until_acknowledged(self, nonce: int | None = None) -> None:
        """Wait until the peer holds our payments, all of them unless told."""
        await self.notes.until(
            lambda: (
                self.state().sent.quiet
                if nonce is None
                else self.state().sent.acknowledged_nonce >= nonce
            )
        )

    async def until_ended(self) -> FarthingError:
        """Wait until a connection has ended; why it did."""
        await self.notes.until(lambda: bool(self.notes.ended))
        return self.notes.ended[0]

    def stored(self, direction: int, channel: ChannelId = CHANNEL) -> list[StoredPayment]:
        """What the file holds of a lane, read anew."""
        ledger = Ledger(self.path)
        try:
            return list(ledger.payments(channel, direction))
        finally:
            ledger.close()

    # -- connections ----------------------------------------------------------------------------

    async def listen(self, nursery: trio.Nursery) -> None:
        """Accept connections on loopback until the nursery ends."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, self._accept, listeners)

    async def _accept(self, stream: trio.SocketStream) -> None:
        wire = Wire(stream)
        try:
            await wire.accept(DOMAIN, self.signer)
        except FarthingError as error:
            self._end(error)
            await say_error(wire, error)
            await wire.finish()
            return
        await self._speak(wire)

    async def dial(self, nursery: trio.Nursery, to: "Node") -> Wire:
        """Connect to another node and serve the connection in the background."""
        wire = Wire(await trio.open_tcp_stream("127.0.0.1", to.port))
        try:
            await wire.dial(DOMAIN, self.signer, to.signer.address)
        except BaseException:
            await wire.finish()
            raise
        nursery.start_soon(self._speak, wire)
        return wire

    async def _speak(self, wire: Wire) -> None:
        self.wires.append(wire)
        for channel in list(self.driver.channels.values()):
            if channel.terms.signer(channel.side.other) == wire.peer and channel.stopped is None:
                self.driver.link(channel.id, wire)
        try:
            await run_session(wire, self.driver, self.notes)
        except FarthingError as error:
            self._end(error)
        finally:
            self.wires.remove(wire)

    def _end(self, error: FarthingError) -> None:
        self.notes.ended.append(error)
        self.notes.wake()

    async def lose_connections(self) -> None:
        """Cut every connection at once, as a broken network does."""
        for wire in list(self.wires):
            await wire.finish()


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Alice, who listens, and bob, who has dialled; both hold their channel, and it is live."""
    alice, bob = Node(folder / "alice.sqlite", ALICE), Node(folder / "bob.sqlite", BOB)
    try:
        async with trio.open_nursery() as nursery:
            for node in (alice, bob):
                node.hold()
                nursery.start_soon(node.driver.run)
            await alice.listen(nursery)
            await bob.dial(nursery, alice)
            await alice.until_live()
            await bob.until_live()
            yield alice, bob
            nursery.cancel_scope.cancel()
    finally:
        for node in (alice, bob):
            node.ledger.close()


def same_lanes(payer: Node, payee: Node, channel: ChannelId = CHANNEL) -> bool:
    """Whether both files hold the same payments of one lane."""
    return payer.stored(SENT, channel) == payee.stored(RECEIVED, channel)
