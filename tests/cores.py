"""Two cores joined by a wire in memory: the shell that the driver is, without I/O, step by step.

Rule: what a core decides is in memory until `commit`, which makes it durable and then speaks.
A crash loses everything since the last commit, and every message that has not arrived.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from farthing.channels.client.ledger import RECEIVED, SENT, StoredPayment
from farthing.channels.client.records import channel_from_record, channel_to_record
from farthing.channels.codecs import decode_message, encode_message
from farthing.channels.eip712 import close_digest, withdrawal_digest
from farthing.channels.errors import PeerError
from farthing.channels.events import (
    AskedPay,
    CloseSigned,
    CloseVerified,
    Disconnect,
    Effect,
    Elapsed,
    Event,
    Linked,
    ObservedChannel,
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
    TellAcknowledged,
    TellReceived,
    TellStopped,
    TellStored,
    TellWithdrawal,
    Unlinked,
    Unverifiable,
    Verified,
    VerifyClose,
    VerifyVoucher,
    VerifyWithdrawal,
    WithdrawalSigned,
    WithdrawalVerified,
)
from farthing.channels.ids import ChannelId
from farthing.channels.messages import Error, Message, Update
from farthing.channels.restoring import above, needs_settlements
from farthing.channels.signing import (
    BadSignature,
    Signer,
    sign_voucher,
    verify_digest,
    verify_voucher,
)
from farthing.channels.state import (
    STALE_DIVISOR,
    ChainStatus,
    ChainView,
    Channel,
    CloseTerms,
    Moment,
    Settlement,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.channels.voucher import LaneTotal, Payment, UnverifiedVoucher

from .people import CHANNEL, NOW, SEPARATOR, SIGNERS, TERMS, payment, view

STALE_SECONDS = TERMS.challenge_seconds // STALE_DIVISOR + 1
"""The age of a view on which nothing is signed or accepted."""

RESENT_AT_ONCE = 3
"""Stored payments in one update: few, so that a short lane is resent in several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """What outlives a crash: the channel's record and the payments of both lanes."""

    record: str
    payments: tuple[tuple[StoredPayment, ...], tuple[StoredPayment, ...]] = ((), ())

    def load(self) -> Channel:
        """The channel as after a boot."""

        def unacknowledged(_: ChannelId, acknowledged_nonce: int) -> tuple[LaneTotal, ...]:
            totals = (stored.total for stored in self.payments[SENT])
            return tuple(total for total in totals if total.nonce > acknowledged_nonce)

        return channel_from_record(json.loads(self.record), unacknowledged)


@dataclass(slots=True, kw_only=True)
class Party:
    """One side: its core, what it has committed, and what it has told and submitted."""

    side: Side
    moment: Callable[[], Moment]
    state: Channel
    durable: Durable
    separator: bytes = SEPARATOR
    signers: Mapping[Side, Signer] = field(default_factory=lambda: SIGNERS)
    out: deque[bytes] = field(default_factory=deque)
    said: list[bytes] = field(default_factory=list)
    hangs_up: bool = False
    told: list[int] = field(default_factory=list)
    believed: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """µ¢ of each payment that was ever told, by its number and reference, whatever was restored."""
    heard: list[Error] = field(default_factory=list)
    submitted: list[SignedClose] = field(default_factory=list)
    withdrawing: list[Withdrawal] = field(default_factory=list)
    withdrawn: list[tuple[WithdrawalTerms, bool]] = field(default_factory=list)
    _written: tuple[list[StoredPayment], list[StoredPayment]] = field(
        default_factory=lambda: ([], [])
    )
    _waiting: list[tuple[Channel, Effect]] = field(default_factory=list)

    def feed(self, event: Event) -> None:
        """Apply one event in memory, questions of the core included."""
        newest: list[UnverifiedVoucher] = []
        self._apply(event, newest)
        self._verify(newest)

    def receive(self, payloads: Iterable[bytes]) -> None:
        """Apply all messages of one read, checking only the newest signature."""
        newest: list[UnverifiedVoucher] = []
        try:
            for payload in payloads:
                message = decode_message(payload)
                if isinstance(message, Error):
                    self.heard.append(message)
                    continue
                if not isinstance(message, Update):
                    self._verify(newest)
                self._apply(Received(message=message), newest)  # type: ignore[arg-type]
        finally:
            self._verify(newest)

    def _verify(self, newest: list[UnverifiedVoucher]) -> None:
        if not newest:
            return
        try:
            checked = verify_voucher(
                self.separator, newest[-1], self.signers[self.side.other].address
            )
        except BadSignature as error:
            self.feed(Unverifiable(reason=error.text))
        else:
            self.feed(Verified(voucher=checked))
        newest.clear()

    def _apply(self, event: Event, newest: list[UnverifiedVoucher]) -> None:
        result = step(self.state, event, self.moment())
        self.state = result.state
        for effect in result.effects:
            self._follow(effect, newest)

    def _follow(self, effect: Effect, newest: list[UnverifiedVoucher]) -> None:
        signer, peer = self.signers[self.side], self.signers[self.side.other]
        match effect:
            case SignVoucher(total=total):
                self._apply(Signed(voucher=self._sign(total)), newest)
            case VerifyVoucher(voucher=unverified):
                newest.append(unverified)
            case RecogniseOwn(voucher=unverified):
                own = verify_voucher(self.separator, unverified, signer.address)
                self._apply(RecognisedOwn(voucher=own), newest)
            case SignClose(terms=close):
                signature = signer.sign_digest(self.digest_of(close))
                self._apply(CloseSigned(terms=close, signature=signature), newest)
            case VerifyClose(terms=close, signature=signature):
                verify_digest(self.digest_of(close), signature, peer.address)
                self._apply(CloseVerified(terms=close, signature=signature), newest)
            case SignWithdrawal(terms=wish):
                signature = signer.sign_digest(self.digest_of(wish))
                self._apply(WithdrawalSigned(terms=wish, signature=signature), newest)
            case VerifyWithdrawal(terms=wish, signature=signature):
                verify_digest(self.digest_of(wish), signature, peer.address)
                self._apply(WithdrawalVerified(terms=wish, signature=signature), newest)
            case RecordSent(payments=payments, totals=totals):
                self._written[SENT].extend(stored(payments, totals))
            case RecordReceived(payments=payments, totals=totals):
                self._written[RECEIVED].extend(stored(payments, totals))
            case _:
                self._waiting.append((self.state, effect))

    def _sign(self, total: LaneTotal) -> Any:
        return sign_voucher(
            self.separator,
            self.signers[self.side],
            channel=self.state.id,
            payer=self.state.our_account,
            total=total,
        )

    def digest_of(self, offer: CloseTerms | WithdrawalTerms) -> bytes:
        """What both signers sign to close, or to withdraw."""
        if isinstance(offer, CloseTerms):
            return close_digest(
                self.separator,
                channel=self.state.id,
                transferred_a_ucent=offer.transferred_a_ucent,
                transferred_b_ucent=offer.transferred_b_ucent,
                expires=offer.expires,
            )
        return withdrawal_digest(
            self.separator,
            channel=self.state.id,
            account=self.state.terms.account(offer.side),
            total_ucent=offer.total_ucent,
            expires=offer.expires,
        )

    def commit(self) -> None:
        """Make durable what was decided, then carry out what follows from it."""
        sent, received = self.durable.payments
        self.durable = Durable(
            record=json.dumps(channel_to_record(self.state)),
            payments=((*sent, *self._written[SENT]), (*received, *self._written[RECEIVED])),
        )
        self._written = ([], [])
        waiting, self._waiting = self._waiting, []
        for state, effect in waiting:
            self._carry_out(state, effect)

    def _carry_out(self, state: Channel, effect: Effect) -> None:
        match effect:
            case Send(message=message):
                self._say(message)
            case SendStored(first_nonce=first_nonce):
                self._send_stored(first_nonce, state.sent.total.nonce)
            case SubmitClose(close=close):
                self.submitted.append(close)
            case SubmitWithdrawal(withdrawal=withdrawal):
                self.withdrawing.append(withdrawal)
            case TellWithdrawal(terms=wish, taken=taken):
                self.withdrawn.append((wish, taken))
            case TellReceived(first_nonce=first_nonce, payments=payments):
                self._hear(first_nonce, payments)
            case TellStored(first_nonce=first_nonce, last_nonce=last_nonce):
                lane = self.durable.payments[RECEIVED][first_nonce - 1 : last_nonce]
                self._hear(first_nonce, tuple(one.payment for one in lane))
            case Disconnect():
                self.hangs_up = True
            case TellAcknowledged() | TellStopped():
                pass  # what they tell is read from the state
            case _:
                raise TypeError(f"{type(effect).__name__} is not carried out after a commit")

    def _hear(self, first_nonce: int, payments: tuple[Payment, ...]) -> None:
        for nonce, made in enumerate(payments, first_nonce):
            self.told.append(nonce)
            self.believed[nonce, made.receipt.reference()] = made.amount_ucent

    def _say(self, message: Message) -> None:
        self.said.append(encode_message(message))
        self.out.append(self.said[-1])

    def _send_stored(self, first_nonce: int, last_nonce: int) -> None:
        lane = [
            one
            for one in self.durable.payments[SENT]
            if first_nonce <= one.total.nonce <= last_nonce
        ]
        for start in range(0, len(lane), RESENT_AT_ONCE):
            chunk = lane[start : start + RESENT_AT_ONCE]
            update = Update(
                channel=self.state.id,
                first_nonce=chunk[0].total.nonce,
                signature=self._sign(chunk[-1].total).signature,
                payments=tuple(one.payment for one in chunk),
            )
            self._say(update)

    def crash(self, durable: Durable | None = None) -> None:
        """Lose the memory; boot from what is durable, or from a backup of it."""
        self.durable = durable or self.durable
        self.state = self.durable.load()
        self._written = ([], [])
        self._waiting = []
        self.out.clear()


def stored(payments: tuple[Payment, ...], totals: tuple[LaneTotal, ...]) -> Iterable[StoredPayment]:
    """Payments with their totals, as a ledger keeps them."""
    return (
        StoredPayment(payment=one, total=total) for one, total in zip(payments, totals, strict=True)
    )


class World:
    """Two parties, the wire between them, one clock, and a chain that has their channel."""

    def __init__(self, deposit_a: int, deposit_b: int) -> None:
        self.now = NOW
        self.blind: set[Side] = set()
        self.deaf: set[Side] = set()
        """Who cannot read the chain's events, only its state."""
        self.raised: tuple[list[Settlement], list[Settlement]] = ([], [])
        """By which payments each side's lane was settled."""
        self.view = view(deposit_ucent=(deposit_a, deposit_b))
        self.connected = False
        self.quarrels: list[PeerError] = []
        self.hang_ups = 0
        self.a, self.b = (self._party(side) for side in Side)
        self._salt = 0

    def _party(self, side: Side) -> Party:
        state = Channel(id=CHANNEL, terms=TERMS, side=side, chain=self.view)
        durable = Durable(record=json.dumps(channel_to_record(state)))
        return Party(side=side, moment=lambda: self.moment(side), state=state, durable=durable)

    def moment(self, side: Side) -> Moment:
        """Now, as a side sees it that may not have seen the chain for too long."""
        head = self.now - (STALE_SECONDS if side in self.blind else 0)
        return Moment(now=self.now, head_block=self.view.block, head_timestamp=head, head_seen=head)

    @property
    def parties(self) -> tuple[Party, Party]:
        """Both, A first."""
        return self.a, self.b

    def other(self, party: Party) -> Party:
        """The one at the other end."""
        return self.b if party is self.a else self.a

    def connect(self) -> None:
        """Connect the two; each then shows its newest vouchers."""
        self.disconnect()
        self.connected = True
        for party in self.parties:
            if party.state.stopped is None:
                party.feed(Linked())

    def disconnect(self) -> None:
        """Cut the wire; what is under way is lost."""
        self.connected = False
        for party in self.parties:
            party.commit()
            party.out.clear()
            party.hangs_up = False
            party.feed(Unlinked())

    def crash(self, party: Party, durable: Durable | None = None) -> None:
        """Kill a party; the other end notices, and the party boots again."""
        party.crash(durable)
        self.disconnect()

    def deliver(self, party: Party, count: int) -> int:
        """Let a party read that many of the messages sent to it; how many there were."""
        sender = self.other(party)
        read = [sender.out.popleft() for _ in range(min(count, len(sender.out)))]
        try:
            party.receive(read)
        except PeerError as error:
            self.quarrels.append(error)
            party.hangs_up = True
        return len(read)

    def commit(self, party: Party) -> None:
        """Let a party's commit end; it may hang up then."""
        party.commit()
        self.hang_ups += party.hangs_up
        if party.hangs_up or not self.connected:
            self.disconnect()

    def run(self) -> None:
        """Connect where needed, and go on until nobody has anything to say."""
        if not self.connected:
            self.connect()
        for _ in range(100):
            for party in self.parties:
                self.commit(party)
            if not self.connected:
                return
            if not sum(self.deliver(party, 100) for party in self.parties):
                return
        raise AssertionError("the two never fall silent")

    def pay(self, party: Party, *amounts: int) -> None:
        """Let a party order payments; each has a reference of its own."""
        payments = []
        for amount in amounts:
            self._salt += 1
            payments.append(payment(amount, number=self._salt))
        party.feed(AskedPay(payments=tuple(payments)))

    def tick(self, seconds: int = 1) -> None:
        """Let time pass and a block be confirmed; both see it, however old their view was."""
        self.now += seconds
        self.blind.clear()
        self.deaf.clear()
        self.observe(replace(self.view, block=self.view.block + 1, timestamp=self.now))

    def top_up(self, side: Side, amount_ucent: int) -> None:
        """Let a side deposit more; nobody has seen it yet."""
        deposits = list(self.view.deposit_ucent)
        deposits[side] += amount_ucent
        self.view = replace(
            self.view, block=self.view.block + 1, deposit_ucent=(deposits[0], deposits[1])
        )

    def observe(self, seen: ChainView) -> None:
        """Let both see what the chain says."""
        self.view = seen
        for party in self.parties:
            self.look(party)
            party.feed(Elapsed())

    def look(self, party: Party) -> None:
        """Let a side see what the chain says, and the events that it needs of it."""
        settlements: tuple[Settlement, ...] = ()
        if needs_settlements(party.state, self.view) and party.side not in self.deaf:
            held_ucent = party.state.received.total.transferred_ucent
            settlements = above(self.raised[party.side.other], held_ucent)
        party.feed(ObservedChannel(view=self.view, settlements=settlements))

    def settle(self, party: Party) -> None:
        """Let the chain take a side's own newest voucher, as it stands in its database."""
        voucher, settled = party.durable.load().sent.voucher, list(self.view.settled_ucent)
        before_ucent = settled[party.side]
        if voucher is None or voucher.total.transferred_ucent <= before_ucent:
            return
        settled[party.side] = voucher.total.transferred_ucent
        self.raised[party.side].append(
            Settlement(
                before_ucent=before_ucent,
                transferred_ucent=voucher.total.transferred_ucent,
                nonce=voucher.total.nonce,
                history=voucher.total.history,
            )
        )
        self.view = replace(
            self.view, block=self.view.block + 1, settled_ucent=(settled[0], settled[1])
        )

    def mine(self, close: SignedClose) -> None:
        """Let the chain take a close, as the contract would."""
        if self.view.status is not ChainStatus.OPEN or self.now > close.terms.expires:
            return
        if close.theirs is None:
            raise AssertionError("a close with one signature was submitted")
        totals = (close.terms.transferred_a_ucent, close.terms.transferred_b_ucent)
        block = self.view.block + 1
        closed = replace(self.view, block=block, status=ChainStatus.CLOSED, settled_ucent=totals)
        self.observe(closed)

    def take_out(self, withdrawal: Withdrawal) -> bool:
        """Let the chain take a withdrawal, as the contract would; whether it did."""
        terms, chain = withdrawal.terms, self.view
        if withdrawal.ours is None or withdrawal.theirs is None:
            raise AssertionError("a withdrawal with one signature was submitted")
        amount = terms.total_ucent - chain.withdrawn_ucent[terms.side]
        locked = sum(chain.deposit_ucent) - sum(chain.withdrawn_ucent)
        if chain.status is not ChainStatus.OPEN or self.now > terms.expires or amount <= 0:
            return False
        if amount > locked:
            raise AssertionError("a withdrawal takes more than the channel holds")
        taken = list(chain.withdrawn_ucent)
        taken[terms.side] = terms.total_ucent
        self.observe(replace(chain, block=chain.block + 1, withdrawn_ucent=(taken[0], taken[1])))
        return True
