"""Puts vouchers on-chain: the settler when they are large or old, the watcher when a close starts.

Rule: rows are made anew from durable state each time, and the contract ignores a row that raises
nothing; so a crash at any point, or a transaction sent twice, changes no figure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import trio

from ..channels.client.driver import Driver
from ..channels.errors import ChainError
from ..channels.ids import ChannelId
from ..channels.state import ChainStatus, Channel, SignedClose
from ..channels.terms import Side
from ..channels.voucher import Voucher
from .chain import Mined, SettleRow
from .desk import ChainDesk
from .follower import Follower
from .store import HubStore

CHECK_SECONDS = 1
"""How often the thresholds are looked at; thresholds are in minutes and cents."""

log = logging.getLogger("farthing.hub.settler")


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
        self._unsettled_since: dict[tuple[ChannelId, Side], float] = {}

    async def run(self) -> None:
        """Settle what is due until cancelled; a chain that fails is asked again."""
        while True:
            await trio.sleep(CHECK_SECONDS)
            try:
                await self.settle(self._is_due)
            except ChainError as error:
                log.warning("%s", error)

    async def settle(
        self, wanted: Callable[[Channel, Side, int], bool] | None = None
    ) -> list[Mined]:
        """Settle every wanted lane, or all that have anything unsettled; raises `ChainError`."""
        await self._driver.wait_durable()
        rows = [
            settle_row(channel, lane, voucher)
            for channel in self._driver.channels.values()
            for lane, voucher, unsettled_ucent in unsettled_lanes(channel)
            if wanted is None or wanted(channel, lane, unsettled_ucent)
        ]
        mined: list[Mined] = []
        for start in range(0, len(rows), self._rows_max):
            batch = rows[start : start + self._rows_max]
            one = await self._desk.send(lambda chain, rows=batch: chain.settle(rows))  # type: ignore[misc]
            self._driver.store([HubStore.remember_settlement(one)])
            log.info("settled %d lanes, skipped %d, gas %d", one.settled, one.skipped, one.gas_used)
            mined.append(one)
        return mined

    def _is_due(self, channel: Channel, lane: Side, unsettled_ucent: int) -> bool:
        key = (channel.id, lane)
        if channel.close is not None:
            return False  # a close by agreement is under way and pays both lanes itself
        since = self._unsettled_since.setdefault(key, time.monotonic())
        if unsettled_ucent < self._unsettled_ucent and time.monotonic() - since < self._age_seconds:
            return False
        del self._unsettled_since[key]
        return True


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

    async def run(self) -> None:
        """Look at every new head until cancelled; what fails is tried again at the next one."""
        while True:
            await self._follower.wait_head()
            closing = [c for c in self._driver.channels.values() if _is_closing(c)]
            if not closing:
                continue
            try:
                await self._settler.settle(lambda channel, _, __: _is_closing(channel))
                for channel in closing:
                    await self._finish(channel)
            except ChainError as error:
                log.warning("%s", error)

    async def _finish(self, channel: Channel) -> None:
        moment, view = self._follower.moment(), channel.chain
        if view is None or moment.head_timestamp <= view.deadline_seconds:
            return
        if moment.head_block <= view.deadline_block:
            return
        await self._desk.send(lambda chain: chain.finish_close(channel.terms))
        log.info("finished the close of channel 0x%s", channel.id.hex())

    async def close(self, channel: Channel, close: SignedClose) -> None:
        """Submit a close that both have signed; the core submits again if it does not arrive."""
        terms = close.terms
        if close.theirs is None:
            return
        both = [close.ours, close.theirs]
        signatures = both if channel.side is Side.A else both[::-1]
        try:
            await self._desk.send(
                lambda chain: chain.close(
                    channel.terms,
                    totals_ucent=(terms.transferred_a_ucent, terms.transferred_b_ucent),
                    expires=terms.expires,
                    signatures=signatures,
                )
            )
        except ChainError as error:
            log.warning("%s", error)


def _is_closing(channel: Channel) -> bool:
    return channel.chain is not None and channel.chain.status is ChainStatus.CLOSING
