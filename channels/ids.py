"""Identifiers: bytes inside, hex only at the edges."""

from __future__ import annotations

from typing import NewType

from .errors import LocalError
from .hashing import keccak256

Address = NewType("Address", bytes)
"""20 bytes."""

ChannelId = NewType("ChannelId", bytes)
"""32 bytes, keccak256 over chain, contract, deployment and terms."""

ADDRESS_BYTES = 20
WORD_BYTES = 32
ZERO_WORD = bytes(WORD_BYTES)
ZERO_ADDRESS = Address(bytes(ADDRESS_BYTES))


class MalformedHex(LocalError):
    """A text that should be hex of a fixed length is not."""

    code = "malformed-hex"


class ChecksumMismatch(LocalError):
    """A mixed-case address whose letters do not match its EIP-55 checksum."""

    code = "checksum-mismatch"
    remedy = "copy the address again from its source: one of its characters is wrong"


def bytes_from_hex(text: str, size: int, *, what: str) -> bytes:
    """Read `size` bytes from hex with a 0x prefix; raises `MalformedHex`."""
    remedy = f"give 0x followed by {2 * size} hexadecimal digits"
    if not text.startswith("0x") or len(text) != 2 + 2 * size:
        raise MalformedHex(f"{what} {text[:80]!r} is not {size} bytes of hex", remedy=remedy)
    try:
        value = bytes.fromhex(text[2:])
    except ValueError:
        value = b""
    if len(value) != size:  # also where spaces stand between the digits: fromhex skips them
        raise MalformedHex(f"{what} {text[:80]!r} holds characters that are not hex", remedy=remedy)
    return value


def address_from_hex(text: str) -> Address:
    """Read an address; mixed case must match EIP-55; raises `MalformedHex`, `ChecksumMismatch`."""
    address = Address(bytes_from_hex(text, ADDRESS_BYTES, what="address"))
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and address_to_hex(address) != text:
        raise ChecksumMismatch(f"address {text} does not match its EIP-55 checksum")
    return address


def address_to_hex(address: bytes) -> str:
    """Write an address with its EIP-55 checksum."""
    digits = address.hex()
    marks = keccak256(digits.encode()).hex()
    return (
        "0x"
        + "".join(
            digit.upper() if int(mark, 16) > 7 else digit  # noqa: PLR2004 - EIP-55's own threshold
            for digit, mark in zip(digits, marks[: len(digits)], strict=True)
        )
    )


def channel_from_hex(text: str) -> ChannelId:
    """Read a channel id; one spelling only (lower case), so that no id has two names."""
    channel = ChannelId(bytes_from_hex(text, WORD_BYTES, what="channel id"))
    if text != "0x" + channel.hex():
        raise MalformedHex(f"channel id {text} is not in lower case", remedy="write it lower case")
    return channel


def to_hex(value: bytes) -> str:
    """Write bytes as lower-case hex with a 0x prefix."""
    return "0x" + value.hex()
