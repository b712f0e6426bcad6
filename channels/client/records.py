"""Channels as JSON records: what of a channel's state outlives a process, and how it is read back.

Left out on purpose: the connection (every boot is down), payments not yet signed or verified
(never acknowledged, so never promised), offers that were not yet signed, the unacknowledged totals
(rebuilt from payments), settlements (read from the chain anew), and a doubt about what was
forgotten, which is the whole database's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..ids import Address, ChannelId
from ..state import (
    ChainStatus,
    ChainView,
    Channel,
    CloseTerms,
    ReceivedLane,
    SentLane,
    SignedClose,
    Withdrawal,
    Withdrawals,
    WithdrawalTerms,
)
from ..terms import Side, Terms
from ..voucher import LaneTotal, Voucher

_NONE: list[dict[str, Any] | None] = [None, None]
"""No withdrawal of either account: what a record says that was written before there were any."""

UnacknowledgedReader = Callable[[ChannelId, int], tuple[LaneTotal, ...]]


def channel_to_record(channel: Channel) -> dict[str, Any]:
    """Everything durable of a channel, as plain JSON values; bytes are hex."""
    return {
        "id": channel.id.hex(),
        "terms": terms_to_record(channel.terms),
        "side": int(channel.side),
        "chain": None if channel.chain is None else asdict(channel.chain),
        "sent": _voucher_record(channel.sent.voucher),
        "acknowledged_nonce": channel.sent.acknowledged_nonce,
        "received": _voucher_record(channel.received.voucher),
        "untold_from": channel.untold_from,
        "we_want_close": channel.we_want_close,
        "close": _close_record(channel.close),
        "withdrawals": [_withdrawal_record(one) for one in channel.withdrawals],
        "stopped": channel.stopped,
    }


def channel_from_record(record: dict[str, Any], unacknowledged: UnacknowledgedReader) -> Channel:
    """Read a channel back, as after a boot: disconnected, and stale until reestablished."""
    channel_id = ChannelId(bytes.fromhex(record["id"]))
    terms = terms_from_record(record["terms"])
    side = Side(record["side"])
    sent = _voucher(record["sent"], channel_id, terms.account(side))
    acknowledged_nonce = record["acknowledged_nonce"]
    return Channel(
        id=channel_id,
        terms=terms,
        side=side,
        chain=None if record["chain"] is None else view_from_record(record["chain"]),
        sent=SentLane(
            voucher=sent,
            unacknowledged=unacknowledged(channel_id, acknowledged_nonce),
            acknowledged_nonce=acknowledged_nonce,
        ),
        received=ReceivedLane(
            voucher=_voucher(record["received"], channel_id, terms.account(side.other))
        ),
        untold_from=record.get("untold_from"),
        we_want_close=record["we_want_close"],
        close=_close(record["close"]),
        withdrawals=_withdrawals(record.get("withdrawals", _NONE)),
        stopped=record["stopped"],
    )


def terms_to_record(terms: Terms) -> dict[str, Any]:
    """Terms as plain JSON values; bytes are hex."""
    return {
        key: value.hex() if isinstance(value, bytes) else value
        for key, value in asdict(terms).items()
    }


def terms_from_record(record: dict[str, Any]) -> Terms:
    """Read terms back."""
    fields: dict[str, Any] = {
        key: Address(bytes.fromhex(value)) if isinstance(value, str) else value
        for key, value in record.items()
    }
    return Terms(**fields)


def voucher_to_record(voucher: Voucher) -> dict[str, Any]:
    """Write a verified voucher as plain JSON values, without the channel and payer it is of."""
    return {
        "nonce": voucher.total.nonce,
        "transferred_ucent": voucher.total.transferred_ucent,
        "history": voucher.total.history.hex(),
        "conditions": voucher.conditions.hex(),
        "signature": voucher.signature.hex(),
    }


def voucher_from_record(record: dict[str, Any], channel: ChannelId, payer: Address) -> Voucher:
    """Only verified vouchers were ever written, so what is read back is one."""
    return Voucher(
        channel=channel,
        payer=payer,
        total=LaneTotal(
            nonce=record["nonce"],
            transferred_ucent=record["transferred_ucent"],
            history=bytes.fromhex(record["history"]),
        ),
        conditions=bytes.fromhex(record["conditions"]),
        signature=bytes.fromhex(record["signature"]),
    )


def _voucher_record(voucher: Voucher | None) -> dict[str, Any] | None:
    return None if voucher is None else voucher_to_record(voucher)


def _voucher(record: dict[str, Any] | None, channel: ChannelId, payer: Address) -> Voucher | None:
    return None if record is None else voucher_from_record(record, channel, payer)


def _close_record(close: SignedClose | None) -> dict[str, Any] | None:
    if close is None:
        return None
    return {
        "terms": asdict(close.terms),
        "ours": close.ours.hex(),
        "theirs": None if close.theirs is None else close.theirs.hex(),
        "submitted_at": close.submitted_at,
    }


def _close(record: dict[str, Any] | None) -> SignedClose | None:
    if record is None:
        return None
    theirs = record["theirs"]
    return SignedClose(
        terms=CloseTerms(**record["terms"]),
        ours=bytes.fromhex(record["ours"]),
        theirs=None if theirs is None else bytes.fromhex(theirs),
        submitted_at=record["submitted_at"],
    )


def _withdrawal_record(withdrawal: Withdrawal | None) -> dict[str, Any] | None:
    """What was never signed is not kept: nobody holds our signature on it."""
    if withdrawal is None or withdrawal.ours is None:
        return None
    return {
        "side": int(withdrawal.terms.side),
        "total_ucent": withdrawal.terms.total_ucent,
        "expires": withdrawal.terms.expires,
        "ours": withdrawal.ours.hex(),
        "theirs": None if withdrawal.theirs is None else withdrawal.theirs.hex(),
        "acted_at": withdrawal.acted_at,
    }


def _withdrawals(records: list[dict[str, Any] | None]) -> Withdrawals:
    account_a, account_b = (_withdrawal(record) for record in records)
    return account_a, account_b


def _withdrawal(record: dict[str, Any] | None) -> Withdrawal | None:
    if record is None:
        return None
    theirs = record["theirs"]
    return Withdrawal(
        terms=WithdrawalTerms(
            side=Side(record["side"]), total_ucent=record["total_ucent"], expires=record["expires"]
        ),
        ours=bytes.fromhex(record["ours"]),
        theirs=None if theirs is None else bytes.fromhex(theirs),
        acted_at=record["acted_at"],
    )


def view_from_record(record: dict[str, Any]) -> ChainView:
    """Read what the chain said of a channel back."""
    pairs = ("deposit_ucent", "withdrawn_ucent", "settled_ucent")
    fields: dict[str, Any] = {
        key: tuple(value) if key in pairs else value for key, value in record.items()
    }
    return ChainView(**{**fields, "status": ChainStatus(record["status"])})
