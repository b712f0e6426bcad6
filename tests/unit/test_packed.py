"""The packed records of the hot messages: lengths and counts agree, or nothing is read."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.codecs import encode_message
from farthing.channels.errors import FarthingError
from farthing.channels.frames import FRAME_BYTES_MAX, encode_frame
from farthing.channels.messages import Update
from farthing.channels.packed import (
    PAYMENTS_MAX,
    MalformedRecord,
    fits_one_update,
    pack_ack,
    pack_update,
    payment_bytes,
    unpack_ack,
    unpack_update,
)
from farthing.channels.receipt import (
    RECEIPT_BYTES_MAX,
    MalformedReceipt,
    Receipt,
    ReceiptType,
)
from farthing.channels.units import AmountOutOfRange
from farthing.channels.voucher import Payment

from ..people import CHANNEL, payment

SIGNATURE = b"\x05" * 65
HEAD_BYTES = 32 + 8 + 65 + 2
AMOUNT_AT, TYPE_AT, LENGTH_AT = HEAD_BYTES, HEAD_BYTES + 12, HEAD_BYTES + 13
RECORD = pack_update(CHANNEL, 7, SIGNATURE, (payment(5, number=1), payment(6, number=2)))


def patched(at: int, value: bytes) -> bytes:
    return RECORD[:at] + value + RECORD[at + len(value) :]


def bulky(count: int) -> tuple[Payment, ...]:
    """Payments with the longest receipts there can be."""
    content = bytes(RECEIPT_BYTES_MAX)
    receipt = Receipt(type=ReceiptType.USAGE, cbor=content, salt=bytes(32))
    return (Payment(amount_ucent=2**96 - 1, receipt=receipt),) * count


def test_an_update_reads_back_as_what_was_packed() -> None:
    channel, first_nonce, signature, payments = unpack_update(RECORD)
    assert (channel, first_nonce, signature) == (CHANNEL, 7, SIGNATURE)
    assert payments == (payment(5, number=1), payment(6, number=2))


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES - 1])
def test_an_update_without_its_head_is_refused(size: int) -> None:
    with pytest.raises(MalformedRecord, match="too short"):
        unpack_update(RECORD[:size])


@pytest.mark.parametrize("size", range(HEAD_BYTES, len(RECORD), 7))
def test_an_update_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(MalformedRecord, match="in the middle"):
        unpack_update(RECORD[:size])


def test_an_update_with_bytes_left_over_is_refused() -> None:
    with pytest.raises(MalformedRecord, match="left over"):
        unpack_update(RECORD + b"\0")


@pytest.mark.parametrize("count", [0, PAYMENTS_MAX + 1, 2**16 - 1])
def test_an_update_of_no_or_too_many_payments_is_refused(count: int) -> None:
    with pytest.raises(MalformedRecord, match=f"{count} payments"):
        unpack_update(patched(HEAD_BYTES - 2, count.to_bytes(2, "big")))


def test_an_update_that_begins_at_payment_zero_is_refused() -> None:
    with pytest.raises(MalformedRecord, match="payment 0"):
        unpack_update(patched(32, bytes(8)))


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_unknown_type_of_receipt_is_refused(kind: int) -> None:
    with pytest.raises(MalformedRecord, match=f"type {kind}"):
        unpack_update(patched(TYPE_AT, bytes([kind])))


def test_a_payment_of_nothing_is_refused() -> None:
    with pytest.raises(AmountOutOfRange):
        unpack_update(patched(AMOUNT_AT, bytes(12)))


def test_a_receipt_over_its_limit_is_refused() -> None:
    content = bytes(RECEIPT_BYTES_MAX + 1)
    record = patched(LENGTH_AT, len(content).to_bytes(2, "big"))
    with pytest.raises(MalformedReceipt, match="longer"):
        unpack_update(record[: HEAD_BYTES + 47] + content + record[HEAD_BYTES + 47 :])


def test_an_acknowledgement_reads_back_and_one_of_another_length_is_refused() -> None:
    record = pack_ack(CHANNEL, 2**64 - 1, b"\x09" * 32)
    assert unpack_ack(record) == (CHANNEL, 2**64 - 1, b"\x09" * 32)
    for wrong in (b"", record[:-1], record + b"\0"):
        with pytest.raises(MalformedRecord, match=str(len(wrong))):
            unpack_ack(wrong)


def test_payments_that_fit_one_update_fit_one_frame() -> None:
    most = FRAME_BYTES_MAX // payment_bytes(bulky(1)[0])
    fitting = next(bulky(n) for n in range(most, 0, -1) if fits_one_update(bulky(n)))
    assert len(fitting) > 900
    update = Update(channel=CHANNEL, first_nonce=1, signature=SIGNATURE, payments=fitting)
    assert len(encode_frame(encode_message(update))) <= 4 + FRAME_BYTES_MAX
    assert not fits_one_update(bulky(len(fitting) + 1))


def test_more_payments_than_the_count_allows_do_not_fit_one_update() -> None:
    short = replace(payment(), receipt=replace(payment().receipt, cbor=b""))
    assert fits_one_update((short,) * PAYMENTS_MAX)
    assert not fits_one_update((short,) * (PAYMENTS_MAX + 1))


@given(st.integers(0, len(RECORD) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_update_is_refused_or_read_as_another_and_nothing_else_happens(
    at: int, noise: bytes
) -> None:
    record = patched(at, noise)
    try:
        channel, first_nonce, signature, payments = unpack_update(record)
    except FarthingError:
        return
    assert pack_update(channel, first_nonce, signature, payments) == record
