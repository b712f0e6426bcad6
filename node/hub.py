"""A hub put together: store, chain, driver, engine, server, settler and watcher, and its start."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from ..channels.client.continuity import elsewhere
from ..channels.client.deployment_file import read_deployment
from ..channels.client.driver import Driver
from ..channels.client.keystore import read_password_file, unlock
from ..channels.client.outbox import KEEP_BLOCKS, Outbox
from ..channels.deployment import Deployment
from ..channels.ids import Address, address_to_hex, to_hex
from ..channels.signing import Signer
from .allowances import Allowances
from .chain import Web3Chain
from .config import HubConfig
from .descriptors import make_room
from .desk import ChainDesk
from .engine import Engine, Offer
from .follower import Follower
from .forgetting import forget_old
from .home import DATABASE_NAME, OUTBOX_NAME, owned
from .limits import TAKEOVERS_MAX, DoorLimits
from .liquidity import Liquidity, OnChain
from .opener import Opener
from .programme import check_programmes, load_programme
from .requests import Requests
from .rewards import Rewards
from .sender import TransactionUnknown, connect
from .server import Entrance, Server, open_listener
from .settler import Settler, Watcher
from .silence import Silence
from .store import HubStore
from .tls import ServerTls, load_configured

SUBMIT_POLL_SECONDS = 0.2
"""A wallet that asked for a close or a withdrawal waits for it."""

log = logging.getLogger("farthing.hub")


@dataclass(slots=True, kw_only=True)
class Hub:
    """A running hub's parts, for the control socket and for tests."""

    config: HubConfig
    account: Address
    signer: Signer
    store: HubStore
    desk: ChainDesk
    driver: Driver
    engine: Engine
    follower: Follower
    opener: Opener
    settler: Settler
    watcher: Watcher
    liquidity: Liquidity
    silence: Silence
    server: Server
    tls: ServerTls | None = None
    port: int = 0
    """The one it listens on, once it does."""

    def warn_of_membership(self) -> None:
        """Tell the operator in time why no channel will open."""
        timestamp = self.follower.moment().head_timestamp
        for what, address in (("account", self.account), ("signer", self.signer.address)):
            if not self.follower.members.is_active(address, timestamp):
                text = "the hub's %s %s is no active member: register it with role hub"
                log.warning(text, what, address_to_hex(address))

    async def submit_forever(self) -> None:
        """Submit what both sides have signed as it comes, until cancelled."""
        closes, withdrawals = self.engine.closes, self.engine.withdrawals
        while True:
            await trio.sleep(SUBMIT_POLL_SECONDS)
            while closes or withdrawals:
                # Each waits for its block, so closes are first: they freeze their channels.
                if closes:
                    channel = next(iter(closes))
                    await self.watcher.close(self.driver.get(channel), closes.pop(channel))
                    continue
                key = next(iter(withdrawals))
                withdrawal = withdrawals.pop(key)
                if withdrawal.terms.expires >= self.follower.moment().head_timestamp:
                    await self.watcher.withdraw(self.driver.get(key[0]), withdrawal)

    def status(self) -> dict[str, Any]:
        """What an operator asks first: connections, channels, µ¢ by state, settlements."""
        channels = list(self.driver.channels.values())
        moment = self.follower.moment()
        settlements = self.store.settlements()
        trouble = self.follower.trouble
        return {
            "connections": self.server.connections,
            "guests": self.server.door.guests,
            "unauthenticated": self.server.door.strangers,
            "queued_bytes": self.server.memory.total_bytes,
            "limits_hit": self._limits_hit(),
            "channels": len(channels),
            "head_block": moment.head_block,
            "view_age_seconds": moment.view_age_seconds(),
            "chain_trouble": None if trouble is None else str(trouble),
            "sending_trouble": None if self.desk.trouble is None else str(self.desk.trouble),
            "rewarded_ucent": sum(c.sent.total.transferred_ucent for c in channels),
            "received_ucent": sum(c.received.total.transferred_ucent for c in channels),
            "settled_ucent": sum(sum(c.chain.settled_ucent) for c in channels if c.chain),
            "running_twice": self.engine.doubles.listed(),
            "stopped": [to_hex(c.id) for c in channels if c.stopped is not None],
            "settlements": len(settlements),
            "settlement_gas": sum(row["gas_used"] for row in settlements),
            "settled_rows": sum(row["settled"] for row in settlements),
            "settled_channels": sum(row["channels"] for row in settlements),
            "silent": sum(1 for c in channels if self.silence.is_silent(c.id)),
            "liquidity": self.liquidity.report(),
        }

    def _limits_hit(self) -> dict[str, int]:
        """How often each limit was met since the start."""
        hits = self.server.door.hits + self.engine.hits
        return {code: hits[code] for code in sorted(hits)}

    def channel_rows(self) -> list[dict[str, Any]]:
        """One row a channel: parties, phase, totals and what is settled, in µ¢."""
        self.silence.note()
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
                "withdrawn_ucent": c.chain.withdrawn_ucent[c.side] if c.chain else 0,
                "available_ucent": c.our_balance_ucent(),
                "last_heard": self.silence.last_heard(c.id),
                "silent_seconds": self.silence.silent_seconds(c.id),
            }
            for c in self.driver.channels.values()
        ]


@asynccontextmanager
async def open_hub(config: HubConfig) -> AsyncIterator[Hub]:
    """Start a hub and serve until the block ends; raises before it listens if anything is wrong.

    What has been acknowledged is durable at any moment; leaving the block commits the rest.
    """
    most = config.connections_max + config.guests_max + config.strangers_max
    make_room(most + 2 * TAKEOVERS_MAX)
    tls = load_configured(config.tls_certificate_file, config.tls_key_file, log)
    password = read_password_file(config.password_file)
    signer = unlock(config.signer_keystore, password)
    account = unlock(config.account_keystore, password)
    programmes = [load_programme(path) for path in config.programme_files]
    check_programmes(programmes)
    for programme in programmes:
        log.info("pays for %s of %s, version %d", programme.id, programme.agency, programme.version)
    deployment = read_deployment(config.deployment_file)
    web3 = connect(config.rpc_url, timeout_seconds=config.rpc_timeout_seconds)
    reader = ChainDesk(Web3Chain(web3, deployment, signer=None))
    await reader.read(lambda chain: chain.check_identity())
    async with AsyncExitStack() as stack:
        listener = await open_listener(config.listen_host, config.listen_port, tls)
        await stack.enter_async_context(listener)
        stack.enter_context(owned(config.data_dir))
        outbox = Outbox(
            config.data_dir / OUTBOX_NAME, keep_blocks=max(config.confirmations, KEEP_BLOCKS)
        )
        chain = Web3Chain(
            web3, deployment, signer=account, confirmations=config.confirmations, outbox=outbox
        )
        desk = ChainDesk(chain, outbox)
        store = HubStore(config.data_dir / DATABASE_NAME)
        stack.callback(store.ledger.close)
        store.pin(deployment, account.address, signer.address)
        keys = _Keys(account=account.address, signer=signer, tls=tls)
        hub = _put_together(config, deployment, keys, desk, store, Rewards(store, programmes))
        async with _running(hub, listener):
            yield hub


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    account: Address
    signer: Signer
    tls: ServerTls | None


def _entrance(config: HubConfig, tls: ServerTls | None) -> Entrance:
    return Entrance(
        limits=DoorLimits(
            connections_max=config.connections_max,
            guests_max=config.guests_max,
            strangers_max=config.strangers_max,
            handshakes_per_second=config.handshakes_per_second,
            handshakes_per_address=config.handshakes_per_address,
        ),
        tls=tls,
        queued_bytes_max=config.queued_mib_max * 2**20,
        log=logging.getLogger("farthing.hub.server"),
    )


def _put_together(
    config: HubConfig,
    deployment: Deployment,
    keys: _Keys,
    desk: ChainDesk,
    store: HubStore,
    rewards: Rewards,
) -> Hub:
    account, signer = keys.account, keys.signer.address
    follower = Follower(
        desk,
        store,
        account=account,
        signer=signer,
        first_block=deployment.block,
        ahead_seconds_max=(None if deployment.is_development else config.chain_ahead_seconds_max),
    )
    offer = Offer(
        challenge_seconds=config.challenge_seconds,
        challenge_blocks=config.challenge_blocks,
        channels_max=config.channels_max,
        submissions_per_day=config.submissions_per_day,
    )
    engine = Engine(store, rewards, follower.members, follower.moment, offer)
    place = config.marker_dir
    driver = Driver(
        store.ledger,
        keys.signer,
        deployment.domain(),
        follower.moment,
        engine,
        elsewhere=None if place is None else elsewhere(place, signer, deployment.deployment),
    )
    allowances = _allowances(config, store, follower)
    driver.countersigning = allowances
    engine.attach(driver, Requests(store, driver, follower.moment, per_day=config.requests_per_day))
    settler = Settler(
        driver,
        desk,
        unsettled_ucent=config.settle_unsettled_ucent,
        age_seconds=config.settle_age_seconds,
        rows_max=config.settle_rows_max,
    )
    watcher = Watcher(driver, desk, settler, follower)
    silence = Silence(
        store.ledger,
        driver,
        watcher,
        engine.heard_since,
        settle_seconds=config.silent_settle_seconds,
        close_seconds=config.silent_close_seconds,
    )
    settler.is_silent = silence.is_silent
    chain = OnChain(desk=desk, follower=follower, account=account, signer=signer)
    liquidity = Liquidity(config, store.ledger, driver, chain, rewards)
    liquidity.is_present = lambda channel: not silence.is_silent(channel)
    engine.cover = engine.requests.cover = liquidity

    def replaced(standing: int) -> None:
        settler.forget_attempts()
        liquidity.take_back(standing)

    follower.on_replaced = replaced
    entrance = _entrance(config, keys.tls)
    return Hub(
        config=config,
        account=account,
        signer=keys.signer,
        store=store,
        desk=desk,
        driver=driver,
        engine=engine,
        follower=follower,
        opener=Opener(config, chain, engine, liquidity, allowances),
        settler=settler,
        watcher=watcher,
        liquidity=liquidity,
        silence=silence,
        server=Server(engine, driver, deployment.domain(), keys.signer, entrance),
        tls=keys.tls,
    )


def _allowances(config: HubConfig, store: HubStore, follower: Follower) -> Allowances:
    return Allowances(
        store.ledger,
        follower.moment,
        openings_max=config.openings_member_day_max,
        withdrawal_least_ucent=config.withdrawal_least_ucent,
        withdrawals_max=config.withdrawals_member_day_max,
    )


@asynccontextmanager
async def _running(hub: Hub, listener: trio.SocketListener) -> AsyncIterator[None]:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.driver.run)
            try:
                await hub.desk.send(lambda chain: chain.look_back())
            except TransactionUnknown as error:  # it is sent again, and looked for before others
                log.warning("%s", error)
            await hub.follower.poll(hub.driver, hub.engine.on_opened)
            hub.warn_of_membership()
            if hub.driver.in_doubt:
                log.warning(
                    "the database was restored: nothing is accepted or signed on its channels until"
                    " every offer that it may have forgotten is dead, two minutes of chain time"
                )
            nursery.start_soon(hub.follower.run, hub.driver, hub.engine.on_opened)
            nursery.start_soon(hub.settler.run)
            nursery.start_soon(hub.watcher.run)
            nursery.start_soon(hub.opener.run)
            nursery.start_soon(hub.liquidity.run)
            nursery.start_soon(hub.silence.run)
            nursery.start_soon(hub.submit_forever)
            moment, keep_days = hub.follower.moment, hub.config.keep_days
            nursery.start_soon(forget_old, hub.store, hub.driver, moment, keep_days)
            hub.port = listener.socket.getsockname()[1]
            await nursery.start(
                lambda task_status: hub.server.serve(listener, task_status=task_status)
            )
            yield
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):  # one commit, which is short
            await hub.driver.flush()
