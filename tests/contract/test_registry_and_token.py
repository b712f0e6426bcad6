"""Who may change the registry and make money."""

import pytest

from .city import (
    ACTIVE,
    DEVICE,
    REGISTRAR,
    REMOVED,
    RESIDENT,
    SUSPENDED,
    TREASURY,
    ZERO32,
    City,
    MemberRow,
    alice,
    bob,
    hub,
    mallory,
    registrar,
    treasury,
)
from .evm import NOBODY, Person, Reverted

REFERENCE = b"\x05" * 32


def test_each_change_of_a_member_is_stored_and_told(city: City) -> None:
    row = MemberRow(mallory.address, DEVICE, ACTIVE, city.evm.time + 5, b"\x01" * 32, b"\x02" * 32)
    assert city.registry.read("member", mallory.address) == (0, 0, 0, ZERO32)
    [event] = city.registry.send(registrar, "set_member", row).named("MemberChanged")
    assert event == {**row._asdict(), "actor": registrar.address}
    assert city.registry.read("member", mallory.address) == row[1:5]


def test_a_member_is_active_from_status_and_validity_alone(city: City) -> None:
    now = city.evm.time
    for status, valid_until, active in (
        (ACTIVE, 0, True),
        (ACTIVE, now, True),
        (ACTIVE, 2**64 - 1, True),
        (ACTIVE, now - 1, False),
        (SUSPENDED, 0, False),
        (REMOVED, 0, False),
    ):
        row = MemberRow(mallory.address, RESIDENT, status, valid_until)
        city.registry.send(registrar, "set_members", [row])
        assert city.registry.read("is_active", mallory.address) is active
        assert city.registry.read("has_role", mallory.address, RESIDENT) is active
        assert not city.registry.read("has_role", mallory.address, DEVICE)
    assert not city.registry.read("is_active", NOBODY)
    assert not city.registry.read("has_role", NOBODY, 0)


@pytest.mark.parametrize("sender", [treasury, hub, alice, mallory])
def test_only_a_registrar_changes_members(city: City, sender: Person) -> None:
    row = MemberRow(mallory.address, REGISTRAR)
    for name, argument in (("set_member", row), ("set_members", [row])):
        with pytest.raises(Reverted, match="registry: not a registrar"):
            city.registry.send(sender, name, argument)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (MemberRow(NOBODY, RESIDENT), "empty address"),
        (MemberRow(bob.address, 0), "unknown role"),
        (MemberRow(bob.address, 8), "unknown role"),
        (MemberRow(bob.address, RESIDENT, 0), "unknown status"),
        (MemberRow(bob.address, RESIDENT, 4), "unknown status"),
        (MemberRow(registrar.address, RESIDENT), "registrar locks itself out"),
        (MemberRow(registrar.address, REGISTRAR, SUSPENDED), "registrar locks itself out"),
        (MemberRow(registrar.address, REGISTRAR, ACTIVE, 1), "registrar locks itself out"),
    ],
)
def test_a_wrong_row_refuses_the_whole_change(city: City, row: MemberRow, reason: str) -> None:
    with pytest.raises(Reverted, match=f"registry: {reason}"):
        city.registry.send(registrar, "set_members", [MemberRow(mallory.address, DEVICE), row])
    assert not city.registry.read("is_active", mallory.address)


def test_a_single_wrong_row_is_refused_as_in_a_list(city: City) -> None:
    for row, reason in (
        (MemberRow(NOBODY, RESIDENT), "empty address"),
        (MemberRow(bob.address, 0), "unknown role"),
        (MemberRow(bob.address, 255), "unknown role"),
        (MemberRow(bob.address, RESIDENT, 0), "unknown status"),
        (MemberRow(bob.address, RESIDENT, 255), "unknown status"),
        (MemberRow(registrar.address, TREASURY), "registrar locks itself out"),
        (MemberRow(registrar.address, REGISTRAR, REMOVED), "registrar locks itself out"),
    ):
        with pytest.raises(Reverted, match=f"registry: {reason}"):
            city.registry.send(registrar, "set_member", row)
    assert city.registry.read("member", registrar.address) == (REGISTRAR, ACTIVE, 0, ZERO32)


@pytest.mark.parametrize("how", ["suspended", "removed", "another role", "expired"])
def test_a_registrar_that_is_none_any_more_changes_nobody(city: City, how: str) -> None:
    now = city.evm.time
    city.registry.send(registrar, "set_member", MemberRow(bob.address, REGISTRAR, ACTIVE, now + 9))
    row = {
        "suspended": MemberRow(bob.address, REGISTRAR, SUSPENDED),
        "removed": MemberRow(bob.address, REGISTRAR, REMOVED),
        "another role": MemberRow(bob.address, TREASURY),
        "expired": MemberRow(bob.address, REGISTRAR, ACTIVE, now - 1),
    }[how]
    city.registry.send(bob, "set_member", MemberRow(mallory.address, DEVICE))
    city.registry.send(registrar, "set_member", row)
    for name, argument in (("set_member", row), ("set_members", [row]), ("set_members", [])):
        with pytest.raises(Reverted, match="registry: not a registrar"):
            city.registry.send(bob, name, argument)


def test_every_role_and_every_status_is_kept_with_the_widest_validity(city: City) -> None:
    for role in range(REGISTRAR, 8):
        for status in (ACTIVE, SUSPENDED, REMOVED):
            for valid_until in (0, 1, 2**64 - 1):
                row = MemberRow(mallory.address, role, status, valid_until, b"\x09" * 32)
                city.registry.send(registrar, "set_member", row)
                kept = city.registry.read("member", mallory.address)
                assert kept == (role, status, valid_until, b"\x09" * 32)
                active = status == ACTIVE and valid_until != 1
                roles = [city.registry.read("has_role", mallory.address, n) for n in range(9)]
                assert roles == [active and n == role for n in range(9)]


def test_the_first_registrar_is_told_like_every_other_change(city: City) -> None:
    [first] = [
        fields
        for address, (name, fields) in city.evm.log
        if name == "MemberChanged" and fields["account"] == registrar.address
    ]
    expected = MemberRow(registrar.address, REGISTRAR)._asdict()
    assert first == {**expected, "actor": registrar.address}


def test_a_registrar_hands_over_to_a_successor(city: City) -> None:
    city.registry.send(registrar, "set_member", MemberRow(bob.address, REGISTRAR))
    city.registry.send(bob, "set_member", MemberRow(registrar.address, REGISTRAR, REMOVED))
    with pytest.raises(Reverted, match="registry: not a registrar"):
        city.registry.send(registrar, "set_member", MemberRow(mallory.address, DEVICE))


def test_only_an_active_treasury_mints_and_names_the_funding(city: City) -> None:
    supply = city.token.read("totalSupply")
    [event] = city.token.send(treasury, "mint", alice.address, 7, REFERENCE).named("Minted")
    assert event == {"to": alice.address, "amount": 7, "funding_reference": REFERENCE}
    assert city.token.read("totalSupply") == supply + 7
    for arguments, reason in (
        ((alice.address, 7, ZERO32), "no funding reference"),
        ((alice.address, 0, REFERENCE), "amount is zero"),
        ((NOBODY, 7, REFERENCE), "empty address"),
    ):
        with pytest.raises(Reverted, match=f"credit: {reason}"):
            city.token.send(treasury, "mint", *arguments)
    for sender in (registrar, hub, mallory):
        with pytest.raises(Reverted, match="credit: not the treasury"):
            city.token.send(sender, "mint", alice.address, 7, REFERENCE)
    row = MemberRow(treasury.address, TREASURY, SUSPENDED)
    city.registry.send(registrar, "set_member", row)
    with pytest.raises(Reverted, match="credit: not the treasury"):
        city.token.send(treasury, "mint", alice.address, 7, REFERENCE)


def test_a_repeated_mint_is_refused_whatever_else_it_says(city: City) -> None:
    token, supply = city.token, city.token.read("totalSupply")
    with pytest.raises(Reverted, match="credit: empty address"):
        token.send(treasury, "mint", NOBODY, 7, REFERENCE)
    assert not token.read("reference_used", REFERENCE)  # a refused mint uses no reference up
    token.send(treasury, "mint", alice.address, 7, REFERENCE)
    assert token.read("reference_used", REFERENCE)
    city.registry.send(registrar, "set_member", MemberRow(bob.address, TREASURY))
    for sender, to, amount in (
        (treasury, alice, 7),
        (treasury, alice, 8),
        (treasury, bob, 7),
        (bob, alice, 7),
    ):
        with pytest.raises(Reverted, match="credit: reference used"):
            token.send(sender, "mint", to.address, amount, REFERENCE)
    assert token.read("totalSupply") == supply + 7
    token.send(bob, "mint", alice.address, 7, REFERENCE[:31] + b"\x06")
    assert city.balance(alice.address) == 14


def test_tokens_move_are_allowed_and_burn_as_erc_20_says(city: City) -> None:
    token = city.token
    assert [token.read(name) for name in ("name", "symbol", "decimals")] == [
        "City Credit",
        "CITY",
        8,
    ]
    start, supply = city.balance(hub.address), token.read("totalSupply")
    assert int.from_bytes(token.send(hub, "transfer", alice.address, 10).output, "big") == 1
    token.send(alice, "approve", bob.address, 6)
    token.send(bob, "transferFrom", alice.address, bob.address, 4)
    assert token.read("allowance", alice.address, bob.address) == 2
    [burned] = token.send(alice, "burn", 1, REFERENCE).named("Burned")
    assert burned == {"account": alice.address, "amount": 1, "reference": REFERENCE}
    assert city.balance(alice.address) == 5
    assert city.balance(hub.address) == start - 10
    assert token.read("totalSupply") == supply - 1
    for sender, name, arguments, reason in (
        (alice, "transfer", (bob.address, 6), "balance too small"),
        (alice, "transfer", (bob.address, 2**256 - 1), "balance too small"),
        (mallory, "transfer", (bob.address, 1), "balance too small"),
        (mallory, "transferFrom", (alice.address, mallory.address, 1), "allowance too small"),
        (alice, "transferFrom", (alice.address, bob.address, 1), "allowance too small"),
        (bob, "transferFrom", (alice.address, NOBODY, 1), "empty address"),
        (alice, "transfer", (NOBODY, 1), "empty address"),
        (bob, "transferFrom", (alice.address, bob.address, 3), "allowance too small"),
        (alice, "burn", (6, REFERENCE), "balance too small"),
        (alice, "burn", (0, REFERENCE), "amount is zero"),
    ):
        with pytest.raises(Reverted, match=f"credit: {reason}"):
            token.send(sender, name, *arguments)


def test_each_movement_of_tokens_is_told_as_erc_20_says(city: City) -> None:
    token = city.token
    approved = token.send(hub, "approve", bob.address, 5)
    assert int.from_bytes(approved.output, "big") == 1
    assert approved.events == (
        ("Approval", {"owner": hub.address, "spender": bob.address, "value": 5}),
    )

    def moved(sender: str, receiver: str, value: int) -> tuple[str, dict[str, object]]:
        return ("Transfer", {"sender": sender, "receiver": receiver, "value": value})

    spent = token.send(bob, "transferFrom", hub.address, alice.address, 5)
    assert int.from_bytes(spent.output, "big") == 1
    assert spent.events == (moved(hub.address, alice.address, 5),)
    assert token.read("allowance", hub.address, bob.address) == 0
    assert token.send(alice, "transfer", bob.address, 0).events == (
        moved(alice.address, bob.address, 0),
    )
    assert token.send(alice, "transfer", alice.address, 5).events == (
        moved(alice.address, alice.address, 5),
    )
    assert city.balance(alice.address) == 5
    assert token.send(alice, "burn", 5, ZERO32).events[0] == moved(alice.address, NOBODY, 5)
    minted = token.send(treasury, "mint", alice.address, 5, REFERENCE)
    assert minted.events[0] == moved(NOBODY, alice.address, 5)


def test_an_allowance_is_replaced_and_used_up_unless_it_is_for_ever(city: City) -> None:
    token, most = city.token, 2**256 - 1
    for allowed, left in ((7, 4), (3, 0), (most - 1, most - 4), (most, most)):
        token.send(hub, "approve", bob.address, allowed)
        assert token.read("allowance", hub.address, bob.address) == allowed
        token.send(bob, "transferFrom", hub.address, alice.address, 3)
        assert token.read("allowance", hub.address, bob.address) == left
    assert token.read("allowance", bob.address, hub.address) == 0


def test_an_account_sends_and_burns_all_it_has_and_nothing_more(city: City) -> None:
    token = city.token
    for name, rest in (("transfer", bob.address), ("burn", REFERENCE)):
        token.send(hub, "transfer", alice.address, 5)
        for amount in (6, 5):
            arguments = (rest, amount) if name == "transfer" else (amount, rest)
            if amount == 6:
                with pytest.raises(Reverted, match="credit: balance too small"):
                    token.send(alice, name, *arguments)
            else:
                token.send(alice, name, *arguments)
        assert city.balance(alice.address) == 0


def test_more_tokens_than_a_word_counts_are_never_minted(city: City) -> None:
    room = 2**256 - 1 - city.token.read("totalSupply")
    with pytest.raises(Reverted, match=r"^$"):
        city.token.send(treasury, "mint", alice.address, room + 1, REFERENCE)
    city.token.send(treasury, "mint", alice.address, room, REFERENCE)
    with pytest.raises(Reverted, match=r"^$"):
        city.token.send(treasury, "mint", bob.address, 1, b"\x06" * 32)
    city.token.send(alice, "transfer", hub.address, room)
    assert city.balance(alice.address) == 0
