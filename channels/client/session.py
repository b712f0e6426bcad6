"""One authenticated connection at work: reads messages, hands them on, and notices silence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import trio

from ..errors import FarthingError
from ..events import ChannelMessage, Received
from ..ids import ChannelId
from ..messages import Error, Message, Ping, Pong
from .pace import Pace
from .wire import ConnectionLost, Wire

PING_SECONDS = 20
SILENCE_SECONDS_MAX = 60
"""Three heartbeats without a byte: the peer, or the way to it, is gone."""


class Handler(Protocol):
    """What a wallet or a hub does with messages that concern no channel's core."""

    def on_message(self, wire: Wire, message: Message) -> None:
        """Handle one message; raises `PeerError` to end the connection."""

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Handle a message for a channel that this connection does not speak for (yet)."""


class Channels(Protocol):
    """What a session needs of a driver; a watchtower, which speaks for no channel, has none."""

    def linked(self, channel: ChannelId, wire: Wire) -> bool:
        """Whether this connection speaks for the channel."""

    def receive(self, events: Iterable[tuple[ChannelId, Received]]) -> None:
        """Apply all messages of one read."""

    def unlink(self, wire: Wire) -> None:
        """Forget a connection that ended."""


async def run_session(
    wire: Wire, driver: Channels, handler: Handler, pace: Pace | None = None
) -> None:
    """Serve a connection until it ends; raises the error that ended it, this connection alone."""
    heard = _Silence()
    pace = pace or Pace()
    counted_bytes = 0
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.write_forever)
            nursery.start_soon(_heartbeat, wire, heard)
            while True:
                messages = await wire.receive()
                for part, points in pace.slices(messages):
                    if part[0] is not messages[0]:
                        await trio.lowlevel.checkpoint()  # others have a turn between the slices
                    await pace.spend(points, wire.read_bytes - counted_bytes)
                    counted_bytes = wire.read_bytes
                    heard.last = trio.current_time()
                    _dispatch(wire, driver, handler, part)
    except* FarthingError as group:
        raise await _last_word(wire, group) from None
    finally:
        driver.unlink(wire)
        await wire.finish()


class _Silence:
    def __init__(self) -> None:
        self.last = trio.current_time()


async def _heartbeat(wire: Wire, heard: _Silence) -> None:
    for token in range(2**63):
        await trio.sleep(PING_SECONDS)
        if trio.current_time() - heard.last > SILENCE_SECONDS_MAX:
            raise ConnectionLost(f"the peer was silent for {SILENCE_SECONDS_MAX} s")
        wire.send(Ping(token=token))


def _dispatch(wire: Wire, driver: Channels, handler: Handler, messages: list[Message]) -> None:
    """Hand on a read's messages in order; runs of channel messages go to the driver together."""
    run: list[tuple[ChannelId, Received]] = []
    for message in messages:
        if not isinstance(message, ChannelMessage):
            _flush(driver, run)
            _answer(wire, handler, message)
        elif driver.linked(message.channel, wire):
            run.append((message.channel, Received(message=message)))
        else:
            _flush(driver, run)
            handler.on_unlinked(wire, message)
    _flush(driver, run)


def _flush(driver: Channels, run: list[tuple[ChannelId, Received]]) -> None:
    if run:
        driver.receive(run)
        run.clear()


def _answer(wire: Wire, handler: Handler, message: Message) -> None:
    match message:
        case Ping(token=token):
            wire.send(Pong(token=token))
        case Pong():
            pass
        case _:
            handler.on_message(wire, message)


async def _last_word(wire: Wire, group: BaseExceptionGroup[FarthingError]) -> FarthingError:
    """Tell the peer why the connection ends, if it still listens; the first error of a group."""
    error = first_of(group)
    if not isinstance(error, ConnectionLost):
        with trio.move_on_after(1, shield=True):
            await say_error(wire, error)
    return error


async def say_error(wire: Wire, error: FarthingError) -> None:
    """Send an error as the connection's last message, if the peer still reads."""
    message = Error(code=error.code, channel=b"", text=error.text, what_to_do=error.what_to_do)
    try:
        await wire.say_now(message)
    except ConnectionLost:
        return  # the peer is gone already and will learn nothing more


def first_of(group: BaseExceptionGroup[FarthingError]) -> FarthingError:
    """Return the first plain error of nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, FarthingError):
        raise TypeError("a group of our errors holds something else")
    return error
