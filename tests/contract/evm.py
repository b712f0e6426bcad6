"""A small in-process EVM (py-evm, Prague) that tests drive transaction by transaction.

Time and block numbers stand still unless a test moves them. A transaction has its own cold storage
and pays intrinsic gas and the calldata floor, as on a chain; its gas costs nothing.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import rlp
from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.state import PragueState
from eth_abi.abi import decode, encode
from eth_account import Account as EthAccount
from eth_keys.datatypes import PrivateKey
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.abi import (
    collapse_if_tuple,
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
)
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

CHAIN_ID = 20262026
GENESIS_TIME = 1_800_000_000
BLOCK_GAS = 60_000_000
NOBODY = "0x" + "00" * 20


class Reverted(Exception):
    """A call reverted with this reason text (empty if it gave none)."""

    def __init__(self, reason: str, gas_used: int) -> None:
        self.reason = reason
        self.gas_used = gas_used
        super().__init__(reason)


@dataclass(frozen=True)
class Person:
    """Somebody with a key, made of the name alone."""

    name: str

    @property
    def key(self) -> bytes:
        return keccak(text=f"farthing test {self.name}")

    @property
    def address(self) -> str:
        return to_checksum_address(PrivateKey(self.key).public_key.to_address())

    def sign(self, typed_data: dict[str, Any]) -> bytes:
        """Sign EIP-712 data with eth_account's generic encoder: 65 bytes, v of 27 or 28."""
        return bytes(EthAccount.sign_typed_data(self.key, full_message=typed_data).signature)


class Event(NamedTuple):
    """A decoded log."""

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a transaction did."""

    gas_used: int
    output: bytes
    events: tuple[Event, ...]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.events if event.name == name]


class Evm:
    """One chain in memory."""

    def __init__(self) -> None:
        self.db = AtomicDB()
        self.time = GENESIS_TIME
        self.block = 1
        self.chain_id = CHAIN_ID
        self.contracts: dict[bytes, Contract] = {}
        self.log: list[tuple[str, Event]] = []
        """All events of this chain, each with the contract's address."""
        self.state = PragueState(self.db, self._context(), BLANK_ROOT_HASH)

    def _context(self) -> ExecutionContext:
        return ExecutionContext(
            coinbase=Address(bytes(20)),
            timestamp=self.time,
            block_number=BlockNumber(self.block),
            difficulty=0,
            mix_hash=Hash32(bytes(32)),
            gas_limit=BLOCK_GAS,
            prev_hashes=(Hash32(keccak(text=f"block {self.block - n}")) for n in range(1, 257)),
            chain_id=self.chain_id,
            base_fee_per_gas=0,
            excess_blob_gas=0,
        )

    def pass_time(self, *, seconds: int = 0, blocks: int = 0) -> None:
        self.time += seconds
        self.block += blocks
        self.state = PragueState(self.db, self._context(), self._persisted())

    def _persisted(self) -> Hash32:
        self.state.persist()
        return self.state.state_root

    def checkpoint(self) -> tuple[Hash32, int, int, int]:
        """Return what `restore` needs to come back to this moment."""
        return self._persisted(), self.time, self.block, len(self.log)

    def restore(self, checkpoint: tuple[Hash32, int, int, int]) -> None:
        root, self.time, self.block, logged = checkpoint
        del self.log[logged:]
        self.chain_id = CHAIN_ID
        self.state = PragueState(self.db, self._context(), root)

    def send(self, sender: Person, to: bytes, data: bytes, *, gas: int = BLOCK_GAS) -> Outcome:
        """Send a transaction; raises Reverted if it fails."""
        self.state.lock_changes()
        outcome, emitters = self._execute(sender, to, data, gas)
        self.log += zip(emitters, outcome.events, strict=True)
        return outcome

    def call(self, sender: Person, to: bytes, data: bytes) -> bytes:
        """Execute a call that leaves no trace, and return its output."""
        self.state.lock_changes()
        snapshot = self.state.snapshot()
        try:
            return self._execute(sender, to, data, BLOCK_GAS)[0].output
        finally:
            self.state.revert(snapshot)

    def _execute(
        self, sender: Person, to: bytes, data: bytes, gas: int
    ) -> tuple[Outcome, list[str]]:
        nonce = self.state.get_nonce(to_canonical_address(sender.address))
        transaction = PragueVM.create_unsigned_transaction(
            nonce=nonce, gas_price=0, gas=gas, to=Address(to), value=0, data=data
        ).as_signed_transaction(PrivateKey(sender.key), chain_id=self.chain_id)
        computation = self.state.apply_transaction(transaction)
        gas_used = PragueVM.finalize_gas_used(transaction, computation)
        if computation.is_error:
            raise Reverted(_reason(computation.output), gas_used)
        entries = computation.get_log_entries()
        events = tuple(self._decoded(*entry) for entry in entries)
        output = computation.msg.storage_address if not to else computation.output
        emitters: list[str] = [to_checksum_address(address) for address, _, _ in entries]
        return Outcome(gas_used, output, events), emitters

    def _decoded(self, address: bytes, topics: Any, data: bytes) -> Event:
        return self.contracts[address].decode_log([t.to_bytes(32, "big") for t in topics], data)

    def code(self, address: str) -> bytes:
        return self.state.get_code(to_canonical_address(address))

    def deploy(self, deployer: Person, abi: Any, bytecode: bytes, *arguments: Any) -> "Contract":
        types = [
            collapse_if_tuple(item)
            for entry in abi
            if entry["type"] == "constructor"
            for item in entry["inputs"]
        ]
        # Constructors log events too, so the contract is known before it exists.
        nonce = self.state.get_nonce(to_canonical_address(deployer.address))
        sender = to_canonical_address(deployer.address)
        address = _created(sender, nonce)
        contract = self.contracts[address] = Contract(self, to_checksum_address(address), abi)
        self.send(deployer, b"", bytecode + encode(types, arguments))
        return contract


class Contract:
    """A deployed contract: its functions by name."""

    def __init__(self, evm: Evm, address: str, abi: Any) -> None:
        self.evm = evm
        self.address = address
        self.functions = {entry["name"]: entry for entry in abi if entry["type"] == "function"}
        self.events = {
            event_abi_to_log_topic(entry): entry for entry in abi if entry["type"] == "event"
        }

    def data(self, name: str, *arguments: Any) -> bytes:
        entry = self.functions[name]
        types = [collapse_if_tuple(item) for item in entry["inputs"]]
        return function_abi_to_4byte_selector(entry) + encode(types, arguments)

    def send(self, sender: Person, name: str, *arguments: Any, gas: int = BLOCK_GAS) -> Outcome:
        """Call a function in a transaction."""
        data = self.data(name, *arguments)
        return self.evm.send(sender, to_canonical_address(self.address), data, gas=gas)

    def read(self, name: str, *arguments: Any) -> Any:
        """Call a view: one value, or a tuple of several."""
        data = self.data(name, *arguments)
        output = self.evm.call(Person("reader"), to_canonical_address(self.address), data)
        types = [collapse_if_tuple(item) for item in self.functions[name]["outputs"]]
        values = decode(types, output)
        return values[0] if len(values) == 1 else values

    def decode_log(self, topics: list[bytes], data: bytes) -> Event:
        entry = self.events[topics[0]]
        indexed = [item for item in entry["inputs"] if item["indexed"]]
        plain = [item for item in entry["inputs"] if not item["indexed"]]
        fields = {
            item["name"]: decode([item["type"]], topic)[0]
            for item, topic in zip(indexed, topics[1:], strict=True)
        }
        values = decode([item["type"] for item in plain], data)
        fields |= {item["name"]: value for item, value in zip(plain, values, strict=True)}
        for item in entry["inputs"]:
            if item["type"] == "address":
                fields[item["name"]] = to_checksum_address(fields[item["name"]])
        return Event(entry["name"], fields)


def _created(sender: bytes, nonce: int) -> bytes:
    return keccak(rlp.encode([sender, nonce]))[12:]


def _reason(output: bytes) -> str:
    if output[:4] != keccak(text="Error(string)")[:4]:
        return ""
    text: str = decode(["string"], output[4:])[0]
    return text
