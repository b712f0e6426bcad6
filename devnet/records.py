"""What the chain says about itself: blocks, transactions, receipts and logs as plain records."""

from __future__ import annotations

from dataclasses import dataclass

from ..channels.ids import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A block's header; `hash` is what the next block names as its parent."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    withdrawals_root: bytes
    parent_beacon_root: bytes
    requests_hash: bytes
    uncles_hash: bytes
    bloom: bytes
    miner: Address
    mix_hash: bytes
    nonce: bytes
    extra_data: bytes
    gas_limit: int
    gas_used: int
    base_fee: int
    blob_gas_used: int
    excess_blob_gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """An account's word that the code of `address` runs in its place (EIP-7702), as signed."""

    chain_id: int
    address: Address
    nonce: int
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A signed transaction; `to` is None where it makes a contract."""

    hash: bytes
    kind: int
    sender: Address
    to: Address | None
    nonce: int
    gas: int
    max_fee_wei: int
    max_priority_fee_wei: int
    value_wei: int
    data: bytes
    access_list: tuple[tuple[Address, tuple[bytes, ...]], ...]
    authorizations: tuple[Authorization, ...]
    chain_id: int | None
    v: int
    y_parity: int
    r: int
    s: int

    def tip_wei(self, base_fee_wei: int) -> int:
        """What a unit of gas brings the miner in a block with that base fee; below 0: too cheap."""
        return min(self.max_priority_fee_wei, self.max_fee_wei - base_fee_wei)

    def price_wei(self, base_fee_wei: int) -> int:
        """What a unit of gas costs in a block with that base fee, which is burnt."""
        return base_fee_wei + self.tip_wei(base_fee_wei)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An event as it was logged; `log_index` counts within the block."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    transaction_index: int
    log_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a mined transaction did; `gas_used` is its own, not the block's running total.

    `gas_price_wei` is what it paid for a unit, the block's base fee within.
    """

    transaction: Transaction
    transaction_index: int
    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    gas_price_wei: int
    cumulative_gas_used: int
    bloom: bytes
    contract_address: Address | None
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A mined block with its transactions and receipts; `size_bytes` is its RLP's length."""

    header: Header
    transactions: tuple[Transaction, ...]
    receipts: tuple[Receipt, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """A message to run without a signature; `to` None makes a contract, `gas` None is the cap.

    The price is `gas_price_wei` or the two of EIP-1559; without any of them gas costs nothing.
    """

    sender: Address
    to: Address | None = None
    data: bytes = b""
    value_wei: int = 0
    gas: int | None = None
    gas_price_wei: int | None = None
    max_fee_wei: int | None = None
    max_priority_fee_wei: int | None = None
    access_list: tuple[tuple[Address, tuple[bytes, ...]], ...] = ()
    authorizations: tuple[Authorization, ...] = ()

    @property
    def fee_cap_wei(self) -> int:
        """The most that it pays for a unit of gas."""
        return (self.max_fee_wei or 0) if self.gas_price_wei is None else self.gas_price_wei

    @property
    def tip_cap_wei(self) -> int:
        """The most of it that is for the miner."""
        if self.gas_price_wei is None:
            return self.max_priority_fee_wei or 0
        return self.gas_price_wei


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """How a call ended: its output, or what it reverted with, or why it failed."""

    succeeded: bool
    reverted: bool
    output: bytes
    gas_used: int
    failure: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which logs are wanted: blocks inclusive; no addresses means any; an empty place any topic."""

    first_block: int
    last_block: int
    addresses: tuple[Address, ...] = ()
    topics: tuple[tuple[bytes, ...], ...] = ()
