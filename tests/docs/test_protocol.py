"""docs/protocol.md names the messages, signed types and limits that the code has."""

import re
from pathlib import Path

from farthing.channels import codecs, eip712, frames, handshake, messages, packed, receipt, state

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()


def _table() -> list[tuple[int, str, str]]:
    section = PAGE.split("<!-- messages -->")[1].split("<!-- /messages -->")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.*) \|$", section, re.MULTILINE)
    return [(int(number), name, fields) for number, name, fields in rows]


def test_the_table_of_messages_is_the_one_of_the_codecs() -> None:
    expected = [
        (
            codec.number,
            codec.message.__name__,
            ", ".join(f"`{name}` {field.kind}" for name, field in codec.fields.items()),
        )
        for codec in codecs.CODECS
    ]
    expected += [
        (codecs.UPDATE_NUMBER, "Update", "one packed record, below"),
        (codecs.ACK_NUMBER, "Ack", "one packed record, below"),
    ]
    assert _table() == sorted(expected)


def test_the_signed_types_are_written_as_they_are_hashed() -> None:
    for written in (
        eip712.VOUCHER_TYPE,
        eip712.WITHDRAWAL_TYPE,
        eip712.CLOSE_TYPE,
        eip712.START_CLOSE_TYPE,
        eip712.AUTHENTICATE_TYPE,
    ):
        assert written in PAGE


def test_the_limits_are_the_code_s() -> None:
    assert f"{frames.GREETING_BYTES_MAX:,} bytes" in PAGE
    assert frames.FRAME_BYTES_MAX == 2**20
    assert codecs.CONTROL_BYTES_MAX == 128 * 1024
    assert f"{packed.PAYMENTS_MAX:,}" in PAGE
    assert f"{receipt.RECEIPT_BYTES_MAX:,} bytes" in PAGE
    assert f"{state.UNACKNOWLEDGED_MAX:,}" in PAGE
    assert f"{messages.OUTCOMES_MAX} records" in PAGE
    assert messages.READINGS_BYTES_MAX == 48 * 1024
    assert f"at most {state.OFFER_SECONDS_MAX} s" in PAGE
    assert {role.name for role in handshake.Role} == {"DIALER", "LISTENER"}
