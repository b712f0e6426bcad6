"""Rule 5: nothing is signed on a lane before the peer has shown its vouchers on this connection."""

from typing import Any

import pytest

from farthing.channels.events import AskedPay, Received, RecognisedOwn, RecogniseOwn
from farthing.channels.messages import Reestablish, SignedTotal
from farthing.channels.refusals import NotNow
from farthing.channels.state import Link
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..people import CHANNEL, channel, lane, moment, payment, voucher

RESTORED: dict[str, Any] = {"link": Link.GREETING, "fresh_boot": True}
"""A wallet from a backup that holds none of its own payments, and has just connected."""


def test_a_restored_payer_signs_nothing_before_the_peer_has_shown_its_vouchers() -> None:
    with pytest.raises(NotNow):  # it would sign another first payment under its first number
        step(channel(**RESTORED), AskedPay(payments=(payment(5),)), moment())


def test_a_restored_payer_goes_on_from_the_newest_voucher_that_the_peer_shows() -> None:
    newest = voucher(Side.A, lane(5, 7))
    shown = SignedTotal(
        total=newest.total, conditions=newest.conditions, signature=newest.signature
    )
    message = Reestablish(channel=CHANNEL, sent=None, received=shown)
    asked = step(channel(**RESTORED), Received(message=message), moment())
    assert [type(effect) for effect in asked.effects] == [RecogniseOwn]
    restored = step(asked.state, RecognisedOwn(voucher=newest), moment()).state
    assert restored.stopped is None
    assert restored.sent.promised == newest.total
