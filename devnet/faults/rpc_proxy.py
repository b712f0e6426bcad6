"""A JSON-RPC endpoint in front of another one that misbehaves as it is told, while it runs.

    python -m farthing.devnet.faults.rpc_proxy --upstream http://127.0.0.1:8545 --port 0

prints one line of JSON with its URL. GET /faults says what is switched on; POST /faults with
`{"faults": [{"kind": "lagging", "blocks": 3}]}` replaces it; POST /release passes on what was held.
Kinds: see `rpc_faults.RpcFault`. The seed decides when a fault of a rate below 1 strikes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import trio

from .rpc_faults import (
    BEHIND,
    GARBLED,
    SENDING,
    Fault,
    RpcFault,
    UnknownFault,
    answer_beyond,
    answered,
    beyond,
    encoded,
    garbled,
    hash_of_raw,
    hidden,
    lied,
    read_fault,
    refused,
    rewound,
)

HEAD_BYTES_MAX: Final = 64 << 10
BODY_BYTES_MAX: Final = 16 << 20
"""More than the devnet takes; this tool stands on loopback, in front of it."""
UPSTREAM_SECONDS: Final = 60.0
HELD_MAX: Final = 10_000
"""Transactions kept back at one time."""

_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}


class _Cut(Exception):
    """The connection is to end without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    body: bytes


class RpcProxy:
    """The endpoint; `async with` it, give `url` to whom it is to mislead, and `set` its faults."""

    def __init__(self, upstream: str, *, seed: int = 0, port: int = 0) -> None:
        self._upstream = upstream
        self._port = port
        self._dice = random.Random(seed)  # noqa: S311 - a schedule that can be repeated, no secret
        self._faults: tuple[Fault, ...] = ()
        self._stopped_at: int | None = None
        self._held: list[str] = []
        self._nursery_manager = trio.open_nursery()
        self._changed = trio.Event()
        self.url = ""
        self.calls: Counter[str] = Counter()
        """How often each method was asked for."""
        self.struck: Counter[RpcFault] = Counter()
        """How often each fault changed an answer."""

    async def __aenter__(self) -> Self:
        # No client-wide timeout: a devnet that mines many blocks takes its time.
        # In threads: a call that is cancelled would leave httpx's generators half-way.
        self._http = httpx.Client(timeout=UPSTREAM_SECONDS, trust_env=False)
        self._nursery = await self._nursery_manager.__aenter__()
        (listener,) = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        host, port = listener.socket.getsockname()
        self.url = f"http://{host}:{port}"
        self._nursery.start_soon(trio.serve_listeners, self._serve, [listener])
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        self._nursery.cancel_scope.cancel()
        try:
            return await self._nursery_manager.__aexit__(*error)
        finally:
            self._http.close()

    # -- switching ------------------------------------------------------------------------------

    async def set(self, *faults: Fault | RpcFault) -> None:
        """Misbehave in these ways and no other from now on; none at all without arguments."""
        made = tuple(each if isinstance(each, Fault) else Fault(kind=each) for each in faults)
        stops = any(fault.kind is RpcFault.STOPPED for fault in made)
        # Before the switch: where it stops is what is newest now.
        self._stopped_at = await self._newest() if stops else None
        self._faults = made
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def release(self) -> int:
        """Pass on the transactions that were held, oldest first; returns how many the node took."""
        held, self._held = self._held, []
        taken = 0
        for raw in held:
            answer = await self._forward(_sending(raw))
            taken += "result" in answer
        return taken

    @property
    def held(self) -> int:
        """How many transactions are kept back."""
        return len(self._held)

    def _strikes(self, kinds: Iterable[RpcFault]) -> Fault | None:
        """The first fault of some kinds that strikes now, if any."""
        wanted = frozenset(kinds)
        for fault in self._faults:
            if fault.kind in wanted and self._dice.random() < fault.rate:
                self.struck[fault.kind] += 1
                return fault
        return None

    # -- answering ------------------------------------------------------------------------------

    async def _answer(self, body: bytes) -> tuple[int, bytes]:
        try:
            request = json.loads(body)
        except ValueError:
            return 400, encoded(refused({}, "parse error"))
        if isinstance(request, list):
            answers = [json.loads((await self._answer_one(each))[1]) for each in request]
            return 200, encoded(answers)
        return await self._answer_one(request)

    async def _answer_one(self, request: dict[str, Any]) -> tuple[int, bytes]:
        method = str(request.get("method"))
        self.calls[method] += 1
        while self._strikes([RpcFault.HANGING]) is not None:
            await self._changed.wait()  # the client has a timeout; whoever waits is answered then
        if self._strikes([RpcFault.CUT]) is not None:
            raise _Cut
        fault = self._strikes(GARBLED)
        if fault is not None:
            return garbled(request, fault.kind)
        if method == "eth_sendRawTransaction":
            return 200, encoded(await self._send(request))
        answer = await self._look(request)
        for each in self._faults:
            if each.kind not in SENDING | BEHIND and self._dice.random() < each.rate:
                lie = lied(request, answer, each, self._dice)
                self.struck[each.kind] += lie != answer
                answer = lie
        return 200, encoded(answer)

    async def _look(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = self._strikes(BEHIND)
        if fault is None:
            return await self._forward(request)
        newest = await self._newest()
        head = max(newest - fault.blocks, 0)
        if fault.kind is RpcFault.STOPPED:
            head = newest if self._stopped_at is None else min(self._stopped_at, newest)
        asked = rewound(request, head)
        if beyond(asked, head):
            return answer_beyond(request)
        return hidden(request, await self._forward(asked), head)

    async def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        (raw,) = request["params"]
        fault = self._strikes(SENDING)
        kind = None if fault is None else fault.kind
        if kind is RpcFault.SEND_REFUSED:
            return refused(request, "transaction refused by the endpoint")
        if kind is RpcFault.SEND_FORGOTTEN:
            return answered(request, hash_of_raw(raw))
        if kind is RpcFault.SEND_HELD:
            if len(self._held) < HELD_MAX:
                self._held.append(raw)
            return answered(request, hash_of_raw(raw))
        answer = await self._forward(request)
        if kind is RpcFault.SEND_DOUBLED:
            await self._forward(request)
        if kind is RpcFault.SEND_UNANSWERED:
            raise _Cut
        return answer

    async def _newest(self) -> int:
        answer = await self._forward(
            {"jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": []}
        )
        return int(answer["result"], 16)

    async def _forward(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            ask = partial(self._http.post, self._upstream, json=request)
            answer: dict[str, Any] = (await trio.to_thread.run_sync(ask)).json()
        except (httpx.HTTPError, ValueError) as error:
            raise _Cut from error
        return answer

    # -- HTTP -----------------------------------------------------------------------------------

    async def _serve(self, stream: trio.SocketStream) -> None:
        buffered = bytearray()
        try:
            while True:
                request = await _read(stream, buffered)
                if request is None:
                    return
                status, body = await self._route(request)
                await stream.send_all(_response(status, body))
        except (_Cut, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _route(self, request: _Request) -> tuple[int, bytes]:
        match request.method, request.path:
            case "POST", "/":
                return await self._answer(request.body)
            case "GET", "/faults":
                return 200, encoded({"faults": [_record(fault) for fault in self._faults]})
            case "POST", "/faults":
                try:
                    record = json.loads(request.body)
                    await self.set(*(read_fault(each) for each in record["faults"]))
                except (ValueError, LookupError, TypeError, UnknownFault) as error:
                    return 400, encoded({"error": str(error)})
                return 200, encoded({"faults": [_record(fault) for fault in self._faults]})
            case "POST", "/release":
                return 200, encoded({"released": await self.release()})
            case _:
                return 404, encoded({"error": "POST / is JSON-RPC; /faults and /release control"})


def _record(fault: Fault) -> dict[str, Any]:
    return {
        "kind": fault.kind.value,
        "rate": fault.rate,
        "blocks": fault.blocks,
        "seconds": fault.seconds,
    }


def _sending(raw: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 0, "method": "eth_sendRawTransaction", "params": [raw]}


async def _read(stream: trio.SocketStream, buffered: bytearray) -> _Request | None:
    """The connection's next request, None at its end; what came after it stays in `buffered`."""
    while b"\r\n\r\n" not in buffered:
        chunk = await stream.receive_some()
        if not chunk or len(buffered) > HEAD_BYTES_MAX:
            return None
        buffered += chunk
    head, _, rest = bytes(buffered).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    method, path, _ = first.split(" ", 2)
    size = int(headers.get("content-length", "0"))
    if size > BODY_BYTES_MAX:
        return None
    body = bytearray(rest)
    while len(body) < size:
        chunk = await stream.receive_some()
        if not chunk:
            return None
        body += chunk
    buffered[:] = body[size:]
    return _Request(method=method, path=urlsplit(path).path or "/", body=bytes(body[:size]))


def _response(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _run(arguments: argparse.Namespace) -> None:
    async with RpcProxy(arguments.upstream, seed=arguments.seed, port=arguments.port) as proxy:
        await proxy.set(*(read_fault(json.loads(text)) for text in arguments.fault))
        print(json.dumps({"rpc": proxy.url}), flush=True)  # noqa: T201 - the ready line
        await trio.sleep_forever()


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="farthing.devnet.faults.rpc_proxy", description=__doc__)
    parser.add_argument("--upstream", required=True, help="the JSON-RPC URL that is passed on to")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--seed", type=int, default=0, help="of faults with a rate below 1")
    parser.add_argument(
        "--fault", action="append", default=[], help='a fault from the start, as JSON: {"kind": …}'
    )
    try:
        trio.run(_run, parser.parse_args(arguments))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
