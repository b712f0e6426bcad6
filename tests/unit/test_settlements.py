"""The search for the settlements of a lane of which less is held: newest first, in parts."""

from dataclasses import dataclass, field

import pytest

from farthing.channels.client import settlements as module
from farthing.channels.client.rpc import RpcRefused, RpcUnreachable
from farthing.channels.client.settlements import Found, Settlements
from farthing.channels.ids import Address, ChannelId
from farthing.channels.state import ChainStatus, Channel, ReceivedLane, Settlement
from farthing.channels.terms import Side

from ..people import CHANNEL, TERMS, channel, lane, view, voucher

HEAD = 10_000


def row(before_ucent: int, transferred_ucent: int) -> Settlement:
    return Settlement(
        before_ucent=before_ucent,
        transferred_ucent=transferred_ucent,
        nonce=transferred_ucent,
        history=bytes([transferred_ucent]) * 32,
    )


@dataclass
class Events:
    """A chain's `Settled` events of bob's lane by block, and what was asked for."""

    rows: dict[int, Settlement]
    refuses: bool = False
    is_down: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        assert (channel, payer) == (CHANNEL, TERMS.account_b)
        self.asked.append((first_block, last_block))
        if self.refuses:
            raise RpcRefused("eth_getLogs", number=-32005, message="no logs here", reason=None)
        if self.is_down:
            raise RpcUnreachable("http://127.0.0.1:1", "it is down")
        return tuple(self.rows[b] for b in sorted(self.rows) if first_block <= b <= last_block)


async def look(  # noqa: PLR0913 - what differs between two looks
    search: Settlements,
    chain: Events,
    state: Channel,
    *,
    settled_ucent: int = 20,
    head: int = HEAD,
    replaced: bool = False,
    status: ChainStatus = ChainStatus.OPEN,
) -> Found:
    seen = view(status, settled_ucent=(0, settled_ucent))
    found = await search.look(chain, [state], {CHANNEL: seen}, head, replaced=replaced)
    return search.take_in(found)


def holding(ucent: int) -> Channel:
    return channel(received=ReceivedLane(voucher=voucher(Side.B, lane(ucent))))


async def test_one_question_finds_what_was_settled_lately() -> None:
    chain = Events({9_000: row(0, 5), 9_500: row(5, 20)})
    assert await look(Settlements(7), chain, channel()) == {CHANNEL: (row(0, 5), row(5, 20))}
    assert chain.asked == [(8_001, HEAD)]


async def test_the_search_ends_where_it_meets_what_is_held() -> None:
    chain = Events({100: row(0, 5), 9_500: row(5, 20)})
    assert await look(Settlements(7), chain, holding(5)) == {CHANNEL: (row(5, 20),)}
    assert await look(Settlements(7), chain, holding(6)) == {CHANNEL: (row(5, 20),)}
    assert chain.asked == [(8_001, HEAD)] * 2


async def test_what_is_long_ago_is_searched_for_a_part_at_each_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUESTIONS_PER_LOOK", 2)
    chain = Events({1_000: row(0, 5), 3_000: row(5, 20)})
    search = Settlements(7)
    assert await look(search, chain, channel()) == {CHANNEL: ()}
    assert await look(search, chain, channel(), head=HEAD + 1) == {CHANNEL: ()}
    assert chain.asked == [(8_001, 10_000), (6_001, 8_000), (4_001, 6_000), (2_001, 4_000)]
    found = await look(search, chain, channel(), head=HEAD + 2)
    assert found == {CHANNEL: (row(0, 5), row(5, 20))}
    assert chain.asked[4:] == [(7, 2_000)]


async def test_a_search_begins_anew_where_more_was_settled_or_blocks_were_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUESTIONS_PER_LOOK", 1)
    chain, search = Events({}), Settlements(7)
    await look(search, chain, channel())
    await look(search, chain, channel(), settled_ucent=21)
    await look(search, chain, channel(), settled_ucent=21, replaced=True)
    await look(search, chain, channel(), settled_ucent=21)
    assert chain.asked == [(8_001, HEAD)] * 3 + [(6_001, 8_000)]


async def test_an_endpoint_that_leaves_events_out_gives_nothing_and_is_asked_from_the_top() -> None:
    chain, search = Events({9_500: row(5, 20)}), Settlements(7_000)
    for _ in range(2):
        assert await look(search, chain, channel()) == {CHANNEL: ()}
    assert chain.asked == [(8_001, 10_000), (7_000, 8_000)] * 2


async def test_an_endpoint_that_gives_no_events_is_asked_again_at_the_next_look() -> None:
    chain, search = Events({9_500: row(0, 20)}, refuses=True), Settlements(7)
    assert await look(search, chain, channel()) == {CHANNEL: ()}
    chain.refuses = False
    assert await look(search, chain, channel()) == {CHANNEL: (row(0, 20),)}
    assert chain.asked == [(8_001, HEAD)] * 2


async def test_an_endpoint_in_trouble_ends_the_look_and_nothing_of_it_counts() -> None:
    chain, search = Events({9_500: row(0, 20)}, is_down=True), Settlements(7)
    with pytest.raises(RpcUnreachable):
        await look(search, chain, channel())
    assert search._searches == {}


async def test_what_the_channel_knows_is_not_asked_for_again_unless_blocks_were_replaced() -> None:
    chain, knows = Events({9_500: row(0, 20)}), channel(settlements=(row(0, 20),))
    assert await look(Settlements(7), chain, knows) == {CHANNEL: (row(0, 20),)}
    assert chain.asked == []
    assert await look(Settlements(7), chain, knows, replaced=True) == {CHANNEL: (row(0, 20),)}
    assert chain.asked == [(8_001, HEAD)]


async def test_nothing_is_asked_about_a_channel_that_is_not_behind_or_was_not_read() -> None:
    chain, search = Events({}), Settlements(7)
    assert await look(search, chain, holding(20)) == {CHANNEL: ()}
    assert await look(search, chain, channel(), status=ChainStatus.CLOSING) == {CHANNEL: ()}
    found = await search.look(chain, [channel()], {}, HEAD, replaced=False)
    assert search.take_in(found) == {}
    assert chain.asked == []


async def test_a_search_that_is_not_needed_any_more_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUESTIONS_PER_LOOK", 1)
    chain, search = Events({}), Settlements(7)
    await look(search, chain, channel())
    assert set(search._searches) == {CHANNEL}
    await look(search, chain, holding(20))
    assert search._searches == {}
