"""One JSON-RPC endpoint over HTTP: bounded requests, and answers that are checked before use.

Rule: whatever the endpoint answers, the caller gets a value of the asked kind or a `ChainError`.
Source: https://www.jsonrpc.org/specification and https://ethereum.github.io/execution-apis/.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import trio

from .. import bounded_json
from ..bounded_json import NotJson
from ..errors import ChainError, LocalError
from .answer import ASKED_PLAIN, Answer

TIMEOUT_SECONDS: Final = 10.0
"""One call, from connecting to the last byte: an `eth_call` takes milliseconds."""

ANSWER_BYTES_MAX: Final = 8 << 20
"""About 10,000 logs: a device must not be filled by what an endpoint answers."""

CONNECTIONS_MAX: Final = 4
"""A device asks few things at a time."""

_TEXT_MAX: Final = 300  # of an endpoint's words in our errors
_QUANTITY = re.compile(r"0x(?:0|[1-9a-f][0-9a-f]{0,63})", re.IGNORECASE)
_ERROR_STRING: Final = bytes.fromhex("08c379a0")  # Error(string)
_PANIC: Final = bytes.fromhex("4e487b71")  # Panic(uint256)
_WORD: Final = 32


class MalformedUrl(LocalError):
    """A text that is no address of an HTTP endpoint."""

    code = "malformed-rpc-url"
    remedy = "give a URL such as http://127.0.0.1:8545"

    def __init__(self, url: str) -> None:
        super().__init__(f"{_readable(url)!r} is not an http or https URL")
        self.url = url


class RpcUnreachable(ChainError):
    """The endpoint cannot be reached or does not speak JSON-RPC there."""

    code = "rpc-unreachable"
    remedy = "check the URL and that the node is running, then try again"
    retryable = True

    def __init__(self, endpoint: str, cause: str) -> None:
        super().__init__(f"the RPC endpoint {endpoint} cannot be reached ({_readable(cause)})")
        self.endpoint = endpoint
        self.cause = cause


class RpcTimeout(ChainError):
    """The endpoint did not answer in time; what was asked may still have happened."""

    code = "rpc-timeout"
    remedy = "try again; if it stays so, use another endpoint"
    retryable = True

    def __init__(self, endpoint: str, method: str, timeout_seconds: float) -> None:
        super().__init__(f"{endpoint} did not answer {method} within {timeout_seconds:g} s")
        self.endpoint = endpoint
        self.method = method
        self.timeout_seconds = timeout_seconds


class RpcRefused(ChainError):
    """The endpoint understood and refused, for example because a contract call reverts."""

    code = "rpc-refused"
    remedy = "read the reason: the same request will be refused again until that has changed"

    def __init__(self, method: str, *, number: int, message: str, reason: str | None) -> None:
        super().__init__(f"{method} was refused: {reason or message} (code {number})")
        self.method = method
        self.number = number
        self.message = message
        self.reason = reason
        """The text that a contract reverted with, where there is one."""


class RpcUnusable(ChainError):
    """The endpoint's answer is not what was asked for; nothing was taken from it."""

    code = "rpc-unusable-answer"
    remedy = "try again; if it stays so, this is no Ethereum node in order: use another endpoint"
    retryable = True

    def __init__(self, text: str) -> None:
        super().__init__(f"the RPC endpoint's answer cannot be used: {text}")


class RpcAnswerTooLarge(ChainError):
    """The answer is longer than this client takes."""

    code = "rpc-answer-too-large"
    remedy = "ask for less at a time"

    def __init__(self, method: str, maximum_bytes: int) -> None:
        super().__init__(f"the answer to {method} is longer than {maximum_bytes:,} bytes")
        self.method = method
        self.maximum_bytes = maximum_bytes


class _Body(httpx.AsyncByteStream):
    """A request's content; httpx's own is a generator, which a cancelled call leaves half-way."""

    def __init__(self, content: bytes) -> None:
        self._left = [content]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class RpcClient:
    """Asks one endpoint, at most `timeout_seconds` a call; close it, or use it in `async with`."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Connects to nothing yet; raises `MalformedUrl`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise MalformedUrl(url) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MalformedUrl(url)
        # What is shown names neither user, password nor path: providers put keys into all three.
        self.endpoint = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port else "")
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._last_id = 0
        self._http = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - `call` bounds the whole call, slow drips included
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            verify=parts.scheme == "https",  # loading the certificates costs 10 MiB
            trust_env=False,  # a proxy in the environment must not see or answer chain reads
            headers=ASKED_PLAIN,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def call(self, method: str, *params: Any) -> Any:
        """The `result` of one call, as JSON gave it.

        Raises `RpcUnreachable`, `RpcTimeout`, `RpcRefused`, `RpcUnusable`, `RpcAnswerTooLarge`.
        """
        self._last_id += 1
        asked = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        try:
            with trio.fail_after(self._timeout_seconds):
                status, body = await self._post(method, json.dumps(asked).encode())
        except trio.TooSlowError:
            raise RpcTimeout(self.endpoint, method, self._timeout_seconds) from None
        return self._result_of(method, asked["id"], status, body)

    async def _post(self, method: str, content: bytes) -> tuple[int, bytes]:
        answer = Answer(ANSWER_BYTES_MAX)
        try:
            headers = {"Content-Type": "application/json"}
            request = self._http.build_request("POST", self._url, content=content, headers=headers)
            request.stream = _Body(content)
            async with contextlib.aclosing(await self._http.send(request, stream=True)) as response:
                if not answer.is_plain(response.headers):
                    raise RpcUnusable("it is compressed, which was not asked for")
                with trio.CancelScope() as reading:
                    async for chunk in response.aiter_raw():
                        if not answer.take(chunk):
                            # Leaving the loop here would leave httpx's generators half-way.
                            reading.cancel()
                if reading.cancel_called:
                    raise RpcAnswerTooLarge(method, ANSWER_BYTES_MAX)
                return response.status_code, answer.content()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RpcUnreachable(self.endpoint, str(error) or type(error).__name__) from None

    def _result_of(self, method: str, asked_id: object, status: int, body: bytes) -> Any:
        try:
            answer = bounded_json.parse(body)
        except NotJson:
            answer = None
        is_error = isinstance(answer, dict) and isinstance(answer.get("error"), dict)
        if status != httpx.codes.OK and not is_error:
            raise RpcUnreachable(self.endpoint, f"HTTP status {status}")
        if not isinstance(answer, dict):
            raise RpcUnusable(f"the answer to {method} is not a JSON object")
        if is_error:  # some endpoints answer an error without the id
            raise _refusal(method, answer["error"])
        if answer.get("id") != asked_id or "result" not in answer:
            raise RpcUnusable(f"it is no answer to this {method}")
        return answer["result"]


def quantity(value: object, what: str, *, bits: int = 64) -> int:
    """Read a JSON-RPC quantity below 2**bits; raises `RpcUnusable`, which names `what`."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise RpcUnusable(f"{what} is not a quantity")
    number = int(value, 16)
    if number >> bits:
        raise RpcUnusable(f"{what} is above 2**{bits} - 1")
    return number


def octets(value: object, what: str, *, size: int | None = None) -> bytes:
    """Read JSON-RPC data, of `size` bytes if given; raises `RpcUnusable`, which names `what`."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise RpcUnusable(f"{what} is not hex data")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise RpcUnusable(f"{what} is not hex data") from None
    if 2 * len(data) != len(value) - 2 or (size is not None and len(data) != size):
        raise RpcUnusable(f"{what} is not {'whole' if size is None else size} bytes")
    return data


def fields(value: object, what: str) -> dict[str, Any]:
    """Read a JSON object; raises `RpcUnusable`. Use `.get`: the readers here refuse None."""
    if not isinstance(value, dict):
        raise RpcUnusable(f"{what} is not an object")
    return value


def items(value: object, what: str, *, maximum: int) -> list[Any]:
    """Read a JSON list of at most `maximum` entries; raises `RpcUnusable`."""
    if not isinstance(value, list) or len(value) > maximum:
        raise RpcUnusable(f"{what} is not a list of at most {maximum}")
    return value


def _refusal(method: str, error: dict[str, Any]) -> RpcRefused:
    number, message, data = error.get("code"), error.get("message"), error.get("data")
    if isinstance(data, dict):  # some nodes wrap what a call reverted with
        data = data.get("data")
    return RpcRefused(
        method,
        number=number if type(number) is int else 0,
        message=_readable(message if isinstance(message, str) else "no message"),
        reason=revert_reason(data) if isinstance(data, str) else None,
    )


def revert_reason(data: str) -> str | None:
    """The text in hex revert data: Error(string) or Panic(uint256); None if it is neither."""
    try:
        raw = bytes.fromhex(data.removeprefix("0x"))
    except ValueError:
        return None
    selector, body = raw[:4], raw[4:]
    if selector == _PANIC and len(body) == _WORD:
        return f"panic {int.from_bytes(body, 'big'):#x}"
    if selector != _ERROR_STRING or int.from_bytes(body[:_WORD], "big") != _WORD:
        return None
    size = int.from_bytes(body[_WORD : 2 * _WORD], "big")
    text = body[2 * _WORD : 2 * _WORD + min(size, len(body))]
    return _readable(text.decode(errors="replace"))


def _readable(text: str) -> str:
    """An endpoint's words, short and without characters that would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_MAX])
