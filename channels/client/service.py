"""What a running wallet answers on its control socket: one method for each command.

Params and results are plain JSON values; amounts are µ¢, ids and addresses hex.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from ..ids import (
    ChannelId,
    address_from_hex,
    address_to_hex,
    bytes_from_hex,
    channel_from_hex,
    to_hex,
)
from ..messages import REQUEST_BYTES, SUBMISSION_BYTES
from ..senml import PackFormat
from .control import MalformedRequest, Method, RemoteUncertainty
from .folder import tower_from_record
from .payment_ids import PAYMENT_ID_BYTES
from .payments import PaymentAsk
from .results import SentNoAnswer, SentPayment, TookTooLong, channel_record
from .submissions import SubmissionOutcome
from .wallet import Wallet

WAIT_SECONDS_MAX = 600

Params = Mapping[str, Any]


class Service:
    """The control methods of one running wallet."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    def methods(self) -> dict[str, Method]:
        """Every method by its name."""
        return {
            "status": self._status,
            "balance": self._balance,
            "channels": self._channels,
            "requests": self._requests,
            "wait_durable": self._wait_durable,
            "join": _sure(self._join),
            "submit": self._submit,
            "outcome": self._outcome,
            "wait_queue_empty": _sure(self._wait_queue_empty),
            "pay": self._pay,
            "request": self._request,
            "answer": self._answer,
            "refuse": self._refuse,
            "withdraw": _sure(self._withdraw),
            "claim": _sure(self._claim),
            "close": _sure(self._close),
            "start_close": _sure(self._start_close),
            "finish_close": _sure(self._finish_close),
            "towers": self._towers,
            "add_tower": self._add_tower,
            "remove_tower": self._remove_tower,
        }

    async def _status(self, _: Params) -> dict[str, Any]:
        return self._wallet.status()

    async def _balance(self, _: Params) -> dict[str, Any]:
        return self._wallet.balance().record()

    async def _channels(self, _: Params) -> list[dict[str, Any]]:
        return [channel_record(channel) for channel in self._wallet.channels()]

    async def _requests(self, _: Params) -> list[dict[str, Any]]:
        return [request_record(ask) for ask in self._wallet.requests()]

    async def _wait_durable(self, _: Params) -> dict[str, Any]:
        """For a command that then reads the folder itself."""
        await self._wallet.wait_durable()
        return {}

    async def _join(self, params: Params) -> dict[str, Any]:
        channel = await self._wallet.join(timeout_seconds=_seconds(params))
        return {"channel": to_hex(channel)}

    async def _submit(self, params: Params) -> dict[str, Any]:
        submission = _id(params, SUBMISSION_BYTES) if "id" in params else None
        try:
            pack_format = PackFormat(params.get("format", PackFormat.JSON))
        except ValueError:
            raise MalformedRequest("the format is neither 110 (JSON) nor 112 (CBOR)") from None
        text = _text(params, "senml")
        if pack_format is PackFormat.CBOR:
            pack = bytes_from_hex(text, (len(text) - 2) // 2, what="pack")
        else:
            pack = text.encode(errors="surrogatepass")
        made = await self._wallet.submit(pack, submission, pack_format=pack_format)
        return {"id": to_hex(made)}

    async def _outcome(self, params: Params) -> dict[str, Any]:
        submission = _id(params, SUBMISSION_BYTES)
        seconds = _seconds(params)
        if not seconds:
            return outcome_record(self._wallet.outcome(submission))
        try:
            outcome = await self._wallet.wait_outcome(submission, timeout_seconds=seconds)
        except TookTooLong:  # which is an answer too
            outcome = self._wallet.outcome(submission)
        return outcome_record(outcome)

    async def _wait_queue_empty(self, params: Params) -> dict[str, Any]:
        await self._wallet.wait_queue_empty(timeout_seconds=_seconds(params) or WAIT_SECONDS_MAX)
        return {"waiting": 0}

    async def _pay(self, params: Params) -> dict[str, Any]:
        purpose = _text(params, "purpose")
        payment_id = _id(params, PAYMENT_ID_BYTES) if "id" in params else None
        return await _paid(
            self._wallet.pay(_amount(params), purpose, payment_id, timeout_seconds=_seconds(params))
        )

    async def _request(self, params: Params) -> dict[str, Any]:
        return request_record(await self._wallet.request(_amount(params), _text(params, "purpose")))

    async def _answer(self, params: Params) -> dict[str, Any]:
        request = _id(params, REQUEST_BYTES)
        return await _paid(self._wallet.answer(request, timeout_seconds=_seconds(params)))

    async def _refuse(self, params: Params) -> dict[str, Any]:
        request = _id(params, REQUEST_BYTES)
        await self._wallet.refuse(request)
        return {"id": to_hex(request), "state": "refused"}

    async def _withdraw(self, params: Params) -> dict[str, Any]:
        withdrawn = await self._wallet.withdraw(
            _amount(params), _channel(params), timeout_seconds=_seconds(params)
        )
        return withdrawn.record()

    async def _claim(self, params: Params) -> dict[str, Any]:
        claimed_ucent = await self._wallet.claim(timeout_seconds=_seconds(params))
        return {"account": address_to_hex(self._wallet.account), "claimed_ucent": claimed_ucent}

    async def _close(self, params: Params) -> dict[str, Any]:
        channel = await self._wallet.close(_channel(params), timeout_seconds=_seconds(params))
        return {"channel": to_hex(channel), "status": "closed"}

    async def _start_close(self, params: Params) -> dict[str, Any]:
        channel = await self._wallet.start_close(_channel(params), timeout_seconds=_seconds(params))
        state = next(c for c in self._wallet.channels() if c.id == channel)
        return {**channel_record(state), "status": "closing"}

    async def _finish_close(self, params: Params) -> dict[str, Any]:
        channel = await self._wallet.finish_close(
            _channel(params), timeout_seconds=_seconds(params)
        )
        return {"channel": to_hex(channel), "status": "closed"}

    async def _towers(self, _: Params) -> list[dict[str, Any]]:
        return self._wallet.towers.rows()

    async def _add_tower(self, params: Params) -> dict[str, Any]:
        return await self._wallet.towers.add(tower_from_record(dict(params)))

    async def _remove_tower(self, params: Params) -> dict[str, Any]:
        signer = address_from_hex(_text(params, "signer"))
        await self._wallet.towers.remove(signer)
        return {"removed": address_to_hex(signer)}


def _sure(method: Method) -> Method:
    """Answer that it could not be told, where a wait was too long."""

    async def answer(params: Params) -> Any:
        try:
            return await method(params)
        except TookTooLong as error:
            raise RemoteUncertainty(error.text, remedy=error.what_to_do) from None

    return answer


async def _paid(paying: Awaitable[SentPayment]) -> dict[str, Any]:
    """Give the payment as made, also where no acknowledgement came in time: it is spent."""
    try:
        return (await paying).record()
    except SentNoAnswer as error:
        return {**error.payment.record(), "text": error.text, "what_to_do": error.what_to_do}


def outcome_record(outcome: SubmissionOutcome) -> dict[str, Any]:
    """A submission's outcome as plain values."""
    rows = [
        {"record": index, **_paid_row(o.amount_ucent, o.nonce)}
        if o.amount_ucent
        else {"record": index, "code": o.code, "text": o.text, "what_to_do": o.what_to_do}
        for index, o in enumerate(outcome.outcomes or ())
    ]
    return {
        "id": to_hex(outcome.id),
        "answered": outcome.outcomes is not None,
        "paid_ucent": outcome.paid_ucent,
        "outcomes": rows,
    }


def _paid_row(amount_ucent: int, nonce: int) -> dict[str, int]:
    return {"amount_ucent": amount_ucent, "nonce": nonce}


def request_record(ask: PaymentAsk) -> dict[str, Any]:
    """A payment request as plain values."""
    return {
        "id": to_hex(ask.id),
        "asked_by": "wallet" if ask.ours else "hub",
        "channel": to_hex(ask.channel),
        "amount_ucent": ask.amount_ucent,
        "purpose": ask.purpose,
        "expires": ask.expires,
        "state": ask.state.value,
        "nonce": ask.nonce,
        "text": ask.text,
    }


def _text(params: Params, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise MalformedRequest(f"{key!r} is missing or no text")
    return value


def _amount(params: Params) -> int:
    value = params.get("amount_ucent")
    if type(value) is not int:
        raise MalformedRequest("'amount_ucent' is missing or no whole number")
    return value


def _seconds(params: Params) -> float | None:
    value = params.get("timeout_seconds")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= WAIT_SECONDS_MAX:
        raise MalformedRequest(f"'timeout_seconds' is not between 0 and {WAIT_SECONDS_MAX}")
    return float(value)


def _id(params: Params, size: int) -> bytes:
    return bytes_from_hex(_text(params, "id"), size, what="id")


def _channel(params: Params) -> ChannelId | None:
    return channel_from_hex(_text(params, "channel")) if "channel" in params else None
