"""The shell around the core: feeds it events, signs and verifies, commits in groups, then speaks.

Rule: effects are carried out only after the batch that holds their state is durable. One task
owns every channel of the process; events of one batch never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from ..eip712 import Domain, close_digest
from ..errors import LocalError, PeerError
from ..events import (
    AskedPay,
    CloseSigned,
    CloseVerified,
    Disconnect,
    Effect,
    Event,
    Linked,
    Received,
    RecognisedOwn,
    RecogniseOwn,
    RecordReceived,
    RecordSent,
    Send,
    SendStored,
    SignClose,
    Signed,
    SignVoucher,
    SubmitClose,
    TellAcknowledged,
    TellReceived,
    TellStopped,
    Unlinked,
    Unverifiable,
    Verified,
    VerifyClose,
    VerifyVoucher,
)
from ..frames import FRAME_BYTES_MAX
from ..ids import ChannelId
from ..messages import Error, Message, Update
from ..packed import PAYMENT_OVERHEAD_BYTES, PAYMENTS_MAX
from ..signing import BadSignature, Signer, sign_voucher, verify_digest, verify_voucher
from ..state import Channel, CloseTerms, Moment, SignedClose
from ..transition import step
from ..voucher import LaneTotal, Payment, UnverifiedVoucher
from .ledger import RECEIVED, SENT, Ledger, Statement, StoredPayment
from .wire import Wire

UPDATE_PAYMENT_BYTES_MAX = FRAME_BYTES_MAX - 1024
"""Room for an update's payments in one frame, less its head and RLP's prefixes."""


class UnknownChannel(LocalError):
    """A channel id that this party does not hold."""

    code = "unknown-channel"
    remedy = "list the channels and use one of their ids"


class Application(Protocol):
    """What a wallet or a hub does with what the channels tell it; called after the commit."""

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        """Take note of payments that came in, verified and durable."""

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        """Take note that the peer holds our payments up to a nonce."""

    def on_stopped(self, channel: Channel, reason: str) -> None:
        """Take note that a channel signs and accepts nothing any more."""

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        """Submit a co-signed close to the chain, in a task of the application's own."""


@dataclass(slots=True, kw_only=True)
class _Batch:
    channels: dict[ChannelId, Channel] = field(default_factory=dict)
    payments: list[tuple[ChannelId, int, StoredPayment]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    effects: list[tuple[Channel, Effect]] = field(default_factory=list)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def empty(self) -> bool:
        return not (
            self.channels or self.payments or self.statements or self.effects or self.callbacks
        )


class Driver:
    """Every channel of one party: their states, their connections and their group commits."""

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        domain: Domain,
        moment: Callable[[], Moment],
        application: Application,
    ) -> None:
        self.channels: dict[ChannelId, Channel] = {c.id: c for c in ledger.load_channels()}
        self._ledger = ledger
        self._signer = signer
        self._separator = domain.separator()
        self._moment = moment
        self._application = application
        self._wires: dict[ChannelId, Wire] = {}
        self._batch = _Batch()
        self._wake = trio.Event()

    # -- events in --------------------------------------------------------------------------

    def add(self, channel: Channel) -> None:
        """Hold a new channel, whose terms have been checked; durable with the next commit."""
        self._set(channel)

    def get(self, channel: ChannelId) -> Channel:
        """Return the newest state of a channel; raises `UnknownChannel`."""
        try:
            return self.channels[channel]
        except KeyError:
            raise UnknownChannel(f"channel 0x{channel.hex()} is unknown") from None

    def link(self, channel: ChannelId, wire: Wire) -> None:
        """Start speaking for a channel on an authenticated connection; the newest one wins."""
        if channel in self._wires:
            self.feed(channel, Unlinked())
        self._wires[channel] = wire
        self.feed(channel, Linked())

    def unlink(self, wire: Wire) -> None:
        """Forget a connection that ended."""
        for channel in [c for c, w in self._wires.items() if w is wire]:
            del self._wires[channel]
            self.feed(channel, Unlinked())

    def linked(self, channel: ChannelId, wire: Wire) -> bool:
        """Whether this connection speaks for the channel."""
        return self._wires.get(channel) is wire

    def feed(self, channel: ChannelId, event: Event) -> None:
        """Apply one event; its effects follow the commit; raises what `step` raises."""
        self._apply(channel, event, {})

    def receive(self, events: Iterable[tuple[ChannelId, Received]]) -> None:
        """Apply all messages of one read; of each lane only the newest signature is checked."""
        newest: dict[ChannelId, UnverifiedVoucher] = {}
        try:
            for channel, event in events:
                if not isinstance(event.message, Update):
                    self._verify(newest)
                self._apply(channel, event, newest)
        finally:
            self._verify(newest)

    def pay(
        self, channel: ChannelId, payments: tuple[Payment, ...], statements: Iterable[Statement]
    ) -> int:
        """Promise payments, all or none, with statements in the same commit; their first nonce."""
        first_nonce = self.get(channel).sent.promised.nonce + 1
        self.feed(channel, AskedPay(payments=payments))
        self._batch.statements.extend(statements)
        return first_nonce

    def store(
        self, statements: Iterable[Statement], then: Callable[[], None] | None = None
    ) -> None:
        """Commit statements with the next batch; `then` is called once they are durable."""
        self._batch.statements.extend(statements)
        if then is not None:
            self._batch.callbacks.append(then)
        self._wake.set()

    async def wait_durable(self) -> None:
        """Wait until everything fed so far is committed."""
        if not self._batch.empty:
            await self._batch.done.wait()

    # -- the core's questions ---------------------------------------------------------------

    def _apply(
        self, channel_id: ChannelId, event: Event, newest: dict[ChannelId, UnverifiedVoucher]
    ) -> None:
        result = step(self.get(channel_id), event, self._moment())
        self._set(result.state)
        for effect in result.effects:
            match effect:
                case SignVoucher(total=total):
                    self._sign(channel_id, total)
                case VerifyVoucher(voucher=voucher):
                    newest[channel_id] = voucher
                case RecogniseOwn(voucher=voucher):
                    own = verify_voucher(self._separator, voucher, self._signer.address)
                    self._apply(channel_id, RecognisedOwn(voucher=own), newest)
                case SignClose(terms=terms):
                    signature = self._signer.sign_digest(self._close_digest(channel_id, terms))
                    self._apply(channel_id, CloseSigned(terms=terms, signature=signature), newest)
                case VerifyClose(terms=terms, signature=signature):
                    peer = result.state.terms.signer(result.state.side.other)
                    verify_digest(self._close_digest(channel_id, terms), signature, peer)
                    self._apply(channel_id, CloseVerified(terms=terms, signature=signature), newest)
                case RecordSent(payments=payments, totals=totals):
                    self._record(channel_id, SENT, payments, totals)
                case RecordReceived(payments=payments, totals=totals):
                    self._record(channel_id, RECEIVED, payments, totals)
                case _:
                    self._batch.effects.append((result.state, effect))

    def _set(self, channel: Channel) -> None:
        self.channels[channel.id] = channel
        self._batch.channels[channel.id] = channel
        self._wake.set()

    def _sign(self, channel_id: ChannelId, total: LaneTotal) -> None:
        channel = self.channels[channel_id]
        voucher = sign_voucher(
            self._separator,
            self._signer,
            channel=channel_id,
            payer=channel.our_account,
            total=total,
        )
        self.feed(channel_id, Signed(voucher=voucher))

    def _verify(self, newest: dict[ChannelId, UnverifiedVoucher]) -> None:
        for channel_id, unverified in newest.items():
            channel = self.channels[channel_id]
            signer = channel.terms.signer(channel.side.other)
            try:
                voucher = verify_voucher(self._separator, unverified, signer)
            except BadSignature:
                self.feed(channel_id, Unverifiable())
            else:
                self.feed(channel_id, Verified(voucher=voucher))
        newest.clear()

    def _close_digest(self, channel_id: ChannelId, terms: CloseTerms) -> bytes:
        return close_digest(
            self._separator,
            channel=channel_id,
            transferred_a_ucent=terms.transferred_a_ucent,
            transferred_b_ucent=terms.transferred_b_ucent,
            expires=terms.expires,
        )

    def _record(
        self,
        channel_id: ChannelId,
        direction: int,
        payments: tuple[Payment, ...],
        totals: tuple[LaneTotal, ...],
    ) -> None:
        self._batch.payments.extend(
            (channel_id, direction, StoredPayment(payment=payment, total=total))
            for payment, total in zip(payments, totals, strict=True)
        )

    # -- commit, then speak -----------------------------------------------------------------

    async def run(self) -> None:
        """Commit batch after batch until cancelled; the next begins when the last has ended.

        A commit that fails ends this task with `LedgerUnusable`: nothing is acknowledged, and
        what was accepted in memory only must not be built upon.
        """
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._commit()

    async def _commit(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.empty:
            batch.done.set()
            return
        with trio.CancelScope(shield=True):  # a commit in a thread cannot be taken back
            await trio.to_thread.run_sync(
                self._ledger.commit, batch.channels.values(), batch.payments, batch.statements
            )
        batch.done.set()
        for callback in batch.callbacks:
            callback()
        for channel, effect in batch.effects:
            self._carry_out(channel, effect)

    async def flush(self) -> None:
        """Commit what is left, at the end of a process that stops in order."""
        await self._commit()

    def _carry_out(self, channel: Channel, effect: Effect) -> None:
        match effect:
            case Send(message=message):
                self._send(channel.id, message)
            case SendStored(first_nonce=first_nonce):
                self._send_stored(channel, first_nonce)
            case SubmitClose(close=close):
                self._application.on_submit_close(channel, close)
            case TellReceived(first_nonce=first_nonce, payments=payments):
                self._application.on_received(channel, first_nonce, payments)
            case TellAcknowledged(nonce=nonce):
                self._application.on_acknowledged(channel, nonce)
            case TellStopped(reason=reason):
                self._application.on_stopped(channel, reason)
            case Disconnect(channel=channel_id, reason=reason):
                self._disconnect(channel_id, reason)
            case _:
                raise TypeError(f"{type(effect).__name__} is not carried out after a commit")

    def _send(self, channel: ChannelId, message: Message) -> None:
        wire = self._wires.get(channel)
        if wire is None:
            return  # resent from the store when the peer is back and shows what it holds
        try:
            wire.send(message)
        except PeerError:
            self.unlink(wire)
            wire.close_soon()

    def _disconnect(self, channel: ChannelId, reason: str) -> None:
        wire = self._wires.get(channel)
        if wire is not None:
            text = "reconnect and send what verifies"
            self._send(
                channel, Error(code="bad-signature", channel=channel, text=reason, what_to_do=text)
            )
            self.unlink(wire)
            wire.close_soon()

    def _send_stored(self, channel: Channel, first_nonce: int) -> None:
        """Send stored payments in updates that fit a frame, each under a signature of its own.

        Signing an older total again promises nothing new: a later voucher covers it.
        """
        newest = channel.sent.voucher
        chunk: list[StoredPayment] = []
        size = 0
        for stored in self._ledger.payments(channel.id, SENT, first_nonce=first_nonce):
            if newest is None or stored.total.nonce > newest.total.nonce:
                break  # committed by a later batch, whose own effects send it
            bytes_needed = PAYMENT_OVERHEAD_BYTES + len(stored.payment.receipt.cbor)
            if chunk and (
                size + bytes_needed > UPDATE_PAYMENT_BYTES_MAX or len(chunk) == PAYMENTS_MAX
            ):
                self._send(channel.id, self._update_of(channel, chunk))
                chunk, size = [], 0
            chunk.append(stored)
            size += bytes_needed
        if chunk:
            self._send(channel.id, self._update_of(channel, chunk))

    def _update_of(self, channel: Channel, chunk: list[StoredPayment]) -> Update:
        voucher = sign_voucher(
            self._separator,
            self._signer,
            channel=channel.id,
            payer=channel.our_account,
            total=chunk[-1].total,
        )
        return Update(
            channel=channel.id,
            first_nonce=chunk[0].total.nonce,
            signature=voucher.signature,
            payments=tuple(stored.payment for stored in chunk),
        )
