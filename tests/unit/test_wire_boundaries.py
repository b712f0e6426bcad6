"""The wire's edges: the last size that is still read, and the codes by which programs know errors.

Each test stands here because a mutant of a codec survived without it; see docs/mutation.md.
"""

import pytest
import rlp

from farthing.channels.codecs import UnknownMessage, decode_message
from farthing.channels.eip712 import UnsignableValue
from farthing.channels.errors import FarthingError
from farthing.channels.fields import (
    TEXT_BYTES_MAX,
    MalformedMessage,
    UnwritableValue,
    decode_text,
    encode_text,
    uint,
    upto,
)
from farthing.channels.frames import (
    FRAME_BYTES_MAX,
    LENGTH_BYTES,
    FrameEmpty,
    FrameReader,
    FrameTooLong,
    encode_frame,
)
from farthing.channels.packed import (
    PAYMENT_OVERHEAD_BYTES,
    PAYMENTS_MAX,
    UPDATE_PAYMENT_BYTES_MAX,
    MalformedRecord,
    fits_one_update,
)
from farthing.channels.receipt import RECEIPT_BYTES_MAX, Receipt, ReceiptType
from farthing.channels.rlp_items import DEPTH_MAX, ITEMS_MAX, read_list
from farthing.channels.voucher import MalformedVoucher, Payment

CODES: dict[type[FarthingError], str] = {
    UnknownMessage: "unknown-message",
    MalformedMessage: "malformed-message",
    MalformedRecord: "malformed-record",
    FrameTooLong: "frame-too-long",
    FrameEmpty: "frame-empty",
    UnwritableValue: "unwritable-value",
    UnsignableValue: "unsignable-value",
    MalformedVoucher: "malformed-voucher",
}


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_an_error_of_the_wire_keeps_its_code(kind: type[FarthingError]) -> None:
    assert kind.code == CODES[kind]


def test_an_unknown_message_is_named_by_its_number() -> None:
    with pytest.raises(UnknownMessage, match="number 123") as caught:
        decode_message(rlp.encode([bytes([123])]))
    assert caught.value.number == 123


def test_an_unsignable_value_says_what_it_is_and_what_it_should_be() -> None:
    number, octets = UnsignableValue(300, kind="uint8"), UnsignableValue(b"abc", kind="bytes32")
    assert (number.value, number.kind, number.text) == (300, "uint8", number.text)
    assert "300" in number.text
    assert "3 bytes" in octets.text
    assert (octets.value, octets.kind) == (b"abc", "bytes32")


# -- updates ------------------------------------------------------------------------------------


def payment(receipt_bytes: int) -> Payment:
    receipt = Receipt(type=ReceiptType.USAGE, cbor=bytes(receipt_bytes), salt=bytes(32))
    return Payment(amount_ucent=1, receipt=receipt)


def test_payments_that_fill_an_update_to_its_last_byte_fit_and_one_byte_more_does_not() -> None:
    whole = PAYMENT_OVERHEAD_BYTES + RECEIPT_BYTES_MAX
    count, rest = divmod(UPDATE_PAYMENT_BYTES_MAX, whole)
    while rest < PAYMENT_OVERHEAD_BYTES:
        count, rest = count - 1, rest + whole
    fillers = [payment(RECEIPT_BYTES_MAX)] * count
    exact: list[Payment] = []
    more: list[Payment] = []
    for size, into in ((rest, exact), (rest + 1, more)):
        left = size
        while left > whole:
            into.append(payment(left - whole - PAYMENT_OVERHEAD_BYTES))
            left = whole
        into.append(payment(left - PAYMENT_OVERHEAD_BYTES))
    assert fits_one_update((*fillers, *exact))
    assert not fits_one_update((*fillers, *more))


def test_as_many_payments_as_an_update_may_have_fit_and_one_more_does_not() -> None:
    assert fits_one_update((payment(0),) * PAYMENTS_MAX)
    assert not fits_one_update((payment(0),) * (PAYMENTS_MAX + 1))


# -- RLP ----------------------------------------------------------------------------------------


def test_as_many_items_as_a_message_may_hold_are_read_and_one_more_is_not() -> None:
    assert len(read_list(rlp.encode([b""] * (ITEMS_MAX - 1)))) == ITEMS_MAX - 1
    with pytest.raises(MalformedMessage, match="more than 512 items"):
        read_list(rlp.encode([b""] * ITEMS_MAX))


def test_lists_as_deep_as_a_message_are_read_and_one_deeper_is_not() -> None:
    nested: list[object] = []
    for _ in range(DEPTH_MAX - 1):
        nested = [nested]
    assert read_list(rlp.encode(nested)) == nested
    with pytest.raises(MalformedMessage, match="deeper than 3"):
        read_list(rlp.encode([nested]))


@pytest.mark.parametrize("size", [0, 1, 2, 54, 55, 56, 57, 255, 256, 65_535, 65_536])
def test_strings_and_lists_of_every_form_of_length_are_read(size: int) -> None:
    items = [b"\x80" * size, b"\x00" * size]
    assert read_list(rlp.encode(items)) == items
    assert read_list(rlp.encode([items])) == [items]


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1\x81",  # a string that says one byte and has none
        b"\xc2\x81\x7f",  # a byte that is its own string, written longer
        b"\xf8\x37" + b"\x80" * 55,  # a length that would fit the short form
        b"\xf9\x00\x38" + b"\x80" * 56,  # a length with a leading zero
        b"\xf8",  # a long form without its length
        b"\xf9\x01",  # half of its length
        b"\xc1\xc1",  # a list inside that says one byte and has none
        b"\xc2\x82\x80",  # a string that ends after its list
        b"\xc0\x80",  # something after the list
        b"\x80",  # no list
    ],
)
def test_rlp_of_another_form_than_the_one_there_is_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_list(payload)


def test_a_byte_from_128_on_is_written_with_its_length() -> None:
    assert read_list(b"\xc2\x81\x80") == [b"\x80"]
    assert read_list(b"\xc1\x7f") == [b"\x7f"]


# -- frames and fields --------------------------------------------------------------------------


def test_the_longest_frame_is_written_and_read_and_one_byte_more_is_neither() -> None:
    longest = encode_frame(bytes(FRAME_BYTES_MAX))
    assert FrameReader(frame_bytes_max=FRAME_BYTES_MAX).feed(longest) == [bytes(FRAME_BYTES_MAX)]
    with pytest.raises(FrameTooLong) as written:
        encode_frame(bytes(FRAME_BYTES_MAX + 1))
    with pytest.raises(FrameTooLong) as read:
        FrameReader(frame_bytes_max=9).feed((10).to_bytes(LENGTH_BYTES, "big"))
    for error, sizes in (
        (written.value, (FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX)),
        (read.value, (10, 9)),
    ):
        assert (error.announced_bytes, error.maximum_bytes) == sizes
        assert str(sizes[0]) in error.text


def test_integers_are_read_and_written_up_to_their_last_bit() -> None:
    for bits in (8, 16, 64, 96):
        field = uint(bits)
        largest = 2**bits - 1
        assert field.decode(field.encode(largest)) == largest
        assert field.decode(field.encode(0)) == 0
        assert field.encode(0) == b""
        for wrong in (largest + 1, -1):
            with pytest.raises(UnwritableValue):
                field.encode(wrong)
        with pytest.raises(MalformedMessage):
            field.decode(b"\x01" + bytes(bits // 8))
        with pytest.raises(MalformedMessage):
            field.decode(b"\0")


def test_texts_and_bytes_are_read_up_to_their_last_byte() -> None:
    assert decode_text(b"x" * TEXT_BYTES_MAX) == "x" * TEXT_BYTES_MAX
    with pytest.raises(MalformedMessage):
        decode_text(b"x" * (TEXT_BYTES_MAX + 1))
    assert encode_text("x" * (TEXT_BYTES_MAX + 1)) == b"x" * TEXT_BYTES_MAX
    for size in (0, 5):
        assert upto(5).decode(upto(5).encode(bytes(size))) == bytes(size)
    either = upto(5, lengths=(0, 5))
    assert (either.decode(b""), either.decode(bytes(5))) == (b"", bytes(5))
    for wrong in (bytes(1), bytes(4), bytes(6)):
        with pytest.raises(MalformedMessage):
            either.decode(wrong)
        with pytest.raises(UnwritableValue):
            either.encode(wrong)
