"""A hub put together: store, chain, driver, engine, server, settler and watcher, and its start."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from ..channels.client.driver import Driver
from ..channels.client.keystore import read_password_file, unlock
from ..channels.deployment import Deployment
from ..channels.errors import ChainError
from ..channels.ids import Address, address_to_hex, to_hex
from ..channels.signing import Signer
from .chain import OpenRow, Web3Chain
from .config import HubConfig
from .desk import ChainDesk
from .engine import Engine, Proposal
from .follower import Follower
from .programme import check_programmes, load_programme
from .rewards import Rewards
from .sender import connect
from .server import Server, open_listener
from .settler import Settler, Watcher
from .store import HubStore

OPEN_ROWS_MAX = 100
"""Channels opened in one transaction: well under a block's gas at 40,000 each."""
OPEN_WAIT_SECONDS = 0.5
"""How long wallets that join at the same time are gathered into one transaction."""

log = logging.getLogger("farthing.hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A running hub's parts, for the control socket and for tests."""

    config: HubConfig
    deployment: Deployment
    account: Address
    signer: Signer
    store: HubStore
    desk: ChainDesk
    driver: Driver
    engine: Engine
    follower: Follower
    settler: Settler
    server: Server
    port: int

    def status(self) -> dict[str, Any]:
        """What an operator asks first: connections, channels, µ¢ by state, settlements."""
        channels = list(self.driver.channels.values())
        moment = self.follower.moment()
        settlements = self.store.settlements()
        return {
            "connections": self.server.connections,
            "channels": len(channels),
            "head_block": moment.head_block,
            "view_age_seconds": moment.view_age_seconds(),
            "rewarded_ucent": sum(c.sent.total.transferred_ucent for c in channels),
            "received_ucent": sum(c.received.total.transferred_ucent for c in channels),
            "settled_ucent": sum(sum(c.chain.settled_ucent) for c in channels if c.chain),
            "stopped": [to_hex(c.id) for c in channels if c.stopped is not None],
            "settlements": len(settlements),
            "settlement_gas": sum(row["gas_used"] for row in settlements),
            "settled_rows": sum(row["settled"] for row in settlements),
        }

    def channel_rows(self) -> list[dict[str, Any]]:
        """One row a channel: parties, phase, totals and what is settled, in µ¢."""
        return [
            {
                "channel": to_hex(c.id),
                "account": address_to_hex(c.peer_account),
                "phase": c.phase.value,
                "rewarded_ucent": c.sent.total.transferred_ucent,
                "acknowledged_nonce": c.sent.acknowledged_nonce,
                "unacknowledged": len(c.sent.unacknowledged),
                "received_ucent": c.received.total.transferred_ucent,
                "settled_ucent": sum(c.chain.settled_ucent) if c.chain else 0,
                "available_ucent": c.our_balance_ucent(),
            }
            for c in self.driver.channels.values()
        ]

    async def open_channels(self, rows: list[OpenRow]) -> int:
        """Open channels in one transaction; returns how many opened; raises `ChainError`."""
        config = self.config
        mined = await self.desk.send(
            lambda chain: chain.open_many(
                rows,
                account=self.account,
                signer=self.signer.address,
                challenge_seconds=config.challenge_seconds,
                challenge_blocks=config.challenge_blocks,
                deposit_ucent=config.deposit_ucent,
            )
        )
        log.info("opened %d of %d channels, gas %d", len(mined.opened), len(rows), mined.gas_used)
        return len(mined.opened)

    async def open_forever(self) -> None:
        """Open what wallets propose, gathered into few transactions, until cancelled."""
        while True:
            await trio.sleep(OPEN_WAIT_SECONDS)
            proposals = self.engine.proposals[:OPEN_ROWS_MAX]
            if not proposals:
                continue
            try:
                await self._open(proposals)
            except ChainError as error:
                log.warning("%s", error)
                self.engine.refuse_proposals(proposals, error)
            del self.engine.proposals[: len(proposals)]

    async def _open(self, proposals: list[Proposal]) -> None:
        opened = await self.open_channels([proposal.row for proposal in proposals])
        if opened:
            await self.follower.wait_head()

    async def close_forever(self, watcher: Watcher) -> None:
        """Submit co-signed closes as they come, until cancelled."""
        while True:
            await trio.sleep(OPEN_WAIT_SECONDS)
            while self.engine.closes:
                channel, close = self.engine.closes.pop(0)
                await watcher.close(channel, close)


@asynccontextmanager
async def open_hub(config: HubConfig) -> AsyncIterator[Hub]:
    """Start a hub and serve until the block ends; raises before it listens if anything is wrong.

    What has been acknowledged is durable at any moment; leaving the block commits the rest.
    """
    password = read_password_file(config.password_file)
    signer = unlock(config.signer_keystore, password)
    account_signer = unlock(config.account_keystore, password)
    account = account_signer.address
    programmes = [load_programme(path) for path in config.programme_files]
    check_programmes(programmes)
    deployment = Deployment.from_json(config.deployment_file.read_text(encoding="utf-8"))
    desk = ChainDesk(
        Web3Chain(
            connect(config.rpc_url, timeout_seconds=config.rpc_timeout_seconds),
            deployment,
            signer=account_signer,
            confirmations=config.confirmations,
        )
    )
    await desk.read(lambda chain: chain.check_identity())
    listener = await open_listener(config.listen_host, config.listen_port)
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = HubStore(config.data_dir / "hub.sqlite")
    follower = Follower(
        desk, store, account=account, signer=signer.address, first_block=deployment.block
    )
    engine = Engine(store, Rewards(store, programmes), follower.members, follower.moment)
    driver = Driver(store.ledger, signer, deployment.domain(), follower.moment, engine)
    engine.attach(driver)
    settler = Settler(
        driver,
        desk,
        unsettled_ucent=config.settle_unsettled_ucent,
        age_seconds=config.settle_age_seconds,
        rows_max=config.settle_rows_max,
    )
    server = Server(
        engine, driver, deployment.domain(), signer, connections_max=config.connections_max
    )
    hub = Hub(
        config=config,
        deployment=deployment,
        account=account,
        signer=signer,
        store=store,
        desk=desk,
        driver=driver,
        engine=engine,
        follower=follower,
        settler=settler,
        server=server,
        port=listener.socket.getsockname()[1],
    )
    async with _running(hub, listener):
        yield hub


@asynccontextmanager
async def _running(hub: Hub, listener: trio.SocketListener) -> AsyncIterator[None]:
    watcher = Watcher(hub.driver, hub.desk, hub.settler, hub.follower)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.driver.run)
            await hub.follower.poll(hub.driver, hub.engine.on_opened)
            nursery.start_soon(hub.follower.run, hub.driver, hub.engine.on_opened)
            nursery.start_soon(hub.settler.run)
            nursery.start_soon(watcher.run)
            nursery.start_soon(hub.open_forever)
            nursery.start_soon(hub.close_forever, watcher)
            await nursery.start(
                lambda task_status: hub.server.serve(listener, task_status=task_status)
            )
            yield
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await hub.driver.flush()
            hub.store.ledger.close()
