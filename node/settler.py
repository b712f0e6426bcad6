"""Puts vouchers on-chain: the settler when they are large or old, the watcher when a close starts.

Rule: rows are made anew from durable state each time, and the contract ignores a row that raises
nothing; so a crash at any point, or a transaction sent twice, changes no figure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import trio

from ..channels.client.driver import Driver
from ..channels.client.outbox import NOT_SENT
from ..channels.errors import LocalError
from ..channels.ids import ChannelId
from ..channels.state import ChainStatus, Channel, SignedClose, Withdrawal
from ..channels.terms import Side
from ..channels.voucher import Voucher
from .chain import Mined, SettleRow
from .desk import ChainDesk
from .follower import Follower
from .store import HubStore

CHECK_SECONDS = 1
"""How often the thresholds are looked at; thresholds are in minutes and cents."""

Lane = tuple[ChannelId, Side]

log = logging.getLogger("farthing.hub.settler")


class NotOpen(LocalError):
    """A close was to be started of a channel that is not open."""

    code = "not-open"
    remedy = "see `farthing hub channels`: a close that is under way is finished by itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """The newest mined transaction that was to raise a lane: to what, when, and in which block."""

    transferred_ucent: int
    at: float
    block: int


class Settler:
    """Batches the unsettled part of every lane into transactions, until confirmed."""

    def __init__(
        self,
        driver: Driver,
        desk: ChainDesk,
        *,
        unsettled_ucent: int,
        age_seconds: int,
        rows_max: int,
    ) -> None:
        self._driver = driver
        self._desk = desk
        self._unsettled_ucent = unsettled_ucent
        self._age_seconds = age_seconds
        self._rows_max = rows_max
        self._unsettled_since: dict[Lane, float] = {}
        self._attempts: dict[Lane, _Attempt] = {}
        self.is_silent: Callable[[ChannelId], bool] = lambda _: False
        """Whether a channel's wallet has gone silent: its lanes are due whatever is in them."""

    async def run(self) -> None:
        """Settle what is due until cancelled; a chain that fails is asked again."""
        failed = False
        while True:
            await trio.sleep(CHECK_SECONDS)
            self._note_age()
            try:
                await self.settle(self._is_due)
                failed = False
            except NOT_SENT as error:
                if not failed:  # once, not at each attempt of a long outage
                    log.warning("%s", error)
                failed = True

    async def settle(
        self, wanted: Callable[[Channel, Side, int], bool] | None = None
    ) -> list[Mined]:
        """Settle every wanted lane, or all that have anything unsettled; raises `NOT_SENT`."""
        rows = [
            (channel.id, settle_row(channel, lane, voucher))
            for channel in self._driver.channels.values()
            for lane, voucher, unsettled_ucent in unsettled_lanes(channel)
            if wanted is None or wanted(channel, lane, unsettled_ucent)
        ]
        if not rows:
            return []
        await self._driver.wait_durable()  # after the rows were made: it covers what they say
        return [
            await self._settle(rows[start : start + self._rows_max])
            for start in range(0, len(rows), self._rows_max)
        ]

    async def _settle(self, batch: list[tuple[ChannelId, SettleRow]]) -> Mined:
        mined = await self._desk.send(lambda chain: chain.settle([row for _, row in batch]))
        self._driver.store([HubStore.remember_settlement(mined)])
        text = "settled %d lanes, skipped %d, gas %d"
        log.info(text, mined.settled, mined.skipped, mined.gas_used)
        for channel, row in batch:
            self._attempts[channel, row.lane] = _Attempt(
                transferred_ucent=row.transferred_ucent, at=time.monotonic(), block=mined.block
            )
        return mined

    def forget_attempts(self) -> None:
        """Take no lane for settled, or on its way: the blocks that did it were replaced."""
        self._attempts.clear()

    def _note_age(self) -> None:
        """Keep since when each lane has been unsettled; forget those that no longer are."""
        now = time.monotonic()
        self._unsettled_since = {
            (channel.id, lane): self._unsettled_since.get((channel.id, lane), now)
            for channel in self._driver.channels.values()
            for lane, _, _ in unsettled_lanes(channel)
        }
        self._attempts = {
            lane: attempt
            for lane, attempt in self._attempts.items()
            if lane in self._unsettled_since
        }

    def _is_due(self, channel: Channel, lane: Side, unsettled_ucent: int) -> bool:
        if channel.close is not None:
            return False  # a close by agreement is under way and pays both lanes itself
        now = time.monotonic()
        attempt = self._attempt_at_this_total(channel, lane)
        if attempt is not None:  # not confirmed yet, or skipped: not the same again at once
            return now - attempt.at >= self._age_seconds
        if unsettled_ucent >= self._unsettled_ucent or self.is_silent(channel.id):
            return True
        since = self._unsettled_since.get((channel.id, lane), now)
        return now - since >= self._age_seconds

    def is_on_its_way(self, channel: Channel, lane: Side, head_block: int) -> bool:
        """Whether a block that is not yet confirmed settles all that this lane has."""
        attempt = self._attempt_at_this_total(channel, lane)
        return attempt is not None and head_block < attempt.block

    def _attempt_at_this_total(self, channel: Channel, lane: Side) -> _Attempt | None:
        ours = lane is channel.side
        total = channel.sent.total if ours else channel.received.total
        attempt = self._attempts.get((channel.id, lane))
        if attempt is None or attempt.transferred_ucent != total.transferred_ucent:
            return None
        return attempt


def unsettled_lanes(channel: Channel) -> Iterator[tuple[Side, Voucher, int]]:
    """Each lane of an open or closing channel whose voucher is above the chain's total, in µ¢."""
    if channel.chain is None or channel.chain.status not in (ChainStatus.OPEN, ChainStatus.CLOSING):
        return
    lanes = (
        (channel.side, channel.sent.voucher),
        (channel.side.other, channel.received.voucher),
    )
    for lane, voucher in lanes:
        if voucher is None:
            continue
        unsettled_ucent = voucher.total.transferred_ucent - channel.chain.settled_ucent[lane]
        if unsettled_ucent > 0:
            yield lane, voucher, unsettled_ucent


def settle_row(channel: Channel, lane: Side, voucher: Voucher) -> SettleRow:
    """Return the row; our own lane needs no signature, as our account is the sender."""
    return SettleRow(
        terms=channel.terms,
        lane=lane,
        nonce=voucher.total.nonce,
        transferred_ucent=voucher.total.transferred_ucent,
        history=voucher.total.history,
        conditions=voucher.conditions,
        signature=b"" if lane is channel.side else voucher.signature,
    )


class Watcher:
    """Answers closes that somebody started: settles the newest vouchers, then finishes them."""

    def __init__(
        self, driver: Driver, desk: ChainDesk, settler: Settler, follower: Follower
    ) -> None:
        self._driver = driver
        self._desk = desk
        self._settler = settler
        self._follower = follower
        self._finished: dict[ChannelId, int] = {}

    async def run(self) -> None:
        """Look at every new head until cancelled; what fails is tried again at the next one."""
        block = 0
        while True:
            await self._follower.wait_block(block)
            block = self._follower.moment().head_block + 1
            await self.look()

    async def look(self) -> None:
        """Answer every close that is under way, and finish those whose window is over."""
        closing = [c.id for c in self._driver.channels.values() if _is_closing(c)]
        if not closing:
            return
        head_block = self._follower.moment().head_block

        def is_unanswered(channel: Channel, lane: Side, _: int) -> bool:
            on_its_way = self._settler.is_on_its_way(channel, lane, head_block)
            return _is_closing(channel) and not on_its_way

        try:
            await self._settler.settle(is_unanswered)
        except NOT_SENT as error:
            log.warning("%s", error)
            return
        for channel in closing:
            try:
                await self._finish(self._driver.channels[channel])
            except NOT_SENT as error:  # its neighbours are finished all the same
                log.warning("channel 0x%s: %s", channel.hex(), error)

    async def _finish(self, channel: Channel) -> None:
        moment, view = self._follower.moment(), channel.chain
        if view is None or view.status is not ChainStatus.CLOSING:
            return
        if moment.head_timestamp <= view.deadline_seconds:
            return
        if moment.head_block <= view.deadline_block:
            return
        if moment.head_block < self._finished.get(channel.id, 0):
            return  # finished in a block that is not confirmed yet
        mined = await self._desk.send(lambda chain: chain.finish_close(channel.terms))
        self._finished[channel.id] = mined.block
        log.info("finished the close of channel 0x%s", channel.id.hex())

    async def start_close(self, channel: Channel) -> Mined:
        """Start the challenge window of an open channel; `look` does the rest.

        Raises `NotOpen`, `NOT_SENT`.
        """
        if channel.chain is None or channel.chain.status is not ChainStatus.OPEN:
            raise NotOpen(f"channel 0x{channel.id.hex()} is not open on the chain")
        return await self._desk.send(lambda chain: chain.start_close(channel.terms))

    async def close(self, channel: Channel, close: SignedClose) -> None:
        """Submit a close that both have signed; the core submits again if it does not arrive."""
        terms = close.terms
        if close.theirs is None:
            return
        signatures = _by_side(channel, close.ours, close.theirs)
        try:
            await self._desk.send(
                lambda chain: chain.close(
                    channel.terms,
                    totals_ucent=(terms.transferred_a_ucent, terms.transferred_b_ucent),
                    expires=terms.expires,
                    signatures=signatures,
                )
            )
        except NOT_SENT as error:
            log.warning("%s", error)

    async def withdraw(self, channel: Channel, withdrawal: Withdrawal) -> None:
        """Submit a withdrawal that both have signed; the core submits again where it must."""
        terms = withdrawal.terms
        if withdrawal.ours is None or withdrawal.theirs is None:
            return
        signatures = _by_side(channel, withdrawal.ours, withdrawal.theirs)
        try:
            await self._desk.send(
                lambda chain: chain.withdraw(
                    channel.terms,
                    account=channel.terms.account(terms.side),
                    total_ucent=terms.total_ucent,
                    expires=terms.expires,
                    signatures=signatures,
                )
            )
        except NOT_SENT as error:  # the wallet submits it too: one of the two comes too late
            log.info("%s", error)


def _by_side(channel: Channel, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
    """Both signatures, A's first."""
    return (ours, theirs) if channel.side is Side.A else (theirs, ours)


def _is_closing(channel: Channel) -> bool:
    return channel.chain is not None and channel.chain.status is ChainStatus.CLOSING
