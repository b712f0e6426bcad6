"""A whole chain in one object: blocks, state, clock, pool and allowlist over one store.

One owner at a time: nothing here may be called from two threads at once. The RPC server keeps to
that with a lock (`server.Owner`); a test that uses the chain in its own thread has nothing to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from eth.abc import BlockHeaderAPI, SignedTransactionAPI, StateAPI
from eth.chains.base import Chain
from eth.exceptions import HeaderNotFound, TransactionNotFound
from eth_typing import Address as EvmAddress
from eth_typing import BlockNumber, Hash32

from ..channels.hashing import keccak256
from ..channels.ids import ZERO_ADDRESS, Address
from . import admission, calls, opening, signing
from .accounts import DevAccount, dev_accounts
from .allowlist import Allowlist
from .alterations import Alterations
from .block_records import BlockRecords, take_back
from .builder import MachineFailed, fill
from .clock import ChainClock
from .errors import (
    AllowlistRefused,
    AlreadyKnown,
    BadSignature,
    FeeCapTooLow,
    TooManyBlocks,
    TooManyLogs,
    UnknownBlock,
)
from .evm import (
    DevnetVM,
    block_size,
    header_record,
    read_transaction,
    receipt_records,
)
from .following import Following
from .impersonation import impersonated
from .journal import LOGS_MAX as JOURNAL_LOGS_MAX
from .journal import Arrived, Journal, Mined, TakenBack
from .opening import ChainSettings
from .pool import Pool, Undone, Waiting
from .records import Block, CallRequest, CallResult, Header, Log, LogQuery, Receipt, Transaction
from .store import ChainStore

BLOCKS_AT_ONCE_MAX = 10_000
"""Half a minute of work; other callers wait meanwhile."""
LOGS_MAX = 10_000
"""About 6 MB as JSON."""

_log = logging.getLogger(__name__)


class DevChain:
    """A development chain: open it, submit transactions, mine, ask; `close` it at the end.

    Raises a `StartRefused` when it cannot be opened. A chain that is made anew mines its first
    block at once: that block's randomness is what makes a reset chain differ from the old one.
    """

    def __init__(self, settings: ChainSettings) -> None:
        opening.check_settings(settings)
        self.settings = settings
        self.accounts: tuple[DevAccount, ...] = dev_accounts(settings.accounts)
        self.keys = {account.address: account for account in self.accounts}
        self.pool = Pool()
        self.journal = Journal()
        self.automine = settings.automine
        self.interval_ms = 0
        """How often whoever serves the chain lets it mine; 0 for never."""
        self.coinbase = ZERO_ADDRESS
        self.impersonated: set[Address] = set()
        self.everybody_impersonated = False
        self._store = ChainStore(settings.folder)
        try:
            fresh = opening.is_new(self._store)
            self._chain: Chain = (
                opening.make(self._store, settings, [each.address for each in self.accounts])
                if fresh
                else opening.reopen(self._store, settings)
            )
            self.base_fee_at_genesis: Final = opening.stored_base_fee(self._store)
            self._blocks = BlockRecords(self._chain)
            self._head: BlockHeaderAPI = self._chain.get_canonical_head()
            offset = int(self._store.setting("offset_seconds") or 0)
            self.clock = ChainClock(settings.wall_seconds, offset)
            self._allowlist = Allowlist(self._store)
            self.following = Following(self._store, self._allowlist)
            self.altered = Alterations(self._store)
            self._forks = int(self._store.setting("forks") or 0)
            self._base_fee_set: int | None = None
            if fresh:
                self._mine_one()
        except BaseException:
            self._store.close()
            raise

    def close(self) -> None:
        """Close the store; transactions that wait are forgotten."""
        self._store.close()

    # Blocks

    @property
    def chain_id(self) -> int:
        """The chain id, as EIP-155 means it."""
        return self.settings.chain_id

    @property
    def genesis_hash(self) -> bytes:
        """The genesis block's hash: a function of chain id and number of accounts."""
        return self._chain.get_canonical_block_hash(BlockNumber(0))

    @property
    def head(self) -> Header:
        """The newest block's header."""
        return header_record(self._head)

    def header(self, number: int) -> Header | None:
        """A header by number, or None."""
        found = self._header_by_number(number)
        return None if found is None else header_record(found)

    def block(self, number: int) -> Block | None:
        """A block by number, or None."""
        found = self._header_by_number(number)
        return None if found is None else self._blocks.read(found)

    def block_by_hash(self, block: bytes) -> Block | None:
        """A block by hash, or None."""
        found = self._header_by_hash(block)
        return None if found is None else self._blocks.read(found)

    def pending(self) -> tuple[Header, tuple[Transaction, ...]]:
        """The header that a block mined now would start from, and what could go into it."""
        header = header_record(self._next_header())
        return header, tuple(each.record for each in self._ready(header.base_fee))

    @property
    def moving_base_fee(self) -> bool:
        """Whether gas has a price that follows demand (EIP-1559), or is free for ever."""
        return self.base_fee_at_genesis > 0

    @property
    def next_base_fee(self) -> int:
        """The base fee of the block that would be mined now."""
        return self.base_fee_after(self._head.block_number) if self.moving_base_fee else 0

    def base_fee_after(self, number: int) -> int:
        """The base fee of a block, mined or not, whose parent has this number."""
        following = self._header_by_number(number + 1) or self._next_header()
        return int(following.base_fee_per_gas or 0)

    def set_next_base_fee(self, base_fee_wei: int) -> None:
        """Let the next block ask for this base fee, whatever its parent says."""
        self._base_fee_set = base_fee_wei

    def transaction(self, transaction: bytes) -> tuple[Transaction, Receipt | None] | None:
        """A transaction by hash with its receipt, which is None while it waits; None if unknown."""
        receipt = self.receipt(transaction)
        if receipt is not None:
            return receipt.transaction, receipt
        waiting = self.pool.get(transaction)
        return None if waiting is None else (waiting, None)

    def receipt(self, transaction: bytes) -> Receipt | None:
        """A mined transaction's receipt, or None."""
        try:
            number, index = self._chain.get_canonical_transaction_index(Hash32(transaction))
        except TransactionNotFound:
            return None
        block = self.block(number)
        return None if block is None else block.receipts[index]

    def logs(self, query: LogQuery) -> tuple[Log, ...]:
        """The logs that match, in order; raises `TooManyLogs`."""
        found = self._store.logs(query, LOGS_MAX + 1)
        if len(found) > LOGS_MAX:
            raise TooManyLogs(LOGS_MAX)
        return found

    def _header_by_number(self, number: int) -> BlockHeaderAPI | None:
        if number == self._head.block_number:
            return self._head
        if not 0 <= number < self._head.block_number:
            return None
        return self._chain.get_canonical_block_header_by_number(BlockNumber(number))

    def _header_by_hash(self, block: bytes) -> BlockHeaderAPI | None:
        try:
            header = self._chain.get_block_header_by_hash(Hash32(block))
        except HeaderNotFound:
            return None
        # One that a reorganisation took back is still in the store.
        canonical = self._header_by_number(header.block_number)
        return header if canonical is not None and canonical.hash == header.hash else None

    # State

    def balance(self, address: Address, at: int | None = None) -> int:
        """An account's balance in wei at the end of a block (None: the newest)."""
        return self.machine(at).state.get_balance(EvmAddress(address))

    def nonce(self, address: Address, at: int | None = None) -> int:
        """An account's next nonce at the end of a block (None: the newest)."""
        return self.machine(at).state.get_nonce(EvmAddress(address))

    def pending_nonce(self, address: Address) -> int:
        """The nonce for the account's next transaction, those that wait counted."""
        return self.pool.next_nonce(address, self.nonce(address))

    def code(self, address: Address, at: int | None = None) -> bytes:
        """An account's code at the end of a block (None: the newest)."""
        return self.machine(at).state.get_code(EvmAddress(address))

    def storage(self, address: Address, slot: int, at: int | None = None) -> bytes:
        """A storage word at the end of a block (None: the newest)."""
        return self.machine(at).state.get_storage(EvmAddress(address), slot).to_bytes(32, "big")

    def call(self, request: CallRequest, at: int | None = None) -> CallResult:
        """Run a message in the block `at` (None: the newest) and on the state it left behind."""
        return calls.run(self.machine(at), request)

    def estimate_gas(self, request: CallRequest, at: int | None = None) -> int:
        """The least gas with which a message succeeds (None: in the block to be mined now)."""
        if at is None:
            return calls.estimate(self.next_machine, request)
        return calls.estimate(lambda: self.machine(at), request)

    def machine(self, at: int | None) -> DevnetVM:
        """A virtual machine in the block `at` (None: the newest), on the state it left behind."""
        header = self._head if at is None else self._header_by_number(at)
        if header is None:
            raise UnknownBlock(f"block {at}", self._head.block_number)
        return self._vm(self.altered.over(header) if header is self._head else header)

    def next_machine(self) -> DevnetVM:
        """A virtual machine in the block that would be mined now."""
        return self._vm(self._next_header())

    def replayed(
        self, number: int
    ) -> tuple[DevnetVM, BlockHeaderAPI, Sequence[SignedTransactionAPI]]:
        """A machine before a mined block, the block's header, and its transactions.

        Raises `UnknownBlock`.
        """
        header = self._header_by_number(number)
        parent = self._header_by_number(number - 1)
        if header is None or parent is None:
            raise UnknownBlock(f"block {number}", self._head.block_number)
        before = header.copy(state_root=self.altered.before(header.hash, parent), gas_used=0)
        return self._vm(before), before, self._chain.get_block_by_header(header).transactions

    def _vm(self, header: BlockHeaderAPI) -> DevnetVM:
        return cast(DevnetVM, self._chain.get_vm(header))

    # Transactions

    def submit(self, raw: bytes) -> bytes:
        """Check a signed transaction, let it wait (or mine it at once) and return its hash.

        Raises a `TransactionRefused`.
        """
        admission.check_size(len(raw))
        signed, record = read_transaction(raw)
        if impersonated(record.r, record.s) is not None:
            raise BadSignature("invalid sender: the signature is one that only the devnet makes")
        return self.take(signed, record)

    def take(self, signed: SignedTransactionAPI, record: Transaction) -> bytes:
        """Let a transaction whose sender is known wait (or mine it at once); returns its hash.

        Raises a `TransactionRefused`.
        """
        if self.pool.get(record.hash) is not None or self.receipt(record.hash) is not None:
            raise AlreadyKnown(record.hash)
        state = self.machine(None).state
        standing = admission.Standing(
            allowed=self._may_send(state, record.sender),
            registry=self.following.registry,
            nonce=state.get_nonce(EvmAddress(record.sender)),
            balance_wei=state.get_balance(EvmAddress(record.sender)),
        )
        admission.check(record, signed, chain_id=self.chain_id, standing=standing)
        # Mined at once or never: there is no later block whose base fee may be lower.
        if self.automine and record.max_fee_wei < (base_fee := self.next_base_fee):
            raise FeeCapTooLow(record.sender, record.max_fee_wei, base_fee)
        self.pool.add(record, signed, standing.nonce)
        self.journal.add(Arrived(transaction=record.hash))
        if self.automine:
            self.mine_ready()
        return record.hash

    def send(self, request: CallRequest, nonce: int | None = None) -> bytes:
        """Sign for a development account and submit; gas and nonce are filled in where missing.

        Raises `UnknownAccount`, what `estimate_gas` raises, or a `TransactionRefused`.
        """
        return self.take(*signing.transaction_of(self, request, nonce))

    # Mining

    def mine(self, count: int = 1, interval_seconds: int = 1) -> Header:
        """Mine blocks now, `interval_seconds` apart, empty ones too; returns the new head.

        The clock moves with them, so that time goes on from the last block. Raises
        `TooManyBlocks`, `TimeRefused`.
        """
        if not 1 <= count <= BLOCKS_AT_ONCE_MAX:
            raise TooManyBlocks(count, BLOCKS_AT_ONCE_MAX)
        for index in range(count):
            if index > 0 and interval_seconds > 1:
                self.clock.set_next(self._head.timestamp + interval_seconds, self._head.timestamp)
            self._mine_one()
        if self.clock.catch_up(self._head.timestamp):
            self._keep_clock()
        return self.head

    def tick(self) -> Header | None:
        """Mine the block that the interval asks for, also an empty one.

        None where the block would be empty and the head is ahead of the clock already: with
        intervals under a second time would run away, since every block takes at least a second.
        """
        ahead = self._head.timestamp > self.clock.now()
        if ahead and not self._anything_ready() and self.clock.next_exact is None:
            return None
        self._mine_one()
        return self.head

    def increase_time(self, seconds: int) -> int:
        """Move the clock forward from the next block on; returns the offset. `TimeRefused`."""
        self.clock.increase(seconds)
        self._keep_clock()
        return self.clock.offset_seconds

    def set_next_timestamp(self, timestamp: int) -> None:
        """Give the next block exactly this time and go on from there; raises `TimeRefused`."""
        self.clock.set_next(timestamp, self._head.timestamp)

    def alter(self, change: Callable[[StateAPI], None]) -> None:
        """Change the newest state from outside; the next block starts from what it leaves."""
        self.altered.alter(self.machine(None), change)

    def mine_ready(self) -> None:
        """Mine until nothing can be: each block takes or drops at least one transaction."""
        while self._anything_ready():
            self._mine_one()

    def _anything_ready(self) -> bool:
        return next(self._ready(self.next_base_fee), None) is not None

    def _ready(self, base_fee: int) -> Iterator[Waiting]:
        """What could go into a block that asks for this."""
        return self.pool.ready(self.nonce, base_fee if self.moving_base_fee else None)

    def set_clock(self, offset_seconds: int) -> None:
        """Put the clock that far ahead of the wall clock."""
        self.clock.offset_seconds = offset_seconds
        self._keep_clock()

    def _keep_clock(self) -> None:
        with self._store.writing():
            self._store.put_setting("offset_seconds", str(self.clock.offset_seconds))

    def _next_header(self, timestamp: int | None = None) -> BlockHeaderAPI:
        parent = self._head
        first = parent.block_number == 0
        seed = (self.settings.entropy or os.urandom(32)) if first else parent.mix_hash
        if self._forks:  # so that a block never has the hash of the one that it replaces
            seed += self._forks.to_bytes(8, "big")
        header = self._chain.create_header_from_parent(
            parent,
            coinbase=EvmAddress(self.coinbase),
            timestamp=timestamp or self.clock.next_timestamp(parent.timestamp),
            mix_hash=Hash32(keccak256(seed)),
        )
        if self._base_fee_set is not None:
            header = header.copy(base_fee_per_gas=self._base_fee_set)
        return self.altered.over(header)

    def mine_at(self, timestamp: int, *, empty: bool) -> None:
        """Mine a block of exactly this time, later than its parent's, and leave the clock alone."""
        self._mine_one(timestamp, empty=empty)

    def undo(self, number: int) -> tuple[Undone, ...]:
        """Forget every block above a number; returns what they held, oldest first.

        State, logs, receipts and indexes are as they were at that block; the pool is left alone.
        Raises `UnknownBlock`.
        """
        fork = self._header_by_number(number)
        if fork is None:
            raise UnknownBlock(f"block {number}", self._head.block_number)
        with self._store.writing():
            lost = LogQuery(first_block=number + 1, last_block=self._head.block_number)
            logs = self._store.logs(lost, JOURNAL_LOGS_MAX)
            undone = take_back(self._chain, fork, self._head.block_number)
            self._store.forget_logs(number)
            self._store.put_setting("forks", str(self._forks + 1))
        self._forks += 1
        self._head = fork
        self._base_fee_set = None
        self.altered.put(None)
        self.journal.add(TakenBack(logs=logs))
        return undone

    def _mine_one(self, timestamp: int | None = None, *, empty: bool = False) -> None:
        """Mine one block; a transaction on which the machine fails is dropped, the rest goes on."""
        while True:
            try:
                self._build(timestamp, empty=empty)
            except MachineFailed as failure:
                transaction = failure.waiting.record.hash
                _log.exception("dropped transaction 0x%s: the machine failed", transaction.hex())
                self.pool.drop(transaction)
            else:
                return

    def _build(self, timestamp: int | None, *, empty: bool) -> None:
        header = self._next_header(timestamp)
        vm = self._vm(header)
        with self._store.writing():
            # What an import does first: nothing, as long as genesis holds no system contracts.
            vm.block_preprocessing(vm.get_block())
            ready = () if empty else self._ready(header.base_fee_per_gas or 0)
            filling = fill(vm, header, ready, lambda sender: self._may_send(vm.state, sender))
            unpacked = vm.set_block_transactions_and_withdrawals(
                vm.get_block(),
                filling.header,
                [each.signed for each in filling.taken],
                filling.receipts,
            )
            # No block_postprocessing: without the deposit and withdrawal contracts there are no
            # requests, and the hash of none stands in the header.
            # A base fee from outside breaks the rule that a block is held to here.
            finish = vm.mine_block if self._base_fee_set is None else vm.mine_unchecked
            mined = finish(unpacked).block
            self._chain.chaindb.persist_block(mined)
            self.altered.taken_up(mined.hash)
            transactions = tuple(each.record for each in filling.taken)
            block = Block(
                header=header_record(mined.header),
                transactions=transactions,
                receipts=receipt_records(mined.header, transactions, filling.receipts),
                size_bytes=block_size(mined),
            )
            self._store.add_logs(log for receipt in block.receipts for log in receipt.logs)
            offset = self.clock.offset_seconds
            if timestamp is None:
                offset = self.clock.offset_after(mined.header.timestamp)
            if offset != self.clock.offset_seconds:
                self._store.put_setting("offset_seconds", str(offset))
        self._head = mined.header
        self._base_fee_set = None
        self.altered.root = None
        if timestamp is None:
            self.clock.block_mined(offset)
        self._blocks.remember(block)
        self.journal.add(
            Mined(
                header=block.header,
                logs=tuple(log for receipt in block.receipts for log in receipt.logs),
            )
        )
        for each in (*filling.taken, *filling.unfit):
            self.pool.drop(each.record.hash)
        if any(each.authorizations for each in transactions):
            self.pool.drop_used(self.nonce)

    # Permissions

    def _may_send(self, state: StateAPI, sender: Address) -> bool:
        return not self.settings.permissioned or self.following.may_send(state, sender)

    def allowed(self) -> tuple[Address, ...]:
        """Everybody who may send; raises `AllowlistRefused` on an open chain."""
        self._check_permissioned()
        return self.following.admitted(self.machine(None).state)

    def follow(self, registry: Address | None) -> None:
        """Let a registry decide about whom it holds (None: the allowlist about everybody).

        What waits from somebody who may not send any more is dropped with the next block. Raises
        `AllowlistRefused`, `NotARegistry`.
        """
        self._check_permissioned()
        self.following.follow(self.machine(None).state, registry)

    def allow(self, addresses: Sequence[Address]) -> None:
        """Put addresses on the allowlist, all or none; raises `AllowlistRefused`."""
        self._check_permissioned()
        self._allowlist.add(addresses)

    def disallow(self, addresses: Sequence[Address]) -> None:
        """Take addresses off the allowlist, all or none, and forget what waits from them.

        Raises `AllowlistRefused`.
        """
        self._check_permissioned()
        self._allowlist.remove(addresses)
        state = self.machine(None).state
        for address in addresses:
            if not self._may_send(state, address):
                self.pool.drop_sender(address)

    def _check_permissioned(self) -> None:
        if not self.settings.permissioned:
            raise AllowlistRefused("Account allowlist has not been enabled")
