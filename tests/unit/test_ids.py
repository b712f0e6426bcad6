"""Identifiers have one spelling each, and a misspelt one is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.hashing import keccak256
from farthing.channels.ids import (
    ChecksumMismatch,
    MalformedHex,
    address_from_hex,
    address_to_hex,
    bytes_from_hex,
    channel_from_hex,
    to_hex,
)

EIP_55 = [  # the examples of the EIP itself
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


def test_keccak_is_the_one_of_ethereum() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == empty


@pytest.mark.parametrize("text", EIP_55)
def test_an_address_is_written_and_read_with_its_checksum(text: str) -> None:
    assert address_to_hex(address_from_hex(text)) == text


@pytest.mark.parametrize("text", EIP_55)
def test_an_address_in_one_case_carries_no_checksum_and_is_read(text: str) -> None:
    address = bytes.fromhex(text[2:])
    assert address_from_hex("0x" + text[2:].lower()) == address
    assert address_from_hex("0x" + text[2:].upper()) == address


def test_an_address_with_one_letter_in_the_wrong_case_is_refused() -> None:
    with pytest.raises(ChecksumMismatch, match="EIP-55"):
        address_from_hex("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "ab" * 20,
        "0X" + "ab" * 20,
        "0x" + "ab" * 19,
        "0x" + "ab" * 21,
        "0x" + "a" * 39,
        "0x" + "g" * 40,
        "0x" + "ab" * 19 + "  ",
        "0x" + "ab" * 10 + " ab " + "ab" * 8,
        "0x" + "ab" * 19 + "\n\n",
        "0x" + "é" * 40,
    ],
)
def test_an_address_that_is_not_twenty_bytes_of_hex_is_refused(text: str) -> None:
    with pytest.raises(MalformedHex, match="address") as caught:
        address_from_hex(text)
    assert "40 hexadecimal digits" in caught.value.what_to_do


def test_a_channel_id_has_one_spelling() -> None:
    text = "0x" + "ab" * 32
    assert channel_from_hex(text) == b"\xab" * 32
    with pytest.raises(MalformedHex, match="lower case"):
        channel_from_hex("0x" + "AB" * 32)
    with pytest.raises(MalformedHex, match="32 bytes"):
        channel_from_hex("0x" + "ab" * 31)


def test_a_long_text_is_quoted_only_in_part() -> None:
    with pytest.raises(MalformedHex) as caught:
        bytes_from_hex("0x" + "z" * 10_000, 4, what="word")
    assert len(str(caught.value)) < 200


@given(st.binary(min_size=20, max_size=20))
def test_every_address_survives_its_spelling(address: bytes) -> None:
    assert address_from_hex(address_to_hex(address)) == address
    assert address_from_hex(to_hex(address)) == address
