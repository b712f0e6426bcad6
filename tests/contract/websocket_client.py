"""A WebSocket client for tests: trio and wsproto, every message in the test's hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    RejectConnection,
    Request,
    TextMessage,
)

SECONDS_MAX = 20


class Refused(Exception):
    """The server answered the handshake with an HTTP error."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class Closed(Exception):
    """The server closed the connection."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class WebSocketClient:
    """One connection; `ask` leaves notifications that come meanwhile in `told`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.told: list[Any] = []
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def greet(self, host: str, headers: list[tuple[bytes, bytes]]) -> None:
        await self.stream.send_all(
            self._wire.send(Request(host=host, target="/", extra_headers=headers))
        )
        event = await self._event()
        if isinstance(event, RejectConnection):
            raise Refused(event.status_code)
        assert isinstance(event, AcceptConnection), event

    async def send(self, message: str | bytes) -> None:
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        await self.stream.send_all(self._wire.send(event))

    async def receive(self) -> Any:
        """The next message, whole."""
        text = ""
        while True:
            event = await self._event()
            if isinstance(event, CloseConnection):
                raise Closed(event.code)
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                return json.loads(text)

    async def answer(self) -> Any:
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message.get("method") == "eth_subscription":
                self.told.append(message["params"])
            else:
                return message

    async def ask(self, method: str, *params: object) -> Any:
        """The result of a request that must succeed."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [*params]}
        await self.send(json.dumps(request))
        answer = await self.answer()
        assert "error" not in answer, answer
        return answer["result"]

    async def notified(self, count: int) -> list[Any]:
        """The next notifications: their `params`."""
        while len(self.told) < count:
            message = await self.receive()
            assert message["method"] == "eth_subscription"
            self.told.append(message["params"])
        told, self.told = self.told[:count], self.told[count:]
        return told

    async def _event(self) -> Event:
        while not self._events:
            with trio.fail_after(SECONDS_MAX):
                received = await self.stream.receive_some(65_536)
            self._wire.receive_data(received or None)
            self._events += self._wire.events()
        return self._events.pop(0)


@asynccontextmanager
async def connected(url: str, **headers: str) -> AsyncIterator[WebSocketClient]:
    """A connection to the devnet at a URL, with these headers besides its own."""
    host, port = url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        client = WebSocketClient(stream)
        name = headers.pop("host", f"{host}:{port}")
        await client.greet(name, [(key.encode(), value.encode()) for key, value in headers.items()])
        yield client
