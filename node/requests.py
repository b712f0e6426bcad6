"""Requests to be paid, in both directions: each durable, bounded and decided once.

Rule: those that are open are in memory, with their limits; the others only in the database. What
is promised and what is decided about a request are committed together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..channels.client.driver import Driver
from ..channels.client.ledger import RECEIVED, Ledger, Statement
from ..channels.client.payments import (
    REQUEST_SECONDS,
    BadPurpose,
    PaymentAsk,
    RequestDecided,
    RequestState,
    UnknownRequest,
    check_purpose,
    incoming,
    read_incoming,
)
from ..channels.ids import WORD_BYTES, Address, ChannelId, to_hex
from ..channels.messages import REQUEST_BYTES, PaymentRefused, PaymentRequest
from ..channels.receipt import ReceiptType, make_receipt
from ..channels.state import Channel, Moment
from ..channels.units import check_amount
from ..channels.voucher import Payment
from .forgetting import DailyAllowance
from .shortage import TOPPING_UP, Cover, NotCovered
from .store import HubStore

REQUESTS_OPEN_MAX = 1000
"""Requests that wait for the operator; more are refused until some are decided or expire."""
REQUESTS_OF_CHANNEL_MAX = 16
"""Of one wallet, so that none can fill the operator's list for everybody."""
REQUESTS_PER_DAY = 200
"""Of one channel in a day, each a row of the database; counted since the hub's start."""
REQUESTS_LISTED_MAX = 1000
"""Decided ones that an operator is shown, beside all open ones."""

REFUSED_CODE = "request-refused"

_OPEN = RequestState.OPEN


class Requests:
    """What wallets ask of the hub, and the hub of wallets."""

    def __init__(
        self,
        store: HubStore,
        driver: Driver,
        moment: Callable[[], Moment],
        *,
        per_day: int = REQUESTS_PER_DAY,
    ) -> None:
        self._store = store
        self._driver = driver
        self._moment = moment
        self._allowance = DailyAllowance(per_day)
        self.cover: Cover | None = None
        """Who says in time why a lane does not cover a payment."""
        stored = list(_load(store.ledger, "WHERE state='open'"))
        self._theirs = {ask.id: ask for ask in stored if not ask.ours}
        self._ours = {ask.id: ask for ask in stored if ask.ours}
        self._match_stored()

    def _match_stored(self) -> None:
        """Find payments that were stored just before a crash and answer requests of ours."""
        ledger = self._store.ledger
        for channel in {ask.channel for ask in self._ours.values()}:
            state = self._driver.get(channel)
            rows = ledger.query(
                "SELECT nonce FROM payment WHERE channel=? AND direction=? AND type=? AND nonce<=?",
                (channel, RECEIVED, int(ReceiptType.REQUEST), state.told_nonce),
            )
            for (nonce,) in rows:
                found = next(incoming(ledger, state, first_nonce=nonce))
                payment = Payment(amount_ucent=found.amount_ucent, receipt=found.receipt)
                self.on_payment(channel, nonce, payment)

    def listed(self) -> list[PaymentAsk]:
        """Every open request, then the latest to expire of the others."""
        self._expire()
        decided = _load(
            self._store.ledger,
            "WHERE state<>'open' ORDER BY length(expires) DESC, expires DESC LIMIT ?",
            (REQUESTS_LISTED_MAX,),
        )
        return [*self._theirs.values(), *self._ours.values(), *decided]

    def _expire(self) -> None:
        """Let go of what nobody decided in time."""
        now = self._moment().head_timestamp
        for open_ones in (self._theirs, self._ours):
            for ask in [ask for ask in open_ones.values() if ask.expires < now]:
                del open_ones[ask.id]
                self._driver.store([_remember(replace(ask, state=RequestState.EXPIRED))])

    # -- wallets ask ------------------------------------------------------------------------

    def on_request(self, message: PaymentRequest) -> PaymentRefused | None:
        """Keep a request for the operator; return what to answer if it cannot be kept.

        A repeat, as after a reconnect, gets the same answer and changes nothing.
        """
        self._expire()
        if message.id in self._theirs:
            return None
        known = self._stored(message.id)
        if known is not None and known.channel == message.channel:
            if known.state is RequestState.REFUSED:
                return _refusal(message.id, known.text)
            return None  # paid: the payment is resent by itself
        problem = "its id names another request" if known else self._problem(message)
        if problem is not None:
            return _refusal(message.id, problem)
        shortage = self._uncovered(message)
        if shortage is not None:
            return shortage
        ask = PaymentAsk(
            id=message.id,
            ours=False,
            channel=ChannelId(message.channel),
            amount_ucent=message.amount_ucent,
            purpose=message.purpose,
            expires=message.expires,
            state=_OPEN,
        )
        self._allowance.use(ask.channel)
        self._theirs[ask.id] = ask
        self._driver.store([_remember(ask)])
        return None

    def _uncovered(self, message: PaymentRequest) -> PaymentRefused | None:
        """The refusal of what could not be paid now; it is not kept, another one may be asked."""
        if self.cover is None:
            return None
        channel = self._driver.get(ChannelId(message.channel))
        why = self.cover.shortage(channel, message.amount_ucent)
        if why is None or why is TOPPING_UP:
            return None
        return PaymentRefused(id=message.id, code=why.code, text=f"{why.text}: {why.remedy}")

    def _problem(self, message: PaymentRequest) -> str | None:
        if message.amount_ucent < 1:
            return "it asks for nothing"
        if message.expires < self._moment().head_timestamp:
            return "it has expired already"
        try:
            check_purpose(message.purpose)
        except BadPurpose as error:
            return error.text
        return self._too_many(message)

    def _too_many(self, message: PaymentRequest) -> str | None:
        if len(self._theirs) >= REQUESTS_OPEN_MAX:
            return f"{REQUESTS_OPEN_MAX} requests wait for the operator already; try later"
        of_channel = sum(1 for ask in self._theirs.values() if ask.channel == message.channel)
        if of_channel >= REQUESTS_OF_CHANNEL_MAX:
            return f"{REQUESTS_OF_CHANNEL_MAX} requests of this wallet wait already; try later"
        if not self._allowance.is_left(message.channel, self._moment().now):
            return "this wallet has asked often enough today; try tomorrow"
        return None

    def pay(self, request: bytes) -> None:
        """Promise what a wallet asks.

        Raises `UnknownRequest`, `RequestDecided`, `NotCovered` and what the core does; the request
        then still waits.
        """
        ask = self._waiting(request)
        if self.cover is not None:
            why = self.cover.refuse(self._driver.get(ask.channel), ask.amount_ucent)
            if why is not None:
                raise NotCovered(why)
        moment = self._moment()
        receipt = make_receipt(
            ReceiptType.REQUEST,
            {
                "amount": ask.amount_ucent,
                "block": moment.head_block,
                "at": moment.head_timestamp,
                "purpose": ask.purpose,
                "request": ask.id,
            },
            salt=secrets.token_bytes(WORD_BYTES),
        )
        payment = Payment(amount_ucent=ask.amount_ucent, receipt=receipt)
        nonce = self._driver.get(ask.channel).sent.promised.nonce + 1
        paid = replace(ask, state=RequestState.PAID, nonce=nonce)
        self._driver.pay(ask.channel, (payment,), [_remember(paid)])
        del self._theirs[request]

    def refuse(self, request: bytes, text: str) -> tuple[ChannelId, PaymentRefused]:
        """Refuse a request for good; raises `UnknownRequest`, `RequestDecided`.

        Returns its channel and what to send once that is durable.
        """
        ask = self._waiting(request)
        refused = replace(ask, state=RequestState.REFUSED, code=REFUSED_CODE, text=text)
        self._driver.store([_remember(refused)])
        del self._theirs[request]
        return ask.channel, _refusal(request, text)

    def _waiting(self, request: bytes) -> PaymentAsk:
        self._expire()
        ask = self._theirs.get(request)
        if ask is not None:
            return ask
        known = self._stored(request)
        if known is None or known.state is _OPEN:  # decided, and its commit is under way
            raise UnknownRequest(f"no request {to_hex(request)} waits for an answer")
        raise RequestDecided(known)

    def _stored(self, request: bytes) -> PaymentAsk | None:
        rows = _load(self._store.ledger, "WHERE ours=0 AND id=?", (request,))
        return next(rows, None)

    # -- the hub asks -----------------------------------------------------------------------

    def ask(self, channel: Channel, amount_ucent: int, purpose: str) -> PaymentRequest:
        """Make a request; returns what to send once it is durable.

        Raises `AmountOutOfRange`, `BadPurpose`.
        """
        ask = PaymentAsk(
            id=secrets.token_bytes(REQUEST_BYTES),
            ours=True,
            channel=channel.id,
            amount_ucent=check_amount(amount_ucent),
            purpose=check_purpose(purpose),
            expires=self._moment().head_timestamp + REQUEST_SECONDS,
            state=_OPEN,
        )
        self._ours[ask.id] = ask
        self._driver.store([_remember(ask)])
        return _message(ask)

    def unanswered(self, channel: ChannelId) -> Iterator[PaymentRequest]:
        """The hub's open requests on a channel, to be sent again after a reconnect."""
        self._expire()
        for ask in self._ours.values():
            if ask.channel == channel:
                yield _message(ask)

    def on_refused(self, signer: Address, message: PaymentRefused) -> None:
        """Note that the asked wallet, and no other, will not pay."""
        ask = self._ours.get(message.id)
        if ask is None or self._driver.get(ask.channel).terms.signer_b != signer:
            return
        refused = replace(ask, state=RequestState.REFUSED, code=message.code, text=message.text)
        self._driver.store([_remember(refused)])
        del self._ours[ask.id]

    def on_payment(self, channel: ChannelId, nonce: int, payment: Payment) -> None:
        """Note that a request is paid, if this payment answers one in full."""
        fields = read_incoming(channel, nonce, payment).fields
        ask = None if fields is None else self._ours.get(fields.get("request", b""))
        if ask is None or ask.channel != channel or payment.amount_ucent < ask.amount_ucent:
            return
        self._driver.store([_remember(replace(ask, state=RequestState.PAID, nonce=nonce))])
        del self._ours[ask.id]


def _load(ledger: Ledger, clause: str, parameters: Sequence[Any] = ()) -> Iterator[PaymentAsk]:
    for ours, request, channel, amount, purpose, expires, state, nonce, code, text in ledger.query(
        f"SELECT * FROM request {clause}",  # noqa: S608 - the clauses are written in this file
        parameters,
    ):
        yield PaymentAsk(
            id=request,
            ours=bool(ours),
            channel=ChannelId(channel),
            amount_ucent=int(amount),
            purpose=purpose,
            expires=int(expires),
            state=RequestState(state),
            nonce=nonce,
            code=code,
            text=text,
        )


def _remember(ask: PaymentAsk) -> Statement:
    sql = "INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    return sql, (
        int(ask.ours),
        ask.id,
        ask.channel,
        str(ask.amount_ucent),
        ask.purpose,
        str(ask.expires),
        ask.state.value,
        ask.nonce,
        ask.code,
        ask.text,
    )


def _message(ask: PaymentAsk) -> PaymentRequest:
    return PaymentRequest(
        channel=ask.channel,
        id=ask.id,
        amount_ucent=ask.amount_ucent,
        purpose=ask.purpose,
        expires=ask.expires,
    )


def _refusal(request: bytes, text: str) -> PaymentRefused:
    return PaymentRefused(id=request, code=REFUSED_CODE, text=text)


def request_row(ask: PaymentAsk) -> dict[str, Any]:
    """One request as plain values, for the operator."""
    return {
        "id": to_hex(ask.id),
        "asked_by": "hub" if ask.ours else "wallet",
        "channel": to_hex(ask.channel),
        "amount_ucent": ask.amount_ucent,
        "purpose": ask.purpose,
        "expires": ask.expires,
        "state": ask.state.value,
        "text": ask.text,
    }
