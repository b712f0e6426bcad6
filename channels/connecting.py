"""The beginning and end of a connection: both sides show their newest vouchers before all else.

Rule: whoever is shown its own signature on what it does not know has been restored, or cloned.
"""

from __future__ import annotations

from dataclasses import replace

from .closing import close_if_quiet
from .events import (
    Effect,
    Linked,
    RecognisedOwn,
    RecogniseOwn,
    Send,
    SendStored,
    Step,
    TellAcknowledged,
    TellStopped,
    Unlinked,
)
from .messages import Error, Reestablish, SignedTotal
from .state import Channel, Link, Moment, ReceivedLane, SentLane
from .voucher import LaneTotal, UnverifiedVoucher, Voucher
from .withdrawing import drop_unsigned, offer_again


def linked(state: Channel, _: Linked, __: Moment) -> Step:
    """Show the peer our newest vouchers, before anything else on this connection."""
    state = replace(
        state,
        link=Link.GREETING,
        refusing=False,
        asked_again=False,
        peer_wants_close=False,
        received=ReceivedLane(voucher=state.received.voucher),
    )
    return Step(state=state, effects=(Send(message=reestablish(state)),))


def unlinked(state: Channel, _: Unlinked, __: Moment) -> Step:
    """Drop what only this connection could have finished: none of it is signed or promised."""
    received = ReceivedLane(voucher=state.received.voucher)
    sent = replace(state.sent, unsigned=(), unsigned_totals=())
    return Step(
        state=replace(
            drop_unsigned(state),
            link=Link.DOWN,
            received=received,
            sent=sent,
            peer_wants_close=False,
            offering=None,
            checking=None,
        )
    )


def reestablish(state: Channel) -> Reestablish:
    """Our newest vouchers of both lanes, as a message."""
    return Reestablish(
        channel=state.id, sent=_show(state.sent.voucher), received=_show(state.received.voucher)
    )


def _show(voucher: Voucher | None) -> SignedTotal | None:
    if voucher is None:
        return None
    return SignedTotal(
        total=voucher.total, conditions=voucher.conditions, signature=voucher.signature
    )


def on_reestablish(state: Channel, message: Reestablish, moment: Moment) -> Step:
    """Learn what the peer holds of our lane, and send it what it lacks."""
    shown = message.received
    ours = state.sent
    shown_nonce = 0 if shown is None else shown.total.nonce
    if shown is not None and _unknown_to(ours, shown.total):
        return Step(
            state=state,
            effects=(
                RecogniseOwn(
                    voucher=UnverifiedVoucher(
                        channel=state.id,
                        payer=state.our_account,
                        total=shown.total,
                        conditions=shown.conditions,
                        signature=shown.signature,
                    )
                ),
            ),
        )
    effects: list[Effect] = []
    sent = ours
    if shown_nonce > ours.acknowledged_nonce:
        sent = acknowledge(ours, shown_nonce)
        effects.append(TellAcknowledged(nonce=shown_nonce))
    if shown_nonce < ours.total.nonce:
        effects.append(SendStored(first_nonce=shown_nonce + 1))
    state = replace(state, sent=sent, link=Link.LIVE, fresh_boot=False)
    effects.extend(offer_again(state, moment))
    closing = close_if_quiet(state, moment)
    return Step(state=closing.state, effects=(*effects, *closing.effects))


def _unknown_to(ours: SentLane, shown: LaneTotal) -> bool:
    """Whether a total of our lane is one we did not make, as far as memory holds our totals.

    Whoever shows one must prove it by our signature, or it would stop a channel by a mere claim.
    """
    if shown.nonce > ours.total.nonce:
        return True
    known = {total.nonce: total for total in (*ours.unacknowledged, ours.total)}
    return known.get(shown.nonce, shown) != shown


def on_recognised_own(state: Channel, event: RecognisedOwn, moment: Moment) -> Step:
    """Handle our own signature on something we do not know: a restored database, or a clone.

    A restored database lacks the newest payments; one that has others in their place is a fork.
    """
    shown, ours = event.voucher.total, state.sent.total
    lacking = shown.nonce > ours.nonce and shown.transferred_ucent > ours.transferred_ucent
    if not state.fresh_boot or not lacking:
        return stop(state, "the peer holds our signature on payments that this wallet never made")
    sent = SentLane(voucher=event.voucher, acknowledged_nonce=shown.nonce)
    return close_if_quiet(replace(state, sent=sent, link=Link.LIVE, fresh_boot=False), moment)


def stop(state: Channel, reason: str) -> Step:
    """Sign and accept nothing any more on this channel, and say why."""
    error = Error(
        code="channel-stopped",
        channel=state.id,
        text=reason,
        what_to_do="stop paying on this channel and ask a person: a key or a database was copied",
    )
    return Step(
        state=replace(state, stopped=reason),
        effects=(Send(message=error), TellStopped(reason=reason)),
    )


def acknowledge(sent: SentLane, nonce: int) -> SentLane:
    """Our lane once the peer holds everything up to `nonce`."""
    remaining = tuple(total for total in sent.unacknowledged if total.nonce > nonce)
    return replace(sent, unacknowledged=remaining, acknowledged_nonce=nonce)
