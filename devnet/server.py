"""The server: JSON-RPC on POST / and by WebSocket on /, on loopback only.

It signs for anybody who can talk to it, so a web page must not be able to: no CORS, requests
only as application/json, and the Host header has to name this machine.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_http
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from .errors import CannotListen, NotLoopback, PortInUse
from .explorer.pages import explorer_routes
from .rpc import INVALID_REQUEST, PARSE_ERROR, Rpc, error_response
from .websocket import websocket_endpoint

BODY_BYTES_MAX = 5 * 1024 * 1024
"""geth's limit; four times the largest transaction taken, as hex."""
BATCH_MAX = 1_000
"""geth's limit."""
BODY_SECONDS_MAX = 30
"""On loopback even the largest body takes milliseconds."""
UNREAD_MS_MAX = 10_000
"""A client on this machine that takes nothing of its answer for so long is disconnected."""
IDLE_SECONDS = 120
"""geth's limit: longer than any client pauses between two polls."""
REQUESTS_PER_CONNECTION_MAX = 10**9
"""In effect none: a connection closed after a number of requests would look like a fault."""

CONTENT_TYPES = ("application/json", "application/json-rpc", "application/jsonrequest")

DEPTH_MAX = 32
"""A batch of calls with access lists is 6 deep."""
BRACKETS_MAX = 100_000
"""A hundred for each request of the largest batch."""

# Strings whole (they may hold brackets; the last one may lack its end), and the brackets between.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)

Result = TypeVar("Result")


class Owner:
    """The one that touches the chain: work goes to a thread, one piece at a time, in order."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self.news = trio.Event()
        """Set, and replaced by a new one, whenever the chain or its interval changed."""
        self._turn = trio.CapacityLimiter(1)
        self._told = self._state()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run a piece of work when its turn comes; it is never left half done by a cancellation."""
        try:
            return await trio.to_thread.run_sync(work, limiter=self._turn)
        finally:
            state = self._state()
            if state != self._told:
                self._told = state
                self.wake()

    def wake(self) -> None:
        """Let everybody who waits for news look again."""
        self.news.set()
        self.news = trio.Event()

    def _state(self) -> tuple[int, int]:
        return self.rpc.chain.journal.end, self.rpc.chain.interval_ms

    async def answer(self, payload: object, rpc: Rpc | None = None) -> str | None:
        """Answer a request object or a batch, as JSON; None where nothing is to be answered.

        `rpc`: that of a connection with methods of its own.
        """
        rpc = rpc or self.rpc
        if not isinstance(payload, list):
            return await self.run(partial(_answer_one, rpc, payload))
        if not payload:
            return _dumps(error_response(None, INVALID_REQUEST, "empty batch"))
        if len(payload) > BATCH_MAX:
            text = f"batch too large: {len(payload)} requests, at most {BATCH_MAX}"
            return _dumps(error_response(None, INVALID_REQUEST, text))
        # One turn for each, so that a batch does not keep others waiting.
        answers = [await self.run(partial(_answer_one, rpc, each)) for each in payload]
        answered = [answer for answer in answers if answer is not None]
        return f"[{','.join(answered)}]" if answered else None


def _answer_one(rpc: Rpc, request: object) -> str | None:
    answer = rpc.answer(request)
    return None if answer is None else _dumps(answer)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 lets the system choose.

    Raises `NotLoopback`, `PortInUse`, `CannotListen`.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise NotLoopback(host) from None
    if not address.is_loopback:
        raise NotLoopback(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted devnet takes its port again although old connections linger in TIME_WAIT;
        # on Linux a port that somebody listens on stays refused.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Where the system lacks it, a client that does not read keeps its
        # connection; nothing is queued for it either way.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS_MAX)
        listener.bind((str(address), port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port) from error
        raise CannotListen(host, port, error.strerror or str(error)) from error
    except OverflowError as error:
        listener.close()
        raise CannotListen(host, port, "a port is a number from 0 to 65535") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL under which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def application(owner: Owner) -> Starlette:
    """The ASGI application over an owner."""

    async def post(request: Request) -> Response:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in CONTENT_TYPES:
            return _refusal(415, "send the request as content-type application/json")
        try:
            with trio.fail_after(BODY_SECONDS_MAX):
                body = await _body(request)
        except trio.TooSlowError:
            return _refusal(408, f"the body took longer than {BODY_SECONDS_MAX} seconds")
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return _refusal(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
        try:
            payload = await trio.to_thread.run_sync(parse, body)
        except ValueError as error:
            text = f"parse error: the body is not JSON ({error})"
            return _json(_dumps(error_response(None, PARSE_ERROR, text)))
        answer = await owner.answer(payload)
        return Response(status_code=204) if answer is None else _json(answer)

    return Starlette(
        routes=[
            Route("/", post, methods=["POST"]),
            WebSocketRoute("/", websocket_endpoint(owner, parse, _dumps)),
            *explorer_routes(owner),
        ],
        middleware=[
            # A page that rebinds its own name to 127.0.0.1 still sends that name.
            Middleware(
                TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "::1", "[::1]"]
            )
        ],
    )


def parse(body: bytes) -> object:
    """Read JSON of bounded depth; raises `ValueError`.

    py-evm raises Python's recursion limit to 100,000: json would run out of the C stack and end the
    process long before it. So the depth is counted first.
    """
    depth = brackets = 0
    for found in _TOKENS.finditer(body):
        token = found.group()
        if token in (b"[", b"{"):
            depth += 1
            brackets += 1
        elif token in (b"]", b"}"):
            depth -= 1
        if depth > DEPTH_MAX or brackets > BRACKETS_MAX:
            raise ValueError(
                f"deeper than {DEPTH_MAX} or more than {BRACKETS_MAX} lists and objects"
            )
    payload: object = json.loads(body)
    return payload


async def _body(request: Request) -> bytes | None:
    """The body, or None as soon as it is too large."""
    received = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            received += chunk
            if len(received) > BODY_BYTES_MAX:
                return None
    return bytes(received)


def _dumps(answer: object) -> str:
    return json.dumps(answer, separators=(",", ":"))


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status_code=status, media_type="application/json")


def _refusal(status: int, text: str) -> Response:
    return _json(_dumps(error_response(None, INVALID_REQUEST, text)), status)


async def serve_rpc(
    owner: Owner, listener: socket.socket, until: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Serve until cancelled, or until told: then what is under way is answered first.

    Takes over the listening socket and closes it.
    """
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_SECONDS
    config.websocket_max_message_size = BODY_BYTES_MAX
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION_MAX
    await serve_http(
        application(owner),  # type: ignore[arg-type]  # Starlette is an ASGI app
        config,
        shutdown_trigger=until,
    )
