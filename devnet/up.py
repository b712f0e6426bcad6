"""Bringing a devnet up: the chain, the server and the block interval, until cancelled."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import trio

from ..channels.ids import Address
from .accounts import ACCOUNTS_DEFAULT, DevAccount
from .chain import DevChain
from .errors import BadSetting
from .opening import CHAIN_ID_DEFAULT, ChainSettings
from .rpc import Rpc
from .served import Served, is_served
from .server import Owner, listen, serve_rpc, url_of

PORT_DEFAULT = 8545
BLOCK_TIME_MS_DEFAULT = 1_000
BLOCK_TIME_MS_MIN = 50
"""An empty block takes a few milliseconds; faster ticks would leave no time for callers."""
BLOCK_TIME_MS_MAX = 3_600_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevnetConfig:
    """What a devnet is started with.

    `block_time_ms` 0 mines on each transaction and never else; `folder` None keeps the chain in
    memory; `port` 0 lets the system choose; `base_fee_wei` is the genesis block's, 0 for free gas,
    None for what the folder says, or 0. With an interval below a second, chain time runs ahead
    of the wall clock while there are transactions, since each block takes at least one second.
    """

    host: str = "127.0.0.1"
    port: int = PORT_DEFAULT
    chain_id: int = CHAIN_ID_DEFAULT
    accounts: int = ACCOUNTS_DEFAULT
    block_time_ms: int = BLOCK_TIME_MS_DEFAULT
    folder: Path | None = None
    permissioned: bool = True
    base_fee_wei: int | None = None
    registry: Address | None = None
    """Whose members may send, from the start; None for the one that the kept chain follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningDevnet:
    """A devnet that answers: where, and what its accounts are."""

    rpc_url: str
    chain_id: int
    block_time_ms: int
    accounts: tuple[DevAccount, ...]

    def ready_line(self) -> str:
        """One line of JSON: rpc, chain_id, block_time_seconds, accounts."""
        whole, rest = divmod(self.block_time_ms, 1_000)
        return json.dumps(
            {
                "rpc": self.rpc_url,
                "chain_id": self.chain_id,
                "block_time_seconds": self.block_time_ms / 1_000 if rest else whole,
                "accounts": [account.checksum_address for account in self.accounts],
            }
        )


def print_ready(running: RunningDevnet, output: TextIO | None = None) -> None:
    """Print the ready line and flush it, so that a waiting parent reads it at once."""
    print(running.ready_line(), file=output or sys.stdout, flush=True)


async def serve(
    config: DevnetConfig,
    *,
    task_status: trio.TaskStatus[RunningDevnet] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a devnet until cancelled or told to stop; `task_status` is started once it answers.

    `running = await nursery.start(serve, DevnetConfig(port=0))`. Raises a `StartRefused`, or what
    `DevChain.follow` raises.
    """
    automine = config.block_time_ms == 0
    if not automine and not BLOCK_TIME_MS_MIN <= config.block_time_ms <= BLOCK_TIME_MS_MAX:
        allowed = f"0 for a block with each transaction, or 0.05 to {BLOCK_TIME_MS_MAX // 1000}"
        raise BadSetting("block time in seconds", config.block_time_ms / 1_000, allowed)
    listener = listen(config.host, config.port)
    # The port is given up last: who finds it closed may open the chain's folder.
    held = listener.dup()
    try:
        chain = _open_chain(config, automine=automine)
    except BaseException:  # the socket is a file of this process, whatever ends it
        listener.close()
        held.close()
        raise
    try:
        running = RunningDevnet(
            rpc_url=url_of(listener),
            chain_id=config.chain_id,
            block_time_ms=config.block_time_ms,
            accounts=chain.accounts,
        )
        stopping = trio.Event()
        token = trio.lowlevel.current_trio_token()
        is_served(
            chain,
            Served(
                rpc_url=running.rpc_url,
                started_seconds=time.monotonic(),
                stop=lambda: token.run_sync_soon(stopping.set),
            ),
        )
        owner = Owner(Rpc(chain))
        async with trio.open_nursery() as nursery:
            chain.interval_ms = config.block_time_ms
            nursery.start_soon(_mine_on_schedule, owner)
            # The socket listens already: a request made now waits for the server's first turn.
            task_status.started(running)
            await serve_rpc(owner, listener, stopping.wait)
            nursery.cancel_scope.cancel()
    finally:
        chain.close()
        held.close()


def _open_chain(config: DevnetConfig, *, automine: bool) -> DevChain:
    chain = DevChain(
        ChainSettings(
            chain_id=config.chain_id,
            accounts=config.accounts,
            folder=config.folder,
            permissioned=config.permissioned,
            automine=automine,
            base_fee_wei=config.base_fee_wei,
        )
    )
    try:
        if config.registry is not None:
            chain.follow(config.registry)
    except BaseException:  # as there
        chain.close()
        raise
    return chain


async def _mine_on_schedule(owner: Owner) -> None:
    """Mine at the chain's interval, which may change at any time, and be 0 for never."""
    chain = owner.rpc.chain
    due = trio.current_time()
    while True:
        news, interval_ms = owner.news, chain.interval_ms
        if interval_ms == 0:
            await news.wait()
            due = trio.current_time()
            continue
        # After a stall one block is late, not a burst of them.
        due = max(due + interval_ms / 1_000, trio.current_time())
        if await _changed(owner, interval_ms, due):
            due = trio.current_time()
            continue
        try:
            await owner.run(chain.tick)
        except sqlite3.OperationalError as error:
            # A full disk, mostly. The block is undone, callers can still read; try again.
            _log.error("no block was mined: %s", error)


async def _changed(owner: Owner, interval_ms: int, due: float) -> bool:
    """Wait until a block is due; True as soon as the interval is another one."""
    with trio.move_on_at(due):
        while owner.rpc.chain.interval_ms == interval_ms:
            await owner.news.wait()
        return True
    return False
