"""Every signature that mallory has seen, in every place where it does not belong: worth nothing.

What the hub signed (a voucher, a close, a withdrawal, the connection) and what mallory signed is
put into each message and transaction that takes a signature, and what the hub's key signs for
another chain, contract, deployment or channel is put where its own would count.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import pytest
import trio

from farthing.channels.client.wire import Wire
from farthing.channels.eip712 import (
    close_digest,
    start_close_digest,
    withdrawal_digest,
)
from farthing.channels.errors import ChainError, PeerError
from farthing.channels.handshake import Role, Transcript, make_hello
from farthing.channels.ids import ZERO_WORD, ChannelId
from farthing.channels.messages import (
    Authenticate,
    Challenge,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Message,
    Reestablish,
    SignedTotal,
    WithdrawalAccept,
    WithdrawalOffer,
)
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.state import OFFER_SECONDS
from farthing.channels.voucher import replay
from farthing.node.chain import SettleRow

from .hub import HonestHub, be_rewarded, rows_of
from .mallory import EVERY_MESSAGE, Mallory, errors, flipped, other_domains, some, usage

SIGNED = [
    kind
    for kind in EVERY_MESSAGE
    if any(field.name in ("signature", "sent") for field in fields(kind))
]
"""The messages with a signature in them, whatever they are called."""


def signatures_in(value: Any) -> Iterator[bytes]:
    """Every signature of a message, however deep."""
    if is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            if field.name == "signature":
                yield inner
            else:
                yield from signatures_in(inner)


@dataclass
class Seen:
    """What was signed on one channel, by both sides; what each says is true of it."""

    signatures: list[bytes]
    close: CloseOffer
    withdrawal: WithdrawalOffer


async def everything_signed(hub: HonestHub, mallory: Mallory) -> Seen:
    """A history with vouchers, a withdrawal that both signed, and an offer to close."""
    heard: list[Message] = []
    head = await trio.to_thread.run_sync(hub.city.chain.head)
    async with mallory.dialled(hub.port, hub.signer):
        await mallory.greet()
        for _ in range(3):
            await be_rewarded(mallory)
            await mallory.pay(40)
        expires = head.timestamp + OFFER_SECONDS
        account = mallory.terms.account(mallory.side)
        digest = withdrawal_digest(
            mallory.domain.separator(),
            channel=mallory.channel,
            account=account,
            total_ucent=10,
            expires=expires,
        )
        offer = WithdrawalOffer(
            channel=mallory.channel,
            account=account,
            total_ucent=10,
            expires=expires,
            signature=mallory.signer.sign_digest(digest),
        )
        await mallory.say(offer)
        await mallory.until(lambda: any(isinstance(m, WithdrawalAccept) for m in mallory.heard))
        await mallory.say(CloseRequest(channel=mallory.channel))
        await mallory.until(lambda: any(isinstance(m, CloseOffer) for m in mallory.heard))
        heard += mallory.heard
    (close,) = (message for message in heard if isinstance(message, CloseOffer))
    signed = {s for message in heard for s in signatures_in(message)}
    signed |= {shown.signature for shown in (*mallory.mine, *mallory.theirs)} | {offer.signature}
    assert len(signed) >= 3 + 3 + 1 + 1 + 1
    return Seen(signatures=sorted(signed), close=close, withdrawal=offer)


def with_signature(message: Message, signature: bytes) -> Message:
    if isinstance(message, Reestablish):
        assert message.received is not None
        return replace(message, received=replace(message.received, signature=signature))
    changed: Any = message
    return cast("Message", replace(changed, signature=signature))


def slots(mallory: Mallory) -> list[Message]:
    """A message of every kind that carries a signature, each saying what would move money."""
    after = mallory.update(usage(1))
    more = replay(mallory.their_total, [usage(50_000)])[-1]
    shown = SignedTotal(total=more, conditions=ZERO_WORD, signature=bytes(65))
    special: dict[type[Any], Message] = {
        type(after): after,
        Reestablish: Reestablish(channel=mallory.channel, sent=None, received=shown),
    }
    kinds = [kind for kind in SIGNED if kind is not Authenticate]
    return [special.get(kind) or some(kind, mallory) for kind in kinds]


def test_no_signature_is_worth_anything_in_another_message_or_on_another_channel(
    hub: HonestHub,
) -> None:
    mallory, other = hub.take(), hub.take()

    async def replays() -> int:
        seen = await everything_signed(hub, other)
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)
            await mallory.pay(40)
        own = [shown.signature for shown in (*mallory.mine, *mallory.theirs)]
        before = await trio.to_thread.run_sync(hub.money, mallory)
        refused = 0
        for message in slots(mallory):
            for signature in [*seen.signatures, *own]:
                async with mallory.dialled(hub.port, hub.signer):
                    await mallory.greet()
                    start = len(mallory.heard)
                    await mallory.say(with_signature(message, signature))
                    await mallory.until(
                        lambda start=start: mallory.ended or bool(errors(mallory.heard[start:]))  # type: ignore[misc]
                    )
                    refused += 1
                assert await trio.to_thread.run_sync(hub.money, mallory) == before, message
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await mallory.pay(1)
        return refused

    assert trio.run(replays) >= 6 * 11


def test_no_signature_opens_another_connection(hub: HonestHub) -> None:
    mallory, other = hub.take(), hub.take()

    async def replays() -> None:
        seen = await everything_signed(hub, other)
        for signature in seen.signatures:
            wire = Wire(await trio.open_tcp_stream("127.0.0.1", hub.port))
            hello = make_hello(
                mallory.domain, signer=mallory.signer.address, peer=hub.signer, nonce=bytes(32)
            )
            await wire.say_now(hello)
            await wire._expect(Challenge)
            await wire.say_now(Authenticate(signature=signature))
            (answer,) = await wire.receive()
            assert isinstance(answer, Error)
            with pytest.raises(PeerError):
                await wire.receive()
            await wire.finish()

    trio.run(replays)


def test_a_connection_is_not_opened_by_the_signature_for_another_chain_or_contract(
    hub: HonestHub,
) -> None:
    mallory = hub.take()

    async def elsewhere() -> None:
        for domain in other_domains(mallory.domain):
            wire = Wire(await trio.open_tcp_stream("127.0.0.1", hub.port))
            hello = make_hello(
                mallory.domain, signer=mallory.signer.address, peer=hub.signer, nonce=bytes(32)
            )
            await wire.say_now(hello)
            challenge = await wire._expect(Challenge)
            transcript = Transcript(domain=domain, hello=hello, challenge=challenge)
            signature = mallory.signer.sign_digest(transcript.digest(Role.DIALER))
            await wire.say_now(Authenticate(signature=signature))
            (answer,) = await wire.receive()
            assert isinstance(answer, Error)
            await wire.finish()

    trio.run(elsewhere)


# -- on the chain ----------------------------------------------------------------------------------


def elsewhere(mallory: Mallory, key: Signer, total_ucent: int) -> list[bytes]:
    """The key's signatures on that total of the hub's lane: elsewhere, or of another channel."""
    total = replay(mallory.their_total, [usage(total_ucent)])[-1]
    payer = mallory.terms.account(mallory.side.other)
    other_deployment = ChannelId(bytes([mallory.channel[0] ^ 1]) + mallory.channel[1:])
    made = [
        sign_voucher(d.separator(), key, channel=mallory.channel, payer=payer, total=total)
        for d in other_domains(mallory.domain)
    ]
    separator = mallory.domain.separator()
    made.append(sign_voucher(separator, key, channel=other_deployment, payer=payer, total=total))
    mine = mallory.terms.account(mallory.side)  # as if the hub's own words were the wallet's
    made.append(sign_voucher(separator, key, channel=mallory.channel, payer=mine, total=total))
    return [voucher.signature for voucher in made]


def test_the_contract_takes_no_signature_of_another_place_or_purpose(hub: HonestHub) -> None:
    mallory, other = hub.take(), hub.take()

    async def live() -> Seen:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)
            await mallory.pay(40)
        return await everything_signed(hub, other)

    seen = trio.run(live)
    chain, key = hub.chain(mallory), hub.key
    before = hub.city.chain.view(mallory.channel, hub.city.chain.head())
    total = replay(mallory.their_total, [usage(1)])[-1]
    rows = [
        SettleRow(
            terms=mallory.terms,
            lane=lane,
            nonce=total.nonce,
            transferred_ucent=total.transferred_ucent,
            history=total.history,
            conditions=ZERO_WORD,
            signature=signature,
        )
        for lane in (mallory.side.other, mallory.side)
        for signature in [*seen.signatures, *elsewhere(mallory, key, 1)]
    ]
    rows += [  # one channel's vouchers in another's name, one lane's as the other's
        replace(row, **change)
        for row in rows_of(other, 1, 1)
        for change in ({"terms": mallory.terms}, {"lane": row.lane.other, "terms": mallory.terms})
    ]
    # The account of the sender needs no signature on its own lane: carol submits these.
    mined = hub.chain(other).settle(rows)
    assert (mined.settled, mined.skipped) == (0, len(rows))
    for signature in seen.signatures:
        for pair in ((signature, signature), *halves(mallory, key, signature)):
            with pytest.raises(ChainError):
                chain.close(
                    mallory.terms,
                    totals_ucent=(12_500, 0),
                    expires=seen.close.expires,
                    signatures=pair,
                )
            with pytest.raises(ChainError):
                chain.withdraw(
                    mallory.terms,
                    account=mallory.signer.address,
                    total_ucent=10,
                    expires=seen.withdrawal.expires,
                    signatures=pair,
                )
    after = hub.city.chain.view(mallory.channel, hub.city.chain.head())
    assert replace(after, block=before.block, timestamp=before.timestamp) == before


def halves(mallory: Mallory, key: Signer, signature: bytes) -> list[tuple[bytes, bytes]]:
    """Mallory's own true signature, beside one of the hub that belongs elsewhere."""
    expires = 2**40
    mine = close_digest(
        mallory.domain.separator(),
        channel=mallory.channel,
        transferred_a_ucent=12_500,
        transferred_b_ucent=0,
        expires=expires,
    )
    abroad = close_digest(
        other_domains(mallory.domain)[0].separator(),
        channel=mallory.channel,
        transferred_a_ucent=12_500,
        transferred_b_ucent=0,
        expires=expires,
    )
    starts = start_close_digest(
        mallory.domain.separator(), channel=mallory.channel, expires=expires
    )
    own = mallory.signer.sign_digest(mine)
    return [
        (signature, own),
        (key.sign_digest(abroad), own),
        (key.sign_digest(starts), own),
    ]


# -- forged ----------------------------------------------------------------------------------------


def test_one_bit_of_any_field_changed_is_money_for_nobody(hub: HonestHub) -> None:
    mallory = hub.take()

    async def forge() -> int:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            for _ in range(2):
                await be_rewarded(mallory)
                await mallory.pay(40)
        before = await trio.to_thread.run_sync(hub.money, mallory)
        head = await trio.to_thread.run_sync(hub.city.chain.head)
        update = mallory.update(usage(2**40 - 1))  # more than it owns, unless a bit is changed
        small = mallory.update(usage(1))
        tried = 0
        for message in (update, small, withdrawal(mallory, head.timestamp)):
            for payload in flipped(message):
                async with mallory.dialled(hub.port, hub.signer):
                    await mallory.greet()
                    await mallory.say_bytes(payload)
                    await mallory.answers()
                    tried += 1
            money = await trio.to_thread.run_sync(hub.money, mallory)
            assert money == before, message
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await mallory.pay(1)
        return tried

    assert trio.run(forge) > 500


def withdrawal(mallory: Mallory, now: int) -> WithdrawalOffer:
    account, expires = mallory.terms.account(mallory.side), now + OFFER_SECONDS
    digest = withdrawal_digest(
        mallory.domain.separator(),
        channel=mallory.channel,
        account=account,
        total_ucent=10,
        expires=expires,
    )
    return WithdrawalOffer(
        channel=mallory.channel,
        account=account,
        total_ucent=10,
        expires=expires,
        signature=mallory.signer.sign_digest(digest),
    )


def test_the_close_that_is_accepted_is_the_one_that_was_offered(hub: HonestHub) -> None:
    """An acceptance with one bit changed submits nothing; the honest one closes the channel."""
    mallory = hub.take()

    async def accept() -> None:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)
            await mallory.say(CloseRequest(channel=mallory.channel))
            await mallory.until(lambda: any(isinstance(m, CloseOffer) for m in mallory.heard))
            offer = next(m for m in mallory.heard if isinstance(m, CloseOffer))
        digest = close_digest(
            mallory.domain.separator(),
            channel=mallory.channel,
            transferred_a_ucent=offer.transferred_a_ucent,
            transferred_b_ucent=offer.transferred_b_ucent,
            expires=offer.expires,
        )
        values = {field.name: getattr(offer, field.name) for field in fields(offer)}
        signature = mallory.signer.sign_digest(digest)
        true = CloseAccept(**{**values, "signature": signature})
        for payload in [*flipped(true)]:
            async with mallory.dialled(hub.port, hub.signer):
                await mallory.say(mallory.greeting())
                await mallory.say_bytes(payload)
                await mallory.answers()
        assert (await trio.to_thread.run_sync(hub.row, mallory))["phase"] == "frozen"
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.say(mallory.greeting(), true)
            await trio.to_thread.run_sync(hub.until_phase, mallory, "closed")

    trio.run(accept)
    assert hub.city.treasury.balance_ucent(mallory.signer.address) == 12_500
