"""Chains that stop or change their mind, ids in other spellings, and processes that are killed."""

from dataclasses import replace
from pathlib import Path

import pytest

from farthing.channels.events import ObservedChannel, Received
from farthing.channels.ids import MalformedHex, channel_from_hex
from farthing.channels.state import (
    ChainStatus,
    CloseTerms,
    Link,
    Phase,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.node.follower import Follower

from ..contract.city import City, alice, hub
from ..contract.evm import Reverted
from ..hub_parts import ACCOUNT, fresh_channel, parts
from ..people import ALICE, CHANNEL, NOW, channel, moment, view
from .attacks import alice_at, closing, killed, update


def test_a_close_does_not_end_while_a_stopped_chain_kept_the_answer_out(city: City) -> None:
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    closing(city, terms, hub)
    city.evm.pass_time(seconds=10**6, blocks=1)  # the first block after weeks is the hub's
    with pytest.raises(Reverted, match="blocks"):
        city.channels.send(hub, "finish_close", terms)


def test_a_close_does_not_end_because_blocks_come_faster_than_planned(city: City) -> None:
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    closing(city, terms, hub)
    city.evm.pass_time(seconds=20, blocks=10**6)
    with pytest.raises(Reverted, match="seconds"):
        city.channels.send(hub, "finish_close", terms)


def test_a_window_is_not_started_again_by_who_wants_no_end(city: City) -> None:
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    closing(city, terms, alice)
    with pytest.raises(Reverted, match="channels: not open"):
        closing(city, terms, hub)


def test_an_offer_that_a_reorganisation_revived_is_not_forgotten() -> None:
    """Bob took his money, so that the offer ended; then the block that took it is replaced."""
    taken = replace(view(), deposit_ucent=(100, 100), withdrawn_ucent=(0, 100))
    state = channel(chain=taken, link=Link.LIVE)
    undone = replace(taken, block=taken.block + 1, withdrawn_ucent=(0, 0))
    after = step(state, ObservedChannel(view=undone), moment()).state
    assert after.doubt_ends is not None  # until that is over, nothing is signed or accepted


async def test_a_deposit_that_a_reorganisation_took_back_is_not_spent(tmp_path: Path) -> None:
    with parts(tmp_path) as made:
        channel = made.hold(fresh_channel())
        follower = Follower(
            made.chain.desk(), made.store, account=ACCOUNT, signer=ALICE.address, first_block=7
        )
        made.chain.views[channel.id] = made.open_view()
        await follower.poll(made.driver, lambda _: None)
        await made.driver.flush()
        made.chain.fork, made.chain.number = 1, 101
        made.chain.views[channel.id] = made.open_view(status=ChainStatus.NEVER)
        await follower.poll(made.driver, lambda _: None)
        assert made.driver.get(channel.id).phase is Phase.UNCONFIRMED


def test_a_channel_id_in_another_spelling_does_not_name_a_second_channel() -> None:
    text = "0x" + CHANNEL.hex()
    assert channel_from_hex(text) == CHANNEL
    for spelling in ("0x" + CHANNEL.hex().upper(), text[2:], "0X" + text[2:], text + "00"):
        with pytest.raises(MalformedHex):
            channel_from_hex(spelling)


async def test_a_payer_killed_after_its_commit_knows_what_it_signed(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (node, _):
        node.pay(5)
        await node.driver.flush()
        again = killed(node)
        assert again.state().sent.total.transferred_ucent == 5
        again.ledger.close()


async def test_a_payee_killed_after_its_commit_knows_what_it_acknowledged(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (node, _):
        node.driver.receive([(CHANNEL, Received(message=update(7)))])
        await node.driver.flush()
        again = killed(node)
        assert again.state().received.total.transferred_ucent == 7
        again.ledger.close()


async def test_a_party_killed_after_it_signed_a_close_is_still_frozen(tmp_path: Path) -> None:
    terms = CloseTerms(transferred_a_ucent=0, transferred_b_ucent=0, expires=NOW + 90)
    signed = SignedClose(terms=terms, ours=b"\x01" * 65)
    with alice_at(tmp_path) as (node, _):
        node.driver._set(replace(node.state(), close=signed))
        await node.driver.flush()
        again = killed(node)
        assert again.state().close == signed
        again.ledger.close()


async def test_a_party_killed_after_it_signed_a_withdrawal_still_reserves_it(
    tmp_path: Path,
) -> None:
    terms = WithdrawalTerms(side=Side.B, total_ucent=5, expires=NOW + 90)
    signed = Withdrawal(terms=terms, ours=b"\x01" * 65)
    with alice_at(tmp_path) as (node, _):
        node.driver._set(replace(node.state(), withdrawals=(None, signed)))
        await node.driver.flush()
        again = killed(node)
        assert again.state().withdrawals == (None, signed)
        again.ledger.close()
