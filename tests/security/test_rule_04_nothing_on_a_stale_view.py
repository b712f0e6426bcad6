"""Rule 4: nothing on a closing channel, nothing on a stale view; settling in time is enough."""

from pathlib import Path

import pytest

from farthing.channels.client.chain import Head
from farthing.channels.client.follower import Follower
from farthing.channels.client.pulse import Notices, Pulse
from farthing.channels.client.rpc import RpcUnreachable
from farthing.channels.events import Received
from farthing.channels.ids import ChannelId
from farthing.channels.state import STALE_DIVISOR, ChainStatus, ChainView, Link
from farthing.channels.transition import step

from ..contract.city import City, alice, hub
from ..people import NOW, TERMS, channel, moment, view
from .attacks import alice_at, closing, refused, update, window_over

STALE_SECONDS = TERMS.challenge_seconds // STALE_DIVISOR + 1


def test_a_payee_whose_chain_view_is_old_accepts_no_payment() -> None:
    stale = moment(view_age_seconds=STALE_SECONDS)
    result = step(channel(), Received(message=update(5)), stale)
    assert refused(result.effects) == "stale-view"
    assert result.state.received.claimed.nonce == 0


def test_a_payee_accepts_nothing_on_a_channel_that_closes() -> None:
    state = channel(chain=view(ChainStatus.CLOSING), link=Link.LIVE)
    result = step(state, Received(message=update(5)), moment())
    assert refused(result.effects) == "not-now"


class LaggingChain:
    """An endpoint that gives a new head and then not the channel, which has begun to close."""

    def __init__(self) -> None:
        self.block = 100
        self.answers = True

    async def check_identity(self) -> None:
        pass

    async def head(self) -> Head:
        return Head(block=self.block, block_hash=await self.block_hash(self.block), timestamp=NOW)

    async def block_hash(self, number: int) -> bytes:
        return bytes([number]) * 32

    async def channel_state(self, _: ChannelId, head: Head) -> ChainView:
        if not self.answers:
            raise RpcUnreachable("http://127.0.0.1", "it hung up")
        return view(block=head.block)

    async def closed_totals(self, *_: object) -> None:
        return None

    async def settlements(self, *_: object) -> tuple[()]:
        return ()

    async def balance_of(self, *_: object) -> int:
        return 0

    async def claimable(self, *_: object) -> int:
        return 0


async def test_a_new_head_that_hides_a_close_does_not_make_the_view_young(tmp_path: Path) -> None:
    chain = LaggingChain()
    with alice_at(tmp_path) as (alices, _):
        follower = Follower(chain, TERMS.account_a, Pulse(), Notices())
        await follower.poll(alices.driver)
        chain.block, chain.answers = 101, False
        with pytest.raises(RpcUnreachable):
            await follower.poll(alices.driver)
        assert follower.moment().head_block == 100


def test_a_party_that_settles_within_the_window_gets_all_it_is_entitled_to(city: City) -> None:
    terms = city.open(deposit=100, challenge_seconds=600, challenge_blocks=10)
    newest = city.voucher(terms, 0, 30)
    closing(city, terms, hub)  # the hub hopes that alice sleeps
    city.settled(alice, newest)
    window_over(city, terms)
    city.channels.send(hub, "finish_close", terms)
    assert city.balance(alice.address) == 30
