"""What left a process, read by code that shares nothing with the product: docs/protocol.md alone.

A message leaves when the call that hands over its last byte begins.
"""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from .trace import Call, Unreadable

Item: TypeAlias = "bytes | list[Item]"

SILENT = {1: "Hello", 2: "Challenge", 3: "Authenticate", 4: "Error", 5: "Ping", 6: "Pong"}
SILENT |= {8: "ChannelProposal", 9: "ChannelTerms", 33: "PaymentRefused", 40: "CloseRequest"}
"""They promise nothing that must outlive a power cut."""

_UPDATE = struct.Struct(">32sQ65sH")
_PAYMENT = struct.Struct(">12sBH32s")
_ACK = struct.Struct(">32sQ32s")


@dataclass(frozen=True)
class Said:
    """One message, or one answer to a command, that promises something."""

    kind: str
    at: float
    fields: dict[str, Any]


def decode(data: bytes, at: int = 0) -> tuple[Item, int]:
    """One RLP item and where it ends (Ethereum yellow paper, appendix B)."""
    head = data[at]
    if head < 0x80:
        return data[at : at + 1], at + 1
    is_list, short = head >= 0xC0, head - (0xC0 if head >= 0xC0 else 0x80)
    start = at + 1
    if short > 55:
        size = int.from_bytes(data[start : start + short - 55], "big")
        start += short - 55
    else:
        size = short
    end = start + size
    if end > len(data):
        raise Unreadable("an item ends after its message")
    if not is_list:
        return data[start:end], end
    items: list[Item] = []
    while start < end:
        item, start = decode(data, start)
        items.append(item)
    return items, end


def number(item: Any) -> int:
    return int.from_bytes(item, "big")


def signed(item: Any) -> dict[str, Any] | None:
    if not item:
        return None
    return {"nonce": number(item[0]), "history": item[2], "signature": item[4]}


def update(record: Any) -> dict[str, Any]:
    channel, first, signature, count = _UPDATE.unpack_from(record)
    payments, position = [], _UPDATE.size
    for _ in range(count):
        amount, _, length, salt = _PAYMENT.unpack_from(record, position)
        position += _PAYMENT.size + length
        payments.append((number(amount), salt, record[position - length : position]))
    return {"channel": channel, "first": first, "signature": signature, "payments": payments}


def ack(record: Any) -> dict[str, Any]:
    channel, nonce, history = _ACK.unpack(record)
    return {"channel": channel, "nonce": nonce, "history": history}


def reestablish(channel: Any, sent: Any, received: Any) -> dict[str, Any]:
    return {"channel": channel, "sent": signed(sent), "received": signed(received)}


def outcome(submission: Any, outcomes: Any) -> dict[str, Any]:
    return {"id": submission, "nonces": [number(o[1]) for o in outcomes if number(o[0])]}


def close(channel: Any, a: Any, b: Any, expires: Any, signature: Any) -> dict[str, Any]:
    totals = {"a": number(a), "b": number(b), "expires": number(expires)}
    return {"channel": channel, **totals, "signature": signature}


def withdrawal(channel: Any, _: Any, total: Any, expires: Any, signature: Any) -> dict[str, Any]:
    terms = {"total": number(total), "expires": number(expires)}
    return {"channel": channel, **terms, "signature": signature}


MESSAGES: dict[int, tuple[str, Callable[..., dict[str, Any]]]] = {
    10: ("Reestablish", reestablish),
    16: ("Update", update),
    17: ("Ack", ack),
    24: ("SubmitReadings", lambda submission, *_: {"id": submission}),
    25: ("ReadingOutcome", outcome),
    32: ("PaymentRequest", lambda _, request, *__: {"id": request}),
    41: ("Close", close),
    42: ("Close", close),
    44: ("Withdrawal", withdrawal),
    45: ("Withdrawal", withdrawal),
}
"""Offers and what accepts them are alike: our signature on an offer."""


def read_message(payload: bytes, at: float) -> Said | None:
    """A frame's payload; None where it promises nothing; raises `Unreadable`."""
    items, end = decode(payload)
    if end != len(payload) or not isinstance(items, list):
        raise Unreadable("a frame is no list")
    kind = number(items[0])
    if kind in SILENT:
        return None
    if kind not in MESSAGES:
        raise Unreadable(f"what message {kind} promises is not said here: see held.CHECKS")
    name, read = MESSAGES[kind]
    return Said(name, at, read(*items[1:]))


def read_answer(line: bytes, at: float) -> Said | None:
    """A control socket's answer; None where it promises nothing."""
    result = json.loads(line).get("result")
    match result:
        case {"id": str(submission), **rest} if not rest:
            return Said("submitted", at, {"id": bytes.fromhex(submission[2:])})
        case {"channel": str(channel), "nonce": int(nonce), "amount_ucent": int(amount), **rest}:
            fields = {"channel": bytes.fromhex(channel[2:]), "nonce": nonce, "amount": amount}
            return Said("paid", at, fields)
        case _:
            return None


@dataclass
class _Stream:
    sent: bytes = b""


class Mouth:
    """Everything one process says to its peer (`port`), to commands, and to the chain."""

    def __init__(self, port: int, rpc_port: int) -> None:
        self._port = f"127.0.0.1:{port}"
        self._rpc = f"127.0.0.1:{rpc_port}"
        self._streams: dict[str, _Stream] = {}
        self._signatures: set[bytes] = set()
        """On offers of ours: what the chain is shown must be durable as well."""

    def take(self, call: Call) -> list[Said]:
        """What leaves with a call that begins."""
        socket = call.socket() if call.name in ("sendto", "sendmsg", "write") else None
        if socket is None:
            return []
        data = b"".join(call.texts())[: max(call.result or 0, 0)]
        if socket.startswith("TCP"):
            ends = re.findall(r"[\d.]+:\d+", socket)
            if self._port in ends:
                return self._frames(socket, data, call.begins)
            if self._rpc in ends:
                return self._transactions(data, call.begins)
            raise Unreadable(f"{len(data)} bytes went to {socket}")
        stream = self._streams.setdefault(socket, _Stream())
        stream.sent += data
        *lines, stream.sent = stream.sent.split(b"\n")
        return [said for line in lines if (said := read_answer(line, call.begins))]

    def _frames(self, socket: str, data: bytes, at: float) -> list[Said]:
        stream = self._streams.setdefault(socket, _Stream())
        stream.sent += data
        found = []
        while len(stream.sent) >= 4 and len(stream.sent) - 4 >= (n := number(stream.sent[:4])):
            said = read_message(stream.sent[4 : 4 + n], at)
            stream.sent = stream.sent[4 + n :]
            if said is not None:
                found.append(said)
                if said.kind in ("Close", "Withdrawal"):
                    self._signatures.add(said.fields["signature"])
        return found

    def _transactions(self, data: bytes, at: float) -> list[Said]:
        shown = [s for s in self._signatures if s.hex().encode() in data]
        return [Said("transaction", at, {"signature": s}) for s in shown]
