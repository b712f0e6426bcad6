"""A hub's world for tests: a real devnet with the contracts, folders of hubs, and tiny wallets.

The devnet is one for the whole test run, in a thread with a loop of its own; a block comes with
each transaction and never else. Every hub and wallet has keys of its own, so tests do not meet.
"""

import io
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    asynccontextmanager,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
)
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio

from farthing.channels.client import keystore
from farthing.channels.client.driver import Driver
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.pulse import Pulse
from farthing.channels.client.session import run_session
from farthing.channels.client.wire import Wire
from farthing.channels.deployment import Deployment
from farthing.channels.errors import FarthingError
from farthing.channels.events import AskedClose, ChannelMessage, ObservedChannel, Received
from farthing.channels.ids import Address, ChannelId
from farthing.channels.messages import (
    ChannelProposal,
    ChannelTerms,
    Error,
    Message,
    ReadingOutcome,
    Reestablish,
    SubmitReadings,
)
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.senml import PackFormat, Record, encode_json
from farthing.channels.signing import Signer
from farthing.channels.state import (
    Channel,
    Moment,
    Phase,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN, Side, Terms
from farthing.channels.units import UCENT_PER_UNIT
from farthing.channels.voucher import Payment
from farthing.cli.main import main
from farthing.contracts.members import MemberStatus
from farthing.devnet.accounts import development_signer
from farthing.node.administration import Administrator, Registration, Role
from farthing.node.chain import Head, Web3Chain
from farthing.node.config import HubConfig, load
from farthing.node.deploying import deploy
from farthing.node.hub import Hub, open_hub
from farthing.node.sender import connect
from farthing.node.store import HubStore

REGISTRAR, TREASURY = 0, 1
PASSWORD = "correct horse"  # noqa: S105 - of keys that guard nothing
FLOW_UCENT = 12_500
DEPOSIT_UCENT = 10_000_000
MINTED_UCENT = 100 * UCENT_PER_UNIT
WAIT_SECONDS = 60
"""How long a test waits for what must happen; a busy machine takes a second."""

PROGRAMME = f"""
id = "test-block"
version = 1
agency = "Test Agency"
purpose = "Testing"
contact = "appeals@test.example"
valid_from = 2024-01-01T00:00:00Z
valid_until = 2100-01-01T00:00:00Z

[[tariff]]
quantity = "flow"
sensor = "*/flow"
unit = "l/s"
amount_ucent = {FLOW_UCENT}
minimum = 0
maximum = 100
interval_seconds_min = 10
age_seconds_max = 7776000
"""


# -- the chain ------------------------------------------------------------------------------------


@dataclass
class City:
    """A running devnet with the contracts, a registrar and a treasury."""

    rpc_url: str
    deployment: Deployment
    deployment_file: Path
    chain: Web3Chain
    registrar: Administrator
    treasury: Administrator

    def register(
        self,
        *addresses: Address,
        role: Role = Role.DEVICE,
        status: MemberStatus = MemberStatus.ACTIVE,
    ) -> None:
        """Register addresses; active ones may send transactions too."""
        self.registrar.set_members(
            [Registration(account=a, role=role, status=status) for a in addresses]
        )
        if status is MemberStatus.ACTIVE:
            self.registrar.admit(addresses)

    def fund(self, account: Address, amount_ucent: int = MINTED_UCENT) -> None:
        self.treasury.mint(account, amount_ucent, secrets.token_bytes(32))

    def ask(self, method: str, *params: Any) -> Any:
        """Ask the devnet something beyond web3's own calls."""
        answer = connect(self.rpc_url).provider.make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        self.ask("anvil_mine", hex(blocks))

    def warp(self, seconds: int) -> None:
        """Make a block that much later than the newest, which may be ahead of the wall clock."""
        later = self.chain.head().timestamp + seconds
        self.ask("evm_setNextBlockTimestamp", hex(later))
        self.ask("evm_mine")


def build_city(rpc_url: str, folder: Path) -> City:
    """Deploy the contracts and make a treasury."""
    web3 = connect(rpc_url)
    record = folder / "deployment.json"
    deployment = deploy(web3, development_signer(REGISTRAR), record).deployment
    treasury = development_signer(TREASURY)
    registrar = Administrator(web3, deployment, development_signer(REGISTRAR))
    registrar.set_members([Registration(account=treasury.address, role=Role.TREASURY)])
    return City(
        rpc_url=rpc_url,
        deployment=deployment,
        deployment_file=record,
        chain=Web3Chain(web3, deployment, signer=None),
        registrar=registrar,
        treasury=Administrator(web3, deployment, treasury),
    )


# -- hubs -----------------------------------------------------------------------------------------


def new_signer() -> Signer:
    return Signer(secrets.token_bytes(32))


def hub_folder(
    city: City,
    folder: Path,
    *,
    programme: str = PROGRAMME,
    minted_ucent: int | None = None,
    **settings: Any,
) -> Path:
    """Make a registered and funded hub's folder; returns its hub.toml."""
    folder.mkdir(parents=True)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD + "\n")
    account = keystore.create(folder / "account.json", PASSWORD)
    signer = keystore.create(folder / "signer.json", PASSWORD)
    city.register(account, signer, role=Role.HUB)
    city.fund(account, minted_ucent or MINTED_UCENT)
    (folder / "programme.toml").write_text(programme)
    values = {
        "listen_port": 0,
        "rpc_url": city.rpc_url,
        "deployment_file": str(city.deployment_file),
        "data_dir": "data",
        "account_keystore": "account.json",
        "signer_keystore": "signer.json",
        "password_file": "password",
        "programme_files": ["programme.toml"],
        "challenge_seconds": CHALLENGE_SECONDS_MIN,
        "challenge_blocks": CHALLENGE_BLOCKS_MIN,
        "deposit_ucent": DEPOSIT_UCENT,
        "settle_unsettled_ucent": UCENT_PER_UNIT,
        "withdrawal_least_ucent": 1,
        "withdrawals_member_day_max": 1000,
        "openings_member_day_max": 1000,
        **settings,
    }
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    config = folder / "hub.toml"
    config.write_text("".join(lines))
    return config


def hub_config(config: Path) -> HubConfig:
    return load(config, {})


@asynccontextmanager
async def running_hub(config: Path) -> AsyncIterator[Hub]:
    """A hub in this process; whatever ends it is raised as itself."""
    with plain_errors():
        async with open_hub(hub_config(config)) as hub:
            yield hub


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the only error of nested groups as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


# -- wallets --------------------------------------------------------------------------------------


@dataclass
class TinyWallet:
    """Driver, wire and session, and a list of what the hub said; honest unless a test is not."""

    city: City
    signer: Signer
    account: Address
    ledger: Ledger
    driver: Driver = field(init=False)
    heard: list[Message] = field(default_factory=list)
    ended: FarthingError | None = None
    pulse: Pulse = field(default_factory=Pulse)
    adopts: bool = True
    wire: Wire | None = None
    _head: Head = Head(number=0, hash=b"", timestamp=0)  # noqa: RUF009 - it is frozen
    _early: dict[ChannelId, Reestablish] = field(default_factory=dict)
    _nursery: trio.Nursery | None = None
    _speaking: set[ChannelId] = field(default_factory=set)
    closes: list[SignedClose] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)

    def __post_init__(self) -> None:
        domain = self.city.deployment.domain()
        self.driver = Driver(self.ledger, self.signer, domain, self.moment, self)
        self.driver.on_change = self.pulse.beat

    def moment(self) -> Moment:
        now = int(time.time())
        return Moment(
            now=now,
            head_block=self._head.number,
            head_timestamp=max(self._head.timestamp, now),
            head_seen=now,
        )

    # -- connecting

    @asynccontextmanager
    async def connected(self, hub: Hub | tuple[int, Address]) -> AsyncIterator[Wire]:
        """Dial, prove ourselves, and serve the connection until the block ends."""
        if isinstance(hub, Hub):
            await hub.follower.catch_up()  # it knows that we are registered
            hub = (hub.port, hub.signer.address)
        port, peer = hub
        wire = Wire(await trio.open_tcp_stream("127.0.0.1", port))
        self.wire, self.ended = wire, None
        self._speaking.clear()
        try:
            await wire.dial(self.city.deployment.domain(), self.signer, peer)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._serve, wire)
                yield wire
                nursery.cancel_scope.cancel()
        finally:
            await wire.finish()

    async def _serve(self, wire: Wire) -> None:
        try:
            await run_session(wire, self.driver, self)
        except FarthingError as error:
            self.ended = error
        self.pulse.beat()

    def on_message(self, wire: Wire, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, ChannelTerms) and self.adopts:
            assert self._nursery is not None
            self._nursery.start_soon(self._adopt, wire, message)
        self.pulse.beat()

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        if isinstance(message, Reestablish):
            self._early[message.channel] = message

    async def _adopt(self, wire: Wire, message: ChannelTerms) -> None:
        terms = Terms(**{name: getattr(message, name) for name in Terms.__dataclass_fields__})
        channel = self.city.deployment.channel_id(terms)
        if channel not in self.driver.channels:
            self.driver.add(Channel(id=channel, terms=terms, side=Side.B))
        await self.look()
        self.driver.link(channel, wire)
        early = self._early.pop(channel, None)
        if early is not None:
            self.driver.feed(channel, Received(message=early))

        def speak() -> None:  # our own greeting has left
            self._speaking.add(channel)
            self.pulse.beat()

        self.driver.store((), then=speak)

    async def look(self) -> None:
        """Read the chain: the head and every channel."""
        head = await trio.to_thread.run_sync(self.city.chain.head)
        self._head = head
        for channel in list(self.driver.channels):
            view = await trio.to_thread.run_sync(self.city.chain.view, channel, head)
            self.driver.feed(channel, ObservedChannel(view=view))

    # -- application.Application

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        self.pulse.beat()

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        self.pulse.beat()

    def on_stopped(self, channel: Channel, reason: str) -> None:
        self.pulse.beat()

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        self.closes.append(close)
        self.pulse.beat()

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        self.withdrawals.append(withdrawal)
        self.pulse.beat()

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        self.pulse.beat()

    # -- what tests do

    @property
    def channel(self) -> Channel:
        """The newest channel."""
        return list(self.driver.channels.values())[-1]

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(WAIT_SECONDS):
            await self.pulse.until(condition)

    async def wait_live(self) -> Channel:
        """Wait until there is a channel that can be used."""
        await self.until(
            lambda: any(
                c.id in self._speaking and c.phase is Phase.LIVE
                for c in self.driver.channels.values()
            )
        )
        return self.channel

    def send(self, message: Message) -> None:
        assert self.wire is not None
        self.wire.send(message)

    def propose(self, account: Address | None = None) -> None:
        self.send(
            ChannelProposal(
                account=account or self.account,
                challenge_seconds=CHALLENGE_SECONDS_MIN,
                challenge_blocks=CHALLENGE_BLOCKS_MIN,
            )
        )

    async def join(self) -> Channel:
        """Propose a channel and wait until it can be used."""
        self.propose()
        return await self.wait_live()

    def errors(self, code: str) -> list[Error]:
        return [m for m in self.heard if isinstance(m, Error) and m.code == code]

    def answers(self, submission: bytes) -> list[ReadingOutcome]:
        found = [m for m in self.heard if isinstance(m, ReadingOutcome)]
        return [m for m in found if m.id == submission]

    async def submit(self, *values: str, submission: bytes | None = None) -> ReadingOutcome:
        """Submit readings and wait for their outcome."""
        submission = submission or secrets.token_bytes(16)
        before = len(self.answers(submission))
        self.send(submit_message(submission, *values))
        await self.until(lambda: len(self.answers(submission)) > before)
        return self.answers(submission)[-1]

    def pay(self, amount_ucent: int, purpose: str = "parking") -> int:
        """Pay for a use; the nonce."""
        moment = self.moment()
        fields = {
            "amount": amount_ucent,
            "block": moment.head_block,
            "at": moment.head_timestamp,
            "purpose": purpose,
        }
        receipt = make_receipt(ReceiptType.USAGE, fields, salt=secrets.token_bytes(32))
        payment = Payment(amount_ucent=amount_ucent, receipt=receipt)
        return self.driver.pay(self.channel.id, (payment,), ())

    async def wait_quiet(self) -> None:
        """Wait until the hub has acknowledged all that was paid."""
        await self.until(lambda: self.channel.sent.quiet)

    async def wait_received(self, transferred_ucent: int) -> None:
        """Wait until the hub has verifiably paid that much in all."""
        await self.until(lambda: self.channel.received.total.transferred_ucent >= transferred_ucent)

    def ask_close(self) -> None:
        self.driver.feed(self.channel.id, AskedClose())


@asynccontextmanager
async def tiny_wallet(
    city: City, folder: Path, *, name: str = "alice", registered: bool = True
) -> AsyncIterator[TinyWallet]:
    """A wallet whose account is its own key, registered unless told; its driver runs."""
    signer = new_signer()
    account = signer.address
    if registered:
        await trio.to_thread.run_sync(lambda: city.register(account))
    ledger = Ledger(folder / f"{name}.sqlite")
    wallet = TinyWallet(city=city, signer=signer, account=account, ledger=ledger)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wallet.driver.run)
            yield wallet
            nursery.cancel_scope.cancel()
    finally:
        ledger.close()


def rewarded_times(store: HubStore, account: Address) -> list[Decimal]:
    """When the flow readings of an account were taken that were ever rewarded."""
    return store.rewarded(account, "test-block", "flow", near=Decimal(0), seconds=10**10)


_taken = iter(range(1, 10**9))


def reading(value: str = "1.5", *, name: str = "pump/flow", taken: int | None = None) -> Record:
    """A reading of a moment that no other has, each 20 s from the next, unless told."""
    when = int(time.time()) - 20 * next(_taken) if taken is None else taken
    return Record(name=name, time=Decimal(when), value=Decimal(value), unit="l/s")


def submit_message(submission: bytes, *values: str) -> SubmitReadings:
    senml = encode_json([reading(value) for value in values])
    return SubmitReadings(id=submission, format=int(PackFormat.JSON), senml=senml)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a hub does by itself; it has no pulse of its own to wait for."""
    with trio.fail_after(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - as said
            await trio.sleep(0.01)


# -- the command line -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def farthing(*arguments: object) -> Outcome:
    """Run a command in this process, as the shell would."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["farthing", *map(str, arguments)]
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), err.getvalue())


async def farthing_beside(*arguments: object) -> Outcome:
    """The same in a thread, beside a hub of this process."""
    return await trio.to_thread.run_sync(lambda: farthing(*arguments))
