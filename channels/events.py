"""What may happen to a channel, and what follows from it: the core's two edges.

Events: `Received` (peer), `Observed…` (chain), `Asked…` (user), `Elapsed` (clock), `Linked`,
and the answers to effects that only the shell can carry out (`Signed`, `Verified`, …).
Effects: the shell makes the new state durable before it carries out one of them, and every
effect may happen twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .ids import ChannelId
from .messages import Ack as AckMessage
from .messages import (
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Reestablish,
    Update,
    WithdrawalAccept,
    WithdrawalOffer,
)
from .state import (
    ChainView,
    Channel,
    CloseTerms,
    Settlement,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from .voucher import LaneTotal, Payment, UnverifiedVoucher, Voucher

ChannelMessage: TypeAlias = (
    Reestablish
    | Update
    | AckMessage
    | CloseRequest
    | CloseOffer
    | CloseAccept
    | WithdrawalOffer
    | WithdrawalAccept
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """An authenticated connection to the peer stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlinked:
    """The connection to the peer is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The peer sent a message that concerns this channel."""

    message: ChannelMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedChannel:
    """The confirmed chain says this of the channel.

    `settlements` are those of the peer's lane above what we hold, oldest first; none where they
    are not needed, or could not be read so far.
    """

    view: ChainView
    settlements: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Elapsed:
    """A new confirmed head arrived, or time passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPay:
    """The user wants to make these payments, all or none."""

    payments: tuple[Payment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedClose:
    """The user wants to close in agreement with the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWithdraw:
    """The user wants to take this much of its own balance out of the open channel."""

    amount_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Our signer signed our lane's newest total; covers all payments asked before."""

    voucher: Voucher


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A voucher of the peer's lane verified; covers all payments received up to it."""

    voucher: Voucher


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverifiable:
    """The newest signature received does not verify: everything unverified is dropped."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognisedOwn:
    """The peer showed a voucher of our own lane that we do not know, and it is our signature."""

    voucher: Voucher


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSigned:
    """Our signer signed this close."""

    terms: CloseTerms
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseVerified:
    """The peer's signature on this close verified."""

    terms: CloseTerms
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalSigned:
    """Our signer signed this withdrawal."""

    terms: WithdrawalTerms
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalVerified:
    """The peer's signature on this withdrawal verified."""

    terms: WithdrawalTerms
    signature: bytes


Event: TypeAlias = (
    Linked
    | Unlinked
    | Received
    | ObservedChannel
    | Elapsed
    | AskedPay
    | AskedClose
    | AskedWithdraw
    | Signed
    | Verified
    | Unverifiable
    | RecognisedOwn
    | CloseSigned
    | CloseVerified
    | WithdrawalSigned
    | WithdrawalVerified
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignVoucher:
    """Sign our lane at this total; answer with `Signed`. Only the newest of several counts."""

    total: LaneTotal


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyVoucher:
    """Check the peer's signature; answer with `Verified` or `Unverifiable`. The newest counts."""

    voucher: UnverifiedVoucher


@dataclass(frozen=True, slots=True, kw_only=True)
class RecogniseOwn:
    """Check whether we signed this; answer with `RecognisedOwn` or nothing."""

    voucher: UnverifiedVoucher


@dataclass(frozen=True, slots=True, kw_only=True)
class SignClose:
    """Sign this close; answer with `CloseSigned`."""

    terms: CloseTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyClose:
    """Check the peer's signature on this close; answer with `CloseVerified` or nothing."""

    terms: CloseTerms
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignWithdrawal:
    """Sign this withdrawal; answer with `WithdrawalSigned`."""

    terms: WithdrawalTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyWithdrawal:
    """Check the peer's signature on it; answer with `WithdrawalVerified` or nothing."""

    terms: WithdrawalTerms
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSent:
    """Store these payments of our lane, together with the state, before anything is sent."""

    payments: tuple[Payment, ...]
    totals: tuple[LaneTotal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReceived:
    """Store these payments of the peer's lane, together with the state, before the answer."""

    payments: tuple[Payment, ...]
    totals: tuple[LaneTotal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send this to the peer, once the state is durable."""

    message: ChannelMessage | Error


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStored:
    """Send all stored payments of our lane from this nonce on, as updates."""

    first_nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitClose:
    """Submit the co-signed close to the chain; harmless when somebody else did already."""

    close: SignedClose


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitWithdrawal:
    """Submit the co-signed withdrawal to the chain; harmless when it was done already."""

    withdrawal: Withdrawal


@dataclass(frozen=True, slots=True, kw_only=True)
class TellReceived:
    """Tell the user that these payments came in, verified and durable."""

    first_nonce: int
    payments: tuple[Payment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TellStored:
    """Tell the user of stored payments that it was not told of when they came in."""

    first_nonce: int
    last_nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TellAcknowledged:
    """Tell the user that the peer holds all our payments up to this nonce."""

    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWithdrawal:
    """Tell the user how our own withdrawal ended: taken on-chain, or dead and free again."""

    terms: WithdrawalTerms
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TellStopped:
    """Tell the user that this channel signs and accepts nothing any more, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """End the connection: what the peer sent cannot be trusted."""

    channel: ChannelId
    reason: str


Effect: TypeAlias = (
    SignVoucher
    | VerifyVoucher
    | RecogniseOwn
    | SignClose
    | VerifyClose
    | SignWithdrawal
    | VerifyWithdrawal
    | RecordSent
    | RecordReceived
    | Send
    | SendStored
    | SubmitClose
    | SubmitWithdrawal
    | TellReceived
    | TellStored
    | TellAcknowledged
    | TellWithdrawal
    | TellStopped
    | Disconnect
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step gives: the state to make durable, then the effects to carry out."""

    state: Channel
    effects: tuple[Effect, ...] = ()
