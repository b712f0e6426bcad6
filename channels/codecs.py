"""How messages are written on the wire: one row each; unknown numbers are refused.

Control messages are RLP lists `[number, field, …]`. The two hot messages, `Update` and `Ack`, are
`[number, record]` with one fixed-layout record (see `packed.py`). Numbers, fields and limits
are documented in docs/protocol.md, which a test compares with `CODECS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rlp

from .errors import FarthingError, PeerError
from .fields import (
    TEXT_BYTES_MAX,
    Field,
    MalformedMessage,
    decode_text,
    encode_text,
    fixed,
    need_bytes,
    need_list,
    uint,
    upto,
)
from .ids import ADDRESS_BYTES, WORD_BYTES
from .messages import (
    OUTCOMES_MAX,
    READINGS_BYTES_MAX,
    REQUEST_BYTES,
    SUBMISSION_BYTES,
    Ack,
    Authenticate,
    Challenge,
    ChannelProposal,
    ChannelTerms,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Hello,
    Message,
    PaymentRefused,
    PaymentRequest,
    Ping,
    Pong,
    ReadingOutcome,
    RecordOutcome,
    Reestablish,
    SignedTotal,
    SubmitReadings,
    Update,
    VoucherDeposit,
    VoucherKept,
    WithdrawalAccept,
    WithdrawalOffer,
)
from .packed import pack_ack, pack_update, unpack_ack, unpack_update
from .rlp_items import read_list
from .voucher import SIGNATURE_BYTES, LaneTotal

CONTROL_BYTES_MAX = 2**17
"""128 KiB hold a full `ReadingOutcome` with the longest texts; only an update may be longer."""


class UnknownMessage(PeerError):
    """A message number that this version does not know."""

    code = "unknown-message"
    remedy = "speak protocol version 1 without optional features"

    def __init__(self, number: int) -> None:
        super().__init__(f"message number {number} is unknown")
        self.number = number


def _encode_signed(value: SignedTotal | None) -> list[bytes]:
    if value is None:
        return []
    return [
        _UINT64.encode(value.total.nonce),
        _UINT96.encode(value.total.transferred_ucent),
        value.total.history,
        value.conditions,
        value.signature,
    ]


def _decode_signed(item: Any) -> SignedTotal | None:
    fields = need_list(item)
    if not fields:
        return None
    nonce, transferred, history, conditions, signature = need_list(fields, 5)
    return SignedTotal(
        total=LaneTotal(
            nonce=_UINT64.decode(nonce),
            transferred_ucent=_UINT96.decode(transferred),
            history=_WORD.decode(history),
        ),
        conditions=_WORD.decode(conditions),
        signature=_SIGNATURE.decode(signature),
    )


def _encode_outcomes(values: tuple[RecordOutcome, ...]) -> list[list[bytes]]:
    return [
        [
            _UINT96.encode(v.amount_ucent),
            _UINT64.encode(v.nonce),
            encode_text(v.code),
            encode_text(v.text),
            encode_text(v.what_to_do),
        ]
        for v in values
    ]


def _decode_outcomes(item: Any) -> tuple[RecordOutcome, ...]:
    rows = need_list(item)
    if len(rows) > OUTCOMES_MAX:
        raise MalformedMessage(f"more than {OUTCOMES_MAX} outcomes stand in one message")
    outcomes = []
    for row in rows:
        amount, nonce, code, text, what_to_do = need_list(row, 5)
        outcomes.append(
            RecordOutcome(
                amount_ucent=_UINT96.decode(amount),
                nonce=_UINT64.decode(nonce),
                code=decode_text(code),
                text=decode_text(text),
                what_to_do=decode_text(what_to_do),
            )
        )
    return tuple(outcomes)


_UINT8, _UINT16, _UINT64, _UINT96 = uint(8), uint(16), uint(64), uint(96)
_ADDRESS, _WORD, _SIGNATURE = fixed(ADDRESS_BYTES), fixed(WORD_BYTES), fixed(SIGNATURE_BYTES)
_TEXT = Field(kind=f"text up to {TEXT_BYTES_MAX} bytes", encode=encode_text, decode=decode_text)
_SIGNED = Field(
    kind="[] or [nonce, transferred, history, conditions, signature]",
    encode=_encode_signed,
    decode=_decode_signed,
)
_OUTCOMES = Field(
    kind=f"up to {OUTCOMES_MAX} of [amount, nonce, code, text, what to do]",
    encode=_encode_outcomes,
    decode=_decode_outcomes,
)
_TERMS_FIELDS = {
    "account_a": _ADDRESS,
    "signer_a": _ADDRESS,
    "account_b": _ADDRESS,
    "signer_b": _ADDRESS,
    "challenge_seconds": _UINT64,
    "challenge_blocks": _UINT64,
    "sequence": _UINT64,
}
_CLOSE_FIELDS = {
    "channel": _WORD,
    "transferred_a_ucent": _UINT96,
    "transferred_b_ucent": _UINT96,
    "expires": _UINT64,
    "signature": _SIGNATURE,
}


_WITHDRAWAL_FIELDS = {
    "channel": _WORD,
    "account": _ADDRESS,
    "total_ucent": _UINT96,
    "expires": _UINT64,
    "signature": _SIGNATURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One row: a message's number, class and fields in wire order."""

    number: int
    message: type[Any]
    fields: dict[str, Field]


CODECS: tuple[Codec, ...] = (
    Codec(
        number=1,
        message=Hello,
        fields={
            "version": _UINT16,
            "features": _UINT64,
            "chain_id": _UINT64,
            "contract": _ADDRESS,
            "signer": _ADDRESS,
            "peer": _ADDRESS,
            "nonce": _WORD,
        },
    ),
    Codec(
        number=2,
        message=Challenge,
        fields={"version": _UINT16, "features": _UINT64, "signer": _ADDRESS, "nonce": _WORD},
    ),
    Codec(number=3, message=Authenticate, fields={"signature": _SIGNATURE}),
    Codec(
        number=4,
        message=Error,
        fields={
            "code": _TEXT,
            "channel": upto(WORD_BYTES, lengths=(0, WORD_BYTES)),
            "text": _TEXT,
            "what_to_do": _TEXT,
        },
    ),
    Codec(number=5, message=Ping, fields={"token": _UINT64}),
    Codec(number=6, message=Pong, fields={"token": _UINT64}),
    Codec(
        number=8,
        message=ChannelProposal,
        fields={"account": _ADDRESS, "challenge_seconds": _UINT64, "challenge_blocks": _UINT64},
    ),
    Codec(
        number=9,
        message=ChannelTerms,
        fields=_TERMS_FIELDS,
    ),
    Codec(
        number=10,
        message=Reestablish,
        fields={"channel": _WORD, "sent": _SIGNED, "received": _SIGNED},
    ),
    Codec(
        number=24,
        message=SubmitReadings,
        fields={"id": fixed(SUBMISSION_BYTES), "format": _UINT8, "senml": upto(READINGS_BYTES_MAX)},
    ),
    Codec(
        number=25,
        message=ReadingOutcome,
        fields={"id": fixed(SUBMISSION_BYTES), "outcomes": _OUTCOMES},
    ),
    Codec(
        number=32,
        message=PaymentRequest,
        fields={
            "channel": _WORD,
            "id": fixed(REQUEST_BYTES),
            "amount_ucent": _UINT96,
            "purpose": _TEXT,
            "expires": _UINT64,
        },
    ),
    Codec(
        number=33,
        message=PaymentRefused,
        fields={"id": fixed(REQUEST_BYTES), "code": _TEXT, "text": _TEXT},
    ),
    Codec(number=40, message=CloseRequest, fields={"channel": _WORD}),
    Codec(number=41, message=CloseOffer, fields=_CLOSE_FIELDS),
    Codec(number=42, message=CloseAccept, fields=_CLOSE_FIELDS),
    Codec(number=44, message=WithdrawalOffer, fields=_WITHDRAWAL_FIELDS),
    Codec(number=45, message=WithdrawalAccept, fields=_WITHDRAWAL_FIELDS),
    Codec(
        number=48,
        message=VoucherDeposit,
        fields={
            "channel": _WORD,
            **_TERMS_FIELDS,
            "nonce": _UINT64,
            "transferred_ucent": _UINT96,
            "history": _WORD,
            "conditions": _WORD,
            "signature": _SIGNATURE,
        },
    ),
    Codec(
        number=49,
        message=VoucherKept,
        fields={"channel": _WORD, "nonce": _UINT64, "transferred_ucent": _UINT96},
    ),
)

UPDATE_NUMBER = 16
ACK_NUMBER = 17
_BY_NUMBER = {codec.number: codec for codec in CODECS}
_BY_MESSAGE = {codec.message: codec for codec in CODECS}


def encode_message(message: Message) -> bytes:
    """Write a message as the payload of one frame."""
    if isinstance(message, Update):
        record = pack_update(
            message.channel, message.first_nonce, message.signature, message.payments
        )
        return bytes(rlp.encode([bytes([UPDATE_NUMBER]), record]))
    if isinstance(message, Ack):
        record = pack_ack(message.channel, message.nonce, message.history)
        return bytes(rlp.encode([bytes([ACK_NUMBER]), record]))
    codec = _BY_MESSAGE[type(message)]
    items = [field.encode(getattr(message, name)) for name, field in codec.fields.items()]
    return bytes(rlp.encode([bytes([codec.number]), *items]))


def decode_message(payload: bytes) -> Message:
    """Read the payload of one frame; raises `MalformedMessage` or `UnknownMessage`."""
    items = read_list(payload)
    if not items:
        raise MalformedMessage("a frame does not hold a list with a message number")
    number_bytes = need_bytes(items[0])
    if len(number_bytes) != 1 or number_bytes == b"\0":
        raise MalformedMessage("a message number is not one byte from 1 to 255")
    try:
        return _decode_items(number_bytes[0], items[1:], len(payload))
    except PeerError:
        raise
    except FarthingError as error:
        raise MalformedMessage(error.text) from error


def _decode_items(number: int, items: list[Any], size: int) -> Message:
    if number == UPDATE_NUMBER:
        (record,) = need_list(items, 1)
        channel, first_nonce, signature, payments = unpack_update(need_bytes(record))
        return Update(
            channel=channel, first_nonce=first_nonce, signature=signature, payments=payments
        )
    if number == ACK_NUMBER:
        (record,) = need_list(items, 1)
        channel, nonce, history = unpack_ack(need_bytes(record))
        return Ack(channel=channel, nonce=nonce, history=history)
    codec = _BY_NUMBER.get(number)
    if codec is None:
        raise UnknownMessage(number)
    if size > CONTROL_BYTES_MAX:
        raise MalformedMessage(f"a control message of {size} bytes is over {CONTROL_BYTES_MAX}")
    if len(items) != len(codec.fields):
        name = codec.message.__name__
        raise MalformedMessage(f"{name} has {len(items)} fields instead of {len(codec.fields)}")
    values = {
        name: field.decode(item)
        for (name, field), item in zip(codec.fields.items(), items, strict=True)
    }
    message: Message = codec.message(**values)
    return message
