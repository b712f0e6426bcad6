"""How a wallet takes money out: of an open channel in agreement with the hub, and by a claim.

Rule: what a method was asked for is durable before it waits; a wallet that is killed meanwhile goes
on by itself, and its balance shows what is under way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import trio

from ..errors import LocalError
from ..events import AskedWithdraw, Send
from ..ids import ChannelId, to_hex
from ..messages import Error
from ..state import Channel, WithdrawalTerms
from ..withdrawing import offer_again
from .connection import Connection
from .driver import Driver
from .follower import Follower
from .guard import Guard
from .pulse import Pulse

OFFER_AGAIN_SECONDS: Final = 2.0
"""After a refusal that may pass; by this clock, for some chains make no block while nobody sends.
The hub looks at the chain more often."""

LAGGING_SECONDS: Final = 15.0
"""How long a refusal for what the hub's view lacks may come from that view's being behind ours."""

FINAL_REFUSALS: Final = frozenset(
    {
        *("nothing-to-withdraw", "amount-out-of-range"),
        *("withdrawal-too-small", "too-many-withdrawals"),
    }
)
"""Answers to an offer that no newer view of the chain changes. Every other error about the channel
is about something else, or passes."""

LAGGING_REFUSALS: Final = frozenset({"insufficient-balance"})
"""Answers that a newer view may change: a deposit that we have seen confirmed, and the hub not."""


class WithdrawalNotTaken(LocalError):
    """A withdrawal that the hub did not sign in time, or that the chain did not take in time."""

    code = "withdrawal-not-taken"
    remedy = "its amount is free again: ask once more, or close the channel"


class WithdrawalRefused(LocalError):
    """The hub will not sign a withdrawal, and says why."""

    code = "withdrawal-refused"

    def __init__(self, reason: str, terms: WithdrawalTerms) -> None:
        super().__init__(
            f"the hub refuses the withdrawal: {reason}",
            remedy=(
                f"its amount stays reserved until chain time {terms.expires} has passed, as the"
                " hub could sign it until then: see `farthing wallet status`, then ask again"
            ),
        )
        self.terms = terms


class NothingToClaim(LocalError):
    """No refused payout waits for the account."""

    code = "nothing-to-claim"
    remedy = "nothing is left to do: see `farthing wallet balance` for what the account holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """A withdrawal that is on-chain: µ¢ taken now, and in total out of this channel."""

    channel: ChannelId
    amount_ucent: int
    total_ucent: int

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "channel": to_hex(self.channel)}


class TakingOut:
    """Withdrawals and claims of one wallet."""

    def __init__(
        self,
        driver: Driver,
        connection: Connection,
        follower: Follower,
        guard: Guard,
        pulse: Pulse,
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._follower = follower
        self._guard = guard
        self._pulse = pulse

    async def withdraw(self, channel_id: ChannelId, amount_ucent: int) -> Withdrawn:
        """Withdraw and wait until our own reading of the chain shows it.

        Raises `NotNow`, `InsufficientBalance`, `WithdrawalPending`, `AmountOutOfRange`, `StaleView`
        before anything is signed; then `WithdrawalRefused`, `WithdrawalNotTaken`.
        """
        self._driver.feed(channel_id, AskedWithdraw(amount_ucent=amount_ucent))
        self._connection.refused.pop(channel_id, None)  # an answer to this one comes later
        terms = _pending(self._driver.get(channel_id))
        if terms is None:
            raise RuntimeError("a withdrawal was asked for and is not under way")
        await self._driver.wait_durable()
        refusal = await self._ended(channel_id, terms)
        state = self._driver.get(channel_id)
        taken_ucent = 0 if state.chain is None else state.chain.withdrawn_ucent[terms.side]
        if taken_ucent >= terms.total_ucent:
            return Withdrawn(
                channel=channel_id, amount_ucent=amount_ucent, total_ucent=terms.total_ucent
            )
        if refusal is not None:
            raise WithdrawalRefused(refusal.text, terms)
        raise WithdrawalNotTaken(f"the withdrawal of {amount_ucent} µ¢ died at {terms.expires}")

    async def _ended(self, channel_id: ChannelId, terms: WithdrawalTerms) -> Error | None:
        """Wait until it is taken or dead, or finally refused: then the refusal.

        What is refused for now is offered again, with the signature that it has.
        """
        first_refused: float | None = None
        while True:
            with trio.move_on_after(OFFER_AGAIN_SECONDS):
                await self._pulse.until(lambda: self._is_decided(channel_id, terms))
            if _pending(self._driver.get(channel_id)) != terms:
                return None
            refused = self._connection.refused.pop(channel_id, None)
            if refused is None:
                continue
            now = trio.current_time()
            if refused.code in FINAL_REFUSALS:
                return refused
            if refused.code in LAGGING_REFUSALS:
                first_refused = now if first_refused is None else first_refused
                if now - first_refused >= LAGGING_SECONDS:
                    return refused
            self._follower.poke()
            for effect in offer_again(self._driver.get(channel_id), self._follower.moment()):
                if isinstance(effect, Send):
                    self._connection.send(effect.message)

    def _is_decided(self, channel_id: ChannelId, terms: WithdrawalTerms) -> bool:
        refused = self._connection.refused.get(channel_id)
        if refused is not None and refused.code in FINAL_REFUSALS:
            return True
        return _pending(self._driver.get(channel_id)) != terms

    async def claim(self) -> int:
        """Take what the contract could not pay out before; returns µ¢.

        Raises `NothingToClaim`, `ChainError`.
        """
        await self._follower.refresh()
        waiting_ucent = self._claimable_ucent()
        if waiting_ucent == 0:
            raise NothingToClaim("no refused payout waits for this account")
        await self._guard.claim()
        self._follower.poke()
        await self._pulse.until(lambda: self._claimable_ucent() < waiting_ucent)
        return waiting_ucent

    def _claimable_ucent(self) -> int:
        funds = self._follower.funds
        return 0 if funds is None else funds.claimable_ucent


def _pending(channel: Channel) -> WithdrawalTerms | None:
    pending = channel.withdrawals[channel.side]
    return None if pending is None else pending.terms
