"""What an operator may ask of a running hub over its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..channels.client.control import MalformedRequest, Method
from ..channels.ids import address_from_hex, bytes_from_hex, channel_from_hex, to_hex
from ..channels.messages import REQUEST_BYTES
from ..channels.units import check_amount
from .chain import OpenRow
from .hub import OPEN_ROWS_MAX, Hub

CONTROL_NAME = "control.sock"


class Operator:
    """The methods of one hub's socket; each raises `LocalError` or `ChainError`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def methods(self) -> dict[str, Method]:
        """Return the methods by the names that commands call."""
        return {
            "status": self._status,
            "channels": self._channels,
            "settle": self._settle,
            "open": self._open_channels,
            "requests": self._requests,
            "answer": self._answer,
            "request": self._request,
            "close": self._close,
        }

    async def _status(self, _: Mapping[str, Any]) -> Any:
        return self._hub.status()

    async def _channels(self, _: Mapping[str, Any]) -> Any:
        return self._hub.channel_rows()

    async def _settle(self, _: Mapping[str, Any]) -> Any:
        mined = await self._hub.settler.settle()
        await self._hub.follower.wait_head()
        return {
            "transactions": [to_hex(one.transaction) for one in mined],
            "settled": sum(one.settled for one in mined),
            "skipped": sum(one.skipped for one in mined),
            "gas_used": sum(one.gas_used for one in mined),
        }

    async def _open_channels(self, params: Mapping[str, Any]) -> Any:
        pairs = params.get("pairs")
        if not isinstance(pairs, list) or not 1 <= len(pairs) <= OPEN_ROWS_MAX:
            raise MalformedRequest(f"give 1 to {OPEN_ROWS_MAX} pairs of account and signer")
        rows = [
            OpenRow(account_b=address_from_hex(account), signer_b=address_from_hex(signer))
            for account, signer in pairs
        ]
        opened = await self._hub.open_channels(rows)
        await self._hub.follower.wait_head()
        return {"asked": len(rows), "opened": opened}

    async def _requests(self, _: Mapping[str, Any]) -> Any:
        return self._hub.store.requests()

    async def _answer(self, params: Mapping[str, Any]) -> Any:
        request_id = bytes_from_hex(str(params.get("id")), REQUEST_BYTES, what="request id")
        pay = params.get("pay") is True
        self._hub.engine.answer_request(request_id, pay=pay)
        await self._hub.driver.wait_durable()
        return {"id": to_hex(request_id), "state": "paid" if pay else "refused"}

    async def _request(self, params: Mapping[str, Any]) -> Any:
        channel = channel_from_hex(str(params.get("channel")))
        amount, purpose = params.get("amount_ucent"), params.get("purpose")
        if type(amount) is not int or not isinstance(purpose, str):
            raise MalformedRequest("give amount_ucent and purpose")
        expires = self._hub.follower.moment().head_timestamp + int(params.get("seconds", 3600))
        request_id = self._hub.engine.request(channel, check_amount(amount), purpose, expires)
        return {"id": to_hex(request_id)}

    async def _close(self, params: Mapping[str, Any]) -> Any:
        channel = channel_from_hex(str(params.get("channel")))
        self._hub.engine.close(channel)
        await self._hub.driver.wait_durable()
        return {"channel": to_hex(channel), "asked": True}
