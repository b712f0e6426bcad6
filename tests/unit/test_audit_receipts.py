"""What the auditor reads from receipts files, and what it says about lines that are no payments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.ids import Address, ChannelId, to_hex
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.node.audit.errors import UnreadableFile
from farthing.node.audit.receipts import (
    LINE_BYTES_MAX,
    MALFORMED_MAX,
    ReceiptsReader,
    read_receipts,
)
from farthing.node.audit.records import Code, LaneId, Receipts

LANE = LaneId(channel=ChannelId(b"\xab" * 32), payer=Address(b"\x11" * 20))


def _line(nonce: int = 1, amount: int = 1_250, **changes: object) -> dict[str, Any]:
    fields = {"amount": amount, "block": 7, "at": 1_070, "purpose": "parking"}
    receipt = make_receipt(ReceiptType.USAGE, fields, salt=b"\x33" * 32)
    return {
        "v": 1,
        "channel": to_hex(LANE.channel),
        "payer": to_hex(LANE.payer),
        "payee": "0x" + "22" * 20,
        "nonce": nonce,
        "amount_ucent": amount,
        "type": 2,
        "receipt": to_hex(receipt.cbor),
        "salt": to_hex(receipt.salt),
    } | changes


def _read(*lines: dict[str, Any] | bytes) -> Receipts:
    reader = ReceiptsReader()
    reader.add("hub", [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines])
    return reader.receipts()


def test_a_line_becomes_a_payment_of_its_lane() -> None:
    receipts = _read(_line(), _line(nonce=2, amount=3))
    assert receipts.findings == ()
    assert receipts.count == 2
    assert receipts.paid_ucent == 1_253
    assert receipts.blocks == {7}
    (record,) = receipts.lanes[LANE][1]
    assert record.place == "hub:1"
    assert record.amount_ucent == record.stated_ucent == 1_250
    assert (record.block, record.at) == (7, 1_070)


def test_blank_lines_count_for_nothing_but_their_number() -> None:
    receipts = _read(b"\n", b"  \n", _line())
    assert receipts.count == 1
    assert receipts.lanes[LANE][1][0].place == "hub:3"


def test_the_same_payment_in_another_spelling_of_its_addresses_counts_once() -> None:
    address = "0x" + "dbf03b407c01e7cd3cbea99509d93f8dddc8c6fb"
    receipts = _read(
        _line(payee=address), _line(payee="0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB")
    )
    assert receipts.count == 1
    assert receipts.findings == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 5_000, "not JSON"),
        (b'{"v":' + b"9" * 5_000 + b"}", "not JSON"),
        (b'{"v":1,"v":1}', "'v' stands there twice"),
        (b" " * 8 + b"x" * LINE_BYTES_MAX, "longer than"),
        ({}, "missing or unknown: amount_ucent"),
        (_line(memo="x"), "missing or unknown: memo"),
        (_line(v=2), "no version 1"),
        (_line(v=True), "no version 1"),
        (_line(channel=5), "'channel' is not a text"),
        (_line(channel="0x12"), "is not 32 bytes of hex"),
        (_line(channel="0x" + "AB" * 32), "not in lower case"),
        (_line(payer="0x" + "1" * 39), "not 20 bytes of hex"),
        (_line(payee="0xDBF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"), "EIP-55"),
        (_line(nonce=0), "'nonce' is not a whole number"),
        (_line() | {"nonce": 1.0}, "'nonce' is not a whole number"),
        (_line(nonce=True), "'nonce' is not a whole number"),
        (_line(nonce=2**64), "'nonce' is not a whole number"),
        (_line(amount_ucent=0), "'amount_ucent' is not a whole number"),
        (_line(amount_ucent=-5), "'amount_ucent' is not a whole number"),
        (_line(amount_ucent="5"), "'amount_ucent' is not a whole number"),
        (_line(amount_ucent=2**96), "'amount_ucent' is not a whole number"),
        (_line(type=4), "'type' is not a whole number"),
        (_line(receipt="0x0"), "receipt '0x0'"),
        (_line(receipt=""), "receipt ''"),
        (_line(receipt="0x" + "00" * 1_025), "longer than 1024 bytes"),
        (_line(salt="0x33"), "salt '0x33'"),
    ],
)
def test_a_line_that_is_no_payment_is_named_and_the_next_one_read(
    line: dict[str, Any] | bytes, reason: str
) -> None:
    receipts = _read(line, _line())
    (finding,) = receipts.findings
    assert finding.code is Code.MALFORMED_LINE
    assert finding.subject == "hub:1"
    assert finding.text.startswith("hub:1: ")
    assert reason in finding.text
    assert len(finding.text) < 400
    assert receipts.count == 1


@given(st.binary(max_size=200))
def test_no_bytes_stop_the_reader(line: bytes) -> None:
    receipts = _read(line, _line())
    assert LANE in receipts.lanes


@given(st.binary(min_size=1, max_size=60))
def test_any_content_of_a_receipt_is_read_or_named(cbor: bytes) -> None:
    receipts = _read(_line(receipt=to_hex(cbor)))
    (record,) = receipts.lanes[LANE][1]
    if record.stated_ucent is None:
        (finding,) = receipts.findings
        assert finding.code is Code.MALFORMED_RECEIPT
        assert (finding.channel, finding.payer, finding.nonce) == (LANE.channel, LANE.payer, 1)


def test_an_unreadable_receipt_keeps_its_place_in_the_lane() -> None:
    receipts = _read(_line(receipt="0x00"))
    (finding,) = receipts.findings
    assert finding.code is Code.MALFORMED_RECEIPT
    assert "the receipt is not a map" in finding.text
    assert receipts.lanes[LANE][1][0].block is None


def test_a_file_that_is_something_else_is_not_reported_line_by_line() -> None:
    receipts = _read(*[b"something else"] * (MALFORMED_MAX + 50))
    assert len(receipts.findings) == MALFORMED_MAX + 1
    assert receipts.findings[-1].text == "hub: 50 more lines are no payments"


def test_two_files_that_tell_the_same_count_once_and_others_contradict(tmp_path: Path) -> None:
    hub, wallet = tmp_path / "hub.jsonl", tmp_path / "wallet.jsonl"
    hub.write_text(f"{json.dumps(_line(1))}\n{json.dumps(_line(2))}\n")
    wallet.write_text(f"{json.dumps(_line(2))}\n{json.dumps(_line(1, amount=9))}")
    receipts = read_receipts([hub, wallet])
    assert receipts.count == 2
    (finding,) = receipts.findings
    assert finding.code is Code.EQUIVOCATION
    assert finding.subject == f"{wallet}:2"
    assert f"another payment than {hub}:1" in finding.text
    assert len(receipts.lanes[LANE][1]) == 2


def test_a_file_without_line_ends_is_one_bad_line(tmp_path: Path) -> None:
    file = tmp_path / "endless.jsonl"
    good = json.dumps(_line()).encode()
    file.write_bytes(b"x" * (3 * LINE_BYTES_MAX) + b"\n" + good + b"\n")
    receipts = read_receipts([file])
    (finding,) = receipts.findings
    assert "longer than" in finding.text
    assert receipts.lanes[LANE][1][0].place == f"{file}:2"


def test_a_line_of_the_greatest_length_does_not_swallow_the_next(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    good = json.dumps(_line()).encode()
    file.write_bytes(b"x" * (LINE_BYTES_MAX - 1) + b"\n" + good)
    assert read_receipts([file]).count == 1


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(UnreadableFile, match=str(path)):
            read_receipts([path])
