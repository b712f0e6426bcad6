"""Nodes that tests script, behind web3: one that answers as it is told, one with a small pool."""

from typing import Any

import rlp
from web3.providers.base import BaseProvider

from farthing.channels.hashing import keccak256
from farthing.channels.ids import to_hex
from farthing.node.sender import checksum

from .people import ALICE

HASH = "0x" + "11" * 32
RECEIPT: dict[str, Any] = {
    "transactionHash": HASH,
    "blockNumber": "0x5",
    "blockHash": HASH,
    "transactionIndex": "0x0",
    "gasUsed": "0x9",
    "cumulativeGasUsed": "0x9",
    "status": "0x1",
    "logs": [],
    "contractAddress": None,
    "from": checksum(ALICE.address),
    "to": None,
    "logsBloom": "0x" + "00" * 256,
    "type": "0x2",
    "effectiveGasPrice": "0x0",
}


class ScriptedProvider(BaseProvider):
    """Answers each method with what a test says: a result, an error record, or an exception."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {"eth_chainId": "0x1", **answers}

    def make_request(self, method: Any, params: Any) -> Any:
        answer = self.answers[method]
        if callable(answer):
            answer = answer(*params)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict) and "code" in answer:
            return {"jsonrpc": "2.0", "id": 1, "error": answer}
        return {"jsonrpc": "2.0", "id": 1, "result": answer}


class SmallNode(ScriptedProvider):
    """A node of one account: a pool, receipts and a count; `answers` replace any of it."""

    def __init__(self, **answers: Any) -> None:
        self.sent: list[bytes] = []
        self.pool: dict[int, bytes] = {}
        self.mined: list[bytes] = []
        self.head = 100
        self.mines = True
        self.price = 0
        self.status = "0x1"
        super().__init__(
            **{
                "eth_estimateGas": "0x5208",
                "eth_gasPrice": lambda: hex(self.price),
                "eth_blockNumber": lambda: hex(self.head),
                "eth_getTransactionCount": self.count,
                "eth_sendRawTransaction": self.take,
                "eth_getTransactionByHash": self.transaction,
                "eth_getTransactionReceipt": self.receipt,
                **answers,
            }
        )

    def count(self, _: str, block: str) -> str:
        waiting = 0
        while block == "pending" and len(self.mined) + waiting in self.pool:
            waiting += 1
        return hex(len(self.mined) + waiting)

    def take(self, raw: str) -> Any:
        content = bytes.fromhex(raw[2:])
        nonce, fee = nonce_and_fee(content)
        self.sent.append(content)
        if nonce < len(self.mined):
            return {"code": -32000, "message": "nonce too low"}
        held = self.pool.get(nonce)
        if held is not None and nonce_and_fee(held)[1] >= fee:
            return {"code": -32000, "message": "already known"}
        self.pool[nonce] = content
        if self.mines:
            self.mine()
        return to_hex(keccak256(content))

    def mine(self) -> None:
        while len(self.mined) in self.pool:
            self.mined.append(self.pool.pop(len(self.mined)))
            self.head += 1

    def transaction(self, asked: str) -> Any:
        held = [*self.mined, *self.pool.values()]
        return next(({"hash": asked} for raw in held if to_hex(keccak256(raw)) == asked), None)

    def receipt(self, asked: str) -> Any:
        for place, raw in enumerate(self.mined):
            if to_hex(keccak256(raw)) == asked:
                block = hex(self.head - len(self.mined) + place + 1)
                fields = {"transactionHash": asked, "blockNumber": block, "status": self.status}
                return {**RECEIPT, **fields}
        return None

    def undo(self, blocks: int) -> list[bytes]:
        """A reorganisation of which nobody puts anything back; what the blocks held."""
        undone, self.mined = self.mined[-blocks:], self.mined[:-blocks]
        return undone


def nonce_and_fee(raw: bytes) -> tuple[int, int]:
    fields = rlp.decode(raw[1:])
    return int.from_bytes(fields[1], "big"), int.from_bytes(fields[3], "big")


def is_empty(raw: bytes) -> bool:
    """Whether a transaction does nothing: no value and no data, to whoever sends it."""
    fields = rlp.decode(raw[1:])
    return (fields[6], fields[7]) == (b"", b"")
