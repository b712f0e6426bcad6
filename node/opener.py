"""Opens channels: what wallets propose, gathered into few transactions, and what operators ask.

Rule: one opening at a time, and none before everything that the chain holds is known; a second
channel for the same wallet would lock a second deposit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from ..channels.client.outbox import NOT_SENT
from ..channels.errors import LocalError
from .allowances import Allowances
from .answers import Problem
from .chain import Mined, OpenRow
from .config import HubConfig
from .engine import Engine
from .liquidity import Liquidity, OnChain, OutOfFunds
from .shortage import OUT_OF_FUNDS

OPEN_ROWS_MAX = 100
"""Channels opened in one transaction: well under a block's gas at 40,000 each."""
GATHER_SECONDS = 0.5
"""How long wallets that join at the same time are gathered into one transaction."""

log = logging.getLogger("farthing.hub")


class NoRoom(LocalError):
    """More channels than the hub is configured for."""

    code = "hub-full"
    remedy = "close some, or raise channels_max in the hub's configuration"

    def __init__(self, asked: int, room: int) -> None:
        super().__init__(f"{asked} more channels are asked for and there is room for {room}")
        self.asked = asked
        self.room = room


class Opener:
    """The hub's way to new channels, always with the hub as party A."""

    def __init__(
        self,
        config: HubConfig,
        chain: OnChain,
        engine: Engine,
        liquidity: Liquidity,
        allowances: Allowances,
    ) -> None:
        self._config = config
        self._desk = chain.desk
        self._follower = chain.follower
        self._account = chain.account
        self._signer = chain.signer
        self._engine = engine
        self._liquidity = liquidity
        self._allowances = allowances
        self._turn = trio.Lock()

    async def run(self) -> None:
        """Open what wallets propose, until cancelled."""
        while True:
            await trio.sleep(GATHER_SECONDS)
            if self._engine.proposed(1):
                await self._open_proposed()

    async def _open_proposed(self) -> None:
        async with self._turn:
            tried = self._engine.proposed(OPEN_ROWS_MAX)
            try:
                await self._know_all()
                refusals = await self._open_what_may(tried)
            except NOT_SENT as error:
                log.warning("%s", error)
                # "not-now" makes a wallet ask again; what the chain said is for the operator.
                problem = ("not-now", "the hub cannot open a channel now", "try again later")
                refusals = dict.fromkeys(tried, problem)
            self._engine.decide_proposals(tried, refusals)

    async def _know_all(self) -> None:
        """Wait until our view holds all that the chain does, and all that we ever sent.

        An opening that was mined late, after nobody waited for it any more, is seen here before
        another is sent. Raises `NOT_SENT`, while such a one is still under way too.
        """
        block = await self._desk.send(lambda chain: chain.look_back())
        await self._follower.catch_up()
        await self._follower.wait_block(block)

    async def _open_what_may(self, tried: list[OpenRow]) -> dict[OpenRow, Problem]:
        """Open those that may be; returns why the others did not; raises `NOT_SENT`."""
        missing = [row for row in tried if not self._engine.has_open_channel(row)]
        refusals: dict[OpenRow, Problem] = {}
        for row in missing:
            problem = self._engine.cannot_open(row)
            if problem is None:
                problem = _as_problem(self._allowances.opening_refusal(row.account_b))
            if problem is not None:
                refusals[row] = problem
        rows = [row for row in missing if row not in refusals]
        room = self._engine.room()
        full = ("hub-full", "this hub has all the channels it may", "ask the agency for another")
        refusals |= dict.fromkeys(rows[room:], full)
        funded = await self._liquidity.affordable()
        if funded is not None and funded < len(rows[:room]):
            log.warning("out of funds: %d channels are not opened", len(rows[:room]) - funded)
            dry = (OUT_OF_FUNDS.code, OUT_OF_FUNDS.text, "join again later; the agency was told")
            refusals |= dict.fromkeys(rows[funded:room], dry)
            room = funded
        if rows[:room]:
            mined = await self._open(rows[:room])
            opened = {(one.terms.account_b, one.terms.signer_b) for one in mined.opened}
            for account, _ in opened:
                self._engine.driver.store(self._allowances.opened(account))
            refused = ("channel-refused", "the contract refused this channel", "ask the agency why")
            for row in rows[:room]:
                if (row.account_b, row.signer_b) not in opened:
                    refusals[row] = refused
        return refusals

    async def open(self, rows: Sequence[OpenRow]) -> tuple[int, int]:
        """Open channels that an operator asks for, unless they are open already.

        Returns how many opened, and how many were open. Raises `NoRoom`, `OutOfFunds`,
        `NOT_SENT`.
        """
        async with self._turn:
            await self._know_all()
            missing = [row for row in rows if not self._engine.has_open_channel(row)]
            room = self._engine.room()
            if len(missing) > room:
                raise NoRoom(len(missing), room)
            funded = await self._liquidity.affordable()
            if funded is not None and len(missing) > funded:
                raise OutOfFunds(len(missing), funded)
            opened = len((await self._open(missing)).opened) if missing else 0
            return opened, len(rows) - len(missing)

    async def _open(self, rows: Sequence[OpenRow]) -> Mined:
        config = self._config
        with self._liquidity.reserved(config.deposit_ucent * len(rows)):
            mined = await self._desk.send(
                lambda chain: chain.open_many(
                    rows,
                    account=self._account,
                    signer=self._signer,
                    challenge_seconds=config.challenge_seconds,
                    challenge_blocks=config.challenge_blocks,
                    deposit_ucent=config.deposit_ucent,
                )
            )
            text = "opened %d of %d channels, gas %d"
            log.info(text, len(mined.opened), len(rows), mined.gas_used)
            # No timeout: what is opened must be known before anything else is.
            await self._follower.wait_block(mined.block)
        return mined


def _as_problem(error: LocalError | None) -> Problem | None:
    return None if error is None else (error.code, error.text, error.what_to_do)
