"""Alice, bob, carol and mallory: their keys, one deployment, and a channel between two of them.

Alice is side A of the channel and bob side B; carol is another wallet; mallory means no good.
"""

from dataclasses import replace
from typing import Any

from farthing.channels.deployment import Deployment
from farthing.channels.ids import Address
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.state import ChainStatus, ChainView, Channel, Link, Moment, SentLane
from farthing.channels.terms import Side, Terms
from farthing.channels.voucher import LaneTotal, Payment, Voucher, replay

ALICE, BOB, CAROL, MALLORY = (Signer(bytes([number]) * 32) for number in (1, 2, 3, 4))
SIGNERS = {Side.A: ALICE, Side.B: BOB}

DEPLOYMENT = Deployment(
    chain_id=20_262_026,
    genesis_hash=b"\x11" * 32,
    block=7,
    city_credit=Address(b"\x12" * 20),
    member_registry=Address(b"\x13" * 20),
    payment_channels=Address(b"\x14" * 20),
    deployment=b"\x15" * 32,
)
DOMAIN = DEPLOYMENT.domain()
SEPARATOR = DOMAIN.separator()

TERMS = Terms(
    account_a=Address(b"\xa1" * 20),
    signer_a=ALICE.address,
    account_b=Address(b"\xb1" * 20),
    signer_b=BOB.address,
    challenge_seconds=3600,
    challenge_blocks=100,
    sequence=1,
)
CHANNEL = DEPLOYMENT.channel_id(TERMS)

NOW = 1_800_000_000
DEPOSIT = 1_000_000


def terms(signer_b: Signer = BOB, sequence: int = 1) -> Terms:
    """The terms of a channel of alice with somebody, bob unless told."""
    account = Address(b"\xb1" * 19 + bytes([sequence]))
    return replace(TERMS, account_b=account, signer_b=signer_b.address, sequence=sequence)


def moment(now: int = NOW, *, view_age_seconds: int = 0) -> Moment:
    """A moment whose confirmed head is that old."""
    head = now - view_age_seconds
    return Moment(now=now, head_block=100, head_timestamp=head, head_seen=head)


def view(status: ChainStatus = ChainStatus.OPEN, **changes: Any) -> ChainView:
    """The channel as the chain has it: open, and each side has deposited `DEPOSIT`."""
    fields: dict[str, Any] = {"block": 100, "timestamp": NOW, "deposit_ucent": (DEPOSIT, DEPOSIT)}
    return ChainView(status=status, **(fields | changes))


def channel(side: Side = Side.A, **changes: Any) -> Channel:
    """One side's state of the channel: confirmed, connected and reestablished."""
    fields: dict[str, Any] = {"chain": view(), "link": Link.LIVE, "fresh_boot": False}
    return Channel(id=CHANNEL, terms=TERMS, side=side, **(fields | changes))


def payment(amount_ucent: int = 1, *, number: int = 0, purpose: str = "parking") -> Payment:
    """A payment for a use; another number makes another salt, so another reference."""
    fields = {"amount": amount_ucent, "block": 100, "at": NOW, "purpose": purpose}
    receipt = make_receipt(ReceiptType.USAGE, fields, salt=number.to_bytes(32, "big"))
    return Payment(amount_ucent=amount_ucent, receipt=receipt)


def lane(*amounts_ucent: int) -> LaneTotal:
    """A lane after payments of these amounts."""
    payments = [payment(amount, number=n) for n, amount in enumerate(amounts_ucent, 1)]
    return replay(LaneTotal(), payments)[-1] if payments else LaneTotal()


def voucher(payer: Side, total: LaneTotal, *, of: Channel | None = None) -> Voucher:
    """The payer's own signature on a total of its lane."""
    state = of or channel()
    return sign_voucher(
        SEPARATOR,
        SIGNERS[payer],
        channel=state.id,
        payer=state.terms.account(payer),
        total=total,
    )


def sent_lane(side: Side, *amounts_ucent: int, acknowledged: int = 0) -> SentLane:
    """What a payer holds after payments of these amounts, the first of them acknowledged."""
    payments = [payment(amount, number=n) for n, amount in enumerate(amounts_ucent, 1)]
    totals = replay(LaneTotal(), payments)
    return SentLane(
        voucher=voucher(side, totals[-1]) if totals else None,
        unacknowledged=totals[acknowledged:],
        acknowledged_nonce=acknowledged,
    )
