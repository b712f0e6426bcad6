"""What the confirmed chain and the clock do to a channel: offers end, and waiting things go on."""

from __future__ import annotations

from dataclasses import replace

from .closing import close_if_quiet, drop_dead_close
from .connecting import reestablish
from .events import Effect, Elapsed, ObservedChannel, Send, Step, SubmitClose
from .refusals import stale_view
from .restoring import above, tell_all, unread
from .state import (
    ACT_AGAIN_SECONDS,
    DOUBT_UNKNOWN,
    OFFER_SECONDS_MAX,
    TALKING,
    ChainStatus,
    ChainView,
    Channel,
    Moment,
)
from .withdrawing import end_withdrawals, push_withdrawals


def observed_channel(state: Channel, event: ObservedChannel, moment: Moment) -> Step:
    """Take in what a confirmed block says; an older block than the last one says nothing."""
    known = state.chain
    if known is not None and event.view.block < known.block:
        return Step(state=state)
    if known is not None and _revives_offers(known, event.view):
        state = replace(state, doubt_ends=DOUBT_UNKNOWN)
    held_ucent = state.received.total.transferred_ucent
    settlements = above(event.settlements, held_ucent)
    state, told = tell_all(replace(state, chain=event.view, settlements=settlements))
    result = elapsed(state, Elapsed(), moment)
    return Step(state=result.state, effects=(*told, *result.effects))


def _revives_offers(known: ChainView, view: ChainView) -> bool:
    """Whether confirmed blocks were replaced such that an offer that had ended may live again.

    One ends when it is taken, when its channel closes, or when its time has passed. Where any of
    these is undone, which offers there were is forgotten: it is as after a restore (rule 5).
    """
    reopened = known.status in (ChainStatus.CLOSING, ChainStatus.CLOSED) and view.status in (
        ChainStatus.NEVER,
        ChainStatus.OPEN,
    )
    given_back = any(
        new < old for old, new in zip(known.withdrawn_ucent, view.withdrawn_ucent, strict=True)
    )
    return reopened or given_back or view.timestamp < known.timestamp


def _less_doubtful(state: Channel, moment: Moment) -> Channel:
    """End the doubt of a party that may have forgotten an offer, once all such offers are dead.

    The first confirmed head that it sees sets when that is: no offer lives longer (rule 5). That
    head may lag behind the one by which an offer was signed: a clock that is ahead of it counts.
    """
    if state.doubt_ends is None or moment.head_timestamp == 0:
        return state
    latest = max(moment.head_timestamp, moment.now) + OFFER_SECONDS_MAX
    if state.doubt_ends == DOUBT_UNKNOWN or latest < state.doubt_ends:  # a clock was put right
        return replace(state, doubt_ends=latest)
    return replace(state, doubt_ends=None) if moment.head_timestamp > state.doubt_ends else state


def elapsed(state: Channel, _: Elapsed, moment: Moment) -> Step:
    """End what has ended, and do again what had no effect so far."""
    state, told = end_withdrawals(state)
    effects: list[Effect] = [*told]
    thawed = drop_dead_close(_less_doubtful(state, moment))
    if thawed is not state:
        closing = close_if_quiet(thawed, moment)
        state = closing.state
        effects.extend(closing.effects)
    state, pushed = push_withdrawals(state, moment)
    effects.extend(pushed)
    close = state.close
    if (
        close is not None
        and close.theirs is not None
        and state.chain is not None
        and state.chain.status is not ChainStatus.CLOSED
        and close.submitted_at + ACT_AGAIN_SECONDS <= moment.head_timestamp <= close.terms.expires
    ):
        close = replace(close, submitted_at=moment.head_timestamp)
        state = replace(state, close=close)
        effects.append(SubmitClose(close=close))
    if (
        state.refusing
        and not state.asked_again
        and state.phase in TALKING
        and stale_view(state, moment) is None
        and unread(state) is None
    ):
        state = replace(state, asked_again=True)
        effects.append(Send(message=reestablish(state)))
    return Step(state=state, effects=tuple(effects))
