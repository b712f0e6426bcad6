"""The call tracer: the tree of calls and creations, each with gas, input, output and failure.

Source: geth's callTracer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from eth.abc import ComputationAPI, MessageAPI
from eth.exceptions import Revert

from ...channels.ids import to_hex
from ..calls import revert_reason
from .hooks import (
    CALL,
    CALLCODE,
    CALLS,
    CREATE,
    CREATE2,
    CREATIONS,
    DELEGATECALL,
    MNEMONICS,
    SELFDESTRUCT,
    STATICCALL,
    Budget,
    Tracer,
    account_looked_at,
    top_of,
)
from .words import words_for

Frame = dict[str, object]

FRAME_BYTES: Final = 300
_WITH_VALUE: Final = (CALL, CALLCODE, DELEGATECALL, CREATE, CREATE2)


@dataclass(slots=True)
class CallTree(Tracer):
    """Collects the calls of one transaction; `root` is there once it has ended."""

    only_top: bool
    with_log: bool
    budget: Budget
    root: Frame | None = None
    _open: list[Frame] = field(default_factory=list)
    _logs: int = 0
    _called: bytes | None = None

    def enter(self, kind: int, message: MessageAPI, parent: ComputationAPI | None) -> None:
        """A call begins."""
        creates = kind in CREATIONS
        to: bytes = message.to if kind in (CALL, STATICCALL) else message.code_address
        if message.is_delegation and kind in (CALLCODE, DELEGATECALL) and self._called is not None:
            to = self._called  # the account, not whose code runs in its place
        sender = message.sender
        if kind in (CALLCODE, DELEGATECALL) and parent is not None:
            sender = parent.msg.storage_address
        given = message.code if creates else message.data
        frame: Frame = {
            "from": to_hex(sender),
            "gas": hex(message.gas),
            "gasUsed": "0x0",
            "to": to_hex(message.storage_address if creates else to),
            "input": to_hex(bytes(given)),
            "type": MNEMONICS[kind],
        }
        if kind in _WITH_VALUE:
            frame["value"] = hex(message.value)
        self.budget.spend(FRAME_BYTES + 2 * len(given))
        self._open.append(frame)

    def leave(self, computation: ComputationAPI) -> None:
        """A call has ended: it becomes a part of its caller's frame."""
        frame = self._open.pop()
        frame["gasUsed"] = hex(computation.get_gas_used())
        output = bytes(computation.output)
        if computation.is_error:
            error = computation.error
            frame["error"] = words_for(error, computation)
            frame.pop("logs", None)
            _take_back_logs(frame)
            if isinstance(error, Revert):
                reason = revert_reason(output)
                if reason is not None:
                    frame["revertReason"] = reason
            if computation.msg.is_create:
                frame.pop("to")
        if output:
            frame["output"] = to_hex(output)
            self.budget.spend(2 * len(output))
        self._close(frame)

    def abandon(self) -> None:
        """A creation that its caller may not make: the caller fails for it."""
        self._open.pop()

    def before(self, instruction: int, computation: ComputationAPI) -> None:
        """A contract that destroys itself hands over what it has: shown as a call."""
        if instruction in CALLS:
            self._called = account_looked_at(instruction, computation)
        beneficiary = top_of(computation) if instruction == SELFDESTRUCT else None
        if beneficiary is None:
            return
        address = computation.msg.storage_address
        frame: Frame = {
            "from": to_hex(address),
            "gas": "0x0",
            "gasUsed": "0x0",
            "to": to_hex(beneficiary.to_bytes(32)[12:]),
            "input": "0x",
            "type": MNEMONICS[SELFDESTRUCT],
            "value": hex(computation.state.get_balance(address)),
        }
        self.budget.spend(FRAME_BYTES)
        self._close(frame)

    def logged(self, address: bytes, topics: tuple[int, ...], data: bytes) -> None:
        """An event, with its place among the calls of its frame."""
        if not self.with_log or (self.only_top and len(self._open) > 1):
            return
        frame = self._open[-1]
        calls, logs = frame.get("calls"), frame.setdefault("logs", [])
        if not isinstance(logs, list):
            raise TypeError("a frame's logs are a list")
        logs.append(
            {
                "address": to_hex(address),
                "topics": [to_hex(topic.to_bytes(32)) for topic in topics],
                "data": to_hex(data),
                "index": hex(self._logs),
                "position": hex(len(calls) if isinstance(calls, list) else 0),
            }
        )
        self._logs += 1
        self.budget.spend(FRAME_BYTES + 2 * len(data))

    def finish(self, gas: int, gas_used: int) -> Frame:
        """The whole tree; the outermost call counts the transaction's own gas."""
        if self.root is None:
            raise TypeError("the transaction made no call")
        return {**self.root, "gas": hex(gas), "gasUsed": hex(gas_used)}

    def _close(self, frame: Frame) -> None:
        if not self._open:
            self.root = frame
        elif not self.only_top:
            calls = self._open[-1].setdefault("calls", [])
            if isinstance(calls, list):
                calls.append(frame)


def _take_back_logs(frame: Frame) -> None:
    """What a call that fails has called logged nothing either."""
    calls = frame.get("calls")
    for inner in calls if isinstance(calls, list) else ():
        inner.pop("logs", None)
        _take_back_logs(inner)
