"""A real wallet beside a real hub on a real chain."""

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from farthing.channels.client.folder import HubAddress, Settings, create_folder
from farthing.channels.client.tls import Trust
from farthing.channels.client.wallet import Wallet, open_wallet
from farthing.channels.ids import Address
from farthing.channels.state import ChainView
from farthing.node.hub import Hub

from .hub_world import PASSWORD, City

PATIENCE_SECONDS = 60
DYING_WALLET = Path(__file__).with_name("dying_wallet.py")


@dataclass
class Device:
    """A registered wallet's folder, and the chain that it uses."""

    city: City
    path: Path
    account: Address

    @asynccontextmanager
    async def wallet(self) -> AsyncIterator[Wallet]:
        """The wallet, running in this process."""
        async with open_wallet(self.path, PASSWORD) as wallet:
            yield wallet

    async def dies(self, moment: str, amount_ucent: int) -> None:
        """A process joins, earns, withdraws, and is killed at that moment."""
        command = [sys.executable, str(DYING_WALLET), str(self.path), moment, str(amount_ucent)]
        with trio.fail_after(PATIENCE_SECONDS):
            done = await trio.run_process(
                command, check=False, capture_stdout=True, capture_stderr=True
            )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    async def tokens(self) -> int:
        """µ¢ of tokens that the account holds on the chain now."""
        return await trio.to_thread.run_sync(self.city.treasury.balance_ucent, self.account)

    async def view(self, wallet: Wallet) -> ChainView:
        """What the contract says now of the wallet's only channel."""
        (channel,) = wallet.channels()
        chain = self.city.chain
        return await trio.to_thread.run_sync(lambda: chain.view(channel.id, chain.head()))


async def make_device(city: City, hub: Hub, path: Path, trust: Trust | None = None) -> Device:
    """A folder with a new key, registered as a device."""

    def make() -> Address:
        def settings(account: Address) -> Settings:
            return Settings(
                hub=HubAddress(host="127.0.0.1", port=hub.port),
                hub_signer=hub.signer.address,
                rpc_url=city.rpc_url,
                account=account,
                deployment=city.deployment,
                trust=trust,
            )

        account = create_folder(path, PASSWORD, settings).settings().account
        city.register(account)
        return account

    account = await trio.to_thread.run_sync(make)
    await hub.follower.catch_up()
    return Device(city=city, path=path, account=account)


async def pass_time(city: City, hub: Hub, wallet: Wallet, seconds: int) -> None:
    """A block that much later, taken in by hub and wallet."""
    await trio.to_thread.run_sync(city.warp, seconds)
    await hub.follower.catch_up()
    await wallet._follower.refresh()


async def until(wallet: Wallet, condition: Callable[[], bool]) -> None:
    """Wait for what the wallet's own changes bring about."""
    with trio.fail_after(PATIENCE_SECONDS):
        await wallet._pulse.until(condition)
