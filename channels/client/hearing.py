"""What the wallet makes of what driver and hub tell it; see `application.Application`."""

from __future__ import annotations

from ..ids import to_hex
from ..messages import PaymentRefused, PaymentRequest, ReadingOutcome
from ..state import Channel, SignedClose, Withdrawal, WithdrawalTerms
from ..voucher import Payment
from .guard import Guard
from .payments import Requests, read_incoming
from .pulse import Notices, Pulse
from .submissions import Submissions


class Hearing:
    """Hands what is told to whom it concerns, after it is durable, and tells the owner."""

    def __init__(self, pulse: Pulse, notices: Notices) -> None:
        self._pulse = pulse
        self._notices = notices

    def attach(
        self,
        submissions: Submissions,
        requests: Requests,
        guard: Guard,
    ) -> None:
        """Give it whom it tells; they are made after the driver, which needs this."""
        self._submissions = submissions
        self._requests = requests
        self._guard = guard

    def on_received(
        self, channel: Channel, first_nonce: int, payments: tuple[Payment, ...]
    ) -> None:
        """Match payments with our requests and tell the owner; they are durable already."""
        amount = 0
        for nonce, payment in enumerate(payments, start=first_nonce):
            amount += payment.amount_ucent
            read = read_incoming(channel.id, nonce, payment)
            self._requests.on_payment(read)
            if read.problem:
                text = f"payment {nonce} is accepted, its receipt is not usable: {read.problem}"
                self._notices.tell("bad-receipt", text, nonce=nonce)
        self._notices.tell(
            "received",
            f"received {amount} µ¢ in {len(payments)} payments",
            channel=to_hex(channel.id),
            first_nonce=first_nonce,
            payments=len(payments),
            amount_ucent=amount,
        )
        self._pulse.beat()

    def on_acknowledged(self, channel: Channel, nonce: int) -> None:
        """The hub holds our payments up to a nonce."""
        text = f"the hub acknowledged our payments up to {nonce}"
        self._notices.tell("acknowledged", text, channel=to_hex(channel.id), nonce=nonce)
        self._pulse.beat()

    def on_stopped(self, channel: Channel, reason: str) -> None:
        """A channel signs and accepts nothing any more."""
        self._notices.tell("stopped", reason, channel=to_hex(channel.id))

    def on_submit_close(self, channel: Channel, close: SignedClose) -> None:
        """Submit a co-signed close that the hub has not brought to the chain."""
        self._guard.submit_soon(channel, close)

    def on_submit_withdrawal(self, channel: Channel, withdrawal: Withdrawal) -> None:
        """Submit a co-signed withdrawal, ours or one that the hub has not brought to the chain."""
        self._guard.withdraw_soon(channel, withdrawal)

    def on_withdrawal(self, channel: Channel, terms: WithdrawalTerms, *, taken: bool) -> None:
        """Our own withdrawal is on-chain, or has died."""
        kind = "withdrawn" if taken else "withdrawal-not-taken"
        how = "is on the chain" if taken else "was not taken in time: its amount is free again"
        self._notices.tell(
            kind,
            f"a withdrawal up to {terms.total_ucent} µ¢ in total {how}",
            channel=to_hex(channel.id),
            total_ucent=terms.total_ucent,
        )
        self._pulse.beat()

    def on_outcome(self, message: ReadingOutcome) -> None:
        """Take the answer to a submission."""
        self._submissions.on_outcome(message)

    def on_request(self, message: PaymentRequest) -> None:
        """Take a request to be paid."""
        self._requests.on_request(message)

    def on_refused(self, message: PaymentRefused) -> None:
        """Take the refusal of a request of ours."""
        self._requests.on_refused(message)

    def on_speaking(self, channel: Channel) -> None:
        """A channel can be used."""
        self._notices.tell(
            "joined", f"channel {to_hex(channel.id)} is connected", channel=to_hex(channel.id)
        )

    def on_disconnected(self) -> None:
        """Queue again what is unanswered."""
        self._submissions.on_disconnected()
        self._requests.on_disconnected()
