"""A wallet that has not read the chain since it started makes no payment."""

import pytest

from farthing.channels.client.payments import ChainNotSeen, usage_payment
from farthing.channels.state import ChainStatus, ChainView, Moment


def test_no_receipt_names_a_block_that_was_never_seen() -> None:
    unseen = Moment(now=1_000, head_block=0, head_timestamp=0, head_seen=0)
    with pytest.raises(ChainNotSeen, match="has not read the chain"):
        usage_payment(5, "parking", unseen, None)


def test_a_receipt_names_the_newest_block() -> None:
    seen = Moment(now=1_000, head_block=7, head_timestamp=990, head_seen=999)
    fields = usage_payment(5, "parking", seen, None).receipt.fields()
    assert (fields["block"], fields["at"], fields["amount"]) == (7, 990, 5)


def test_no_receipt_names_a_block_before_its_channel_opened() -> None:
    behind = Moment(now=1_000, head_block=7, head_timestamp=990, head_seen=999)
    opened = ChainView(block=9, timestamp=996, status=ChainStatus.OPEN)
    fields = usage_payment(5, "parking", behind, opened).receipt.fields()
    assert (fields["block"], fields["at"]) == (9, 996)
