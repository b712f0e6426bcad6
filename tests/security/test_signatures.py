"""Signatures: one format, and no way around checking them, off the chain and on it."""

from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from farthing.channels.client.driver import StrangerOnWire
from farthing.channels.client.wire import Wire
from farthing.channels.eip712 import close_digest, withdrawal_digest
from farthing.channels.events import AskedClose, Received, Unlinked
from farthing.channels.handshake import Role, Transcript, make_hello
from farthing.channels.ids import Address
from farthing.channels.messages import (
    Ack,
    Authenticate,
    Challenge,
    CloseOffer,
    Reestablish,
    SignedTotal,
    WithdrawalOffer,
)
from farthing.channels.signing import BadSignature, recover
from farthing.channels.state import Link
from farthing.channels.terms import Side

from ..contract.city import (
    ACTIVE,
    RESIDENT,
    City,
    MemberRow,
    alice,
    alice_signer,
    mallory,
    packed,
    registrar,
)
from ..contract.evm import Reverted
from ..people import ALICE, BOB, CHANNEL, DOMAIN, MALLORY, NOW, SEPARATOR, TERMS, lane, voucher
from .attacks import alice_at, both_signed, malleated, queued, update, wire_with

BAD_SIGNATURE = 7
DIGEST = b"\x55" * 32


# -- one format ---------------------------------------------------------------------------------


def test_the_second_signature_that_anybody_can_make_of_one_is_refused() -> None:
    signature = BOB.sign_digest(DIGEST)
    assert recover(DIGEST, signature) == BOB.address
    with pytest.raises(BadSignature, match="low one"):
        recover(DIGEST, malleated(signature))


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_a_signature_in_another_spelling_of_v_is_refused(v: int) -> None:
    with pytest.raises(BadSignature, match="neither 27 nor 28"):
        recover(DIGEST, BOB.sign_digest(DIGEST)[:64] + bytes([v]))


def test_a_compact_signature_of_64_bytes_is_refused() -> None:
    with pytest.raises(BadSignature, match="64 bytes"):
        recover(DIGEST, BOB.sign_digest(DIGEST)[:64])


def test_the_second_signature_that_anybody_can_make_of_a_row_is_not_settled(city: City) -> None:
    row = packed(city.voucher(city.open(deposit=100), 0, 30))
    r_s_v = row.r.to_bytes(32, "big") + row.s.to_bytes(32, "big") + bytes([row.statement >> 168])
    other = malleated(r_s_v)
    statement = other[64] << 168 | row.statement & (2**168 - 1)
    forged = row._replace(s=int.from_bytes(other[32:64], "big"), statement=statement)
    assert not city.channels.send(mallory, "settle_many", [forged]).named("Settled")


def test_the_second_signature_that_anybody_can_make_starts_no_close(city: City) -> None:
    terms = city.open(deposit=100)
    expires = city.evm.time + 60
    message = {"channel": city.channel(terms), "expires": expires}
    _, hers = both_signed(city, "StartClose", message)
    with pytest.raises(Reverted, match="channels: bad signature"):
        city.channels.send(mallory, "start_close", terms, expires, malleated(hers))


def test_a_row_in_another_spelling_of_v_is_not_settled(city: City) -> None:
    row = packed(city.voucher(city.open(deposit=100), 0, 30))
    for v in (row.statement >> 168) - 27, 29:
        forged = row._replace(statement=v << 168 | row.statement & (2**168 - 1))
        assert not city.channels.send(mallory, "settle_many", [forged]).named("Settled")


def test_a_compact_signature_does_not_revert_the_rows_beside_it(city: City) -> None:
    terms = city.open(deposit=100)
    row = city.voucher(terms, 0, 30)
    compact = row._replace(signature=row.signature[:64])
    city.settled(mallory, compact, row)
    assert city.state(terms).transferred_a == 30


# -- no way around ------------------------------------------------------------------------------


async def test_a_payment_under_mallorys_signature_is_not_acknowledged(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (node, wire):
        forged = update(7, signature=MALLORY.sign_digest(DIGEST))
        node.driver.receive([(CHANNEL, Received(message=forged))])
        await node.driver.flush()
        assert not any(isinstance(message, Ack) for message in queued(wire))


async def test_a_close_offer_under_mallorys_signature_is_not_countersigned(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (node, _):
        node.driver.feed(CHANNEL, AskedClose())
        forged = CloseOffer(
            channel=CHANNEL,
            transferred_a_ucent=0,
            transferred_b_ucent=0,
            expires=NOW + 60,
            signature=MALLORY.sign_digest(DIGEST),
        )
        with pytest.raises(BadSignature):
            node.driver.receive([(CHANNEL, Received(message=forged))])
        assert node.state().close is None


async def test_a_withdrawal_under_mallorys_signature_is_not_countersigned(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (node, _):
        forged = WithdrawalOffer(
            channel=CHANNEL,
            account=TERMS.account_b,
            total_ucent=5,
            expires=NOW + 60,
            signature=MALLORY.sign_digest(DIGEST),
        )
        with pytest.raises(BadSignature):
            node.driver.receive([(CHANNEL, Received(message=forged))])
        assert node.state().withdrawals == (None, None)


async def test_a_connection_of_mallorys_own_does_not_speak_for_bobs_channel(
    tmp_path: Path,
) -> None:
    with alice_at(tmp_path) as (node, _):
        mallorys = wire_with(MALLORY.address)
        with pytest.raises(StrangerOnWire):
            node.driver.link(CHANNEL, mallorys)
        assert not node.driver.linked(CHANNEL, mallorys)


async def test_a_claim_that_we_signed_more_stops_no_channel_without_our_signature(
    tmp_path: Path,
) -> None:
    with alice_at(tmp_path) as (node, _):
        shown = voucher(Side.B, lane(5))  # bob's own signature where alice's belongs
        claim = SignedTotal(
            total=shown.total, conditions=shown.conditions, signature=shown.signature
        )
        message = Reestablish(channel=CHANNEL, sent=None, received=claim)
        with pytest.raises(BadSignature):
            node.driver.receive([(CHANNEL, Received(message=message))])
        assert node.state().stopped is None
        node.driver.feed(CHANNEL, Unlinked())
        assert node.state().link is Link.DOWN


async def test_a_connection_under_mallorys_signature_is_not_bobs() -> None:
    ours, theirs = memory_stream_pair()
    alices, mallorys = Wire(ours), Wire(theirs)

    async def pretend() -> None:
        hello = make_hello(DOMAIN, signer=BOB.address, peer=ALICE.address, nonce=bytes(32))
        await mallorys.say_now(hello)
        challenge = await mallorys._expect(Challenge)
        digest = Transcript(domain=DOMAIN, hello=hello, challenge=challenge).digest(Role.DIALER)
        await mallorys.say_now(Authenticate(signature=MALLORY.sign_digest(digest)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pretend)
        with pytest.raises(BadSignature):
            await alices.accept(DOMAIN, ALICE)
    assert alices.peer is None


def test_an_unsigned_row_of_somebody_elses_lane_is_not_settled(city: City) -> None:
    row = city.voucher(city.open(deposit=100), 0, 100)._replace(signature=b"")
    assert not city.settled(alice, row).named("Settled")


def test_a_row_signed_by_who_is_paid_is_not_settled(city: City) -> None:
    row = city.voucher(city.open(deposit=100), 0, 100, by=alice_signer)
    assert not city.settled(alice, row).named("Settled")


# -- message types ------------------------------------------------------------------------------

SMALL = Address((10**9).to_bytes(20, "big"))
"""An account whose address is as small as a total: a Close then has a Withdrawal's numbers."""


def test_a_signed_close_is_no_signed_withdrawal() -> None:
    close = close_digest(
        SEPARATOR,
        channel=CHANNEL,
        transferred_a_ucent=int.from_bytes(SMALL, "big"),
        transferred_b_ucent=100,
        expires=NOW,
    )
    withdrawal = withdrawal_digest(
        SEPARATOR, channel=CHANNEL, account=SMALL, total_ucent=100, expires=NOW
    )
    assert close != withdrawal


def test_a_signed_close_is_not_taken_as_a_withdrawal(city: City) -> None:
    account = "0x" + SMALL.hex()
    city.registry.send(registrar, "set_members", [MemberRow(account, RESIDENT, ACTIVE)])
    terms = city.open(deposit=100, account_b=account)
    expires = city.evm.time + 60
    message = {
        "channel": city.channel(terms),
        "transferredA": int.from_bytes(SMALL, "big"),
        "transferredB": 100,
        "expires": expires,
    }
    signatures = both_signed(city, "Close", message)
    with pytest.raises(Reverted, match="bad signature"):
        city.channels.send(mallory, "withdraw", terms, account, 100, expires, *signatures)
