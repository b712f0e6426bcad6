"""What the wallet does on the chain for its money: answers closes, starts and finishes its own.

Rule: everything here may happen twice: the contract takes the largest total, closes once, and a
repeat is refused without harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import trio

from ..errors import ChainError, LocalError
from ..ids import Address, ChannelId
from ..state import ChainStatus, Channel, SignedClose, Withdrawal
from ..terms import Side
from ..voucher import Voucher
from .driver import Driver
from .evidence import newest
from .follower import Follower
from .outbox import NOT_SENT
from .ports import TransactionPort
from .pulse import Notices, Pulse
from .results import chain_status

SETTLE_AGAIN_SECONDS: Final = 10.0
"""Between two tries to settle on a closing channel; the shortest window is 600 s."""


class WindowNotOver(LocalError):
    """The other side may still answer the close."""

    code = "window-not-over"
    retryable = True

    def __init__(self, channel: Channel, *, seconds: int, blocks: int) -> None:
        super().__init__(
            f"the window of channel 0x{channel.id.hex()} has {seconds} s and {blocks} blocks left",
            remedy="finish the close when both have passed",
        )
        self.seconds = seconds
        self.blocks = blocks


class NotClosing(LocalError):
    """A close that was never started was to be finished."""

    code = "not-closing"
    remedy = "start one: `farthing wallet close`, or with --unilateral if the hub does not answer"


class AlreadyClosed(LocalError):
    """The channel has ended."""

    code = "already-closed"
    remedy = "nothing is left to do: its money is in the account, see `farthing wallet balance`"


class Guard:
    """Watches closing channels and sends the wallet's transactions, one task for each need."""

    def __init__(
        self,
        transactions: TransactionPort,
        account: Address,
        follower: Follower,
        pulse: Pulse,
        notices: Notices,
        shown: Mapping[ChannelId, Voucher],
    ) -> None:
        """Watch with the vouchers that were accepted and those that were only `shown`."""
        self._shown = shown
        self._transactions = transactions
        self._account = account
        self._follower = follower
        self._pulse = pulse
        self._notices = notices
        self._closes: dict[ChannelId, tuple[Channel, SignedClose]] = {}
        self._withdrawals: dict[tuple[ChannelId, Side], tuple[Channel, Withdrawal]] = {}
        self._tried: dict[ChannelId, float] = {}

    def submit_soon(self, channel: Channel, close: SignedClose) -> None:
        """Queue a co-signed close for the chain."""
        self._closes[channel.id] = (channel, close)
        self._pulse.beat()

    def withdraw_soon(self, channel: Channel, withdrawal: Withdrawal) -> None:
        """Queue a co-signed withdrawal for the chain."""
        self._withdrawals[channel.id, withdrawal.terms.side] = (channel, withdrawal)
        self._pulse.beat()

    async def run(self, driver: Driver) -> None:
        """Submit what is queued and answer every close, until cancelled."""
        while True:
            for channel, close in list(self._closes.values()):
                del self._closes[channel.id]
                await self._submit(driver, channel, close)
            for key in list(self._withdrawals):
                await self._withdraw(driver, *self._withdrawals.pop(key))
            for channel in list(driver.channels.values()):
                if self._must_answer(channel):
                    await self._answer(channel)
            if not self._closes and not self._withdrawals:
                await self._pulse.wait()

    def _must_answer(self, channel: Channel) -> bool:
        if channel.chain is None or channel.chain.status is not ChainStatus.CLOSING:
            return False
        tried = self._tried.get(channel.id)
        return self.unsettled_ucent(channel) > 0 and (
            tried is None or trio.current_time() - tried >= SETTLE_AGAIN_SECONDS
        )

    async def _answer(self, channel: Channel) -> None:
        self._tried[channel.id] = trio.current_time()
        try:
            await self.settle(channel)
        except NOT_SENT as error:
            text = f"the answer to the close of channel 0x{channel.id.hex()} failed: {error}"
            self._notices.tell("answer-failed", text, channel="0x" + channel.id.hex())

    def unsettled_ucent(self, channel: Channel) -> int:
        """What of the peer's promises the chain does not know yet, accepted or shown, in µ¢."""
        voucher = newest(channel, self._shown)
        if voucher is None or channel.chain is None:
            return 0
        return voucher.total.transferred_ucent - channel.chain.settled_ucent[channel.side.other]

    def unsent_ucent(self, channel: Channel) -> int:
        """What the hub has shown that it promised, and not sent again since, in µ¢."""
        shown = self._shown.get(channel.id)
        promised_ucent = 0 if shown is None else shown.total.transferred_ucent
        return max(0, promised_ucent - channel.received.total.transferred_ucent)

    async def settle(self, channel: Channel) -> None:
        """Put our newest received voucher on the chain; does nothing if it is there already."""
        voucher = newest(channel, self._shown)
        if voucher is None or self.unsettled_ucent(channel) <= 0:
            return
        await self._transactions.settle(channel.terms, voucher)
        self._notices.tell(
            "settled",
            f"{voucher.total.transferred_ucent} µ¢ of received payments are settled",
            channel="0x" + channel.id.hex(),
            transferred_ucent=voucher.total.transferred_ucent,
        )
        self._follower.poke()

    async def _submit(self, driver: Driver, channel: Channel, close: SignedClose) -> None:
        chain = driver.get(channel.id).chain
        if chain is not None and chain.status is ChainStatus.CLOSED:
            return
        try:
            await self._transactions.close(channel.terms, close, ours_is_a=channel.side is Side.A)
        except NOT_SENT as error:  # the hub submits it too: one of the two comes too late
            self._notices.tell("close-not-submitted", str(error), channel="0x" + channel.id.hex())
        self._follower.poke()

    async def _withdraw(self, driver: Driver, channel: Channel, withdrawal: Withdrawal) -> None:
        terms = withdrawal.terms
        chain = driver.get(channel.id).chain
        if chain is not None and chain.withdrawn_ucent[terms.side] >= terms.total_ucent:
            return
        try:
            await self._transactions.withdraw(
                channel.terms, withdrawal, ours_is_a=channel.side is Side.A
            )
        except NOT_SENT as error:  # the hub submits it too: one of the two comes too late
            with suppress(ChainError):
                await self._follower.refresh()  # it may be the money that came before us
            chain = driver.get(channel.id).chain
            if chain is None or chain.withdrawn_ucent[terms.side] < terms.total_ucent:
                text, name = str(error), "0x" + channel.id.hex()
                self._notices.tell("withdrawal-not-submitted", text, channel=name)
        self._follower.poke()

    async def claim(self) -> None:
        """Take what the contract could not pay out before; raises `ChainError`."""
        await self._transactions.claim(self._account)

    async def start_close(self, driver: Driver, channel_id: ChannelId) -> None:
        """Settle what we received, then start the window; raises `ChainError`, `AlreadyClosed`."""
        await self._follower.refresh()
        channel = driver.get(channel_id)
        if chain_status(channel) is ChainStatus.CLOSED:
            raise AlreadyClosed(f"channel 0x{channel.id.hex()} is closed")
        if chain_status(channel) is ChainStatus.CLOSING:
            return
        await self.settle(channel)
        await self._transactions.start_close(channel.terms)
        await self._seen(driver, channel_id, ChainStatus.CLOSING)

    async def finish_close(self, driver: Driver, channel_id: ChannelId) -> None:
        """End a channel whose window has passed; raises `WindowNotOver`, `NotClosing`."""
        await self._follower.refresh()
        channel = driver.get(channel_id)
        if chain_status(channel) is ChainStatus.CLOSED:
            return
        if channel.chain is None or channel.chain.status is not ChainStatus.CLOSING:
            raise NotClosing(f"no close of channel 0x{channel.id.hex()} has been started")
        moment = self._follower.moment()
        seconds = max(0, channel.chain.deadline_seconds + 1 - moment.head_timestamp)
        blocks = max(0, channel.chain.deadline_block + 1 - moment.head_block)
        if seconds or blocks:
            raise WindowNotOver(channel, seconds=seconds, blocks=blocks)
        await self.settle(channel)
        await self._transactions.finish_close(channel.terms)
        await self._seen(driver, channel_id, ChainStatus.CLOSED)

    async def _seen(self, driver: Driver, channel: ChannelId, status: ChainStatus) -> None:
        """Wait until our own reading shows what the transaction did."""
        self._follower.poke()
        await self._pulse.until(lambda: chain_status(driver.get(channel)) >= status)
