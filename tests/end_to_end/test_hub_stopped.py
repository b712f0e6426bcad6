"""A stopped channel says so to its wallet, and the hub can still close it alone."""

from pathlib import Path

import pytest
import trio

from farthing.channels.errors import InvariantBroken
from farthing.channels.ids import to_hex
from farthing.channels.messages import CloseRequest, Reestablish
from farthing.channels.state import ChainStatus, Phase
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from farthing.node.settler import NotOpen

from ..hub_world import (
    FLOW_UCENT,
    City,
    hub_folder,
    running_hub,
    tiny_wallet,
    until,
)
from .test_hub_withdrawing import ask, rewarded, tokens

pytestmark = pytest.mark.usefixtures("quick_hub")


async def test_a_stopped_channel_says_so_and_the_hub_closes_it_alone(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub, tiny_wallet(hub_city, tmp_path) as alice:
        async with alice.connected(hub):
            await alice.join()
            channel = await rewarded(alice)
            hub.driver._stop(hub.driver.get(channel.id), InvariantBroken("it was cloned"))
        alice.heard.clear()
        async with alice.connected(hub):
            await alice.until(lambda: len(alice.errors("channel-stopped")) == 1)
            alice.send(CloseRequest(channel=channel.id))
            await alice.until(lambda: len(alice.errors("channel-stopped")) == 2)
            for error in alice.errors("channel-stopped"):
                assert error.channel == channel.id
                assert "it was cloned" in error.text
            assert not any(isinstance(message, Reestablish) for message in alice.heard)

            started = await ask(hub, "close", channel=to_hex(channel.id), unilateral=True)
            assert started["channel"] == to_hex(channel.id)
            await hub.follower.wait_block(started["started_in_block"])
            with pytest.raises(NotOpen):
                await ask(hub, "close", channel=to_hex(channel.id), unilateral=True)
            await trio.to_thread.run_sync(hub_city.warp, CHALLENGE_SECONDS_MIN + 1)
            await trio.to_thread.run_sync(hub_city.mine, CHALLENGE_BLOCKS_MIN + 1)

            def closed() -> bool:
                chain = hub.driver.get(channel.id).chain
                return chain is not None and chain.status is ChainStatus.CLOSED

            await until(closed)
            assert hub.driver.get(channel.id).phase is Phase.STOPPED
            assert await tokens(hub_city, alice.account) == 2 * FLOW_UCENT
