"""A web3 provider that calls a chain in the same process: no server, no socket, no thread."""

from __future__ import annotations

import json
from typing import Any, cast

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from .chain import DevChain
from .rpc import Rpc


class ChainProvider(JSONBaseProvider):
    """`Web3(ChainProvider(chain))` speaks to a chain that this thread owns.

    Every request and answer passes through JSON, so that nothing works here that would not work
    over HTTP.
    """

    def __init__(self, chain: DevChain) -> None:
        super().__init__()
        self._rpc = Rpc(chain)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answer one request."""
        request = json.loads(self.encode_rpc_request(method, params))
        response = self._rpc.answer(request)
        return cast(RPCResponse, json.loads(json.dumps(response)))

    def is_connected(self, show_traceback: bool = False) -> bool:  # noqa: ARG002, FBT001, FBT002 - web3's signature
        """Tell web3 that the chain can be reached: always."""
        return True
