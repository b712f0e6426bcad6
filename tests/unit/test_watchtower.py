"""A watchtower's book, lookout and answerer over a scripted chain: reorgs, outages, restarts."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from farthing.channels.client.ledger import LedgerUnusable
from farthing.channels.errors import ChainError
from farthing.channels.ids import ChannelId
from farthing.channels.messages import Error, VoucherKept
from farthing.channels.refusals import OutOfTurn
from farthing.channels.state import ChainStatus
from farthing.channels.voucher import Voucher
from farthing.node.chain import LOG_BLOCKS_MAX, ChainWentBack
from farthing.node.sender import ChainUnreachable, TransactionFailed
from farthing.node.watchtower import answerer as answerer_module
from farthing.node.watchtower import lookout as lookout_module
from farthing.node.watchtower import reception as reception_module
from farthing.node.watchtower.book import CLOSED_SECONDS_KEPT, SEEN_SECONDS
from farthing.node.watchtower.reception import NoChannels
from farthing.node.watchtower.store import Held, OtherTowersDatabase

from ..hub_parts import RememberingWire
from ..people import ALICE, BOB, CAROL, DEPLOYMENT, NOW, view
from ..tower_parts import (
    DEADLINE_BLOCK,
    DEADLINE_SECONDS,
    TowerParts,
    closing,
    connected,
    promise,
    touching,
    tower_parts,
)
from ..tower_world import deposit_of

DOWN = ChainUnreachable("settling: the endpoint does not answer")
REFUSED = TransactionFailed("settling: out of gas")


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[TowerParts]:
    with tower_parts(tmp_path) as parts:
        yield parts


# -- answering ------------------------------------------------------------------------------------


async def test_a_close_is_answered_once_and_finished_when_its_window_is_over(
    tower: TowerParts,
) -> None:
    channel = tower.hold(5, 7)
    assert await tower.turn()
    assert tower.settled == []
    tower.close(channel)
    assert await tower.turn()
    assert tower.settled == [[12]]
    for _ in range(2):  # mined in a block that was not taken in yet, then confirmed
        tower.chain.views[channel] = closing(settled_ucent=(12, 0))
        await tower.turn()
        tower.chain.number += 1
    assert tower.settled == [[12]]
    assert tower.chain.finished == []
    tower.chain.timestamp = DEADLINE_SECONDS + 1
    await tower.turn()
    assert tower.chain.finished == []  # the seconds alone are not the window
    tower.chain.number = DEADLINE_BLOCK + 1
    await tower.turn()
    assert tower.chain.finished == [1]
    assert await tower.answerer.look()  # mined in a block that was not taken in yet
    assert tower.chain.finished == [1]
    tower.chain.views[channel] = view(ChainStatus.CLOSED)
    await tower.turn()
    assert tower.chain.finished == [1]


async def test_an_answer_that_a_reorganisation_removed_is_given_again(
    tower: TowerParts, caplog: pytest.LogCaptureFixture
) -> None:
    channel = tower.hold(5)
    await tower.turn()
    tower.close(channel)
    await tower.turn()
    tower.chain.views[channel] = closing(settled_ucent=(5, 0))
    tower.chain.number += 1
    await tower.turn()
    assert tower.settled == [[5]]
    tower.chain.fork += 1
    tower.chain.views[channel] = closing()
    await tower.turn()
    assert "was replaced" in caplog.text
    assert tower.settled == [[5], [5]]


async def test_a_close_that_a_reorganisation_removed_is_not_answered_again(
    tower: TowerParts,
) -> None:
    channel = tower.hold(5)
    await tower.turn()
    tower.close(channel)
    await tower.turn()
    tower.chain.fork += 1
    tower.chain.views[channel] = view()
    await tower.turn()
    assert tower.settled == [[5]]
    (held,) = tower.book.all()
    assert held.view.status is ChainStatus.OPEN


async def test_an_answer_that_was_mined_and_did_nothing_is_given_again_at_the_next_head(
    tower: TowerParts,
) -> None:
    channel = tower.hold(5)
    tower.close(channel)
    await tower.turn()
    await tower.turn()  # the head in which it was mined, and the chain does not show it
    assert tower.settled == [[5], [5]]


@pytest.mark.parametrize("error", [DOWN, REFUSED], ids=["unreachable", "refused"])
async def test_a_failed_answer_is_tried_again_at_the_same_head(
    tower: TowerParts, error: ChainError
) -> None:
    channel = tower.hold(5)
    tower.close(channel)
    tower.chain.failures = [("settle", error)]
    assert not await tower.turn()
    assert tower.settled == []
    assert await tower.answerer.look()
    assert tower.settled == [[5]]


async def test_a_batch_that_is_refused_whole_is_halved_so_that_no_row_blocks_the_others(
    tower: TowerParts,
) -> None:
    for number in range(1, 5):
        tower.close(tower.hold(number, sequence=number))
    tower.chain.failures = [("settle", REFUSED), ("settle", REFUSED), ("settle", REFUSED)]
    assert not await tower.turn()
    assert [len(rows) for rows in tower.settled] == [1, 2]  # the third refusal was of one alone
    assert await tower.answerer.look()
    assert [len(rows) for rows in tower.settled] == [1, 2, 1]
    assert sorted(total for rows in tower.settled for total in rows) == [1, 2, 3, 4]


async def test_the_close_with_the_least_time_left_is_answered_first(tower: TowerParts) -> None:
    tower.answerer._rows_max = 1
    later, sooner = tower.hold(1, sequence=1), tower.hold(2, sequence=2)
    tower.close(later)
    tower.close(sooner, deadline_seconds=DEADLINE_SECONDS - 1)
    await tower.turn()
    assert tower.settled == [[2], [1]]


async def test_a_finish_that_fails_keeps_no_other_from_its_own(tower: TowerParts) -> None:
    channels = {sequence: tower.hold(5, sequence=sequence) for sequence in (1, 2)}
    for channel in channels.values():
        tower.close(channel, settled_ucent=(5, 0))
    tower.chain.number, tower.chain.timestamp = DEADLINE_BLOCK + 1, DEADLINE_SECONDS + 1
    tower.chain.failures = [("finish_close", REFUSED)]
    assert not await tower.turn()
    (done,) = tower.chain.finished
    tower.chain.views[channels[done]] = view(ChainStatus.CLOSED)
    assert await tower.turn()
    assert sorted(tower.chain.finished) == [1, 2]


async def test_nothing_is_finished_before_what_is_held_is_settled(tower: TowerParts) -> None:
    channel = tower.hold(5)
    tower.close(channel)
    tower.chain.number, tower.chain.timestamp = DEADLINE_BLOCK + 1, DEADLINE_SECONDS + 1
    tower.chain.failures = [("settle", DOWN)]
    assert not await tower.turn()
    assert tower.chain.finished == []
    await tower.turn()
    assert tower.settled == [[5]]
    assert tower.chain.finished == []
    tower.chain.views[channel] = closing(settled_ucent=(5, 0))
    await tower.turn()
    assert tower.chain.finished == [1]


async def test_a_close_that_stays_unanswered_is_an_alarm_before_its_window_ends(
    tower: TowerParts, caplog: pytest.LogCaptureFixture
) -> None:
    channel = tower.hold(5)
    tower.close(channel)

    def alarms() -> int:
        return sum(record.levelno == logging.ERROR for record in caplog.records)

    for number, timestamp, expected in (
        (150, NOW, 0),
        (150, DEADLINE_SECONDS - 100, 0),  # there are blocks left
        (190, DEADLINE_SECONDS - 100, 1),
        (191, DEADLINE_SECONDS - 90, 1),  # once
    ):
        tower.chain.number, tower.chain.timestamp = number, timestamp
        tower.chain.failures = [("settle", DOWN)]
        await tower.turn()
        assert alarms() == expected
    assert "5 µ¢ are not settled" in caplog.text


async def test_after_a_restart_an_answer_on_its_way_is_not_given_twice(tower: TowerParts) -> None:
    channel = tower.hold(5)
    tower.close(channel)
    await tower.lookout.poll()
    await tower.answerer.look()  # mined in a block that the lookout has not seen
    await tower.book.commit()
    tower.boot()
    await tower.answerer.look()
    assert tower.settled == [[5]]


async def test_the_answerer_looks_again_by_itself_after_a_failure(
    tower: TowerParts, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(answerer_module, "RETRY_SECONDS", 0.01)
    tower.close(tower.hold(5))
    await tower.lookout.poll()
    tower.chain.failures = [("settle", DOWN)] * 3
    nursery.start_soon(tower.answerer.run)
    with trio.fail_after(10):
        while not tower.settled:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)
    tower.answerer.wake()


# -- following the chain --------------------------------------------------------------------------


async def test_only_logs_after_the_cursor_are_read_and_only_channels_that_they_name(
    tower: TowerParts,
) -> None:
    first, second = tower.hold(1, sequence=1), tower.hold(2, sequence=2)
    await tower.turn()
    assert tower.chain.asked.count("view") == 2  # without a cursor all are
    tower.chain.asked.clear()
    tower.boot()
    tower.chain.number += 1
    tower.chain.news[tower.chain.number] = touching(first)
    await tower.turn()
    assert tower.chain.asked.count("view") == 1
    assert tower.chain.asked.count("logs") == 1
    assert second in tower.book.channels()


async def test_a_long_absence_is_read_in_ranges_that_endpoints_answer(tower: TowerParts) -> None:
    channel = tower.hold(1)
    await tower.turn()
    tower.boot()
    tower.chain.news[tower.chain.number + 1] = touching(channel)
    tower.chain.views[channel] = closing()
    tower.chain.number += 2 * LOG_BLOCKS_MAX + 1
    tower.chain.asked.clear()
    await tower.turn()
    assert tower.chain.asked.count("logs") == 3
    assert tower.settled == [[1]]


async def test_an_endpoint_that_went_back_is_not_believed(tower: TowerParts) -> None:
    await tower.turn()
    tower.chain.number -= 1
    with pytest.raises(ChainWentBack):
        await tower.lookout.poll()
    assert tower.book.cursor == (100, tower.chain._hash(100))


async def test_a_head_is_taken_in_whole_or_not_at_all(tower: TowerParts) -> None:
    tower.close(tower.hold(1, sequence=1))
    tower.close(tower.hold(2, sequence=2))
    tower.chain.failures = [("view", DOWN)]
    with pytest.raises(ChainUnreachable):
        await tower.lookout.poll()
    assert tower.lookout.head.number == 0
    assert all(held.view.status is ChainStatus.OPEN for held in tower.book.all())
    await tower.turn()
    assert [sorted(rows) for rows in tower.settled] == [[1, 2]]


async def test_an_outage_is_reported_once_and_its_end_too(
    tower: TowerParts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    nursery: trio.Nursery,
) -> None:
    monkeypatch.setattr(lookout_module, "POLL_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    tower.chain.failures = [("head", DOWN)] * 3
    troubles: list[ChainError | None] = []
    tower.lookout.on_news = lambda: troubles.append(tower.lookout.trouble)
    nursery.start_soon(tower.lookout.run)
    with trio.fail_after(30):
        while not troubles or tower.lookout.trouble is not None:  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)
    assert troubles == [DOWN]  # until the first head that came through
    texts = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in text for text in texts) == 1
    assert sum("followed again" in text for text in texts) == 1
    assert tower.lookout.view_age_seconds() >= 0


# -- the book -------------------------------------------------------------------------------------


async def test_an_older_voucher_never_replaces_a_newer_one_in_memory_or_on_disk(
    tower: TowerParts,
) -> None:
    newer, older = promise(5, 7), promise(5)
    assert tower.book.keep(newer)
    assert not tower.book.keep(older)
    assert tower.book.keep(newer)
    await tower.book.commit()
    tower.boot()
    assert not tower.book.keep(older)
    assert tower.book.get(newer.lane) == newer


async def test_a_view_that_is_taken_in_during_a_commit_does_not_bring_an_older_voucher_back(
    tower: TowerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = tower.hold(5)
    await tower.book.commit()
    commit = tower.store.commit

    def interrupted(statements: Any) -> None:
        trio.from_thread.run_sync(tower.book.keep, promise(5, 7))
        trio.from_thread.run_sync(tower.book.observe, channel, closing())
        commit(statements)

    with monkeypatch.context() as patched:
        patched.setattr(tower.store, "commit", interrupted)
        tower.book.observe(channel, view(settled_ucent=(1, 0)))
        await tower.book.commit()
    await tower.book.commit()
    tower.boot()
    (held,) = tower.book.all()
    assert held.transferred_ucent == 12
    assert held.view.status is ChainStatus.CLOSING


async def test_nothing_is_told_before_the_commit_and_nothing_at_all_if_it_fails(
    tower: TowerParts,
) -> None:
    told: list[str] = []
    tower.hold(5)
    tower.book.when_durable(lambda: told.append("kept"))
    tower.store._ledger._db.execute("PRAGMA query_only=1")
    with pytest.raises(LedgerUnusable):
        await tower.book.commit()
    tower.store._ledger._db.execute("PRAGMA query_only=0")
    tower.book.keep(promise(5))  # the same again, as a wallet that reconnects deposits it
    tower.book.when_durable(lambda: told.append("kept"))
    await tower.book.commit()
    assert told == []
    tower.boot()
    assert tower.book.all() == []


async def test_an_ended_channel_is_forgotten_a_week_later_with_its_wallet(
    tower: TowerParts,
) -> None:
    channel = tower.hold(5)
    tower.book.note_seen(BOB.address, NOW)
    await tower.turn()
    assert tower.store.seen() == {BOB.address: NOW}
    tower.chain.number += 1
    tower.chain.news[tower.chain.number] = touching(channel)
    tower.chain.views[channel] = view(ChainStatus.CLOSED)
    await tower.turn()
    tower.chain.number += 1
    tower.chain.timestamp = NOW + CLOSED_SECONDS_KEPT
    await tower.turn()
    assert len(tower.book) == 1
    tower.chain.number += 1
    tower.chain.timestamp += 1
    await tower.turn()
    assert (len(tower.book), tower.store.held(), tower.store.seen()) == (0, [], {})
    assert tower.book.seen_at(BOB.address) == 0


async def test_when_a_wallet_was_seen_is_written_once_a_minute_and_of_strangers_never(
    tower: TowerParts,
) -> None:
    tower.hold(5)
    for at in (NOW, NOW + 1, NOW + SEEN_SECONDS - 1):
        tower.book.note_seen(BOB.address, at)
        tower.book.note_seen(CAROL.address, at)
        await tower.book.commit()
    assert tower.store.seen() == {BOB.address: NOW}
    assert tower.book.seen_at(BOB.address) == NOW + SEEN_SECONDS - 1
    tower.book.note_seen(BOB.address, NOW + SEEN_SECONDS)
    await tower.book.commit()
    assert tower.store.seen() == {BOB.address: NOW + SEEN_SECONDS}


def test_a_database_belongs_to_one_deployment_and_one_key(tower: TowerParts) -> None:
    tower.store.pin(DEPLOYMENT, ALICE.address)
    tower.store.pin(DEPLOYMENT, ALICE.address)
    with pytest.raises(OtherTowersDatabase, match="signer"):
        tower.store.pin(DEPLOYMENT, BOB.address)
    with pytest.raises(OtherTowersDatabase, match="deployment"):
        tower.store.pin(replace(DEPLOYMENT, deployment=b"\x16" * 32), ALICE.address)


# -- the reception --------------------------------------------------------------------------------


def message(made: Held, of: Voucher | None = None) -> Any:
    return deposit_of(made.terms, of or made.voucher)


async def test_a_chain_that_cannot_be_read_refuses_a_new_channel_for_now(
    tower: TowerParts, nursery: trio.Nursery
) -> None:
    made, wire = promise(5), connected(tower)
    tower.chain.views[made.voucher.channel] = view()
    tower.chain.failures = [("view", DOWN)]
    nursery.start_soon(tower.reception.run)
    nursery.start_soon(tower.book.run)
    for expected in (Error, VoucherKept):
        tower.reception.on_message(wire, message(made))
        with trio.fail_after(10):
            while not any(isinstance(said, expected) for said in wire.said):  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert isinstance(wire.said[0], Error)
    assert wire.said[0].code == "chain-unreachable"
    assert wire.said[0].channel == made.voucher.channel


async def test_new_channels_wait_for_the_chain_in_a_bounded_row(
    tower: TowerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception_module, "CHANNELS_OF_A_DEPOSITOR_MAX", 2)
    wire = connected(tower)
    for sequence in (1, 2, 3):
        tower.reception.on_message(wire, message(promise(5, sequence=sequence)))
    (refused,) = wire.said
    assert isinstance(refused, Error)
    assert refused.code == "watchtower-busy"


async def test_the_row_of_all_connections_is_bounded_too(
    tower: TowerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception_module, "NEWCOMERS_MAX", 1)
    tower.boot()
    wire = connected(tower)
    for sequence in (1, 2):
        tower.reception.on_message(wire, message(promise(5, sequence=sequence)))
    (refused,) = wire.said
    assert isinstance(refused, Error)
    assert refused.code == "watchtower-busy"


async def test_a_deposit_of_a_wallet_that_has_gone_meanwhile_is_left(
    tower: TowerParts, nursery: trio.Nursery
) -> None:
    wire = connected(tower)
    tower.reception.on_message(wire, message(promise(5)))
    tower.reception.on_disconnected(wire, BOB.address)
    nursery.start_soon(tower.reception.run)
    await trio.testing.wait_all_tasks_blocked()
    assert tower.book.all() == []
    assert tower.chain.asked == []


async def test_a_wallet_that_does_not_read_its_answers_is_left(tower: TowerParts) -> None:
    tower.hold(5)
    wire = connected(tower)
    wire.error = reception_module.TooManyDeposits("it does not read")
    tower.reception.on_message(wire, message(promise(5)))
    await tower.book.commit()
    assert wire.is_closing


async def test_messages_are_counted_and_the_allowance_comes_back_with_time(
    tower: TowerParts, autojump_clock: trio.testing.MockClock
) -> None:
    wire = connected(tower)
    word = Error(code="x", channel=b"", text="", what_to_do="")
    for _ in range(reception_module.BURST_MAX):
        tower.reception.on_message(wire, word)
    with pytest.raises(reception_module.TooManyDeposits):
        tower.reception.on_message(wire, word)
    await trio.sleep(1.1)
    for _ in range(reception_module.BURST_PER_SECOND):
        tower.reception.on_message(wire, word)
    with pytest.raises(reception_module.TooManyDeposits):
        tower.reception.on_message(wire, word)


def test_a_watchtower_speaks_for_no_channel() -> None:
    nobody, wire = NoChannels(), RememberingWire(BOB.address)
    assert not nobody.linked(ChannelId(bytes(32)), wire)
    nobody.unlink(wire)
    with pytest.raises(OutOfTurn):
        nobody.receive([])
