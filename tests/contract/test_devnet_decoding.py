"""What calls, events and reverts say, and that what is not exactly ours stays raw."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address

from farthing.contracts.artifacts import load
from farthing.devnet.decoding import (
    contract_of,
    decode_call,
    decode_creation,
    decode_event,
    decode_output,
    decode_revert,
    event_names,
    function_entry,
)

from .city import SettleRow, Terms, alice, alice_signer, hub, hub_signer, packed

TERMS = Terms(hub.address, hub_signer.address, alice.address, alice_signer.address, 600, 10, 7)


def calldata(contract: str, name: str, *values: Any) -> bytes:
    entry: Any = function_entry(contract, name)
    types = [collapse_if_tuple(item) for item in entry["inputs"]]
    return bytes(function_abi_to_4byte_selector(entry)) + encode(types, values)


def test_a_packed_voucher_is_decoded_as_the_plain_one() -> None:
    signature = b"\x11" * 32 + b"\x22" * 32 + b"\x1c"
    row = SettleRow(TERMS, 1, 2**64 - 1, 2**96 - 1, b"\x01" * 32, b"\x02" * 32, signature)
    plain = decode_call(calldata("payment_channels", "settle", [row]))
    short = decode_call(calldata("payment_channels", "settle_many", [packed(row)]))
    assert plain is not None
    assert short is not None
    [expected], [found] = plain.arguments["rows"], short.arguments["rows"]  # type: ignore[misc,str-unpack]
    assert found["terms"] == expected["terms"] == TERMS._asdict()  # type: ignore[index]
    for name in ("lane", "nonce", "transferred", "history", "conditions"):
        assert found[name] == expected[name], name  # type: ignore[index]
    assert (found["v"], found["r"], found["s"]) == (28, "0x" + "11" * 32, "0x" + "22" * 32)  # type: ignore[index]


def test_a_call_is_decoded_by_the_contract_that_it_goes_to() -> None:
    data = calldata("city_credit", "transfer", alice.address, 5)
    found = decode_call(data, "city_credit")
    assert found is not None
    assert found.record() == {
        "contract": "city_credit",
        "name": "transfer",
        "arguments": {"to": alice.address, "amount": 5},
    }
    assert decode_call(data, "payment_channels") is None
    assert decode_output(data, encode(["bool"], [True]), "city_credit") == [True]
    assert decode_output(data, b"", "city_credit") is None
    assert decode_output(b"abcd", b"") is None


@pytest.mark.parametrize("broken", [b"", b"\x01", b"abcd", b"abcd" + bytes(32)])
def test_what_is_none_of_ours_stays_raw(broken: bytes) -> None:
    assert decode_call(broken) is None
    assert decode_creation(broken) is None
    assert decode_event([broken.ljust(32, b"\0")], b"") is None
    assert decode_event([], broken) is None
    assert contract_of(broken) is None


def test_a_call_that_is_cut_short_stays_raw() -> None:
    data = calldata("city_credit", "transfer", alice.address, 5)
    for end in (4, 35, 36, 67):
        assert decode_call(data[:end]) is None, end


def test_what_makes_a_contract_is_decoded_with_its_arguments() -> None:
    code = load("member_registry").bytecode + encode(["address"], [hub.address])
    found = decode_creation(code)
    assert found is not None
    assert (found.contract, found.arguments) == ("member_registry", {"registrar": hub.address})
    assert decode_creation(code[:-1]) is None


def test_an_event_with_a_topic_too_few_or_too_short_data_stays_raw() -> None:
    transfer = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
    who = encode(["address"], [alice.address])
    found = decode_event([transfer, who, who], (5).to_bytes(32, "big"))
    assert found is not None
    assert found.arguments == {"sender": alice.address, "receiver": alice.address, "value": 5}
    assert decode_event([transfer, who], (5).to_bytes(32, "big")) is None
    assert decode_event([transfer, who, who], b"\x05") is None
    assert decode_event([transfer, who, who], (5).to_bytes(32, "big"), "member_registry") is None
    assert "Settled" in event_names()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (bytes.fromhex("08c379a0") + encode(["string"], ["channels: no"]), "channels: no"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "panic 0x11"),
        (bytes.fromhex("08c379a0") + b"\x01", None),
        (b"", None),
        (to_checksum_address(alice.address).encode(), None),
    ],
)
def test_a_reverts_reason_is_read(output: bytes, reason: str | None) -> None:
    assert decode_revert(output) == reason
