"""Tokens and accounts that misbehave: nobody is blocked and nothing is paid twice."""

import pytest

from .city import City, OpenRow, Terms, alice, bob, hub, hub_signer, hub_to_alice, mallory
from .evm import Reverted

HONEST, REVERTS, ANSWERS_FALSE, LIES_TRUE, MOVES_AND_ANSWERS_FALSE = range(5)
BURNS_ALL_GAS, RETURNS_A_BOMB, REENTERS, ANSWERS_NOTHING, TAKES_A_FEE = range(5, 10)
MOVES_PART, TAKES_MORE, GIVES_BACK, CALLS_BACK = range(10, 14)
PAYS_NOTHING = [REVERTS, ANSWERS_FALSE, LIES_TRUE, BURNS_ALL_GAS, RETURNS_A_BOMB]


def misbehave(city: City, receiver: str, behaviour: int) -> None:
    city.token.send(mallory, "misbehave", receiver, behaviour)


def closing(city: City) -> Terms:
    """Alice has 30 of the hub's 100; the window is over."""
    city.open(deposit=1000)
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    city.settled(hub, city.voucher(terms, 0, 30))
    city.channels.send(hub, "start_close", terms, 0, b"")
    city.evm.pass_time(seconds=601, blocks=11)
    return terms


@pytest.mark.parametrize("behaviour", PAYS_NOTHING)
@pytest.mark.parametrize("victim", [hub, alice])
def test_an_account_that_cannot_be_paid_blocks_nobody_and_claims_later(
    hostile_city: City, behaviour: int, victim: object
) -> None:
    city = hostile_city
    terms = closing(city)
    stuck, other = (hub, alice) if victim is hub else (alice, hub)
    due, other_due = (70, 30) if victim is hub else (30, 70)
    misbehave(city, stuck.address, behaviour)
    before = city.balance(stuck.address)
    other_before = city.balance(other.address)
    outcome = city.channels.send(bob, "finish_close", terms, gas=600_000)
    assert outcome.named("Credited") == [
        {"channel": city.channel(terms), "account": stuck.address, "amount": due}
    ]
    assert city.state(terms).status == 3
    assert city.balance(other.address) == other_before + other_due
    assert city.balance(stuck.address) == before
    assert city.channels.read("claimable", stuck.address) == due

    with pytest.raises(Reverted, match="channels: transfer failed"):
        city.channels.send(bob, "claim", stuck.address)
    misbehave(city, stuck.address, HONEST)
    assert city.channels.send(bob, "claim", stuck.address).named("Claimed") == [
        {"account": stuck.address, "amount": due}
    ]
    assert city.balance(stuck.address) == before + due
    assert city.balance(city.channels.address) == 1000
    with pytest.raises(Reverted, match="channels: nothing to claim"):
        city.channels.send(bob, "claim", stuck.address)


@pytest.mark.parametrize("behaviour", [ANSWERS_NOTHING, MOVES_AND_ANSWERS_FALSE])
def test_a_payout_that_moved_is_paid_once_whatever_the_token_answers(
    hostile_city: City, behaviour: int
) -> None:
    city = hostile_city
    terms = closing(city)
    misbehave(city, alice.address, behaviour)
    assert not city.channels.send(bob, "finish_close", terms).named("Credited")
    assert city.balance(alice.address) == 30
    assert city.balance(city.channels.address) == 1000


def test_a_payout_that_moved_in_part_leaves_the_rest_to_claim(hostile_city: City) -> None:
    city = hostile_city
    terms = closing(city)
    misbehave(city, alice.address, MOVES_PART)
    [credited] = city.channels.send(bob, "finish_close", terms).named("Credited")
    assert (credited["account"], credited["amount"]) == (alice.address, 1)
    assert city.balance(alice.address) == 29
    misbehave(city, alice.address, HONEST)
    city.channels.send(bob, "claim", alice.address)
    assert city.balance(alice.address) == 30


def test_a_fee_is_its_receivers_loss_and_is_not_paid_again(hostile_city: City) -> None:
    city = hostile_city
    terms = closing(city)
    misbehave(city, alice.address, TAKES_A_FEE)
    assert not city.channels.send(bob, "finish_close", terms).named("Credited")
    assert city.balance(alice.address) == 29
    assert city.balance(city.channels.address) == 1000


def test_a_token_that_takes_more_than_it_was_asked_for_blocks_nobody(hostile_city: City) -> None:
    city = hostile_city
    terms = closing(city)
    city.token.send(mallory, "mint", city.channels.address, 1, b"")  # or others would lose it
    misbehave(city, hub.address, TAKES_MORE)
    before = city.balance(hub.address)
    assert not city.channels.send(bob, "finish_close", terms).named("Credited")
    assert city.balance(hub.address) == before + 70
    assert city.balance(alice.address) == 30
    assert city.balance(city.channels.address) == 1000


def test_a_token_that_gives_instead_of_taking_blocks_nobody(hostile_city: City) -> None:
    city = hostile_city
    terms = closing(city)
    misbehave(city, hub.address, GIVES_BACK)
    [credited] = city.channels.send(bob, "finish_close", terms).named("Credited")
    assert (credited["account"], credited["amount"]) == (hub.address, 70)
    assert city.balance(alice.address) == 30
    assert city.state(terms).status == 3


def test_both_payouts_can_fail_and_each_account_claims_its_own(hostile_city: City) -> None:
    city = hostile_city
    for _ in range(2):  # what is kept adds up over channels
        terms = closing(city)
        for person in (hub, alice):
            misbehave(city, person.address, BURNS_ALL_GAS)
        assert len(city.channels.send(bob, "finish_close", terms).named("Credited")) == 2
    kept = [city.channels.read("claimable", person.address) for person in (hub, alice, bob)]
    assert kept == [140, 60, 0]
    misbehave(city, alice.address, HONEST)
    before = city.balance(hub.address)
    city.channels.send(mallory, "claim", alice.address)
    assert (city.balance(alice.address), city.balance(hub.address)) == (60, before)
    assert city.channels.read("claimable", hub.address) == 140
    with pytest.raises(Reverted, match="channels: nothing to claim"):
        city.channels.send(mallory, "claim", alice.address)


@pytest.mark.parametrize("behaviour", [*PAYS_NOTHING, MOVES_PART])
def test_a_claim_that_fails_leaves_what_is_claimable_as_it_was(
    hostile_city: City, behaviour: int
) -> None:
    city = hostile_city
    terms = closing(city)
    misbehave(city, alice.address, REVERTS)
    city.channels.send(bob, "finish_close", terms)
    misbehave(city, alice.address, behaviour)
    for _ in range(2):
        with pytest.raises(Reverted, match="channels: transfer failed"):
            city.channels.send(alice, "claim", alice.address)
        assert city.channels.read("claimable", alice.address) == 30
        assert city.balance(alice.address) == 0


def test_a_withdrawal_that_cannot_be_paid_is_kept_for_its_account(hostile_city: City) -> None:
    city = hostile_city
    terms = city.open(deposit=100)
    misbehave(city, alice.address, REVERTS)
    message = {"channel": city.channel(terms), "account": alice.address, "total": 20}
    signed = city.signatures("Withdrawal", {**message, "expires": city.evm.time})
    city.channels.send(bob, "withdraw", terms, alice.address, 20, city.evm.time, *signed)
    assert city.state(terms).withdrawn_b == 20
    misbehave(city, alice.address, HONEST)
    city.channels.send(bob, "claim", alice.address)
    assert city.balance(alice.address) == 20


def test_whoever_finishes_with_little_gas_cannot_make_an_honest_payout_fail(city: City) -> None:
    terms = closing(city)
    refused = 0
    for gas in range(80_000, 300_000, 4_000):
        start = city.evm.checkpoint()
        try:
            outcome = city.channels.send(mallory, "finish_close", terms, gas=gas)
        except Reverted:
            refused += 1
        else:
            assert not outcome.named("Credited")
        city.evm.restore(start)
    assert 0 < refused < 55


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (TAKES_A_FEE, "channels: token took a fee"),
        (MOVES_PART, "channels: token took a fee"),
        (LIES_TRUE, "channels: token took a fee"),
        (ANSWERS_FALSE, "channels: transfer failed"),
        (MOVES_AND_ANSWERS_FALSE, "channels: transfer failed"),
        (REVERTS, "refused"),
        (BURNS_ALL_GAS, ""),
        (RETURNS_A_BOMB, "channels: transfer failed"),
    ],
)
def test_no_deposit_is_credited_that_did_not_arrive_in_full(
    hostile_city: City, behaviour: int, reason: str
) -> None:
    city = hostile_city
    terms = city.open(deposit=100)
    misbehave(city, city.channels.address, behaviour)
    rows = [OpenRow(hub.address, hub_signer.address, bob.address, bob.address)]
    for name, arguments in (
        ("open", (hub_to_alice(),)),
        ("open_many", (rows,)),
        ("deposit", (terms, alice.address, 5)),
        ("deposit_many", ([(terms, alice.address, 5)],)),
    ):
        with pytest.raises(Reverted, match=f"^{reason}$"):
            city.channels.send(hub, name, *arguments, gas=2_000_000)
    assert city.state(terms)[:6] == (1, 0, 100, 0, 0, 0)
    assert city.balance(city.channels.address) == 100
    assert city.channels.read("next_sequence") == 2


def test_what_a_token_gives_beyond_a_deposit_is_nobodys(hostile_city: City) -> None:
    city = hostile_city
    city.token.send(mallory, "mint", city.channels.address, 5, b"")
    terms = city.open(deposit=7)
    assert city.state(terms).deposit_a == 7
    assert city.balance(city.channels.address) == 12


def test_nothing_is_asked_of_the_token_where_nothing_is_deposited(hostile_city: City) -> None:
    city = hostile_city
    misbehave(city, city.channels.address, REVERTS)
    terms = city.open(deposit=0)
    [skipped] = city.channels.send(hub, "deposit_many", [(terms, hub.address, 0)]).named(
        "RowSkipped"
    )
    assert skipped["reason"] == 10


def test_nothing_is_asked_of_the_token_where_nothing_is_paid(hostile_city: City) -> None:
    city = hostile_city
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    city.channels.send(hub, "start_close", terms, 0, b"")
    city.evm.pass_time(seconds=601, blocks=11)
    misbehave(city, alice.address, REVERTS)
    assert not city.channels.send(bob, "finish_close", terms).named("Credited")


def test_a_deposit_of_a_token_that_answers_nothing_counts(hostile_city: City) -> None:
    city = hostile_city
    misbehave(city, city.channels.address, ANSWERS_NOTHING)
    assert city.state(city.open(deposit=7)).deposit_a == 7
