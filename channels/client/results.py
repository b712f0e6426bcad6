"""What a wallet's methods give and raise, apart from what the core itself refuses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import LocalError
from ..ids import ChannelId, to_hex
from ..state import ChainStatus, Channel, Phase


class NotJoined(LocalError):
    """There is no channel to do this on."""

    code = "not-joined"
    remedy = "join the hub first: `farthing wallet join`"


class TookTooLong(LocalError):
    """What was asked has not happened in time; it may still."""

    code = "took-too-long"
    retryable = True


class SentNoAnswer(LocalError):
    """Payments were signed and are not all acknowledged; they are spent and will arrive.

    `payments` are all that were ordered together; `payment` is the last of them.
    """

    code = "sent-no-answer"
    remedy = "do not pay again: it is resent until the hub has it; see `farthing wallet balance`"

    def __init__(self, *payments: SentPayment) -> None:
        last = payments[-1]
        waiting = [payment for payment in payments if not payment.acknowledged]
        text = f"payment {last.nonce} of {last.amount_ucent} µ¢ is sent and not acknowledged"
        if len(payments) > 1:
            text = f"{len(waiting)} of {len(payments)} payments, the last of them {last.nonce}, are"
            text += " sent and not acknowledged"
        super().__init__(text)
        self.payments = payments
        self.payment = last


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPayment:
    """A payment that we made: its lane's channel and nonce, and whether the hub holds it."""

    channel: ChannelId
    nonce: int
    amount_ucent: int
    acknowledged: bool

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "channel": to_hex(self.channel)}


def chain_status(channel: Channel) -> ChainStatus:
    """How far the channel has come on the chain that we read."""
    return ChainStatus.NEVER if channel.chain is None else channel.chain.status


def can_ask_close(channel: Channel) -> bool:
    """Whether a close by agreement can be asked for and was not."""
    phases = (Phase.LIVE, Phase.DRAINING, Phase.DOWN, Phase.GREETING)
    return not channel.we_want_close and channel.phase in phases


def channel_record(channel: Channel) -> dict[str, Any]:
    """A channel as plain values for people and programs; amounts in µ¢."""
    chain = channel.chain
    return {
        "channel": to_hex(channel.id),
        "phase": channel.phase.value,
        "sequence": channel.terms.sequence,
        "challenge_seconds": channel.terms.challenge_seconds,
        "challenge_blocks": channel.terms.challenge_blocks,
        "balance_ucent": channel.our_balance_ucent(),
        "received_ucent": channel.received.total.transferred_ucent,
        "received_payments": channel.received.total.nonce,
        "sent_ucent": channel.sent.total.transferred_ucent,
        "sent_payments": channel.sent.total.nonce,
        "acknowledged_payments": channel.sent.acknowledged_nonce,
        "withdrawn_ucent": 0 if chain is None else chain.withdrawn_ucent[channel.side],
        "settled_received_ucent": 0 if chain is None else chain.settled_ucent[channel.side.other],
        "settled_sent_ucent": 0 if chain is None else chain.settled_ucent[channel.side],
        "deadline_seconds": 0 if chain is None else chain.deadline_seconds,
        "deadline_block": 0 if chain is None else chain.deadline_block,
        "stopped": channel.stopped,
    }
