"""A small reading JSON-RPC client over HTTP, with short timeouts, bounded answers and batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol, Self

import httpx

from ...channels import bounded_json
from ...channels.bounded_json import NotJson
from ...channels.client.answer import ASKED_PLAIN, Answer
from .errors import RpcAnswerTooLarge, RpcRefused, RpcUnreachable

BATCH_CALLS_MAX = 100
"""A tenth of what Besu and geth take in one batch by default, and an answer of modest size."""

ANSWER_BYTES_MAX = 32 << 20
"""About 40,000 logs: what is more is asked for in smaller ranges of blocks."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0  # a range of logs or a batch of a hundred calls on a busy node
_WHOLE_SECONDS_MAX = 300.0
"""From its first byte to its last: an endpoint that drips must not hold an audit for ever."""


class Rpc(Protocol):
    """Asks an Ethereum node; raises `RpcUnreachable` and `RpcRefused`."""

    def call_many(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """One result for each list of parameters, in their order."""
        ...


class HttpRpc:
    """`Rpc` over HTTP; use it as a context manager, which closes its connections."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        self._url = url
        self._client = httpx.Client(timeout=timeout, transport=transport, headers=ASKED_PLAIN)
        self._batches = True
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call_many(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """Send batches; an endpoint that does not know batches is asked one by one."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH_CALLS_MAX):
            results += self._call_batch(method, calls[start : start + BATCH_CALLS_MAX])
        return results

    def _call_batch(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        if len(calls) > 1 and self._batches:
            requests = [self._request(method, params) for params in calls]
            answers = self._post(requests)
            if isinstance(answers, list):
                by_id = {_id_of(a): a for a in answers}
                return [self._result(method, by_id.get(request["id"])) for request in requests]
            self._batches = False
        return [self._result(method, self._post(self._request(method, params))) for params in calls]

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        self._calls += 1
        return {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": list(params)}

    def _post(self, body: object) -> Any:
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                content = self._read(response)
            return bounded_json.parse(content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise RpcUnreachable(f"no answer from {self._url} ({reason})") from None
        except NotJson:
            raise RpcUnreachable(f"{self._url} does not answer in JSON") from None

    def _read(self, response: httpx.Response) -> bytes:
        """The whole answer; raises `RpcAnswerTooLarge`, `RpcUnreachable`."""
        answer = Answer(ANSWER_BYTES_MAX)
        if not answer.is_plain(response.headers):
            raise RpcUnreachable(f"{self._url} compresses its answers, which was not asked for")
        give_up = time.monotonic() + _WHOLE_SECONDS_MAX
        for chunk in response.iter_bytes():
            if not answer.take(chunk):
                raise RpcAnswerTooLarge(ANSWER_BYTES_MAX)
            if time.monotonic() > give_up:
                text = f"{self._url} took over {_WHOLE_SECONDS_MAX:g} s for one answer"
                raise RpcUnreachable(text)
        return answer.content()

    def _result(self, method: str, answer: object) -> Any:
        error = answer.get("error") if isinstance(answer, dict) else None
        if error is not None:
            reason = error.get("message") if isinstance(error, dict) else error
            raise RpcRefused(method, str(reason)[:200])
        if not isinstance(answer, dict) or "result" not in answer:
            raise RpcUnreachable(f"{self._url} does not answer {method} in JSON-RPC")
        return answer["result"]


def _id_of(answer: object) -> int | None:
    """The number of a batch's answer; None for one that answers nothing that was asked."""
    number = answer.get("id") if isinstance(answer, dict) else None
    return number if type(number) is int else None
