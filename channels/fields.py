"""How single values of a message are written in RLP and read back, each with its bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import LocalError, PeerError

TEXT_BYTES_MAX = 512
"""A sentence for a person; longer ones are cut when written and refused when read."""


class MalformedMessage(PeerError):
    """A payload that is no message of this protocol."""

    code = "malformed-message"
    remedy = "compare the message with docs/protocol.md"


class UnwritableValue(LocalError):
    """A value of our own that its field on the wire cannot hold."""

    code = "unwritable-value"
    remedy = "send nothing: the peer would have to refuse it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How one value is written in RLP and read back; `kind` is what the documentation calls it."""

    kind: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def need_bytes(item: Any) -> bytes:
    """Return the item if it is bytes; raises `MalformedMessage`."""
    if not isinstance(item, bytes):
        raise MalformedMessage("a list stands where bytes belong")
    return item


def need_list(item: Any, length: int | None = None) -> list[Any]:
    """Return the item if it is a list (of that length); raises `MalformedMessage`."""
    if not isinstance(item, list) or (length is not None and len(item) != length):
        raise MalformedMessage("bytes, or a list of another length, stand where a list belongs")
    return item


def uint(bits: int) -> Field:
    """Return an unsigned integer: big-endian, no leading zeros (RLP's canonical form)."""

    def decode(item: Any) -> int:
        data = need_bytes(item)
        if len(data) * 8 > bits or data[:1] == b"\0":
            raise MalformedMessage(f"an integer is not a canonical uint{bits}")
        return int.from_bytes(data, "big")

    def encode(value: int) -> bytes:
        if value >> bits:  # a negative number, shifted, stays negative
            raise UnwritableValue(f"{value} is no uint{bits}")
        return value.to_bytes((value.bit_length() + 7) // 8, "big")

    return Field(kind=f"uint{bits}", encode=encode, decode=decode)


def fixed(size: int) -> Field:
    """Return exactly `size` bytes."""

    def decode(item: Any) -> bytes:
        data = need_bytes(item)
        if len(data) != size:
            raise MalformedMessage(f"{len(data)} bytes stand where {size} belong")
        return data

    def encode(value: bytes) -> bytes:
        if len(value) != size:
            raise UnwritableValue(f"{len(value)} bytes are not {size}")
        return value

    return Field(kind=f"bytes{size}", encode=encode, decode=decode)


def upto(size: int, *, lengths: tuple[int, ...] = ()) -> Field:
    """Return at most `size` bytes, or one of the given lengths."""

    def fits(data: bytes) -> bool:
        return len(data) in lengths if lengths else len(data) <= size

    def decode(item: Any) -> bytes:
        data = need_bytes(item)
        if not fits(data):
            raise MalformedMessage(f"{len(data)} bytes stand where at most {size} may")
        return data

    def encode(value: bytes) -> bytes:
        if not fits(value):
            raise UnwritableValue(f"{len(value)} bytes are too many or of a wrong length")
        return value

    return Field(kind=f"bytes up to {size}", encode=encode, decode=decode)


def decode_text(item: Any) -> str:
    """Read a bounded UTF-8 text; raises `MalformedMessage`."""
    data = need_bytes(item)
    if len(data) > TEXT_BYTES_MAX:
        raise MalformedMessage(f"a text is longer than {TEXT_BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("a text is not UTF-8") from None


def encode_text(value: str) -> bytes:
    """Write a text, cut to its bound at a character's end.

    A lone surrogate, which JSON allows in a peer's text that we quote, becomes a question mark.
    """
    encoded = value.encode(errors="replace")
    return encoded[:TEXT_BYTES_MAX].decode(errors="ignore").encode()
