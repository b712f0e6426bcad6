"""References, receipts and histories are those that plain CBOR, hashlib and eth-abi give."""

from typing import Any

import pytest

from farthing.channels.errors import FarthingError
from farthing.channels.ids import ZERO_WORD
from farthing.channels.receipt import MalformedReceipt, Receipt, ReceiptType, make_receipt
from farthing.channels.units import AmountOutOfRange
from farthing.channels.voucher import LaneTotal, MalformedVoucher, Payment, replay

from .forms import read, unhex

RECEIPTS = read("receipts.json")
HISTORIES = read("histories.json")


def fields_of(written: list[dict[str, str]]) -> dict[str, Any]:
    readers: dict[str, Any] = {"uint": int, "text": str, "bytes": unhex}
    return {field["name"]: readers[field["type"]](field["value"]) for field in written}


def test_the_types_of_receipts_have_the_numbers_of_the_vectors() -> None:
    assert {kind.name.lower(): int(kind) for kind in ReceiptType} == RECEIPTS["types"]
    assert {vector["kind"] for vector in RECEIPTS["receipts"]} == set(RECEIPTS["types"])


def test_we_encode_and_refer_to_receipts_as_the_vectors_do() -> None:
    for vector in RECEIPTS["receipts"]:
        fields = fields_of(vector["fields"])
        kind = ReceiptType(vector["type"])
        receipt = make_receipt(kind, fields, salt=unhex(vector["salt"]))
        assert receipt.cbor == unhex(vector["cbor"])
        assert receipt.reference() == unhex(vector["reference"])


def test_we_read_receipts_as_the_vectors_do() -> None:
    for vector in RECEIPTS["receipts"]:
        receipt = Receipt(
            type=ReceiptType(vector["type"]),
            cbor=unhex(vector["cbor"]),
            salt=unhex(vector["salt"]),
        )
        assert receipt.fields() == fields_of(vector["fields"])


@pytest.mark.parametrize("vector", RECEIPTS["refused"], ids=lambda v: f"{v['kind']} {v['why']}")
def test_we_refuse_what_is_no_receipt(vector: dict[str, Any]) -> None:
    with pytest.raises(MalformedReceipt):
        Receipt(
            type=ReceiptType(vector["type"]), cbor=unhex(vector["cbor"]), salt=ZERO_WORD
        ).fields()


def test_no_two_receipts_have_the_same_reference() -> None:
    references = {vector["reference"] for vector in RECEIPTS["receipts"]}
    assert len(references) == len(RECEIPTS["receipts"])


def payment_of(row: dict[str, Any]) -> Payment:
    receipt = Receipt(
        type=ReceiptType(row["type"]), cbor=unhex(row["receipt"]), salt=unhex(row["salt"])
    )
    assert receipt.reference() == unhex(row["reference"])
    return Payment(amount_ucent=int(row["amount"]), receipt=receipt)


@pytest.mark.parametrize("lane", HISTORIES["lanes"], ids=lambda lane: lane["name"])
def test_a_lane_stands_after_each_payment_where_the_vectors_say(lane: dict[str, Any]) -> None:
    payments = [payment_of(row) for row in lane["payments"]]
    assert LaneTotal().history == unhex(HISTORIES["start"])
    for total, row in zip(replay(LaneTotal(), payments), lane["payments"], strict=True):
        assert total.nonce == int(row["nonce"])
        assert total.transferred_ucent == int(row["transferred"])
        assert total.history == unhex(row["history"])


def test_the_lanes_reach_both_ends_of_what_a_lane_holds() -> None:
    totals = {row["transferred"] for lane in HISTORIES["lanes"] for row in lane["payments"]}
    assert {"1", str(2**96 - 1)} <= totals
    amounts = {row["amount"] for lane in HISTORIES["lanes"] for row in lane["payments"]}
    assert {"1", str(2**96 - 1), str(2**64)} <= amounts


@pytest.mark.parametrize("vector", HISTORIES["refused"], ids=lambda v: v["why"])
def test_we_refuse_a_payment_that_a_lane_cannot_hold(vector: dict[str, Any]) -> None:
    receipt = payment_of(HISTORIES["lanes"][0]["payments"][0]).receipt
    *earlier, last = (int(amount) for amount in vector["amounts"])
    before = replay(LaneTotal(), [Payment(amount_ucent=n, receipt=receipt) for n in earlier])
    expected: type[FarthingError] = MalformedVoucher if earlier else AmountOutOfRange
    with pytest.raises(expected):
        replay((LaneTotal(), *before)[-1], [Payment(amount_ucent=last, receipt=receipt)])
