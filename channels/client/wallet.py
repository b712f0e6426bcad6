"""The device wallet as an async library: joins a hub, submits readings, pays and is paid.

    async with open_wallet(Path("alice"), password) as wallet:
        await wallet.join()
        submission = await wallet.submit([record])
        payment = await wallet.pay(12_500, "parking")

Rule: what a method returned is durable; a wallet that is killed at any point and opened again
goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import trio

from ..events import AskedClose
from ..ids import Address, ChannelId, address_to_hex, to_hex
from ..senml import PackFormat, Record
from ..signing import Signer
from ..state import ChainStatus, Channel
from . import keystore, waiting
from .balance import Balance, balance_of, unacknowledged_ucent
from .closings import Closings, kept_totals
from .connection import Connection
from .driver import Driver, UnknownChannel
from .endpoint import open_endpoint
from .evidence import load_shown
from .exports import receipt_lines
from .folder import Folder
from .follower import Follower, kept_head
from .guard import Guard
from .hearing import Hearing
from .hub_silence import HubSilence
from .ledger import Ledger
from .paying import Paying
from .payment_ids import PaymentIds
from .payments import PaymentAsk, Requests
from .plain_errors import plain_errors
from .ports import ChainPort, TransactionPort
from .pulse import Notice, Notices, Pulse
from .receiving import Receiving
from .results import (
    NotJoined,
    SentPayment,
    TookTooLong,
    can_ask_close,
    chain_status,
    channel_record,
)
from .schema import SCHEMA
from .settlements import Settlements
from .submissions import SubmissionOutcome, Submissions, pack_of
from .taking_out import TakingOut, Withdrawn
from .telling import tell_of_doubt, tell_of_stranger
from .towers import Towers
from .waiting import Timing


class Wallet:
    """One signer's channels with one hub; made by `open_wallet`, used from its trio thread."""

    def __init__(
        self,
        folder: Folder,
        signer: Signer,
        ledger: Ledger,
        chain: ChainPort,
        transactions: TransactionPort,
    ) -> None:
        self.folder = folder
        self.settings = settings = folder.settings()
        self.signer = signer.address
        self.timing = Timing()
        self._ledger = ledger
        self._pulse = Pulse()
        self._notices = Notices()
        self._follower = Follower(
            chain,
            settings.account,
            self._pulse,
            self._notices,
            known=kept_head(ledger),
            ahead_seconds_max=settings.ahead_seconds_max(),
            closings=Closings(settings.deployment.block, kept_totals(ledger)),
            settlements=Settlements(settings.deployment.block),
        )
        hearing = Hearing(self._pulse, self._notices)
        self._driver = Driver(
            ledger,
            signer,
            settings.deployment.domain(),
            self._follower.moment,
            hearing,
            elsewhere=folder.marker_elsewhere(settings, signer.address),
        )
        self._driver.on_change = self._pulse.beat
        self._paying = Paying(
            self._driver,
            PaymentIds(ledger),
            self._follower.moment,
            self._pulse,
            self._payable,
        )
        self._submissions = Submissions(ledger, self._driver, self._pulse, self._notices)
        self._requests = Requests(
            ledger, self._driver, self._follower.moment, self._pulse, self._notices
        )
        self._guard = Guard(
            transactions,
            settings.account,
            self._follower,
            self._pulse,
            self._notices,
            load_shown(ledger),
        )
        self._connection = Connection(settings, signer, self._follower, self._pulse, self._notices)
        self._connection.attach(self._driver, hearing)
        self._hub_silence = HubSilence(
            ledger, self._driver, self._connection, self._follower, settings.policy
        )
        self._hub_silence.attach(self._guard, self._pulse, self._notices)
        hearing.attach(self._submissions, self._requests, self._guard)
        self.towers = Towers(folder, signer, self._driver, ledger, self._pulse, self._notices)
        self._taking_out = TakingOut(
            self._driver, self._connection, self._follower, self._guard, self._pulse
        )

    @property
    def account(self) -> Address:
        """The address that owns this wallet's money."""
        return self.settings.account

    # -- joining ----------------------------------------------------------------------------

    async def join(self, *, timeout_seconds: float | None = None) -> ChannelId:
        """Wait until there is a channel to use, and ask the hub for one if there is none.

        Raises `TookTooLong`, and `Refused` with the hub's reason if it opens none.
        """
        connection = self._connection
        connection.refusal = None
        connection.joining += 1
        self._pulse.beat()
        try:
            with self._limit(timeout_seconds or self.timing.join_seconds, "joining", waiting.JOIN):
                await self._pulse.until(
                    lambda: self._can_be_used() or connection.refusal is not None
                )
        finally:
            connection.joining -= 1
        channel = connection.usable()
        if channel is None:
            raise self._connection.refusal or NotJoined("the hub opened no channel")
        return channel.id

    def _can_be_used(self) -> bool:
        """Whether there is a channel, and a chain view that receipts and requests can name."""
        return self._connection.usable() is not None and self._follower.moment().head_seen > 0

    @contextlib.contextmanager
    def _limit(self, seconds: float, what: str, remedy: str) -> Iterator[None]:
        try:
            with trio.fail_after(seconds):
                yield
        except trio.TooSlowError:
            trouble = self._connection.trouble or self._follower.trouble
            because = f" ({trouble.text})" if trouble is not None else ""
            raise TookTooLong(f"{what} took over {seconds:g} s{because}", remedy=remedy) from None

    # -- readings ---------------------------------------------------------------------------

    async def submit(
        self,
        readings: Sequence[Record] | bytes,
        submission: bytes | None = None,
        *,
        pack_format: PackFormat = PackFormat.JSON,
    ) -> bytes:
        """Queue a pack of readings and return its 16-byte id once it is on disk.

        The same id again is the same submission. `pack_format` says how bytes are written.
        Raises `MalformedReading`, `SubmissionConflict`, `QueueFull`, `MalformedSubmissionId`.
        """
        pack = pack_of(readings, pack_format, now=self._follower.moment().now)
        return await self._submissions.submit(pack, submission)

    def outcome(self, submission: bytes) -> SubmissionOutcome:
        """What became of a submission so far; raises `UnknownSubmission`."""
        return self._submissions.outcome(submission)

    async def wait_outcome(
        self, submission: bytes, *, timeout_seconds: float = float("inf")
    ) -> SubmissionOutcome:
        """Wait until the hub has answered; raises `UnknownSubmission`, `TookTooLong`."""
        with self._limit(timeout_seconds, "the hub's answer", waiting.QUEUE):
            return await self._submissions.wait_outcome(submission)

    async def wait_queue_empty(self, *, timeout_seconds: float = float("inf")) -> None:
        """Wait until every submission has its outcome; raises `TookTooLong`."""
        with self._limit(timeout_seconds, "emptying the queue", waiting.QUEUE):
            await self._pulse.until(lambda: self._submissions.waiting == 0)

    # -- paying -----------------------------------------------------------------------------

    async def pay(
        self,
        amount_ucent: int,
        purpose: str,
        payment_id: bytes | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> SentPayment:
        """Pay the hub for use and wait until it has acknowledged.

        The same 16-byte `payment_id` again is the same payment, also after a crash in between;
        raises `PaymentIdConflict`, `MalformedPaymentId`.
        Raises `SentNoAnswer` with the payment if it does not in time: the payment stays spent.
        Raises `NotJoined`, `NotNow`, `InsufficientBalance`, `AmountOutOfRange`, `BadPurpose`
        before anything is promised.
        """
        kept = self._paying.once(amount_ucent, purpose, payment_id)
        return await self._acknowledged(kept.channel, kept.nonce, amount_ucent, timeout_seconds)

    async def pay_many(
        self, orders: Sequence[tuple[int, str]], *, timeout_seconds: float | None = None
    ) -> list[SentPayment]:
        """Pay several amounts, each with its purpose and receipt, under one signature.

        All of them are promised or none is. Raises as `pay`, and `NothingToPay`,
        `TooManyUnacknowledged`; `SentNoAnswer` with all of them if the last is not acknowledged
        in time.
        """
        channel, nonce = self._paying.many(orders)
        amounts = [amount_ucent for amount_ucent, _ in orders]
        limit = timeout_seconds or self.timing.pay_seconds
        return await self._paying.acknowledged(channel, nonce, amounts, limit)

    def _payable(self) -> Channel:
        channel = self._connection.usable() or self._connection.held()
        if channel is None:
            raise NotJoined("this wallet holds no channel")
        return channel

    async def _acknowledged(
        self, channel: ChannelId, nonce: int, amount_ucent: int, timeout_seconds: float | None
    ) -> SentPayment:
        limit = timeout_seconds or self.timing.pay_seconds
        (payment,) = await self._paying.acknowledged(channel, nonce, [amount_ucent], limit)
        return payment

    async def request(self, amount_ucent: int, purpose: str) -> PaymentAsk:
        """Ask the hub to pay us; it is sent when there is a connection.

        Raises `NotJoined`, `AmountOutOfRange`, `BadPurpose`.
        """
        return await self._requests.ask(self._payable(), amount_ucent, purpose)

    def requests(self) -> list[PaymentAsk]:
        """All requests, ours and the hub's, as they stand now."""
        return self._requests.all()

    async def answer(self, request: bytes, *, timeout_seconds: float | None = None) -> SentPayment:
        """Pay what the hub asked for; raises `UnknownRequest`, `RequestDecided`, and as `pay`."""
        ask = self._requests.get(request, ours=False)
        channel, nonce = self._requests.pay(request)
        return await self._acknowledged(channel, nonce, ask.amount_ucent, timeout_seconds)

    async def refuse(self, request: bytes, text: str = "the wallet's owner refused it") -> None:
        """Refuse what the hub asked for; raises `UnknownRequest`, `RequestDecided`."""
        await self._requests.refuse(request, text)

    # -- being paid -------------------------------------------------------------------------

    def receive(self, *, from_start: bool = False) -> Receiving:
        """Payments as they come in, each once, in order for each channel: `async for` over it.

        Starts with the next one, or with the first that was ever received.
        """
        return Receiving(self._ledger, self._driver, self._pulse, from_start=from_start)

    # -- looking ----------------------------------------------------------------------------

    def balance(self) -> Balance:
        """What is pending, in channels and on the chain, in µ¢."""
        return balance_of(
            self._driver.channels.values(),
            requests=self._requests.all(),
            submissions_waiting=self._submissions.waiting,
            sent_unacknowledged_ucent=unacknowledged_ucent(self._ledger, self.channels()),
            funds=self._follower.funds,
        )

    def channels(self) -> list[Channel]:
        """Every channel that this wallet holds or held."""
        return list(self._driver.channels.values())

    def status(self) -> dict[str, Any]:
        """How the wallet is doing, as plain values for people and programs."""
        moment = self._follower.moment()
        trouble, chain_trouble = self._connection.trouble, self._follower.trouble
        return {
            "wallet": address_to_hex(self.signer),
            "account": address_to_hex(self.account),
            "hub": {
                "address": str(self.settings.hub),
                "state": self._connection.state.value,
                "trouble": None if trouble is None else str(trouble),
                "silent_seconds": self._hub_silence.seconds,
            },
            "chain": {
                "head_block": moment.head_block,
                "age_seconds": moment.view_age_seconds() if moment.head_seen else None,
                "trouble": None if chain_trouble is None else str(chain_trouble),
            },
            "restored": self._driver.in_doubt,
            "running_twice": self._connection.twin.record(),
            "submissions": {
                "waiting": self._submissions.waiting,
                "in_flight": self._submissions.in_flight,
            },
            "towers": self.towers.rows(),
            "channels": [channel_record(channel) for channel in self.channels()],
        }

    def receipts(self) -> Iterator[str]:
        """Every payment of both lanes as a line of a receipts file (docs/protocol.md)."""
        for line in receipt_lines(self._ledger):
            yield json.dumps(line)

    def listen(self) -> trio.MemoryReceiveChannel[Notice]:
        """What happens from now on, for people to read; close it when done."""
        return self._notices.listen()

    # -- taking out -------------------------------------------------------------------------

    async def withdraw(
        self,
        amount_ucent: int,
        channel: ChannelId | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Withdrawn:
        """Take money out of the open channel, in agreement with the hub.

        Raises `TookTooLong` (it may still happen), and as `TakingOut.withdraw`.
        """
        channel_id = self._which(channel)
        limit = timeout_seconds or self.timing.close_seconds
        with self._limit(limit, "withdrawing", waiting.WITHDRAWAL):
            return await self._taking_out.withdraw(channel_id, amount_ucent)

    async def claim(self, *, timeout_seconds: float | None = None) -> int:
        """Take what the contract could not pay out before; returns µ¢.

        Raises `NothingToClaim`, `ChainError`, `TookTooLong`.
        """
        with self._limit(timeout_seconds or self.timing.chain_seconds, "claiming", waiting.CHAIN):
            return await self._taking_out.claim()

    # -- closing ----------------------------------------------------------------------------

    async def close(
        self, channel: ChannelId | None = None, *, timeout_seconds: float | None = None
    ) -> ChannelId:
        """Close in agreement with the hub and wait until the chain shows it.

        Raises `TookTooLong` with advice; the wish to close stays, also across a restart.
        """
        channel_id = self._which(channel)
        limit = timeout_seconds or self.timing.close_seconds
        with self._limit(limit, "closing in agreement", waiting.CLOSE):
            while chain_status(self._driver.get(channel_id)) is not ChainStatus.CLOSED:
                state = self._driver.get(channel_id)
                # A close in agreement pays what was accepted: less than a hub has shown is no end.
                if can_ask_close(state) and not self._guard.unsent_ucent(state):
                    self._driver.feed(channel_id, AskedClose())
                await self._pulse.wait()
        await self._driver.wait_durable()
        return channel_id

    async def start_close(
        self, channel: ChannelId | None = None, *, timeout_seconds: float | None = None
    ) -> ChannelId:
        """Close without the hub: settle what we received and start the challenge window.

        Raises `ChainError`, `AlreadyClosed`, `TookTooLong`.
        """
        channel_id = self._which(channel)
        with self._limit(timeout_seconds or self.timing.chain_seconds, "starting", waiting.CHAIN):
            await self._guard.start_close(self._driver, channel_id)
        return channel_id

    async def finish_close(
        self, channel: ChannelId | None = None, *, timeout_seconds: float | None = None
    ) -> ChannelId:
        """End a channel whose window has passed.

        Raises `WindowNotOver`, `NotClosing`, `ChainError`, `TookTooLong`.
        """
        channel_id = self._which(channel)
        with self._limit(timeout_seconds or self.timing.chain_seconds, "finishing", waiting.CHAIN):
            await self._guard.finish_close(self._driver, channel_id)
        return channel_id

    def _which(self, channel: ChannelId | None) -> ChannelId:
        """The named channel, or the only one that has not ended."""
        if channel is not None:
            return self._driver.get(channel).id
        open_ones = [c for c in self.channels() if chain_status(c) is not ChainStatus.CLOSED]
        if not open_ones:
            raise NotJoined("this wallet holds no channel that has not ended")
        if len(open_ones) > 1:
            ids = ", ".join(to_hex(c.id) for c in open_ones)
            raise UnknownChannel(f"several channels are open, name one of {ids}")
        return open_ones[0].id

    # -- running ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything that goes on in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._driver.run)
            nursery.start_soon(self._follower.run, self._driver)
            nursery.start_soon(self._connection.run)
            nursery.start_soon(self._connection.adopt_announced)
            nursery.start_soon(self._submissions.run, self._connection.send)
            nursery.start_soon(self._requests.run, self._connection.send)
            nursery.start_soon(self._guard.run, self._driver)
            nursery.start_soon(self._hub_silence.run)
            nursery.start_soon(self.towers.run)
            nursery.start_soon(tell_of_doubt, self._driver, self._notices, self._pulse)

    def tell_of_stranger(self) -> None:
        """Tell the owner that another program sends transactions with the wallet's key."""
        tell_of_stranger(self._notices)

    async def wait_durable(self) -> None:
        """Wait until everything that is known now is on disk; raises `LedgerUnusable`."""
        await self._driver.wait_durable()

    async def flush(self) -> None:
        """Make durable what is left, at the end."""
        await self._driver.flush()


@contextlib.asynccontextmanager
async def open_wallet(
    path: Path,
    password: str,
    *,
    chain: ChainPort | None = None,
    transactions: TransactionPort | None = None,
) -> AsyncIterator[Wallet]:
    """Run the wallet of a folder while the block lasts, and own the folder.

    `chain` and `transactions` replace the RPC endpoint of the settings. Raises what `Folder` and
    `keystore.unlock` raise, `LedgerUnusable`, and in the block whatever ended the background.
    """
    folder = Folder(path=path)
    with folder.locked(), contextlib.ExitStack() as stack:
        settings = folder.settings()
        signer = await trio.to_thread.run_sync(keystore.unlock, folder.keystore_file, password)
        ledger = Ledger(folder.ledger_file, schema=SCHEMA)
        stack.callback(ledger.close)
        async with contextlib.AsyncExitStack() as connections:
            reads, sends, sender = await connections.enter_async_context(
                open_endpoint(folder, settings, signer, chain, transactions)
            )
            wallet = Wallet(folder, signer, ledger, reads, sends)
            if sender is not None:
                sender.on_stranger = wallet.tell_of_stranger
            try:
                with plain_errors():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(wallet.run)
                        if sender is not None:
                            nursery.start_soon(sender.resume)
                        yield wallet
                        await wallet.towers.hand_over()
                        nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):  # one commit, which is short
                    await wallet.flush()
