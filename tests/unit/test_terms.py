"""Terms that nobody should sign under cannot exist, and an id binds all that it must."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode

from farthing.channels.hashing import keccak256
from farthing.channels.ids import ZERO_ADDRESS, Address
from farthing.channels.terms import (
    CHALLENGE_BLOCKS_MAX,
    CHALLENGE_BLOCKS_MIN,
    CHALLENGE_SECONDS_MAX,
    CHALLENGE_SECONDS_MIN,
    Side,
    Terms,
    UnsafeTerms,
    channel_id,
)

from ..people import ALICE, BOB, CHANNEL, DEPLOYMENT, MALLORY, TERMS


def id_of(terms: Terms = TERMS, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "chain_id": DEPLOYMENT.chain_id,
        "contract": DEPLOYMENT.payment_channels,
        "deployment": DEPLOYMENT.deployment,
    }
    return channel_id(terms=terms, **(fields | changes))


def changed(field: str, value: Any) -> Terms:
    """The terms with one field changed, whatever its type."""
    changes: dict[str, Any] = {field: value}
    return replace(TERMS, **changes)


def test_each_side_has_its_account_and_its_signer() -> None:
    assert TERMS.account(Side.A) == TERMS.account_a
    assert TERMS.account(Side.B) == TERMS.account_b
    assert TERMS.signer(Side.A) == ALICE.address
    assert TERMS.signer(Side.B) == BOB.address
    assert (Side.A.other, Side.B.other) == (Side.B, Side.A)


def test_a_signer_is_recognised_as_its_side_and_a_stranger_as_none() -> None:
    assert TERMS.side_of_signer(ALICE.address) is Side.A
    assert TERMS.side_of_signer(BOB.address) is Side.B
    assert TERMS.side_of_signer(MALLORY.address) is None


@pytest.mark.parametrize("field", ["account_a", "signer_a", "account_b", "signer_b"])
@pytest.mark.parametrize("address", [ZERO_ADDRESS, b"", b"\x01" * 19, b"\x01" * 21])
def test_an_empty_or_misshapen_address_is_refused(field: str, address: bytes) -> None:
    with pytest.raises(UnsafeTerms, match="empty or not 20 bytes"):
        changed(field, Address(address))


@pytest.mark.parametrize("field_a", ["account_a", "signer_a"])
@pytest.mark.parametrize("field_b", ["account_b", "signer_b"])
def test_an_address_on_both_sides_is_refused(field_a: str, field_b: str) -> None:
    with pytest.raises(UnsafeTerms, match="both sides"):
        changed(field_b, getattr(TERMS, field_a))


def test_an_account_may_sign_for_itself() -> None:
    assert replace(TERMS, account_b=TERMS.signer_b).side_of_signer(BOB.address) is Side.B


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("challenge_seconds", CHALLENGE_SECONDS_MIN, CHALLENGE_SECONDS_MAX),
        ("challenge_blocks", CHALLENGE_BLOCKS_MIN, CHALLENGE_BLOCKS_MAX),
        ("sequence", 1, 2**64 - 1),
    ],
)
def test_a_number_is_taken_at_its_bounds_and_refused_beyond_them(
    field: str, low: int, high: int
) -> None:
    for value in (low, high):
        assert getattr(changed(field, value), field) == value
    for value in (low - 1, high + 1):
        with pytest.raises(UnsafeTerms, match=str(value)):
            changed(field, value)


def test_a_channel_id_is_the_hash_of_ten_abi_words() -> None:
    words = encode(
        ["uint256", "address", "bytes32", *["address"] * 4, *["uint256"] * 3],
        [
            DEPLOYMENT.chain_id,
            DEPLOYMENT.payment_channels,
            DEPLOYMENT.deployment,
            TERMS.account_a,
            TERMS.signer_a,
            TERMS.account_b,
            TERMS.signer_b,
            TERMS.challenge_seconds,
            TERMS.challenge_blocks,
            TERMS.sequence,
        ],
    )
    assert len(words) == 320
    assert keccak256(words) == CHANNEL


def test_a_channel_id_changes_with_everything_it_binds() -> None:
    others = [
        id_of(chain_id=1),
        id_of(contract=Address(b"\x77" * 20)),
        id_of(deployment=b"\x77" * 32),
        *(
            id_of(changed(field, Address(b"\x77" * 20)))
            for field in ("account_a", "signer_a", "account_b", "signer_b")
        ),
        *(
            id_of(changed(field, getattr(TERMS, field) + 1))
            for field in ("challenge_seconds", "challenge_blocks", "sequence")
        ),
    ]
    assert id_of() == CHANNEL
    assert len({CHANNEL, *others}) == len(others) + 1


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_deployment_that_is_not_32_bytes_makes_no_id(size: int) -> None:
    with pytest.raises(UnsafeTerms, match="not 32 bytes"):
        id_of(deployment=bytes(size))
