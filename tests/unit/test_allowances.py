"""What the hub countersigns of its members' withdrawals, and what it calls all that is left."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.channels.events import ObservedChannel, Received
from farthing.channels.messages import Ack
from farthing.channels.state import Channel, WithdrawalTerms
from farthing.channels.terms import Side
from farthing.node.allowances import Allowances, TooManyWithdrawals, WithdrawalTooSmall

from ..hub_parts import DEPOSIT_UCENT, Parts, fresh_channel, parts
from ..people import NOW, payment

LEAST_UCENT = 1_000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path) as made:
        yield made


@pytest.fixture
def allowances(hub: Parts) -> Allowances:
    return Allowances(
        hub.store.ledger,
        lambda: hub.now,
        openings_max=1,
        withdrawal_least_ucent=LEAST_UCENT,
        withdrawals_max=2,
    )


def refusal(allowances: Allowances, channel: Channel, total_ucent: int) -> str | None:
    terms = WithdrawalTerms(side=Side.B, total_ucent=total_ucent, expires=NOW + 90)
    error = allowances.refusal(channel, terms)
    return None if error is None else error.code


async def pay(hub: Parts, channel: Channel, *amounts_ucent: int) -> Channel:
    """Pay the member, whose acknowledgement is not there yet."""
    for amount_ucent in amounts_ucent:
        hub.driver.pay(channel.id, (payment(amount_ucent, number=amount_ucent),), ())
    await hub.driver.flush()
    return hub.driver.get(channel.id)


def acknowledge(hub: Parts, channel: Channel, nonce: int) -> Channel:
    totals = {total.nonce: total for total in channel.sent.unacknowledged}
    ack = Ack(channel=channel.id, nonce=nonce, history=totals[nonce].history)
    hub.feed(channel, Received(message=ack))
    return hub.driver.get(channel.id)


async def test_all_that_is_left_may_be_taken_out_while_a_reward_is_on_its_way(
    hub: Parts, allowances: Allowances
) -> None:
    bob = hub.hold(fresh_channel())
    hub.connect(bob)
    bob = acknowledge(hub, await pay(hub, bob, 30, 7), 2)
    bob = await pay(hub, bob, 11, 13)
    assert refusal(allowances, bob, 37) is None  # all that bob knows of
    assert refusal(allowances, bob, 36) == WithdrawalTooSmall.code
    assert refusal(allowances, acknowledge(hub, bob, 3), 47) == WithdrawalTooSmall.code
    assert refusal(allowances, acknowledge(hub, bob, 3), 48) is None


async def test_what_was_never_acknowledged_is_not_yet_left(
    hub: Parts, allowances: Allowances
) -> None:
    bob = hub.hold(fresh_channel())
    deposited = hub.open_view(deposit_ucent=(DEPOSIT_UCENT, 20))
    hub.feed(bob, ObservedChannel(view=deposited))
    hub.connect(bob)
    bob = await pay(hub, bob, 11)
    assert refusal(allowances, bob, 20) is None
    assert refusal(allowances, bob, 19) == WithdrawalTooSmall.code


async def test_a_total_that_was_taken_up_without_its_payments_is_left(
    hub: Parts, allowances: Allowances
) -> None:
    """As by a restored hub: nothing says what of it is acknowledged."""
    bob = hub.hold(fresh_channel())
    hub.connect(bob)
    bob = await pay(hub, bob, 30, 7)
    restored = replace(
        bob, sent=replace(bob.sent, acknowledged_nonce=9, unacknowledged=bob.sent.unacknowledged)
    )
    assert refusal(allowances, restored, 36) == WithdrawalTooSmall.code
    assert refusal(allowances, restored, 37) is None


async def test_a_member_has_so_many_withdrawals_a_day(hub: Parts, allowances: Allowances) -> None:
    bob = hub.hold(fresh_channel())
    for _ in range(2):
        assert refusal(allowances, bob, LEAST_UCENT) is None
        allowances.countersigned(bob)
    assert refusal(allowances, bob, LEAST_UCENT) == TooManyWithdrawals.code
