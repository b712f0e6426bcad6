"""Every message has a number, a codec row and a strategy, survives its encoding, and has limits."""

import dataclasses
import typing
from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels import codecs, messages
from farthing.channels.codecs import (
    ACK_NUMBER,
    CODECS,
    CONTROL_BYTES_MAX,
    UPDATE_NUMBER,
    UnknownMessage,
    decode_message,
    encode_message,
)
from farthing.channels.errors import PeerError
from farthing.channels.fields import MalformedMessage, UnwritableValue
from farthing.channels.frames import GREETING_BYTES_MAX
from farthing.channels.messages import (
    OUTCOMES_MAX,
    READINGS_BYTES_MAX,
    Ack,
    Error,
    Message,
    Ping,
    ReadingOutcome,
    RecordOutcome,
    SubmitReadings,
    Update,
)

from ..people import CHANNEL, payment
from ..strategies import ANY_MESSAGE, MESSAGES

PACKED = {Update: UPDATE_NUMBER, Ack: ACK_NUMBER}
NUMBERS = {codec.message: codec.number for codec in CODECS} | PACKED
KINDS = typing.get_args(Message)


def test_every_message_class_is_part_of_the_union() -> None:
    parts = {messages.SignedTotal, messages.RecordOutcome, codecs.Codec}
    records = {
        value
        for value in vars(messages).values()
        if isinstance(value, type)
        and value.__module__ == messages.__name__
        and dataclasses.is_dataclass(value)
    }
    assert records - parts == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_has_a_number_and_a_strategy(kind: type[Any]) -> None:
    assert kind in NUMBERS, f"{kind.__name__} has no row in CODECS"
    assert kind in MESSAGES, f"{kind.__name__} has no strategy in tests/strategies.py"


def test_no_codec_and_no_strategy_is_without_its_message() -> None:
    assert set(NUMBERS) == set(MESSAGES) == set(KINDS)


def test_no_two_messages_share_a_number() -> None:
    used = list(NUMBERS.values())
    assert len(set(used)) == len(used) == len(CODECS) + len(PACKED)
    assert all(1 <= number < 0x80 for number in used)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.message.__name__)
def test_a_codec_row_names_the_fields_of_its_message_in_order(codec: codecs.Codec) -> None:
    assert list(codec.fields) == [field.name for field in dataclasses.fields(codec.message)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_message_reads_back_as_what_was_written(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    payload = encode_message(message)
    assert decode_message(payload) == message
    assert encode_message(decode_message(payload)) == payload
    assert payload[1 if payload[0] < 0xF8 else payload[0] - 0xF6] == NUMBERS[kind]


@pytest.mark.parametrize("kind", [messages.Hello, messages.Challenge, messages.Authenticate])
@given(data=st.data())
def test_a_greeting_fits_the_limit_for_strangers(kind: type[Any], data: st.DataObject) -> None:
    assert len(encode_message(data.draw(MESSAGES[kind]))) <= GREETING_BYTES_MAX


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused_as_the_peer_s_fault(payload: bytes) -> None:
    try:
        message = decode_message(payload)
    except PeerError:
        return
    assert encode_message(message) == payload


@given(ANY_MESSAGE, st.data())
def test_a_damaged_message_is_another_message_or_refused(
    message: Message, data: st.DataObject
) -> None:
    payload = encode_message(message)
    at = data.draw(st.integers(0, len(payload) - 1))
    damaged = payload[:at] + data.draw(st.binary(min_size=1, max_size=4)) + payload[at + 1 :]
    try:
        decoded = decode_message(damaged)
    except PeerError:
        return
    assert encode_message(decoded) == damaged


@pytest.mark.parametrize("number", [7, 11, 43, 47, 50, 127, 128, 255])
def test_an_unknown_number_is_refused_aloud(number: int) -> None:
    with pytest.raises(UnknownMessage) as caught:
        decode_message(rlp.encode([bytes([number])]))
    assert caught.value.number == number


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        rlp.encode(b"no list"),
        rlp.encode([]),
        rlp.encode([b""]),
        rlp.encode([b"\0", b"\x01"]),
        rlp.encode([b"\x01\x02"]),
        rlp.encode([[b"\x05"], b"\x01"]),
        rlp.encode([b"\x05", b"\x01"]) + b"\0",
    ],
)
def test_a_payload_without_a_list_and_a_number_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(payload)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.message.__name__)
def test_a_message_with_a_field_too_few_or_too_many_is_refused(codec: codecs.Codec) -> None:
    number = bytes([codec.number])
    for count in (len(codec.fields) - 1, len(codec.fields) + 1):
        with pytest.raises(MalformedMessage, match=f"{codec.message.__name__} has {count} fields"):
            decode_message(rlp.encode([number, *[b""] * count]))


@pytest.mark.parametrize("number", [UPDATE_NUMBER, ACK_NUMBER])
def test_a_hot_message_is_one_record_and_nothing_else(number: int) -> None:
    wrong: list[list[Any]] = [[], [b"", b""], [[]]]
    for items in wrong:
        with pytest.raises(MalformedMessage):
            decode_message(rlp.encode([bytes([number]), *items]))


def test_what_a_record_refuses_is_the_peer_s_fault_whoever_reads_it() -> None:
    update = Update(channel=CHANNEL, first_nonce=1, signature=bytes(65), payments=(payment(5),))
    record = bytearray(rlp.decode(encode_message(update))[1])
    record[107:119] = bytes(12)
    with pytest.raises(MalformedMessage, match="out of range"):
        decode_message(rlp.encode([bytes([UPDATE_NUMBER]), bytes(record)]))


def test_a_control_message_over_its_limit_is_refused() -> None:
    payload = rlp.encode([b"\x18", bytes(16), b"\x01", bytes(CONTROL_BYTES_MAX)])
    with pytest.raises(MalformedMessage, match=f"over {CONTROL_BYTES_MAX}"):
        decode_message(payload)


def test_readings_are_taken_up_to_their_limit() -> None:
    submission = SubmitReadings(id=bytes(16), format=1, senml=bytes(READINGS_BYTES_MAX))
    assert decode_message(encode_message(submission)) == submission
    longer = bytes(READINGS_BYTES_MAX + 1)
    with pytest.raises(UnwritableValue):
        encode_message(dataclasses.replace(submission, senml=longer))
    with pytest.raises(MalformedMessage, match=str(READINGS_BYTES_MAX)):
        decode_message(rlp.encode([b"\x18", bytes(16), b"\x01", longer]))


def test_outcomes_are_taken_up_to_their_limit() -> None:
    paid = RecordOutcome(amount_ucent=12_500, nonce=1, code="", text="", what_to_do="")
    full = ReadingOutcome(id=bytes(16), outcomes=(paid,) * OUTCOMES_MAX)
    assert decode_message(encode_message(full)) == full
    over = dataclasses.replace(full, outcomes=(paid,) * (OUTCOMES_MAX + 1))
    with pytest.raises(MalformedMessage, match=f"more than {OUTCOMES_MAX}"):
        decode_message(encode_message(over))


def test_the_longest_outcomes_fit_a_control_message() -> None:
    text = "x" * 5000
    most = {"amount_ucent": 2**96 - 1, "nonce": 2**64 - 1}
    refused = RecordOutcome(code=text, text=text, what_to_do=text, **most)
    message = ReadingOutcome(id=bytes(16), outcomes=(refused,) * OUTCOMES_MAX)
    decoded = decode_message(encode_message(message))
    assert isinstance(decoded, ReadingOutcome)
    assert len(decoded.outcomes) == OUTCOMES_MAX


def test_an_error_names_a_channel_or_none() -> None:
    error = Error(code="stale-view", channel=b"", text="the view is old", what_to_do="wait")
    for channel in (b"", CHANNEL):
        named = dataclasses.replace(error, channel=channel)
        assert decode_message(encode_message(named)) == named
    with pytest.raises(UnwritableValue, match="31 bytes"):
        encode_message(dataclasses.replace(error, channel=bytes(31)))
    with pytest.raises(MalformedMessage, match="bytes stand where"):
        decode_message(rlp.encode([b"\x04", b"stale-view", bytes(31), b"", b""]))


def test_a_voucher_that_no_lane_can_have_is_refused_in_a_reestablish() -> None:
    lane = [b"\x02", b"\x01", bytes(32), bytes(32), bytes(65)]
    with pytest.raises(MalformedMessage, match="1 µ¢ after 2 payments"):
        decode_message(rlp.encode([b"\x0a", bytes(32), lane, []]))
    with pytest.raises(MalformedMessage, match="another length"):
        decode_message(rlp.encode([b"\x0a", bytes(32), lane[:4], []]))


def test_a_nested_list_is_refused_where_a_value_belongs() -> None:
    with pytest.raises(MalformedMessage, match="a list stands"):
        decode_message(rlp.encode([b"\x05", [[b"\x01"]]]))
    assert decode_message(rlp.encode([b"\x05", b"\x01"])) == Ping(token=1)
