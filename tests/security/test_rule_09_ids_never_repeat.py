"""Rule 9: a channel's id binds chain, contract, deployment and terms; closed is for ever."""

from dataclasses import replace

import pytest

from farthing.channels.deployment import Deployment
from farthing.channels.eip712 import voucher_digest
from farthing.channels.ids import Address
from farthing.channels.signing import recover
from farthing.channels.terms import Side, Terms

from ..contract.city import City, alice, deploy, hub, hub_to_alice
from ..contract.city import Terms as ContractTerms
from ..contract.evm import Evm, Reverted
from ..people import ALICE, DEPLOYMENT, TERMS, lane, voucher
from .attacks import closing, reasons, window_over

UNKNOWN_CHANNEL = 1


def who_signed(deployment: Deployment, terms: Terms = TERMS) -> bytes:
    """Whose signature alice's own is when it is given out for another channel or deployment."""
    hers = voucher(Side.A, lane(5))
    digest = voucher_digest(
        deployment.domain().separator(),
        channel=deployment.channel_id(terms),
        payer=hers.payer,
        nonce=hers.total.nonce,
        transferred_ucent=hers.total.transferred_ucent,
        history=hers.total.history,
        conditions=hers.conditions,
    )
    return recover(digest, hers.signature)


def test_a_voucher_of_another_chain_is_nobodys() -> None:
    assert who_signed(DEPLOYMENT) == ALICE.address
    assert who_signed(replace(DEPLOYMENT, chain_id=1)) != ALICE.address


def test_a_voucher_for_another_contract_is_nobodys() -> None:
    elsewhere = replace(DEPLOYMENT, payment_channels=Address(b"\x66" * 20))
    assert who_signed(elsewhere) != ALICE.address


def test_a_voucher_from_before_the_chain_was_reset_is_nobodys() -> None:
    assert who_signed(replace(DEPLOYMENT, deployment=b"\x66" * 32)) != ALICE.address


def test_a_voucher_of_a_closed_channel_is_nobodys_on_its_successor() -> None:
    assert who_signed(DEPLOYMENT, replace(TERMS, sequence=2)) != ALICE.address


# -- the same on the contract -------------------------------------------------------------------


def test_a_row_of_another_chain_is_not_settled(city: City) -> None:
    terms = city.open(deposit=100)
    row = city.voucher(terms, 0, 30)
    city.evm.chain_id = 66  # the chain splits; both halves have the contract and the channel
    city.evm.pass_time()
    assert reasons(city.settled(alice, row)) == [UNKNOWN_CHANNEL]


def test_a_row_for_another_contract_is_not_settled(city: City) -> None:
    other = deploy(city.evm, "payment_channels", city.token.address, city.registry.address)
    city.token.send(hub, "approve", other.address, 2**256 - 1)
    row = city.voucher(city.open(deposit=100), 0, 30)
    (twin,) = city.opened(other.send(hub, "open", hub_to_alice(deposit=100)))
    assert twin == row.terms
    assert not other.send(alice, "settle", [row]).named("Settled")


def test_a_row_from_before_the_chain_was_reset_is_not_settled(city: City) -> None:
    evm = Evm()
    evm.pass_time(seconds=1)
    reset = City.built(evm)
    assert reset.channels.address == city.channels.address
    row = city.voucher(city.open(deposit=100), 0, 30)
    assert reset.open(deposit=100) == row.terms
    assert not reset.settled(alice, row).named("Settled")


def ended(city: City) -> ContractTerms:
    """A channel that was closed with 30 paid to alice."""
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    city.settled(alice, city.voucher(terms, 0, 30))
    closing(city, terms, alice)
    window_over(city, terms)
    city.channels.send(alice, "finish_close", terms)
    return terms


def test_a_row_of_a_closed_channel_is_not_settled_on_its_successor(city: City) -> None:
    old = ended(city)
    row = city.voucher(old, 0, 30)
    new = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    city.settled(alice, row)
    assert city.state(new).transferred_a == 0


def test_a_late_deposit_does_not_revive_a_closed_channel(city: City) -> None:
    terms = ended(city)
    before = city.balance(hub.address)
    with pytest.raises(Reverted, match="channels: not open"):
        city.channels.send(hub, "deposit", terms, hub.address, 50)
    assert city.balance(hub.address) == before
