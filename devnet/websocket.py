"""WebSocket beside HTTP, on the same port: the same requests and batches, and subscriptions.

A browser lets any page open a WebSocket, so an Origin header has to be this server's own. A client
that does not read holds up nobody but itself: its connection is not read from meanwhile, and the
operating system ends it when nothing of what was sent is taken in time (`server.UNREAD_MS_MAX`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from .rpc import PARSE_ERROR, Rpc, error_response
from .subscriptions import Overtaken, Subscriptions

if TYPE_CHECKING:
    from .server import Owner

CONNECTIONS_MAX = 100
"""At one time; a client uses one."""
TRY_AGAIN_LATER = 1013
"""The close code of the WebSocket registry."""


def websocket_endpoint(
    owner: Owner, parse: Callable[[bytes], object], dumps: Callable[[object], str]
) -> Callable[[WebSocket], Awaitable[None]]:
    """The endpoint over an owner: one session for each connection, as many as the limit lets."""
    places = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def endpoint(websocket: WebSocket) -> None:
        refusal = _origin_refused(websocket)
        if refusal is not None:
            await websocket.send_denial_response(PlainTextResponse(refusal, status_code=403))
            return
        connection = object()
        try:
            places.acquire_on_behalf_of_nowait(connection)
        except trio.WouldBlock:
            text = f"{CONNECTIONS_MAX} clients are connected: close some\n"
            await websocket.send_denial_response(PlainTextResponse(text, status_code=503))
            return
        try:
            await websocket.accept()
            await _Session(owner, websocket, parse, dumps).run()
        finally:
            places.release_on_behalf_of(connection)

    return endpoint


def _origin_refused(websocket: WebSocket) -> str | None:
    origin = websocket.headers.get("origin")
    if origin is None or origin == f"http://{websocket.headers.get('host')}":
        return None
    return "pages of other origins are not answered\n"


class _Session:
    """One connection: a task that answers requests and one that tells what is subscribed to."""

    def __init__(
        self,
        owner: Owner,
        websocket: WebSocket,
        parse: Callable[[bytes], object],
        dumps: Callable[[object], str],
    ) -> None:
        self._owner = owner
        self._websocket = websocket
        self._parse = parse
        self._dumps = dumps
        self._subscriptions = Subscriptions()
        self._rpc = Rpc(owner.rpc.chain, self._subscriptions.methods())
        self._sending = trio.Lock()

    async def run(self) -> None:
        """Serve until the client goes, or is sent away because it fell too far behind."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, nursery.cancel_scope)
            await self._listen()
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            body = text.encode() if text is not None else message.get("bytes") or b""
            answer = await self._answer(body)
            if answer is not None:
                await self._send(answer)
            if await self._owner.run(self._subscriptions.answered):
                self._owner.wake()  # what came before the answer waits to be told

    async def _answer(self, body: bytes) -> str | None:
        try:
            payload = await trio.to_thread.run_sync(self._parse, body)
        except ValueError as error:
            text = f"parse error: the message is not JSON ({error})"
            return self._dumps(error_response(None, PARSE_ERROR, text))
        return await self._owner.answer(payload, self._rpc)

    async def _tell(self, everything: trio.CancelScope) -> None:
        chain = self._owner.rpc.chain
        while True:
            news = self._owner.news
            try:
                messages, more = await self._owner.run(partial(self._subscriptions.messages, chain))
            except Overtaken:
                await self._websocket.close(TRY_AGAIN_LATER, "too slow: events were lost")
                everything.cancel()
                return
            for message in messages:
                await self._send(message)
            if not more:
                await news.wait()

    async def _send(self, text: str) -> None:
        async with self._sending:
            await self._websocket.send_text(text)
