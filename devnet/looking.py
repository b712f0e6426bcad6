"""What there is to see of a chain, decoded: the same for the commands and for the explorer.

Rule: everything is asked over JSON-RPC, so that nobody sees here what a client could not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from ..channels.errors import LocalError
from .asking import METHOD_NOT_FOUND, Ask, RefusedByDevnet
from .decoding import (
    Decoded,
    contract_of,
    decode_call,
    decode_creation,
    decode_event,
)

TOO_MANY = -32005
LOG_BLOCKS_FIRST = 256
"""Blocks that are searched for logs at first; doubled as long as too few are found."""

Json = dict[str, Any]
Topics = Sequence[str | list[str] | None]


class NotThere(LocalError):
    """What was asked for is not on this chain."""

    code = "devnet-not-there"
    remedy = "check it, and that --rpc is the devnet that it is on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A log, with what it says where it is of our contracts."""

    log: Mapping[str, Any]
    decoded: Decoded | None

    @property
    def block(self) -> int:
        """Its block's number."""
        return number(self.log["blockNumber"])

    @property
    def index(self) -> int:
        """Its place in the block."""
        return number(self.log["logIndex"])

    def record(self) -> Json:
        """As JSON has it: decoded, or raw where it is not of our contracts."""
        record: Json = {
            "block": self.block,
            "index": self.index,
            "transaction": self.log["transactionHash"],
            "address": to_checksum_address(self.log["address"]),
        }
        if self.decoded is None:
            return {**record, "topics": self.log["topics"], "data": self.log["data"]}
        return {**record, **self.decoded.record()}


def number(value: Any) -> int:
    """A quantity of an answer."""
    return int(value, 16)


class Viewer:
    """Looks at one chain; names that it has learned are kept as long as it lives."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._contracts: dict[str, str | None] = {}
        self._accounts: list[str] | None = None

    def head(self) -> int:
        """The newest block's number."""
        return number(self.ask("eth_blockNumber"))

    def block(self, at: str, *, full: bool) -> Json:
        """A block by hex number, tag or hash; raises `NotThere`."""
        by_hash = len(at) == 2 + 64
        method = "eth_getBlockByHash" if by_hash else "eth_getBlockByNumber"
        found: Json | None = self.ask(method, at, full)
        if found is None:
            raise NotThere(f"there is no block {at if by_hash else shown_number(at)}")
        return found

    def receipts(self, block: Mapping[str, Any]) -> list[Json]:
        """The receipts of a block, in its order."""
        found: list[Json] = self.ask("eth_getBlockReceipts", block["number"])
        return found

    def contract(self, address: str) -> str | None:
        """Which of our contracts is at an address; None if none is."""
        key = address.lower()
        if key not in self._contracts:
            code = self.ask("eth_getCode", key, "latest")
            self._contracts[key] = contract_of(bytes.fromhex(code[2:]))
        return self._contracts[key]

    def name(self, address: str) -> str | None:
        """What an address is called here: a contract's name, `account N`, or None."""
        if self._accounts is None:
            self._accounts = [str(each).lower() for each in self.ask("eth_accounts")]
        key = address.lower()
        if key in self._accounts:
            return f"account {self._accounts.index(key)}"
        return self.contract(key)

    @staticmethod
    def checksum(address: str | None) -> str | None:
        """An address with its checksum; None stays None."""
        return None if address is None else to_checksum_address(address)

    # Transactions

    def call_of(self, transaction: Mapping[str, Any]) -> Decoded | None:
        """What a transaction's data says; None where it is none of ours."""
        data = bytes.fromhex(transaction["input"][2:])
        if transaction["to"] is None:
            return decode_creation(data)
        contract = self.contract(transaction["to"])
        return None if contract is None else decode_call(data, contract)

    def transaction(self, transaction: str) -> tuple[Json, Json | None]:
        """A transaction and its receipt, None while it waits; raises `NotThere`."""
        found = self.ask("eth_getTransactionByHash", transaction)
        if found is None:
            raise NotThere(f"there is no transaction {transaction}")
        return found, self.ask("eth_getTransactionReceipt", transaction)

    def trace(self, transaction: str) -> Json | None:
        """The tree of calls, as geth's callTracer gives it; None where it is not served."""
        try:
            tree: Json = self.ask("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        except RefusedByDevnet as refusal:
            if refusal.rpc_code == METHOD_NOT_FOUND:
                return None
            raise
        return tree

    # Events

    def event(self, log: Mapping[str, Any]) -> Event:
        """A log with what it says."""
        contract = self.contract(log["address"])
        decoded = None
        if contract is not None:
            topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
            decoded = decode_event(topics, bytes.fromhex(log["data"][2:]), contract)
        return Event(log=log, decoded=decoded)

    def events(
        self,
        first: int,
        last: int,
        *,
        address: str | None = None,
        topics: Topics = (),
    ) -> Iterator[Event]:
        """Events of these blocks, oldest first, in as many questions as the devnet wants."""
        wanted: Json = {"fromBlock": hex(first), "toBlock": hex(last), "topics": list(topics)}
        if address is not None:
            wanted["address"] = address
        try:
            logs = self.ask("eth_getLogs", wanted)
        except RefusedByDevnet as refusal:
            if refusal.rpc_code != TOO_MANY or first == last:
                raise
            middle = (first + last) // 2
            yield from self.events(first, middle, address=address, topics=topics)
            yield from self.events(middle + 1, last, address=address, topics=topics)
            return
        yield from map(self.event, logs)

    def newest_events(
        self, count: int, *, before: int | None = None, topics: Topics = ()
    ) -> tuple[list[Event], int | None]:
        """At least `count` events before a block, newest first, and the block to go on before.

        A block's events stay together; None where there are no older ones.
        """
        last = (self.head() if before is None else before - 1) if before != 0 else -1
        found: list[Event] = []
        size = LOG_BLOCKS_FIRST
        while last >= 0 and len(found) < count:
            first = max(0, last - size + 1)
            found += sorted(
                self.events(first, last, topics=topics),
                key=lambda event: (event.block, event.index),
                reverse=True,
            )
            last, size = first - 1, size * 2
        if len(found) > count:
            end = found[count - 1].block
            return [event for event in found if event.block >= end], end
        return found, last + 1 if last >= 0 else None


def shown_number(at: str) -> str:
    """A hex number in digits, a tag as it is."""
    return str(number(at)) if at.startswith("0x") else at
