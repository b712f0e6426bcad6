"""The shell around the core: feeds it events, signs and verifies, commits in groups, then speaks.

Rule: effects are carried out only after the batch that holds their state is durable. One task
owns every channel of the process; events of one batch never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import trio

from ..eip712 import Domain, close_digest, withdrawal_digest
from ..errors import InvariantBroken, LocalError, PeerError
from ..events import (
    AskedClose,
    AskedPay,
    AskedWithdraw,
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
    SignWithdrawal,
    SubmitClose,
    SubmitWithdrawal,
    TellStopped,
    Unlinked,
    Unverifiable,
    Verified,
    VerifyClose,
    VerifyVoucher,
    VerifyWithdrawal,
    WithdrawalSigned,
    WithdrawalVerified,
)
from ..ids import ChannelId, address_to_hex
from ..messages import Error, Message, Update
from ..refusals import say
from ..signing import BadSignature, Signer, sign_voucher, verify_digest, verify_voucher
from ..state import Channel, CloseTerms, Moment, WithdrawalTerms
from ..transition import step
from ..voucher import LaneTotal, Payment, UnverifiedVoucher, Voucher
from .application import Application, Countersigning, tell
from .batch import Batch
from .continuity import Continuity
from .ledger import RECEIVED, SENT, Ledger, LedgerUnusable, Statement, StoredPayment
from .resending import Resending
from .wire import Wire


class UnknownChannel(LocalError):
    """A channel id that this party does not hold."""

    code = "unknown-channel"
    remedy = "list the channels and use one of their ids"


class ChannelKnown(LocalError):
    """A channel that is held already, with a state that must not be forgotten."""

    code = "channel-known"
    remedy = "use the channel that is held; adding it anew would sign its first payments again"


class StrangerOnWire(LocalError):
    """A connection whose authenticated signer is not the channel's other party."""

    code = "stranger-on-wire"
    remedy = "link a channel only to a connection of its own peer"


class Driver:
    """Every channel of one party: their states, their connections and their group commits."""

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        domain: Domain,
        moment: Callable[[], Moment],
        application: Application,
        *,
        elsewhere: Path | None = None,
    ) -> None:
        """Take up what the ledger holds; `elsewhere` keeps its count of offers a second time."""
        ledger.take_over()
        self._continuity = Continuity(ledger, elsewhere=elsewhere)
        doubt_ends = self._continuity.doubt_ends
        self.channels: dict[ChannelId, Channel] = {
            c.id: replace(c, doubt_ends=doubt_ends) for c in ledger.load_channels()
        }
        self._ledger = ledger
        self._signer = signer
        self._separator = domain.separator()
        self._moment = moment
        self._application = application
        self._wires: dict[ChannelId, Wire] = {}
        self._resending = Resending(ledger, self._send_slice)
        self._batch = Batch()
        self._committing: Batch | None = None
        self._one_commit = trio.Lock()
        self._failed: BaseException | None = None
        self._wake = trio.Event()
        self.on_change: Callable[[], None] = lambda: None
        """Called when a channel's state has changed in memory; set it before the first event."""
        self.countersigning: Countersigning | None = None
        """Who decides, beside the core, which withdrawals of the peers' are countersigned."""

    @property
    def in_doubt(self) -> bool:
        """Whether this database was restored, so that nothing is accepted or signed yet."""
        return self._continuity.doubt_ends is not None

    # -- events in --------------------------------------------------------------------------

    def add(self, channel: Channel) -> None:
        """Hold a new channel, whose terms have been checked; durable with the next commit.

        Raises `ChannelKnown`: a state that is held is never replaced.
        """
        self._check_usable()
        if channel.id in self.channels:
            raise ChannelKnown(f"channel 0x{channel.id.hex()} is held already")
        self._set(replace(channel, doubt_ends=self._continuity.doubt_ends))

    def get(self, channel: ChannelId) -> Channel:
        """Return the newest state of a channel; raises `UnknownChannel`."""
        try:
            return self.channels[channel]
        except KeyError:
            raise UnknownChannel(f"channel 0x{channel.hex()} is unknown") from None

    def link(self, channel: ChannelId, wire: Wire) -> None:
        """Start speaking for a channel on its peer's connection; the newest one wins.

        Raises `StrangerOnWire`, and `NotNow` where the channel has stopped.
        """
        state = self.get(channel)
        if wire.peer != state.terms.signer(state.side.other):
            who = "nobody" if wire.peer is None else address_to_hex(wire.peer)
            raise StrangerOnWire(f"the connection is with {who}, not with the channel's peer")
        self._resending.stop(channel)
        if self._wires.pop(channel, None) is not None:
            self.feed(channel, Unlinked())
        self._wires[channel] = wire
        try:
            self.feed(channel, Linked())
        except LocalError:
            del self._wires[channel]
            raise

    def unlink(self, wire: Wire) -> None:
        """Forget a connection that ended."""
        for channel in [c for c, w in self._wires.items() if w is wire]:
            del self._wires[channel]
            self._resending.stop(channel)
            self.feed(channel, Unlinked())

    def linked(self, channel: ChannelId, wire: Wire) -> bool:
        """Whether this connection speaks for the channel."""
        return self._wires.get(channel) is wire

    def feed(self, channel: ChannelId, event: Event) -> None:
        """Apply one event; its effects follow the commit; raises what `step` raises."""
        if not isinstance(event, Unlinked):  # which ends every connection, after a failure too
            self._check_usable()
        newest: dict[ChannelId, UnverifiedVoucher] = {}
        try:
            self._apply(channel, event, newest)
        except InvariantBroken:  # the channel has stopped; who asked for something must know
            if isinstance(event, AskedPay | AskedClose | AskedWithdraw):
                raise
        self._verify(newest)

    def receive(self, events: Iterable[tuple[ChannelId, Received]]) -> None:
        """Apply all messages of one read; of each lane only the newest signature is checked."""
        self._check_usable()
        newest: dict[ChannelId, UnverifiedVoucher] = {}
        try:
            for channel, event in events:
                if not isinstance(event.message, Update):
                    self._verify(newest)
                with suppress(InvariantBroken):  # the channel has stopped, its neighbours go on
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
        self._check_usable()
        self._batch.statements.extend(statements)
        if then is not None:
            self._batch.callbacks.append(then)
        self._wake.set()

    async def wait_durable(self) -> None:
        """Wait until everything fed so far is committed; raises `LedgerUnusable` if it never is."""
        newest = self._committing if self._batch.empty else self._batch
        if newest is not None:
            await newest.done.wait()
        self._check_usable()

    # -- the core's questions ---------------------------------------------------------------

    def _apply(
        self, channel_id: ChannelId, event: Event, newest: dict[ChannelId, UnverifiedVoucher]
    ) -> None:
        before = self.get(channel_id)
        try:
            result = step(before, event, self._moment())
        except InvariantBroken as broken:
            self._stop(before, broken)
            raise
        if result.state is not before:  # a commit for nothing costs a device's flash its life
            self._set(result.state)
        if result.state.doubt_ends != before.doubt_ends:
            noted = self._continuity.note(result.state.doubt_ends, was=before.doubt_ends)
            self._batch.statements.extend(noted)
        for effect in result.effects:
            self._follow(result.state, effect, newest)

    def _follow(
        self, state: Channel, effect: Effect, newest: dict[ChannelId, UnverifiedVoucher]
    ) -> None:
        """Answer the core's question at once, or keep an effect until the commit."""
        match effect:
            case SignVoucher(total=total):
                self._apply(state.id, Signed(voucher=self._sign(state, total)), newest)
            case VerifyVoucher(voucher=voucher):
                newest[state.id] = voucher
            case RecogniseOwn(voucher=voucher):
                own = verify_voucher(self._separator, voucher, self._signer.address)
                self._apply(state.id, RecognisedOwn(voucher=own), newest)
            case SignClose(terms=terms):
                signature = self._signer.sign_digest(self._close_digest(state.id, terms))
                self._batch.offers += 1
                self._apply(state.id, CloseSigned(terms=terms, signature=signature), newest)
            case VerifyClose(terms=terms, signature=signature):
                peer = state.terms.signer(state.side.other)
                verify_digest(self._close_digest(state.id, terms), signature, peer)
                self._apply(state.id, CloseVerified(terms=terms, signature=signature), newest)
            case SignWithdrawal(terms=terms):
                self._sign_withdrawal(state, terms, newest)
            case VerifyWithdrawal(terms=terms, signature=signature):
                self._verify_withdrawal(state, terms, signature, newest)
            case RecordSent(payments=payments, totals=totals):
                self._batch.record(state.id, SENT, payments, totals)
            case RecordReceived(payments=payments, totals=totals):
                self._batch.record(state.id, RECEIVED, payments, totals)
            case _:
                self._later(state, effect)

    def _sign_withdrawal(
        self,
        state: Channel,
        terms: WithdrawalTerms,
        newest: dict[ChannelId, UnverifiedVoucher],
    ) -> None:
        if self.countersigning is not None and terms.side is not state.side:
            self._batch.statements.extend(self.countersigning.countersigned(state))
        signature = self._signer.sign_digest(self._withdrawal_digest(state, terms))
        self._batch.offers += 1
        self._apply(state.id, WithdrawalSigned(terms=terms, signature=signature), newest)

    def _verify_withdrawal(
        self,
        state: Channel,
        terms: WithdrawalTerms,
        signature: bytes,
        newest: dict[ChannelId, UnverifiedVoucher],
    ) -> None:
        """Verify the peer's signature, unless it is on more than is served: it is told why."""
        if self.countersigning is not None and terms.side is not state.side:
            problem = self.countersigning.refusal(state, terms)
            if problem is not None:
                for effect in say(state, problem).effects:
                    self._later(state, effect)
                return
        peer = state.terms.signer(state.side.other)
        verify_digest(self._withdrawal_digest(state, terms), signature, peer)
        self._apply(state.id, WithdrawalVerified(terms=terms, signature=signature), newest)

    def _stop(self, state: Channel, broken: InvariantBroken) -> None:
        """Stop one channel whose state is impossible, before the step; the others go on."""
        stopped = replace(state, stopped=broken.text)
        self._set(stopped)
        self._later(stopped, TellStopped(reason=broken.text))

    def _later(self, state: Channel, effect: Effect) -> None:
        self._batch.effects.append((state, effect, self._wires.get(state.id)))
        self._wake.set()

    def _set(self, channel: Channel) -> None:
        self.channels[channel.id] = channel
        self._batch.channels[channel.id] = channel
        self._wake.set()
        self.on_change()

    def _sign(self, channel: Channel, total: LaneTotal) -> Voucher:
        return sign_voucher(
            self._separator,
            self._signer,
            channel=channel.id,
            payer=channel.our_account,
            total=total,
        )

    def _verify(self, newest: dict[ChannelId, UnverifiedVoucher]) -> None:
        for channel_id, unverified in newest.items():
            channel = self.channels[channel_id]
            signer = channel.terms.signer(channel.side.other)
            try:
                voucher = verify_voucher(self._separator, unverified, signer)
            except BadSignature as error:
                self.feed(channel_id, Unverifiable(reason=f"of an update: {error.text}"))
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

    def _withdrawal_digest(self, channel: Channel, terms: WithdrawalTerms) -> bytes:
        return withdrawal_digest(
            self._separator,
            channel=channel.id,
            account=channel.terms.account(terms.side),
            total_ucent=terms.total_ucent,
            expires=terms.expires,
        )

    # -- commit, then speak -----------------------------------------------------------------

    async def run(self) -> None:
        """Commit batch after batch until cancelled; the next begins when the last has ended.

        A commit that fails ends this task with `LedgerUnusable`: nothing is acknowledged, nothing
        more is accepted or committed, for it would build upon what was never stored.
        """
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._commit()

    async def _commit(self) -> None:
        async with self._one_commit:
            if self._failed is not None or self._batch.empty:
                return
            batch, self._batch = self._batch, Batch()
            self._committing = batch
            try:
                with trio.CancelScope(shield=True):  # a commit in a thread cannot be taken back
                    await trio.to_thread.run_sync(self._make_durable, batch)
            except BaseException as error:
                self._failed = error
                self._batch.done.set()
                raise
            finally:
                self._committing = None
                batch.done.set()
            for callback in batch.callbacks:
                callback()
            for channel, effect, wire in batch.effects:
                self._carry_out(channel, effect, wire)

    def _make_durable(self, batch: Batch) -> None:
        """Write a batch; where it holds signed offers, count them in the database and beside it."""
        statements = batch.statements
        if batch.offers:
            statements = [*statements, *self._continuity.count(batch.offers)]
        self._ledger.commit(batch.channels.values(), batch.payments, statements)
        if batch.offers:
            self._continuity.mark()

    async def flush(self) -> None:
        """Commit what is left, at the end of a process that stops in order.

        After a commit that failed it does nothing: what is left builds upon what was lost.
        """
        await self._commit()

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise LedgerUnusable(
                "an earlier batch could not be made durable",
                remedy="stop this process, repair the cause, and start again",
            ) from self._failed

    def _carry_out(self, channel: Channel, effect: Effect, wire: Wire | None) -> None:
        match effect:
            case Send(message=message):
                self._send_new(channel.id, message, wire)
            case SendStored(first_nonce=first_nonce):
                self._send_stored(channel, first_nonce, wire)
            case SubmitClose(close=close):
                self._application.on_submit_close(channel, close)
            case SubmitWithdrawal(withdrawal=withdrawal):
                self._application.on_submit_withdrawal(channel, withdrawal)
            case Disconnect(reason=reason):
                self._disconnect(channel.id, reason, wire)
            case _:
                tell(self._application, self._ledger, channel, effect)

    def _send_new(self, channel: ChannelId, message: Message, wire: Wire | None) -> None:
        """Send, but for payments that go with the last slice of what is being sent again."""
        if not isinstance(message, Update) or not self._resending.takes(channel, message):
            self._send(channel, message, wire)

    def _send_stored(self, channel: Channel, first_nonce: int, wire: Wire | None) -> None:
        """Begin to send what is stored; see `Resending`."""
        if wire is not None and self.linked(channel.id, wire):
            self._resending.start(channel.id, wire, first_nonce, channel.sent.total.nonce)

    def _send(self, channel: ChannelId, message: Message, wire: Wire | None) -> None:
        """Send on the connection that the message was meant for, if it still speaks.

        On a newer one it would come before the vouchers are shown. Nothing is lost: what counts
        is resent from the store when the peer shows what it holds.
        """
        if wire is None or not self.linked(channel, wire):
            return
        try:
            wire.send(message)
        except PeerError:
            self.unlink(wire)
            wire.close_soon()

    def _disconnect(self, channel: ChannelId, reason: str, wire: Wire | None) -> None:
        if wire is not None:
            text = "reconnect and send what verifies"
            error = Error(code="bad-signature", channel=channel, text=reason, what_to_do=text)
            self._send(channel, error, wire)
            self.unlink(wire)
            wire.close_soon()

    def _send_slice(self, channel_id: ChannelId, payments: list[StoredPayment], wire: Wire) -> None:
        """Send stored payments under a signature of their own.

        Signing an older total again promises nothing new: a later voucher covers it.
        """
        signature = self._sign(self.get(channel_id), payments[-1].total).signature
        update = Update(
            channel=channel_id,
            first_nonce=payments[0].total.nonce,
            signature=signature,
            payments=tuple(stored.payment for stored in payments),
        )
        self._send(channel_id, update, wire)
