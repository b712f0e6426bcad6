"""A watchtower put together: book, reception, lookout and answerer, its start and what it says.

Rule: it holds one key, its own, a member of the chain with role relayer; nothing of a wallet's
but vouchers, which only ever pay the wallet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from ...channels.client.control import Method
from ...channels.client.deployment_file import read_deployment
from ...channels.client.keystore import read_password_file, unlock
from ...channels.client.outbox import KEEP_BLOCKS, Outbox
from ...channels.deployment import Deployment
from ...channels.errors import ChainError
from ...channels.ids import Address, address_to_hex, to_hex
from ...channels.signing import Signer
from ...channels.state import ChainStatus
from ...contracts.members import MemberStatus
from ..administration import Administrator
from ..chain import Web3Chain
from ..descriptors import make_room
from ..desk import ChainDesk
from ..home import OUTBOX_NAME, WatchtowerInUse, owned
from ..limits import TAKEOVERS_MAX, DoorLimits
from ..sender import TransactionUnknown, connect
from ..server import Entrance, Server, open_listener
from ..tls import ServerTls, load_configured
from .answerer import Answerer
from .book import Book
from .config import TowerConfig
from .lookout import Lookout
from .reception import NoChannels, Reception
from .store import DATABASE_NAME, Held, TowerStore

CHECK_SECONDS = 60
"""Between two looks at who is silent and at the own membership; both change slowly."""

log = logging.getLogger("farthing.watchtower")


@dataclass(slots=True, kw_only=True)
class Tower:
    """A running watchtower's parts, for the control socket and for tests."""

    config: TowerConfig
    signer: Signer
    book: Book
    reception: Reception
    lookout: Lookout
    answerer: Answerer
    server: Server
    administrator: Administrator
    desk: ChainDesk
    tls: ServerTls | None = None
    port: int = 0
    """The one it listens on, once it does."""
    is_member: bool | None = None
    """Whether the chain would take its transactions, as last read; None if it never was."""
    _named_silent: set[Address] = field(default_factory=set)

    def last_seen(self, depositor: Address) -> int:
        """When a wallet was last connected, in Unix seconds: now, if it is."""
        if depositor in self.reception.connected:
            return int(time.time())
        return self.book.seen_at(depositor)

    def silent(self) -> list[Address]:
        """Depositors of open channels that were not seen for the configured time."""
        since = int(time.time()) - self.config.silence_seconds
        depositors = {held.depositor for held in self.book.all() if held.is_open}
        return sorted(one for one in depositors if self.last_seen(one) < since)

    def status(self) -> dict[str, Any]:
        """What an operator asks first."""
        held = self.book.all()
        trouble = self.lookout.trouble
        return {
            "watchtower": address_to_hex(self.signer.address),
            "member": self.is_member,
            "connections": self.server.connections,
            "channels": len(held),
            "open": sum(one.view.status is ChainStatus.OPEN for one in held),
            "closing": sum(one.view.status is ChainStatus.CLOSING for one in held),
            "unsettled_ucent": sum(one.unsettled_ucent for one in held if one.is_open),
            "answered": self.answerer.answered,
            "wallets": len({one.depositor for one in held}),
            "silent": [address_to_hex(one) for one in self.silent()],
            "head_block": self.lookout.head.number,
            "view_age_seconds": self.lookout.view_age_seconds(),
            "chain_trouble": None if trouble is None else str(trouble),
            "sending_trouble": None if self.desk.trouble is None else str(self.desk.trouble),
        }

    def channel_rows(self) -> list[dict[str, Any]]:
        """One row for each held voucher: whose, how much, when seen, and what the chain says."""
        return [self._row(held) for held in self.book.all()]

    def _row(self, held: Held) -> dict[str, Any]:
        answer = held.answer
        return {
            "channel": to_hex(held.voucher.channel),
            "wallet": address_to_hex(held.depositor),
            "status": held.view.status.name.lower(),
            "transferred_ucent": held.transferred_ucent,
            "settled_ucent": held.view.settled_ucent[held.payer],
            "seen_at": self.last_seen(held.depositor),
            "answered_ucent": None if answer is None else answer.transferred_ucent,
            "answered_at": None if answer is None else answer.at,
            "deadline_seconds": held.view.deadline_seconds,
            "deadline_block": held.view.deadline_block,
        }

    def methods(self) -> dict[str, Method]:
        """What it answers on its control socket."""

        async def status(_: object) -> dict[str, Any]:
            return self.status()

        async def channels(_: object) -> list[dict[str, Any]]:
            return self.channel_rows()

        return {"status": status, "channels": channels}

    # -- looking after itself ---------------------------------------------------------------

    async def check_forever(self) -> None:
        """Note who is here, name who is silent and a missing membership, until cancelled."""
        while True:
            self.note_connected()
            self.name_silent()
            await self.check_membership()
            await trio.sleep(CHECK_SECONDS)

    def note_connected(self) -> None:
        """Remember that the connected wallets were seen now, for after a restart."""
        for signer in self.reception.connected:
            self.book.note_seen(signer, int(time.time()))

    def name_silent(self) -> None:
        """Log each wallet once a silence, with what it has here."""
        silent = set(self.silent())
        for depositor in silent - self._named_silent:
            ours = [h for h in self.book.all() if h.depositor == depositor and h.is_open]
            log.warning(
                "wallet %s was not seen for over %d s: %d channels, %d µ¢ not settled",
                address_to_hex(depositor),
                self.config.silence_seconds,
                len(ours),
                sum(held.unsettled_ucent for held in ours),
            )
        self._named_silent = silent

    async def check_membership(self) -> None:
        """Tell the operator in time why no answer would reach the chain."""
        try:
            member = await trio.to_thread.run_sync(
                self.administrator.member, self.signer.address, abandon_on_cancel=True
            )
        except ChainError:
            return  # which the lookout reports
        was, self.is_member = self.is_member, False
        if member is not None and member.status is MemberStatus.ACTIVE:
            ends = member.valid_until
            self.is_member = ends == 0 or ends > self.lookout.head.timestamp
        if not self.is_member and was is not False:
            text = "%s is no active member, so the chain takes no answer: register it as relayer"
            log.warning(text, address_to_hex(self.signer.address))


@asynccontextmanager
async def open_tower(config: TowerConfig) -> AsyncIterator[Tower]:
    """Start a watchtower and serve until the block ends; raises before it listens if need be.

    What has been acknowledged is durable at any moment.
    """
    most = config.connections_max + config.guests_max + config.strangers_max
    make_room(most + 2 * TAKEOVERS_MAX)
    tls = load_configured(config.tls_certificate_file, config.tls_key_file, log)
    signer = unlock(config.keystore, read_password_file(config.password_file))
    deployment = read_deployment(config.deployment_file)
    web3 = connect(config.rpc_url, timeout_seconds=config.rpc_timeout_seconds)
    reader = ChainDesk(Web3Chain(web3, deployment, signer=None))
    await reader.read(lambda chain: chain.check_identity())
    async with AsyncExitStack() as stack:
        listener = await open_listener(config.listen_host, config.listen_port, tls)
        await stack.enter_async_context(listener)
        stack.enter_context(owned(config.data_dir, WatchtowerInUse))
        store = TowerStore(config.data_dir / DATABASE_NAME)
        stack.callback(store.close)
        store.pin(deployment, signer.address)
        outbox = Outbox(
            config.data_dir / OUTBOX_NAME, keep_blocks=max(config.confirmations, KEEP_BLOCKS)
        )
        chain = Web3Chain(
            web3, deployment, signer=signer, confirmations=config.confirmations, outbox=outbox
        )
        administrator = Administrator(web3, deployment, None)
        keys = _Keys(signer=signer, tls=tls)
        desk = ChainDesk(chain, outbox)
        tower = _put_together(config, deployment, keys, desk, Book(store), administrator)
        async with _running(tower, listener):
            yield tower


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    signer: Signer
    tls: ServerTls | None


def _put_together(
    config: TowerConfig,
    deployment: Deployment,
    keys: _Keys,
    desk: ChainDesk,
    book: Book,
    administrator: Administrator,
) -> Tower:
    reception = Reception(
        book,
        desk,
        deployment,
        channels_max=config.channels_max,
        confirmations=config.confirmations,
    )
    lookout = Lookout(desk, book)
    answerer = Answerer(book, desk, lookout, rows_max=config.settle_rows_max)
    reception.on_new = lookout.read_again
    reception.on_grown = lookout.on_news = answerer.wake
    server = Server(
        reception,
        NoChannels(),
        deployment.domain(),
        keys.signer,
        Entrance(
            limits=DoorLimits(
                connections_max=config.connections_max,
                guests_max=config.guests_max,
                strangers_max=config.strangers_max,
                handshakes_per_second=config.handshakes_per_second,
                handshakes_per_address=config.handshakes_per_address,
            ),
            tls=keys.tls,
            log=logging.getLogger("farthing.watchtower.server"),
            queued_bytes_max=config.queued_mib_max * 2**20,
        ),
    )
    return Tower(
        config=config,
        signer=keys.signer,
        book=book,
        reception=reception,
        lookout=lookout,
        answerer=answerer,
        server=server,
        administrator=administrator,
        desk=desk,
        tls=keys.tls,
    )


@asynccontextmanager
async def _running(tower: Tower, listener: trio.SocketListener) -> AsyncIterator[None]:
    try:
        async with trio.open_nursery() as nursery:
            try:
                await tower.desk.send(lambda chain: chain.look_back())
            except TransactionUnknown as error:  # it is sent again, and looked for before others
                log.warning("%s", error)
            await tower.lookout.poll()
            await tower.check_membership()
            nursery.start_soon(tower.book.run)
            nursery.start_soon(tower.lookout.run)
            nursery.start_soon(tower.answerer.run)
            nursery.start_soon(tower.reception.run)
            nursery.start_soon(tower.check_forever)
            tower.port = listener.socket.getsockname()[1]
            await nursery.start(
                lambda task_status: tower.server.serve(listener, task_status=task_status)
            )
            yield
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):  # one commit, which is short
            await tower.book.commit()
