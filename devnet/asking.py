"""Asking a devnet over JSON-RPC, as any client does: for commands, fixtures and the explorer."""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import httpx

from ..channels.errors import ChainError, LocalError

if TYPE_CHECKING:
    from .rpc import Rpc

METHOD_NOT_FOUND = -32601
HASHES = False
"""Asks for a block with its transactions' hashes alone."""
SECONDS_MAX = 120
"""Ten thousand blocks in one call take half a minute."""


class NoDevnet(ChainError):
    """Nothing answers as a devnet there."""

    code = "devnet-no-answer"
    remedy = "start one with `farthing devnet up`, or give its URL with --rpc"
    retryable = True


class RefusedByDevnet(LocalError):
    """The devnet answered with an error; `rpc_code` is JSON-RPC's."""

    code: ClassVar[str] = "devnet-refused"

    def __init__(self, method: str, rpc_code: int, text: str) -> None:
        super().__init__(f"{method} was refused: {text}")
        self.rpc_code = rpc_code


class Ask(Protocol):
    """Asks a devnet; gives the result or raises `RefusedByDevnet`."""

    def __call__(self, method: str, *params: object) -> Any:
        """Ask for one method."""


class HttpAsk:
    """Asks over HTTP on one connection; also raises `NoDevnet`. One thread at a time."""

    def __init__(self, rpc_url: str) -> None:
        self.rpc_url = rpc_url
        # Never through a proxy: the devnet is on this machine.
        self._client = httpx.Client(timeout=SECONDS_MAX, trust_env=False)

    def __enter__(self) -> Self:
        """Ask within the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._client.close()

    def __call__(self, method: str, *params: object) -> Any:
        """Ask for one method."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = self._client.post(self.rpc_url, json=request).json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise NoDevnet(f"no answer from {self.rpc_url} ({error})") from error
        return _result(self.rpc_url, method, answer)


class ChainAsk:
    """Asks a chain in this process, through JSON and back; for the thread that owns the chain."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def __call__(self, method: str, *params: object) -> Any:
        """Ask for one method."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self._rpc.answer(request)
        return _result("the chain", method, json.loads(json.dumps(answer)))


def _result(where: str, method: str, answer: object) -> Any:
    if not isinstance(answer, dict) or not {"result", "error"} & answer.keys():
        raise NoDevnet(f"{where} does not speak JSON-RPC")
    error = answer.get("error")
    if error is None:
        return answer.get("result")
    if not isinstance(error, dict):
        raise RefusedByDevnet(method, 0, str(error))
    code = error.get("code")
    text = str(error.get("message"))
    data = error.get("data")
    hint = f" ({data})" if isinstance(data, str) and not data.startswith("0x") else ""
    raise RefusedByDevnet(method, code if isinstance(code, int) else 0, text + hint)
