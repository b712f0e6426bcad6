"""What the auditor finds in books that tie out, and in the same books with one thing wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, ChannelId, address_to_hex, to_hex
from farthing.channels.receipt import Receipt, ReceiptType, make_receipt
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, Payment
from farthing.node.audit.errors import LogsIncomplete
from farthing.node.audit.judge import judge
from farthing.node.audit.receipts import ReceiptsReader
from farthing.node.audit.records import (
    BlockRef,
    ChainView,
    ChannelEvent,
    ChannelState,
    Claimed,
    Closed,
    CloseStarted,
    Code,
    Credited,
    Deposited,
    Finding,
    Membership,
    Opened,
    Settled,
    Severity,
    Withdrawn,
)
from farthing.node.audit.report import Report

T = TypeVar("T")


def _account(name: str) -> Address:
    return Address(keccak256(name.encode())[:20])


HUB, ALICE, BOB, CAROL, MALLORY = map(_account, ("hub", "alice", "bob", "carol", "mallory"))


def _timestamp(block: int) -> int:
    return 1_000 + 10 * block


class World:
    """A chain and the receipts of its payments, as an honest contract and hub would make them."""

    def __init__(self) -> None:
        self.block = 1
        self.events: list[ChannelEvent] = []
        self.memberships: list[Membership] = []
        self.lines: list[dict[str, object]] = []
        self.lanes: dict[tuple[ChannelId, Side], LaneTotal] = {}
        self.accounts: dict[ChannelId, tuple[Address, Address]] = {}
        self.donated = 0
        self.lied: dict[str, object] = {}  # fields of the view that say something else
        for account in (HUB, ALICE, BOB, CAROL):
            self.member(account)

    def member(self, account: Address, status: int = 1, valid_until: int = 0) -> None:
        self.memberships.append(
            Membership(block=self.block, account=account, status=status, valid_until=valid_until)
        )

    def open(self, account: Address, deposit: int) -> ChannelId:
        sequence = len(self.accounts) + 1
        channel = ChannelId(keccak256(b"channel %d" % sequence))
        self.accounts[channel] = (HUB, account)
        self.lanes[channel, Side.A] = self.lanes[channel, Side.B] = LaneTotal()
        self.events.append(
            Opened(
                block=self.block,
                channel=channel,
                account_a=HUB,
                account_b=account,
                sequence=sequence,
                deposit_ucent=deposit,
            )
        )
        return channel

    def deposit(self, channel: ChannelId, side: Side, amount: int) -> None:
        before = self._state(channel).deposit_ucent[side]
        self.events.append(
            Deposited(
                block=self.block,
                channel=channel,
                account=self.accounts[channel][side],
                amount_ucent=amount,
                total_ucent=before + amount,
            )
        )

    def pay(
        self, channel: ChannelId, side: Side, amount: int, block: int | None = None, at: int = -1
    ) -> dict[str, object]:
        block = self.block if block is None else block
        fields = {
            "amount": amount,
            "block": block,
            "at": _timestamp(block) if at < 0 else at,
            "purpose": "parking",
        }
        lane = self.lanes[channel, side]
        receipt = make_receipt(
            ReceiptType.USAGE, fields, salt=keccak256(b"salt %d" % len(self.lines))
        )
        self.lanes[channel, side] = lane.after(Payment(amount_ucent=amount, receipt=receipt))
        accounts = self.accounts[channel]
        line: dict[str, object] = {
            "v": 1,
            "channel": to_hex(channel),
            "payer": address_to_hex(accounts[side]),
            "payee": address_to_hex(accounts[side.other]),
            "nonce": lane.nonce + 1,
            "amount_ucent": amount,
            "type": 2,
            "receipt": to_hex(receipt.cbor),
            "salt": to_hex(receipt.salt),
        }
        self.lines.append(line)
        return line

    def settle(self, channel: ChannelId, side: Side, total: LaneTotal | None = None) -> None:
        total = total or self.lanes[channel, side]
        self.events.append(
            Settled(
                block=self.block,
                channel=channel,
                payer=self.accounts[channel][side],
                nonce=total.nonce,
                before_ucent=self._state(channel).transferred_ucent[side],
                transferred_ucent=total.transferred_ucent,
                history=total.history,
            )
        )

    def withdraw(self, channel: ChannelId, side: Side, amount: int) -> None:
        before = self._state(channel).withdrawn_ucent[side]
        self.events.append(
            Withdrawn(
                block=self.block,
                channel=channel,
                account=self.accounts[channel][side],
                amount_ucent=amount,
                total_ucent=before + amount,
            )
        )

    def close(self, channel: ChannelId, totals: tuple[int, int] | None = None) -> None:
        """End a channel, cooperatively where totals are given."""
        state = self._state(channel)
        a, b = totals or state.transferred_ucent
        balance = state.deposit_ucent[0] - state.withdrawn_ucent[0] + b - a
        payout = min(max(balance, 0), state.locked_ucent)
        self.events.append(
            Closed(
                block=self.block,
                channel=channel,
                transferred_ucent=(a, b),
                payout_ucent=(payout, state.locked_ucent - payout),
                cooperative=totals is not None,
            )
        )

    def totals(self, channel: ChannelId) -> tuple[int, int]:
        a, b = (self.lanes[channel, side].transferred_ucent for side in Side)
        return a, b

    def _state(self, channel: ChannelId) -> ChannelState:
        status, transferred, deposit, withdrawn = 0, [0, 0], [0, 0], [0, 0]
        for event in self.events:
            if isinstance(event, Claimed) or event.channel != channel:
                continue
            accounts = self.accounts[channel]
            match event:
                case Opened():
                    status, deposit[0] = 1, event.deposit_ucent
                case Deposited():
                    deposit[accounts.index(event.account)] = event.total_ucent
                case Settled():
                    transferred[accounts.index(event.payer)] = event.transferred_ucent
                case Withdrawn():
                    withdrawn[accounts.index(event.account)] = event.total_ucent
                case CloseStarted():
                    status = 2
                case Closed():
                    status = 3
                case Credited():
                    pass
        return ChannelState(
            status=status,
            transferred_ucent=(transferred[0], transferred[1]),
            deposit_ucent=(deposit[0], deposit[1]),
            withdrawn_ucent=(withdrawn[0], withdrawn[1]),
        )

    def view(self) -> ChainView:
        states = {channel: self._state(channel) for channel in self.accounts}
        claimable: dict[Address, int] = {}
        for event in self.events:
            if isinstance(event, Credited | Claimed):
                sign = 1 if isinstance(event, Credited) else -1
                claimable[event.account] = (
                    claimable.get(event.account, 0) + sign * event.amount_ucent
                )
        locked = sum(state.locked_ucent for state in states.values())
        view = ChainView(
            block=BlockRef(number=self.block, hash=bytes(32)),
            events=tuple(self.events),
            memberships=tuple(self.memberships),
            channels_opened=len(self.accounts),
            states=states,
            members={change.account: change for change in self.memberships},
            claimable_ucent=claimable,
            balance_ucent=locked + sum(claimable.values()) + self.donated,
            timestamps={block: _timestamp(block) for block in range(self.block + 1)},
        )
        return dataclasses.replace(view, **self.lied)  # type: ignore[arg-type]  # any field

    def judge(self) -> Report:
        reader = ReceiptsReader()
        reader.add("hub.jsonl", [json.dumps(line).encode() + b"\n" for line in self.lines])
        return judge(self.view(), reader.receipts())

    def line(self, channel: ChannelId, side: Side, nonce: int) -> dict[str, object]:
        payer = address_to_hex(self.accounts[channel][side])
        (line,) = (
            line
            for line in self.lines
            if (line["channel"], line["payer"], line["nonce"]) == (to_hex(channel), payer, nonce)
        )
        return line

    def change_event(self, old: ChannelEvent, **fields: object) -> None:
        changed = dataclasses.replace(old, **fields)  # type: ignore[arg-type]  # any field
        self.events[self.events.index(old)] = changed

    def last(self, kind: type[T]) -> T:
        return [event for event in self.events if isinstance(event, kind)][-1]


def _city() -> World:
    """Three channels: alice's stays open, bob's closes by its window, carol's cooperatively."""
    world = World()
    world.block = 2
    alice, bob, carol = (world.open(account, 50_000) for account in (ALICE, BOB, CAROL))
    world.block = 3
    world.deposit(alice, Side.B, 700)
    world.deposit(alice, Side.B, 300)
    for block in range(4, 10):
        world.block = block
        for channel in (alice, bob, carol):
            world.pay(channel, Side.A, 1_000 + block)
            world.pay(channel, Side.A, 2_000 + block)
            world.pay(channel, Side.B, 100 + block)
        if block == 6:
            for channel in (alice, bob, carol):
                world.settle(channel, Side.A)
    world.withdraw(alice, Side.B, 500)
    world.withdraw(alice, Side.B, 200)
    for side in Side:
        world.settle(alice, side)
        world.settle(bob, side)
    world.events.append(CloseStarted(block=9, channel=bob))
    world.block = 10
    world.close(carol, world.totals(carol))
    world.close(bob)
    payout = world.last(Closed).payout_ucent[1]
    world.events.append(Credited(block=10, channel=bob, account=BOB, amount_ucent=payout))
    world.block = 11
    world.events.append(Claimed(block=11, account=BOB, amount_ucent=1))
    world.pay(alice, Side.A, 55)
    world.pay(alice, Side.A, 66)
    world.block = 12
    return world


def _channels(world: World) -> list[ChannelId]:
    return list(world.accounts)


def _codes(report: Report) -> set[Code]:
    return {finding.code for finding in report.findings}


def _failures(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.severity is Severity.FAILURE]


def _change_receipt(line: dict[str, object], **fields: object) -> None:
    """Write another content into a line's receipt, well-formed, as a careful forger would."""
    receipt = Receipt(
        type=ReceiptType.USAGE,
        cbor=bytes.fromhex(str(line["receipt"])[2:]),
        salt=bytes.fromhex(str(line["salt"])[2:]),
    )
    changed = make_receipt(ReceiptType.USAGE, receipt.fields() | fields, salt=receipt.salt)
    line["receipt"] = to_hex(changed.cbor)


# The one thing that is wrong, for each code of a finding.


def _malformed_line(world: World) -> None:
    world.lines[0]["nonce"] = "1"


def _malformed_receipt(world: World) -> None:
    world.lines[0]["receipt"] = "0xff"


def _amount_differs(world: World) -> None:
    world.lines[0]["amount_ucent"] = 7


def _equivocation(world: World) -> None:
    copy = dict(world.lines[0])
    _change_receipt(copy, purpose="charging")
    world.lines.append(copy)


def _unknown_channel(world: World) -> None:
    world.lines.append(world.lines[0] | {"channel": "0x" + "ab" * 32})


def _wrong_payer(world: World) -> None:
    world.lines.append(world.lines[0] | {"payer": address_to_hex(MALLORY)})


def _wrong_payee(world: World) -> None:
    world.lines[0]["payee"] = address_to_hex(MALLORY)


def _missing_receipt(world: World) -> None:
    del world.lines[4]


def _missing_unsettled(world: World) -> None:
    alice = _channels(world)[0]
    world.lines.remove(world.line(alice, Side.A, 13))


def _missing_at_close(world: World) -> None:
    carol = _channels(world)[2]
    world.lines.remove(world.line(carol, Side.B, 6))


def _settlement_differs(world: World) -> None:
    _change_receipt(world.lines[0], purpose="charging")


def _settlement_regresses(world: World) -> None:
    alice = _channels(world)[0]
    total = world.lanes[alice, Side.A]
    world.settle(alice, Side.A, dataclasses.replace(total, nonce=12))


def _close_differs(world: World) -> None:
    carol = _channels(world)[2]
    closed = next(e for e in world.events if isinstance(e, Closed) and e.channel == carol)
    a, b = closed.transferred_ucent
    pay_a, pay_b = closed.payout_ucent
    world.change_event(closed, transferred_ucent=(a - 1, b), payout_ucent=(pay_a + 1, pay_b - 1))


def _close_below_settled(world: World) -> None:
    alice = _channels(world)[0]
    world.close(alice, (1_004, world.totals(alice)[1]))


def _block_before_opening(world: World) -> None:
    world.pay(_channels(world)[0], Side.B, 1, block=1)


def _block_after_settlement(world: World) -> None:
    alice = _channels(world)[0]
    world.pay(alice, Side.B, 5, block=12)
    world.block = 11
    world.settle(alice, Side.B)
    world.block = 12


def _block_decreases(world: World) -> None:
    world.pay(_channels(world)[0], Side.A, 1, block=10)


def _time_differs(world: World) -> None:
    world.pay(_channels(world)[0], Side.A, 1, at=_timestamp(12) + 1)


def _payee_not_member(world: World) -> None:
    world.member(ALICE, status=3)
    world.pay(_channels(world)[0], Side.A, 1)


def _settlement_does_not_chain(world: World) -> None:
    settled = world.last(Settled)
    world.change_event(settled, before_ucent=settled.before_ucent + 1)


def _deposit_does_not_chain(world: World) -> None:
    world.events.remove(next(e for e in world.events if isinstance(e, Deposited)))


def _withdrawal_does_not_chain(world: World) -> None:
    world.events.remove(next(e for e in world.events if isinstance(e, Withdrawn)))


def _state_differs(world: World) -> None:
    bob, states = _channels(world)[1], dict(world.view().states)
    states[bob] = dataclasses.replace(states[bob], transferred_ucent=(0, 0))
    world.lied["states"] = states


def _claimable_differs(world: World) -> None:
    world.lied["claimable_ucent"] = {BOB: 1}


def _channel_unbalanced(world: World) -> None:
    alice, states = _channels(world)[0], dict(world.view().states)
    states[alice] = dataclasses.replace(states[alice], deposit_ucent=(50_000, 1_001))
    world.lied["states"] = states


def _payout_clamped(world: World) -> None:
    dave = world.open(CAROL, 100)
    world.pay(dave, Side.A, 101)
    world.settle(dave, Side.A)
    world.close(dave)


def _payout_differs(world: World) -> None:
    closed = world.last(Closed)
    a, b = closed.payout_ucent
    world.change_event(closed, payout_ucent=(a + 1, b - 1))


def _balance_short(world: World) -> None:
    world.donated = -1


def _took_too_much(world: World) -> None:
    world.withdraw(_channels(world)[0], Side.B, 40_000)


def _unsettled(world: World) -> None:
    world.pay(_channels(world)[0], Side.B, 9)


def _unsettled_at_close(world: World) -> None:
    world.pay(_channels(world)[2], Side.A, 9)


def _after_block(world: World) -> None:
    world.pay(_channels(world)[0], Side.B, 9, block=13)


def _donation(world: World) -> None:
    world.donated = 3


WRONGS: list[tuple[Code, Callable[[World], None]]] = [
    (Code.MALFORMED_LINE, _malformed_line),
    (Code.MALFORMED_RECEIPT, _malformed_receipt),
    (Code.AMOUNT_DIFFERS, _amount_differs),
    (Code.EQUIVOCATION, _equivocation),
    (Code.UNKNOWN_CHANNEL, _unknown_channel),
    (Code.WRONG_PARTIES, _wrong_payer),
    (Code.WRONG_PARTIES, _wrong_payee),
    (Code.MISSING_RECEIPT, _missing_receipt),
    (Code.MISSING_RECEIPT, _missing_unsettled),
    (Code.MISSING_RECEIPT, _missing_at_close),
    (Code.SETTLEMENT_DIFFERS, _settlement_differs),
    (Code.SETTLEMENT_DIFFERS, _settlement_regresses),
    (Code.CLOSE_DIFFERS, _close_differs),
    (Code.CLOSE_DIFFERS, _close_below_settled),
    (Code.BLOCK_BEFORE_OPENING, _block_before_opening),
    (Code.BLOCK_AFTER_SETTLEMENT, _block_after_settlement),
    (Code.BLOCK_DECREASES, _block_decreases),
    (Code.TIME_DIFFERS, _time_differs),
    (Code.PAYEE_NOT_MEMBER, _payee_not_member),
    (Code.EVENTS_DO_NOT_CHAIN, _settlement_does_not_chain),
    (Code.EVENTS_DO_NOT_CHAIN, _deposit_does_not_chain),
    (Code.EVENTS_DO_NOT_CHAIN, _withdrawal_does_not_chain),
    (Code.STATE_DIFFERS, _state_differs),
    (Code.STATE_DIFFERS, _claimable_differs),
    (Code.CHANNEL_UNBALANCED, _channel_unbalanced),
    (Code.PAYOUT_CLAMPED, _payout_clamped),
    (Code.PAYOUT_DIFFERS, _payout_differs),
    (Code.BALANCE_SHORT, _balance_short),
    (Code.TOOK_TOO_MUCH, _took_too_much),
    (Code.UNSETTLED, _unsettled),
    (Code.UNSETTLED_AT_CLOSE, _unsettled_at_close),
    (Code.AFTER_BLOCK, _after_block),
    (Code.DONATION, _donation),
]


def test_honest_books_tie_out_and_the_totals_are_their_sums() -> None:
    world = _city()
    report = world.judge()
    assert report.ok
    assert report.exit_code == 0
    assert report.difference_ucent == 0
    assert _codes(report) == {Code.UNSETTLED}
    totals = report.totals
    assert report.channels == 3
    assert report.receipts == len(world.lines) == 56
    assert totals.deposits_ucent == 151_000
    assert totals.withdrawals_ucent == 700
    assert totals.locked_ucent == 50_300
    assert totals.payouts_ucent == 100_000
    assert totals.claimable_ucent == world.last(Credited).amount_ucent - 1
    assert totals.donation_ucent == 0
    assert totals.unsettled_ucent == 121
    assert totals.paid_ucent == sum(int(str(line["amount_ucent"])) for line in world.lines)
    assert totals.paid_ucent == totals.settled_ucent + totals.unsettled_ucent


@pytest.mark.parametrize(("code", "wrong"), WRONGS, ids=[w.__name__[1:] for _, w in WRONGS])
def test_each_wrong_is_found_under_its_code(code: Code, wrong: Callable[[World], None]) -> None:
    world = _city()
    wrong(world)
    report = world.judge()
    assert code in _codes(report)
    assert report.ok is (code.severity is Severity.INFORMATION)
    assert report.exit_code == (0 if report.ok else 1)
    if report.ok:
        assert report.difference_ucent == 0


def test_every_code_has_a_wrong_that_is_found_under_it() -> None:
    assert {code for code, _ in WRONGS} == set(Code)


@given(st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_order_and_the_doubling_of_lines_do_not_matter(random, doubled) -> None:  # type: ignore[no-untyped-def]  # hypothesis gives them
    world = _city()
    expected = world.judge().totals
    world.lines = world.lines * (2 if doubled else 1)
    random.shuffle(world.lines)
    report = world.judge()
    assert report.ok
    assert report.totals == expected


@given(st.integers(0, 53))
@settings(max_examples=54, deadline=None)
def test_a_removed_receipt_is_named_by_channel_payer_and_nonce(index: int) -> None:
    world = _city()
    line = world.lines.pop(index)
    report = world.judge()
    (finding,) = _failures(report)
    assert finding.code is Code.MISSING_RECEIPT
    assert finding.channel is not None
    assert finding.payer is not None
    assert to_hex(finding.channel) == line["channel"]
    assert address_to_hex(finding.payer) == line["payer"]
    assert finding.nonce == line["nonce"]
    assert str(line["channel"]) in finding.text
    assert str(line["payer"]) in finding.text
    assert f"nonce {line['nonce']}" in finding.text
    assert report.difference_ucent == line["amount_ucent"]


@given(st.integers(0, 53), st.integers(1, 5_000))
@settings(max_examples=60, deadline=None)
def test_an_amount_changed_in_the_line_alone_is_named_by_line_and_nonce(
    index: int, amount: int
) -> None:
    world = _city()
    line = world.lines[index]
    before = int(str(line["amount_ucent"]))
    line["amount_ucent"] = amount
    report = world.judge()
    if amount == before:
        assert report.ok
        return
    (finding,) = _failures(report)
    assert finding.code is Code.AMOUNT_DIFFERS
    assert finding.nonce == line["nonce"]
    assert finding.subject == f"hub.jsonl:{index + 1}"
    assert report.difference_ucent == abs(amount - before)


@given(st.integers(0, 53), st.integers(1, 5_000))
@settings(max_examples=60, deadline=None)
def test_an_amount_changed_in_the_receipt_alone_is_named_by_line_and_nonce(
    index: int, amount: int
) -> None:
    world = _city()
    line = world.lines[index]
    if amount == line["amount_ucent"]:
        return
    _change_receipt(line, amount=amount)
    (finding,) = _failures(world.judge())
    assert finding.code is Code.AMOUNT_DIFFERS
    assert finding.nonce == line["nonce"]


def test_an_amount_changed_in_line_and_receipt_alike_is_still_found_by_the_settled_history() -> (
    None
):
    world = _city()
    alice = _channels(world)[0]
    line = world.line(alice, Side.A, 9)
    line["amount_ucent"] = 1_500
    _change_receipt(line, amount=1_500)
    report = world.judge()
    (finding,) = _failures(report)
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.nonce == 9
    assert "says 1500 µ¢, and with 1008 µ¢ the receipts give the settled history" in finding.text
    assert report.difference_ucent == 492


def test_a_settlement_for_less_than_its_receipts_blames_no_payment_that_small() -> None:
    world = World()
    world.block = 2
    channel = world.open(ALICE, 100)
    for amount in (1, 5, 4):
        world.pay(channel, Side.A, amount)
    lie = LaneTotal(nonce=3, transferred_ucent=6, history=keccak256(b"lie"))
    world.settle(channel, Side.A, lie)
    report = world.judge()
    (finding,) = _failures(report)
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.text.endswith("they sum up to 4 µ¢ more")
    assert report.difference_ucent == 4


def test_two_amounts_changed_alike_are_narrowed_to_the_payments_of_one_settlement() -> None:
    world = _city()
    alice = _channels(world)[0]
    for nonce in (8, 10):
        line = world.line(alice, Side.A, nonce)
        line["amount_ucent"] = 1_500
        _change_receipt(line, amount=1_500)
    (finding,) = _failures(world.judge())
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.subject == "nonces 7 to 12"


def test_a_lying_settlement_is_one_finding_and_the_next_one_is_judged_by_the_receipts() -> None:
    world = _city()
    alice = _channels(world)[0]
    honest = world.lanes[alice, Side.B]
    world.pay(alice, Side.B, 10)
    lie = dataclasses.replace(world.lanes[alice, Side.B], history=keccak256(b"lie"))
    world.settle(alice, Side.B, lie)
    world.pay(alice, Side.B, 20)
    world.settle(alice, Side.B)
    (finding,) = _failures(world.judge())
    assert finding.code is Code.SETTLEMENT_DIFFERS
    assert finding.nonce == honest.nonce + 1


def test_of_two_payments_under_one_nonce_the_one_that_was_settled_counts() -> None:
    world = _city()
    forged = dict(world.lines[0])
    forged["amount_ucent"] = 3
    _change_receipt(forged, amount=3)
    world.lines.insert(0, forged)
    (finding,) = _failures(world.judge())
    assert finding.code is Code.EQUIVOCATION
    assert finding.subject == "hub.jsonl:2"
    assert "hub.jsonl:1" in finding.text
    assert finding.nonce == 1


def test_all_amounts_of_a_file_changed_alike_are_found_by_the_receipts_inside() -> None:
    world = _city()
    for line in world.lines:
        line["amount_ucent"] = int(str(line["amount_ucent"])) + 1
    report = world.judge()
    assert {f.code for f in _failures(report)} == {Code.AMOUNT_DIFFERS}
    assert report.difference_ucent == 54


def test_a_nonce_beyond_all_receipts_costs_no_time_and_names_what_is_missing() -> None:
    world = _city()
    alice = _channels(world)[0]
    total = world.lanes[alice, Side.A]
    huge = LaneTotal(
        nonce=2**63, transferred_ucent=2**63, history=keccak256(b"an impossible history")
    )
    world.settle(alice, Side.A, huge)
    findings = [f for f in _failures(world.judge()) if f.code is Code.MISSING_RECEIPT]
    assert [f.subject for f in findings] == [f"nonces {total.nonce + 1} to {2**63}"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda world: world.member(ALICE, status=2), "suspended in block 12"),
        (lambda world: world.member(ALICE, status=3), "removed in block 12"),
        (
            lambda world: world.member(ALICE, valid_until=_timestamp(12) - 1),
            f"validity ended at {_timestamp(12) - 1}",
        ),
    ],
)
def test_payments_to_somebody_who_is_no_active_member_are_one_finding(
    change: Callable[[World], None], why: str
) -> None:
    world = _city()
    alice = _channels(world)[0]
    change(world)
    for amount in (10, 20, 30):
        world.pay(alice, Side.A, amount)
    (finding,) = _failures(world.judge())
    assert finding.code is Code.PAYEE_NOT_MEMBER
    assert finding.subject == "nonces 15 to 17"
    assert "60 µ¢" in finding.text
    assert address_to_hex(ALICE) in finding.text
    assert why in finding.text


def test_a_member_is_judged_at_the_block_of_the_payment_not_at_the_audited_one() -> None:
    world = _city()
    world.member(ALICE, status=3)
    assert world.judge().ok


def test_the_last_second_of_a_validity_still_counts() -> None:
    world = _city()
    world.member(ALICE, valid_until=_timestamp(12))
    world.pay(_channels(world)[0], Side.A, 1)
    assert world.judge().ok


def test_somebody_never_registered_is_no_member() -> None:
    world = _city()
    world.memberships = [change for change in world.memberships if change.account != ALICE]
    findings = _failures(world.judge())
    assert {f.code for f in findings} == {Code.PAYEE_NOT_MEMBER}
    assert "it was not registered" in findings[0].text


def test_an_unknown_channel_after_the_audited_block_is_no_failure() -> None:
    world = _city()
    channel = world.open(CAROL, 5)
    world.pay(channel, Side.A, 5, block=13)
    world.accounts.pop(channel)
    world.events.pop()
    report = world.judge()
    assert report.ok
    assert Code.AFTER_BLOCK in _codes(report)


def test_a_close_that_holds_too_little_for_b_says_so() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.deposit(channel, Side.B, 40)
    world.withdraw(channel, Side.A, 30)
    world.pay(channel, Side.A, 95)
    world.pay(channel, Side.B, 5)
    world.close(channel, (95, 5))
    clamped, too_much = _failures(world.judge())
    assert clamped.code is Code.PAYOUT_CLAMPED
    assert f"held 20 µ¢ less than it owed to {address_to_hex(ALICE)}" in clamped.text
    assert too_much.text == (
        f"account {address_to_hex(HUB)} took 30 µ¢ out of its 1 channels, but deposited 100, "
        "received 5 and paid 95 µ¢: 20 µ¢ too much"
    )


def test_a_close_that_holds_too_little_for_a_says_so() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.deposit(channel, Side.B, 40)
    world.withdraw(channel, Side.B, 30)
    world.pay(channel, Side.B, 25)
    world.close(channel, (0, 25))
    clamped, too_much = _failures(world.judge())
    assert clamped.code is Code.PAYOUT_CLAMPED
    assert f"held 15 µ¢ less than it owed to {address_to_hex(HUB)}" in clamped.text
    assert too_much.subject == f"account {address_to_hex(ALICE)}"


def test_a_close_that_pays_exactly_all_to_one_party_is_not_clamped() -> None:
    world = World()
    for totals in ((100, 0), (0, 0)):
        channel = world.open(ALICE, 100)
        if totals[0]:
            world.pay(channel, Side.A, totals[0])
        world.close(channel, totals)
    report = world.judge()
    assert report.findings == ()
    assert report.totals.payouts_ucent == 200


def test_an_account_is_judged_over_all_its_channels() -> None:
    world = World()
    rich = world.open(ALICE, 100)
    poor = world.open(ALICE, 10)
    world.pay(rich, Side.A, 50)
    world.withdraw(poor, Side.B, 10)
    assert world.judge().ok
    world.withdraw(rich, Side.B, 41)
    (finding,) = _failures(world.judge())
    assert finding.text == (
        f"account {address_to_hex(ALICE)} took 51 µ¢ out of its 2 channels, but deposited 0, "
        "received 50 and paid 0 µ¢: 1 µ¢ too much"
    )


def test_a_payout_counts_as_taken_out() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.pay(channel, Side.A, 60)
    world.close(channel, (60, 0))
    world.pay(channel, Side.A, 1)
    (finding,) = _failures(world.judge())
    assert finding.code is Code.TOOK_TOO_MUCH
    assert "took 40 µ¢ out of its 1 channels, but deposited 100, received 0 and paid 61" in (
        finding.text
    )


def test_a_settlement_that_raises_nothing_does_not_chain() -> None:
    world = _city()
    world.settle(_channels(world)[0], Side.A, world.lanes[_channels(world)[0], Side.A])
    world.settle(_channels(world)[0], Side.A, world.lanes[_channels(world)[0], Side.A])
    assert Code.EVENTS_DO_NOT_CHAIN in _codes(world.judge())


def _closed(amounts: tuple[int, ...], total: int, settled: int = 0) -> World:
    """A lane with these payments, the first ones settled, closed cooperatively at a total."""
    world = World()
    channel = world.open(ALICE, 1_000)
    for nonce, amount in enumerate(amounts, start=1):
        world.pay(channel, Side.A, amount)
        if nonce == settled:
            world.settle(channel, Side.A)
    world.close(channel, (total, 0))
    return world


def test_a_close_at_the_total_of_any_payment_ties_out_with_the_rest_unsettled() -> None:
    report = _closed((10, 20, 30), total=30, settled=1).judge()
    assert _codes(report) == {Code.UNSETTLED_AT_CLOSE, Code.TOOK_TOO_MUCH}
    assert report.difference_ucent == 0
    (unsettled,) = (f for f in report.findings if f.code is Code.UNSETTLED_AT_CLOSE)
    assert unsettled.subject == "nonce 3"
    assert "1 payments of 30 µ¢" in unsettled.text


@pytest.mark.parametrize(("total", "difference"), [(31, 1), (45, 15), (58, 2), (29, 1), (12, 2)])
def test_a_close_between_two_payments_differs_by_the_nearer_one(
    total: int, difference: int
) -> None:
    report = _closed((10, 20, 30), total=total, settled=1).judge()
    (finding,) = (f for f in report.findings if f.code is Code.CLOSE_DIFFERS)
    assert report.difference_ucent == difference
    nonce = 3 if total > 30 else 2
    assert finding.nonce == nonce
    below, above = (30, 60) if nonce == 3 else (10, 30)
    assert f"give {below} µ¢ before nonce {nonce} and {above} µ¢ after it" in finding.text


def test_a_close_below_what_was_settled_differs_by_what_was_given_back() -> None:
    report = _closed((10, 20, 30), total=10, settled=2).judge()
    (finding,) = (f for f in report.findings if f.code is Code.CLOSE_DIFFERS)
    assert "closed the lane at 10 µ¢, below the 30 µ¢ settled before" in finding.text
    assert report.difference_ucent == 20


def test_a_close_beyond_all_receipts_misses_the_next_one() -> None:
    report = _closed((10, 20, 30), total=65, settled=1).judge()
    (finding,) = _failures(report)
    assert finding.code is Code.MISSING_RECEIPT
    assert finding.nonce == 4
    assert "the receipts before it reach only 60 µ¢" in finding.text
    assert report.difference_ucent == 5


def test_a_close_of_a_lane_without_any_receipt_misses_the_first_one() -> None:
    world = _closed((10,), total=10)
    world.lines.clear()
    report = world.judge()
    (finding,) = _failures(report)
    assert finding.code is Code.MISSING_RECEIPT
    assert finding.subject == "nonce 1"
    assert report.difference_ucent == 10


def test_receipts_missing_before_a_close_are_named_together() -> None:
    world = _closed((10, 20, 30, 40), total=100, settled=1)
    del world.lines[1:3]
    report = world.judge()
    (finding,) = _failures(report)
    assert finding.subject == "nonces 2 to 3"
    assert report.difference_ucent == 50


def test_receipts_missing_in_one_settlement_are_named_run_by_run() -> None:
    world = World()
    channel = world.open(ALICE, 1_000)
    for amount in (1, 2, 3, 4, 5, 6):
        world.pay(channel, Side.A, amount)
    world.settle(channel, Side.A)
    world.lines = [line for line in world.lines if line["nonce"] in (1, 4, 5)]
    report = world.judge()
    assert [f.subject for f in _failures(report)] == ["nonces 2 to 3", "nonce 6"]
    assert report.difference_ucent == 11


def test_a_removed_receipt_is_told_with_its_amount_where_it_alone_is_missing() -> None:
    world = _city()
    line = world.lines.pop(0)
    (finding,) = _failures(world.judge())
    assert f"nonce 1 ({line['amount_ucent']} µ¢) is missing" in finding.text


def test_unsettled_payments_are_told_with_their_nonces_and_sum() -> None:
    (finding,) = _city().judge().findings
    assert finding.code is Code.UNSETTLED
    assert finding.subject == "nonces 13 to 14"
    assert finding.text.endswith("nonces 13 to 14: 2 payments of 121 µ¢ are not settled")


def test_a_payment_at_the_audited_block_is_judged() -> None:
    world = _city()
    world.pay(_channels(world)[0], Side.B, 9)
    assert Code.AFTER_BLOCK not in _codes(world.judge())


def test_a_payment_may_name_the_blocks_of_its_opening_and_of_its_settlement() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.pay(channel, Side.A, 1)
    world.settle(channel, Side.A)
    assert world.judge().findings == ()


@pytest.mark.parametrize("side", list(Side))
def test_a_withdrawal_that_no_payment_covers_is_found_at_the_account(side: Side) -> None:
    world = _city()
    channel = world.open(CAROL, 100)
    world.deposit(channel, Side.B, 100)
    world.withdraw(channel, side, 101)
    world.close(channel, (0, 0))
    codes = _codes(world.judge())
    assert Code.PAYOUT_CLAMPED in codes
    assert Code.CHANNEL_UNBALANCED not in codes


def test_logs_without_an_opening_are_incomplete() -> None:
    world = _city()
    world.events = [
        event
        for event in world.events
        if not (isinstance(event, Opened) and event.account_b == ALICE)
    ]
    with pytest.raises(LogsIncomplete, match="is missing"):
        world.judge()


def test_logs_without_a_whole_channel_are_incomplete() -> None:
    world = _city()
    world.lied["channels_opened"] = 4
    with pytest.raises(LogsIncomplete, match="opened 4 channels, the logs tell of 3"):
        world.judge()


def test_logs_about_a_stranger_are_refused() -> None:
    world = _city()
    world.events.append(dataclasses.replace(world.last(Withdrawn), account=MALLORY))
    world.lied["states"] = {}
    with pytest.raises(LogsIncomplete, match="no party"):
        judge(
            dataclasses.replace(_city().view(), events=tuple(world.events)),
            ReceiptsReader().receipts(),
        )


def test_logs_without_a_change_of_membership_are_incomplete() -> None:
    world = _city()
    world.lied["members"] = {ALICE: Membership(block=12, account=ALICE, status=3, valid_until=0)}
    with pytest.raises(LogsIncomplete, match="another status"):
        world.judge()


def test_the_report_as_text_puts_failures_first_and_ends_with_the_outcome() -> None:
    world = _city()
    _missing_receipt(world)
    lines = world.judge().to_text().splitlines()
    assert lines[0].startswith("failure missing-receipt: channel 0x")
    assert lines[1].startswith("information unsettled: ")
    assert lines[-1].startswith("block 12, 3 channels, 55 receipts: differs: 1 findings")
    assert any(line.startswith("deposits") and "0.151 ¢" in line for line in lines)


def test_a_city_without_payments_ties_out_in_a_few_lines() -> None:
    world = World()
    lines = world.judge().to_text().splitlines()
    assert lines[0].split() == ["deposits", "0", "µ¢", "0", "¢"]
    assert lines[-1] == "block 1, 0 channels, 0 receipts: ties out"


def test_the_report_as_json_holds_what_programs_need() -> None:
    world = _city()
    _missing_receipt(world)
    record = json.loads(json.dumps(world.judge().to_json()))
    assert record["ok"] is False
    assert record["inconclusive"] is False
    assert record["difference_ucent"] == 2_004
    assert record["block"] == 12
    assert record["channels"] == 3
    assert record["receipts"] == 55
    assert record["paid_ucent"] == record["settled_ucent"] + 121 - 2_004
    finding = record["findings"][0]
    assert finding["code"] == "missing-receipt"
    assert finding["severity"] == "failure"
    assert finding["nonce"] == 2
