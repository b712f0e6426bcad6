"""Every message goes on the wire, and comes off it, as plain code wrote it from the page alone."""

import re
from typing import Any, TypeAlias

import pytest
import rlp

from farthing.channels import codecs, messages, packed
from farthing.channels.codecs import CODECS, UnknownMessage, decode_message, encode_message
from farthing.channels.errors import PeerError
from farthing.channels.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    FrameEmpty,
    FrameReader,
    FrameTooLong,
    encode_frame,
)
from farthing.channels.messages import OUTCOMES_MAX, READINGS_BYTES_MAX, RecordOutcome, SignedTotal
from farthing.channels.receipt import Receipt, ReceiptType
from farthing.channels.voucher import LaneTotal, Payment

from .forms import filled, hexed, read, unhex
from .wire_plain import OUTCOME, PAYMENT, payload_of, plain_of

Vector: TypeAlias = dict[str, Any]

RECORD = read("wire_messages.json")
TABLE: list[Vector] = RECORD["table"]
VECTORS: list[Vector] = RECORD["messages"]
REFUSED: list[Vector] = RECORD["refused"]
KINDS = {row["message"]: row["fields"] for row in TABLE}


def signed_total(value: Vector | None) -> SignedTotal | None:
    if value is None:
        return None
    return SignedTotal(
        total=LaneTotal(
            nonce=int(value["nonce"]),
            transferred_ucent=int(value["transferred_ucent"]),
            history=unhex(value["history"]),
        ),
        conditions=unhex(value["conditions"]),
        signature=unhex(value["signature"]),
    )


def outcome(value: Vector) -> RecordOutcome:
    numbers = {name: int(value[name]) for name in ("amount_ucent", "nonce")}
    return RecordOutcome(**(value | numbers))


def payment(value: Vector) -> Payment:
    receipt = Receipt(
        type=ReceiptType(int(value["type"])),
        cbor=unhex(value["receipt"]),
        salt=unhex(value["salt"]),
    )
    return Payment(amount_ucent=int(value["amount_ucent"]), receipt=receipt)


def ours(kind: str, value: Any) -> Any:
    """A field's value as our records hold it."""
    if kind.startswith("uint") or kind == "nonce":
        return int(value)
    if kind.startswith("bytes"):
        return unhex(value)
    if kind == "signed":
        return signed_total(value)
    if kind == "text":
        return value
    return tuple({"payments": payment, "outcomes": outcome}[kind](one) for one in value)


def message_of(name: str, fields: Vector) -> Any:
    kinds = KINDS[name]
    assert list(kinds) == list(fields)
    values = {field: ours(kinds[field], value) for field, value in fields.items()}
    return getattr(messages, name)(**values)


def vectors_of(name: str) -> list[Vector]:
    return [vector for vector in VECTORS if vector["message"] == name]


def test_every_codec_row_has_a_row_of_vectors_with_the_same_fields() -> None:
    expected = {
        codec.number: (
            codec.message.__name__,
            [(name, re.sub(r" up to \d+.*", "", f.kind)) for name, f in codec.fields.items()],
        )
        for codec in CODECS
    }
    shown = {
        "signed": "[] or [nonce, transferred, history, conditions, signature]",
        "bytes0or32": "bytes",
        "outcomes": f"up to {OUTCOMES_MAX} of [amount, nonce, code, text, what to do]",
    }
    found = {
        row["number"]: (
            row["message"],
            [(name, shown.get(kind, kind)) for name, kind in row["fields"].items()],
        )
        for row in TABLE
    }
    assert found.pop(codecs.UPDATE_NUMBER)[0] == "Update"
    assert found.pop(codecs.ACK_NUMBER)[0] == "Ack"
    assert found == expected


@pytest.mark.parametrize("name", KINDS)
def test_a_message_is_written_as_the_vectors_say(name: str) -> None:
    for vector in vectors_of(name):
        payload = unhex(vector["payload"])
        assert encode_message(message_of(name, vector["fields"])) == payload, vector["fields"]


@pytest.mark.parametrize("name", KINDS)
def test_a_message_is_read_as_the_vectors_say(name: str) -> None:
    chosen = vectors_of(name)
    assert chosen
    for vector in chosen:
        found = decode_message(unhex(vector["payload"]))
        assert found == message_of(name, vector["fields"])
        assert type(found).__name__ == name


def test_every_number_of_a_message_has_its_bounds_among_the_vectors() -> None:
    for name, kinds in KINDS.items():
        for field, kind in kinds.items():
            seen = {str(vector["fields"][field]) for vector in vectors_of(name)}
            if kind.startswith("uint"):
                assert {"0", "1", str(2 ** int(kind[4:]) - 1)} <= seen
            elif kind == "text":
                assert {0, 512} <= {len(text.encode()) for text in seen}


def test_the_rlp_library_reads_and_writes_the_same_bytes() -> None:
    for vector in VECTORS:
        payload = unhex(vector["payload"])
        items = rlp.decode(payload)
        assert rlp.encode(items) == payload
        assert items[0] == bytes([vector["number"]])


@pytest.mark.parametrize("vector", REFUSED, ids=lambda vector: vector["why"])
def test_a_malformed_payload_is_refused(vector: Vector) -> None:
    expected = UnknownMessage if vector["why"].startswith("unknown number") else PeerError
    with pytest.raises(expected) as caught:
        decode_message(unhex(vector["payload"]))
    assert isinstance(caught.value, UnknownMessage) == (expected is UnknownMessage)


def test_no_payload_is_both_taken_and_refused() -> None:
    taken = {vector["payload"] for vector in VECTORS}
    assert taken.isdisjoint(vector["payload"] for vector in REFUSED)
    assert len(taken) == len(VECTORS)


def changed(name: str, **changes: Any) -> bytes:
    row = next(row for row in TABLE if row["message"] == name)
    described = ", ".join(f"{field} {kind}" for field, kind in row["fields"].items())
    fields: Vector = plain_of(described) | changes
    return payload_of(name, fields)


def test_the_longest_messages_are_taken_and_longer_ones_are_not() -> None:
    # They are too long to stand in the vectors.
    texts = OUTCOME | dict.fromkeys(("code", "text", "what_to_do"), "x" * 512)
    small = PAYMENT | {"receipt": "0x"}
    for name, field, good, bad in (
        ("SubmitReadings", "senml", filled(0x5B, READINGS_BYTES_MAX), filled(1, 49_153)),
        ("ReadingOutcome", "outcomes", [texts] * OUTCOMES_MAX, [texts] * (OUTCOMES_MAX + 1)),
        ("Update", "payments", [small] * packed.PAYMENTS_MAX, [small] * 4097),
    ):
        payload = changed(name, **{field: good})
        found = decode_message(payload)
        assert encode_message(found) == payload
        assert getattr(found, field) == ours(KINDS[name][field], good)
        with pytest.raises(PeerError):
            decode_message(changed(name, **{field: bad}))


def test_frames_are_cut_from_a_stream_wherever_it_is_split() -> None:
    frames = RECORD["frames"]
    stream, payloads = unhex(frames["stream"]), [unhex(one) for one in frames["payloads"]]
    assert b"".join(encode_frame(payload) for payload in payloads) == stream
    for size in range(1, len(stream) + 1):
        reader = FrameReader(frame_bytes_max=FRAME_BYTES_MAX)
        found = [
            payload
            for start in range(0, len(stream), size)
            for payload in reader.feed(stream[start : start + size])
        ]
        assert found == payloads
        assert not reader.partial


@pytest.mark.parametrize("vector", RECORD["frames"]["refused"], ids=lambda vector: vector["why"])
def test_a_malformed_stream_is_refused(vector: Vector) -> None:
    most = FRAME_BYTES_MAX if vector["authenticated"] else GREETING_BYTES_MAX
    with pytest.raises((FrameEmpty, FrameTooLong)):
        FrameReader(frame_bytes_max=most).feed(unhex(vector["stream"]))


def test_the_limits_of_frames_are_those_of_the_vectors() -> None:
    frames = RECORD["frames"]
    assert int(frames["frame_bytes_max"]) == FRAME_BYTES_MAX
    assert int(frames["greeting_bytes_max"]) == GREETING_BYTES_MAX
    assert hexed(encode_frame(b"\xc0")) == "0x00000001c0"
