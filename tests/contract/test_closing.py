"""Withdrawing and closing: what needs whose signature, when, and what is paid out."""

from typing import Any

import pytest

from .city import (
    CENT,
    DEVICE,
    HUB,
    RESIDENT,
    SUSPENDED,
    City,
    MemberRow,
    SettleRow,
    Terms,
    alice,
    alice_signer,
    bob,
    hub,
    hub_signer,
    mallory,
    registrar,
)
from .evm import Outcome, Person, Reverted
from .test_settling import high_s

MOST = 2**76 - 1


def withdraw(city: City, terms: Terms, account: str, total: int, **changes: Any) -> Outcome:
    expires = changes.pop("expires", city.evm.time)
    message = {"channel": city.channel(terms), "account": account, "total": total % 2**96}
    signed = changes.pop("signed", None)
    signed = signed or city.signatures("Withdrawal", {**message, "expires": expires})
    return city.channels.send(bob, "withdraw", terms, account, total, expires, *signed)


def close(city: City, terms: Terms, total_a: int, total_b: int, **changes: Any) -> Outcome:
    expires = changes.pop("expires", city.evm.time)
    message = {"channel": city.channel(terms), "transferredA": total_a % 2**96}
    message |= {"transferredB": total_b % 2**96, "expires": expires}
    signed = changes.pop("signed", None) or city.signatures("Close", message)
    return city.channels.send(bob, "close", terms, total_a, total_b, expires, *signed)


def test_a_close_is_finished_only_after_both_its_seconds_and_its_blocks(city: City) -> None:
    terms = city.open(challenge_seconds=600, challenge_blocks=10)
    with pytest.raises(Reverted, match="channels: not closing"):
        city.channels.send(hub, "finish_close", terms)
    city.channels.send(hub, "start_close", terms, 0, b"")
    start = city.evm.checkpoint()
    for seconds, blocks, missing in (
        (600, 10_000, "seconds"),
        (10_000, 10, "blocks"),
        (0, 0, "seconds"),
    ):
        city.evm.pass_time(seconds=seconds, blocks=blocks)
        with pytest.raises(Reverted, match=rf"channels: window still open \({missing}\)"):
            city.channels.send(hub, "finish_close", terms)
        city.evm.restore(start)
    city.evm.pass_time(seconds=601, blocks=11)
    city.channels.send(hub, "finish_close", terms)
    with pytest.raises(Reverted, match="channels: not closing"):
        city.channels.send(hub, "finish_close", terms)


def test_a_window_is_never_started_again(city: City) -> None:
    terms = city.open(challenge_seconds=600, challenge_blocks=10)
    city.channels.send(alice, "start_close", terms, 0, b"")
    deadline = city.state(terms)[-2:]
    city.evm.pass_time(seconds=599, blocks=9)
    message = {"channel": city.channel(terms), "expires": city.evm.time}
    signature = alice.sign(city.typed_data("StartClose", message))
    for arguments in ((terms, 0, b""), (terms, city.evm.time, signature)):
        for person in (alice, hub):
            with pytest.raises(Reverted, match="channels: not open"):
                city.channels.send(person, "start_close", *arguments)
    assert city.state(terms)[-2:] == deadline
    city.evm.pass_time(seconds=10_000, blocks=10_000)
    city.channels.send(bob, "finish_close", terms)
    with pytest.raises(Reverted, match="channels: not open"):
        city.channels.send(alice, "start_close", terms, 0, b"")


@pytest.mark.parametrize("by", [hub, hub_signer, alice, alice_signer])
def test_each_partys_account_and_signer_may_start_a_close_in_person_or_by_signature(
    city: City, by: Person
) -> None:
    terms, relayed = city.open(), city.open()
    city.channels.send(by, "start_close", terms, 0, b"")
    message = {"channel": city.channel(relayed), "expires": city.evm.time}
    signature = by.sign(city.typed_data("StartClose", message))
    outcome = city.channels.send(mallory, "start_close", relayed, city.evm.time, signature)
    assert outcome.named("CloseStarted")[0]["by"] == by.address
    assert city.state(terms).status == city.state(relayed).status == 2


def test_nobody_else_starts_a_close(city: City) -> None:
    terms = city.open()
    message = {"channel": city.channel(terms), "expires": city.evm.time}
    data = city.typed_data("StartClose", message)
    good = alice.sign(data)
    for arguments, reason in (
        ((terms, 0, b""), "not a party"),
        ((terms, city.evm.time, mallory.sign(data)), "not a party"),
        ((terms, city.evm.time + 1, good), "not a party"),
        ((terms, city.evm.time, good[:64]), "bad signature"),
        ((terms, city.evm.time, high_s(good)), "bad signature"),
        ((terms, city.evm.time, good[:64] + b"\x1d"), "bad signature"),
        ((terms._replace(sequence=9), 0, b""), "not open"),
    ):
        with pytest.raises(Reverted, match=f"channels: {reason}"):
            city.channels.send(mallory, "start_close", *arguments)
    city.evm.pass_time(seconds=1)
    with pytest.raises(Reverted, match="channels: expired"):
        city.channels.send(mallory, "start_close", terms, city.evm.time - 1, good)


@pytest.mark.parametrize(
    ("deposits", "totals", "payouts"),
    [
        ((10, 0), (0, 0), (10, 0)),
        ((10, 0), (10, 0), (0, 10)),
        ((10, 0), (11, 0), (0, 10)),
        ((10, 5), (3, 4), (11, 4)),
        ((10, 5), (0, 6), (15, 0)),
        ((10, 5), (2**96 - 1, 0), (0, 15)),
        ((10, 5), (0, 2**96 - 1), (15, 0)),
        ((10, 5), (2**96 - 1, 2**96 - 1), (10, 5)),
        ((0, 0), (2**96 - 1, 1), (0, 0)),
    ],
)
@pytest.mark.parametrize("cooperative", [True, False])
def test_payouts_are_clamped_and_always_add_up_to_the_deposits(
    city: City,
    deposits: tuple[int, int],
    totals: tuple[int, int],
    payouts: tuple[int, int],
    cooperative: bool,
) -> None:
    terms = city.open(deposit=deposits[0], challenge_seconds=600, challenge_blocks=10)
    if deposits[1]:
        city.channels.send(hub, "deposit", terms, alice.address, deposits[1])
    if cooperative:
        outcome = close(city, terms, *totals)
    else:
        city.settled(hub, SettleRow(terms, 0, 1, totals[0]), city.voucher(terms, 1, totals[1]))
        city.channels.send(hub, "start_close", terms, 0, b"")
        city.evm.pass_time(seconds=601, blocks=11)
        outcome = city.channels.send(hub, "finish_close", terms)
    [closed] = outcome.named("Closed")
    assert (closed["transferred_a"], closed["transferred_b"]) == totals
    assert (closed["payout_a"], closed["payout_b"]) == payouts
    assert city.balance(alice.address) == payouts[1]
    assert city.balance(city.channels.address) == 0


def test_a_co_signed_close_ends_a_closing_channel_at_once_and_only_once(city: City) -> None:
    terms = city.open()
    city.settled(hub, SettleRow(terms, 0, 1, 9 * CENT))
    city.channels.send(hub, "start_close", terms, 0, b"")
    close(city, terms, 7 * CENT, 0)
    assert city.balance(alice.address) == 7 * CENT
    assert city.state(terms)[:2] == (3, 9 * CENT)
    assert city.state(terms)[-2:] == (0, 0)
    with pytest.raises(Reverted, match="channels: not open or closing"):
        close(city, terms, 8 * CENT, 0)
    city.evm.pass_time(seconds=3601, blocks=21)
    with pytest.raises(Reverted, match="channels: not closing"):
        city.channels.send(hub, "finish_close", terms)


@pytest.mark.parametrize("act", [withdraw, close])
def test_both_signers_must_have_signed_exactly_this_and_in_time(city: City, act: Any) -> None:
    terms, other = city.open(), city.open()
    now = city.evm.time
    names = ("account", "total") if act is withdraw else ("transferredA", "transferredB")
    values: tuple[Any, int] = (alice.address, 5) if act is withdraw else (5, 0)
    kind = "Withdrawal" if act is withdraw else "Close"
    message = {"channel": city.channel(terms), names[0]: values[0], names[1]: values[1]}
    message["expires"] = now
    a, b = city.signatures(kind, message)
    replayed = city.signatures(kind, {**message, "channel": city.channel(other)})
    crossed = "Close" if act is withdraw else "Withdrawal"
    twin = {"transferredA": 5, "transferredB": 0, "account": alice.address, "total": 5}
    of_crossed = {
        k: v
        for k, v in twin.items()
        if k in (("transferredA", "transferredB") if crossed == "Close" else ("account", "total"))
    }
    for_other_type = city.signatures(
        crossed, {"channel": city.channel(terms), **of_crossed, "expires": now}
    )
    for signed, whom in (
        ((b, a), "A"),
        ((a, a), "B"),
        ((b"", b""), "A"),
        ((a, b""), "B"),
        ((a[:64], b), "A"),
        ((a, high_s(b)), "B"),
        ((a[:64] + bytes([a[64] - 27]), b), "A"),
        ((bytes(65), b), "A"),
        (replayed, "A"),
        (for_other_type, "A"),
    ):
        with pytest.raises(Reverted, match=f"channels: bad signature of {whom}"):
            act(city, terms, *values, signed=signed, expires=now)
    with pytest.raises(Reverted, match="channels: bad signature of A"):
        act(city, terms, *values, signed=(a, b), expires=now + 1)
    with pytest.raises(Reverted, match="channels: expired"):
        act(city, terms, *values, expires=now - 1)
    act(city, terms, *values, signed=(a, b), expires=now)
    assert city.balance(alice.address) == 5


def test_totals_that_would_overflow_their_fields_are_refused(city: City) -> None:
    terms = city.open()
    for totals in ((2**96, 0), (0, 2**96), (2**256 - 1, 0)):
        with pytest.raises(Reverted, match="channels: total out of range"):
            close(city, terms, *totals)
    for total in (MOST + 1, 2**96, 2**256 - 1):
        with pytest.raises(Reverted, match="channels: total out of range"):
            withdraw(city, terms, alice.address, total)


def test_a_withdrawal_never_takes_what_other_channels_hold(city: City) -> None:
    city.open(deposit=1000)
    terms = city.open(deposit=10)
    with pytest.raises(Reverted, match="channels: too much"):
        withdraw(city, terms, alice.address, 11)
    withdraw(city, terms, alice.address, 4)
    withdraw(city, terms, hub.address, 3)
    with pytest.raises(Reverted, match="channels: too much"):
        withdraw(city, terms, alice.address, 8)
    withdraw(city, terms, alice.address, 7)
    assert city.balance(city.channels.address) == 1000
    assert close(city, terms, 0, 0).named("Closed")[0]["payout_a"] == 0


def test_a_withdrawal_is_cumulative_and_counts_once(city: City) -> None:
    terms = city.open(deposit=10)
    [event] = withdraw(city, terms, alice.address, 4).named("Withdrawn")
    assert (event["account"], event["amount"], event["total"]) == (alice.address, 4, 4)
    for total in (4, 3, 0):
        with pytest.raises(Reverted, match="channels: total not greater"):
            withdraw(city, terms, alice.address, total)
    [event] = withdraw(city, terms, alice.address, 6).named("Withdrawn")
    assert (event["amount"], event["total"]) == (2, 6)
    assert city.balance(alice.address) == 6


def test_both_sides_together_withdraw_no_more_than_76_bits_hold(hostile_city: City) -> None:
    city = hostile_city
    city.token.send(hub, "mint", hub.address, 2**80, b"\x00" * 32)
    terms = city.open(deposit=MOST, challenge_seconds=600, challenge_blocks=10)
    city.channels.send(hub, "deposit", terms, alice.address, MOST)
    with pytest.raises(Reverted, match="channels: total out of range"):
        withdraw(city, terms, alice.address, MOST + 1)
    withdraw(city, terms, alice.address, MOST)
    withdraw(city, terms, hub.address, MOST)
    assert city.state(terms) == (1, 0, MOST, MOST, 0, MOST, MOST, 0, 0)
    assert close(city, terms, 2**96 - 1, 0).named("Closed")[0]["payout_b"] == 0


@pytest.mark.parametrize("cooperative", [True, False])
@pytest.mark.parametrize(
    ("totals", "withdrawn", "payouts"),
    [
        ((3, 0), (0, 3), (7, 5)),  # B took what it had earned: its own deposit is left
        ((3, 0), (0, 8), (7, 0)),  # and its deposit
        ((3, 0), (0, 9), (6, 0)),  # more than that: A bears what its signer agreed to
        ((3, 0), (0, 15), (0, 0)),
        ((3, 0), (7, 0), (0, 8)),
        ((3, 0), (8, 0), (0, 7)),  # A took too much: B bears it
        ((0, 4), (14, 0), (0, 1)),
        ((3, 4), (5, 4), (6, 0)),
        ((2**96 - 1, 0), (10, 0), (0, 5)),
        ((0, 2**96 - 1), (0, 5), (10, 0)),
    ],
)
def test_a_close_pays_what_withdrawals_left(
    city: City,
    totals: tuple[int, int],
    withdrawn: tuple[int, int],
    payouts: tuple[int, int],
    cooperative: bool,
) -> None:
    terms = city.open(deposit=10, challenge_seconds=600, challenge_blocks=10)
    city.channels.send(hub, "deposit", terms, alice.address, 5)
    start = city.balance(hub.address)
    for person, total in zip((hub, alice), withdrawn, strict=True):
        if total:
            withdraw(city, terms, person.address, total)
    if cooperative:
        [closed] = close(city, terms, *totals).named("Closed")
    else:
        city.settled(hub, SettleRow(terms, 0, 1, totals[0]), city.voucher(terms, 1, totals[1]))
        city.channels.send(hub, "start_close", terms, 0, b"")
        city.evm.pass_time(seconds=601, blocks=11)
        [closed] = city.channels.send(hub, "finish_close", terms).named("Closed")
    assert (closed["payout_a"], closed["payout_b"]) == payouts
    assert city.balance(hub.address) == start + withdrawn[0] + payouts[0]
    assert city.balance(alice.address) == withdrawn[1] + payouts[1]
    assert city.balance(city.channels.address) == 0


def test_members_who_are_no_longer_active_withdraw_close_and_are_paid(city: City) -> None:
    city.settled(hub, SettleRow(agreed := city.open(deposit=10), 0, 1, 1))
    alone = city.open(deposit=10, challenge_seconds=600, challenge_blocks=10)
    people = ((hub, HUB), (hub_signer, HUB), (alice, RESIDENT), (alice_signer, DEVICE))
    rows = [MemberRow(person.address, role, SUSPENDED) for person, role in people]
    city.registry.send(registrar, "set_members", rows)
    withdraw(city, agreed, alice.address, 4)
    close(city, agreed, 5, 0)
    assert city.balance(alice.address) == 5
    city.settled(hub, SettleRow(alone, 0, 1, 6))
    city.channels.send(alice_signer, "start_close", alone, 0, b"")
    city.evm.pass_time(seconds=601, blocks=11)
    city.channels.send(alice, "finish_close", alone)
    assert city.balance(alice.address) == 11
    assert city.balance(city.channels.address) == 0


def test_nothing_is_withdrawn_by_strangers_or_from_channels_that_are_not_open(city: City) -> None:
    terms = city.open()
    with pytest.raises(Reverted, match="channels: not a party"):
        withdraw(city, terms, alice_signer.address, 1)
    with pytest.raises(Reverted, match="channels: not open"):
        withdraw(city, terms._replace(challenge_seconds=700), alice.address, 1)
    city.channels.send(hub, "start_close", terms, 0, b"")
    with pytest.raises(Reverted, match="channels: not open"):
        withdraw(city, terms, alice.address, 1)
    close(city, terms, 0, 0)
    with pytest.raises(Reverted, match="channels: not open"):
        withdraw(city, terms, alice.address, 1)
    never = terms._replace(sequence=9)
    with pytest.raises(Reverted, match="channels: not open or closing"):
        close(city, never, 0, 0)
    with pytest.raises(Reverted, match="channels: not closing"):
        city.channels.send(hub, "finish_close", never)


@pytest.mark.parametrize("challenge", [(600, 10), (30 * 86400, 1_000_000)])
def test_a_window_ends_when_both_its_last_second_and_its_last_block_are_over(
    city: City, challenge: tuple[int, int]
) -> None:
    seconds, blocks = challenge
    terms = city.open(challenge_seconds=seconds, challenge_blocks=blocks)
    city.evm.pass_time(seconds=12345, blocks=77)
    deadline = (city.evm.time + seconds, city.evm.block + blocks)
    city.channels.send(alice, "start_close", terms, 0, b"")
    assert city.state(terms)[-2:] == deadline
    city.evm.pass_time(seconds=seconds, blocks=blocks)
    for more, text in (((0, 0), "seconds"), ((0, 1), "seconds"), ((1, 0), "blocks")):
        at_deadline = city.evm.checkpoint()
        city.evm.pass_time(seconds=more[0], blocks=more[1])
        with pytest.raises(Reverted, match=rf"channels: window still open \({text}\)"):
            city.channels.send(hub, "finish_close", terms)
        city.evm.restore(at_deadline)
    city.evm.pass_time(seconds=1, blocks=1)
    city.channels.send(mallory, "finish_close", terms)
    assert city.state(terms).status == 3
