"""Numbers on and beyond the edge of their fields, and what the views answer."""

from typing import Any

import pytest
from eth_utils.address import to_canonical_address

from farthing.contracts.artifacts import load

from .city import (
    DEVICE,
    ZERO32,
    City,
    DepositRow,
    MemberRow,
    OpenRow,
    SettleRow,
    State,
    Terms,
    alice,
    bob,
    carol,
    deploy,
    hub,
    hub_to_alice,
    packed,
    registrar,
)
from .evm import NOBODY, Person, Reverted

MARK = 0x5A5A5A5A5A5A5A5A
"""A number that stands nowhere else in the calldata."""


def refused_by_the_decoder(city: City, name: str, arguments: Any, mark: int, word: int) -> bool:
    """Put a word, as no encoder would, where the mark stands in a call; is all of it refused?"""
    data = city.channels.data(name, *arguments)
    assert data.count(mark.to_bytes(32, "big")) == 1
    spoilt = data.replace(mark.to_bytes(32, "big"), word.to_bytes(32, "big"))
    address = to_canonical_address(city.channels.address)
    try:
        city.evm.send(hub, address, spoilt)
    except Reverted as refusal:
        return refusal.reason == ""
    return False


@pytest.mark.parametrize("field", ["challenge_seconds", "challenge_blocks", "sequence"])
@pytest.mark.parametrize("name", ["deposit_many", "settle"])
def test_a_word_of_terms_wider_than_64_bits_is_no_call(city: City, name: str, field: str) -> None:
    marked: dict[str, Any] = {field: MARK}
    terms = city.open()._replace(**marked)
    rows = {"deposit_many": DepositRow(terms, hub.address, 1), "settle": SettleRow(terms, 0, 1, 1)}
    for word, refused in ((2**64 - 1, False), (2**64, True), (2**256 - 1, True)):
        assert refused_by_the_decoder(city, name, [[rows[name]]], MARK, word) is refused


@pytest.mark.parametrize("field", ["challenge_seconds", "challenge_blocks"])
def test_a_window_wider_than_64_bits_is_no_call(city: City, field: str) -> None:
    rows = [hub_to_alice(**{field: MARK})]
    for word, refused in ((2**64 - 1, False), (2**64, True)):
        assert refused_by_the_decoder(city, "open_many", [rows], MARK, word) is refused


def test_an_expiry_may_fill_its_64_bits_and_not_one_more(city: City) -> None:
    last = 2**64 - 1
    terms = city.open(deposit=9)
    message = {"channel": city.channel(terms), "account": alice.address, "total": 4}
    signed = city.signatures("Withdrawal", {**message, "expires": last})
    arguments = [terms, alice.address, 4, MARK, *signed]
    assert refused_by_the_decoder(city, "withdraw", arguments, MARK, 2**64)
    city.channels.send(bob, "withdraw", terms, alice.address, 4, last, *signed)

    started = city.open()
    message = {"channel": city.channel(started), "expires": last}
    signature = alice.sign(city.typed_data("StartClose", message))
    assert refused_by_the_decoder(city, "start_close", [started, MARK, signature], MARK, 2**64)
    city.channels.send(bob, "start_close", started, last, signature)

    message = {"channel": city.channel(terms), "transferredA": 5, "transferredB": 0}
    signed = city.signatures("Close", {**message, "expires": last})
    arguments = [terms, 5, 0, MARK, *signed]
    assert refused_by_the_decoder(city, "close", arguments, MARK, 2**64)
    city.channels.send(bob, "close", terms, 5, 0, last, *signed)
    assert city.balance(alice.address) == 5


def test_an_address_wider_than_160_bits_is_no_call(city: City) -> None:
    marked = int(carol.address, 16)
    for name, arguments in (
        ("claim", [carol.address]),
        ("deposit", [city.open(), carol.address, 5]),
        ("finish_close", [city.open()._replace(signer_b=carol.address)]),
    ):
        assert refused_by_the_decoder(city, name, arguments, marked, marked | 1 << 160)


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize("name", ["settle", "settle_many"])
def test_totals_and_nonces_take_effect_at_both_ends_of_their_fields(
    city: City, name: str, lane: int
) -> None:
    field = "transferred_b" if lane else "transferred_a"
    for nonce, total in ((0, 1), (1, 2**95), (2**64 - 1, 2**96 - 2), (0, 2**96 - 1)):
        terms = city.open()
        row = city.voucher(terms, lane, total, nonce=nonce)
        sent = row if name == "settle" else packed(row)
        [settled] = city.channels.send(bob, name, [sent]).named("Settled")
        assert (settled["nonce"], settled["transferred"]) == (nonce, total)
        assert getattr(city.state(terms), field) == total
        again = city.channels.send(bob, name, [sent])
        assert [each["reason"] for each in again.named("RowSkipped")] == [6]


def test_signatures_longer_than_65_bytes_are_no_call(city: City) -> None:
    terms = city.open()
    row = city.voucher(terms, 0, 5)
    for name, rest in (("settle", None), ("start_close", (terms, 0, row.signature + b"\x00"))):
        arguments = rest or ([row._replace(signature=row.signature + b"\x00")],)
        with pytest.raises(Reverted, match=r"^$"):
            city.channels.send(hub, name, *arguments)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("open_many", 256), ("deposit_many", 256), ("settle", 128), ("settle_many", 128)],
)
def test_a_call_takes_rows_up_to_its_limit(city: City, name: str, limit: int) -> None:
    unknown = Terms(NOBODY, NOBODY, NOBODY, NOBODY, 0, 0, 0)
    row: Any = {
        "open_many": OpenRow(NOBODY, NOBODY, NOBODY, NOBODY),
        "deposit_many": DepositRow(unknown, NOBODY, 1),
        "settle": SettleRow(unknown, 0, 1, 1),
        "settle_many": packed(SettleRow(unknown, 0, 1, 1)),
    }[name]
    outcome = city.channels.send(hub, name, [row] * limit)
    assert [each["index"] for each in outcome.named("RowSkipped")] == [*range(limit)]
    with pytest.raises(Reverted, match=r"^$"):
        city.channels.send(hub, name, [row] * (limit + 1))
    assert not city.channels.send(hub, name, []).events


def test_a_registry_takes_rows_up_to_its_limit(city: City) -> None:
    rows = [MemberRow(Person(f"member {n}").address, DEVICE) for n in range(257)]
    with pytest.raises(Reverted, match=r"^$"):
        city.registry.send(registrar, "set_members", rows)
    assert len(city.registry.send(registrar, "set_members", rows[:256]).events) == 256
    assert city.registry.read("ROWS_MAX") == 256


def test_the_constants_of_the_interface_are_what_others_count_on(city: City) -> None:
    expected = {
        "MIN_CHALLENGE_SECONDS": 600,
        "MAX_CHALLENGE_SECONDS": 2_592_000,
        "MIN_CHALLENGE_BLOCKS": 10,
        "MAX_CHALLENGE_BLOCKS": 1_000_000,
        "ROWS_MAX": 256,
        "SETTLE_ROWS_MAX": 128,
        "UNKNOWN_CHANNEL": 1,
        "NOT_OPEN": 2,
        "LANE_RANGE": 3,
        "NONCE_RANGE": 4,
        "TOTAL_RANGE": 5,
        "NOT_GREATER": 6,
        "BAD_SIGNATURE": 7,
        "NOT_DISTINCT": 8,
        "WINDOW_RANGE": 9,
        "AMOUNT_RANGE": 10,
        "NOT_A_MEMBER": 11,
        "NOT_A_PARTY": 12,
    }
    assert {name: city.channels.read(name) for name in expected} == expected
    roles = ("REGISTRAR", "TREASURY", "HUB", "RESIDENT", "DEVICE", "RELAYER", "AUDITOR")
    assert [city.registry.read(name) for name in roles] == [*range(1, 8)]
    statuses = ("ACTIVE", "SUSPENDED", "REMOVED")
    assert [city.registry.read(name) for name in statuses] == [1, 2, 3]


def test_the_views_answer_for_channels_that_never_were(city: City) -> None:
    terms = city.open()
    assert State(*city.channels.read("channel_state", ZERO32)) == (0,) * 9
    sequence = city.channels.read("next_sequence")
    expected = terms._replace(sequence=sequence)
    channel = city.channel(expected)
    assert State(*city.channels.read("channel_state", channel)) == (0,) * 9
    output = city.channels.send(hub, "open", hub_to_alice()).output
    assert output == channel
    assert city.channels.read("TOKEN") == city.token.address.lower()
    assert city.channels.read("REGISTRY") == city.registry.address.lower()
    assert city.token.read("REGISTRY") == city.registry.address.lower()


def test_a_contract_is_not_deployed_on_what_is_no_contract(city: City) -> None:
    for name, arguments, reason in (
        ("city_credit", (alice.address,), "credit: registry is no contract"),
        ("payment_channels", (alice.address, city.registry.address), "token is no contract"),
        ("payment_channels", (city.token.address, alice.address), "registry is no contract"),
        ("member_registry", (NOBODY,), "registry: empty address"),
    ):
        with pytest.raises(Reverted, match=reason):
            deploy(city.evm, name, *arguments)


@pytest.mark.parametrize("name", ["payment_channels", "city_credit", "member_registry"])
def test_no_contract_takes_native_money_or_unknown_calls(city: City, name: str) -> None:
    assert {
        entry["stateMutability"] for entry in load(name).abi if entry["type"] == "function"
    } <= {"nonpayable", "view"}
    contract = {
        "payment_channels": city.channels,
        "city_credit": city.token,
        "member_registry": city.registry,
    }[name]
    for data in (b"", b"\x00" * 4, b"\xff" * 68):
        with pytest.raises(Reverted, match=r"^$"):
            city.evm.send(hub, to_canonical_address(contract.address), data)
