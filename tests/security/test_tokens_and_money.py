"""Hostile tokens and hostile bookkeeping: what is credited arrived, and the books stay true."""

import pytest

from farthing.channels.terms import Side
from farthing.node.audit.records import Code

from ..contract.city import City, alice, bob, hub, hub_to_alice, mallory
from ..contract.evm import Reverted
from ..unit.audit_world import ALICE, World, codes, failures
from .attacks import closing, window_over, withdrawal

LIES_TRUE, ANSWERS_NOTHING, TAKES_A_FEE = 3, 8, 9


def misbehaves(city: City, behaviour: int) -> None:
    """Let the token misbehave when it is to pay the channels' contract."""
    city.token.send(mallory, "misbehave", city.channels.address, behaviour)


@pytest.mark.parametrize("behaviour", [LIES_TRUE, TAKES_A_FEE])
def test_a_deposit_that_did_not_arrive_in_full_is_not_credited(
    hostile_city: City, behaviour: int
) -> None:
    misbehaves(hostile_city, behaviour)
    with pytest.raises(Reverted, match="channels: token took a fee"):
        hostile_city.channels.send(hub, "open", hub_to_alice())


def test_a_token_that_answers_nothing_does_not_lock_deposits_out(hostile_city: City) -> None:
    misbehaves(hostile_city, ANSWERS_NOTHING)
    assert hostile_city.state(hostile_city.open(deposit=7)).deposit_a == 7


def test_a_withdrawal_that_no_voucher_covers_does_not_make_the_close_impossible(
    city: City,
) -> None:
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    city.channels.send(hub, "deposit", terms, alice.address, 20)
    city.channels.send(bob, "withdraw", *withdrawal(city, terms, hub, 110))  # an insider co-signs
    closing(city, terms, hub)
    window_over(city, terms)
    city.channels.send(bob, "finish_close", terms)
    assert city.balance(alice.address) == 10
    assert city.balance(city.channels.address) == 0


def test_a_debt_that_no_deposit_covers_takes_nothing_from_other_channels(city: City) -> None:
    city.open(account_b=bob.address, signer_b=bob.address, deposit=1000)
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    before = city.balance(hub.address)
    city.settled(hub, city.voucher(terms, 1, 700))  # alice, who owns nothing here, promised it
    closing(city, terms, hub)
    window_over(city, terms)
    city.channels.send(bob, "finish_close", terms)
    assert city.balance(hub.address) == before + 100
    assert city.balance(city.channels.address) == 1000


def test_the_auditor_sees_a_withdrawal_that_no_voucher_covers() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.deposit(channel, Side.B, 20)
    world.withdraw(channel, Side.A, 110)
    world.close(channel)
    assert Code.PAYOUT_CLAMPED in codes(world.judge())


def test_a_stray_token_transfer_does_not_fail_the_auditors_equation() -> None:
    world = World()
    world.open(ALICE, 100)
    world.donated = 5
    report = world.judge()
    assert failures(report) == []
    assert codes(report) == {Code.DONATION}
