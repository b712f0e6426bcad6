"""What a wallet owns is added up from what is verified, and each µ¢ once."""

from dataclasses import replace
from pathlib import Path

from farthing.channels.client.balance import Balance, balance_of, unacknowledged_ucent
from farthing.channels.client.follower import Funds
from farthing.channels.client.ledger import SENT, Ledger, StoredPayment
from farthing.channels.ids import ChannelId
from farthing.channels.state import ChainStatus, Channel, ReceivedLane, Withdrawal, WithdrawalTerms
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, replay

from ..people import NOW, channel, lane, payment, sent_lane, view, voucher


def balance(*channels: Channel, funds: Funds | None = None) -> Balance:
    return balance_of(
        channels, requests=(), submissions_waiting=0, sent_unacknowledged_ucent=0, funds=funds
    )


def used() -> Channel:
    """Deposit 1,000,000; 300 paid and 500 received, of which the chain knows 100 and 200."""
    return channel(
        chain=view(settled_ucent=(100, 200), withdrawn_ucent=(1_000, 0)),
        sent=sent_lane(Side.A, 100, 200),
        received=ReceivedLane(voucher=voucher(Side.B, lane(500))),
    )


def test_what_the_chain_does_not_know_yet_is_told_apart() -> None:
    found = balance(used())
    assert found.in_channel_ucent == 1_000_000 - 1_000 - 300 + 500
    assert found.settled_ucent == 1_000_000 - 1_000 - 100 + 200
    assert found.unsettled_ucent == found.in_channel_ucent - found.settled_ucent == 100
    assert found.withdrawing_ucent == 0


def test_a_withdrawal_under_way_is_reserved_and_counts_beyond_what_was_taken_before() -> None:
    terms = WithdrawalTerms(side=Side.A, total_ucent=1_700, expires=NOW)
    found = balance(replace(used(), withdrawals=(Withdrawal(terms=terms), None)))
    assert found.withdrawing_ucent == 700
    assert found.in_channel_ucent == balance(used()).in_channel_ucent - 700


def test_channels_that_are_closed_or_unseen_are_left_out_and_the_others_are_not() -> None:
    closed = replace(used(), chain=view(ChainStatus.CLOSED))
    unseen = replace(used(), chain=None)
    one = balance(used())
    assert balance(closed, unseen, used(), closed, used()).in_channel_ucent == (
        2 * one.in_channel_ucent
    )
    assert balance(closed, unseen).in_channel_ucent == 0


def test_what_is_unacknowledged_is_added_up_from_the_ledger_channel_by_channel(
    tmp_path: Path,
) -> None:
    payments = [payment(amount, number=n) for n, amount in enumerate((10, 20, 40), 1)]
    totals = replay(LaneTotal(), payments)
    paid = channel(sent=sent_lane(Side.A, 10, 20, 40, acknowledged=1))
    closed = replace(
        paid,
        id=ChannelId(b"\x77" * 32),
        chain=view(ChainStatus.CLOSED),
        sent=sent_lane(Side.A, 10, 20, 40),
    )
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.commit(
        (paid, closed),
        [
            (one.id, SENT, StoredPayment(payment=payment, total=total))
            for one in (paid, closed)
            for payment, total in zip(payments, totals, strict=True)
        ],
        (),
    )
    assert unacknowledged_ucent(ledger, [paid, closed]) == 60
    quiet = replace(paid, sent=sent_lane(Side.A, 10, 20, 40, acknowledged=3))
    assert unacknowledged_ucent(ledger, [quiet]) == 0
    ledger.close()
