"""Where the hub's blocking chain calls run: reads side by side, transactions one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..channels.ids import Address, ChannelId
from ..channels.state import Settlement
from .chain import Web3Chain

READS_MAX = 4
"""Threads that wait for the RPC; a node on the same machine is not faster with more."""

Result = TypeVar("Result")


class ChainDesk:
    """Runs calls of the chain port in threads, so that the event loop never waits for HTTP.

    A cancelled call is left behind, so that a hub whose endpoint hangs still stops at once: a
    read changes nothing, and what became of a transaction is read from the chain at the next start.
    """

    def __init__(self, chain: Web3Chain) -> None:
        self._chain = chain
        self._reads = trio.CapacityLimiter(READS_MAX)
        self._sending = trio.Lock()

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
        """Run a sending call after all earlier ones have ended; raises `ChainError`."""
        async with self._sending:
            return await trio.to_thread.run_sync(call, self._chain, abandon_on_cancel=True)

    async def send_noted(
        self,
        account: Address,
        note: Callable[[int], Awaitable[None]],
        call: Callable[[Web3Chain], Result],
    ) -> Result:
        """The same for a call of one transaction whose nonce is noted first.

        `note` is awaited with it while nothing else is sent; if it raises, nothing is.
        """
        async with self._sending:
            nonce = await self.read(lambda chain: chain.next_nonce(account))
            await note(nonce)
            return await trio.to_thread.run_sync(call, self._chain, abandon_on_cancel=True)
