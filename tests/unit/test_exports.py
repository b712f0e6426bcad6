"""Receipts as a file: every payment of both lanes, whole or not at all."""

import json
from pathlib import Path

import pytest

from farthing.channels.client.exports import FileExists, NoDatabase, export_receipts
from farthing.channels.client.ledger import RECEIVED, SENT, Ledger, StoredPayment
from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.voucher import LaneTotal, replay

from ..people import CHANNEL, TERMS, channel, payment


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Alice's: she has paid bob 1 and 2 µ¢, and he her 5."""
    path = tmp_path / "alice.sqlite"
    ledger = Ledger(path)
    rows = []
    for direction, amounts in ((SENT, (1, 2)), (RECEIVED, (5,))):
        payments = [payment(amount, number=n) for n, amount in enumerate(amounts)]
        totals = replay(LaneTotal(), payments)
        rows += [
            (CHANNEL, direction, StoredPayment(payment=one, total=total))
            for one, total in zip(payments, totals, strict=True)
        ]
    ledger.commit([channel()], rows, [])
    ledger.close()
    return path


def test_each_payment_is_a_line_lane_by_lane(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "receipts.jsonl"
    assert export_receipts(database, out) == (3, 8)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["nonce"], line["amount_ucent"]) for line in lines] == [(1, 1), (2, 2), (1, 5)]
    account_a, account_b = address_to_hex(TERMS.account_a), address_to_hex(TERMS.account_b)
    assert [line["payer"] for line in lines] == [account_a, account_a, account_b]
    assert [line["payee"] for line in lines] == [account_b, account_b, account_a]
    first = payment(1, number=0).receipt
    assert lines[0] == {
        "v": 1,
        "channel": to_hex(CHANNEL),
        "payer": account_a,
        "payee": account_b,
        "nonce": 1,
        "amount_ucent": 1,
        "type": 2,
        "receipt": to_hex(first.cbor),
        "salt": to_hex(first.salt),
    }


def test_a_database_may_be_in_use_meanwhile(database: Path, tmp_path: Path) -> None:
    ledger = Ledger(database)
    assert export_receipts(database, tmp_path / "out")[0] == 3
    ledger.commit((), (), [("INSERT INTO setting VALUES ('still', 'writable')", ())])
    ledger.close()


def test_nothing_is_made_where_there_is_no_database(tmp_path: Path) -> None:
    missing = tmp_path / "hub.sqlite"
    with pytest.raises(NoDatabase):
        export_receipts(missing, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []  # an empty one would lack its owner's tables


def test_a_file_that_stands_there_is_never_replaced(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "key.json"
    out.write_text("precious\n")
    with pytest.raises(FileExists, match=r"key\.json exists"):
        export_receipts(database, out)
    assert out.read_text() == "precious\n"


def test_nothing_appears_when_it_cannot_be_written(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(OSError, match="partial"):
        export_receipts(database, out)
    assert not out.exists()
