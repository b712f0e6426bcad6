"""What the hub answers where it refuses: errors, and outcomes of readings, in words for wallets."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from ..channels.errors import FarthingError, PeerError
from ..channels.ids import ChannelId
from ..channels.messages import Error, RecordOutcome
from .rewards import Priced, refused_outcome

Problem: TypeAlias = tuple[str, str, str]
"""Why a wallet is refused: code, text and remedy."""


NO_CHANNEL = refused_outcome(
    "no-channel", "this wallet has no open channel here", "join the hub, then submit again"
)


class TooManyErrors(PeerError):
    """A wallet that does nothing but complain."""

    code = "too-many-errors"
    remedy = "read what the errors say; reconnect once their cause is gone"


def stopped_error(channel: ChannelId, reason: str) -> Error:
    """Tell a wallet that its channel is not used any more, and what to do."""
    return Error(
        code="channel-stopped",
        channel=channel,
        text=f"this channel has stopped: {reason}",
        what_to_do="close it without the hub and open another: a key or a database was copied",
    )


def outcome_of(error: FarthingError) -> RecordOutcome:
    """Give an error as the outcome of a reading."""
    return refused_outcome(error.code, error.text, error.what_to_do)


def numbered(priced: Priced, first_nonce: int) -> tuple[RecordOutcome, ...]:
    """Give every paid outcome the nonce of its payment."""
    nonce = first_nonce
    outcomes = []
    for outcome in priced.outcomes:
        if outcome.amount_ucent:
            outcomes.append(replace(outcome, nonce=nonce))
            nonce += 1
        else:
            outcomes.append(outcome)
    return tuple(outcomes)
