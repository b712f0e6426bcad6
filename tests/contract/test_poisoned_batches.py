"""Batches of fifty rows, most of them bad: each good row counts, each bad one is named, no more."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .city import (
    CENT,
    RESIDENT,
    SUSPENDED,
    ZERO32,
    City,
    DepositRow,
    MemberRow,
    OpenRow,
    PackedRow,
    SettleRow,
    State,
    Terms,
    alice,
    alice_signer,
    bob,
    carol,
    hub,
    hub_signer,
    hub_to_alice,
    mallory,
    packed,
    registrar,
)
from .evm import NOBODY, Outcome
from .test_opening import BAD_ROWS, MOST
from .test_settling import ORDER, closed_channel, high_s

ROWS = 50
UNKNOWN, NOT_OPEN, LANE, NONCE, TOTAL, NOT_GREATER, BAD_SIGNATURE = range(1, 8)
NOT_DISTINCT, WINDOW, AMOUNT, NOT_A_MEMBER, NOT_A_PARTY = range(8, 13)


class Bad(NamedTuple):
    row: Any
    channel: bytes
    reason: int


def mixed(bad: Sequence[Bad], good: Sequence[Any]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Spread the good rows evenly, first and last; return all rows and the skips to expect."""
    assert len(bad) + len(good) == ROWS
    assert len(good) >= 5
    places = {n * (ROWS - 1) // (len(good) - 1) for n in range(len(good))}
    bads, goods = iter(bad), iter(good)
    rows, skipped = [], []
    for n in range(ROWS):
        if n in places:
            rows.append(next(goods))
        else:
            row, channel, reason = next(bads)
            rows.append(row)
            skipped.append({"index": n, "channel": channel, "reason": reason})
    return rows, skipped


def other_terms(terms: Terms) -> list[Terms]:
    """The terms with each field another, none of which any channel has."""
    changes: dict[str, Any] = dict.fromkeys(Terms._fields[:4], carol.address)
    changes |= {"challenge_seconds": 3601, "challenge_blocks": 21, "sequence": 1000}
    return [terms._replace(**{name: value}) for name, value in changes.items()]


class Batch:
    """A city with open channels, a closed and a closing one, and the bad rows for each of them."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.closed = closed_channel(city)
        self.closing = city.open()
        self.victim = city.open()
        city.channels.send(alice, "start_close", self.closing, 0, b"")
        city.settled(hub, SettleRow(self.victim, 0, 9, 10))
        self.lanes = [(city.open(), lane) for _ in range(5) for lane in (0, 1)]
        self.lanes[-1] = (self.closing, 1)

    def bad(self, row: SettleRow, reason: int) -> Bad:
        return Bad(row, self.city.channel(row.terms), reason)

    def bad_rows(self) -> list[Bad]:
        """Those that both functions take."""
        city, one, other = self.city, self.victim, self.lanes[0][0]
        signed = city.voucher(one, 0, 30)
        payer_b = city.typed_data(
            "Voucher",
            {
                "channel": city.channel(one),
                "payer": alice.address,
                "nonce": 1,
                "transferred": 30,
                "history": ZERO32,
                "conditions": ZERO32,
            },
        )
        r, s, v = signed.signature[:32], signed.signature[32:64], signed.signature[64:]
        most = b"\xff" * 32
        wrongly_signed = [
            city.voucher(one, 0, 30, by=alice_signer),
            city.voucher(one, 0, 30, by=hub),
            city.voucher(one, 1, 30, by=hub_signer),
            signed._replace(lane=1),
            signed._replace(nonce=2),
            signed._replace(transferred=31),
            signed._replace(history=most),
            signed._replace(conditions=most),
            city.voucher(other, 0, 30)._replace(terms=one),
            signed._replace(signature=b""),
            signed._replace(signature=hub_signer.sign(payer_b)),
            signed._replace(signature=high_s(signed.signature)),
            *(signed._replace(signature=r + s + bytes([each])) for each in (0, 1, 26, 29, 255)),
            signed._replace(signature=ZERO32 + s + v),
            signed._replace(signature=r + ZERO32 + v),
            signed._replace(signature=ORDER.to_bytes(32, "big") + s + v),
            signed._replace(signature=r + most + v),
        ]
        return [
            *(self.bad(row, BAD_SIGNATURE) for row in wrongly_signed),
            self.bad(city.voucher(one, 0, 10, nonce=10), NOT_GREATER),
            self.bad(city.voucher(one, 0, 9, nonce=2**64 - 1), NOT_GREATER),
            self.bad(city.voucher(one, 1, 0), NOT_GREATER),
            self.bad(city.voucher(self.closed, 0, 30), NOT_OPEN),
            self.bad(city.voucher(self.closed, 1, 30), NOT_OPEN),
            *(self.bad(city.voucher(each, 0, 30), UNKNOWN) for each in other_terms(one)),
        ]

    def good_rows(self, count: int) -> list[SettleRow]:
        lanes = self.lanes[-count:]
        return [self.city.voucher(*lane, 100 + n) for n, lane in enumerate(lanes)]

    def untouched(self) -> tuple[Any, ...]:
        """Everything that settling must never change."""
        city = self.city
        people = (hub, hub_signer, alice, alice_signer, bob, carol)
        return (
            city.state(self.victim),
            city.state(self.closed),
            city.balance(city.channels.address),
            [city.balance(person.address) for person in people],
            [city.channels.read("claimable", person.address) for person in people],
            city.channels.read("next_sequence"),
        )

    def check(self, send: Callable[[list[Any]], Outcome], bad: list[Bad], good: list[Any]) -> None:
        city = self.city
        before = self.untouched()
        states = {terms: city.state(terms) for terms, _ in self.lanes}
        rows, skipped = mixed(bad, good)
        outcome = send(rows)
        assert outcome.named("RowSkipped") == skipped
        for n, (terms, lane) in enumerate(self.lanes[-len(good) :]):
            field = "transferred_b" if lane else "transferred_a"
            states[terms] = states[terms]._replace(**{field: 100 + n})
        assert {terms: city.state(terms) for terms in states} == states
        settled = [each["transferred"] for each in outcome.named("Settled")]
        assert settled == [100 + n for n in range(len(good))]
        assert len(outcome.events) == ROWS
        assert self.untouched() == before


def test_settle_takes_the_good_rows_of_a_poisoned_batch_and_names_each_bad_one(city: City) -> None:
    batch = Batch(city)
    row = city.voucher(batch.victim, 0, 30)
    most = 2**256 - 1
    parity = (row.signature[64] - 27) << 255
    compact = int.from_bytes(row.signature[32:64], "big") | parity
    bad = [
        *batch.bad_rows(),
        *(batch.bad(row._replace(lane=lane), LANE) for lane in (2, most)),
        *(batch.bad(row._replace(nonce=nonce), NONCE) for nonce in (2**64, most)),
        *(batch.bad(row._replace(transferred=total), TOTAL) for total in (2**96, most)),
        *(
            batch.bad(row._replace(signature=signature), BAD_SIGNATURE)
            for signature in (
                row.signature[:64],
                row.signature[:32] + compact.to_bytes(32, "big"),
                row.signature[:1],
                bytes(65),
            )
        ),
    ]
    good = batch.good_rows(ROWS - len(bad))
    batch.check(lambda rows: city.settled(bob, *rows), bad, good)


def test_settle_many_takes_the_good_rows_of_a_poisoned_batch_and_names_each_bad_one(
    city: City,
) -> None:
    batch = Batch(city)
    row = packed(city.voucher(batch.victim, 0, 30))
    channel = city.channel(batch.victim)
    parity = ((row.statement >> 168) - 27) << 255
    unsigned_statement = row.statement & (1 << 168) - 1
    bad = [
        *(Bad(packed(each.row), each.channel, each.reason) for each in batch.bad_rows()),
        *(
            Bad(row._replace(statement=row.statement | lane << 160), channel, LANE)
            for lane in (2, 254, 255)
        ),
        *(
            Bad(spoilt, channel, BAD_SIGNATURE)
            for spoilt in (
                row._replace(statement=row.statement | 1 << 176),
                row._replace(statement=row.statement | 1 << 255),
                row._replace(statement=unsigned_statement, s=row.s | parity),
                row._replace(statement=unsigned_statement),
                row._replace(r=2**256 - 1),
            )
        ),
    ]
    good = [packed(each) for each in batch.good_rows(ROWS - len(bad))]

    def send(rows: list[PackedRow]) -> Outcome:
        return city.channels.send(bob, "settle_many", rows)

    batch.check(send, bad, good)


def test_open_many_opens_the_good_rows_of_a_poisoned_batch_and_names_each_bad_one(
    city: City,
) -> None:
    suspended = MemberRow(bob.address, RESIDENT, SUSPENDED)
    expired = MemberRow(carol.address, RESIDENT, valid_until=city.evm.time - 1)
    city.registry.send(registrar, "set_members", [suspended, expired])
    most = 2**64 - 1
    changes = [(change, reason) for change, reason, _ in BAD_ROWS]
    changes += [
        *(({name: bob.address}, NOT_A_MEMBER) for name in OpenRow._fields[:4]),
        *(({name: carol.address}, NOT_A_MEMBER) for name in OpenRow._fields[:4]),
        *(({name: 0}, WINDOW) for name in ("challenge_seconds", "challenge_blocks")),
        *(({name: most}, WINDOW) for name in ("challenge_seconds", "challenge_blocks")),
        ({"account_a": mallory.address, "signer_a": mallory.address}, NOT_A_MEMBER),
        ({"account_a": mallory.address, "signer_a": mallory.address}, NOT_A_MEMBER),
        ({"account_a": NOBODY, "signer_a": NOBODY}, NOT_DISTINCT),
    ]
    bad = [Bad(hub_to_alice(**change), ZERO32, reason) for change, reason in changes]
    good = [hub_to_alice(deposit=n * CENT) for n in range(ROWS - len(bad))]
    rows, skipped = mixed(bad, good)
    before = city.balance(hub.address)
    outcome = city.channels.send(hub, "open_many", rows)
    assert outcome.named("RowSkipped") == skipped
    opened = city.opened(outcome)
    assert [each.sequence for each in opened] == [*range(1, len(good) + 1)]
    for n, terms in enumerate(opened):
        assert terms[:6] == good[n][:6]
        assert city.state(terms) == State(1, 0, n * CENT, 0, 0, 0, 0, 0, 0)
    paid = sum(each.deposit for each in good)
    assert city.balance(hub.address) == before - paid
    assert city.balance(city.channels.address) == paid
    assert city.channels.read("next_sequence") == len(good) + 1


def test_deposit_many_takes_the_good_rows_of_a_poisoned_batch_and_names_each_bad_one(
    city: City,
) -> None:
    batch = Batch(city)
    victim, untrusted = batch.victim, city.open(signer_b=carol.address)
    own = city.open(account_b=carol.address, signer_b=carol.address)
    city.registry.send(registrar, "set_member", MemberRow(carol.address, RESIDENT, SUSPENDED))
    held = 100 * CENT
    kinds: list[tuple[Terms, str, int, int]] = [
        *((terms, hub.address, 1, UNKNOWN) for terms in other_terms(victim)),
        *(
            (terms, account, 1, NOT_OPEN)
            for terms in (batch.closing, batch.closed)
            for account in (hub.address, alice.address)
        ),
        *(
            (victim, account, 1, NOT_A_PARTY)
            for account in (hub_signer.address, alice_signer.address, mallory.address, NOBODY)
        ),
        *((victim, hub.address, n, AMOUNT) for n in (0, MOST + 1 - held, MOST, 2**256 - 1)),
        *((victim, alice.address, n, AMOUNT) for n in (0, MOST + 1, 2**255, 2**256 - 1)),
        (untrusted, alice.address, 1, NOT_A_MEMBER),
        (own, carol.address, 1, NOT_A_MEMBER),
    ]
    bad = [
        Bad(DepositRow(terms, account, amount), city.channel(terms), reason)
        for terms, account, amount, reason in kinds
    ]
    sides = [(terms, side) for terms, side in batch.lanes if terms is not batch.closing]
    accounts = (hub.address, alice.address)
    good = [
        DepositRow(sides[n % 9][0], accounts[sides[n % 9][1]], n + 1)
        for n in range(ROWS - len(bad))
    ]
    states = {terms: city.state(terms) for terms, _ in sides}
    before, locked = batch.untouched(), city.balance(city.channels.address)
    paid, held_by_bob = sum(row.amount for row in good), city.balance(bob.address)
    rows, skipped = mixed(bad, good)
    outcome = city.channels.send(bob, "deposit_many", rows)
    assert outcome.named("RowSkipped") == skipped
    for row in good:
        field = "deposit_b" if row.account == alice.address else "deposit_a"
        total = getattr(states[row.terms], field) + row.amount
        states[row.terms] = states[row.terms]._replace(**{field: total})
    assert {terms: city.state(terms) for terms in states} == states
    assert [(e["funder"], e["amount"]) for e in outcome.named("Deposited")] == [
        (bob.address, row.amount) for row in good
    ]
    assert city.balance(bob.address) == held_by_bob - paid
    assert city.balance(city.channels.address) == locked + paid
    assert batch.untouched()[:2] == before[:2]
    assert city.state(own)[:6] == (1, 0, held, 0, 0, 0)
