"""Plain records of an audit: what the chain said, what the receipts say, what was found.

Money is µ¢, times are seconds of chain time, blocks are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ...channels.ids import Address, ChannelId
from ...channels.receipt import Receipt
from ...channels.terms import Side


class Severity(StrEnum):
    """Whether a finding keeps the audit from tying out."""

    FAILURE = "failure"
    INFORMATION = "information"


class Code(StrEnum):
    """The reason of a finding. Part of the interface: never renamed."""

    MALFORMED_LINE = "malformed-line"
    MALFORMED_RECEIPT = "malformed-receipt"
    AMOUNT_DIFFERS = "amount-differs"
    EQUIVOCATION = "equivocation"
    UNKNOWN_CHANNEL = "unknown-channel"
    WRONG_PARTIES = "wrong-parties"
    MISSING_RECEIPT = "missing-receipt"
    SETTLEMENT_DIFFERS = "settlement-differs"
    CLOSE_DIFFERS = "close-differs"
    BLOCK_BEFORE_OPENING = "block-before-opening"
    BLOCK_AFTER_SETTLEMENT = "block-after-settlement"
    BLOCK_DECREASES = "block-decreases"
    TIME_DIFFERS = "time-differs"
    PAYEE_NOT_MEMBER = "payee-not-member"
    MISSTATED = "misstated"
    EVENTS_DO_NOT_CHAIN = "events-do-not-chain"
    STATE_DIFFERS = "state-differs"
    CHANNEL_UNBALANCED = "channel-unbalanced"
    PAYOUT_CLAMPED = "payout-clamped"
    PAYOUT_DIFFERS = "payout-differs"
    BALANCE_SHORT = "balance-short"
    TOOK_TOO_MUCH = "took-too-much"
    WITHDREW_TOO_MUCH = "withdrew-too-much"
    UNSETTLED = "unsettled"
    UNSETTLED_AT_CLOSE = "unsettled-at-close"
    AFTER_BLOCK = "after-block"
    DONATION = "donation"

    @property
    def severity(self) -> Severity:
        """Information only where nothing contradicts anything."""
        return Severity.INFORMATION if self in _INFORMATION else Severity.FAILURE


_INFORMATION = frozenset(
    {Code.MISSTATED, Code.UNSETTLED, Code.UNSETTLED_AT_CLOSE, Code.AFTER_BLOCK, Code.DONATION}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the audit found; `text` alone is enough for a reader to look for it."""

    code: Code
    text: str
    subject: str = ""
    """What it is about: a file and line, a lane's nonces, an account, the contract."""
    channel: ChannelId | None = None
    payer: Address | None = None
    nonce: int | None = None
    """The first payment concerned, where payments are."""

    @property
    def severity(self) -> Severity:
        """Follows from the code."""
        return self.code.severity


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """One block: everything is judged as it stood at its end."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A channel was opened with a first deposit of party A."""

    block: int
    channel: ChannelId
    account_a: Address
    account_b: Address
    sequence: int
    deposit_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposited:
    """A party's deposit grew to `total_ucent`."""

    block: int
    channel: ChannelId
    account: Address
    amount_ucent: int
    total_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A lane was raised to a total that its payer claims to stand for `history`."""

    block: int
    channel: ChannelId
    payer: Address
    nonce: int
    before_ucent: int
    transferred_ucent: int
    history: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """A party took money out of an open channel, `total_ucent` so far."""

    block: int
    channel: ChannelId
    account: Address
    amount_ucent: int
    total_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStarted:
    """A challenge window began."""

    block: int
    channel: ChannelId


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A channel ended and paid out all it held."""

    block: int
    channel: ChannelId
    transferred_ucent: tuple[int, int]
    payout_ucent: tuple[int, int]
    cooperative: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """A payment out of the contract that the token refused; it waits to be claimed."""

    block: int
    channel: ChannelId
    account: Address
    amount_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A refused payment was claimed."""

    block: int
    account: Address
    amount_ucent: int


ChannelEvent = Opened | Deposited | Settled | Withdrawn | CloseStarted | Closed | Credited | Claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What the registry held about an address, from `block` on."""

    block: int
    account: Address
    role: int
    status: int
    valid_until: int
    """Last second of validity; 0 without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """What the contract itself holds about a channel; pairs are party A's and B's figure."""

    status: int
    transferred_ucent: tuple[int, int]
    deposit_ucent: tuple[int, int]
    withdrawn_ucent: tuple[int, int]

    @property
    def locked_ucent(self) -> int:
        """What the contract owes this channel's parties."""
        if self.status not in (STATUS_OPEN, STATUS_CLOSING):
            return 0
        return sum(self.deposit_ucent) - sum(self.withdrawn_ucent)


STATUS_OPEN, STATUS_CLOSING, STATUS_CLOSED = 1, 2, 3
"""Of a channel, as contracts/lanes.vy numbers them; 0 is one that was never opened."""

MEMBER_ACTIVE = 1
"""Status of a member, as contracts/member_registry.vy numbers it."""
MEMBER_HUB = 3
"""Role of an agency's hub, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainView:
    """All that an audit reads from the chain, as of one block."""

    block: BlockRef
    events: tuple[ChannelEvent, ...]
    """Of payment_channels, in the chain's order."""
    memberships: tuple[Membership, ...]
    """Every change of the registry, in the chain's order."""
    channels_opened: int
    """How many channels the contract says it ever opened."""
    states: Mapping[ChannelId, ChannelState]
    members: Mapping[Address, Membership]
    """What the registry itself answers about the accounts of the channels."""
    claimable_ucent: Mapping[Address, int]
    balance_ucent: int
    """Tokens that payment_channels owns."""
    timestamps: Mapping[int, int]
    """Seconds of the blocks that receipts name, up to the audited one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRecord:
    """One payment as a receipts file tells it."""

    place: str
    """File and line."""
    payee: Address
    nonce: int
    amount_ucent: int
    """What the line says was paid."""
    receipt: Receipt
    stated_ucent: int | None
    """What the receipt inside says was paid; None, as the next two, where it cannot be read."""
    block: int | None
    at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneId:
    """One direction of one channel."""

    channel: ChannelId
    payer: Address


LaneReceipts = dict[int, tuple[ReceiptRecord, ...]]
"""By nonce; more than one record where files tell different payments of one nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """All that the receipts files hold, and what was wrong with their lines."""

    lanes: Mapping[LaneId, LaneReceipts]
    findings: tuple[Finding, ...] = ()
    count: int = 0
    """Payments, each counted once however many files tell of it."""
    paid_ucent: int = 0
    blocks: frozenset[int] = frozenset()
    """Every block that a receipt names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What the chain says about one direction of a channel."""

    id: LaneId
    side: Side
    payee: Address
    settlements: tuple[Settled, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What the events say about one channel; pairs are party A's and B's figure."""

    opened: Opened
    lanes: tuple[Lane, Lane]
    deposits: tuple[tuple[Deposited, ...], tuple[Deposited, ...]] = ((), ())
    withdrawals: tuple[tuple[Withdrawn, ...], tuple[Withdrawn, ...]] = ((), ())
    closing: bool = False
    closed: Closed | None = None

    @property
    def id(self) -> ChannelId:
        """The channel's id."""
        return self.opened.channel

    @property
    def accounts(self) -> tuple[Address, Address]:
        """The accounts of party A and B."""
        return self.opened.account_a, self.opened.account_b

    def deposited_ucent(self, side: Side) -> int:
        """All that was ever paid in for that party."""
        first = self.opened.deposit_ucent if side is Side.A else 0
        return first + sum(event.amount_ucent for event in self.deposits[side])

    def withdrawn_ucent(self, side: Side) -> int:
        """All that this party took out while the channel was open."""
        return sum(event.amount_ucent for event in self.withdrawals[side])

    def settled_ucent(self, side: Side) -> int:
        """The lane's newest settled total; a cooperative close may have gone beyond it."""
        settlements = self.lanes[side].settlements
        return settlements[-1].transferred_ucent if settlements else 0

    def final_ucent(self, side: Side) -> int:
        """The lane's total that the chain pays by."""
        return self.closed.transferred_ucent[side] if self.closed else self.settled_ucent(side)

    def payout_ucent(self, side: Side) -> int:
        """What the close paid that party; 0 while the channel is not closed."""
        return self.closed.payout_ucent[side] if self.closed else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The events of all channels, sorted by channel."""

    channels: Mapping[ChannelId, Channel]
    credited_ucent: Mapping[Address, int] = field(default_factory=dict)
    """What waits to be claimed, by the events."""
