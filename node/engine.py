"""The hub's engine: what it does with messages, payments and channels; one object per hub.

Rule: nothing here awaits. It is called by sessions, the driver and the follower, changes state
through the driver, and answers after the commit.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..channels.client.driver import Driver
from ..channels.client.wire import ConnectionLost, SlowReader, Wire
from ..channels.errors import FarthingError, LocalError
from ..channels.events import AskedClose, ChannelMessage
from ..channels.ids import Address, ChannelId, address_to_hex
from ..channels.messages import (
    REQUEST_BYTES,
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
from ..channels.receipt import PURPOSE_CHARACTERS_MAX, ReceiptType, make_receipt
from ..channels.senml import parse
from ..channels.senml_errors import MalformedReading
from ..channels.state import ChainStatus, Channel, Moment, SignedClose
from ..channels.units import check_amount
from ..channels.voucher import Payment
from .chain import OpenRow
from .follower import Members
from .rewards import SALT_BYTES, Priced, Rewards, refused_outcome
from .store import HubStore

SUBMISSIONS_WAITING_MAX = 10_000
"""Submissions priced and not yet committed; a commit takes milliseconds."""

REQUESTS_OPEN_MAX = 1000
"""Requests that wait for the operator; more are refused until some are decided."""

log = logging.getLogger("farthing.hub")


class UnknownRequest(LocalError):
    """A payment request that does not exist or is decided already."""

    code = "unknown-request"
    remedy = "list the open requests and use one of their ids"


class NotConnected(LocalError):
    """The wallet is not connected to the hub."""

    code = "not-connected"
    remedy = "wait until the wallet connects"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A wallet's wish for a channel, checked against the registry."""

    row: OpenRow
    wire: Wire


class Engine:
    """Handles wallets' messages and the driver's tellings; see `Handler` and `Application`."""

    def __init__(
        self,
        store: HubStore,
        rewards: Rewards,
        members: Members,
        moment: Callable[[], Moment],
    ) -> None:
        self._store = store
        self._rewards = rewards
        self._members = members
        self._moment = moment
        self._driver: Driver | None = None
        self._wires: dict[Address, Wire] = {}
        self._answering: set[tuple[Address, bytes]] = set()
        self.proposals: list[Proposal] = []
        self.closes: list[tuple[Channel, SignedClose]] = []

    def attach(self, driver: Driver) -> None:
        """Give the engine its driver; the two need each other."""
        self._driver = driver

    @property
    def driver(self) -> Driver:
        """The driver; raises `RuntimeError` before `attach`."""
        if self._driver is None:
            raise RuntimeError("the engine has no driver yet")
        return self._driver

    # -- connections ------------------------------------------------------------------------

    def on_connected(self, wire: Wire, signer: Address) -> None:
        """Speak for every channel of a signer on its newest connection."""
        older = self._wires.get(signer)
        self._wires[signer] = wire
        for channel in self._channels_of(signer):
            self._introduce(wire, channel)
        if older is not None:
            older.send(
                Error(
                    code="replaced",
                    channel=b"",
                    text="another connection with this wallet's key took over",
                    what_to_do="run one instance of a wallet; if you do, its key was copied",
                )
            )
            older.close_soon()

    def on_disconnected(self, wire: Wire, signer: Address) -> None:
        """Forget a connection."""
        if self._wires.get(signer) is wire:
            del self._wires[signer]

    def on_opened(self, channel: Channel) -> None:
        """Introduce a channel that the chain has just confirmed to its connected wallet."""
        wire = self._wires.get(channel.terms.signer_b)
        log.info("channel 0x%s is open", channel.id.hex())
        if wire is not None:
            self._introduce(wire, channel)

    def _channels_of(self, signer: Address) -> list[Channel]:
        return [
            channel
            for channel in self.driver.channels.values()
            if channel.terms.signer_b == signer
            and channel.chain is not None
            and channel.chain.status in (ChainStatus.OPEN, ChainStatus.CLOSING)
        ]

    def _introduce(self, wire: Wire, channel: Channel) -> None:
        terms = channel.terms
        wire.send(
            ChannelTerms(
                account_a=terms.account_a,
                signer_a=terms.signer_a,
                account_b=terms.account_b,
                signer_b=terms.signer_b,
                challenge_seconds=terms.challenge_seconds,
                challenge_blocks=terms.challenge_blocks,
                sequence=terms.sequence,
            )
        )
        if channel.stopped is None:
            self.driver.link(channel.id, wire)

    # -- messages ---------------------------------------------------------------------------

    def on_message(self, wire: Wire, message: Message) -> None:
        """Handle a message that concerns no channel's core."""
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
            case PaymentRefused(id=request_id):
                self.driver.store([HubStore.decide_request(request_id, "refused")])
            case Error(code=code, text=text):
                log.info("%s reports %s: %s", address_to_hex(signer), code, text)
            case _:
                self._say(wire, _unexpected(message))

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Refuse a message for a channel that this connection does not speak for."""
        text = f"channel 0x{message.channel.hex()} is not one of this connection's"
        self._say(
            wire,
            Error(
                code="unknown-channel",
                channel=message.channel,
                text=text,
                what_to_do="use the channels whose terms this hub sent",
            ),
        )

    def _on_proposal(self, wire: Wire, signer: Address, message: ChannelProposal) -> None:
        known = [c for c in self._channels_of(signer) if c.terms.account_b == message.account]
        if known:
            return  # introduced when the connection began
        timestamp = self._moment().head_timestamp
        for who, address in (("account", message.account), ("signer", signer)):
            if not self._members.is_active(address, timestamp):
                text = f"the {who} {address_to_hex(address)} is not an active member"
                remedy = "ask the agency to register it, then join again"
                self._refuse(wire, "not-a-member", text, remedy)
                return
        row = OpenRow(account_b=message.account, signer_b=signer)
        if any(p.row == row for p in self.proposals):
            return
        self.proposals.append(Proposal(row=row, wire=wire))

    def _refuse(self, wire: Wire, code: str, text: str, remedy: str) -> None:
        self._say(wire, Error(code=code, channel=b"", text=text, what_to_do=remedy))

    def refuse_proposals(self, proposals: list[Proposal], error: FarthingError) -> None:
        """Tell wallets that their channels could not be opened, and what to do."""
        for proposal in proposals:
            self._refuse(proposal.wire, error.code, error.text, error.what_to_do)

    def _say(self, wire: Wire, message: Message) -> None:
        """Send to a peer that may have gone; it asks again when it is back."""
        try:
            wire.send(message)
        except (ConnectionLost, SlowReader) as error:
            log.info("%s", error)

    # -- readings ---------------------------------------------------------------------------

    def _on_readings(self, wire: Wire, signer: Address, message: SubmitReadings) -> None:
        if (signer, message.id) in self._answering:
            return  # the answer follows its commit
        known = self._store.outcomes(signer, message.id)
        if known is not None:
            self._say(wire, ReadingOutcome(id=message.id, outcomes=known))
            return
        outcomes, is_final = self._reward(signer, message)
        answer = ReadingOutcome(id=message.id, outcomes=outcomes)
        if not is_final:
            self._say(wire, answer)
            return
        self._answering.add((signer, message.id))

        def speak() -> None:
            self._answering.discard((signer, message.id))
            self._say(wire, answer)

        self.driver.store((), then=speak)

    def _reward(
        self, signer: Address, message: SubmitReadings
    ) -> tuple[tuple[RecordOutcome, ...], bool]:
        """Pay for what counts; False where the refusal is temporary and not remembered."""
        try:
            records = parse(message.senml, message.format, now=self._moment().now)
        except MalformedReading as error:
            outcome = refused_outcome(error.code, error.text, error.what_to_do)
            self.driver.store([HubStore.remember_outcomes(signer, message.id, (outcome,))])
            return (outcome,), True
        moment = self._moment()
        channel = next(iter(self._channels_of(signer)), None)
        problem = self._cannot_pay(channel, moment)
        if channel is None or problem is not None:
            return (problem or _NO_CHANNEL,) * len(records), False
        account = channel.terms.account_b
        priced = self._rewards.price(account, message.id, records, moment)
        outcomes = _numbered(priced, channel.sent.promised.nonce + 1)
        remember = HubStore.remember_outcomes(signer, message.id, outcomes)
        if not priced.payments:
            self.driver.store([remember])
            return outcomes, True
        try:
            self.driver.pay(channel.id, priced.payments, [*priced.statements, remember])
        except LocalError as error:
            self._rewards.undo(account, priced)
            refusal = refused_outcome(error.code, error.text, error.what_to_do)
            return (refusal,) * len(records), False
        return outcomes, True

    def _cannot_pay(self, channel: Channel | None, moment: Moment) -> RecordOutcome | None:
        if channel is None:
            return _NO_CHANNEL
        if len(self._answering) >= SUBMISSIONS_WAITING_MAX:
            return refused_outcome("hub-busy", "the hub is busy", "submit it again later")
        if not self._members.is_active(channel.terms.account_b, moment.head_timestamp):
            return refused_outcome(
                "not-a-member",
                "the account is not an active member now",
                "ask the agency why; readings that are kept can be submitted later",
            )
        return None

    # -- payment requests -------------------------------------------------------------------

    def _on_request(self, wire: Wire, message: PaymentRequest) -> None:
        channel = self.driver.channels.get(ChannelId(message.channel))
        if channel is None or not self.driver.linked(channel.id, wire):
            self._say(wire, _refused_request(message, "unknown-channel", "no such channel here"))
            return
        open_requests = sum(1 for r in self._store.requests() if r["state"] == "open")
        if open_requests >= REQUESTS_OPEN_MAX or message.amount_ucent < 1:
            text = "the hub takes no such request now; ask for at least 1 µ¢, or try later"
            self._say(wire, _refused_request(message, "request-refused", text))
            return
        purpose = message.purpose[:PURPOSE_CHARACTERS_MAX]
        self.driver.store(
            [
                HubStore.remember_request(
                    message.id, channel.id, message.amount_ucent, purpose, message.expires, "open"
                )
            ]
        )

    def answer_request(self, request_id: bytes, *, pay: bool) -> None:
        """Pay or refuse a wallet's open request; raises `LocalError`."""
        found = self._store.request(request_id)
        if found is None or found[4] != "open":
            raise UnknownRequest(f"request 0x{request_id.hex()} is not open")
        channel_id, amount_ucent, purpose, _, _ = found
        channel = self.driver.get(channel_id)
        if not pay:
            self.driver.store([HubStore.decide_request(request_id, "refused")])
            wire = self._wires.get(channel.terms.signer_b)
            if wire is not None:
                refusal = PaymentRefused(
                    id=request_id, code="request-refused", text="the operator refused it"
                )
                self._say(wire, refusal)
            return
        moment = self._moment()
        receipt = make_receipt(
            ReceiptType.REQUEST,
            {
                "amount": check_amount(amount_ucent),
                "block": moment.head_block,
                "at": moment.head_timestamp,
                "purpose": purpose or "request",
                "request": request_id,
            },
            salt=secrets.token_bytes(SALT_BYTES),
        )
        payment = Payment(amount_ucent=amount_ucent, receipt=receipt)
        self.driver.pay(channel_id, (payment,), [HubStore.decide_request(request_id, "paid")])

    def request(
        self, channel_id: ChannelId, amount_ucent: int, purpose: str, expires: int
    ) -> bytes:
        """Ask a connected wallet to pay; returns the request's id; raises `LocalError`."""
        channel = self.driver.get(channel_id)
        wire = self._wires.get(channel.terms.signer_b)
        if wire is None:
            raise NotConnected(f"the wallet of channel 0x{channel_id.hex()} is not connected")
        request_id = secrets.token_bytes(REQUEST_BYTES)
        wire.send(
            PaymentRequest(
                channel=channel_id,
                id=request_id,
                amount_ucent=check_amount(amount_ucent),
                purpose=purpose[:PURPOSE_CHARACTERS_MAX],
                expires=expires,
            )
        )
        return request_id

    def close(self, channel_id: ChannelId) -> None:
        """Ask a channel's wallet for a close by agreement; raises `LocalError`."""
        self.driver.feed(channel_id, AskedClose())

    # -- what the driver tells --------------------------------------------------------------

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        """Report a wallet's payments to the operator."""
        ucent = sum(payment.amount_ucent for payment in payments)
        last = first_nonce + len(payments) - 1
        log.info("channel 0x%s paid %d µ¢ up to payment %d", channel.id.hex(), ucent, last)

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        """Report what a wallet holds of our payments."""
        log.debug("channel 0x%s holds payment %d", channel.id.hex(), nonce)

    def on_stopped(self, channel: Channel, reason: str) -> None:
        """Tell the operator that a channel stopped."""
        log.error("channel 0x%s stopped: %s", channel.id.hex(), reason)

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        """Queue a co-signed close for the chain."""
        self.closes.append((channel, close))


_NO_CHANNEL = refused_outcome(
    "no-channel", "this wallet has no open channel here", "join the hub, then submit again"
)


def _numbered(priced: Priced, first_nonce: int) -> tuple[RecordOutcome, ...]:
    """Give every paid outcome the nonce of its payment."""
    nonce = first_nonce
    outcomes = []
    for outcome in priced.outcomes:
        if outcome.amount_ucent:
            outcomes.append(replace(outcome, nonce=nonce))
            nonce += 1
        else:
            outcomes.append(outcome)
    return tuple(outcomes)


def _unexpected(message: Message) -> Error:
    return Error(
        code="out-of-turn",
        channel=b"",
        text=f"{type(message).__name__} is nothing a hub takes from a wallet",
        what_to_do="see docs/protocol.md for who sends what",
    )


def _refused_request(message: PaymentRequest, code: str, text: str) -> PaymentRefused:
    return PaymentRefused(id=message.id, code=code, text=text)
