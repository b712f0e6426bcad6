"""The fixed-layout records of the two hot messages, `Update` and `Ack`.

Update: channel 32 | first nonce 8 | signature 65 | count 2 | count × payment
payment: amount 12 | receipt type 1 | receipt length 2 | salt 32 | receipt
Ack: channel 32 | nonce 8 | history 32. All integers are big-endian.
"""

from __future__ import annotations

import struct

from .errors import PeerError
from .frames import FRAME_BYTES_MAX
from .ids import ChannelId
from .receipt import Receipt, ReceiptType
from .voucher import Payment

PAYMENTS_MAX = 4096
"""Payments in one update; with the frame's limit it bounds what one message makes us hash."""

_HEAD = struct.Struct(">32sQ65sH")
_PAYMENT = struct.Struct(">12sBH32s")
_ACK = struct.Struct(">32sQ32s")
PAYMENT_OVERHEAD_BYTES = _PAYMENT.size
UPDATE_PAYMENT_BYTES_MAX = FRAME_BYTES_MAX - 1024
"""Room for an update's payments in one frame, less its head and RLP's prefixes."""


class MalformedRecord(PeerError):
    """A packed record whose lengths or counts do not agree."""

    code = "malformed-record"
    remedy = "compare the record with docs/protocol.md"


def payment_bytes(payment: Payment) -> int:
    """How many bytes a payment takes in an update."""
    return PAYMENT_OVERHEAD_BYTES + len(payment.receipt.cbor)


def fits_one_update(payments: tuple[Payment, ...]) -> bool:
    """Whether one update can hold these payments."""
    room = UPDATE_PAYMENT_BYTES_MAX
    return len(payments) <= PAYMENTS_MAX and sum(map(payment_bytes, payments)) <= room


def pack_update(
    channel: ChannelId, first_nonce: int, signature: bytes, payments: tuple[Payment, ...]
) -> bytes:
    """Write the record of an `Update`."""
    parts = [_HEAD.pack(channel, first_nonce, signature, len(payments))]
    for payment in payments:
        receipt = payment.receipt
        amount = payment.amount_ucent.to_bytes(12, "big")
        parts.append(_PAYMENT.pack(amount, receipt.type, len(receipt.cbor), receipt.salt))
        parts.append(receipt.cbor)
    return b"".join(parts)


def unpack_update(record: bytes) -> tuple[ChannelId, int, bytes, tuple[Payment, ...]]:
    """Read the record of an `Update`; raises `MalformedRecord` or a bound's own error."""
    if len(record) < _HEAD.size:
        raise MalformedRecord(f"an update of {len(record)} bytes is too short")
    channel, first_nonce, signature, count = _HEAD.unpack_from(record)
    if first_nonce < 1:
        raise MalformedRecord("an update begins at payment 0; the first one is 1")
    if not 1 <= count <= PAYMENTS_MAX:
        raise MalformedRecord(f"an update with {count} payments is outside 1..{PAYMENTS_MAX}")
    payments: list[Payment] = []
    position = _HEAD.size
    for _ in range(count):
        if len(record) - position < _PAYMENT.size:
            raise MalformedRecord("an update ends in the middle of a payment")
        amount, kind, length, salt = _PAYMENT.unpack_from(record, position)
        position += _PAYMENT.size
        cbor = record[position : position + length]
        position += length
        if len(cbor) != length:
            raise MalformedRecord("an update ends in the middle of a receipt")
        if kind not in ReceiptType.__members__.values():
            raise MalformedRecord(f"receipt type {kind} is unknown")
        receipt = Receipt(type=ReceiptType(kind), cbor=cbor, salt=salt)
        payments.append(Payment(amount_ucent=int.from_bytes(amount, "big"), receipt=receipt))
    if position != len(record):
        raise MalformedRecord("bytes are left over after the last payment of an update")
    return ChannelId(channel), first_nonce, signature, tuple(payments)


def pack_ack(channel: ChannelId, nonce: int, history: bytes) -> bytes:
    """Write the record of an `Ack`."""
    return _ACK.pack(channel, nonce, history)


def unpack_ack(record: bytes) -> tuple[ChannelId, int, bytes]:
    """Read the record of an `Ack`; raises `MalformedRecord`."""
    if len(record) != _ACK.size:
        raise MalformedRecord(f"an acknowledgement of {len(record)} bytes is not {_ACK.size}")
    channel, nonce, history = _ACK.unpack(record)
    return ChannelId(channel), nonce, history
