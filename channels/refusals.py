"""Why the core refuses: one class per reason, whose fault it is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .errors import FarthingError, LocalError, PeerError
from .events import Send, Step
from .messages import Error
from .receipt import MalformedReceipt
from .state import OFFER_SECONDS_MAX, STALE_DIVISOR, Channel, Moment, Phase
from .voucher import Payment

_ADVICE: dict[Phase, str] = {
    Phase.STOPPED: "look at the reason for stopping; only a close without the peer is left",
    Phase.UNCONFIRMED: "wait until the chain confirms its opening",
    Phase.CLOSED: "open another channel: closed is for ever",
    Phase.CLOSING: "finish the close and open another channel",
    Phase.RESTORED: "wait two minutes of chain time: offers signed before may be forgotten",
    Phase.FROZEN: "wait until the signed close is on-chain or has expired",
    Phase.DOWN: "wait for the connection to the peer",
    Phase.GREETING: "wait until the peer has shown its newest vouchers",
    Phase.DRAINING: "a close has been asked for: no new payments",
    Phase.LIVE: "nothing of that kind is under way: begin with what comes before it",
}


class NotNow(LocalError):
    """The channel's phase does not allow what was asked."""

    code = "not-now"
    retryable = True

    def __init__(self, phase: Phase, asked: str) -> None:
        super().__init__(
            f"{asked} is not possible while the channel is {phase.value}", remedy=_ADVICE[phase]
        )
        self.phase = phase


class InsufficientBalance(LocalError):
    """The payer does not own what it wants to promise."""

    code = "insufficient-balance"

    def __init__(self, needed_ucent: int, available_ucent: int) -> None:
        super().__init__(
            f"{needed_ucent} µ¢ are needed and {available_ucent} µ¢ are available",
            remedy="ask for at most what is available, or deposit first",
        )
        self.needed_ucent = needed_ucent
        self.available_ucent = available_ucent


class NothingToPay(LocalError):
    """A payment order without payments."""

    code = "nothing-to-pay"
    remedy = "name at least one payment"


class TooManyUnacknowledged(LocalError):
    """The peer has not yet acknowledged what was sent; more would raise what is at stake."""

    code = "too-many-unacknowledged"
    remedy = "wait for the peer's acknowledgements and try again"
    retryable = True


class OutOfTurn(PeerError):
    """A message that the protocol does not allow at this point."""

    code = "out-of-turn"
    remedy = "reconnect: both sides then show each other their newest vouchers"


class FalseReceipt(PeerError):
    """A payment whose receipt cannot be read, or says another amount than is paid."""

    code = "false-receipt"
    remedy = "pay with a receipt of the schema in docs/protocol.md that states the amount"


def check_receipts(payments: Iterable[Payment]) -> None:
    """Raise `FalseReceipt` unless each receipt is of the schema and states what is paid.

    What is acknowledged must stand before an auditor: a payer could otherwise make the payee's
    books differ for the price of a microcent.
    """
    for payment in payments:
        try:
            amount_ucent = payment.receipt.fields()["amount"]
        except MalformedReceipt as error:
            raise FalseReceipt(error.text) from error
        if amount_ucent != payment.amount_ucent:
            raise FalseReceipt(
                f"a receipt states {amount_ucent} µ¢ and {payment.amount_ucent} µ¢ are paid"
            )


class StaleView(LocalError):
    """The confirmed chain view is too old to accept money on (rule 4)."""

    code = "stale-view"
    remedy = "wait until the chain can be read again; what was refused is asked for then"
    retryable = True


def stale_view(state: Channel, moment: Moment) -> StaleView | None:
    """Why nothing is accepted or co-signed now, or None where the chain view is young enough."""
    limit_seconds = state.terms.challenge_seconds // STALE_DIVISOR
    age_seconds = moment.view_age_seconds()
    if age_seconds > limit_seconds:
        age = f"is {age_seconds} s old, over the {limit_seconds} allowed"
        return StaleView(f"the chain view {age}" if moment.head_seen else "no block was read yet")
    return None


class OfferLifetime(PeerError):
    """An offer that is dead already, or would freeze the channel or hold money for too long."""

    code = "offer-lifetime"
    remedy = f"let an offer expire within {OFFER_SECONDS_MAX} s of chain time, and ask again"

    def __init__(self, expires: int, head_timestamp: int) -> None:
        super().__init__(f"the offer expires at {expires} and the chain's time is {head_timestamp}")
        self.expires = expires
        self.head_timestamp = head_timestamp


class BehindTheChain(LocalError):
    """The chain has settled more of the peer's payments than we hold, as after a restore."""

    code = "behind-the-chain"
    remedy = "send all payments again from the first that is missing, or close without agreement"

    def __init__(self, held_ucent: int, settled_ucent: int) -> None:
        super().__init__(f"{settled_ucent} µ¢ are settled and {held_ucent} µ¢ are held")
        self.held_ucent = held_ucent
        self.settled_ucent = settled_ucent


class SettlementsUnread(LocalError):
    """The peer has settled more than we hold, and by which payments was not read yet."""

    code = "settlements-unread"
    remedy = "wait until the chain's events can be read; what was refused is asked for then"
    retryable = True


def behind_the_chain(state: Channel) -> BehindTheChain | None:
    """Why no close is agreed on, which would pay less than the chain has settled already."""
    held_ucent = state.received.total.transferred_ucent
    settled_ucent = 0 if state.chain is None else state.chain.settled_ucent[state.side.other]
    return BehindTheChain(held_ucent, settled_ucent) if held_ucent < settled_ucent else None


def lifetime_problem(expires: int, moment: Moment) -> OfferLifetime | None:
    """Why an offer that expires then is not signed, or None where it lives and not too long."""
    if moment.head_timestamp < expires <= moment.head_timestamp + OFFER_SECONDS_MAX:
        return None
    return OfferLifetime(expires, moment.head_timestamp)


def say(state: Channel, error: FarthingError) -> Step:
    """Take nothing and tell the peer why."""
    message = Error(code=error.code, channel=state.id, text=error.text, what_to_do=error.what_to_do)
    return Step(state=state, effects=(Send(message=message),))


def refuse(state: Channel, error: FarthingError) -> Step:
    """Take nothing for now; once it can be taken we show our vouchers, and the peer repeats it."""
    return say(replace(state, refusing=True, asked_again=False), error)
