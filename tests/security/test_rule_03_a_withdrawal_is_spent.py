"""Rule 3: a co-signed withdrawal is spent, and takes only what its own channel holds."""

from dataclasses import replace

import pytest

from farthing.channels.events import AskedPay, Elapsed, ObservedChannel, Received
from farthing.channels.messages import WithdrawalOffer
from farthing.channels.refusals import InsufficientBalance
from farthing.channels.state import ReceivedLane, Withdrawal, WithdrawalTerms
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..contract.city import City, alice, bob, hub, mallory
from ..contract.evm import Reverted
from ..people import CHANNEL, DEPOSIT, NOW, TERMS, channel, lane, moment, payment, view, voucher
from .attacks import closing, refused, window_over, withdrawal

EXPIRES = NOW + 90


def signed(side: Side, total_ucent: int = DEPOSIT) -> Withdrawal:
    """A withdrawal that bears our signature, so that it may be taken until it is dead."""
    terms = WithdrawalTerms(side=side, total_ucent=total_ucent, expires=EXPIRES)
    return Withdrawal(terms=terms, ours=b"\x01" * 65)


def test_money_in_a_withdrawal_that_bears_our_signature_pays_for_nothing_else() -> None:
    state = channel(withdrawals=(signed(Side.A), signed(Side.B)))
    with pytest.raises(InsufficientBalance):  # ours, which bob may still accept
        step(state, AskedPay(payments=(payment(1),)), moment())
    assert state.peer_balance_ucent(0) == 0  # bob's, which he may still submit


def test_money_in_a_withdrawal_is_not_free_when_only_the_wall_clock_has_passed_its_end() -> None:
    state = channel(withdrawals=(None, signed(Side.B)))
    late = replace(moment(EXPIRES + 50), head_timestamp=EXPIRES + 50)
    for event in (Elapsed(), ObservedChannel(view=view(timestamp=EXPIRES, block=101))):
        state = step(state, event, late).state
        assert state.withdrawals[Side.B] is not None
    dead = ObservedChannel(view=view(timestamp=EXPIRES + 1, block=102))
    assert step(state, dead, late).state.withdrawals[Side.B] is None


def test_a_peer_does_not_withdraw_what_it_has_paid_us_already() -> None:
    state = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5))))
    offer = WithdrawalOffer(
        channel=CHANNEL,
        account=TERMS.account_b,
        total_ucent=DEPOSIT - 4,
        expires=EXPIRES,
        signature=b"\x02" * 65,
    )
    result = step(state, Received(message=offer), moment())
    assert refused(result.effects) == "insufficient-balance"


# -- on the contract ----------------------------------------------------------------------------


def test_two_that_co_sign_a_huge_withdrawal_do_not_drain_other_channels(city: City) -> None:
    city.open(account_b=bob.address, signer_b=bob.address, deposit=1000)
    terms = city.open(deposit=100)
    with pytest.raises(Reverted, match="channels: too much"):
        city.channels.send(mallory, "withdraw", *withdrawal(city, terms, alice, 101))
    assert city.balance(city.channels.address) == 1100


def test_a_withdrawal_that_is_submitted_twice_pays_once(city: City) -> None:
    terms = city.open(deposit=100)
    arguments = withdrawal(city, terms, alice, 40)
    city.channels.send(alice, "withdraw", *arguments)
    with pytest.raises(Reverted, match="channels: total not greater"):
        city.channels.send(alice, "withdraw", *arguments)
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
    arguments = withdrawal(city, terms, alice, 40)
    city.evm.pass_time(seconds=101)
    with pytest.raises(Reverted, match="channels: expired"):
        city.channels.send(alice, "withdraw", *arguments)
