"""Calls and logs of the contracts, encoded and decoded by their own ABI.

Rule: every argument and field of these contracts is one 32-byte word; any other type is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...channels.hashing import keccak256
from ...channels.ids import ADDRESS_BYTES, WORD_BYTES, Address, to_hex
from .errors import LogsIncomplete, RpcUnreachable

Abi = Sequence[Mapping[str, Any]]
Value = int | bytes

_SELECTOR_BYTES = 4
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_UINT_BITS = {f"uint{bits}": bits for bits in range(8, 257, 8)} | {"bool": 1}


def data_from_hex(value: object) -> bytes:
    """Read the hex of an answer; raises `RpcUnreachable` if it is none."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise RpcUnreachable(f"the endpoint answers {str(value)[:80]!r}, which is not hex")


def number_from_hex(value: object) -> int:
    """Read a quantity of an answer; raises `RpcUnreachable` if it is none."""
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return int(value, 16)
    raise RpcUnreachable(f"the endpoint answers {str(value)[:80]!r}, which is no quantity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One view of a contract."""

    selector: bytes
    outputs: tuple[str, ...]

    def data(self, *words: bytes) -> str:
        """The hex of a call with arguments of at most 32 bytes each."""
        return to_hex(self.selector + b"".join(word.rjust(WORD_BYTES, b"\0") for word in words))

    def results(self, answer: object) -> tuple[Value, ...]:
        """Decode an answer; raises `RpcUnreachable` if it is not of this function."""
        data = data_from_hex(answer)
        if len(data) != WORD_BYTES * len(self.outputs):
            raise RpcUnreachable(f"an eth_call is answered by {len(data)} bytes")
        return decode_words(self.outputs, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a contract: the order of its fields in topics and data."""

    name: str
    topic: bytes
    indexed: tuple[tuple[str, str], ...]
    plain: tuple[tuple[str, str], ...]

    def fields(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Decode a log of this event; raises `LogsIncomplete` if it is not one."""
        if len(topics) != 1 + len(self.indexed) or len(data) != WORD_BYTES * len(self.plain):
            raise LogsIncomplete(f"a log of {self.name} has the wrong number of fields")
        names = [name for name, _ in (*self.indexed, *self.plain)]
        types = [kind for _, kind in (*self.indexed, *self.plain)]
        words = b"".join(topics[1:]) + data
        if len(words) != WORD_BYTES * len(types):
            raise LogsIncomplete(f"a log of {self.name} has a topic that is not 32 bytes")
        return dict(zip(names, decode_words(types, words), strict=True))


def decode_words(types: Sequence[str], data: bytes) -> tuple[Value, ...]:
    """Read one value from each 32-byte word; raises `RpcUnreachable` where it is out of range."""
    return tuple(
        _decode(kind, data[index * WORD_BYTES : (index + 1) * WORD_BYTES])
        for index, kind in enumerate(types)
    )


def _decode(kind: str, word: bytes) -> Value:
    if kind == "bytes32":
        return word
    if kind == "address":
        if any(word[:-ADDRESS_BYTES]):
            raise RpcUnreachable(f"the endpoint answers {to_hex(word)}, which is no address")
        return Address(word[-ADDRESS_BYTES:])
    number = int.from_bytes(word, "big")
    if number >> _UINT_BITS[kind]:
        raise RpcUnreachable(f"the endpoint answers {to_hex(word)}, which is no {kind}")
    return number


def function(abi: Abi, name: str) -> Function:
    """Find a view by name; raises `KeyError` for one that the contract does not have."""
    for entry in abi:
        if entry["type"] == "function" and entry["name"] == name:
            return Function(
                selector=keccak256(_signature(entry))[:_SELECTOR_BYTES],
                outputs=tuple(output["type"] for output in entry["outputs"]),
            )
    raise KeyError(name)


def events(abi: Abi) -> dict[bytes, Event]:
    """All events of a contract by their first topic."""
    found = {}
    for entry in abi:
        if entry["type"] == "event":
            topic = keccak256(_signature(entry))
            found[topic] = Event(
                name=entry["name"],
                topic=topic,
                indexed=tuple((i["name"], i["type"]) for i in entry["inputs"] if i["indexed"]),
                plain=tuple((i["name"], i["type"]) for i in entry["inputs"] if not i["indexed"]),
            )
    return found


def _signature(entry: Mapping[str, Any]) -> bytes:
    types = ",".join(argument["type"] for argument in entry["inputs"])
    return f"{entry['name']}({types})".encode()
