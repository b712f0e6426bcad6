"""Payments between people: made for use, asked for, answered; and those that came in.

Rule: what is promised and what is decided about a request are committed together, so that no
request is paid twice and no payment is forgotten.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from ..errors import LocalError
from ..ids import WORD_BYTES, ChannelId, to_hex
from ..messages import REQUEST_BYTES, Message, PaymentRefused, PaymentRequest
from ..receipt import (
    PURPOSE_CHARACTERS_MAX,
    MalformedReceipt,
    Receipt,
    ReceiptType,
    make_receipt,
)
from ..state import ChainView, Channel, Moment
from ..units import check_amount
from ..voucher import Payment
from .driver import Driver
from .ledger import RECEIVED, Ledger, Statement
from .pulse import Notices, Pulse

REQUESTS_OPEN_MAX: Final = 256
"""Requests of the hub that wait for an answer; further ones are refused."""

REQUEST_SECONDS: Final = 3600
"""How long a request of ours stands, in chain time."""

SCHEMA: Final = """
CREATE TABLE request (
    direction INTEGER NOT NULL, id BLOB NOT NULL, channel BLOB NOT NULL,
    amount_ucent TEXT NOT NULL, purpose TEXT NOT NULL, expires TEXT NOT NULL,
    state TEXT NOT NULL, nonce INTEGER, code TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL DEFAULT '', PRIMARY KEY (direction, id)
) WITHOUT ROWID;
"""

ASKED, ASKING = 0, 1  # we are asked to pay; we ask to be paid


class UnknownRequest(LocalError):
    """A request id that nobody sent."""

    code = "unknown-request"
    remedy = "list the requests and use one of their ids"


class RequestDecided(LocalError):
    """A request that was paid, refused or has expired."""

    code = "request-decided"

    def __init__(self, request: PaymentAsk) -> None:
        super().__init__(
            f"request {to_hex(request.id)} is {request.state.value} already",
            remedy="nothing is left to do; pay without a request if you want to pay more",
        )
        self.request = request


class BadPurpose(LocalError):
    """A purpose that a receipt cannot carry."""

    code = "bad-purpose"
    remedy = f"give 1 to {PURPOSE_CHARACTERS_MAX} characters and nothing personal: auditors read it"


class RequestState(StrEnum):
    """What became of a request."""

    OPEN = "open"
    PAID = "paid"
    REFUSED = "refused"
    EXPIRED = "expired"


_OPEN: Final = RequestState.OPEN
_REFUSED_CODE: Final = "request-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAsk:
    """A request to be paid; `ours` says that we asked. `expires` is chain time in seconds."""

    id: bytes
    ours: bool
    channel: ChannelId
    amount_ucent: int
    purpose: str
    expires: int
    state: RequestState
    nonce: int | None = None
    code: str = ""
    text: str = ""


class ChainNotSeen(LocalError):
    """A receipt names the payer's newest block, a request its time, and none is known yet."""

    code = "chain-not-seen"
    remedy = "wait until the chain answers; `farthing wallet status` says what holds it up"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingPayment:
    """A payment that was accepted; `fields` is None where its receipt cannot be read."""

    channel: ChannelId
    nonce: int
    amount_ucent: int
    receipt: Receipt
    fields: dict[str, Any] | None
    problem: str = ""


def check_purpose(purpose: str) -> str:
    """Return the purpose if a receipt can carry it; raises `BadPurpose`."""
    if not 1 <= len(purpose) <= PURPOSE_CHARACTERS_MAX or not purpose.isprintable():
        raise BadPurpose(f"a purpose of {len(purpose)} characters cannot be used")
    return purpose


def usage_payment(
    amount_ucent: int, purpose: str, moment: Moment, view: ChainView | None
) -> Payment:
    """A payment for use on a channel last seen in `view`.

    Raises `AmountOutOfRange`, `BadPurpose`, `ChainNotSeen`.
    """
    fields = {"purpose": check_purpose(purpose)}
    return _payment(ReceiptType.USAGE, amount_ucent, moment, view, fields)


def _payment(
    kind: ReceiptType,
    amount_ucent: int,
    moment: Moment,
    view: ChainView | None,
    fields: dict[str, Any],
) -> Payment:
    """A payment whose receipt names the newest block that was seen.

    A channel that was just taken up is ahead of the head: an older block would say that it was paid
    on before it opened.
    """
    block, at = _seen(moment).head_block, moment.head_timestamp
    if view is not None and view.block > block:
        block, at = view.block, view.timestamp
    common = {"amount": check_amount(amount_ucent), "block": block, "at": at}
    receipt = make_receipt(kind, {**common, **fields}, salt=secrets.token_bytes(WORD_BYTES))
    return Payment(amount_ucent=amount_ucent, receipt=receipt)


def read_incoming(channel: ChannelId, nonce: int, payment: Payment) -> IncomingPayment:
    """Read a payment's receipt; one that cannot be read is reported, the money stays accepted."""
    fields: dict[str, Any] | None = None
    problem = ""
    try:
        fields = payment.receipt.fields()
    except MalformedReceipt as error:
        problem = error.text
    if fields is not None and fields["amount"] != payment.amount_ucent:
        problem = f"the receipt says {fields['amount']} µ¢"
    return IncomingPayment(
        channel=channel,
        nonce=nonce,
        amount_ucent=payment.amount_ucent,
        receipt=payment.receipt,
        fields=fields,
        problem=problem,
    )


def _seen(moment: Moment) -> Moment:
    if not moment.head_seen:
        raise ChainNotSeen("this wallet has not read the chain since it started")
    return moment


class Requests:
    """Requests in both directions, durable, each decided once."""

    def __init__(
        self,
        ledger: Ledger,
        driver: Driver,
        moment: Callable[[], Moment],
        pulse: Pulse,
        notices: Notices,
    ) -> None:
        self._ledger = ledger
        self._driver = driver
        self._moment = moment
        self._pulse = pulse
        self._notices = notices
        self._asks = {(ask.ours, ask.id): ask for ask in load_requests(ledger)}
        self._match_stored()
        self._unsaid = deque(self._to_say())

    def _match_stored(self) -> None:
        """Find payments that were stored just before a crash and answer requests of ours."""
        waiting = {a.channel for a in self._asks.values() if a.ours and a.state is _OPEN}
        for channel in waiting:
            state = self._driver.get(channel)
            rows = self._ledger.query(
                "SELECT nonce FROM payment WHERE channel=? AND direction=? AND type=? AND nonce<=?",
                (channel, RECEIVED, int(ReceiptType.REQUEST), state.told_nonce),
            )
            for (nonce,) in rows:
                self.on_payment(next(incoming(self._ledger, state, first_nonce=nonce)))

    def all(self) -> list[PaymentAsk]:
        """Every request as it stands at this chain time."""
        return [self._now(ask) for ask in self._asks.values()]

    def get(self, request: bytes, *, ours: bool) -> PaymentAsk:
        """One request as it stands; raises `UnknownRequest`."""
        try:
            return self._now(self._asks[ours, request])
        except KeyError:
            raise UnknownRequest(f"there is no request {to_hex(request)}") from None

    def _now(self, ask: PaymentAsk) -> PaymentAsk:
        late = ask.state is RequestState.OPEN and ask.expires < self._moment().head_timestamp
        return _with(ask, state=RequestState.EXPIRED) if late else ask

    # -- towards the hub --------------------------------------------------------------------

    async def run(self, send: Callable[[Message], bool]) -> None:
        """Say what the hub may not have heard whenever `send` can, until cancelled."""
        while True:
            while self._unsaid and send(self._unsaid[0]):
                self._unsaid.popleft()
            await self._pulse.wait()

    def on_disconnected(self) -> None:
        """Say everything again on the next connection; the hub takes each id once."""
        self._unsaid = deque(self._to_say())

    def _to_say(self) -> Iterator[Message]:
        for ask in self.all():
            if ask.ours and ask.state is _OPEN:
                yield _request_of(ask)
            elif not ask.ours and ask.state is RequestState.REFUSED:
                yield _refusal_of(ask)

    def _say(self, message: Message) -> None:
        self._unsaid.append(message)
        self._pulse.beat()

    # -- we ask -----------------------------------------------------------------------------

    async def ask(self, channel: Channel, amount_ucent: int, purpose: str) -> PaymentAsk:
        """Make a request that is durable.

        Raises `AmountOutOfRange`, `BadPurpose`, and `ChainNotSeen` as it expires in chain time.
        """
        moment = _seen(self._moment())
        ask = PaymentAsk(
            id=secrets.token_bytes(REQUEST_BYTES),
            ours=True,
            channel=channel.id,
            amount_ucent=check_amount(amount_ucent),
            purpose=check_purpose(purpose),
            expires=moment.head_timestamp + REQUEST_SECONDS,
            state=RequestState.OPEN,
        )
        self._keep(ask)
        await self._driver.wait_durable()
        self._say(_request_of(ask))
        return ask

    def on_refused(self, message: PaymentRefused) -> None:
        """The hub will not pay a request of ours."""
        ask = self._asks.get((True, message.id))
        if ask is None or ask.state is not RequestState.OPEN:
            return
        self._keep(_with(ask, state=RequestState.REFUSED, code=message.code, text=message.text))
        self._tell("request-refused", ask, f"was refused: {message.text}")

    def on_payment(self, payment: IncomingPayment) -> None:
        """A payment came in: it may answer a request of ours."""
        fields = payment.fields
        if fields is None or payment.receipt.type is not ReceiptType.REQUEST:
            return
        ask = self._asks.get((True, fields["request"]))
        if ask is None or ask.channel != payment.channel or ask.state is RequestState.PAID:
            return
        if payment.amount_ucent < ask.amount_ucent:
            self._tell("request-short", ask, f"was paid with {payment.amount_ucent} µ¢ only")
            return
        self._keep(_with(ask, state=RequestState.PAID, nonce=payment.nonce))
        self._tell("request-paid", ask, "was paid")

    # -- we are asked -----------------------------------------------------------------------

    def on_request(self, message: PaymentRequest) -> None:
        """Keep a request for its owner to decide, or refuse it if it cannot be kept."""
        known = self._asks.get((False, message.id))
        if known is not None:
            if known.state is RequestState.REFUSED:
                self._say(_refusal_of(known))
            return  # paid: the payment is resent by itself; open: nothing new
        problem = self._problem(message)
        if problem is not None:
            self._say(PaymentRefused(id=message.id, code=_REFUSED_CODE, text=problem))
            return
        ask = PaymentAsk(
            id=message.id,
            ours=False,
            channel=ChannelId(message.channel),
            amount_ucent=message.amount_ucent,
            purpose=message.purpose,
            expires=message.expires,
            state=RequestState.OPEN,
        )
        self._keep(ask)
        self._tell("requested", ask, f"asks for {ask.amount_ucent} µ¢ for {ask.purpose!r}")

    def _problem(self, message: PaymentRequest) -> str | None:
        if message.channel not in self._driver.channels:
            return "it names a channel that this wallet does not hold"
        if message.amount_ucent < 1:
            return "it asks for nothing"
        try:
            check_purpose(message.purpose)
        except BadPurpose as error:
            return error.text
        if sum(1 for ask in self.all() if _is_open_to_us(ask)) >= REQUESTS_OPEN_MAX:
            return f"{REQUESTS_OPEN_MAX} requests wait for an answer already"
        return None

    def pay(self, request: bytes) -> tuple[ChannelId, int]:
        """Promise what a request asks; channel and nonce. Raises `RequestDecided` and the core's.

        An expired request is not paid: the hub may have forgotten it.
        """
        ask = self._open(request)
        fields = {"purpose": ask.purpose, "request": ask.id}
        channel = self._driver.get(ask.channel)
        payment = _payment(
            ReceiptType.REQUEST, ask.amount_ucent, self._moment(), channel.chain, fields
        )
        nonce = channel.sent.promised.nonce + 1
        paid = _with(ask, state=RequestState.PAID, nonce=nonce)
        self._driver.pay(ask.channel, (payment,), [_statement(paid)])
        self._asks[False, ask.id] = paid
        return ask.channel, nonce

    async def refuse(self, request: bytes, text: str) -> None:
        """Refuse a request for good; raises `UnknownRequest`, `RequestDecided`."""
        ask = self._open(request)
        refused = _with(ask, state=RequestState.REFUSED, code=_REFUSED_CODE, text=text[:200])
        self._keep(refused)
        await self._driver.wait_durable()
        self._say(_refusal_of(refused))

    def _open(self, request: bytes) -> PaymentAsk:
        ask = self.get(request, ours=False)
        if ask.state is not RequestState.OPEN:
            raise RequestDecided(ask)
        return ask

    def _keep(self, ask: PaymentAsk) -> None:
        self._asks[ask.ours, ask.id] = ask
        self._driver.store([_statement(ask)])
        self._pulse.beat()

    def _tell(self, kind: str, ask: PaymentAsk, what: str) -> None:
        self._notices.tell(
            kind,
            f"request {to_hex(ask.id)} {what}",
            request=to_hex(ask.id),
            amount_ucent=ask.amount_ucent,
            purpose=ask.purpose,
        )


def incoming(ledger: Ledger, channel: Channel, *, first_nonce: int) -> Iterator[IncomingPayment]:
    """Accepted payments of a channel from a nonce on, as stored, that its user may be told of."""
    last_nonce = channel.told_nonce
    for stored in ledger.payments(
        channel.id, RECEIVED, first_nonce=first_nonce, last_nonce=last_nonce
    ):
        yield read_incoming(channel.id, stored.total.nonce, stored.payment)


def _refusal_of(ask: PaymentAsk) -> PaymentRefused:
    return PaymentRefused(id=ask.id, code=ask.code, text=ask.text)


def _request_of(ask: PaymentAsk) -> PaymentRequest:
    return PaymentRequest(
        channel=ask.channel,
        id=ask.id,
        amount_ucent=ask.amount_ucent,
        purpose=ask.purpose,
        expires=ask.expires,
    )


def _is_open_to_us(ask: PaymentAsk) -> bool:
    return not ask.ours and ask.state is RequestState.OPEN


def _with(ask: PaymentAsk, **changes: Any) -> PaymentAsk:
    return replace(ask, **changes)


def load_requests(ledger: Ledger) -> Iterator[PaymentAsk]:
    """Every request as stored."""
    rows = ledger.query(
        "SELECT direction, id, channel, amount_ucent, purpose, expires, state, nonce, code, text"
        " FROM request"
    )
    for direction, request, channel, amount, purpose, expires, state, nonce, code, text in rows:
        yield PaymentAsk(
            id=request,
            ours=direction == ASKING,
            channel=ChannelId(channel),
            amount_ucent=int(amount),
            purpose=purpose,
            expires=int(expires),
            state=RequestState(state),
            nonce=nonce,
            code=code,
            text=text,
        )


def _statement(ask: PaymentAsk) -> Statement:
    values = (
        ASKING if ask.ours else ASKED,
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
    return ("INSERT OR REPLACE INTO request VALUES (?,?,?,?,?,?,?,?,?,?)", values)
