"""The wire messages: one record each.

How they are written is in codecs.py; what they are for, in docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .ids import Address, ChannelId
from .voucher import LaneTotal, Payment

PROTOCOL_VERSION = 1
FEATURES = 0
"""No optional feature exists yet; unknown bits are ignored, the version is not."""

SUBMISSION_BYTES = 16
REQUEST_BYTES = 16
READINGS_BYTES_MAX = 48 * 1024
OUTCOMES_MAX = 64
"""As many as a pack of readings may hold records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The dialer's first message: what it speaks, which chain, who it is and whom it wants."""

    version: int
    features: int
    chain_id: int
    contract: Address
    signer: Address
    peer: Address
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """The listener's answer to `Hello`."""

    version: int
    features: int
    signer: Address
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """A signature over the connection's transcript; the dialer's comes first."""

    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """What went wrong and what to do next; `channel` is empty when it concerns none."""

    code: str
    channel: bytes
    text: str
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Asks for a `Pong` with the same token."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answers a `Ping`."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelProposal:
    """A wallet asks the hub to open a channel with its account, under at least this window."""

    account: Address
    challenge_seconds: int
    challenge_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTerms:
    """The terms of a channel between these two signers, as opened on-chain."""

    account_a: Address
    signer_a: Address
    account_b: Address
    signer_b: Address
    challenge_seconds: int
    challenge_blocks: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTotal:
    """A lane's newest voucher inside `Reestablish`: its total, conditions and signature."""

    total: LaneTotal
    conditions: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reestablish:
    """Each side's newest voucher sent and received; nothing is signed on a lane before it."""

    channel: ChannelId
    sent: SignedTotal | None
    received: SignedTotal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Payments with their receipts and one signature over the voucher after the last of them."""

    channel: ChannelId
    first_nonce: int
    signature: bytes
    payments: tuple[Payment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """All payments up to `nonce` are verified and durable at the payee; names the history."""

    channel: ChannelId
    nonce: int
    history: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitReadings:
    """A SenML pack under an id that makes its resubmission idempotent."""

    id: bytes
    format: int
    senml: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOutcome:
    """What became of one record: paid (amount and nonce) or refused (code, text, remedy)."""

    amount_ucent: int
    nonce: int
    code: str
    text: str
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOutcome:
    """One outcome for each record of the submission, in order."""

    id: bytes
    outcomes: tuple[RecordOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """The payee asks to be paid; a payment whose receipt names `id` answers it."""

    channel: ChannelId
    id: bytes
    amount_ucent: int
    purpose: str
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRefused:
    """The asked party will not pay that request."""

    id: bytes
    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """The sender makes no further payments and asks for a `CloseOffer` once all is quiet."""

    channel: ChannelId


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOffer:
    """A signed `Close`; both totals must equal the receiver's own view."""

    channel: ChannelId
    transferred_a_ucent: int
    transferred_b_ucent: int
    expires: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAccept:
    """The second signature on the same `Close`."""

    channel: ChannelId
    transferred_a_ucent: int
    transferred_b_ucent: int
    expires: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalOffer:
    """A `Withdrawal` of the sender's account, signed by it; `total_ucent` is cumulative."""

    channel: ChannelId
    account: Address
    total_ucent: int
    expires: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalAccept:
    """The second signature on the same `Withdrawal`."""

    channel: ChannelId
    account: Address
    total_ucent: int
    expires: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherDeposit:
    """A payee hands a watchtower its newest voucher and the terms of the channel it is of."""

    channel: ChannelId
    account_a: Address
    signer_a: Address
    account_b: Address
    signer_b: Address
    challenge_seconds: int
    challenge_blocks: int
    sequence: int
    nonce: int
    transferred_ucent: int
    history: bytes
    conditions: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherKept:
    """The watchtower holds this voucher durably; only what was deposited is ever named."""

    channel: ChannelId
    nonce: int
    transferred_ucent: int


Message: TypeAlias = (
    Hello
    | Challenge
    | Authenticate
    | Error
    | Ping
    | Pong
    | ChannelProposal
    | ChannelTerms
    | Reestablish
    | Update
    | Ack
    | SubmitReadings
    | ReadingOutcome
    | PaymentRequest
    | PaymentRefused
    | CloseRequest
    | CloseOffer
    | CloseAccept
    | WithdrawalOffer
    | WithdrawalAccept
    | VoucherDeposit
    | VoucherKept
)
