"""Mallory: a peer over a real socket that says whatever a test tells it, and forgets nothing.

It uses the codecs and the handshake, and no core: no rule keeps it from lying.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import rlp
import trio

from farthing.channels.client.wire import Wire
from farthing.channels.codecs import ACK_NUMBER, CODECS, UPDATE_NUMBER, decode_message
from farthing.channels.eip712 import Domain
from farthing.channels.errors import PeerError
from farthing.channels.frames import encode_frame
from farthing.channels.ids import ZERO_WORD, Address, ChannelId
from farthing.channels.messages import (
    Ack,
    ChannelTerms,
    Error,
    Message,
    Ping,
    Pong,
    Reestablish,
    SignedTotal,
    Update,
)
from farthing.channels.packed import pack_ack, pack_update
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.terms import Side, Terms
from farthing.channels.voucher import LaneTotal, Payment, Voucher, replay

PATIENCE_SECONDS = 60
EVERY_MESSAGE: tuple[type[Any], ...] = get_args(Message)
"""All there are: what is generated from this cannot forget a new one."""


def usage(amount_ucent: int) -> Payment:
    """A payment for a use, unlike every other."""
    fields = {"amount": amount_ucent, "block": 1, "at": 1_800_000_000, "purpose": "parking"}
    receipt = make_receipt(ReceiptType.USAGE, fields, salt=secrets.token_bytes(32))
    return Payment(amount_ucent=amount_ucent, receipt=receipt)


@dataclass(kw_only=True)
class Mallory:
    """One end of one channel: its key, both lanes as it knows them, and a connection."""

    domain: Domain
    signer: Signer
    terms: Terms
    channel: ChannelId
    side: Side
    mine: list[SignedTotal] = field(default_factory=list)
    theirs: list[SignedTotal] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    wire: Wire | None = None
    ended: bool = False
    acknowledges: bool = True
    _tokens: Iterator[int] = field(default_factory=lambda: itertools.count(10**6))

    # -- what it holds

    @property
    def total(self) -> LaneTotal:
        return self.mine[-1].total if self.mine else LaneTotal()

    @property
    def their_total(self) -> LaneTotal:
        return self.theirs[-1].total if self.theirs else LaneTotal()

    def sign(self, total: LaneTotal, *, domain: Domain | None = None, **other: Any) -> Voucher:
        """A voucher of its own lane, under this deployment or another, for this channel or not."""
        fields: dict[str, Any] = {"channel": self.channel, "payer": self.terms.account(self.side)}
        separator = (domain or self.domain).separator()
        return sign_voucher(separator, self.signer, **(fields | other), total=total)

    def update(self, *payments: Payment, after: LaneTotal | None = None) -> Update:
        """An honest update with these payments; nothing remembers it."""
        start = self.total if after is None else after
        total = replay(start, payments)[-1]
        return Update(
            channel=self.channel,
            first_nonce=start.nonce + 1,
            signature=self.sign(total).signature,
            payments=payments,
        )

    # -- what it says

    async def say(self, *messages: Message) -> None:
        """Send in one write; a connection that has ended takes nothing."""
        assert self.wire is not None
        for message in messages:
            try:
                await self.wire.say_now(message)
            except PeerError:
                self.ended = True

    async def say_bytes(self, payload: bytes) -> None:
        """Send a frame of any content."""
        assert self.wire is not None
        try:
            await self.wire._send_bytes(encode_frame(payload))
        except PeerError:
            self.ended = True

    async def pay(self, amount_ucent: int) -> None:
        """Pay honestly and wait for the acknowledgement."""
        payment = usage(amount_ucent)
        update = self.update(payment)
        total = replay(self.total, [payment])[-1]
        self.mine.append(SignedTotal(total=total, conditions=ZERO_WORD, signature=update.signature))
        self.payments.append(payment)
        await self.say(update)
        await self.until(
            lambda: any(isinstance(m, Ack) and m.nonce == total.nonce for m in self.heard)
        )

    async def greet(self) -> None:
        """Show honestly what it holds, and resend what the peer lacks."""
        await self.say(self.greeting())
        await self.until(lambda: any(isinstance(m, Reestablish) for m in self.heard))
        shown = next(m for m in reversed(self.heard) if isinstance(m, Reestablish))
        nonce = 0 if shown.received is None else shown.received.total.nonce
        if nonce < self.total.nonce:
            after = self.mine[nonce - 1].total if nonce else LaneTotal()
            await self.say(self.update(*self.payments[nonce:], after=after))
            await self.until(
                lambda: any(isinstance(m, Ack) and m.nonce == self.total.nonce for m in self.heard)
            )

    def greeting(self) -> Reestablish:
        return Reestablish(
            channel=self.channel,
            sent=self.mine[-1] if self.mine else None,
            received=self.theirs[-1] if self.theirs else None,
        )

    # -- what it hears

    async def _read(self) -> None:
        assert self.wire is not None
        try:
            messages = await self.wire.receive()
        except PeerError:
            self.ended = True
            return
        for message in messages:
            self.heard.append(message)
            if isinstance(message, Update) and message.channel == self.channel:
                await self._take(message)

    async def _take(self, update: Update) -> None:
        """Keep the peer's voucher, and acknowledge it unless told not to."""
        known = self.their_total
        fresh = update.payments[known.nonce + 1 - update.first_nonce :]
        if fresh:
            total = replay(known, fresh)[-1]
            self.theirs.append(
                SignedTotal(total=total, conditions=ZERO_WORD, signature=update.signature)
            )
        if self.acknowledges:
            total = self.their_total
            await self.say(Ack(channel=self.channel, nonce=total.nonce, history=total.history))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until it holds; the connection must live so long."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not condition():
                assert not self.ended, f"the connection ended, last heard: {self.heard[-1:]}"
                await self._read()

    async def answers(self) -> list[Message]:
        """All that comes before the answer to a heartbeat sent now, or before the end."""
        start, token = len(self.heard), next(self._tokens)
        await self.say(Ping(token=token))
        with trio.fail_after(PATIENCE_SECONDS):
            while not self.ended and Pong(token=token) not in self.heard[start:]:
                await self._read()
        noise = (Ping, Pong)
        return [message for message in self.heard[start:] if not isinstance(message, noise)]

    # -- as a wallet, it dials

    @asynccontextmanager
    async def dialled(self, port: int, peer: Address) -> AsyncIterator[Mallory]:
        """A connection to a hub, proved with its own key, on which it has said nothing yet."""
        wire = Wire(await trio.open_tcp_stream("127.0.0.1", port))
        try:
            await wire.dial(self.domain, self.signer, peer)
            self.begin(wire)
            yield self
        finally:
            await wire.finish()

    def begin(self, wire: Wire) -> None:
        """Forget the last connection."""
        self.wire, self.ended = wire, False
        self.heard.clear()


def errors(messages: list[Message]) -> list[str]:
    """The codes that were said."""
    return [message.code for message in messages if isinstance(message, Error)]


def announced(terms: Terms) -> ChannelTerms:
    """The terms as a hub announces them."""
    return ChannelTerms(**{name: getattr(terms, name) for name in Terms.__dataclass_fields__})


# -- a message of every kind -----------------------------------------------------------------------


def some(kind: type[Any], mallory: Mallory) -> Message:
    """A message of that kind that reads well, names the channel, and is signed by nobody.

    Made from the codec's own row, so that a new message has one without a line here.
    """
    lane = LaneTotal(nonce=9, transferred_ucent=9, history=b"\x5a" * 32)
    if kind is Update:
        return Update(
            channel=mallory.channel,
            first_nonce=mallory.total.nonce + 1,
            signature=b"\x5a" * 64 + b"\x1b",
            payments=(usage(1),),
        )
    if kind is Ack:
        return Ack(channel=mallory.channel, nonce=10**6, history=lane.history)
    if kind is Reestablish:
        shown = SignedTotal(total=lane, conditions=ZERO_WORD, signature=b"\x5a" * 64 + b"\x1b")
        return Reestablish(channel=mallory.channel, sent=None, received=shown)
    (codec,) = (codec for codec in CODECS if codec.message is kind)
    known = {
        "channel": mallory.channel,
        "account": mallory.terms.account(mallory.side),
        "signature": b"\x5a" * 64 + b"\x1b",
    }
    items = [known.get(name) or _item(field.kind) for name, field in codec.fields.items()]
    return decode_message(rlp.encode([bytes([codec.number]), *items]))


def _item(kind: str) -> Any:
    """A value of a field, by what the codec calls it."""
    if kind.startswith("bytes up to"):
        return b""
    if kind.startswith("bytes"):
        return b"\x5a" * int(kind.removeprefix("bytes"))
    if kind.startswith("uint"):
        return b"\x07"
    if kind.startswith("text"):
        return b"text"
    return []


# -- a message with one bit changed ----------------------------------------------------------------


def flipped(message: Message) -> Iterator[bytes]:
    """The message's payload with one bit of one byte of one field changed, each byte in turn."""
    items = _items_of(message)
    for index, item in enumerate(items):
        for position in range(len(item)):
            changed = bytearray(item)
            changed[position] ^= 1 << (position % 8)
            yield rlp.encode([*items[:index], bytes(changed), *items[index + 1 :]])


def _items_of(message: Message) -> list[bytes]:
    if isinstance(message, Update):
        record = pack_update(
            message.channel, message.first_nonce, message.signature, message.payments
        )
        return [bytes([UPDATE_NUMBER]), record]
    if isinstance(message, Ack):
        return [bytes([ACK_NUMBER]), pack_ack(message.channel, message.nonce, message.history)]
    (codec,) = (codec for codec in CODECS if codec.message is type(message))
    values = [field.encode(getattr(message, name)) for name, field in codec.fields.items()]
    return [bytes([codec.number]), *(value for value in values if isinstance(value, bytes))]


def other_domains(domain: Domain) -> list[Domain]:
    """The same contract on another chain, and another contract on the same chain."""
    return [
        replace(domain, chain_id=domain.chain_id + 1),
        replace(domain, contract=Address(b"\x5a" * 20)),
    ]
