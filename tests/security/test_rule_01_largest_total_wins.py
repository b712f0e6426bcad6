"""Rule 1: on-chain a row takes effect if and only if its total exceeds the stored one."""

from ..contract.city import City, alice, hub
from .attacks import reasons

NOT_GREATER = 6


def test_a_low_total_under_a_high_nonce_does_not_strand_the_greater_voucher(city: City) -> None:
    terms = city.open()
    promised = city.voucher(terms, 0, 50, nonce=2)
    mallorys = [city.voucher(terms, 0, total, nonce=2**64 - 1) for total in (10, 20)]
    city.settled(hub, mallorys[0])
    city.settled(alice, promised)
    assert reasons(city.settled(hub, mallorys[1])) == [NOT_GREATER]
    assert city.state(terms).transferred_a == 50
