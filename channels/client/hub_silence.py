"""Notices that the hub has gone silent: what was received is settled, later the channel closed.

Rule: silence begins with the first try that fails after the last answer, and is measured in the
chain's time. So a device that was off, or whose clock was set, takes nothing for silence; and
before anything is done, this run itself has tried several times. Only a channel that can be used
is an answer: a hub that proves who it is and hangs up, or says no more, is silent.
"""

from __future__ import annotations

from typing import Final

import trio

from ..errors import ChainError, LocalError
from ..ids import to_hex
from ..state import ChainStatus, Channel
from .connection import Connection
from .driver import Driver
from .folder import Policy
from .follower import Follower
from .guard import Guard
from .ledger import Ledger, Statement
from .pulse import Notices, Pulse
from .results import chain_status

TRIES_MIN: Final = 3
"""Failed tries of this run before anything is done: a device has just woken up, or its network."""
ACT_AGAIN_SECONDS: Final = 60.0
"""Between two tries of the same transaction; a silence lasts hours."""

_KEY: Final = "hub_silent_since"


class HubSilence:
    """How long the hub has not answered, durably, and what follows from it."""

    def __init__(
        self,
        ledger: Ledger,
        driver: Driver,
        connection: Connection,
        follower: Follower,
        policy: Policy,
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._follower = follower
        self._policy = policy
        rows = ledger.query("SELECT value FROM setting WHERE key=?", (_KEY,))
        self.since: int | None = int(rows[0][0]) if rows else None
        """Chain time of the first failed try since the last answer; None while it answers."""
        self._answers = connection.answers
        self._told = False
        self._acted: dict[str, float] = {}

    def attach(self, guard: Guard, pulse: Pulse, notices: Notices) -> None:
        """Give it what it acts with."""
        self._guard = guard
        self._pulse = pulse
        self._notices = notices

    @property
    def seconds(self) -> int:
        """How long the hub has not answered, in the chain's time."""
        head = self._follower.moment().head_timestamp
        return 0 if self.since is None else max(head - self.since, 0)

    async def run(self) -> None:
        """Look whenever something changed, until cancelled."""
        while True:
            await self.look()
            await self._pulse.wait()

    async def look(self) -> None:
        """Note whether the hub answers; act where it has not for as long as the policy says."""
        self._note()
        if self.since is None or self._connection.fruitless < TRIES_MIN:
            return
        settle = self._policy.hub_silent_settle_seconds
        close = self._policy.hub_silent_close_seconds
        if settle and self.seconds >= settle:
            self._tell()
            for channel in list(self._driver.channels.values()):
                is_open = chain_status(channel) is ChainStatus.OPEN
                if is_open and self._guard.unsettled_ucent(channel) > 0:
                    await self._act("settle", channel)
        for channel in list(self._driver.channels.values()):
            self._note()  # again: a transaction takes a while, and the hub may have come back
            if close and self.seconds >= close:
                await self._end(channel)

    def _note(self) -> None:
        moment, connection = self._follower.moment(), self._connection
        if connection.answers != self._answers or connection.usable() is not None:
            self._answers = connection.answers
            if self.since is not None:
                self.since = None
                self._told = False
                self._driver.store([("DELETE FROM setting WHERE key=?", (_KEY,))])
        elif self.since is None and connection.fruitless and moment.head_seen:
            self.since = moment.head_timestamp
            statement: Statement = (
                "INSERT OR REPLACE INTO setting VALUES (?, ?)",
                (_KEY, str(self.since)),
            )
            self._driver.store([statement])

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            text = f"the hub has not answered for {self.seconds} s: what was received is settled"
            self._notices.tell("hub-silent", text, silent_seconds=self.seconds)

    async def _end(self, channel: Channel) -> None:
        """Start a channel's close, and finish it once its window is over."""
        view, moment = channel.chain, self._follower.moment()
        if view is None or channel.close is not None or channel.doubt_ends is not None:
            return
        if view.status is ChainStatus.OPEN:
            await self._act("close", channel)
        elif view.status is ChainStatus.CLOSING:
            seconds_over = moment.head_timestamp > view.deadline_seconds
            if seconds_over and moment.head_block > view.deadline_block:
                await self._act("finish", channel)

    async def _act(self, what: str, channel: Channel) -> None:
        """Send one transaction, not again soon if it fails; the owner is told."""
        name = f"{what} {to_hex(channel.id)}"
        now = trio.current_time()
        if now - self._acted.get(name, float("-inf")) < ACT_AGAIN_SECONDS:
            return
        self._acted[name] = now
        try:
            if what == "settle":
                await self._guard.settle(channel)
            elif what == "close":
                await self._guard.start_close(self._driver, channel.id)
                self._notices.tell("hub-silent", "a close without the hub is started")
            else:
                await self._guard.finish_close(self._driver, channel.id)
        except (ChainError, LocalError) as error:
            text = f"the hub is silent and this failed: {error}"
            self._notices.tell("hub-silent-failed", text, channel=to_hex(channel.id))
