"""One party's view of one channel: records that refuse to exist when wrong, and what they imply.

Rule: a phase that can be computed is not stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from .errors import InvariantBroken
from .ids import Address, ChannelId
from .terms import Side, Terms
from .voucher import LaneTotal, Payment, Voucher

OFFER_SECONDS = 90
"""How long our own close offers live, in chain time; 30 s under the maximum, for lagging views."""
OFFER_SECONDS_MAX = 120
"""The longest offer that either side signs: a signed offer freezes the channel that long."""
UNACKNOWLEDGED_MAX = 4096
"""Payments a payer has outstanding: what is at stake if the payee vanishes (rule 7)."""
STALE_DIVISOR = 4
"""A payee accepts nothing on a view older than this part of the challenge window (rule 4)."""


class ChainStatus(IntEnum):
    """The status bits of a channel's storage word."""

    NEVER = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainView:
    """What the contract says of a channel at a confirmed block; amounts in µ¢, by side."""

    block: int
    timestamp: int
    status: ChainStatus
    deposit_ucent: tuple[int, int] = (0, 0)
    withdrawn_ucent: tuple[int, int] = (0, 0)
    settled_ucent: tuple[int, int] = (0, 0)
    deadline_seconds: int = 0
    deadline_block: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a step happens: the local clock, the newest confirmed head, and when it was seen."""

    now: int
    head_block: int
    head_timestamp: int
    head_seen: int

    def view_age_seconds(self) -> int:
        """How old the chain view is: by the head's own time or by its arrival, the older one."""
        return self.now - min(self.head_timestamp, self.head_seen)


class Link(Enum):
    """How far this connection has come for this channel."""

    DOWN = "down"
    GREETING = "greeting"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentLane:
    """Our lane: newest signed voucher, what of it is acknowledged, and payments not yet signed."""

    voucher: Voucher | None = None
    unacknowledged: tuple[LaneTotal, ...] = ()
    acknowledged_nonce: int = 0
    unsigned: tuple[Payment, ...] = ()
    unsigned_totals: tuple[LaneTotal, ...] = ()

    @property
    def total(self) -> LaneTotal:
        """What we have signed; spent whatever the payee answers (rule 7)."""
        return LaneTotal() if self.voucher is None else self.voucher.total

    @property
    def promised(self) -> LaneTotal:
        """What we have signed or are about to sign."""
        return self.unsigned_totals[-1] if self.unsigned_totals else self.total

    @property
    def quiet(self) -> bool:
        """Whether the payee has acknowledged all of it."""
        return not self.unacknowledged and not self.unsigned


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedLane:
    """The peer's lane: newest verified voucher, and payments received but not yet verified."""

    voucher: Voucher | None = None
    unverified: tuple[Payment, ...] = ()
    unverified_totals: tuple[LaneTotal, ...] = ()

    @property
    def total(self) -> LaneTotal:
        """What the peer has verifiably promised."""
        return LaneTotal() if self.voucher is None else self.voucher.total

    @property
    def claimed(self) -> LaneTotal:
        """What the peer has promised if the newest signature verifies."""
        return self.unverified_totals[-1] if self.unverified_totals else self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTerms:
    """The content of a `Close`: both lanes' totals in µ¢ and when it expires, in chain time."""

    transferred_a_ucent: int
    transferred_b_ucent: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedClose:
    """A `Close` that we have signed, with the peer's signature once we hold it."""

    terms: CloseTerms
    ours: bytes
    theirs: bytes | None = None
    submitted_at: int = 0


class Phase(Enum):
    """What a channel can do now; computed, never stored."""

    STOPPED = "stopped"
    UNCONFIRMED = "unconfirmed"
    CLOSED = "closed"
    CLOSING = "closing"
    FROZEN = "frozen"
    DOWN = "down"
    GREETING = "greeting"
    DRAINING = "draining"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel as one party sees it.

    `refusing` holds from a refusal until the peer repeats what was refused: what it sends in
    between has a gap. `asked_again` says that we have shown our vouchers since, so that it repeats.
    """

    id: ChannelId
    terms: Terms
    side: Side
    chain: ChainView | None = None
    link: Link = Link.DOWN
    sent: SentLane = field(default_factory=SentLane)
    received: ReceivedLane = field(default_factory=ReceivedLane)
    fresh_boot: bool = True
    refusing: bool = False
    asked_again: bool = False
    we_want_close: bool = False
    peer_wants_close: bool = False
    offering: CloseTerms | None = None
    checking: SignedClose | None = None
    close: SignedClose | None = None
    stopped: str | None = None

    @property
    def our_account(self) -> Address:
        """The address that owns our money in this channel."""
        return self.terms.account(self.side)

    @property
    def peer_account(self) -> Address:
        """The address that owns the peer's money in this channel."""
        return self.terms.account(self.side.other)

    @property
    def phase(self) -> Phase:  # noqa: PLR0911 - one return per phase, in order of precedence
        """What the channel can do now."""
        if self.stopped is not None:
            return Phase.STOPPED
        if self.chain is None or self.chain.status is ChainStatus.NEVER:
            return Phase.UNCONFIRMED
        if self.chain.status is ChainStatus.CLOSED:
            return Phase.CLOSED
        if self.chain.status is ChainStatus.CLOSING:
            return Phase.CLOSING
        if self.close is not None or self.offering is not None:
            return Phase.FROZEN
        if self.link is Link.DOWN:
            return Phase.DOWN
        if self.link is Link.GREETING:
            return Phase.GREETING
        if self.we_want_close or self.peer_wants_close:
            return Phase.DRAINING
        return Phase.LIVE

    def owned_ucent(self, side: Side) -> int:
        """Deposit − withdrawals of a party, in µ¢, as the confirmed chain says."""
        if self.chain is None:
            return 0
        return self.chain.deposit_ucent[side] - self.chain.withdrawn_ucent[side]

    def our_balance_ucent(self) -> int:
        """What we can spend now: verified income counts, everything promised is spent."""
        return (
            self.owned_ucent(self.side)
            + self.received.total.transferred_ucent
            - self.sent.promised.transferred_ucent
        )

    def peer_balance_ucent(self, claimed_ucent: int) -> int:
        """What the peer would have left after promising `claimed_ucent` in total."""
        return self.owned_ucent(self.side.other) + self.sent.total.transferred_ucent - claimed_ucent

    def totals_ab(self) -> tuple[int, int]:
        """Both lanes' verified totals in µ¢, A's first."""
        ours, theirs = self.sent.total.transferred_ucent, self.received.total.transferred_ucent
        return (ours, theirs) if self.side is Side.A else (theirs, ours)

    def check_invariants(self) -> None:
        """Raise `InvariantBroken` with what would be lost; run after every step."""
        sent = self.sent
        if sent.unsigned and self.our_balance_ucent() < 0:
            raise InvariantBroken("we promise more than we own: the payee could not be paid")
        nonces = [total.nonce for total in (*sent.unacknowledged, *sent.unsigned_totals)]
        if nonces != list(range(sent.acknowledged_nonce + 1, sent.promised.nonce + 1)):
            raise InvariantBroken(
                "payments between acknowledged and promised are missing or doubled"
            )
        if sent.unacknowledged and sent.unacknowledged[-1] != sent.total:
            raise InvariantBroken("the newest signature does not cover the newest payment")
        if len(self.received.unverified) != len(self.received.unverified_totals):
            raise InvariantBroken("a received payment has no total and could be counted wrongly")
