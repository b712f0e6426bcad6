"""Which vouchers raise a lane, and that the others disturb nobody."""

from collections.abc import Callable

import pytest
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from .city import (
    City,
    SettleRow,
    Terms,
    alice,
    alice_signer,
    bob,
    hub,
    hub_signer,
    packed,
)
from .evm import NOBODY, Outcome, Person, Reverted

UNKNOWN, CLOSED, LANE, NONCE, TOTAL, NOT_GREATER, BAD_SIGNATURE = 1, 2, 3, 4, 5, 6, 7
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
Settle = Callable[..., Outcome]


@pytest.fixture(params=["settle", "settle_many"])
def settle(request: pytest.FixtureRequest, city: City) -> Settle:
    """Settle rows by either function: they must agree."""

    def run(sender: Person, *rows: SettleRow) -> Outcome:
        if request.param == "settle":
            return city.settled(sender, *rows)
        return city.channels.send(sender, "settle_many", [packed(row) for row in rows])

    return run


def reasons(outcome: Outcome) -> list[tuple[int, int]]:
    return [(each["index"], each["reason"]) for each in outcome.named("RowSkipped")]


def high_s(signature: bytes) -> bytes:
    """The other signature that plain ecrecover would take for the same one."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def closed_channel(city: City) -> Terms:
    terms = city.open(challenge_seconds=600, challenge_blocks=10)
    city.channels.send(hub, "start_close", terms, 0, b"")
    city.evm.pass_time(seconds=601, blocks=11)
    city.channels.send(hub, "finish_close", terms)
    return terms


def test_a_settlement_event_says_what_it_changed(city: City, settle: Settle) -> None:
    terms = city.open()
    settle(bob, city.voucher(terms, 1, 3))
    history = b"\x07" * 32
    conditions = b"\x08" * 32
    row = city.voucher(terms, 1, 10, nonce=2**64 - 1, history=history, conditions=conditions)
    assert settle(bob, row).named("Settled") == [
        {
            "channel": city.channel(terms),
            "payer": alice.address,
            "nonce": 2**64 - 1,
            "transferred_before": 3,
            "transferred": 10,
            "history": history,
        }
    ]


def test_the_same_voucher_counts_once(city: City, settle: Settle) -> None:
    terms = city.open()
    row = city.voucher(terms, 0, 5)
    assert reasons(settle(bob, row, row)) == [(1, NOT_GREATER)]
    assert reasons(settle(bob, row)) == [(0, NOT_GREATER)]
    assert city.state(terms).transferred_a == 5


def test_the_greatest_total_wins_whatever_the_nonces_say(city: City, settle: Settle) -> None:
    terms = city.open()
    settle(hub, city.voucher(terms, 0, 1, nonce=2**64 - 1))
    settle(alice, city.voucher(terms, 0, 50, nonce=7))
    assert city.state(terms).transferred_a == 50


def test_only_a_lanes_own_payer_account_settles_without_signature(
    city: City, settle: Settle
) -> None:
    terms = city.open()
    for sender in (alice, alice_signer, hub_signer, bob):
        assert reasons(settle(sender, SettleRow(terms, 0, 1, 5))) == [(0, BAD_SIGNATURE)]
    for sender in (hub, alice_signer, hub_signer, bob):
        assert reasons(settle(sender, SettleRow(terms, 1, 1, 5))) == [(0, BAD_SIGNATURE)]
    settle(hub, SettleRow(terms, 0, 1, 5))
    settle(alice, SettleRow(terms, 1, 1, 6))
    state = city.state(terms)
    assert (state.transferred_a, state.transferred_b) == (5, 6)


def test_a_bad_signature_is_not_excused_by_the_sender_being_the_payer(
    city: City, settle: Settle
) -> None:
    terms = city.open()
    row = city.voucher(terms, 0, 5)
    zero_v = row._replace(signature=row.signature[:64] + b"\x00")
    stranger = city.voucher(terms, 0, 5, by=bob)
    assert reasons(settle(hub, zero_v, stranger)) == [(0, BAD_SIGNATURE), (1, BAD_SIGNATURE)]


@pytest.mark.parametrize("lane", [0, 1])
def test_settling_leaves_every_other_bit_of_the_words_alone(
    city: City, settle: Settle, lane: int
) -> None:
    terms = city.open(deposit=2**40 + 1)
    city.channels.send(hub, "deposit", terms, alice.address, 2**41 + 1)
    before = city.state(terms)
    most = 2**96 - 1
    for total in (1, 2, most - 1, most):
        settle(bob, city.voucher(terms, lane, total))
    field = "transferred_b" if lane else "transferred_a"
    assert city.state(terms) == before._replace(**{field: most})


def test_typed_rows_out_of_range_are_skipped_and_not_reverted(city: City) -> None:
    terms = city.open()
    row = city.voucher(terms, 0, 5)
    bad = [
        (row._replace(lane=2), LANE),
        (row._replace(lane=256), LANE),
        (row._replace(lane=2**256 - 1), LANE),
        (row._replace(nonce=2**64), NONCE),
        (row._replace(nonce=2**256 - 1), NONCE),
        (row._replace(transferred=2**96), TOTAL),
        (row._replace(transferred=2**256 - 1), TOTAL),
        *((row._replace(signature=row.signature[:n]), BAD_SIGNATURE) for n in (1, 32, 64)),
        (row._replace(signature=bytes(65)), BAD_SIGNATURE),
    ]
    outcome = city.settled(hub, *(each for each, _ in bad), row)
    assert reasons(outcome) == [(n, reason) for n, (_, reason) in enumerate(bad)]
    assert {each["channel"] for each in outcome.named("RowSkipped")} == {city.channel(terms)}
    assert city.state(terms).transferred_a == 5


def test_no_word_of_a_packed_row_can_revert_its_neighbours(city: City) -> None:
    terms = city.open()
    good = packed(city.voucher(terms, 0, 5))
    most = 2**256 - 1
    words = good.terms
    bad = [
        good._replace(terms=(words[0] | 1 << 160, *words[1:])),
        good._replace(terms=(*words[:3], words[3] | 1 << 255, *words[4:])),
        good._replace(terms=(*words[:6], 1 << 64 | words[6])),
        good._replace(terms=(most,) * 7),
        good._replace(statement=most),
        good._replace(statement=good.statement | 1 << 255),
        good._replace(r=most),
        good._replace(s=most),
    ]
    outcome = city.channels.send(bob, "settle_many", [*bad, good])
    expected = [UNKNOWN] * 4 + [LANE] + [BAD_SIGNATURE] * 3
    assert reasons(outcome) == list(enumerate(expected))
    assert city.state(terms).transferred_a == 5


def test_settling_works_in_the_window_and_after_it_until_somebody_finishes(
    city: City, settle: Settle
) -> None:
    terms = city.open(challenge_seconds=600, challenge_blocks=10)
    city.channels.send(hub, "start_close", terms, 0, b"")
    settle(bob, city.voucher(terms, 0, 5))
    city.evm.pass_time(seconds=10_000, blocks=10_000)
    settle(bob, city.voucher(terms, 0, 6))
    assert city.state(terms).transferred_a == 6
    [closed] = city.channels.send(bob, "finish_close", terms).named("Closed")
    assert closed["payout_b"] == 6
    assert reasons(settle(bob, city.voucher(terms, 0, 7))) == [(0, CLOSED)]


@pytest.mark.parametrize("change", ["chain", "contract"])
def test_a_voucher_of_another_chain_or_contract_is_worth_nothing(city: City, change: str) -> None:
    terms = city.open()
    row = city.voucher(terms, 0, 5)
    data = city.typed_data(
        "Voucher",
        {
            "channel": city.channel(terms),
            "payer": hub.address,
            "nonce": 1,
            "transferred": 5,
            "history": row.history,
            "conditions": row.conditions,
        },
    )
    assert hub_signer.sign(data) == row.signature
    data["domain"] |= {"chainId": 1} if change == "chain" else {"verifyingContract": bob.address}
    assert reasons(city.settled(bob, row._replace(signature=hub_signer.sign(data)))) == [
        (0, BAD_SIGNATURE)
    ]


def test_garbage_is_nobodys_signature_even_where_nobody_is_the_signer(
    city: City, settle: Settle
) -> None:
    # ecrecover answers the empty address to garbage. No channel opens with that as a signer; one
    # is forced into storage here, so that each check holds by itself.
    terms = city.open()._replace(signer_a=NOBODY, signer_b=NOBODY)
    words_a = 1
    slot = keccak(words_a.to_bytes(32, "big") + city.channel(terms))
    address = to_canonical_address(city.channels.address)
    city.evm.state.set_storage(address, int.from_bytes(slot, "big"), 1)
    assert city.state(terms) == (1, 0, 0, 0, 0, 0, 0, 0, 0)
    garbage = b"\x01" * 64 + b"\x1d"
    for lane in (0, 1):
        row = SettleRow(terms, lane, 1, 5, signature=garbage)
        assert reasons(settle(bob, row)) == [(0, BAD_SIGNATURE)]
    with pytest.raises(Reverted, match="channels: bad signature of A"):
        city.channels.send(bob, "close", terms, 0, 0, city.evm.time, garbage, garbage)
    with pytest.raises(Reverted, match=r"channels: bad signature$"):
        city.channels.send(bob, "start_close", terms, city.evm.time, garbage)
    assert city.state(terms) == (1, 0, 0, 0, 0, 0, 0, 0, 0)
