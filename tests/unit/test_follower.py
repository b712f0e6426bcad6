"""The follower over a scripted chain: cursors, reorgs, outages, and who is a member when."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from farthing.channels.client.heads import (
    BlockContradicted,
    ChainChanging,
    ChainFromTheFuture,
)
from farthing.channels.events import ObservedChannel
from farthing.channels.ids import Address
from farthing.channels.restoring import unread
from farthing.channels.state import ChainStatus, Channel, Settlement
from farthing.contracts.members import MemberStatus
from farthing.node import follower as follower_module
from farthing.node.chain import LOG_BLOCKS_MAX, ChainWentBack, Logs, OpenedChannel
from farthing.node.follower import Follower
from farthing.node.sender import ChainUnreachable

from ..hub_parts import ACCOUNT, Parts, fresh_channel, member, parts
from ..people import ALICE

BOB = Address(b"\xb0" * 20)
DOWN = ChainUnreachable("reading: the endpoint does not answer")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path) as made:
        yield made


def made_follower(hub: Parts) -> Follower:
    return Follower(
        hub.chain.desk(), hub.store, account=ACCOUNT, signer=ALICE.address, first_block=7
    )


def logs(**fields: Any) -> Logs:
    return Logs(**{"opened": (), "touched": frozenset(), "members": (), **fields})


def opened(channel: Channel, **changes: Any) -> OpenedChannel:
    fields = {"channel": channel.id, "terms": channel.terms, "funder": ACCOUNT, **changes}
    return OpenedChannel(**fields)


async def poll(hub: Parts, follower: Follower) -> list[Channel]:
    found: list[Channel] = []
    await follower.poll(hub.driver, found.append)
    await hub.driver.flush()
    return found


async def test_a_channel_that_the_hub_opened_is_taken_up_with_its_view(hub: Parts) -> None:
    channel = fresh_channel()
    hub.chain.news[50] = logs(opened=(opened(channel),), touched=frozenset({channel.id}))
    hub.chain.views[channel.id] = hub.open_view()
    follower = made_follower(hub)
    (found,) = await poll(hub, follower)
    assert found.chain is not None
    assert found.chain.status is ChainStatus.OPEN
    assert await poll(hub, follower) == []  # the same head
    hub.chain.number += 1
    assert await poll(hub, follower) == []
    assert hub.store.cursor() == (101, hub.chain._hash(101))


@pytest.mark.parametrize(
    "changes",
    [
        {"funder": BOB},
        {"terms": replace(fresh_channel().terms, account_a=BOB)},
        {"terms": replace(fresh_channel().terms, signer_a=BOB)},
    ],
)
async def test_a_channel_that_is_not_of_the_hubs_making_is_ignored(
    hub: Parts, changes: dict[str, Any]
) -> None:
    channel = fresh_channel()
    hub.chain.news[50] = logs(opened=(opened(channel, **changes),), touched={channel.id})
    assert await poll(hub, made_follower(hub)) == []
    assert not hub.driver.channels


async def test_nobody_sees_a_head_before_all_that_it_changes_was_read(hub: Parts) -> None:
    channel = hub.hold(fresh_channel())
    follower = made_follower(hub)
    hub.chain.views[channel.id] = hub.open_view()
    await poll(hub, follower)
    hub.chain.number += 1
    hub.chain.timestamp += 9
    hub.chain.news[101] = logs(touched=frozenset({channel.id}), members=(member(BOB),))
    hub.chain.views[channel.id] = hub.open_view(status=ChainStatus.CLOSING)
    hub.chain.failures.append(("view", DOWN))
    before = follower.moment()
    with pytest.raises(ChainUnreachable):
        await poll(hub, follower)
    assert follower.moment().head_block == before.head_block == 100
    assert not follower.members.is_active(BOB, 0)
    await poll(hub, follower)  # the same head again: nothing of it is lost
    assert follower.moment().head_block == 101
    view = hub.driver.get(channel.id).chain
    assert view is not None
    assert view.status is ChainStatus.CLOSING
    assert follower.members.is_active(BOB, 0)


async def test_logs_are_read_in_ranges_that_endpoints_answer(hub: Parts) -> None:
    hub.chain.number = 2 * LOG_BLOCKS_MAX + 10
    await poll(hub, made_follower(hub))
    assert hub.chain.asked.count("logs") == 3


async def test_after_a_reorg_members_and_channels_are_read_again(hub: Parts) -> None:
    channel = hub.hold(fresh_channel())
    hub.chain.news[90] = logs(members=(member(BOB),))
    follower = made_follower(hub)
    await poll(hub, follower)
    assert follower.members.is_active(BOB, 0)
    hub.chain.news.clear()  # the block that registered bob is gone
    hub.chain.fork, hub.chain.number = 1, 101
    hub.chain.views[channel.id] = hub.open_view(status=ChainStatus.NEVER)
    await poll(hub, follower)
    assert not follower.members.is_active(BOB, 0)
    assert hub.store.members() == []
    view = hub.driver.get(channel.id).chain
    assert view is not None
    assert view.status is ChainStatus.NEVER
    asked = hub.chain.asked.count("view")
    hub.chain.number += 1
    await poll(hub, follower)  # and at each head, until it is open
    assert hub.chain.asked.count("view") == asked + 1


async def test_only_what_replaced_blocks_touched_is_read_again(
    hub: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    channel, other = hub.hold(fresh_channel()), hub.hold(fresh_channel(2))
    hub.chain.views = {channel.id: hub.open_view(), other.id: hub.open_view()}
    follower = made_follower(hub)
    await poll(hub, follower)
    hub.chain.number = 101
    hub.chain.news[101] = logs(touched=frozenset({channel.id}), members=(member(BOB),))
    await poll(hub, follower)
    hub.chain.number = 102
    await poll(hub, follower)
    assert follower.members.is_active(BOB, 0)
    hub.chain.news.clear()  # 101 and 102 are replaced by blocks that hold nothing
    hub.chain.fork, hub.chain.forked_after, hub.chain.number = 1, 100, 103
    hub.chain.members[BOB] = member(BOB, MemberStatus.NONE)
    hub.chain.views[channel.id] = hub.open_view(deposit_ucent=(7, 0))
    hub.chain.asked.clear()
    replaced: list[int] = []
    follower.on_replaced = replaced.append
    await poll(hub, follower)
    assert hub.chain.asked.count("view") == 1  # the other channel was in none of them
    assert hub.chain.asked.count("logs") == 1
    assert not follower.members.is_active(BOB, 0)
    view = hub.driver.get(channel.id).chain
    assert view is not None
    assert view.deposit_ucent == (7, 0)
    assert replaced == [100]
    assert "the blocks after 100 were replaced" in caplog.text
    assert "µ¢ of deposits have vanished from the chain" in caplog.text
    assert [block.number for block in hub.store.recent_blocks()] == [100, 103]
    later = made_follower(hub)  # and so it is after a restart
    hub.chain.number = 104
    await poll(hub, later)
    assert later.moment().head_block == 104


async def test_a_block_that_changes_while_it_is_read_is_not_believed(hub: Parts) -> None:
    follower = made_follower(hub)
    await poll(hub, follower)
    hub.chain.number = 101
    before = hub.chain.logs

    def logs_and_a_fork(first: int, last: int) -> Logs:
        hub.chain.fork, hub.chain.forked_after = 1, 100
        return before(first, last)

    hub.chain.logs = logs_and_a_fork  # type: ignore[method-assign]
    with pytest.raises(ChainChanging, match="block 101 was replaced while it was read"):
        await poll(hub, follower)
    assert follower.moment().head_block == 100
    hub.chain.logs = before  # type: ignore[method-assign]
    await poll(hub, follower)
    assert follower.moment().head_block == 101


async def test_a_block_from_the_future_is_not_believed(hub: Parts) -> None:
    follower = Follower(
        hub.chain.desk(),
        hub.store,
        account=ACCOUNT,
        signer=ALICE.address,
        first_block=7,
        ahead_seconds_max=900,
    )
    now = int(time.time())
    hub.chain.timestamp = now + 5000
    with pytest.raises(ChainFromTheFuture, match="ahead of this machine's clock"):
        await poll(hub, follower)
    assert follower.moment().head_block == 0
    hub.chain.timestamp = now + 800
    await poll(hub, follower)
    assert follower.moment().head_timestamp == now + 800


async def test_a_known_block_is_not_believed_under_another_number_or_time(hub: Parts) -> None:
    follower = made_follower(hub)
    await poll(hub, follower)
    before, head = follower.moment(), hub.chain.head()
    for lie in (replace(head, number=104), replace(head, timestamp=head.timestamp + 1)):
        hub.chain.head = lambda lie=lie: lie  # type: ignore[method-assign, misc]
        with pytest.raises(BlockContradicted, match="hash of block 100 was given again"):
            await poll(hub, follower)
        assert follower.moment() == before


async def test_a_chain_that_went_back_is_waited_for(hub: Parts) -> None:
    await poll(hub, made_follower(hub))
    hub.chain.number, hub.chain.fork = 99, 1
    later = made_follower(hub)  # a restarted hub
    with pytest.raises(ChainWentBack, match="100 was read before"):
        await poll(hub, later)


async def test_what_was_refused_is_asked_for_again_when_a_head_comes(hub: Parts) -> None:
    channel = hub.hold(fresh_channel())
    wire = hub.connect(channel)
    hub.driver._set(replace(hub.driver.get(channel.id), refusing=True))
    follower = made_follower(hub)
    await poll(hub, follower)
    assert hub.driver.get(channel.id).asked_again
    assert wire.said


async def test_a_membership_ends_in_time(hub: Parts) -> None:
    follower = made_follower(hub)
    follower.members.take(replace(member(BOB), valid_until=100))
    assert follower.members.is_active(BOB, 100)
    assert not follower.members.is_active(BOB, 101)
    follower.members.take(member(BOB, MemberStatus.REMOVED))
    assert not follower.members.is_active(BOB, 100)
    assert not follower.members.is_active(Address(bytes(20)), 0)


async def test_an_outage_is_reported_once_and_its_end_too(
    hub: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower_module, "POLL_SECONDS", 0)
    caplog.set_level("INFO")
    follower = made_follower(hub)
    hub.chain.failures += [("head", DOWN)] * 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run, hub.driver, lambda _: None)
        with trio.fail_after(10):
            await follower.wait_block(100)
            hub.chain.number += 1
            await follower.catch_up()
            while "followed again" not in caplog.text:
                await trio.lowlevel.checkpoint()
        assert follower.trouble is None
        nursery.cancel_scope.cancel()
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("followed again") == 1


async def test_a_view_older_than_the_one_that_is_held_changes_nothing(hub: Parts) -> None:
    channel = hub.hold(fresh_channel())
    old = hub.open_view(block=1, status=ChainStatus.CLOSED)
    hub.feed(channel, ObservedChannel(view=old))
    view = hub.driver.get(channel.id).chain
    assert view is not None
    assert view.status is ChainStatus.OPEN


# -- what is settled of which less is held -------------------------------------------------------

ROW = Settlement(before_ucent=0, transferred_ucent=12, nonce=2, history=b"\x21" * 32)


async def test_by_which_payments_a_lane_is_settled_of_which_less_is_held_is_read_with_its_view(
    hub: Parts,
) -> None:
    channel = hub.hold(fresh_channel())
    follower = made_follower(hub)
    await poll(hub, follower)
    hub.chain.number += 1
    hub.chain.news[101] = logs(touched=frozenset({channel.id}))
    hub.chain.views[channel.id] = hub.open_view(settled_ucent=(0, 12))
    hub.chain.raised[101] = (channel.id, channel.terms.account_b, ROW)
    await poll(hub, follower)
    held = hub.driver.get(channel.id)
    assert held.settlements == (ROW,)
    assert unread(held) is None


async def test_a_new_hub_database_reads_the_settlements_of_the_channels_that_it_finds(
    hub: Parts,
) -> None:
    channel = fresh_channel()
    hub.chain.news[50] = logs(opened=(opened(channel),), touched=frozenset({channel.id}))
    hub.chain.views[channel.id] = hub.open_view(settled_ucent=(0, 12))
    hub.chain.raised[60] = (channel.id, channel.terms.account_b, ROW)
    (found,) = await poll(hub, made_follower(hub))
    assert found.settlements == (ROW,)


async def test_settlements_that_could_not_be_read_are_looked_for_at_the_next_head(
    hub: Parts,
) -> None:
    channel = hub.hold(fresh_channel())
    follower = made_follower(hub)
    await poll(hub, follower)
    hub.chain.number += 1
    hub.chain.news[101] = logs(touched=frozenset({channel.id}))
    hub.chain.views[channel.id] = hub.open_view(settled_ucent=(0, 12))
    await poll(hub, follower)  # the endpoint leaves the event out
    assert unread(hub.driver.get(channel.id)) is not None
    hub.chain.raised[101] = (channel.id, channel.terms.account_b, ROW)
    hub.chain.number += 1
    await poll(hub, follower)
    assert unread(hub.driver.get(channel.id)) is None
