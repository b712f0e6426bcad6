"""Honest books in memory for the auditor's tests: a chain and the receipts of its payments."""

from __future__ import annotations

import dataclasses
import json
from typing import TypeVar

from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, ChannelId, address_to_hex, to_hex
from farthing.channels.receipt import Receipt, ReceiptType, make_receipt
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, Payment
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


def account_of(name: str) -> Address:
    return Address(keccak256(name.encode())[:20])


HUB, ALICE, BOB, CAROL, MALLORY = map(account_of, ("hub", "alice", "bob", "carol", "mallory"))


def timestamp(block: int) -> int:
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
            Membership(
                block=self.block,
                account=account,
                role=3 if account == HUB else 4,
                status=status,
                valid_until=valid_until,
            )
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
            "at": timestamp(block) if at < 0 else at,
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
            timestamps={block: timestamp(block) for block in range(self.block + 1)},
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


def city() -> World:
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


def channels_of(world: World) -> list[ChannelId]:
    return list(world.accounts)


def codes(report: Report) -> set[Code]:
    return {finding.code for finding in report.findings}


def failures(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.severity is Severity.FAILURE]


def change_receipt(line: dict[str, object], **fields: object) -> None:
    """Write another content into a line's receipt, well-formed, as a careful forger would."""
    receipt = Receipt(
        type=ReceiptType.USAGE,
        cbor=bytes.fromhex(str(line["receipt"])[2:]),
        salt=bytes.fromhex(str(line["salt"])[2:]),
    )
    changed = make_receipt(ReceiptType.USAGE, receipt.fields() | fields, salt=receipt.salt)
    line["receipt"] = to_hex(changed.cbor)
