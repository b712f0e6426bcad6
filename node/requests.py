"""Requests to be paid, in both directions: each durable, bounded and decided once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ..channels.client.driver import Driver
from ..channels.client.payments import PaymentAsk, RequestState
from ..channels.client.payments import Requests as SharedRequests
from ..channels.client.pulse import Notices, Pulse
from ..channels.ids import Address, ChannelId, to_hex
from ..channels.messages import PaymentRefused, PaymentRequest
from ..channels.state import Moment
from .store import HubStore

REQUESTS_OPEN_MAX = 1000
"""Requests that wait for the operator; more are refused until some are decided or expire."""
REQUESTS_OF_CHANNEL_MAX = 16
"""Of one wallet, so that none can fill the operator's list for everybody."""


class Requests(SharedRequests):
    """What a wallet does with requests too, for many channels and with their limits."""

    def __init__(self, store: HubStore, driver: Driver, moment: Callable[[], Moment]) -> None:
        super().__init__(store.ledger, driver, moment, Pulse(), Notices())
        self._waiting = {
            ask.id: ask for ask in self.all() if not ask.ours and ask.state is RequestState.OPEN
        }

    def on_request(self, message: PaymentRequest) -> PaymentRefused | None:
        """Keep a request for the operator; return the refusal to send if it cannot be kept."""
        known = self._asks.get((False, message.id))
        if known is not None and known.channel != message.channel:
            return PaymentRefused(
                id=message.id, code="request-refused", text="this id names another request"
            )
        refusal = super().on_request(message)
        if refusal is None and known is None:
            self._waiting[message.id] = self._asks[False, message.id]
        return refusal

    def _problem(self, message: PaymentRequest) -> str | None:
        waiting = {}
        for request in self._waiting:
            ask = self.get(request, ours=False)
            if ask.state is RequestState.OPEN:
                waiting[request] = ask
        self._waiting = waiting
        if len(waiting) >= REQUESTS_OPEN_MAX:
            return f"{REQUESTS_OPEN_MAX} requests wait for the operator already; try later"
        of_channel = Counter(ask.channel for ask in waiting.values())
        if of_channel[ChannelId(message.channel)] >= REQUESTS_OF_CHANNEL_MAX:
            return f"{REQUESTS_OF_CHANNEL_MAX} requests of this wallet wait already; try later"
        return super()._problem(message)

    def on_refused_by(self, signer: Address, message: PaymentRefused) -> None:
        """Note that a wallet will not pay; other wallets' refusals of its requests count nothing.

        An id that is unknown is ignored: a hub that was restored may have forgotten it.
        """
        ask = self._asks.get((True, message.id))
        if ask is not None and self._driver.get(ask.channel).terms.signer_b == signer:
            self.on_refused(message)


def request_row(ask: PaymentAsk) -> dict[str, Any]:
    """One request as plain values, for the operator."""
    return {
        "id": to_hex(ask.id),
        "asked_by": "hub" if ask.ours else "wallet",
        "channel": to_hex(ask.channel),
        "amount_ucent": ask.amount_ucent,
        "purpose": ask.purpose,
        "expires": ask.expires,
        "state": ask.state.value,
        "text": ask.text,
    }
