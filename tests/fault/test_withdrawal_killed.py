"""A wallet killed at each durable state of its withdrawal goes on, and takes the money once."""

from pathlib import Path

import pytest
import trio

from farthing.channels.client.wallet import Wallet
from farthing.channels.state import ACT_AGAIN_SECONDS
from farthing.channels.terms import Side

from ..dying_wallet import MOMENTS
from ..hub_world import FLOW_UCENT, City, hub_folder, running_hub
from ..real_wallet import make_device, pass_time, until

pytestmark = pytest.mark.usefixtures("quick_hub")

AMOUNT_UCENT = 10_000
NOTHING_DURABLE = "before the offer is durable"
TAKEN_ALREADY = {
    "before it is known to be mined",
    "after it is submitted",
    "before its end is durable",
    "before its end is told",
}


def withdrawing_ucent(wallet: Wallet) -> int:
    return wallet.balance().withdrawing_ucent


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_wallet_killed_while_it_withdraws_takes_the_money_once(
    hub_city: City, tmp_path: Path, moment: str
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub:
        device = await make_device(hub_city, hub, tmp_path / "alice")
        await device.dies(moment, AMOUNT_UCENT)
        taken = AMOUNT_UCENT if moment in TAKEN_ALREADY else 0
        assert await device.tokens() == taken
        async with device.wallet() as wallet:
            assert not wallet._driver.in_doubt
            await wallet.join(timeout_seconds=20)
            if moment == NOTHING_DURABLE:
                assert wallet.balance().in_channel_ucent == FLOW_UCENT
                assert withdrawing_ucent(wallet) == 0
                await wallet.withdraw(AMOUNT_UCENT, timeout_seconds=20)
            else:
                await pass_time(hub_city, hub, wallet, ACT_AGAIN_SECONDS)
                await until(wallet, lambda: withdrawing_ucent(wallet) == 0)
            assert wallet.balance().in_channel_ucent == FLOW_UCENT - AMOUNT_UCENT
            await pass_time(hub_city, hub, wallet, ACT_AGAIN_SECONDS)
            view = await device.view(wallet)
            assert view.withdrawn_ucent == (0, AMOUNT_UCENT)
            assert await device.tokens() == AMOUNT_UCENT
            assert hub.driver.get(wallet.channels()[0].id).withdrawals[Side.B] is None
            await wallet.withdraw(FLOW_UCENT - AMOUNT_UCENT, timeout_seconds=20)
        assert await device.tokens() == FLOW_UCENT
