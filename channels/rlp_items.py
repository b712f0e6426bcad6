"""Reads RLP from strangers: canonical only, bounded in depth and number of items, in linear time.

The library that writes our RLP reads a list in quadratic time: 1 MiB of empty items keeps it busy
for 19 seconds, so one frame would stop a hub. Source: Ethereum yellow paper, appendix B.
"""

from __future__ import annotations

from typing import TypeAlias

from .fields import MalformedMessage

DEPTH_MAX = 3
"""A message, a list in it, and rows of that list: no message nests deeper."""
ITEMS_MAX = 512
"""Lists and values of one message; a full `ReadingOutcome` has 388."""

Item: TypeAlias = "bytes | list[Item]"

_SHORT_MAX = 55
_STRING, _LIST = 0x80, 0xC0


def read_list(payload: bytes) -> list[Item]:
    """Read a payload that is one list; raises `MalformedMessage`."""
    if not payload:
        raise MalformedMessage("a frame holds nothing")
    item, end = _Reader(payload).item(0, len(payload), 1)
    if end != len(payload) or not isinstance(item, list):
        raise MalformedMessage("a frame does not hold exactly one RLP list")
    return item


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items = 0

    def item(self, start: int, end: int, depth: int) -> tuple[Item, int]:
        """The item that starts there and ends no later than `end`, and where it ends."""
        self._items += 1
        if self._items > ITEMS_MAX:
            raise MalformedMessage(f"a message holds more than {ITEMS_MAX} items")
        is_list, first, last = self._span(start, end)
        if not is_list:
            return self._data[first:last], last
        if depth > DEPTH_MAX:
            raise MalformedMessage(f"a message holds lists nested deeper than {DEPTH_MAX}")
        items: list[Item] = []
        while first < last:
            one, first = self.item(first, last, depth + 1)
            items.append(one)
        return items, last

    def _span(self, start: int, end: int) -> tuple[bool, int, int]:
        """Whether the item is a list, and where its content starts and ends."""
        head = self._data[start]
        if head < _STRING:
            return False, start, start + 1
        is_list = head >= _LIST
        size = head - (_LIST if is_list else _STRING)
        first = start + 1
        if size > _SHORT_MAX:
            width = size - _SHORT_MAX
            length = self._data[first : first + width]
            size = int.from_bytes(length, "big")
            if len(length) < width or length[0] == 0 or size <= _SHORT_MAX:
                raise MalformedMessage("a frame does not hold canonical RLP")
            first += width
        last = first + size
        if last > end or (not is_list and size == 1 and self._data[first] < _STRING):
            raise MalformedMessage("a frame does not hold canonical RLP")
        return is_list, first, last
