"""Counting: a repeat counts once, and no width overflows, in Python and Vyper alike."""

import pytest

from farthing.channels.events import Received, VerifyVoucher
from farthing.channels.fields import MalformedMessage, uint
from farthing.channels.state import ReceivedLane
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.channels.units import DEPOSIT_MAX, TRANSFERRED_MAX, AmountOutOfRange
from farthing.channels.voucher import LaneTotal, MalformedVoucher, Payment

from ..contract.city import CENT, City, alice, bob, carol, hub, hub_to_alice, mallory, treasury
from ..contract.evm import Reverted
from ..people import channel, lane, moment, payment, voucher
from .attacks import reasons, update, withdrawal

TOTAL_RANGE = 5


def test_a_payment_that_is_sent_again_with_a_new_one_counts_once() -> None:
    alice_ = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5))))
    (asked,) = step(alice_, Received(message=update(5, 7)), moment()).effects
    assert isinstance(asked, VerifyVoucher)
    assert asked.voucher.total == lane(5, 7)


def test_a_payment_of_nothing_or_of_more_than_a_lane_holds_does_not_exist() -> None:
    receipt = payment().receipt
    for amount in (1, TRANSFERRED_MAX):
        assert Payment(amount_ucent=amount, receipt=receipt).amount_ucent == amount
    for amount in (-1, 0, TRANSFERRED_MAX + 1):
        with pytest.raises(AmountOutOfRange):
            Payment(amount_ucent=amount, receipt=receipt)


def test_a_total_of_more_than_96_bits_does_not_exist() -> None:
    for total in (1, TRANSFERRED_MAX):
        LaneTotal(nonce=1, transferred_ucent=total, history=b"\x01" * 32)
    for total in (0, TRANSFERRED_MAX + 1):
        with pytest.raises(MalformedVoucher):
            LaneTotal(nonce=1, transferred_ucent=total, history=b"\x01" * 32)


@pytest.mark.parametrize("bits", [16, 64, 96])
def test_an_integer_on_the_wire_that_is_too_wide_is_refused(bits: int) -> None:
    field = uint(bits)
    for value in (0, 1, 2**bits - 1):
        assert field.decode(field.encode(value)) == value
    with pytest.raises(MalformedMessage):
        field.decode((2**bits).to_bytes(bits // 8 + 1, "big"))


# -- on the contract ----------------------------------------------------------------------------


def rich(city: City) -> None:
    """Give the hub more than a channel can hold."""
    city.token.send(treasury, "mint", hub.address, 2**80, b"\x0f" * 32)


def test_a_deposit_of_more_than_76_bits_does_not_spill_into_what_was_transferred(
    city: City,
) -> None:
    rich(city)
    terms = city.open(deposit=0)
    city.channels.send(hub, "deposit", terms, alice.address, DEPOSIT_MAX)
    for amount in (0, 1, DEPOSIT_MAX + 1):
        with pytest.raises(Reverted, match="channels: amount out of range"):
            city.channels.send(hub, "deposit", terms, alice.address, amount)
    assert city.state(terms)[4:6] == (0, DEPOSIT_MAX)


def test_an_opening_deposit_of_more_than_76_bits_does_not_spill_over(city: City) -> None:
    rich(city)
    assert city.state(city.open(deposit=DEPOSIT_MAX)).deposit_a == DEPOSIT_MAX
    with pytest.raises(Reverted, match="channels: amount out of range"):
        city.channels.send(hub, "open", hub_to_alice(deposit=DEPOSIT_MAX + 1))


def test_a_withdrawal_of_more_than_76_bits_does_not_spill_into_the_deposit(city: City) -> None:
    rich(city)
    terms = city.open(deposit=DEPOSIT_MAX)
    city.channels.send(hub, "deposit", terms, alice.address, 5)
    with pytest.raises(Reverted, match="channels: total out of range"):
        city.channels.send(bob, "withdraw", *withdrawal(city, terms, hub, DEPOSIT_MAX + 1))
    city.channels.send(bob, "withdraw", *withdrawal(city, terms, hub, DEPOSIT_MAX))
    assert city.state(terms)[2:4] == (DEPOSIT_MAX, DEPOSIT_MAX)


def test_a_total_of_more_than_96_bits_is_not_cut_down_to_a_small_one(city: City) -> None:
    terms = city.open()
    row = city.voucher(terms, 0, 1)._replace(signature=b"")
    outcome = city.settled(hub, row, row._replace(transferred=2**96 + 7))
    assert reasons(outcome) == [TOTAL_RANGE]
    assert city.state(terms).transferred_a == 1
    city.settled(hub, row._replace(transferred=TRANSFERRED_MAX))
    assert city.state(terms).transferred_a == TRANSFERRED_MAX


# -- batches ------------------------------------------------------------------------------------


def test_a_poisoned_row_does_not_keep_its_neighbours_from_settling(city: City) -> None:
    terms = city.open()
    other = city.open(account_b=bob.address, signer_b=bob.address)
    good = city.voucher(terms, 0, 30)
    poison = [good._replace(lane=2), good._replace(nonce=2**64)]
    city.settled(mallory, *poison, good, *poison, city.voucher(other, 0, 40))
    assert (city.state(terms).transferred_a, city.state(other).transferred_a) == (30, 40)


def test_a_poisoned_row_does_not_keep_its_neighbours_from_opening(city: City) -> None:
    rows = [hub_to_alice(account_b=mallory.address), hub_to_alice(deposit=CENT)]
    (opened,) = city.opened(city.channels.send(hub, "open_many", rows))
    assert city.state(opened).deposit_a == CENT


def test_a_poisoned_row_does_not_keep_its_neighbours_from_their_deposits(city: City) -> None:
    terms = city.open(deposit=0)
    rows = [(terms, carol.address, 5), (terms, alice.address, 7)]
    city.channels.send(hub, "deposit_many", rows)
    assert city.state(terms).deposit_b == 7
