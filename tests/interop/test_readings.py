"""What a receipt's `reading` commits to is what the vectors say, from the pack as it was sent."""

from typing import Any

import pytest

from farthing.channels.senml import PackFormat, parse, record_commitment
from farthing.channels.senml_record import encode_json

from .forms import read, unhex

FILE = read("readings.json")


@pytest.mark.parametrize("row", FILE["vectors"], ids=lambda row: row["record"]["n"])
def test_a_record_resolves_and_is_committed_to_as_the_vector_says(row: dict[str, Any]) -> None:
    records = parse(row["pack"].encode(), PackFormat.JSON, now=int(FILE["now"]))
    index = int(row["index"])
    record = records[index]
    written = encode_json([record]).decode()
    for label, value in row["record"].items():
        assert f'"{label}":{value}' in written or f'"{label}":"{value}"' in written
    assert record_commitment(unhex(FILE["submission"]), index, record) == unhex(row["reading"])
