"""What an Ethereum endpoint can do wrong: the kinds, and what each does to a request's answer.

Rule: a fault is consistent. An endpoint that lags does so in every method, as a node does that has
not received the newest blocks; nothing of them shines through.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ...channels.errors import LocalError
from ...channels.hashing import keccak256
from ...channels.ids import to_hex

HUGE_BYTES: Final = 9 << 20
"""More than any client of ours reads of one answer."""
_REFUSED: Final = -32000

_STATE_AT: Final = {
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_getBalance": 1,
    "eth_getBlockByNumber": 0,
    "eth_getBlockReceipts": 0,
    "eth_getCode": 1,
    "eth_getStorageAt": 2,
    "eth_getTransactionCount": 1,
}
"""Where each method names the block whose state it asks for."""


class RpcFault(Enum):
    """How an endpoint misbehaves.

    No answer: HANGING, CUT (the connection ends). Other answers: UNAVAILABLE (HTTP 503 with HTML),
    ERROR, NOT_JSON, WRONG_TYPE, WRONG_ID, HUGE. Its view: LAGGING by `blocks`, STOPPED at a block,
    FAR_NUMBER (its head is `blocks` too high), FAR_TIME (its head is `seconds` too late),
    CHANGING_HASH (its head has another hash each time), NO_RECEIPTS, FAR_NONCE (an account has
    sent `blocks` transactions more than it has), FAR_PENDING (they wait). What it does with what is
    sent: SEND_REFUSED, SEND_FORGOTTEN (it says yes and drops it), SEND_HELD (it says yes, and
    passes it on when told), SEND_DOUBLED, SEND_UNANSWERED (it takes it and the answer is lost).
    """

    HANGING = "hanging"
    CUT = "cut"
    UNAVAILABLE = "unavailable"
    ERROR = "error"
    NOT_JSON = "not-json"
    WRONG_TYPE = "wrong-type"
    WRONG_ID = "wrong-id"
    HUGE = "huge"
    LAGGING = "lagging"
    STOPPED = "stopped"
    FAR_NUMBER = "far-number"
    FAR_TIME = "far-time"
    CHANGING_HASH = "changing-hash"
    NO_RECEIPTS = "no-receipts"
    FAR_NONCE = "far-nonce"
    FAR_PENDING = "far-pending"
    SEND_REFUSED = "send-refused"
    SEND_FORGOTTEN = "send-forgotten"
    SEND_HELD = "send-held"
    SEND_DOUBLED = "send-doubled"
    SEND_UNANSWERED = "send-unanswered"


SILENT: Final = frozenset({RpcFault.HANGING, RpcFault.CUT})
GARBLED: Final = frozenset(
    {
        RpcFault.UNAVAILABLE,
        RpcFault.ERROR,
        RpcFault.NOT_JSON,
        RpcFault.WRONG_TYPE,
        RpcFault.WRONG_ID,
        RpcFault.HUGE,
    }
)
BEHIND: Final = frozenset({RpcFault.LAGGING, RpcFault.STOPPED})
SENDING: Final = frozenset(
    {
        RpcFault.SEND_REFUSED,
        RpcFault.SEND_FORGOTTEN,
        RpcFault.SEND_HELD,
        RpcFault.SEND_DOUBLED,
        RpcFault.SEND_UNANSWERED,
    }
)
UNUSABLE: Final = SILENT | GARBLED
"""The faults under which nothing can be read at all."""


class UnknownFault(LocalError):
    """A fault that was asked for and does not exist, or cannot be like that."""

    code = "unknown-fault"
    remedy = f"use some of {', '.join(kind.value for kind in RpcFault)}; rate 0 to 1; whole numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault that is switched on: how often it strikes, and how far."""

    kind: RpcFault
    rate: float = 1.0
    blocks: int = 5
    seconds: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1 or self.blocks < 0:
            raise UnknownFault(f"a {self.kind.value} fault of rate {self.rate} by {self.blocks}")


def read_fault(record: Any) -> Fault:
    """Read a fault from JSON; raises `UnknownFault`."""
    if not isinstance(record, dict) or not set(record) <= {"kind", "rate", "blocks", "seconds"}:
        raise UnknownFault(f"{record!r} is no fault")
    fault = Fault(kind=RpcFault.ERROR)
    rate, blocks = record.get("rate", fault.rate), record.get("blocks", fault.blocks)
    seconds = record.get("seconds", fault.seconds)
    if type(rate) not in (int, float) or type(blocks) is not int or type(seconds) is not int:
        raise UnknownFault(f"{record!r} is no fault")
    try:
        kind = RpcFault(record.get("kind"))
    except ValueError as error:
        raise UnknownFault(f"{record!r} is no fault") from error
    return Fault(kind=kind, rate=rate, blocks=blocks, seconds=seconds)


# -- a view that ends earlier than the chain ----------------------------------------------------


def rewound(request: dict[str, Any], head: int) -> dict[str, Any]:
    """The request as a node asks itself whose newest block is `head`."""
    params = list(request.get("params") or [])
    method = request.get("method")
    place = _STATE_AT.get(method) if isinstance(method, str) else None
    if place is not None:
        while len(params) <= place:
            params.append("latest")
        if params[place] in ("latest", "pending", "safe", "finalized"):
            params[place] = hex(head)
    elif method == "eth_getLogs" and params and isinstance(params[0], dict):
        last = params[0].get("toBlock", "latest")
        first = params[0].get("fromBlock", "latest")
        params[0] = {
            **params[0],
            "fromBlock": first if _is_number(first) else hex(head),
            "toBlock": hex(min(int(last, 16), head)) if _is_number(last) else hex(head),
        }
    return {**request, "params": params}


def beyond(request: dict[str, Any], head: int) -> bool:
    """Whether a rewound request names a block after the head."""
    method, params = request.get("method"), request.get("params") or []
    place = _STATE_AT.get(method) if isinstance(method, str) else None
    if place is not None and len(params) > place and _is_number(params[place]):
        return int(params[place], 16) > head
    if method == "eth_getLogs" and params and isinstance(params[0], dict):
        return int(params[0]["fromBlock"], 16) > head
    return False


def answer_beyond(request: dict[str, Any]) -> dict[str, Any]:
    """What a node says of a block that it does not have."""
    method = request.get("method")
    if method == "eth_getLogs":
        return answered(request, [])
    if method in ("eth_getBlockByNumber", "eth_getBlockReceipts"):
        return answered(request, None)
    return refused(request, "header not found")


def hidden(request: dict[str, Any], answer: dict[str, Any], head: int) -> dict[str, Any]:
    """The answer without what only later blocks hold."""
    method, result = request.get("method"), answer.get("result")
    if method == "eth_blockNumber" and "result" in answer:
        return {**answer, "result": hex(head)}
    if not isinstance(result, dict):
        return answer
    if method == "eth_getTransactionReceipt" and _above(result.get("blockNumber"), head):
        return {**answer, "result": None}
    if method == "eth_getTransactionByHash" and _above(result.get("blockNumber"), head):
        unmined = {"blockNumber": None, "blockHash": None, "transactionIndex": None}
        return {**answer, "result": {**result, **unmined}}
    if method == "eth_getBlockByHash" and _above(result.get("number"), head):
        return {**answer, "result": None}
    return answer


def _above(number: object, head: int) -> bool:
    return _is_number(number) and int(str(number), 16) > head


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.startswith("0x")


# -- lies ---------------------------------------------------------------------------------------


def lied(
    request: dict[str, Any], answer: dict[str, Any], fault: Fault, dice: random.Random
) -> dict[str, Any]:
    """The answer as an endpoint gives it that lies about its head, or keeps receipts back."""
    method, result = request.get("method"), answer.get("result")
    if fault.kind is RpcFault.NO_RECEIPTS and method == "eth_getTransactionReceipt":
        return answered(request, None)
    if fault.kind is RpcFault.FAR_NUMBER and method == "eth_blockNumber" and result is not None:
        return {**answer, "result": hex(int(result, 16) + fault.blocks)}
    if method == "eth_getTransactionCount" and result is not None:
        waiting = (request.get("params") or [])[1:] == ["pending"]
        if fault.kind is RpcFault.FAR_NONCE or (fault.kind is RpcFault.FAR_PENDING and waiting):
            return {**answer, "result": hex(int(result, 16) + fault.blocks)}
    if method != "eth_getBlockByNumber" or not isinstance(result, dict):
        return answer
    return {**answer, "result": _lied_block(result, fault, dice)}


def _lied_block(block: dict[str, Any], fault: Fault, dice: random.Random) -> dict[str, Any]:
    if block.get("number") == "0x0":
        return block  # who the chain is, is told before anything is believed
    match fault.kind:
        case RpcFault.FAR_NUMBER:
            return {**block, "number": hex(int(block["number"], 16) + fault.blocks)}
        case RpcFault.FAR_TIME:
            return {**block, "timestamp": hex(int(block["timestamp"], 16) + fault.seconds)}
        case RpcFault.CHANGING_HASH:
            return {**block, "hash": to_hex(dice.randbytes(32))}
        case _:
            return block


def garbled(request: dict[str, Any], kind: RpcFault) -> tuple[int, bytes]:
    """An HTTP status and a body that answer nothing."""
    match kind:
        case RpcFault.UNAVAILABLE:
            return 503, b"<html><body>Service Unavailable</body></html>"
        case RpcFault.ERROR:
            return 200, encoded(refused(request, "the endpoint is overloaded"))
        case RpcFault.NOT_JSON:
            return 200, b'{"jsonrpc": "2.0", "result": '
        case RpcFault.WRONG_TYPE:
            return 200, encoded(answered(request, [{"unexpected": [1.5, None]}]))
        case RpcFault.WRONG_ID:
            return 200, encoded({"jsonrpc": "2.0", "id": "somebody else's", "result": "0x1"})
        case RpcFault.HUGE:
            return 200, encoded(answered(request, "0x" + "00" * (HUGE_BYTES // 2)))
        case _:
            raise UnknownFault(f"{kind.value} garbles nothing")


# -- records ------------------------------------------------------------------------------------


def answered(request: dict[str, Any], result: object) -> dict[str, Any]:
    """A response with a result."""
    return {"jsonrpc": "2.0", "id": request.get("id"), "result": result}


def refused(request: dict[str, Any], message: str) -> dict[str, Any]:
    """A response with an error."""
    error = {"code": _REFUSED, "message": message}
    return {"jsonrpc": "2.0", "id": request.get("id"), "error": error}


def hash_of_raw(raw: str) -> str:
    """The hash of a signed transaction, as a node gives it."""
    return to_hex(keccak256(bytes.fromhex(raw[2:])))


def encoded(answer: object) -> bytes:
    """A response as bytes."""
    return json.dumps(answer, separators=(",", ":")).encode()
