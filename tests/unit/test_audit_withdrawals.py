"""The auditor names whoever took more out of an open channel than was its own by then."""

import json
from dataclasses import replace

import pytest

from farthing.channels.ids import ChannelId, address_to_hex, to_hex
from farthing.channels.terms import Side
from farthing.node.audit.records import Code, Finding

from .audit_world import ALICE, HUB, World, change_receipt, city, failures


def start(deposit: int = 1_000) -> tuple[World, ChannelId]:
    """Alice's channel; she was paid 100 µ¢ in block 2, and now is block 3."""
    world = World()
    channel = world.open(ALICE, deposit)
    world.block = 2
    world.pay(channel, Side.A, 60)
    world.pay(channel, Side.A, 40)
    world.block = 3
    return world, channel


def too_much(world: World) -> list[Finding]:
    return [f for f in failures(world.judge()) if f.code is Code.WITHDREW_TOO_MUCH]


def test_what_was_received_and_deposited_before_may_be_taken_out() -> None:
    world, channel = start()
    world.withdraw(channel, Side.B, 70)
    world.block = 4
    world.deposit(channel, Side.B, 5)
    world.withdraw(channel, Side.B, 35)
    world.withdraw(channel, Side.A, 900)
    assert world.judge().ok
    world.withdraw(channel, Side.A, 1)
    (finding,) = too_much(world)
    assert finding.payer == HUB


@pytest.mark.parametrize("amount", [101, 1_000])
def test_a_withdrawal_that_no_voucher_covers_is_named(amount: int) -> None:
    world, channel = start()
    world.withdraw(channel, Side.B, amount)
    report = world.judge()
    assert not report.ok
    assert report.difference_ucent == 0  # it is conserved: only this question finds it
    (finding,) = too_much(world)
    assert finding.channel == channel
    assert finding.payer == ALICE
    assert finding.subject == "withdrawal in block 3"
    assert finding.text == (
        f"channel {to_hex(channel)}: the withdrawal of {amount} µ¢ in block 3 brings what "
        f"{address_to_hex(ALICE)} took out to {amount} µ¢, but by then it had deposited 0, "
        f"received 100 and paid 0 µ¢: {amount - 100} µ¢ that no voucher covers"
    )


def test_what_was_earned_afterwards_covers_no_earlier_withdrawal() -> None:
    world, channel = start()
    world.withdraw(channel, Side.B, 150)
    world.pay(channel, Side.A, 500)  # its receipt names the withdrawal's own block
    world.block = 4
    world.settle(channel, Side.A)
    (finding,) = too_much(world)
    assert "received 100 and paid 0" in finding.text
    assert {f.code for f in failures(world.judge())} == {Code.WITHDREW_TOO_MUCH}


def test_a_deposit_that_came_afterwards_covers_no_earlier_withdrawal() -> None:
    world, channel = start()
    world.withdraw(channel, Side.B, 150)
    world.block = 4
    world.deposit(channel, Side.B, 500)
    (finding,) = too_much(world)
    assert "deposited 0" in finding.text


def test_what_was_paid_and_settled_before_is_gone() -> None:
    world, channel = start()
    world.pay(channel, Side.B, 30)
    world.settle(channel, Side.B)
    world.block = 4
    world.withdraw(channel, Side.B, 71)
    (finding,) = too_much(world)
    assert "received 100 and paid 30 µ¢: 1 µ¢" in finding.text


def test_what_was_paid_and_is_not_settled_is_gone_in_the_end() -> None:
    world, channel = start()
    world.pay(channel, Side.B, 30)
    world.block = 4
    world.withdraw(channel, Side.B, 71)
    (finding,) = too_much(world)
    assert finding.subject == "withdrawals"
    assert finding.channel == channel
    assert "took out 71 µ¢, but deposited 0, received 100 and paid 30 µ¢: 1 µ¢" in finding.text


def test_a_payment_made_after_a_withdrawal_by_a_payer_whose_view_lags_is_no_wrong() -> None:
    """It took all it had, was paid again, and pays that back under the block it still sees."""
    world, channel = start()
    world.withdraw(channel, Side.B, 100)
    world.pay(channel, Side.A, 20)
    world.pay(channel, Side.B, 20, block=2)
    world.block = 5
    world.settle(channel, Side.B)
    assert world.judge().ok


def test_what_the_chain_has_settled_counts_even_where_its_receipts_are_missing() -> None:
    world, channel = start()
    world.settle(channel, Side.A)
    world.block = 4
    world.withdraw(channel, Side.B, 100)
    world.lines.clear()
    assert {f.code for f in failures(world.judge())} == {Code.MISSING_RECEIPT}


def test_a_receipt_that_cannot_be_read_counts_for_the_one_who_was_paid() -> None:
    world, channel = start()
    world.withdraw(channel, Side.B, 100)
    world.line(channel, Side.A, 1)["receipt"] = "0xa0"
    assert {f.code for f in failures(world.judge())} == {Code.MALFORMED_RECEIPT}


def test_a_receipt_moved_before_the_withdrawal_is_found_by_its_time() -> None:
    """An insider who writes an older block into a receipt must also write that block's time."""
    world, channel = start()
    world.withdraw(channel, Side.B, 150)
    line = world.pay(channel, Side.A, 50)
    change_receipt(line, block=2)
    assert Code.TIME_DIFFERS in {f.code for f in failures(world.judge())}


def test_a_withdrawal_is_judged_by_its_own_channel() -> None:
    """The hub's other channels hold enough, and are not what it was signed for."""
    world, channel = start(deposit=100)
    world.open(ALICE, 10_000)
    world.deposit(channel, Side.B, 50)
    world.block = 4
    world.withdraw(channel, Side.A, 20)
    world.block = 5
    (finding,) = failures(world.judge())
    assert (finding.code, finding.channel, finding.payer) == (
        Code.WITHDREW_TOO_MUCH,
        channel,
        HUB,
    )


def test_a_channel_that_closed_is_judged_by_its_withdrawals_and_its_payout() -> None:
    world, channel = start()
    world.withdraw(channel, Side.B, 150)
    world.block = 4
    world.close(channel, (100, 0))
    assert {f.code for f in failures(world.judge())} == {
        Code.WITHDREW_TOO_MUCH,
        Code.PAYOUT_CLAMPED,
        Code.TOOK_TOO_MUCH,
    }


def test_an_honest_city_names_nobody() -> None:
    world = city()
    assert not too_much(world)
    assert json.dumps(world.judge().to_json()).count("withdrew-too-much") == 0


# -- what a payer that is no agency wrote of its time ---------------------------------------------


def test_a_wallet_that_names_a_block_to_come_makes_nobody_a_thief() -> None:
    world = World()
    channel = world.open(ALICE, 100)
    world.block = 2
    world.pay(channel, Side.A, 60)
    world.settle(channel, Side.A)
    world.pay(channel, Side.B, 60, block=10**6, at=0)
    world.block = 4
    world.withdraw(channel, Side.A, 90)  # of 100 that are its own
    assert failures(world.judge()) == []


def test_a_wallet_cannot_hide_what_it_spent_behind_a_block_to_come() -> None:
    world = World()
    channel, other = world.open(ALICE, 1000), world.open(ALICE, 1000)
    world.block = 2
    world.pay(channel, Side.A, 100)
    world.pay(other, Side.A, 100)  # which covers it for the account as a whole
    world.pay(channel, Side.B, 100, block=10**6, at=0)
    world.block = 4
    world.withdraw(channel, Side.B, 100)
    assert Code.WITHDREW_TOO_MUCH in {f.code for f in failures(world.judge())}


def test_a_hub_without_a_hub_s_role_is_held_to_the_rules_all_the_same() -> None:
    world = World()
    world.memberships = [replace(one, role=4) for one in world.memberships]
    world.member(ALICE, status=2)
    channel = world.open(ALICE, 1000)
    world.block = 2
    world.pay(channel, Side.A, 500)
    world.settle(channel, Side.A)
    assert Code.PAYEE_NOT_MEMBER in {f.code for f in failures(world.judge())}
