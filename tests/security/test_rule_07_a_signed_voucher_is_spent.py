"""Rule 7: a signed voucher is spent whatever the payee answers, and what is open is bounded."""

import pytest

from farthing.channels.events import AskedPay, RecognisedOwn
from farthing.channels.refusals import InsufficientBalance, TooManyUnacknowledged
from farthing.channels.state import UNACKNOWLEDGED_MAX
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..people import DEPOSIT, channel, lane, moment, payment, sent_lane, voucher


def test_money_in_a_voucher_that_the_payee_never_acknowledged_is_not_spent_again() -> None:
    alice = channel(sent=sent_lane(Side.A, DEPOSIT - 1))
    with pytest.raises(InsufficientBalance) as refusal:
        step(alice, AskedPay(payments=(payment(2),)), moment())
    assert refusal.value.available_ucent == 1


def test_a_payee_that_acknowledges_nothing_gets_no_endless_row_of_payments() -> None:
    payments = (payment(),) * UNACKNOWLEDGED_MAX
    step(channel(), AskedPay(payments=payments), moment())
    with pytest.raises(TooManyUnacknowledged):
        step(channel(), AskedPay(payments=(*payments, payment())), moment())


def test_a_running_payer_that_is_shown_a_clones_payment_stops_its_channel() -> None:
    clones = RecognisedOwn(voucher=voucher(Side.A, lane(5, 7)))
    stopped = step(channel(sent=sent_lane(Side.A, 5)), clones, moment()).state
    assert stopped.stopped is not None
    assert stopped.sent.total == lane(5)
