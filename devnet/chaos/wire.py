"""The network between wallets and hub, and what goes wrong on it: a TCP proxy in a thread.

It passes on whole frames, so that it can also double and swap them; the frames of the handshake
are left alone. What it does to a connection it does to all that there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import trio

from ...channels.frames import LENGTH_BYTES
from .schedule import Fault

GREETING_FRAMES = 2
"""Frames of the handshake in each direction."""
READ_BYTES = 2**16
DELAY_SECONDS = 0.25
"""Added to every read: a bad mobile connection."""
START_SECONDS = 10


class Network:
    """Listens on a port of its own and passes on to the hub's, or does not."""

    def __init__(self, hub_port: int) -> None:
        self._hub_port = hub_port
        self._fault: Fault | None = None
        self._calm = trio.Event()
        self._streams: set[trio.SocketStream] = set()
        self._cuts = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._started = threading.Event()
        self._stop = trio.Event()
        self.port = 0
        self._thread = threading.Thread(target=lambda: trio.run(self._run), daemon=True)

    def start(self) -> None:
        """Listen; returns once the port is known."""
        self._thread.start()
        self._started.wait(START_SECONDS)

    def stop(self) -> None:
        """End every connection and the thread."""
        self._call(self._stop.set)
        self._thread.join(START_SECONDS)

    def begin(self, fault: Fault) -> None:
        """Let something go wrong; it does when this returns."""
        self._call(lambda: self._begin(fault))

    def end(self) -> None:
        """Be a good network again."""
        self._call(self._end)

    def _call(self, action: Callable[[], None]) -> None:
        """Do something in the network's own thread, and wait until it is done."""
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        if self._token is not None:
            self._token.run_sync_soon(act)
            done.wait(START_SECONDS)

    def _begin(self, fault: Fault) -> None:
        self._end()
        self._fault = fault
        self._calm = trio.Event()
        if fault is Fault.WIRE_DROP:
            self._drop_all()
        elif fault is Fault.WIRE_CUT:
            self._cuts = len(self._streams)

    def _end(self) -> None:
        self._fault = None
        self._cuts = 0
        self._calm.set()

    def _drop_all(self) -> None:
        for stream in self._streams:
            stream.socket.close()
        self._streams.clear()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            self._started.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    async def _serve(self, wallet: trio.SocketStream) -> None:
        if self._fault is Fault.WIRE_DROP:
            await trio.aclose_forcefully(wallet)
            return
        try:
            hub = await trio.open_tcp_stream("127.0.0.1", self._hub_port)
        except OSError:  # it is down: so is what passes on to it
            await trio.aclose_forcefully(wallet)
            return
        both = {wallet, hub}
        self._streams |= both
        try:
            async with wallet, hub, trio.open_nursery() as nursery:
                for source, target in ((wallet, hub), (hub, wallet)):
                    nursery.start_soon(self._pass_on, source, target, nursery.cancel_scope)
        finally:
            self._streams -= both

    async def _pass_on(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Pass on until one end is gone, or the way between them is."""
        frames = _Frames()
        # Either end may be gone, which is an end as well.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(READ_BYTES):
                whole = frames.feed(data)
                await self._hinder()
                if self._cuts and frames.past_greeting and whole:
                    self._cuts -= 1
                    await target.send_all(whole[0][: len(whole[0]) // 2])
                    break
                if frames.past_greeting:
                    whole = self._reorder(whole)
                if whole:
                    await target.send_all(b"".join(whole))
        scope.cancel()

    async def _hinder(self) -> None:
        if self._fault is Fault.WIRE_STALL:
            await self._calm.wait()
        elif self._fault is Fault.WIRE_DELAY:
            await trio.sleep(DELAY_SECONDS)

    def _reorder(self, frames: list[bytes]) -> list[bytes]:
        match self._fault:
            case Fault.WIRE_DOUBLE:
                return [frame for frame in frames for _ in range(2)]
            case Fault.WIRE_SWAP:
                return frames[::-1]
            case _:
                return frames


class _Frames:
    """Cuts one direction of a connection into whole frames, length included."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0

    @property
    def past_greeting(self) -> bool:
        """Whether the handshake's frames were read before the newest ones."""
        return self._before >= GREETING_FRAMES

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Take bytes in, give the frames that are whole."""
        self._before = self._seen
        self._buffer += data
        frames = []
        while len(self._buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[:end]))
            del self._buffer[:end]
        self._seen += len(frames)
        return frames
