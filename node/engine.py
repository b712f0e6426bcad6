"""The hub's engine: what it does with messages, payments and channels; one object per hub.

Rule: nothing here awaits. It is called by sessions, the driver and the follower, changes state
through the driver, and answers after the commit. Nothing that one wallet sends may end the hub.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from ..channels.client.driver import Driver
from ..channels.client.wire import ConnectionLost, Wire
from ..channels.errors import FarthingError, PeerError
from ..channels.events import ChannelMessage
from ..channels.ids import Address, ChannelId, address_to_hex
from ..channels.messages import (
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
from ..channels.receipt import ReceiptType
from ..channels.refusals import stale_view
from ..channels.senml import parse
from ..channels.senml_errors import MalformedReading
from ..channels.state import (
    ChainStatus,
    Channel,
    Moment,
    Phase,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from ..channels.terms import Side
from ..channels.voucher import Payment
from . import doubles
from .answers import NO_CHANNEL, Problem, TooManyErrors, numbered, outcome_of, stopped_error
from .chain import OpenRow
from .follower import Members
from .forgetting import DailyAllowance
from .requests import Requests
from .rewards import Priced, Rewards, refused_outcome
from .shortage import Cover, Shortage
from .store import HubStore

SUBMISSIONS_WAITING_MAX = 10_000
"""Submissions priced and not yet committed; a commit takes milliseconds."""

SUBMISSIONS_OF_WALLET_MAX = 512
"""The same of one wallet, which sends 64 without an answer."""

SUBMISSIONS_PER_DAY = 250_000
"""Submissions of one wallet that are decided and remembered in a day."""

PROPOSALS_WAITING_MAX = 1000
"""Channels that wait to be opened; a transaction opens a hundred."""

ERRORS_HEARD_MAX = 100
"""Errors that one connection may report; a wallet that works reports a few."""

log = logging.getLogger("farthing.hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the hub gives to a wallet that proposes a channel: its window, and room for how many."""

    challenge_seconds: int
    challenge_blocks: int
    channels_max: int
    submissions_per_day: int = SUBMISSIONS_PER_DAY


class Engine:
    """Handles wallets' messages and the driver's tellings; see `Handler` and `Application`."""

    def __init__(
        self,
        store: HubStore,
        rewards: Rewards,
        members: Members,
        moment: Callable[[], Moment],
        offer: Offer,
    ) -> None:
        self._store = store
        self._rewards = rewards
        self._members = members
        self._moment = moment
        self._offer = offer
        self._wires: dict[Address, Wire] = {}
        self._heard: set[Address] = set()
        self._errors_heard: Counter[Wire] = Counter()
        self._of_signer: dict[Address, list[ChannelId]] = {}
        self._answering: set[tuple[Address, bytes]] = set()
        self._answering_of: Counter[Address] = Counter()
        self._allowance = DailyAllowance(offer.submissions_per_day, store.submissions_on)
        self.hits: Counter[str] = Counter()
        """How often each limit refused something, for the operator."""
        self._proposed: dict[Address, OpenRow] = {}
        self.doubles = doubles.Doubles()
        self.closes: dict[ChannelId, SignedClose] = {}
        """Co-signed closes to submit, the newest of each channel."""
        self.withdrawals: dict[tuple[ChannelId, Side], Withdrawal] = {}
        """Co-signed withdrawals to submit, the newest of each account of a channel."""
        self.cover: Cover | None = None
        """Who says in time why a lane does not cover a payment."""

    def attach(self, driver: Driver, requests: Requests) -> None:
        """Give the engine its driver and its requests, which are made after it."""
        self.driver = driver
        self.requests = requests
        for channel in driver.channels.values():
            self._of_signer.setdefault(channel.terms.signer_b, []).append(channel.id)

    # -- connections ------------------------------------------------------------------------

    def is_connected(self, signer: Address) -> bool:
        """Whether a signer has a connection now."""
        return signer in self._wires

    def is_member(self, signer: Address) -> bool:
        """Whether a signer has a channel here or may have one: who is neither is a guest."""
        if self._channels_of(signer):
            return True
        return self._members.is_active(signer, self._moment().head_timestamp)

    def on_connected(self, wire: Wire, signer: Address) -> None:
        """Speak for every channel of a signer on its newest connection."""
        older = self._wires.get(signer)
        self._wires[signer] = wire
        self._heard.add(signer)
        if older is not None:
            text = "another connection with this wallet's key took over"
            remedy = "run one instance of a wallet; if you do, its key was copied"
            twice = self.doubles.took_over(signer)
            self._refuse(older, "replaced", text, remedy)
            older.close_soon()
            if twice:
                self._refuse(wire, doubles.CODE, doubles.TEXT, doubles.REMEDY)
        for channel in self._channels_of(signer):
            self._introduce(wire, channel)

    def on_disconnected(self, wire: Wire, signer: Address) -> None:
        """Forget a connection."""
        self._errors_heard.pop(wire, None)
        if self._wires.get(signer) is wire:
            del self._wires[signer]

    def heard_since(self) -> set[Address]:
        """The signers that are connected now, or were since this was last asked."""
        heard, self._heard = self._heard, set()
        return heard | self._wires.keys()

    def on_opened(self, channel: Channel) -> None:
        """Introduce a channel that the chain has just confirmed to its connected wallet."""
        signer = channel.terms.signer_b
        self._of_signer.setdefault(signer, []).append(channel.id)
        log.info("channel 0x%s is open", channel.id.hex())
        wire = self._wires.get(signer)
        if wire is not None:
            self._introduce(wire, channel)

    def _channels_of(self, signer: Address) -> list[Channel]:
        """A wallet's channels that are not closed; those that can be paid on come first."""
        channels = [self.driver.channels[c] for c in self._of_signer.get(signer, ())]
        present = [
            channel
            for channel in channels
            if channel.chain is not None
            and channel.chain.status in (ChainStatus.OPEN, ChainStatus.CLOSING)
        ]
        return sorted(present, key=lambda channel: channel.phase is not Phase.LIVE)

    def _introduce(self, wire: Wire, channel: Channel) -> None:
        terms = channel.terms
        announcement = ChannelTerms(
            account_a=terms.account_a,
            signer_a=terms.signer_a,
            account_b=terms.account_b,
            signer_b=terms.signer_b,
            challenge_seconds=terms.challenge_seconds,
            challenge_blocks=terms.challenge_blocks,
            sequence=terms.sequence,
        )
        self._say(wire, announcement)
        if channel.stopped is not None:
            self._say(wire, stopped_error(channel.id, channel.stopped))
            return
        self.driver.link(channel.id, wire)
        for request in self.requests.unanswered(channel.id):
            self._say(wire, request)

    def tell_if_connected(self, channel_id: ChannelId, message: Message) -> bool:
        """Send a message about a channel to its wallet; False where it is not connected."""
        wire = self._wires.get(self.driver.get(channel_id).terms.signer_b)
        if wire is not None:
            self._say(wire, message)
        return wire is not None

    def _say(self, wire: Wire, message: Message) -> None:
        """Send to a peer that may have gone or not read; what counts it asks for when it is back.

        Raises nothing: what calls this serves other wallets too.
        """
        try:
            wire.send(message)
        except PeerError as error:
            if not isinstance(error, ConnectionLost):  # the server says that it ended, once
                log.info("%s", error)
            wire.close_soon()

    def _refuse(self, wire: Wire, code: str, text: str, remedy: str) -> None:
        self._say(wire, Error(code=code, channel=b"", text=text, what_to_do=remedy))

    # -- messages ---------------------------------------------------------------------------

    def on_message(self, wire: Wire, message: Message) -> None:
        """Handle a message that concerns no channel's core; raises `TooManyErrors`."""
        signer = wire.peer
        if signer is None:
            raise RuntimeError("a message came before the handshake ended")
        match message:
            case SubmitReadings():
                self._on_readings(wire, signer, message)
            case ChannelProposal():
                self._on_proposal(wire, signer, message)
            case PaymentRequest():
                self._on_request(wire, message)
            case PaymentRefused():
                self.requests.on_refused(signer, message)
            case Error():
                self._on_error(wire, signer, message)
            case _:
                text = f"{type(message).__name__} is nothing a hub takes from a wallet"
                remedy = "see docs/protocol.md for who sends what"
                self._refuse(wire, "unexpected-message", text, remedy)

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Refuse a message for a channel that this connection does not speak for."""
        known = self.driver.channels.get(message.channel)
        is_theirs = known is not None and known.terms.signer_b == wire.peer
        if known is not None and is_theirs and known.stopped is not None:
            self._say(wire, stopped_error(known.id, known.stopped))
            return
        self._say(
            wire,
            Error(
                code="unknown-channel",
                channel=message.channel,
                text=f"channel 0x{message.channel.hex()} is not one of this connection's",
                what_to_do="use the channels whose terms this hub sent",
            ),
        )

    def _on_error(self, wire: Wire, signer: Address, message: Error) -> None:
        self._errors_heard[wire] += 1
        if self._errors_heard[wire] > ERRORS_HEARD_MAX:
            raise TooManyErrors(f"this connection reported over {ERRORS_HEARD_MAX} errors")
        if message.code == doubles.CODE:  # only who holds the key can say so
            self.doubles.found(signer)
        # Quoted: what a wallet wrote must not look like lines of our own, or move a cursor.
        log.info("%s reports %r: %r", address_to_hex(signer), message.code, message.text)

    def _on_request(self, wire: Wire, message: PaymentRequest) -> None:
        refusal: PaymentRefused | None
        if self.driver.linked(ChannelId(message.channel), wire):
            refusal = self.requests.on_request(message)
        else:
            text = "no such channel speaks on this connection"
            refusal = PaymentRefused(id=message.id, code="unknown-channel", text=text)
        if refusal is not None:
            self._say(wire, refusal)

    # -- opening channels -------------------------------------------------------------------

    def _on_proposal(self, wire: Wire, signer: Address, message: ChannelProposal) -> None:
        """Queue a proposal; whether its parties are members is told after the chain was read."""
        if signer in self._proposed:
            return  # it is being opened, or about to be
        problem = self._proposal_problem(signer, message)
        if problem is not None:
            self._refuse(wire, *problem)
        else:  # where it has a channel, that was introduced when the connection began
            self._proposed[signer] = OpenRow(account_b=message.account, signer_b=signer)

    def _proposal_problem(self, signer: Address, message: ChannelProposal) -> Problem | None:
        offer = self._offer
        if (
            message.challenge_seconds > offer.challenge_seconds
            or message.challenge_blocks > offer.challenge_blocks
        ):
            window = f"{offer.challenge_seconds} s and {offer.challenge_blocks} blocks"
            text = f"this hub's window is {window}"
            return "window-too-short", text, "allow that window in the wallet's policy"
        known = self._channels_of(signer)
        if any(channel.stopped is not None for channel in known):
            text = "this wallet's channel has stopped"
            return "channel-stopped", text, "close it without the hub, then join again"
        if any(channel.terms.account_b != message.account for channel in known):
            text = "this wallet has a channel for another account"
            return "other-account", text, "close that channel first, or use another wallet"
        if not known and message.account != signer:
            text = "an account that is not the wallet's own key was proposed"
            return "account-not-proven", text, "ask the agency to open it: `farthing hub open`"
        if len(self._proposed) >= PROPOSALS_WAITING_MAX:
            return "hub-busy", "too many wallets join at once", "try again later"
        return None

    def cannot_open(self, row: OpenRow) -> Problem | None:
        """Why a proposed channel is not opened, as the chain stands: code, text and remedy."""
        timestamp = self._moment().head_timestamp
        for who, address in (("account", row.account_b), ("signer", row.signer_b)):
            if not self._members.is_active(address, timestamp):
                text = f"the {who} {address_to_hex(address)} is not an active member"
                return "not-a-member", text, "ask the agency to register it, then join again"
        return None

    def room(self) -> int:
        """How many more channels may be opened."""
        unclosed = sum(
            1
            for channel in self.driver.channels.values()
            if channel.chain is None or channel.chain.status is not ChainStatus.CLOSED
        )
        return max(self._offer.channels_max - unclosed, 0)

    def has_open_channel(self, row: OpenRow) -> bool:
        """Whether this account and signer have a channel that is open and has not stopped."""
        return any(
            channel.terms.account_b == row.account_b
            and channel.stopped is None
            and channel.phase is not Phase.CLOSING
            for channel in self._channels_of(row.signer_b)
        )

    def proposed(self, most: int) -> list[OpenRow]:
        """Proposals whose channel is still to be opened, oldest first."""
        for signer in [s for s in self._proposed if self._channels_of(s)]:
            del self._proposed[signer]
        return list(self._proposed.values())[:most]

    def decide_proposals(
        self, rows: Iterable[OpenRow], refusals: Mapping[OpenRow, Problem]
    ) -> None:
        """Forget proposals that were tried, and tell the wallets of those that did not open."""
        for row in rows:
            self._proposed.pop(row.signer_b, None)
            wire = self._wires.get(row.signer_b)
            if row in refusals and wire is not None:
                self._refuse(wire, *refusals[row])

    # -- readings ---------------------------------------------------------------------------

    def _on_readings(self, wire: Wire, signer: Address, message: SubmitReadings) -> None:
        if (signer, message.id) in self._answering:
            return  # the answer follows its commit
        known = self._store.outcomes(signer, message.id)
        if known is not None:
            self._say(wire, ReadingOutcome(id=message.id, outcomes=known))
            return
        outcomes, remembered = self._reward(signer, message)
        answer = ReadingOutcome(id=message.id, outcomes=outcomes)
        if not remembered:
            self._say(wire, answer)
            return
        self._allowance.use(signer)
        self._answering.add((signer, message.id))
        self._answering_of[signer] += 1

        def speak() -> None:
            self._answering.discard((signer, message.id))
            self._answering_of[signer] -= 1
            if not self._answering_of[signer]:
                del self._answering_of[signer]
            self._say(self._wires.get(signer, wire), answer)  # it may have reconnected

        self.driver.store((), then=speak)

    def _reward(
        self, signer: Address, message: SubmitReadings
    ) -> tuple[tuple[RecordOutcome, ...], bool]:
        """Pay for what counts; whether the outcomes are remembered, in the payments' commit.

        They are not, and there is one for the whole pack, where the refusal is temporary or the
        pack cannot be read, which it cannot the next time either.
        """
        moment = self._moment()
        channel = next(iter(self._channels_of(signer)), None)
        # In this order: a stranger's key, of which there is no end, is counted nowhere.
        problem = self._cannot_pay(channel, moment) or self._too_many(signer, moment)
        if channel is None or problem is not None:
            return (problem or NO_CHANNEL,), False
        try:
            records = parse(message.senml, message.format, now=moment.now)
        except MalformedReading as error:
            return (outcome_of(error),), False
        account = channel.terms.account_b
        priced = self._rewards.price(account, message.id, records, moment)
        short = self._shortage(channel, priced)
        if short is not None:
            self._rewards.undo(account, priced)
            return (refused_outcome(short.code, short.text, short.remedy),), False
        outcomes = numbered(priced, channel.sent.promised.nonce + 1)
        remember = [
            HubStore.remember_outcomes(signer, message.id, outcomes),
            HubStore.date_submission(signer, message.id, moment.now),
        ]
        if not priced.payments:
            self.driver.store(remember)
            return outcomes, True
        try:
            self.driver.pay(channel.id, priced.payments, [*priced.statements, *remember])
            self.driver.store((), then=partial(self._rewards.committed, account, priced))
        except FarthingError as error:  # a broken invariant too, which has stopped the channel
            self._rewards.undo(account, priced)
            return (outcome_of(error),), False
        return outcomes, True

    def _shortage(self, channel: Channel, priced: Priced) -> Shortage | None:
        """Why the lane does not cover what was priced; it is counted as spent already."""
        if self.cover is None:
            return None
        amount_ucent = sum(payment.amount_ucent for payment in priced.payments)
        return self.cover.refuse(channel, amount_ucent, counted_ucent=amount_ucent)

    def _too_many(self, signer: Address, moment: Moment) -> RecordOutcome | None:
        if (
            len(self._answering) >= SUBMISSIONS_WAITING_MAX
            or self._answering_of[signer] >= SUBMISSIONS_OF_WALLET_MAX
        ):
            self.hits["hub-busy"] += 1
            return refused_outcome("hub-busy", "the hub is busy", "submit it again later")
        if not self._allowance.is_left(signer, moment.now):
            self.hits["too-many-today"] += 1
            most = f"{self._offer.submissions_per_day} submissions of this wallet"
            text = f"{most} were decided today, and no more are in a day"
            remedy = "submit it again tomorrow, with more readings in each submission"
            return refused_outcome("too-many-today", text, remedy)
        return None

    def _cannot_pay(self, channel: Channel | None, moment: Moment) -> RecordOutcome | None:
        if channel is None:
            return NO_CHANNEL
        stale = stale_view(channel, moment)
        if stale is not None:  # who is a member now cannot be told
            return outcome_of(stale)
        if not self._members.is_active(channel.terms.account_b, moment.head_timestamp):
            return refused_outcome(
                "not-a-member",
                "the account is not an active member now",
                "ask the agency why; readings that are kept can be submitted later",
            )
        return None

    # -- what the driver tells --------------------------------------------------------------

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        """Match a wallet's payments with what the hub asked for."""
        log.debug("channel 0x%s paid from payment %d on", channel.id.hex(), first_nonce)
        for nonce, payment in enumerate(payments, start=first_nonce):
            if payment.receipt.type is ReceiptType.REQUEST:
                self.requests.on_payment(channel.id, nonce, payment)

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        """Report what a wallet holds of our payments."""
        log.debug("channel 0x%s holds payment %d", channel.id.hex(), nonce)

    def on_stopped(self, channel: Channel, reason: str) -> None:
        """Tell the operator that a channel stopped."""
        log.error("channel 0x%s stopped: %s", channel.id.hex(), reason)

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        """Queue a co-signed close for the chain."""
        self.closes[channel.id] = close

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        """Queue a co-signed withdrawal for the chain."""
        self.withdrawals[channel.id, withdrawal.terms.side] = withdrawal

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        """Tell the operator how a withdrawal of the hub's own money ended."""
        how = "is on-chain" if taken else "was not taken in time and is free again"
        text = "a withdrawal from channel 0x%s, up to %d µ¢ in total, %s"
        log.info(text, channel.id.hex(), terms.total_ucent, how)
