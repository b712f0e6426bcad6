"""JSON-RPC 2.0 over a chain: one request object in, one response object out; no I/O."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping

from .chain import DevChain
from .cheats import NOT_SERVED
from .errors import CallRefused, ExecutionReverted
from .method import Method
from .methods import METHODS
from .params import Params

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603

SUBSCRIPTION_METHODS = ("eth_subscribe", "eth_unsubscribe")

Response = dict[str, object]

_log = logging.getLogger(__name__)


def error_response(request_id: object, code: int, message: str, data: object = None) -> Response:
    """A response that says what went wrong; `data` is left away when None."""
    error: Response = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


class Rpc:
    """Answers requests about one chain; as little thread-safe as the chain."""

    def __init__(self, chain: DevChain, more: Mapping[str, Method] | None = None) -> None:
        """`more`: methods of one connection besides those of the chain."""
        self.chain = chain
        self._more = more or {}

    def answer(self, request: object) -> Response | None:
        """Answer one request object; None for a notification, which wants no answer.

        Never raises for what a caller sent; a fault of ours is logged and answered with -32603.
        """
        if not isinstance(request, dict):
            return error_response(None, INVALID_REQUEST, "invalid request: not an object")
        request_id = request.get("id")
        if not _is_id(request_id):
            return error_response(
                None, INVALID_REQUEST, "invalid request: id must be text or number"
            )
        method = request.get("method")
        params = request.get("params")
        if not isinstance(method, str):
            return error_response(request_id, INVALID_REQUEST, "invalid request: method is missing")
        if params is not None and not isinstance(params, list):
            return error_response(
                request_id, -32602, "invalid params: this devnet takes them as a list, by position"
            )
        response = self._call(request_id, method, params or [])
        return response if "id" in request else None

    def _call(self, request_id: object, method: str, values: list[object]) -> Response:
        known = METHODS.get(method) or self._more.get(method)
        if known is None:
            return error_response(request_id, METHOD_NOT_FOUND, _not_served(method))
        try:
            result = known.answer(self.chain, Params(values, known.most))
        except CallRefused as error:
            return error_response(request_id, error.rpc_code, str(error), _error_data(error))
        except Exception as error:
            _log.exception("%s failed", method)
            text = f"internal error in {method}: {type(error).__name__}: {error}"
            return error_response(request_id, INTERNAL_ERROR, text)
        return {"jsonrpc": "2.0", "id": request_id, "result": result}


def _is_id(value: object) -> bool:
    """Whether a caller may name a request so; infinity, as 1e999 is read, is no JSON to answer."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _error_data(error: CallRefused) -> object:
    if isinstance(error, ExecutionReverted):
        return "0x" + error.data.hex()
    return error.hint


def _not_served(method: str) -> str:
    shown = method[:64]
    if method in SUBSCRIPTION_METHODS:
        return "notifications not supported over HTTP: connect by WebSocket to the same port"
    text = f"the method {shown} does not exist/is not available on this devnet"
    if method in NOT_SERVED:
        return f"{text}: {NOT_SERVED[method]}"
    near = difflib.get_close_matches(shown, METHODS, n=1)
    return f"{text}: did you mean {near[0]}?" if near else text
