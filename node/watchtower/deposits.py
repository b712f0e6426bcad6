"""Checks what a wallet deposits: whose it is, of which channel, and that its payer signed it.

Rule: nothing here changes anything; what comes out is a voucher that the contract would settle,
for the party that deposited it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

from ...channels.deployment import Deployment
from ...channels.errors import LocalError, PeerError
from ...channels.ids import ZERO_WORD, Address, ChannelId, to_hex
from ...channels.messages import VoucherDeposit
from ...channels.signing import verify_voucher
from ...channels.terms import Side, Terms
from ...channels.voucher import LaneTotal, UnverifiedVoucher, Voucher

Lane: TypeAlias = tuple[ChannelId, Side]
"""A channel and the side that pays on the lane."""


class MalformedDeposit(PeerError):
    """Terms or a total that no channel has."""

    code = "malformed-deposit"
    remedy = "deposit a voucher as it was received, with its channel's own terms"


class ForeignDeposit(PeerError):
    """The terms do not make the named channel under this watchtower's deployment."""

    code = "foreign-deposit"
    remedy = "use a watchtower of the deployment that the channel was opened under"


class NotThePayee(PeerError):
    """The connection's signer does not sign for the party that the voucher pays."""

    code = "not-the-payee"
    remedy = "deposit only what your own wallet received, on a connection under its own key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A verified voucher with its terms and the side that pays it."""

    terms: Terms
    payer: Side
    voucher: Voucher

    @property
    def lane(self) -> Lane:
        """Which lane it is of."""
        return self.voucher.channel, self.payer


def check_deposit(
    message: VoucherDeposit, depositor: Address, deployment: Deployment, separator: bytes
) -> Deposit:
    """Verify a deposit of this depositor; raises `PeerError` with what does not fit.

    The cheap checks come first and only refuse; the signature is checked in every case.
    """
    terms, total = _terms_and_total(message)
    if deployment.channel_id(terms) != message.channel:
        raise ForeignDeposit(f"the terms are not those of channel {to_hex(message.channel)}")
    payee = terms.side_of_signer(depositor)
    if payee is None:
        raise NotThePayee("the depositor is no party of the channel")
    unverified = UnverifiedVoucher(
        channel=message.channel,
        payer=terms.account(payee.other),
        total=total,
        conditions=message.conditions,
        signature=message.signature,
    )
    voucher = verify_voucher(separator, unverified, terms.signer(payee.other))
    return Deposit(terms=terms, payer=payee.other, voucher=voucher)


def _terms_and_total(message: VoucherDeposit) -> tuple[Terms, LaneTotal]:
    try:
        terms = Terms(**{field.name: getattr(message, field.name) for field in fields(Terms)})
        total = LaneTotal(
            nonce=message.nonce,
            transferred_ucent=message.transferred_ucent,
            history=message.history,
        )
    except LocalError as error:  # of the deposit's values, which are the peer's
        raise MalformedDeposit(error.text) from None
    if total.nonce == 0:
        raise MalformedDeposit("a voucher of no payment pays nothing")
    if message.conditions != ZERO_WORD:
        raise MalformedDeposit("the voucher has conditions, which version 1 does not know")
    return terms, total
