"""What calls, logs and reverts of our contracts say, by the ABIs that are shipped.

Rule: what does not decode exactly stays raw, and a decoded value is the whole value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import (
    collapse_if_tuple,
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
)
from eth_utils.address import to_checksum_address

from ..channels.ids import to_hex
from ..contracts.artifacts import NAMES, load

SELECTOR_BYTES = 4
CONSTRUCTOR = "constructor"
PACKED = "settle_many"
"""The call whose rows are packed into words."""
UNDECODABLE = (DecodingError, OverflowError, UnicodeDecodeError)
"""What eth_abi raises at bytes that are not of the type."""

Value = int | bool | str | list[Any] | dict[str, Any]
Entry = Mapping[str, Any]

_ERROR = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A call or an event: whose ABI it is of, its name, and its arguments in their order.

    Bytes and addresses are hex, structs are objects by the names of their members.
    """

    contract: str
    name: str
    arguments: Mapping[str, Value]

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"contract": self.contract, "name": self.name, "arguments": dict(self.arguments)}


@dataclass(frozen=True, slots=True)
class _Known:
    contract: str
    entry: Entry


def decode_call(data: bytes, contract: str | None = None) -> Decoded | None:
    """Decode calldata, of one contract where it is known; None where it is none of ours."""
    for known in _functions().get(data[:SELECTOR_BYTES], ()):
        if contract in (None, known.contract):
            arguments = _values(known.entry["inputs"], data[SELECTOR_BYTES:])
            if arguments is not None:
                return _decoded(known, arguments)
    return None


def decode_output(data: bytes, output: bytes, contract: str | None = None) -> list[Value] | None:
    """Decode what a call with this calldata gave back; None where it is none of ours."""
    for known in _functions().get(data[:SELECTOR_BYTES], ()):
        if contract in (None, known.contract):
            return _list(known.entry["outputs"], output)
    return None


def decode_creation(data: bytes) -> Decoded | None:
    """Decode what makes a contract: its code, and the constructor's arguments behind it."""
    for name in NAMES:
        artifact = load(name)
        if data.startswith(artifact.bytecode):
            [entry] = [each for each in artifact.abi if each["type"] == CONSTRUCTOR]
            arguments = _values(entry["inputs"], data[len(artifact.bytecode) :])
            if arguments is not None:
                return Decoded(contract=name, name=CONSTRUCTOR, arguments=arguments)
    return None


def decode_event(
    topics: Sequence[bytes], data: bytes, contract: str | None = None
) -> Decoded | None:
    """Decode a log, of one contract where it is known; None where it is none of ours."""
    for known in _events().get(topics[0], ()) if topics else ():
        if contract not in (None, known.contract):
            continue
        inputs = known.entry["inputs"]
        indexed = [each for each in inputs if each["indexed"]]
        plain = _values([each for each in inputs if not each["indexed"]], data)
        if plain is None or len(topics) != 1 + len(indexed):
            continue
        named = _values(indexed, b"".join(topics[1:]))
        if named is not None:
            both = {**named, **plain}
            return _decoded(known, {each["name"]: both[each["name"]] for each in inputs})
    return None


def decode_revert(output: bytes) -> str | None:
    """The reason of a revert, in words; None where it gives none that is known."""
    kind, rest = output[:SELECTOR_BYTES], output[SELECTOR_BYTES:]
    try:
        if kind == _ERROR:
            return str(decode(["string"], rest)[0])
        if kind == _PANIC:
            return f"panic {decode(['uint256'], rest)[0]:#04x}"
    except UNDECODABLE:
        return None
    return None


def contract_of(code: bytes) -> str | None:
    """Which of our contracts has this code on the chain; None if it is another's."""
    return next((name for name in NAMES if load(name).runtime_matches(code)), None)


def topic_of(contract: str, event: str) -> bytes:
    """The first topic of an event of ours; raises `KeyError`."""
    for topic, known in _events().items():
        if any(each.contract == contract and each.entry["name"] == event for each in known):
            return topic
    raise KeyError(event)


def event_names() -> tuple[str, ...]:
    """The names of all events of ours, sorted."""
    return tuple(sorted({str(k.entry["name"]) for all_ in _events().values() for k in all_}))


def function_entry(contract: str, name: str) -> Entry:
    """The ABI of one of our functions; raises `KeyError`."""
    for entry in load(contract).abi:
        if entry["type"] == "function" and entry["name"] == name:
            return entry
    raise KeyError(name)


def _entries(kind: str) -> Iterator[_Known]:
    for name in NAMES:
        for entry in load(name).abi:
            if entry["type"] == kind:
                yield _Known(name, entry)


@cache
def _functions() -> Mapping[bytes, list[_Known]]:
    found: dict[bytes, list[_Known]] = {}
    for known in _entries("function"):
        selector = bytes(function_abi_to_4byte_selector(known.entry))  # type: ignore[arg-type]  # an ABI
        found.setdefault(selector, []).append(known)
    return found


@cache
def _events() -> Mapping[bytes, list[_Known]]:
    found: dict[bytes, list[_Known]] = {}
    for known in _entries("event"):
        topic = bytes(event_abi_to_log_topic(known.entry))  # type: ignore[arg-type]  # an ABI
        found.setdefault(topic, []).append(known)
    return found


def _decoded(known: _Known, arguments: Mapping[str, Value]) -> Decoded:
    if known.entry["name"] == PACKED:
        arguments = {"rows": [_unpacked(row) for row in _rows(arguments)]}
    return Decoded(contract=known.contract, name=known.entry["name"], arguments=arguments)


def _rows(arguments: Mapping[str, Value]) -> list[dict[str, Any]]:
    rows = arguments["rows"]
    return rows if isinstance(rows, list) else []


def _unpacked(row: Mapping[str, Any]) -> dict[str, Value]:
    """A packed voucher as `settle` has it: see contracts/requests.vy for the places of its bits."""
    [rows] = function_entry("payment_channels", "settle")["inputs"]
    [terms] = [each for each in rows["components"] if each["name"] == "terms"]
    statement: int = row["statement"]
    return {
        "terms": {
            each["name"]: to_checksum_address(word.to_bytes(20, "big"))
            if each["type"] == "address" and word < 1 << 160
            else word
            for each, word in zip(terms["components"], row["terms"], strict=True)
        },
        "lane": statement >> 160 & 0xFF,
        "nonce": statement >> 96 & (1 << 64) - 1,
        "transferred": statement & (1 << 96) - 1,
        "history": row["history"],
        "conditions": row["conditions"],
        "v": statement >> 168,
        "r": to_hex(row["r"].to_bytes(32, "big")),
        "s": to_hex(row["s"].to_bytes(32, "big")),
    }


def _values(inputs: Sequence[Entry], data: bytes) -> dict[str, Value] | None:
    values = _list(inputs, data)
    if values is None:
        return None
    return {each["name"]: value for each, value in zip(inputs, values, strict=True)}


def _list(inputs: Sequence[Entry], data: bytes) -> list[Value] | None:
    try:
        values = decode([collapse_if_tuple(dict(each)) for each in inputs], data)
    except UNDECODABLE:
        return None
    return [_value(each, value) for each, value in zip(inputs, values, strict=True)]


def _value(kind: Entry, value: Any) -> Value:
    """One value as JSON has it."""
    name: str = kind["type"]
    if name.endswith("]"):
        inner = {**kind, "type": name[: name.rindex("[")]}
        return [_value(inner, each) for each in value]
    if name == "tuple":
        members = kind["components"]
        return {
            member["name"]: _value(member, each)
            for member, each in zip(members, value, strict=True)
        }
    if name == "address":
        return to_checksum_address(value)
    if isinstance(value, bytes):
        return to_hex(value)
    answer: Value = value
    return answer
