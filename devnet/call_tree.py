"""A transaction's tree of calls, decoded and in reading order, out of what callTracer answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from .decoding import Decoded, Value, decode_call, decode_creation, decode_output, decode_revert
from .looking import Viewer, number

FRAMES_MAX = 2_000
"""A batch of 256 openings makes about a thousand calls; what is more is counted, not shown."""
CREATIONS = ("CREATE", "CREATE2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call: how deep it is, of which kind, between whom, and how it ended.

    `gas_used` is with all calls inside. `returned` is None where the output is none of ours.
    """

    depth: int
    kind: str
    sender: str
    to: str | None
    name: str | None
    decoded: Decoded | None
    data: str
    value_wei: int
    gas_used: int
    output: str
    returned: list[Value] | None
    error: str | None

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "depth": self.depth,
            "kind": self.kind,
            "from": self.sender,
            "to": self.to,
            "contract": self.name,
            "function": None if self.decoded is None else self.decoded.name,
            "arguments": None if self.decoded is None else dict(self.decoded.arguments),
            "input": self.data,
            "value_wei": self.value_wei,
            "gas_used": self.gas_used,
            "output": self.output,
            "returned": self.returned,
            "error": self.error,
        }


def frames(viewer: Viewer, tree: Mapping[str, Any]) -> list[Frame]:
    """The calls of a tree, outermost first, `FRAMES_MAX` at most."""
    found: list[Frame] = []
    for depth, call in _walk(tree, 0):
        if len(found) == FRAMES_MAX:
            break
        found.append(_frame(viewer, depth, call))
    return found


def count(tree: Mapping[str, Any]) -> int:
    """How many calls a tree holds."""
    return sum(1 for _ in _walk(tree, 0))


def _walk(call: Mapping[str, Any], depth: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Every call with its depth; a stack of our own, as calls nest a thousand deep."""
    waiting = [(depth, call)]
    while waiting:
        depth, call = waiting.pop()
        yield depth, call
        waiting += [(depth + 1, inner) for inner in reversed(call.get("calls") or [])]


def _frame(viewer: Viewer, depth: int, call: Mapping[str, Any]) -> Frame:
    kind = str(call.get("type", "CALL"))
    to = call.get("to")
    data = bytes.fromhex(str(call.get("input", "0x"))[2:])
    output = str(call.get("output") or "0x")
    name = None if to is None else viewer.contract(to)
    if kind in CREATIONS:
        decoded = decode_creation(data)
    else:
        decoded = None if name is None else decode_call(data, name)
    error = call.get("error")
    returned = None
    if error is not None:
        reason = call.get("revertReason") or decode_revert(bytes.fromhex(output[2:]))
        error = f"{error}: {reason}" if reason else str(error)
    elif decoded is not None and kind not in CREATIONS:
        returned = decode_output(data, bytes.fromhex(output[2:]), name)
    return Frame(
        depth=depth,
        kind=kind,
        sender=to_checksum_address(call["from"]),
        to=None if to is None else to_checksum_address(to),
        name=name,
        decoded=decoded,
        data="0x" + data.hex(),
        value_wei=number(call.get("value") or "0x0"),
        gas_used=number(call.get("gasUsed") or "0x0"),
        output=output,
        returned=returned,
        error=error,
    )
