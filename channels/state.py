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
"""How long our own offers live, in chain time; 30 s under the maximum, for lagging views."""
OFFER_SECONDS_MAX = 120
"""The longest offer that either side signs: it freezes a channel, or holds money, that long."""
ACT_AGAIN_SECONDS = 15
"""Chain time after which what both signed is submitted, or an unanswered offer sent, again."""
DOUBT_UNKNOWN = 0
"""A doubt whose end is set by the first confirmed block that is seen; no block has this time."""
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
class Settlement:
    """What a `Settled` event says of a lane: its payer's own words, which the chain does not check.

    The amounts are the lane's totals on the chain before it and after it, in µ¢.
    """

    before_ucent: int
    transferred_ucent: int
    nonce: int
    history: bytes

    def is_of(self, total: LaneTotal) -> bool:
        """Whether it settles just this total of the lane, history and all."""
        ours = (self.nonce, self.transferred_ucent, self.history)
        return ours == (total.nonce, total.transferred_ucent, total.history)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalTerms:
    """The content of a `Withdrawal`: whose account, its cumulative µ¢, and when it expires."""

    side: Side
    total_ucent: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A withdrawal under way, reserved from the moment that its signing is decided (rule 3).

    It is worth something to the account's side once it holds both signatures. `acted_at` is the
    chain time at which it was last offered or submitted.
    """

    terms: WithdrawalTerms
    ours: bytes | None = None
    theirs: bytes | None = None
    acted_at: int = 0


Withdrawals = tuple[Withdrawal | None, Withdrawal | None]
"""One for each side's account, A's first."""


class Phase(Enum):
    """What a channel can do now; computed, never stored."""

    STOPPED = "stopped"
    UNCONFIRMED = "unconfirmed"
    CLOSED = "closed"
    CLOSING = "closing"
    RESTORED = "restored"
    FROZEN = "frozen"
    DOWN = "down"
    GREETING = "greeting"
    DRAINING = "draining"
    LIVE = "live"


TALKING = frozenset({Phase.DRAINING, Phase.LIVE})
"""The phases in which both sides have shown their vouchers and nothing is signed to end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel as one party sees it.

    `refusing` holds from a refusal until the peer repeats what was refused: what it sends in
    between has a gap. `asked_again` says that we have shown our vouchers since, so that it repeats.
    `settlements` are those of the peer's lane above what we hold of it, oldest first, as far as
    they were read. `untold_from` is the first received payment that the user is not told of: it is
    part of what is settled already, and not all of that has come (see `restoring`).
    `doubt_ends` is set where this party may have forgotten what it signed (rule 5): the chain time
    up to which a forgotten offer may live.
    """

    id: ChannelId
    terms: Terms
    side: Side
    chain: ChainView | None = None
    link: Link = Link.DOWN
    sent: SentLane = field(default_factory=SentLane)
    received: ReceivedLane = field(default_factory=ReceivedLane)
    settlements: tuple[Settlement, ...] = ()
    untold_from: int | None = None
    fresh_boot: bool = True
    refusing: bool = False
    asked_again: bool = False
    we_want_close: bool = False
    peer_wants_close: bool = False
    offering: CloseTerms | None = None
    checking: SignedClose | None = None
    close: SignedClose | None = None
    withdrawals: Withdrawals = (None, None)
    doubt_ends: int | None = None
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
        if self.doubt_ends is not None:
            return Phase.RESTORED
        if self.close is not None or self.offering is not None:
            return Phase.FROZEN
        if self.link is Link.DOWN:
            return Phase.DOWN
        if self.link is Link.GREETING:
            return Phase.GREETING
        if self.we_want_close or self.peer_wants_close:
            return Phase.DRAINING
        return Phase.LIVE

    @property
    def told_nonce(self) -> int:
        """The newest received payment that the user may be told of."""
        return self.received.total.nonce if self.untold_from is None else self.untold_from - 1

    @property
    def has_offers(self) -> bool:
        """Whether an offer of ours is out: each confirmed block may end it, and not only news."""
        return any(offer is not None for offer in (self.close, *self.withdrawals))

    @property
    def waits_for_time(self) -> bool:
        """Whether the mere passing of chain time changes something, without news of the channel."""
        return self.refusing or self.has_offers or self.doubt_ends is not None

    def withdrawn_ucent(self, side: Side) -> int:
        """What a party has taken out, in µ¢: on-chain, or by an offer that may yet be (rule 3)."""
        pending = self.withdrawals[side]
        return max(
            0 if self.chain is None else self.chain.withdrawn_ucent[side],
            0 if pending is None else pending.terms.total_ucent,
        )

    def owned_ucent(self, side: Side) -> int:
        """Deposit − withdrawals of a party, in µ¢; the deposit as the confirmed chain says."""
        if self.chain is None:
            return 0
        return self.chain.deposit_ucent[side] - self.withdrawn_ucent(side)

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
        ours, theirs = self.withdrawals[self.side], self.withdrawals[self.side.other]
        if ours is not None and ours.ours is None and self.our_balance_ucent() < 0:
            raise InvariantBroken("we would withdraw what we have promised: it could not be paid")
        claimed_ucent = self.received.claimed.transferred_ucent
        if (
            theirs is not None
            and theirs.ours is None
            and self.peer_balance_ucent(claimed_ucent) < 0
        ):
            raise InvariantBroken("the peer would withdraw more than it owns: we would pay for it")
        nonces = [total.nonce for total in (*sent.unacknowledged, *sent.unsigned_totals)]
        if nonces != list(range(sent.acknowledged_nonce + 1, sent.promised.nonce + 1)):
            raise InvariantBroken(
                "payments between acknowledged and promised are missing or doubled"
            )
        if sent.unacknowledged and sent.unacknowledged[-1] != sent.total:
            raise InvariantBroken("the newest signature does not cover the newest payment")
        if len(self.received.unverified) != len(self.received.unverified_totals):
            raise InvariantBroken("a received payment has no total and could be counted wrongly")
        if self.told_nonce > self.received.total.nonce:
            raise InvariantBroken("the user is told of a payment that did not come")
