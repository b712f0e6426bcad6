"""Rule 3: a co-signed withdrawal is spent, and takes only what its own channel holds."""

import pytest

from ..contract.city import City, alice, bob, hub, mallory
from ..contract.evm import Reverted
from .attacks import closing, window_over, withdrawal


def test_two_that_co_sign_a_huge_withdrawal_do_not_drain_other_channels(city: City) -> None:
    city.open(account_b=bob.address, signer_b=bob.address, deposit=1000)
    terms = city.open(deposit=100)
    with pytest.raises(Reverted, match="channels: too much"):
        city.channels.send(mallory, "withdraw", *withdrawal(city, terms, alice, 101))
    assert city.balance(city.channels.address) == 1100


def test_a_withdrawal_that_is_submitted_twice_pays_once(city: City) -> None:
    terms = city.open(deposit=100)
    signed = withdrawal(city, terms, alice, 40)
    city.channels.send(alice, "withdraw", *signed)
    with pytest.raises(Reverted, match="channels: total not greater"):
        city.channels.send(alice, "withdraw", *signed)
    assert (city.balance(alice.address), city.state(terms).withdrawn_b) == (40, 40)


def test_a_withdrawal_kept_until_after_the_close_takes_nothing_from_others(city: City) -> None:
    city.open(account_b=bob.address, signer_b=bob.address, deposit=1000)
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    closing(city, terms, hub)
    window_over(city, terms)
    city.channels.send(hub, "finish_close", terms)
    with pytest.raises(Reverted, match="channels: not open"):
        city.channels.send(alice, "withdraw", *withdrawal(city, terms, alice, 100))
    assert city.balance(city.channels.address) == 1000


def test_a_withdrawal_that_died_is_not_taken(city: City) -> None:
    terms = city.open(deposit=100)
    signed = withdrawal(city, terms, alice, 40)
    city.evm.pass_time(seconds=101)
    with pytest.raises(Reverted, match="channels: expired"):
        city.channels.send(alice, "withdraw", *signed)
