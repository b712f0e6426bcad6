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
    bob,
    carol,
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


def test_a_bad_deposit_is_refused_alone(city: City) -> None:
    terms, closing = city.open(deposit=7), city.open()
    suspended = city.open(account_b=carol.address, signer_b=carol.address)
    row = MemberRow(carol.address, RESIDENT, SUSPENDED)
    city.registry.send(registrar, "set_member", row)
    city.channels.send(hub, "start_close", closing, 0, b"")
    before = city.balance(hub.address)
    for arguments, reason in (
        ((terms._replace(sequence=99), hub.address, 1), "unknown channel"),
        ((terms._replace(account_b=carol.address), carol.address, 1), "unknown channel"),
        ((closing, hub.address, 1), "not open"),
        ((terms, hub_signer.address, 1), "not a party"),
        ((terms, alice_signer.address, 1), "not a party"),
        ((terms, hub.address, 0), "amount out of range"),
        ((terms, hub.address, MOST - 6), "amount out of range"),
        ((terms, alice.address, MOST + 1), "amount out of range"),
        ((suspended, carol.address, 1), "not a member"),
    ):
        with pytest.raises(Reverted, match=rf"^channels: {reason}$"):
            city.channels.send(hub, "deposit", *arguments)
    assert city.balance(hub.address) == before
    assert city.state(terms) == (1, 0, 7, 0, 0, 0, 0, 0, 0)


def test_a_deposit_is_told_with_who_paid_it_and_the_total(city: City) -> None:
    terms = city.open(deposit=7)
    for account, amount, total in ((hub, 1, 8), (alice, 2, 2), (alice, 3, 5)):
        outcome = city.channels.send(bob, "deposit", terms, account.address, amount)
        assert outcome.named("Deposited") == [
            {
                "channel": city.channel(terms),
                "account": account.address,
                "funder": bob.address,
                "amount": amount,
                "deposit_total": total,
            }
        ]


def test_an_opening_is_told_with_all_its_terms_and_who_paid(city: City) -> None:
    row = hub_to_alice(challenge_seconds=601, challenge_blocks=11, deposit=5)
    for sequence in (1, 2):
        outcome = city.channels.send(bob, "open", row)
        [terms] = city.opened(outcome)
        assert outcome.output == city.channel(terms)
        assert outcome.named("Opened") == [
            {
                **row._asdict(),
                "channel": outcome.output,
                "sequence": sequence,
                "funder": bob.address,
            }
        ]


def test_a_hub_is_found_a_member_once_and_everybody_else_each_time(city: City) -> None:
    # open_many asks about party A once in a run of rows: a refused row must not count as asked.
    good, strange = hub_to_alice(), hub_to_alice(account_a=mallory.address)
    other = hub_to_alice(account_a=bob.address, signer_a=bob.address)
    half = hub_to_alice(signer_a=mallory.address)
    rows = [strange, strange, good, strange, half, good, other, half, other, good]
    skipped = city.channels.send(hub, "open_many", rows).named("RowSkipped")
    assert [each["index"] for each in skipped] == [0, 1, 3, 4, 7]
    assert {each["reason"] for each in skipped} == {NOT_A_MEMBER}


def test_a_sender_without_money_opens_nothing(city: City) -> None:
    with pytest.raises(Reverted, match="credit: allowance too small"):
        city.channels.send(alice, "open", hub_to_alice(deposit=1))
    assert city.channels.read("next_sequence") == 1
