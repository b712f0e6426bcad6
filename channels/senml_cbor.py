"""Reads the CBOR form of a SenML pack, strictly and in time proportional to its bytes.

A reader of its own, because the general one (cbor2, used everywhere else) keeps the last of two
equal keys without a word, and evaluates tags (regular expressions, shared values, big floats)
that have no place in a reading. Numbers come out exact: int or Decimal, never float.
Source: RFC 8949 (CBOR), RFC 8428 section 6 (SenML in CBOR).
"""

from __future__ import annotations

import struct
from decimal import Decimal
from enum import IntEnum
from typing import NoReturn

from .senml_errors import NotCbor

DEPTH_MAX = 8
"""A pack, its records and a decimal fraction need 3; the rest is for extension fields."""

INTEGER_BYTES_MAX = 67
"""Holds 160 decimal digits, the most that a number may have; a longer one reads as infinite."""

EXPONENT_MAX = 10_000
"""Far outside the range of numbers, so what is cut off here is refused there."""


class Pairs(list[tuple[object, object]]):
    """A map as it stands in the data: equal keys are still visible."""


class Unusable:
    """Stands for an item that no SenML field can have, such as an unknown tag or `undefined`."""


UNUSABLE = Unusable()
_BREAK = Unusable()
_INFINITY = Decimal("Infinity")
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None}
_LENGTH_ONE_BYTE, _LENGTH_EIGHT_BYTES, _INDEFINITE = 24, 27, 31
_TAG_POSITIVE, _TAG_NEGATIVE, _TAG_DECIMAL_FRACTION = 2, 3, 4
_FRACTION_PARTS = 2


class _Major(IntEnum):
    UNSIGNED = 0
    NEGATIVE = 1
    BYTES = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5
    TAG = 6
    SIMPLE = 7


def read_cbor(data: bytes) -> object:
    """Read one item that fills the data; raises `NotCbor`.

    Maps come as `Pairs`, floats as the exact decimal of their binary value (NaN and infinities
    as such), decimal fractions as Decimal, what SenML has no use for as `UNUSABLE`.
    """
    reader = _Reader(data)
    item = reader.item(0)
    if item is _BREAK:
        _refuse(0, "a break stands outside of any item")
    if reader.position != len(data):
        _refuse(reader.position, "bytes are left over after the pack")
    return item


def _refuse(position: int, text: str) -> NoReturn:
    raise NotCbor(f"byte {position}: {text}")


class _Reader:
    """A position in the data; each method reads on from there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def _take(self, count: int) -> bytes:
        start = self.position
        if count > len(self._data) - start:
            _refuse(start, f"{count} bytes are announced and {len(self._data) - start} are left")
        self.position = start + count
        return self._data[start : self.position]

    def _head(self) -> tuple[_Major, int, int]:
        """Read major type, additional information and argument."""
        start = self.position
        first = self._take(1)[0]
        major, info = _Major(first >> 5), first & 31
        if info < _LENGTH_ONE_BYTE:
            return major, info, info
        if info <= _LENGTH_EIGHT_BYTES:
            size = 1 << (info - _LENGTH_ONE_BYTE)
            return major, info, int.from_bytes(self._take(size), "big")
        if info != _INDEFINITE or major in (_Major.UNSIGNED, _Major.NEGATIVE, _Major.TAG):
            _refuse(start, "this head is not well-formed")
        return major, info, 0

    def item(self, depth: int) -> object:
        """Read the next item, or `_BREAK`."""
        start = self.position
        if depth > DEPTH_MAX:
            _refuse(start, f"items are nested deeper than {DEPTH_MAX}")
        major, info, argument = self._head()
        if major in (_Major.UNSIGNED, _Major.NEGATIVE):
            return argument if major is _Major.UNSIGNED else -1 - argument
        if major in (_Major.BYTES, _Major.TEXT):
            return self._string(major, info, argument)
        if major is _Major.SIMPLE:
            return self._simple(start, info, argument)
        return self._nested(major, info, argument, depth)

    def _nested(self, major: _Major, info: int, argument: int, depth: int) -> object:
        if major is _Major.TAG:
            return _tagged(argument, self._inner(depth))
        if major is _Major.ARRAY:
            return self._items(info, argument, depth)
        return self._pairs(info, argument, depth)

    def _inner(self, depth: int) -> object:
        start = self.position
        item = self.item(depth + 1)
        if item is _BREAK:
            _refuse(start, "a break stands where an item belongs")
        return item

    def _string(self, major: _Major, info: int, length: int) -> bytes | str:
        start = self.position
        octets = self._take(length) if info != _INDEFINITE else self._parts(major)
        if major is _Major.BYTES:
            return octets
        try:
            return octets.decode()
        except UnicodeDecodeError:
            _refuse(start, "a text is not UTF-8")

    def _parts(self, major: _Major) -> bytes:
        parts = []
        while self._data[self.position : self.position + 1] != b"\xff":
            start = self.position
            kind, info, length = self._head()
            if kind is not major or info == _INDEFINITE:
                _refuse(start, "a part of a string is of another kind")
            parts.append(self._take(length))
        self._take(1)
        return b"".join(parts)

    def _items(self, info: int, count: int, depth: int) -> list[object]:
        items: list[object] = []
        if info != _INDEFINITE:
            self._check_count(count)
            items.extend(self._inner(depth) for _ in range(count))
            return items
        while (item := self.item(depth + 1)) is not _BREAK:
            items.append(item)
        return items

    def _pairs(self, info: int, count: int, depth: int) -> Pairs:
        if info != _INDEFINITE:
            self._check_count(2 * count)
            return Pairs((self._inner(depth), self._inner(depth)) for _ in range(count))
        pairs = Pairs()
        while (key := self.item(depth + 1)) is not _BREAK:
            pairs.append((key, self._inner(depth)))
        return pairs

    def _check_count(self, count: int) -> None:
        left = len(self._data) - self.position
        if count > left:
            _refuse(self.position, f"{count} items are announced and {left} bytes are left")

    def _simple(self, start: int, info: int, argument: int) -> object:
        if info == _INDEFINITE:
            return _BREAK
        if info in _FLOATS:
            raw = self._data[start + 1 : self.position]
            return Decimal(struct.unpack(_FLOATS[info], raw)[0])
        return _SIMPLE.get(argument, UNUSABLE)


def _tagged(tag: int, content: object) -> object:
    """Evaluate the three tags that SenML numbers may have."""
    if tag in (_TAG_POSITIVE, _TAG_NEGATIVE) and isinstance(content, bytes):
        digits = content.lstrip(b"\0")
        if len(digits) > INTEGER_BYTES_MAX:
            return _INFINITY
        number = int.from_bytes(digits, "big")
        return number if tag == _TAG_POSITIVE else -1 - number
    if tag == _TAG_DECIMAL_FRACTION and isinstance(content, list):
        return _decimal_fraction(content)
    return UNUSABLE


def _decimal_fraction(parts: list[object]) -> object:
    """Return mantissa * 10**exponent from [exponent, mantissa] (RFC 8949 section 3.4.4)."""
    if len(parts) != _FRACTION_PARTS:
        return UNUSABLE
    exponent, mantissa = parts
    if mantissa is _INFINITY:
        return _INFINITY
    if type(exponent) is not int or type(mantissa) is not int:
        return UNUSABLE
    if mantissa == 0:
        return Decimal(0)
    if abs(exponent) > EXPONENT_MAX:
        return _INFINITY
    number = Decimal(mantissa).as_tuple()
    return Decimal((number.sign, number.digits, exponent))
