"""Who may open and top up channels, with what, and what happens to the rows that may not."""

from typing import Any

import pytest

from .city import (
    CENT,
    DEVICE,
    RESIDENT,
    SUSPENDED,
    ZERO32,
    City,
    DepositRow,
    MemberRow,
    alice,
    alice_signer,
    hub,
    hub_signer,
    hub_to_alice,
    mallory,
    registrar,
)
from .evm import NOBODY, Reverted

MOST = 2**76 - 1
UNKNOWN, NOT_OPEN, NOT_DISTINCT, WINDOW, AMOUNT, NOT_A_MEMBER, NOT_A_PARTY = 1, 2, 8, 9, 10, 11, 12

BAD_ROWS: list[tuple[dict[str, Any], int, str]] = [
    ({"account_a": NOBODY}, NOT_DISTINCT, "not distinct"),
    ({"signer_a": NOBODY}, NOT_DISTINCT, "not distinct"),
    ({"account_b": NOBODY}, NOT_DISTINCT, "not distinct"),
    ({"signer_b": NOBODY}, NOT_DISTINCT, "not distinct"),
    ({"account_b": hub.address}, NOT_DISTINCT, "not distinct"),
    ({"account_b": hub_signer.address}, NOT_DISTINCT, "not distinct"),
    ({"signer_b": hub.address}, NOT_DISTINCT, "not distinct"),
    ({"signer_b": hub_signer.address}, NOT_DISTINCT, "not distinct"),
    ({"challenge_seconds": 599}, WINDOW, "window out of range"),
    ({"challenge_seconds": 30 * 86400 + 1}, WINDOW, "window out of range"),
    ({"challenge_blocks": 9}, WINDOW, "window out of range"),
    ({"challenge_blocks": 1_000_001}, WINDOW, "window out of range"),
    ({"deposit": MOST + 1}, AMOUNT, "amount out of range"),
    ({"deposit": 2**256 - 1}, AMOUNT, "amount out of range"),
    ({"account_a": mallory.address}, NOT_A_MEMBER, "not a member"),
    ({"signer_a": mallory.address}, NOT_A_MEMBER, "not a member"),
    ({"account_b": mallory.address}, NOT_A_MEMBER, "not a member"),
    ({"signer_b": mallory.address}, NOT_A_MEMBER, "not a member"),
]


@pytest.mark.parametrize(("changes", "reason", "text"), BAD_ROWS)
def test_a_bad_opening_is_refused_alone(
    city: City, changes: dict[str, Any], reason: int, text: str
) -> None:
    with pytest.raises(Reverted, match=f"channels: {text}"):
        city.open(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"challenge_seconds": 600, "challenge_blocks": 10},
        {"challenge_seconds": 30 * 86400, "challenge_blocks": 1_000_000},
        {"signer_a": hub.address, "signer_b": alice.address},
        {"deposit": 0},
        {"deposit": 1},
    ],
)
def test_openings_on_the_bounds_are_accepted(city: City, changes: dict[str, Any]) -> None:
    state = city.state(city.open(**changes))
    assert state == (1, 0, changes.get("deposit", 100 * CENT), 0, 0, 0, 0, 0, 0)


def test_a_deposit_may_fill_its_76_bits_and_not_one_more(hostile_city: City) -> None:
    city = hostile_city
    city.token.send(hub, "mint", hub.address, 2**80, ZERO32)
    terms = city.open(deposit=MOST - 2)
    city.channels.send(hub, "deposit", terms, hub.address, 1)
    with pytest.raises(Reverted, match="channels: amount out of range"):
        city.channels.send(hub, "deposit", terms, hub.address, 2)
    city.channels.send(hub, "deposit", terms, hub.address, 1)
    city.channels.send(hub, "deposit", terms, alice.address, MOST)
    assert city.state(terms) == (1, 0, MOST, 0, 0, MOST, 0, 0, 0)


@pytest.mark.parametrize(
    "whose", [MemberRow(alice.address, RESIDENT), MemberRow(alice_signer.address, DEVICE)]
)
@pytest.mark.parametrize("how", ["suspended", "expired"])
def test_a_suspended_or_expired_member_cannot_lock_money_but_can_always_get_it_out(
    city: City, whose: MemberRow, how: str
) -> None:
    terms = city.open(deposit=9)
    if how == "suspended":
        city.registry.send(registrar, "set_member", whose._replace(status=SUSPENDED))
    else:
        city.registry.send(registrar, "set_member", whose._replace(valid_until=city.evm.time))
        city.evm.pass_time(seconds=1)
    with pytest.raises(Reverted, match="channels: not a member"):
        city.open()
    with pytest.raises(Reverted, match="channels: not a member"):
        city.channels.send(hub, "deposit", terms, alice.address, 1)
    rows = [DepositRow(terms, alice.address, 1), DepositRow(terms, hub.address, 1)]
    assert len(city.channels.send(hub, "deposit_many", rows).named("RowSkipped")) == 1

    city.channels.send(alice_signer, "start_close", terms, 0, b"")
    city.settled(alice, city.voucher(terms, 0, 4))
    city.evm.pass_time(seconds=3601, blocks=21)
    city.channels.send(alice, "finish_close", terms)
    assert city.balance(alice.address) == 4


def test_a_sender_without_money_opens_nothing(city: City) -> None:
    with pytest.raises(Reverted, match="credit: allowance too small"):
        city.channels.send(alice, "open", hub_to_alice(deposit=1))
    assert city.channels.read("next_sequence") == 1
