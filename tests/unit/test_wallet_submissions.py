"""Packs of readings as a wallet queues them: checked, and with times that stay what they were."""

from decimal import Decimal

import cbor2
import pytest

from farthing.channels.client.submissions import pack_of
from farthing.channels.senml import MalformedReading, PackFormat, Record, encode_json, parse

NOW = 1_700_000_000


def test_records_are_written_as_json() -> None:
    record = Record(name="flow", time=Decimal(NOW), value=Decimal("1.50"), unit="l/s")
    pack = pack_of([record], PackFormat.CBOR, now=NOW)
    assert pack.format is PackFormat.JSON
    assert parse(pack.senml, 110, now=0) == (record,)
    assert pack.records == 1


def test_bytes_with_absolute_times_stay_as_they_are() -> None:
    for content, pack_format in (
        (b'[{"n":"a","t":1700000000,"v":1,"x":"unknown"}]', PackFormat.JSON),
        (cbor2.dumps([{0: "a", 6: 1700000000, 2: 1}]), PackFormat.CBOR),
    ):
        pack = pack_of(content, pack_format, now=NOW)
        assert (pack.senml, pack.format) == (content, pack_format)


@pytest.mark.parametrize("when", ["", ',"t":0', ',"t":-3'])
def test_a_time_relative_to_now_is_fixed_when_it_is_queued(when: str) -> None:
    content = f'[{{"n":"a","v":1{when}}},{{"n":"b","t":1700000000,"v":2}}]'.encode()
    pack = pack_of(content, PackFormat.JSON, now=NOW)
    later = parse(pack.senml, pack.format, now=NOW + 1_000_000)
    assert later == parse(content, PackFormat.JSON, now=NOW)


def test_a_relative_time_in_cbor_is_fixed_too() -> None:
    pack = pack_of(cbor2.dumps([{0: "a", 2: 1}]), PackFormat.CBOR, now=NOW)
    assert parse(pack.senml, pack.format, now=5) == parse(
        encode_json([Record(name="a", time=Decimal(NOW), value=Decimal(1))]), 110, now=5
    )


def test_the_same_content_has_the_same_digest_whenever_it_is_queued() -> None:
    content = b'[{"n":"a","v":1}]'
    one, other = (pack_of(content, PackFormat.JSON, now=now) for now in (NOW, NOW + 60))
    assert one.digest == other.digest
    assert one.senml != other.senml
    assert pack_of(b'[{"n":"a","v":2}]', PackFormat.JSON, now=NOW).digest != one.digest


@pytest.mark.parametrize("content", [b"", b"[]", b'[{"n":"a"}]', b'[{"n":"a","v":1e999}]'])
def test_what_no_hub_could_read_is_not_queued(content: bytes) -> None:
    with pytest.raises(MalformedReading):
        pack_of(content, PackFormat.JSON, now=NOW)


def test_no_records_are_no_pack() -> None:
    with pytest.raises(MalformedReading):
        pack_of([], PackFormat.JSON, now=NOW)
