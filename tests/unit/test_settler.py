"""Settler and watcher over a scripted chain: what is due, when, and what a failure costs."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from farthing.channels.events import ObservedChannel
from farthing.channels.ids import ChannelId
from farthing.channels.state import ChainStatus, Channel, CloseTerms, SignedClose
from farthing.channels.terms import Side
from farthing.node import settler as settler_module
from farthing.node.desk import ChainDesk
from farthing.node.follower import Follower
from farthing.node.sender import ChainUnreachable, TransactionFailed
from farthing.node.settler import Settler, Watcher, settle_row, unsettled_lanes

from ..hub_parts import ACCOUNT, Parts, fresh_channel, parts
from ..people import ALICE, payment

DOWN = ChainUnreachable("settling: the endpoint does not answer")
DUE_UCENT, AGE_SECONDS = 1000, 100


@pytest.fixture
def idle_hub(tmp_path: Path) -> Iterator[Parts]:
    """A hub that commits only when it is told to."""
    with parts(tmp_path) as made:
        yield made


@pytest.fixture
async def hub(idle_hub: Parts, nursery: trio.Nursery) -> Parts:
    nursery.start_soon(idle_hub.driver.run)
    return idle_hub


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The settler's own clock, moved by tests."""
    now = [1000.0]
    monkeypatch.setattr(settler_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def made_settler(hub: Parts, rows_max: int = 100) -> Settler:
    return Settler(
        hub.driver,
        hub.chain.desk(),
        unsettled_ucent=DUE_UCENT,
        age_seconds=AGE_SECONDS,
        rows_max=rows_max,
    )


def made_follower(hub: Parts) -> Follower:
    return Follower(
        hub.chain.desk(), hub.store, account=ACCOUNT, signer=ALICE.address, first_block=1
    )


async def paid(hub: Parts, *amounts_ucent: int, number: int = 1) -> Channel:
    """A channel on which the hub has paid these amounts, durably."""
    channel = hub.hold(fresh_channel(number))
    hub.connect(channel)
    for index, amount in enumerate(amounts_ucent):
        hub.driver.pay(channel.id, (payment(amount, number=index),), ())
    await hub.driver.flush()
    hub.chain.views[channel.id] = hub.open_view()
    return hub.driver.get(channel.id)


def settled_totals(hub: Parts) -> list[list[int]]:
    return [[row.transferred_ucent for row in rows] for rows in hub.chain.settled]


async def look(settler: Settler) -> None:
    """One turn of the settler's loop."""
    settler._note_age()
    await settler.settle(settler._is_due)


# -- what is due ----------------------------------------------------------------------------------


async def test_a_lane_is_due_by_amount_or_by_age_and_not_before(
    hub: Parts, clock: list[float]
) -> None:
    await paid(hub, DUE_UCENT - 1)
    settler = made_settler(hub)
    await look(settler)
    clock[0] += AGE_SECONDS - 1
    await look(settler)
    assert hub.chain.settled == []
    clock[0] += 1
    await look(settler)
    assert settled_totals(hub) == [[DUE_UCENT - 1]]


async def test_what_was_settled_is_not_settled_again_until_it_is_confirmed_or_old(
    hub: Parts, clock: list[float]
) -> None:
    channel = await paid(hub, DUE_UCENT)
    settler = made_settler(hub)
    for _ in range(3):
        await look(settler)
    assert len(hub.chain.settled) == 1
    clock[0] += AGE_SECONDS  # a reorg has dropped it
    await look(settler)
    assert len(hub.chain.settled) == 2
    hub.feed(channel, ObservedChannel(view=hub.open_view(settled_ucent=(DUE_UCENT, 0))))
    clock[0] += AGE_SECONDS
    await look(settler)
    assert len(hub.chain.settled) == 2
    assert not settler._attempts
    assert not settler._unsettled_since
    hub.driver.pay(channel.id, (payment(DUE_UCENT, number=9),), ())
    await hub.driver.flush()
    await look(settler)
    assert settled_totals(hub)[-1] == [2 * DUE_UCENT]


async def test_a_failure_costs_no_wait(hub: Parts, clock: list[float]) -> None:
    await paid(hub, 1)
    settler = made_settler(hub)
    await look(settler)
    clock[0] += AGE_SECONDS
    hub.chain.failures.append(("settle", DOWN))
    with pytest.raises(ChainUnreachable):
        await look(settler)
    await look(settler)
    assert settled_totals(hub) == [[1]]


async def test_the_loop_outlives_an_outage_and_reports_it_once(
    hub: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settler_module, "CHECK_SECONDS", 0)
    await paid(hub, DUE_UCENT)
    hub.chain.failures += [("settle", DOWN)] * 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made_settler(hub).run)
        with trio.fail_after(10):
            while not hub.chain.settled:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert caplog.text.count("does not answer") == 1


async def test_lanes_go_in_batches_and_a_failed_batch_is_tried_again_alone(hub: Parts) -> None:
    for number in (1, 2):
        await paid(hub, DUE_UCENT * number, number=number)
    settler = made_settler(hub, rows_max=1)
    hub.chain.failures.append(("head", DOWN))
    await settler.settle()
    assert sorted(settled_totals(hub)) == [[DUE_UCENT], [2 * DUE_UCENT]]
    hub.chain.settled.clear()
    settler = made_settler(hub, rows_max=1)
    hub.chain.asked.clear()
    settle = hub.chain.settle
    first: list[Any] = []

    def second_fails(rows: Any) -> Any:
        if first:
            hub.chain.failures.append(("settle", DOWN))
        first.append(rows)
        return settle(rows)

    hub.chain.settle = second_fails  # type: ignore[method-assign]  # a failure in the middle
    settler._note_age()
    with pytest.raises(ChainUnreachable):
        await settler.settle(settler._is_due)
    hub.chain.settle = settle  # type: ignore[method-assign]  # it works again
    await look(settler)
    assert len(hub.chain.settled) == 2  # the failed one, once; not the first one again


class InlineDesk(ChainDesk):
    """Runs a call at once: nothing but the settler's own waiting delays it."""

    async def send(self, call: Any) -> Any:
        return call(self._chain)


async def test_only_what_is_durable_is_settled(idle_hub: Parts) -> None:
    hub = idle_hub
    channel = await paid(hub, DUE_UCENT)
    hub.driver.pay(channel.id, (payment(1, number=5),), ())  # not yet committed
    settled = []

    async def settle() -> None:
        desk = InlineDesk(hub.chain.desk()._chain)
        settler = Settler(hub.driver, desk, unsettled_ucent=1, age_seconds=1, rows_max=1)
        await settler.settle()
        settled.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle)
        await trio.testing.wait_all_tasks_blocked()
        assert hub.chain.settled == []
        await hub.driver.flush()
    assert settled
    assert settled_totals(hub) == [[DUE_UCENT + 1]]


async def test_a_call_that_hangs_does_not_hold_up_a_hub_that_stops(hub: Parts) -> None:
    go_on, ended = threading.Event(), threading.Event()
    desk = hub.chain.desk()

    def hang(_: object) -> None:
        go_on.wait(5)
        ended.set()

    for run in (desk.read, desk.send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, hang)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert not ended.is_set()
    go_on.set()


async def test_a_close_in_agreement_settles_by_itself(hub: Parts) -> None:
    channel = await paid(hub, DUE_UCENT)
    signed = SignedClose(
        terms=CloseTerms(transferred_a_ucent=1, transferred_b_ucent=0, expires=1), ours=b""
    )
    hub.driver._set(replace(channel, close=signed))
    settler = made_settler(hub)
    await look(settler)
    assert hub.chain.settled == []


async def test_closed_and_unread_channels_have_nothing_to_settle(hub: Parts) -> None:
    channel = await paid(hub, DUE_UCENT)
    assert len(list(unsettled_lanes(channel))) == 1
    assert list(unsettled_lanes(replace(channel, chain=None))) == []
    closed = hub.open_view(status=ChainStatus.CLOSED)
    assert list(unsettled_lanes(replace(channel, chain=closed))) == []


async def test_the_wallets_lane_goes_with_its_signature_and_ours_without(hub: Parts) -> None:
    channel = await paid(hub, DUE_UCENT)
    voucher = channel.sent.voucher
    assert voucher is not None
    assert settle_row(channel, Side.A, voucher).signature == b""
    assert settle_row(channel, Side.B, voucher).signature == voucher.signature


# -- the watcher ----------------------------------------------------------------------------------


def closing(hub: Parts, channel: Channel, **changes: Any) -> None:
    view = hub.open_view(
        status=ChainStatus.CLOSING,
        deadline_seconds=hub.chain.timestamp + 600,
        deadline_block=hub.chain.number + 10,
        **changes,
    )
    hub.chain.views[channel.id] = view
    hub.feed(channel, ObservedChannel(view=view))


async def made_watcher(hub: Parts) -> tuple[Watcher, Follower]:
    follower = made_follower(hub)
    await follower.poll(hub.driver, lambda _: None)
    return Watcher(hub.driver, hub.chain.desk(), made_settler(hub), follower), follower


async def test_a_close_is_answered_once_a_block_and_finished_after_its_window(hub: Parts) -> None:
    channel = await paid(hub, 5)
    closing(hub, channel)
    watcher, follower = await made_watcher(hub)
    await watcher.look()
    await watcher.look()  # the same head: its answer is in a block that is not confirmed yet
    assert settled_totals(hub) == [[5]]
    closing(hub, channel, settled_ucent=(5, 0))
    for seconds, blocks in ((601, 0), (0, 11)):  # one alone is not the window
        hub.chain.timestamp += seconds
        hub.chain.number += blocks
        assert hub.chain.finished == []
        hub.chain.number += 1
        await follower.poll(hub.driver, lambda _: None)
        await watcher.look()
    assert hub.chain.finished == [1]
    await watcher.look()
    assert hub.chain.finished == [1]
    hub.chain.views[channel.id] = hub.open_view(status=ChainStatus.CLOSED)
    hub.chain.number += 1
    await follower.poll(hub.driver, lambda _: None)
    await watcher.look()
    assert hub.chain.finished == [1]


async def test_one_close_that_cannot_be_finished_does_not_keep_its_neighbour(hub: Parts) -> None:
    for number in (1, 2):
        closing(hub, await paid(hub, number=number))
    watcher, follower = await made_watcher(hub)
    hub.chain.timestamp += 601
    hub.chain.number += 12
    await follower.poll(hub.driver, lambda _: None)
    hub.chain.failures.append(("finish_close", TransactionFailed("it reverted")))
    await watcher.look()
    assert len(hub.chain.finished) == 1
    await watcher.look()
    assert sorted(hub.chain.finished) == [1, 2]


async def test_an_answer_that_fails_is_given_at_the_next_head(hub: Parts) -> None:
    closing(hub, await paid(hub, 5))
    watcher, follower = await made_watcher(hub)
    hub.chain.failures += [("settle", DOWN)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert hub.chain.settled == []
        hub.chain.number += 1
        await follower.poll(hub.driver, lambda _: None)
        with trio.fail_after(10):
            while not hub.chain.settled:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_a_co_signed_close_is_submitted_with_both_signatures_in_order(hub: Parts) -> None:
    channel = await paid(hub, 5)
    watcher, _ = await made_watcher(hub)
    terms = CloseTerms(transferred_a_ucent=5, transferred_b_ucent=0, expires=9)
    await watcher.close(channel, SignedClose(terms=terms, ours=b"a"))
    assert hub.chain.closed == []  # the wallet has not signed
    both = SignedClose(terms=terms, ours=b"a", theirs=b"b")
    hub.chain.failures.append(("close", TransactionFailed("closed already")))
    await watcher.close(channel, both)
    await watcher.close(channel, both)
    await watcher.close(replace(channel, side=Side.B), both)
    assert hub.chain.closed == [1, 1]


async def test_nothing_is_watched_where_nothing_closes(hub: Parts) -> None:
    channel = await paid(hub, 5)
    watcher, _ = await made_watcher(hub)
    await watcher.look()
    assert "settle" not in hub.chain.asked
    await watcher._finish(channel)
    await watcher._finish(replace(channel, id=ChannelId(bytes(32)), chain=None))
    assert hub.chain.finished == []
