"""One thing wrong in the honest city of the auditor's tests, for each code of a finding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from farthing.channels.ids import address_to_hex
from farthing.channels.terms import Side
from farthing.node.audit.records import (
    Closed,
    Code,
    Deposited,
    Settled,
    Withdrawn,
)

from .audit_world import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    World,
    change_receipt,
    channels_of,
    timestamp,
)


def malformed_line(world: World) -> None:
    world.lines[0]["nonce"] = "1"


def malformed_receipt(world: World) -> None:
    world.lines[0]["receipt"] = "0xff"


def amount_differs(world: World) -> None:
    world.lines[0]["amount_ucent"] = 7


def equivocation(world: World) -> None:
    copy = dict(world.lines[0])
    change_receipt(copy, purpose="charging")
    world.lines.append(copy)


def unknown_channel(world: World) -> None:
    world.lines.append(world.lines[0] | {"channel": "0x" + "ab" * 32})


def wrong_payer(world: World) -> None:
    world.lines.append(world.lines[0] | {"payer": address_to_hex(MALLORY)})


def wrong_payee(world: World) -> None:
    world.lines[0]["payee"] = address_to_hex(MALLORY)


def missing_receipt(world: World) -> None:
    del world.lines[4]


def missing_unsettled(world: World) -> None:
    alice = channels_of(world)[0]
    world.lines.remove(world.line(alice, Side.A, 13))


def missing_at_close(world: World) -> None:
    carol = channels_of(world)[2]
    world.lines.remove(world.line(carol, Side.B, 6))


def settlement_differs(world: World) -> None:
    change_receipt(world.lines[0], purpose="charging")


def settlement_regresses(world: World) -> None:
    alice = channels_of(world)[0]
    total = world.lanes[alice, Side.A]
    world.settle(alice, Side.A, dataclasses.replace(total, nonce=12))


def close_differs(world: World) -> None:
    carol = channels_of(world)[2]
    closed = next(e for e in world.events if isinstance(e, Closed) and e.channel == carol)
    a, b = closed.transferred_ucent
    pay_a, pay_b = closed.payout_ucent
    world.change_event(closed, transferred_ucent=(a - 1, b), payout_ucent=(pay_a + 1, pay_b - 1))


def close_below_settled(world: World) -> None:
    alice = channels_of(world)[0]
    world.close(alice, (1_004, world.totals(alice)[1]))


def block_before_opening(world: World) -> None:
    world.pay(channels_of(world)[0], Side.A, 1, block=1)


def block_after_settlement(world: World) -> None:
    alice = channels_of(world)[0]
    world.pay(alice, Side.A, 5, block=12)
    world.block = 11
    world.settle(alice, Side.A)
    world.block = 12


def block_decreases(world: World) -> None:
    world.pay(channels_of(world)[0], Side.A, 1, block=10)


def time_differs(world: World) -> None:
    world.pay(channels_of(world)[0], Side.A, 1, at=timestamp(12) + 1)


def payee_not_member(world: World) -> None:
    world.member(ALICE, status=3)
    world.pay(channels_of(world)[0], Side.A, 1)


def misstated(world: World) -> None:
    """A resident spends a microcent to write what cannot be."""
    alice = channels_of(world)[0]
    world.pay(alice, Side.B, 1, block=1, at=7)
    world.pay(alice, Side.B, 1, block=10**9, at=10**12)
    world.settle(alice, Side.B)


def settlement_does_not_chain(world: World) -> None:
    settled = world.last(Settled)
    world.change_event(settled, before_ucent=settled.before_ucent + 1)


def deposit_does_not_chain(world: World) -> None:
    world.events.remove(next(e for e in world.events if isinstance(e, Deposited)))


def withdrawal_does_not_chain(world: World) -> None:
    world.events.remove(next(e for e in world.events if isinstance(e, Withdrawn)))


def state_differs(world: World) -> None:
    bob, states = channels_of(world)[1], dict(world.view().states)
    states[bob] = dataclasses.replace(states[bob], transferred_ucent=(0, 0))
    world.lied["states"] = states


def claimable_differs(world: World) -> None:
    world.lied["claimable_ucent"] = {BOB: 1}


def channel_unbalanced(world: World) -> None:
    alice, states = channels_of(world)[0], dict(world.view().states)
    states[alice] = dataclasses.replace(states[alice], deposit_ucent=(50_000, 1_001))
    world.lied["states"] = states


def payout_clamped(world: World) -> None:
    dave = world.open(CAROL, 100)
    world.pay(dave, Side.A, 101)
    world.settle(dave, Side.A)
    world.close(dave)


def payout_differs(world: World) -> None:
    closed = world.last(Closed)
    a, b = closed.payout_ucent
    world.change_event(closed, payout_ucent=(a + 1, b - 1))


def balance_short(world: World) -> None:
    world.donated = -1


def took_too_much(world: World) -> None:
    world.withdraw(channels_of(world)[0], Side.B, 40_000)


def withdrew_too_much(world: World) -> None:
    """By the hand of an insider, and covered by what was earned later."""
    alice = channels_of(world)[0]
    world.withdraw(alice, Side.B, 40_000)
    world.block += 1
    world.pay(alice, Side.A, 30_000)
    world.settle(alice, Side.A)


def unsettled(world: World) -> None:
    world.pay(channels_of(world)[0], Side.B, 9)


def unsettled_at_close(world: World) -> None:
    world.pay(channels_of(world)[2], Side.A, 9)


def after_block(world: World) -> None:
    world.pay(channels_of(world)[0], Side.B, 9, block=13)


def donation(world: World) -> None:
    world.donated = 3


WRONGS: list[tuple[Code, Callable[[World], None]]] = [
    (Code.MALFORMED_LINE, malformed_line),
    (Code.MALFORMED_RECEIPT, malformed_receipt),
    (Code.AMOUNT_DIFFERS, amount_differs),
    (Code.EQUIVOCATION, equivocation),
    (Code.UNKNOWN_CHANNEL, unknown_channel),
    (Code.WRONG_PARTIES, wrong_payer),
    (Code.WRONG_PARTIES, wrong_payee),
    (Code.MISSING_RECEIPT, missing_receipt),
    (Code.MISSING_RECEIPT, missing_unsettled),
    (Code.MISSING_RECEIPT, missing_at_close),
    (Code.SETTLEMENT_DIFFERS, settlement_differs),
    (Code.SETTLEMENT_DIFFERS, settlement_regresses),
    (Code.CLOSE_DIFFERS, close_differs),
    (Code.CLOSE_DIFFERS, close_below_settled),
    (Code.BLOCK_BEFORE_OPENING, block_before_opening),
    (Code.BLOCK_AFTER_SETTLEMENT, block_after_settlement),
    (Code.BLOCK_DECREASES, block_decreases),
    (Code.TIME_DIFFERS, time_differs),
    (Code.PAYEE_NOT_MEMBER, payee_not_member),
    (Code.MISSTATED, misstated),
    (Code.EVENTS_DO_NOT_CHAIN, settlement_does_not_chain),
    (Code.EVENTS_DO_NOT_CHAIN, deposit_does_not_chain),
    (Code.EVENTS_DO_NOT_CHAIN, withdrawal_does_not_chain),
    (Code.STATE_DIFFERS, state_differs),
    (Code.STATE_DIFFERS, claimable_differs),
    (Code.CHANNEL_UNBALANCED, channel_unbalanced),
    (Code.PAYOUT_CLAMPED, payout_clamped),
    (Code.PAYOUT_DIFFERS, payout_differs),
    (Code.BALANCE_SHORT, balance_short),
    (Code.TOOK_TOO_MUCH, took_too_much),
    (Code.WITHDREW_TOO_MUCH, withdrew_too_much),
    (Code.UNSETTLED, unsettled),
    (Code.UNSETTLED_AT_CLOSE, unsettled_at_close),
    (Code.AFTER_BLOCK, after_block),
    (Code.DONATION, donation),
]
