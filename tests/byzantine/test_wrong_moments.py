"""Every kind of message at every moment, to a real hub's process: refused aloud, or nothing to it.

The kinds are those of the wire's own table, so that a new message is sent here without being named.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from farthing.channels.client.wire import Wire
from farthing.channels.events import ChannelMessage
from farthing.channels.ids import ChannelId
from farthing.channels.messages import (
    Ack,
    Authenticate,
    Challenge,
    ChannelProposal,
    CloseOffer,
    CloseRequest,
    Error,
    Hello,
    Message,
    PaymentRefused,
    PaymentRequest,
    Ping,
    Pong,
    ReadingOutcome,
    Reestablish,
    Update,
)
from farthing.channels.state import Phase
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from farthing.channels.transition import TRANSITIONS

from .hub import HonestHub, be_rewarded
from .mallory import EVERY_MESSAGE, Mallory, errors, some

SILENT: dict[type[Any], str] = {
    Ping: "it is answered by a Pong",
    Pong: "an answer to nothing is nothing",
    Error: "what a wallet complains of is logged, and counted against it",
    ChannelProposal: "whoever has a channel was told of it when it connected",
    PaymentRefused: "a refusal of what was never asked refuses nothing",
    PaymentRequest: "it waits for the operator, who decides whether to pay",
}
"""What no error answers, and why; everything else is refused aloud."""

CLOSES_IN_AGREEMENT = {Phase.LIVE, Phase.DRAINING, Phase.FROZEN}
"""Where a request to close is no lie but what it says."""


def is_its_right(kind: type[Any], phase: Phase | None) -> bool:
    return kind is CloseRequest and phase in CLOSES_IN_AGREEMENT


# -- how a channel gets into each phase ------------------------------------------------------------

Reach = Callable[[HonestHub, Mallory], Awaitable[None]]


async def greeting(hub: HonestHub, mallory: Mallory) -> None:
    """Connected, and nothing shown yet."""


async def live(hub: HonestHub, mallory: Mallory) -> None:
    await mallory.greet()


async def draining(hub: HonestHub, mallory: Mallory) -> None:
    """It asks for a close and does not acknowledge what would have to be settled first."""
    mallory.acknowledges = False
    lane, mallory.theirs = mallory.theirs, []
    await mallory.say(Reestablish(channel=mallory.channel, sent=None, received=None))
    if not lane and hub.row(mallory)["rewarded_ucent"] == 0:
        await be_rewarded(mallory)
    await mallory.say(CloseRequest(channel=mallory.channel))
    await mallory.answers()


async def frozen(hub: HonestHub, mallory: Mallory) -> None:
    """The hub has signed an offer to close, and mallory does not answer it."""
    await mallory.greet()
    await mallory.say(CloseRequest(channel=mallory.channel))
    await mallory.until(lambda: any(isinstance(m, CloseOffer) for m in mallory.heard))


async def on_chain(hub: HonestHub, mallory: Mallory) -> None:
    """What the chain says is all there is to it; the hub says at once what it has to say."""
    await mallory.answers()


REACH: dict[Phase, Reach] = {
    Phase.GREETING: greeting,
    Phase.LIVE: live,
    Phase.DRAINING: draining,
    Phase.FROZEN: frozen,
    Phase.CLOSING: on_chain,
    Phase.CLOSED: on_chain,
    Phase.STOPPED: on_chain,
}
NOT_OVER_A_WIRE = {
    Phase.UNCONFIRMED: "a hub takes a channel up once the chain has confirmed it",
    Phase.DOWN: "whoever speaks is connected",
    Phase.RESTORED: "tests/end_to_end/test_restored_processes.py puts a database back",
}


def test_every_phase_is_reached_here_or_it_says_why_not() -> None:
    assert REACH.keys() | NOT_OVER_A_WIRE.keys() == set(Phase)
    assert not REACH.keys() & NOT_OVER_A_WIRE.keys()


async def prepare(hub: HonestHub, mallory: Mallory, phase: Phase) -> None:
    """What brings a channel into a phase for good."""
    async with mallory.dialled(hub.port, hub.signer):
        await mallory.greet()
        if phase is not Phase.DRAINING:
            await be_rewarded(mallory)
            await mallory.pay(700)
        if phase is Phase.STOPPED:
            mallory.acknowledges = False
            await be_rewarded(mallory)
            false = Ack(
                channel=mallory.channel, nonce=mallory.their_total.nonce, history=b"\x5a" * 32
            )
            await mallory.say(false)
            await mallory.until(lambda: "channel-stopped" in errors(mallory.heard))
    if phase in (Phase.CLOSING, Phase.CLOSED):
        await trio.to_thread.run_sync(close_on_chain, hub, mallory, phase)


def close_on_chain(hub: HonestHub, mallory: Mallory, phase: Phase) -> None:
    hub.chain(mallory).start_close(mallory.terms)
    hub.until(lambda: hub.row(mallory)["settled_ucent"] > 0)
    if phase is Phase.CLOSED:
        hub.city.warp(CHALLENGE_SECONDS_MIN + 1)
        hub.city.mine(CHALLENGE_BLOCKS_MIN + 1)
    hub.until_phase(mallory, phase.value)


@dataclass
class Said:
    """What came of one message."""

    kind: str
    codes: list[str]
    ended: bool
    is_outcome: bool


async def send_each(hub: HonestHub, mallory: Mallory, phase: Phase) -> list[Said]:
    """Bring the channel into the phase, send, and look what changed; for every kind."""
    before: dict[str, Any] | None = None
    said: list[Said] = []
    for kind in EVERY_MESSAGE:
        if is_its_right(kind, phase):
            continue
        async with mallory.dialled(hub.port, hub.signer):
            await REACH[phase](hub, mallory)
            row = await trio.to_thread.run_sync(hub.belief, mallory)
            assert row["phase"] == phase.value, kind
            before = before or row
            assert row == before, f"{said[-1:]} has changed something"
            await mallory.say(some(kind, mallory))
            heard = await reaction(mallory, kind)
            money = await trio.to_thread.run_sync(hub.money, mallory)
            assert money == {key: before[key] for key in money}, kind
            outcome = any(isinstance(m, ReadingOutcome) for m in heard)
            said.append(Said(kind.__name__, errors(heard), mallory.ended, outcome))
    return said


async def reaction(mallory: Mallory, kind: type[Any]) -> list[Message]:
    """What came of it; a refusal of a channel's core follows a commit, and so a Pong."""
    start = len(mallory.heard)
    if kind in SILENT:
        return await mallory.answers()

    def told() -> bool:
        return mallory.ended or any(
            isinstance(message, Error | ReadingOutcome) for message in mallory.heard[start:]
        )

    await mallory.until(told)
    return mallory.heard[start:]


@pytest.mark.parametrize("phase", REACH, ids=[phase.value for phase in REACH])
def test_no_message_at_a_wrong_moment_changes_anything(hub: HonestHub, phase: Phase) -> None:
    mallory = hub.take()
    trio.run(prepare, hub, mallory, phase)
    said = trio.run(send_each, hub, mallory, phase)
    silent = {kind.__name__ for kind in SILENT}
    if phase is Phase.STOPPED:
        silent.remove(ChannelProposal.__name__)  # who asks for another channel is told why not
    for one in said:
        refused = bool(one.codes) or one.is_outcome
        assert refused != (one.kind in silent), one
    assert len(said) >= len(EVERY_MESSAGE) - 1
    if phase is Phase.LIVE:
        trio.run(still_works, hub, mallory)


async def still_works(hub: HonestHub, mallory: Mallory) -> None:
    """An honest connection after all that: paid in both directions."""
    mallory.acknowledges = True
    async with mallory.dialled(hub.port, hub.signer):
        await mallory.greet()
        await be_rewarded(mallory)
        await mallory.pay(5)
        row = await trio.to_thread.run_sync(hub.row, mallory)
        assert row["received_ucent"] == mallory.total.transferred_ucent
        assert row["rewarded_ucent"] == mallory.their_total.transferred_ucent


def test_no_message_about_a_channel_of_somebody_else_does_anything(hub: HonestHub) -> None:
    mallory, victim = hub.take(), hub.take()
    trio.run(prepare, hub, victim, Phase.LIVE)
    before = hub.money(victim)
    stranger = replace(mallory, channel=victim.channel)

    async def all_of_them() -> None:
        for kind in EVERY_MESSAGE:
            if not issubclass(kind, ChannelMessage):
                continue
            for channel in (victim.channel, ChannelId(b"\x5a" * 32)):
                stranger.channel = channel
                async with stranger.dialled(hub.port, hub.signer):
                    await stranger.say(some(kind, stranger))
                    assert errors(await stranger.answers()) == ["unknown-channel"], kind

    trio.run(all_of_them)
    assert hub.money(victim) == before
    trio.run(still_works, hub, victim)


@asynccontextmanager
async def unproved(hub: HonestHub, mallory: Mallory) -> AsyncIterator[Mallory]:
    wire = Wire(await trio.open_tcp_stream("127.0.0.1", hub.port))
    mallory.begin(wire)
    try:
        yield mallory
    finally:
        await wire.finish()


def test_whoever_has_not_proved_a_key_is_told_nothing_but_that(hub: HonestHub) -> None:
    mallory = hub.take()

    async def all_of_them() -> None:
        for kind in EVERY_MESSAGE:
            if kind is Hello:
                continue
            async with unproved(hub, mallory) as stranger:
                await stranger.say(some(kind, stranger))
                heard = await stranger.answers()
                assert stranger.ended
                assert [type(m) for m in heard] in ([], [Error]), kind

    trio.run(all_of_them)
    trio.run(still_works, hub, mallory)


def test_what_is_silent_is_answered_at_once_where_it_is_answered() -> None:
    assert not any(issubclass(kind, ChannelMessage) for kind in SILENT)


def test_what_is_sent_here_is_all_that_the_protocol_has() -> None:
    assert {kind for kind in TRANSITIONS if issubclass(kind, ChannelMessage)} <= {*EVERY_MESSAGE}
    assert {Authenticate, Challenge, Update} <= {*EVERY_MESSAGE}
