"""A chain and a hub small enough to see through: the wallet's tests speak to them over sockets.

The chain is a model of the contract behind the wallet's own ports; the hub is the real driver,
wire and session with a price of its own for every record.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio

from farthing.channels.client.chain import Head
from farthing.channels.client.driver import Driver
from farthing.channels.client.folder import Folder, HubAddress, Policy, Settings, create_folder
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.pulse import Pulse
from farthing.channels.client.rpc import RpcUnreachable
from farthing.channels.client.session import run_session, say_error
from farthing.channels.client.wallet import Wallet, open_wallet
from farthing.channels.client.wire import Wire
from farthing.channels.deployment import Deployment
from farthing.channels.errors import FarthingError
from farthing.channels.events import ChannelMessage, ObservedChannel
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, ChannelId
from farthing.channels.messages import (
    ChannelProposal,
    ChannelTerms,
    Error,
    Message,
    PaymentRefused,
    PaymentRequest,
    ReadingOutcome,
    RecordOutcome,
    SubmitReadings,
)
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.senml import Record, parse, record_commitment
from farthing.channels.signing import Signer
from farthing.channels.state import (
    ChainStatus,
    ChainView,
    Channel,
    Moment,
    Phase,
    Settlement,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Side, Terms
from farthing.channels.voucher import Payment, Voucher

PASSWORD = "correct horse"  # noqa: S105 - of keys that guard nothing
PRICE_UCENT = 12_500
DEPOSIT_UCENT = 100_000_000
WINDOW_SECONDS, WINDOW_BLOCKS = 600, 10


def key(name: str) -> Signer:
    return Signer(keccak256(name.encode()))


ALICE, HUB, HUB_ACCOUNT, MALLORY = (key(n) for n in ("alice", "hub", "hub account", "mallory"))
DEPLOYMENT = Deployment(
    chain_id=20262026,
    genesis_hash=keccak256(b"genesis"),
    block=1,
    city_credit=Address(keccak256(b"city_credit")[12:]),
    member_registry=Address(keccak256(b"member_registry")[12:]),
    payment_channels=Address(keccak256(b"payment_channels")[12:]),
    deployment=keccak256(b"deployment"),
)
TERMS = Terms(
    account_a=HUB_ACCOUNT.address,
    signer_a=HUB.address,
    account_b=ALICE.address,
    signer_b=ALICE.address,
    challenge_seconds=WINDOW_SECONDS,
    challenge_blocks=WINDOW_BLOCKS,
    sequence=1,
)


@dataclass
class SmallChain:
    """Both ports of the wallet over a model: totals, windows, one block a transaction."""

    block: int = 10
    timestamp: int = field(default_factory=lambda: int(time.time()))
    is_down: bool = False
    identity_error: FarthingError | None = None
    channels: dict[ChannelId, ChainView] = field(default_factory=dict)
    terms: dict[ChannelId, Terms] = field(default_factory=dict)
    tokens: dict[Address, int] = field(default_factory=dict)
    settled: list[Voucher] = field(default_factory=list)
    raised: list[tuple[int, ChannelId, Address, Settlement]] = field(default_factory=list)
    """The `Settled` events, each with its block."""
    refused_payouts: dict[Address, int] = field(default_factory=dict)
    closed: dict[ChannelId, tuple[int, int]] = field(default_factory=dict)

    def mine(self, blocks: int = 1, seconds: int = 1) -> None:
        self.block += blocks
        self.timestamp += seconds

    def open(self, terms: Terms | None = None, deposit_ucent: int = DEPOSIT_UCENT) -> ChannelId:
        terms = terms or replace(TERMS, sequence=len(self.terms) + 1)
        channel = DEPLOYMENT.channel_id(terms)
        self.terms[channel] = terms
        self._change(channel, status=ChainStatus.OPEN, deposit_ucent=(deposit_ucent, 0))
        return channel

    def view(self, channel: ChannelId) -> ChainView:
        known = self.channels.get(channel)
        if known is None:
            known = ChainView(block=0, timestamp=0, status=ChainStatus.NEVER)
        return replace(known, block=self.block, timestamp=self.timestamp)

    def _change(self, channel: ChannelId, **changes: Any) -> None:
        self.channels[channel] = replace(self.view(channel), **changes)
        self.mine()

    def _check_up(self) -> None:
        if self.is_down:
            raise RpcUnreachable("http://127.0.0.1:1", "it is down")

    # -- the reading port

    async def check_identity(self) -> None:
        self._check_up()
        if self.identity_error is not None:
            raise self.identity_error

    async def head(self) -> Head:
        self._check_up()
        return Head(
            block=self.block,
            block_hash=await self.block_hash(self.block),
            timestamp=self.timestamp,
        )

    async def block_hash(self, number: int) -> bytes:
        return keccak256(number.to_bytes(8, "big"))

    async def channel_state(self, channel: ChannelId, head: Head) -> ChainView:
        self._check_up()
        return replace(self.view(channel), block=head.block, timestamp=head.timestamp)

    async def closed_totals(
        self, channel: ChannelId, first_block: int, last_block: int
    ) -> tuple[int, int] | None:
        self._check_up()
        return self.closed.get(channel)

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        self._check_up()
        return tuple(
            settlement
            for block, of, by, settlement in self.raised
            if (of, by) == (channel, payer) and first_block <= block <= last_block
        )

    async def balance_of(self, account: Address, block: int) -> int:
        self._check_up()
        return self.tokens.get(account, 0)

    async def claimable(self, account: Address, block: int) -> int:
        return self.refused_payouts.get(account, 0)

    # -- the transaction port

    async def settle(self, terms: Terms, voucher: Voucher) -> None:
        self._check_up()
        channel = DEPLOYMENT.channel_id(terms)
        totals = list(self.view(channel).settled_ucent)
        lane = 0 if voucher.payer == terms.account_a else 1
        before_ucent, total = totals[lane], voucher.total
        totals[lane] = max(before_ucent, total.transferred_ucent)
        self.settled.append(voucher)
        self._change(channel, settled_ucent=tuple(totals))
        if total.transferred_ucent > before_ucent:
            settlement = Settlement(
                before_ucent=before_ucent,
                transferred_ucent=total.transferred_ucent,
                nonce=total.nonce,
                history=total.history,
            )
            self.raised.append((self.block, channel, voucher.payer, settlement))

    async def close(self, terms: Terms, close: SignedClose, *, ours_is_a: bool) -> None:
        self._check_up()
        totals = (close.terms.transferred_a_ucent, close.terms.transferred_b_ucent)
        self._end(DEPLOYMENT.channel_id(terms), totals)

    async def withdraw(self, terms: Terms, withdrawal: Withdrawal, *, ours_is_a: bool) -> None:
        self._check_up()
        self.take_out(DEPLOYMENT.channel_id(terms), withdrawal)

    def take_out(self, channel: ChannelId, withdrawal: Withdrawal) -> None:
        """Pay out as the contract does: cumulative, so that a repeat changes nothing."""
        view, terms = self.view(channel), withdrawal.terms
        taken = list(view.withdrawn_ucent)
        amount = terms.total_ucent - taken[terms.side]
        if amount <= 0 or self.timestamp > terms.expires or view.status is not ChainStatus.OPEN:
            return
        taken[terms.side] = terms.total_ucent
        account = self.terms[channel].account(terms.side)
        self.tokens[account] = self.tokens.get(account, 0) + amount
        self._change(channel, withdrawn_ucent=tuple(taken))

    async def claim(self, account: Address) -> None:
        self._check_up()
        amount = self.refused_payouts.pop(account)
        self.tokens[account] = self.tokens.get(account, 0) + amount
        self.mine()

    async def start_close(self, terms: Terms) -> None:
        self._check_up()
        self._change(
            DEPLOYMENT.channel_id(terms),
            status=ChainStatus.CLOSING,
            deadline_seconds=self.timestamp + terms.challenge_seconds,
            deadline_block=self.block + terms.challenge_blocks,
        )

    async def finish_close(self, terms: Terms) -> None:
        self._check_up()
        channel = DEPLOYMENT.channel_id(terms)
        self._end(channel, self.view(channel).settled_ucent)

    def _end(self, channel: ChannelId, totals: tuple[int, int]) -> None:
        view, terms = self.view(channel), self.terms[channel]
        if view.status is ChainStatus.CLOSED:
            return
        whole = sum(view.deposit_ucent) - sum(view.withdrawn_ucent)
        owned_a = view.deposit_ucent[0] - view.withdrawn_ucent[0]
        paid_a = min(max(owned_a + totals[1] - totals[0], 0), whole)
        for account, amount in ((terms.account_a, paid_a), (terms.account_b, whole - paid_a)):
            self.tokens[account] = self.tokens.get(account, 0) + amount
        self.closed[channel] = totals  # the settled totals stay as they were
        self._change(channel, status=ChainStatus.CLOSED)


class SmallHub:
    """A hub that pays `PRICE_UCENT` for each record; tests change what it does by its fields."""

    def __init__(self, chain: SmallChain, ledger: Path) -> None:
        self.chain = chain
        self.ledger = Ledger(ledger)
        self.driver = Driver(self.ledger, HUB, DEPLOYMENT.domain(), self.moment, self)
        self.port = 0
        self.wires: list[Wire] = []
        self.seen: list[Message] = []
        self.heard = Pulse()
        self.answers: dict[bytes, ReadingOutcome] = {}
        self.refuse_temporarily = 0
        self.proposal_refusal: Error | None = None
        self.announced: list[Terms] = []
        self.ignored: tuple[type[Any], ...] = ()
        self.hangs_up = False
        self.is_mute = False
        self.loses_greetings = False
        self.withdrawals_ended: list[tuple[WithdrawalTerms, bool]] = []

    def moment(self) -> Moment:
        now = int(time.time())
        return Moment(
            now=now, head_block=self.chain.block, head_timestamp=self.chain.timestamp, head_seen=now
        )

    def hold(self, channel: ChannelId) -> None:
        """Take up a channel of the chain, or what became of it."""
        if channel not in self.driver.channels:
            terms = self.chain.terms[channel]
            self.driver.add(Channel(id=channel, terms=terms, side=Side.A))
        self.driver.feed(channel, ObservedChannel(view=self.chain.view(channel)))

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        for channel in self.chain.channels:
            self.hold(channel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._one, listeners)
            task_status.started()

    async def _one(self, stream: trio.SocketStream) -> None:
        wire = Wire(stream)
        try:
            await wire.accept(DEPLOYMENT.domain(), HUB)
            self.wires.append(wire)
            if self.hangs_up:
                return
            for terms in (*self.announced, *self.chain.terms.values()):
                if not self.is_mute:
                    self.introduce(wire, terms)
            await run_session(wire, self.driver, self)
        except FarthingError as error:
            await say_error(wire, error)
        finally:
            await wire.finish()

    def introduce(self, wire: Wire, terms: Terms) -> None:
        wire.send(
            ChannelTerms(**{name: getattr(terms, name) for name in Terms.__dataclass_fields__})
        )
        channel = DEPLOYMENT.channel_id(terms)
        if channel in self.driver.channels and not self.loses_greetings:
            self.driver.link(channel, wire)

    # -- session.Handler

    def on_message(self, wire: Wire, message: Message) -> None:
        self.seen.append(message)
        self.heard.beat()
        if isinstance(message, self.ignored):
            return
        match message:
            case SubmitReadings():
                self._on_readings(wire, message)
            case ChannelProposal() if self.proposal_refusal is not None:
                wire.send(self.proposal_refusal)
            case ChannelProposal() if any(
                v.status is not ChainStatus.CLOSED for v in self._views()
            ):
                return  # introduced when the connection began
            case ChannelProposal():
                channel = self.chain.open()
                self.hold(channel)
                self.introduce(wire, self.chain.terms[channel])
            case PaymentRequest():
                self.pay(message.amount_ucent, request=message.id)
            case _:
                return

    def _views(self) -> list[ChainView]:
        return list(self.chain.channels.values())

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        self.seen.append(message)

    def _on_readings(self, wire: Wire, message: SubmitReadings) -> None:
        if self.refuse_temporarily:
            self.refuse_temporarily -= 1
            refusal = RecordOutcome(
                amount_ucent=0, nonce=0, code="hub-busy", text="busy", what_to_do="later"
            )
            wire.send(ReadingOutcome(id=message.id, outcomes=(refusal,)))
            return
        if message.id not in self.answers:
            records = parse(message.senml, message.format, now=self.moment().now)
            outcomes = []
            for index, record in enumerate(records):
                fields = {
                    "programme": "test",
                    "programme_hash": bytes(32),
                    "quantity": record.name,
                    "taken": int(record.time),
                    "reading": record_commitment(message.id, index, record),
                }
                nonce = self.pay(PRICE_UCENT, kind=ReceiptType.REWARD, fields=fields)
                outcomes.append(
                    RecordOutcome(
                        amount_ucent=PRICE_UCENT, nonce=nonce, code="", text="", what_to_do=""
                    )
                )
            self.answers[message.id] = ReadingOutcome(id=message.id, outcomes=tuple(outcomes))
        answer = self.answers[message.id]
        self.driver.store((), then=lambda: wire.send(answer))

    def pay(
        self,
        amount_ucent: int,
        *,
        kind: ReceiptType = ReceiptType.REQUEST,
        fields: dict[str, Any] | None = None,
        request: bytes = bytes(16),
    ) -> int:
        """Pay on the only open channel; the nonce."""
        channel = next(c.id for c in self.driver.channels.values() if c.phase is Phase.LIVE)
        common = {
            "amount": amount_ucent,
            "block": self.chain.block,
            "at": self.chain.timestamp,
        }
        specific = fields or {"purpose": "test", "request": request}
        receipt = make_receipt(
            kind, {**common, **specific}, salt=keccak256(bytes(amount_ucent % 9))
        )
        payment = Payment(amount_ucent=amount_ucent, receipt=receipt)
        return self.driver.pay(channel, (payment,), ())

    def ask(self, amount_ucent: int, purpose: str, request: bytes) -> None:
        channel = next(iter(self.driver.channels))
        self.wires[-1].send(
            PaymentRequest(
                channel=channel,
                id=request,
                amount_ucent=amount_ucent,
                purpose=purpose,
                expires=self.chain.timestamp + 60,
            )
        )

    def refusals(self) -> list[PaymentRefused]:
        return [message for message in self.seen if isinstance(message, PaymentRefused)]

    async def cut(self) -> None:
        """End every connection at once."""
        for wire in self.wires:
            await wire.finish()
        self.wires.clear()

    # -- application.Application

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        self.heard.beat()

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        self.heard.beat()

    def on_stopped(self, channel: Channel, reason: str) -> None:
        self.heard.beat()

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        totals = (close.terms.transferred_a_ucent, close.terms.transferred_b_ucent)
        self.chain._end(channel.id, totals)
        self.hold(channel.id)

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        self.chain.take_out(channel.id, withdrawal)
        self.hold(channel.id)

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        self.withdrawals_ended.append((terms, taken))


@dataclass
class SmallCity:
    """A chain, a hub that serves, and alice's folder."""

    chain: SmallChain
    hub: SmallHub
    folder: Path

    @asynccontextmanager
    async def wallet(self) -> AsyncIterator[Wallet]:
        async with open_wallet(
            self.folder, PASSWORD, chain=self.chain, transactions=self.chain
        ) as wallet:
            yield wallet


def settings(port: int, policy: Policy | None = None) -> Settings:
    return Settings(
        hub=HubAddress(host="127.0.0.1", port=port),
        hub_signer=HUB.address,
        rpc_url="http://127.0.0.1:1",
        account=ALICE.address,
        deployment=DEPLOYMENT,
        policy=policy or Policy(),
    )


def make_folder(path: Path, port: int) -> Folder:
    return create_folder(path, PASSWORD, lambda _: settings(port), key=keccak256(b"alice"))


@asynccontextmanager
async def open_city(tmp_path: Path, *, channel: bool = True) -> AsyncIterator[SmallCity]:
    chain = SmallChain()
    if channel:
        chain.open()
    hub = SmallHub(chain, tmp_path / "hub.sqlite")
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.serve)
        make_folder(tmp_path / "alice", hub.port)
        yield SmallCity(chain=chain, hub=hub, folder=tmp_path / "alice")
        nursery.cancel_scope.cancel()
    hub.ledger.close()


def reading(value: str = "1.5", name: str = "flow") -> Record:
    return Record(name=name, time=Decimal(1_700_000_000), value=Decimal(value), unit="l/s")


async def earn(wallet: Wallet, records: int = 4) -> None:
    """Join, and be rewarded for that many records."""
    await wallet.join(timeout_seconds=10)
    submission = await wallet.submit([reading(str(n)) for n in range(records)])
    await wallet.wait_outcome(submission, timeout_seconds=10)
    await until(wallet, lambda: wallet.balance().in_channel_ucent >= records * PRICE_UCENT)


async def until(wallet: Wallet, condition: Callable[[], bool]) -> None:
    """Wait for what the wallet's own changes bring about."""
    with trio.fail_after(10):
        await wallet._pulse.until(condition)
