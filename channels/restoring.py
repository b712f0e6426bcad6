"""Payments of a lane of which we hold less than its payer has settled, as after a restore.

Rule: they are no news before they have passed through every settlement above what we held, each at
its number, total and history. A payer could otherwise replay other payments up to what is settled:
the user would deliver for them, and they would never pay anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from .connecting import stop
from .events import Effect, RecordReceived, Step, TellReceived, TellStored
from .ids import to_hex
from .refusals import SettlementsUnread, behind_the_chain
from .state import ChainStatus, ChainView, Channel, Settlement
from .voucher import LaneTotal, Payment


def needs_settlements(state: Channel, view: ChainView) -> bool:
    """Whether the settlements of the peer's lane must be read to take payments at this view."""
    is_behind = state.received.total.transferred_ucent < view.settled_ucent[state.side.other]
    return is_behind and view.status is ChainStatus.OPEN and state.stopped is None


def are_all(settlements: Sequence[Settlement], held_ucent: int, settled_ucent: int) -> bool:
    """Whether these lead from what is held to what is settled, without a gap."""
    if not settlements or settlements[0].before_ucent > held_ucent:
        return False
    unbroken = all(a.transferred_ucent == b.before_ucent for a, b in pairwise(settlements))
    return unbroken and settlements[-1].transferred_ucent == settled_ucent


def above(settlements: Sequence[Settlement], held_ucent: int) -> tuple[Settlement, ...]:
    """Those that a lane with this total has not passed."""
    return tuple(one for one in settlements if one.transferred_ucent > held_ucent)


def unread(state: Channel) -> SettlementsUnread | None:
    """Why no payment is taken now, or None where we know what it must agree with."""
    behind = behind_the_chain(state)
    if behind is None or are_all(state.settlements, behind.held_ucent, behind.settled_ucent):
        return None
    return SettlementsUnread(f"{behind.text}, and the chain's events of it are not read yet")


def awaits_settlements(state: Channel) -> bool:
    """Whether the chain's events are to be asked for, of a head that was read before too."""
    return (
        state.chain is not None
        and needs_settlements(state, state.chain)
        and unread(state) is not None
    )


def contradicted(state: Channel, totals: Sequence[LaneTotal]) -> Settlement | None:
    """The settlement that the next payments pass by; `totals` are the lane's after each of them."""
    newest = totals[-1]
    by_nonce = {total.nonce: total for total in totals}
    for one in state.settlements:
        if newest.nonce < one.nonce and newest.transferred_ucent < one.transferred_ucent:
            return None
        found = by_nonce.get(one.nonce)
        if found is None or not one.is_of(found):
            return one
    return None


def keep_as_evidence(state: Channel, record: RecordReceived, passed: Settlement) -> Step:
    """Stop a channel whose payer signed two histories; `state` holds the second one, untold.

    Both stand under its signature: one in our database, one on the chain.
    """
    state = _untold(state, record.totals[0].nonce)
    newest = state.received.total
    text = (
        f"the peer settled {passed.transferred_ucent} µ¢ as payment {passed.nonce} with history"
        f" {to_hex(passed.history)}, and has signed another history up to payment {newest.nonce}"
        f" ({newest.transferred_ucent} µ¢): its payments from {state.told_nonce + 1} on are kept"
        " as evidence and are told to nobody as received"
    )
    stopped = stop(state, text)
    return Step(state=stopped.state, effects=(record, *stopped.effects))


def _untold(state: Channel, first_nonce: int) -> Channel:
    return replace(state, untold_from=state.untold_from or first_nonce)


def news(
    state: Channel, first_nonce: int, payments: tuple[Payment, ...]
) -> tuple[Channel, tuple[Effect, ...]]:
    """Tell of payments that were just taken, unless a settlement is left that speaks of them.

    What the payer settled before we had it is told once it has come up to the last settlement: it
    is then the history that was settled. An earlier one may be of another history.
    """
    held = state.received.total
    state = replace(state, settlements=above(state.settlements, held.transferred_ucent))
    if state.untold_from is None and not state.settlements:
        return state, (TellReceived(first_nonce=first_nonce, payments=payments),)
    return tell_all(_untold(state, first_nonce))


def tell_all(state: Channel) -> tuple[Channel, tuple[Effect, ...]]:
    """Tell of everything that was held back, once nothing is settled that we do not hold."""
    if state.untold_from is None or state.stopped is not None or behind_the_chain(state):
        return state, ()
    told = TellStored(first_nonce=state.told_nonce + 1, last_nonce=state.received.total.nonce)
    return replace(state, untold_from=None), (told,)
