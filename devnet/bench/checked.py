"""What must hold after a benchmark, or it has no figure: nothing was skipped to be fast."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ...channels.client.ledger import RECEIVED, SENT, Ledger
from ...channels.client.schema import SCHEMA
from ...channels.errors import LocalError
from ...channels.ids import ChannelId
from ...channels.signing import verify_voucher
from ...channels.voucher import LaneTotal, UnverifiedVoucher, Voucher
from .stage import DEPLOYMENT, HUB_DATABASE, WALLET_DATABASE, Member, member


class FigureVoid(LocalError):
    """A run after which something is missing or wrong; its speed says nothing."""

    code = "figure-void"
    remedy = "find what was lost or skipped before any figure is quoted"

    def __init__(self, what: str, found: object, expected: object) -> None:
        super().__init__(f"{what}: {found} was found, not {expected}")


def expect(what: str, found: object, expected: object) -> None:
    """Raise `FigureVoid` unless they are equal."""
    if found != expected:
        raise FigureVoid(what, found, expected)


def check_lane(
    ledger: Ledger, direction: int, one: Member, voucher: Voucher | None, count: int
) -> None:
    """Check that a lane's voucher covers its receipts and its signature is the payer's.

    Every stored receipt is hashed again from the first one on. Raises `FigureVoid`.
    """
    total = LaneTotal()
    channel = DEPLOYMENT.channel_id(one.terms)
    for stored in ledger.payments(channel, direction):
        total = total.after(stored.payment)
        expect("the total stored with a payment", stored.total, total)
    expect("stored receipts", total.nonce, count)
    if voucher is None:
        expect("payments without a voucher", count, 0)
        return
    expect("the voucher's total after replaying the receipts", voucher.total, total)
    again = UnverifiedVoucher(
        channel=channel,
        payer=one.terms.account_b,
        total=total,
        conditions=voucher.conditions,
        signature=voucher.signature,
    )
    verify_voucher(DEPLOYMENT.domain().separator(), again, one.signer.address)


def check_hub(folder: Path, counts: Sequence[int]) -> dict[str, Any]:
    """Check the hub's database: of each wallet, by number, so many payments and their voucher."""
    with closing(Ledger(folder / HUB_DATABASE)) as ledger:
        held = {channel.id: channel.received.voucher for channel in ledger.load_channels()}
        expect("channels", len(held), len(counts))
        for number, count in enumerate(counts):
            one = member(number)
            check_lane(ledger, RECEIVED, one, held[_id(one)], count)
    return {
        "channels": len(counts),
        "payments": sum(counts),
        "receipts_replayed": sum(counts),
        "vouchers_verified": sum(1 for count in counts if count),
    }


def check_pair(folder: Path, count: int) -> dict[str, Any]:
    """Check both sides of a pair: all receipts, one history, everything acknowledged."""
    found = check_hub(folder, [count])
    one = member(0)
    with closing(Ledger(folder / WALLET_DATABASE, schema=SCHEMA)) as ledger:
        (channel,) = ledger.load_channels()
        check_lane(ledger, SENT, one, channel.sent.voucher, count)
        expect("acknowledged payments", channel.sent.acknowledged_nonce, count)
    return {**found, "payer_receipts_replayed": count, "acknowledged": count}


def check_killed(folder: Path, acknowledged: int) -> dict[str, int]:
    """Check a pair that was killed: what the payer was told is held, and the payer has no less."""
    one = member(0)
    with (
        closing(Ledger(folder / HUB_DATABASE)) as hub,
        closing(Ledger(folder / WALLET_DATABASE, schema=SCHEMA)) as wallet,
    ):
        (theirs,) = hub.load_channels()
        (ours,) = wallet.load_channels()
        held, sent = theirs.received.total.nonce, ours.sent.total.nonce
        check_lane(hub, RECEIVED, one, theirs.received.voucher, held)
        check_lane(wallet, SENT, one, ours.sent.voucher, sent)
        if not acknowledged <= held <= sent:
            raise FigureVoid("payments held by the payee", held, f"{acknowledged} to {sent}")
        histories = [
            next(ledger.payments(_id(one), direction, first_nonce=held), None) if held else None
            for ledger, direction in ((hub, RECEIVED), (wallet, SENT))
        ]
        expect("the payee's history among the payer's", histories[0], histories[1])
    return {"told_acknowledged": acknowledged, "held_by_payee": held, "signed_by_payer": sent}


def _id(one: Member) -> ChannelId:
    return DEPLOYMENT.channel_id(one.terms)
