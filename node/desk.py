"""Where the hub's blocking chain calls run: reads side by side, transactions one at a time.

Rule: where what is sent cannot be written down, nothing is sent, and that is said once and shown
until it can be; whoever wanted to send tries again, as when the endpoint does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..channels.client.outbox import Outbox, OutboxUnusable
from ..channels.ids import Address, ChannelId
from ..channels.state import Settlement
from .chain import Web3Chain

READS_MAX = 4
"""Threads that wait for the RPC; a node on the same machine is not faster with more."""

Result = TypeVar("Result")

log = logging.getLogger("farthing.hub.chain")


class ChainDesk:
    """Runs calls of the chain port in threads, so that the event loop never waits for HTTP.

    A cancelled call is left behind, so that a hub whose endpoint hangs still stops at once: a
    read changes nothing, and what became of a transaction is read from the chain at the next start.
    """

    def __init__(self, chain: Web3Chain, outbox: Outbox | None = None) -> None:
        """Call that port, which writes what it sends into this outbox."""
        self._chain = chain
        self._outbox = Outbox() if outbox is None else outbox
        self._reads = trio.CapacityLimiter(READS_MAX)
        self._sending = trio.Lock()

    @property
    def trouble(self) -> OutboxUnusable | None:
        """Why nothing can be sent, whatever the chain says; None while it can."""
        return self._outbox.trouble

    async def read(self, call: Callable[[Web3Chain], Result]) -> Result:
        """Run a reading call; raises `ChainError`."""
        return await trio.to_thread.run_sync(
            call, self._chain, limiter=self._reads, abandon_on_cancel=True
        )

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        """By which payments these blocks settled a payer's lane, oldest first."""
        return await self.read(
            lambda chain: chain.settlements(channel, payer, first_block, last_block)
        )

    async def send(self, call: Callable[[Web3Chain], Result]) -> Result:
        """Run a sending call after all earlier ones have ended; raises `NOT_SENT`."""
        async with self._sending:
            return await self._send(call)

    async def send_noted(
        self,
        note: Callable[[int], Awaitable[None]],
        call: Callable[[Web3Chain, int], Result],
        *,
        least: int,
    ) -> Result:
        """The same for a call of one transaction whose nonce is noted first, of `least` on.

        `note` is awaited with it while nothing else is sent; if it raises, nothing is.
        """
        async with self._sending:
            nonce = await self._send(lambda chain: chain.ready_nonce(least=least))
            await note(nonce)
            return await self._send(lambda chain: call(chain, nonce))

    async def _send(self, call: Callable[[Web3Chain], Result]) -> Result:
        before = self.trouble
        try:
            return await trio.to_thread.run_sync(call, self._chain, abandon_on_cancel=True)
        finally:
            after = self.trouble
            if before is None and after is not None:
                log.warning("nothing can be sent: %s", after)
            elif before is not None and after is None:
                log.info("transactions are sent again")
