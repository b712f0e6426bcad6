"""What an operator may ask of a running hub over its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from ..channels.client.control import MalformedRequest, Method
from ..channels.events import AskedClose, AskedWithdraw
from ..channels.ids import address_from_hex, bytes_from_hex, channel_from_hex, to_hex
from ..channels.messages import REQUEST_BYTES
from ..channels.terms import Side
from .chain import OpenRow
from .hub import Hub
from .opener import OPEN_ROWS_MAX
from .requests import request_row

CONFIRM_SECONDS_MAX = 60
"""How long a command waits until the hub has seen its own transaction confirmed."""

Params = Mapping[str, Any]


class Operator:
    """The methods of one hub's socket; each raises `LocalError` or `ChainError`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def methods(self) -> dict[str, Method]:
        """Return the methods by the names that commands call."""
        return {
            "status": self._status,
            "channels": self._channels,
            "liquidity": self._liquidity,
            "settle": self._settle,
            "open": self._open_channels,
            "requests": self._requests,
            "answer": self._answer,
            "request": self._request,
            "close": self._close,
            "withdraw": self._withdraw,
        }

    async def _status(self, _: Params) -> Any:
        return self._hub.status()

    async def _channels(self, _: Params) -> Any:
        return self._hub.channel_rows()

    async def _liquidity(self, _: Params) -> Any:
        return self._hub.liquidity.rows()

    async def _settle(self, _: Params) -> Any:
        mined = await self._hub.settler.settle()
        with trio.move_on_after(CONFIRM_SECONDS_MAX) as waiting:
            await self._hub.follower.wait_block(max((one.block for one in mined), default=0))
        return {
            "transactions": [to_hex(one.transaction) for one in mined],
            "settled": sum(one.settled for one in mined),
            "skipped": sum(one.skipped for one in mined),
            "gas_used": sum(one.gas_used for one in mined),
            "confirmed": not waiting.cancelled_caught,
        }

    async def _open_channels(self, params: Params) -> Any:
        pairs = params.get("pairs")
        if not isinstance(pairs, list) or not 1 <= len(pairs) <= OPEN_ROWS_MAX:
            raise MalformedRequest(f"give 1 to {OPEN_ROWS_MAX} pairs of account and signer")
        opened, known = await self._hub.opener.open([_row(pair) for pair in pairs])
        return {"asked": len(pairs), "opened": opened, "open_before": known}

    async def _requests(self, _: Params) -> Any:
        return [request_row(ask) for ask in self._hub.engine.requests.listed()]

    async def _answer(self, params: Params) -> Any:
        request = bytes_from_hex(_text(params, "id"), REQUEST_BYTES, what="request id")
        requests, pay = self._hub.engine.requests, params.get("pay")
        if not isinstance(pay, bool):
            raise MalformedRequest("'pay' is neither true nor false")
        if pay:
            requests.pay(request)
            await self._hub.driver.wait_durable()
        else:
            channel, refusal = requests.refuse(request, "the operator refused it")
            await self._hub.driver.wait_durable()
            self._hub.engine.tell_if_connected(channel, refusal)
        return {"id": to_hex(request), "state": "paid" if pay else "refused"}

    async def _request(self, params: Params) -> Any:
        channel = self._hub.driver.get(channel_from_hex(_text(params, "channel")))
        amount_ucent, purpose = _amount(params), _text(params, "purpose")
        message = self._hub.engine.requests.ask(channel, amount_ucent, purpose)
        await self._hub.driver.wait_durable()
        sent = self._hub.engine.tell_if_connected(channel.id, message)
        return {"id": to_hex(message.id), "sent": sent}

    async def _close(self, params: Params) -> Any:
        channel = channel_from_hex(_text(params, "channel"))
        if params.get("unilateral") is True:
            mined = await self._hub.watcher.start_close(self._hub.driver.get(channel))
            return {"channel": to_hex(channel), "started_in_block": mined.block}
        self._hub.driver.feed(channel, AskedClose())
        await self._hub.driver.wait_durable()
        return {"channel": to_hex(channel), "asked": True}

    async def _withdraw(self, params: Params) -> Any:
        channel = channel_from_hex(_text(params, "channel"))
        driver = self._hub.driver
        amount_ucent = _amount(params)
        driver.feed(channel, AskedWithdraw(amount_ucent=amount_ucent))
        asked = driver.get(channel).withdrawals[Side.A]
        await driver.wait_durable()
        if asked is None:
            raise RuntimeError("a withdrawal was asked for and is not under way")
        return {
            "channel": to_hex(channel),
            "amount_ucent": amount_ucent,
            "total_ucent": asked.terms.total_ucent,
            "expires": asked.terms.expires,
            "asked": True,
        }


def _amount(params: Params) -> int:
    amount = params.get("amount_ucent")
    if type(amount) is not int:
        raise MalformedRequest("'amount_ucent' is missing or no whole number")
    return amount


def _text(params: Params, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise MalformedRequest(f"{key!r} is missing or no text")
    return value


def _row(pair: object) -> OpenRow:
    match pair:
        case [str(account), str(signer)]:
            return OpenRow(account_b=address_from_hex(account), signer_b=address_from_hex(signer))
        case _:
            raise MalformedRequest("a pair is not an account and a signer")
