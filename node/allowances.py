"""What one member may cost the hub in transactions: so many openings and withdrawals a day.

Rule: a member's money is never trapped by this: all that is left may always be taken out at once,
and a close, in agreement or alone, is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from ..channels.client.ledger import SENT, Ledger, Statement
from ..channels.errors import LocalError
from ..channels.ids import Address, address_to_hex
from ..channels.state import Channel, Moment, WithdrawalTerms
from .top_ups import DAY_SECONDS

OPENING: Final = "opening"
WITHDRAWAL: Final = "withdrawal"


class WithdrawalTooSmall(LocalError):
    """A withdrawal that costs a transaction for less than the hub signs."""

    code = "withdrawal-too-small"

    def __init__(self, amount_ucent: int, least_ucent: int) -> None:
        super().__init__(
            f"{amount_ucent} µ¢ are less than the {least_ucent} µ¢ that this hub signs at a time",
            remedy=f"take out at least {least_ucent} µ¢, or all that is available",
        )
        self.amount_ucent = amount_ucent
        self.least_ucent = least_ucent


class TooManyWithdrawals(LocalError):
    """A member that has had its withdrawals of the day."""

    code = "too-many-withdrawals"
    remedy = "try again on the next day (UTC) of the chain's time, or close the channel"

    def __init__(self, most: int) -> None:
        super().__init__(f"this hub signs {most} withdrawals for a member in a day")
        self.most = most


class TooManyOpenings(LocalError):
    """A member that has had its channels of the day."""

    code = "too-many-openings"
    remedy = "join again on the next day (UTC) of the chain's time, or ask the agency for a channel"

    def __init__(self, account: Address, most: int) -> None:
        super().__init__(f"{address_to_hex(account)} had {most} channels opened today")
        self.account = account
        self.most = most


class Allowances:
    """Counts openings and withdrawals of each member and day; see `driver.Countersigning`."""

    def __init__(
        self,
        ledger: Ledger,
        moment: Callable[[], Moment],
        *,
        openings_max: int,
        withdrawal_least_ucent: int,
        withdrawals_max: int,
    ) -> None:
        self._ledger = ledger
        self._moment = moment
        self._openings_max = openings_max
        self._withdrawal_least_ucent = withdrawal_least_ucent
        self._withdrawals_max = withdrawals_max
        self._day = -1
        self._counts: Counter[tuple[str, Address]] = Counter()

    def refusal(self, channel: Channel, terms: WithdrawalTerms) -> LocalError | None:
        """Why a withdrawal of the peer's is not countersigned, or None where it may be."""
        amount_ucent = terms.total_ucent - channel.withdrawn_ucent(terms.side)
        if amount_ucent < min(self._withdrawal_least_ucent, self._left_ucent(channel)):
            return WithdrawalTooSmall(amount_ucent, self._withdrawal_least_ucent)
        if self._of_today(WITHDRAWAL, channel.peer_account) >= self._withdrawals_max:
            return TooManyWithdrawals(self._withdrawals_max)
        return None

    def _left_ucent(self, channel: Channel) -> int:
        """All that the member knows to be left: a reward that is on its way may come too late."""
        signed_ucent = channel.sent.total.transferred_ucent
        on_its_way_ucent = signed_ucent - self._acknowledged_ucent(channel)
        claimed_ucent = channel.received.claimed.transferred_ucent
        return channel.peer_balance_ucent(claimed_ucent) - on_its_way_ucent

    def _acknowledged_ucent(self, channel: Channel) -> int:
        """What the hub has paid and the member has acknowledged, or all, where that is unknown."""
        nonce, signed_ucent = channel.sent.acknowledged_nonce, channel.sent.total.transferred_ucent
        if not channel.sent.unacknowledged:
            return signed_ucent
        if nonce == 0:
            return 0
        rows = self._ledger.payments(channel.id, SENT, first_nonce=nonce, last_nonce=nonce)
        # A restored hub has taken up a total without its payments.
        newest = next(rows, None)
        return signed_ucent if newest is None else newest.total.transferred_ucent

    def countersigned(self, channel: Channel) -> list[Statement]:
        """Count a withdrawal that is being countersigned."""
        return [self._one_more(WITHDRAWAL, channel.peer_account)]

    def opening_refusal(self, account: Address) -> LocalError | None:
        """Why no channel is opened for a member that asks, or None where one may be."""
        if self._of_today(OPENING, account) >= self._openings_max:
            return TooManyOpenings(account, self._openings_max)
        return None

    def opened(self, account: Address) -> list[Statement]:
        """Count a channel that was opened for a member that asked."""
        return [self._one_more(OPENING, account)]

    def _of_today(self, kind: str, account: Address) -> int:
        day = self._moment().head_timestamp // DAY_SECONDS
        if day != self._day:
            self._day = day
            self._counts.clear()
            rows = self._ledger.query(
                "SELECT kind, account, count FROM member_day WHERE day=?", (day,)
            )
            self._counts.update({(stored, Address(who)): count for stored, who, count in rows})
        return self._counts[kind, account]

    def _one_more(self, kind: str, account: Address) -> Statement:
        count = self._of_today(kind, account) + 1
        self._counts[kind, account] = count
        return (
            "INSERT OR REPLACE INTO member_day VALUES (?, ?, ?, ?)",
            (kind, account, self._day, count),
        )
