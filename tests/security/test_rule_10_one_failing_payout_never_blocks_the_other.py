"""Rule 10: one failing payout never blocks the other, and what failed is kept to be claimed."""

from ..contract.city import City, Terms, alice, bob, hub, mallory
from .attacks import closing, window_over

HONEST, REVERTS, LIES_TRUE, REENTERS = 0, 1, 3, 7


def closed_to(city: City, behaviour: int) -> Terms:
    """Alice is owed 30 of the hub's 100; the token misbehaves when it is to pay her."""
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    city.settled(hub, city.voucher(terms, 0, 30)._replace(signature=b""))
    closing(city, terms, hub)
    window_over(city, terms)
    city.token.send(mallory, "misbehave", alice.address, behaviour)
    city.channels.send(bob, "finish_close", terms)
    return terms


def test_an_account_that_cannot_be_paid_does_not_keep_the_other_from_its_money(
    hostile_city: City,
) -> None:
    before = hostile_city.balance(hub.address)
    closed_to(hostile_city, REVERTS)
    assert hostile_city.balance(hub.address) == before - 30


def test_a_payout_that_a_lying_token_swallowed_is_kept_to_be_claimed(hostile_city: City) -> None:
    closed_to(hostile_city, LIES_TRUE)
    assert hostile_city.balance(alice.address) == 0
    hostile_city.token.send(mallory, "misbehave", alice.address, HONEST)
    hostile_city.channels.send(bob, "claim", alice.address)
    assert hostile_city.balance(alice.address) == 30


def test_a_token_that_re_enters_a_payout_does_not_get_it_paid_twice(hostile_city: City) -> None:
    city = hostile_city
    other = city.open(deposit=1000)
    city.token.send(mallory, "mint", city.token.address, 30, b"\x01" * 32)
    deposit = city.channels.data("deposit", other, hub.address, 30)  # while alice is being paid
    city.token.send(mallory, "reenter", city.channels.address, deposit)
    closed_to(city, REENTERS)
    assert city.balance(alice.address) == 30
    assert city.channels.read("claimable", alice.address) == 0
