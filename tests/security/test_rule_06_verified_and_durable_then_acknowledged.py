"""Rule 6: verified, then durable, then acknowledged; an acknowledgement names the history."""

from pathlib import Path

import pytest

from farthing.channels.client.ledger import Ledger, LedgerUnusable
from farthing.channels.client.records import channel_to_record
from farthing.channels.events import Received, TellStopped
from farthing.channels.messages import Ack, Reestablish
from farthing.channels.state import ReceivedLane
from farthing.channels.terms import Side
from farthing.channels.transition import step

from ..people import CHANNEL, channel, lane, moment, sent_lane, voucher
from .attacks import alice_at, queued, said, update


def disk(ledger: Ledger, *, full: bool) -> None:
    """Let the file take nothing more, or take it again."""
    ledger._db.execute(f"PRAGMA query_only={int(full)}")


def test_a_commit_that_overlaps_a_forged_voucher_stores_the_verified_one() -> None:
    verified = voucher(Side.B, lane(5))
    alice = channel(received=ReceivedLane(voucher=verified))
    forged = update(5, 10**5, first=2, signature=b"\x07" * 64 + b"\x1b")
    alice = step(alice, Received(message=forged), moment()).state
    stored = channel_to_record(alice)["received"]  # a commit that runs before the check is done
    assert stored["transferred_ucent"] == 5
    assert stored["signature"] == verified.signature.hex()


async def test_a_payee_killed_before_its_commit_has_acknowledged_nothing(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (alice, wire):
        await alice.driver.flush()
        queued(wire)
        alice.driver.receive([(CHANNEL, Received(message=update(7)))])
        disk(alice.ledger, full=True)
        with pytest.raises(LedgerUnusable):
            await alice.driver.flush()
        assert queued(wire) == []
        assert alice.notes.received == []


async def test_after_a_full_disk_nothing_is_taken_that_builds_upon_what_was_lost(
    tmp_path: Path,
) -> None:
    with alice_at(tmp_path) as (alice, _):
        await alice.driver.flush()
        alice.driver.receive([(CHANNEL, Received(message=update(7)))])
        disk(alice.ledger, full=True)
        with pytest.raises(LedgerUnusable):
            await alice.driver.flush()
        disk(alice.ledger, full=False)
        with pytest.raises(LedgerUnusable, match="earlier batch"):
            alice.driver.receive([(CHANNEL, Received(message=update(7, 8, first=2)))])


def test_a_payee_that_acknowledges_another_history_than_ours_stops_the_channel() -> None:
    alice = channel(sent=sent_lane(Side.A, 5))
    lie = Ack(channel=CHANNEL, nonce=1, history=lane(6).history)
    result = step(alice, Received(message=lie), moment())
    assert result.state.sent.acknowledged_nonce == 0
    assert isinstance(result.effects[-1], TellStopped)


def test_the_fork_of_a_cloned_wallet_is_not_acknowledged() -> None:
    alice = channel(received=ReceivedLane(voucher=voucher(Side.B, lane(5))))
    clones = step(alice, Received(message=update(6)), moment())  # its own first payment
    assert [type(message) for message in said(clones.effects)] == [Reestablish]
