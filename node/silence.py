"""Notices wallets that have gone silent: their lanes are settled at once, later their channels end.

Rule: silence is counted by the hub's own running time, never by a clock: what the hub was down, or
a clock was set, is no silence of anybody. Neither is the time in which the hub heard no wallet at
all, as its own network may have been gone, or turned connections away for want of room.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from ..channels.client.driver import Driver
from ..channels.client.ledger import Ledger, Statement
from ..channels.errors import ChainError, LocalError
from ..channels.ids import Address, ChannelId, to_hex
from ..channels.state import ChainStatus, Channel, Phase
from .settler import Watcher

LOOK_SECONDS = 5
"""How often it is looked at who is connected; limits are in hours and days."""
SAVE_SECONDS: Final = 60
"""How often the running time is saved; a crash forgets that much of everybody's silence."""
CLOSE_AGAIN_SECONDS: Final = 600
"""Until a close that could not be started is tried again."""
HOUR_SECONDS: Final = 3600
UNHEARD_SECONDS_MAX: Final = HOUR_SECONDS
"""A longer time in which no wallet at all was heard counts as the hub's own silence: wallets of a
small hub that wake up now and then do so at least once in an hour."""
GONE_AFTER_CLOSES: Final = 2
"""Whoever hears nobody for so many times the time after which a channel is closed has no wallets
any more: then that time counts, and its channels are closed one after another."""
CROWDED_SECONDS: Final = 60.0
"""After a connection was turned away: wallets dial again after 30 s at most, and a few times."""

log = logging.getLogger("farthing.hub.silence")


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceLimits:
    """After how long a silent wallet's lanes are settled and its channel closed, 0 for never."""

    settle_seconds: int
    close_seconds: int
    closes_per_hour: int


@dataclass(slots=True, kw_only=True)
class _Heard:
    """When a channel's wallet was last heard: in running time, and by the clock, for people."""

    uptime: float
    at: int
    connected: bool = False


class Silence:
    """Knows how long each channel's wallet has been silent while the hub was there to hear it."""

    def __init__(
        self,
        ledger: Ledger,
        driver: Driver,
        watcher: Watcher,
        heard_since: Callable[[], set[Address]],
        limits: SilenceLimits,
    ) -> None:
        """`heard_since` gives the signers that are connected, or were since it was last asked."""
        self._driver = driver
        self._watcher = watcher
        self._heard_since = heard_since
        self._limits = limits
        self._between_closes = HOUR_SECONDS / limits.closes_per_hour
        self.turned_away: Callable[[], int] = lambda: 0
        """How many connections were turned away for want of room since the start."""
        self.clock: Callable[[], float] = time.monotonic
        """Seconds that only go forward; tests put their own here."""
        self._saved = self._counted = float(_setting(ledger, "uptime") or 0)
        self._closed_at: float | None = _setting(ledger, "silent_close_at")
        """In counted time, when the newest close was begun."""
        self._heard_at = self.clock()
        self._crowded_until = self._heard_at
        self._are_gone = False
        self._turned_away = 0
        self._is_told = False
        self._heard = {
            ChannelId(channel): _Heard(uptime=self._counted if uptime is None else uptime, at=at)
            for channel, uptime, at in ledger.query("SELECT channel, uptime, at FROM heard")
        }
        self._silent: set[ChannelId] = set()
        self._close_tried: dict[ChannelId, float] = {}

    # -- asking -----------------------------------------------------------------------------

    def silent_seconds(self, channel: ChannelId) -> int:
        """How long nothing was heard of a channel's wallet; 0 while it is connected."""
        heard = self._heard.get(channel)
        if heard is None or heard.connected:
            return 0
        return max(int(self._counted - heard.uptime), 0)

    def last_heard(self, channel: ChannelId) -> int | None:
        """When its wallet was last heard, in seconds since 1970 by the clock of then."""
        heard = self._heard.get(channel)
        return None if heard is None else heard.at

    def is_silent(self, channel: ChannelId) -> bool:
        """Whether a channel's wallet is silent for so long that its lanes are settled."""
        return self.silent_seconds(channel) >= self._limits.settle_seconds

    # -- looking ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Note who was heard, say who is silent, and end the channels of those silent for long."""
        self.note()
        self._tell()
        channel = self._to_close()
        if channel is not None:
            await self._close(channel)

    def note(self) -> None:
        """Take in who was heard since the last time; only changes are written."""
        present = self._heard_since()
        self._count(present)
        statements = [*self._noted(present), *self._save()]
        if statements:
            self._driver.store(statements)

    def _count(self, present: set[Address]) -> None:
        """Count the time up to now as everybody's silence, if the hub could have heard them."""
        now, turned_away = self.clock(), self.turned_away()
        if turned_away != self._turned_away:
            self._crowded_until = now + CROWDED_SECONDS
            self._turned_away = turned_away
        channels = self._driver.channels.values()
        is_heard = any(channel.terms.signer_b in present for channel in channels)
        unheard = now - self._heard_at
        self._are_gone = not is_heard and (
            self._are_gone or 0 < GONE_AFTER_CLOSES * self._limits.close_seconds <= unheard
        )
        is_deaf = unheard > UNHEARD_SECONDS_MAX and not self._are_gone
        if channels and (is_deaf or now < self._crowded_until) and not self._is_told:
            why = "no wallet is heard" if is_deaf else "connections are turned away"
            log.warning("%s: this time counts as nobody's silence", why)
        self._is_told = is_deaf or now < self._crowded_until
        if not is_heard and not self._are_gone:
            return  # what comes from now on counts once somebody is heard
        if not is_deaf:
            self._counted += max(now - max(self._heard_at, self._crowded_until), 0)
        self._heard_at = now

    def _noted(self, present: set[Address]) -> Iterator[Statement]:
        now, at = self._counted, int(time.time())
        for channel in self._driver.channels.values():
            if channel.chain is not None and channel.chain.status is ChainStatus.CLOSED:
                if self._heard.pop(channel.id, None) is not None:
                    yield "DELETE FROM heard WHERE channel=?", (channel.id,)
                continue
            connected = channel.terms.signer_b in present
            heard = self._heard.get(channel.id)
            was_connected = heard is not None and heard.connected
            if heard is None or connected:
                self._heard[channel.id] = _Heard(uptime=now, at=at, connected=connected)
            elif heard.connected:
                heard.connected = False  # it went since the last look, at which it was heard
            if heard is None or was_connected is not connected:
                yield self._remember(channel.id)

    def _remember(self, channel: ChannelId) -> Statement:
        heard = self._heard[channel]
        uptime = None if heard.connected else int(heard.uptime)
        sql = "INSERT OR REPLACE INTO heard VALUES (?, ?, ?)"
        return sql, (channel, uptime, heard.at)

    def _save(self) -> Iterator[Statement]:
        if self._counted - self._saved >= SAVE_SECONDS:
            self._saved = self._counted
            yield _remember_setting("uptime", self._counted)

    def _tell(self) -> None:
        """Say once of each wallet that it went silent; the settler settles its lanes."""
        silent = {channel for channel in self._heard if self.is_silent(channel)}
        for channel in silent - self._silent:
            text = "channel %s: nothing heard for %d s, its lanes are settled"
            log.info(text, to_hex(channel), self.silent_seconds(channel))
        self._silent = silent

    def _to_close(self) -> Channel | None:
        """Choose a channel to end, when one is due: that which was not tried for the longest."""
        last = self._closed_at
        if last is not None and self._counted - last < self._between_closes:
            return None
        due = [c for c in self._driver.channels.values() if self._must_close(c)]
        return min(due, key=lambda c: self._close_tried.get(c.id, float("-inf")), default=None)

    def _must_close(self, channel: Channel) -> bool:
        """Whether to end a channel: nothing may be signed or under way that ends it otherwise."""
        if (
            self._limits.close_seconds == 0
            or self.silent_seconds(channel.id) < self._limits.close_seconds
        ):
            return False
        tried = self._close_tried.get(channel.id)
        return (
            channel.phase is Phase.DOWN
            and not any(channel.withdrawals)
            and (tried is None or self.clock() - tried >= CLOSE_AGAIN_SECONDS)
        )

    async def _close(self, channel: Channel) -> None:
        self._close_tried[channel.id] = self.clock()
        self._closed_at = self._counted
        self._driver.store([_remember_setting("silent_close_at", self._counted)])
        try:
            await self._watcher.start_close(channel)
        except (ChainError, LocalError) as error:
            log.warning("channel %s cannot be closed: %s", to_hex(channel.id), error)
            return
        text = "channel %s: nothing heard for %d s, its close is started"
        log.info(text, to_hex(channel.id), self.silent_seconds(channel.id))


def _setting(ledger: Ledger, key: str) -> int | None:
    rows = ledger.query("SELECT value FROM setting WHERE key=?", (key,))
    return int(rows[0][0]) if rows else None


def _remember_setting(key: str, seconds: float) -> Statement:
    return "INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, str(int(seconds)))
