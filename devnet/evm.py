"""py-evm behind a narrow edge: the rules of this chain, and py-evm's objects turned to records.

Rule: py-evm is imported here and in the modules that hand its objects on: `opening`, `chain`,
`block_records`, `builder`, `calls`, `pool`, `store`, `overrides`, `alterations`, `authorizations`,
`impersonation`, `instructions`, `signing`, `proofs` and `tracing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import rlp
from eth.abc import (
    BlockAndMetaWitness,
    BlockAPI,
    BlockHeaderAPI,
    ExecutionContextAPI,
    ReceiptAPI,
    SignedTransactionAPI,
    UnsignedTransactionAPI,
)
from eth.chains.base import Chain
from eth.constants import BLANK_ROOT_HASH, CREATE_CONTRACT_ADDRESS, EMPTY_SHA256, ZERO_HASH32
from eth.exceptions import PyEVMError
from eth.validation import validate_gas_limit
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlockHeader
from eth.vm.forks.prague.headers import create_prague_header_from_parent
from eth.vm.forks.prague.state import PragueState
from eth_keys.exceptions import BadSignature as KeyException
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from ..channels.hashing import keccak256
from ..channels.ids import Address
from . import authorizations
from .errors import BadSignature, MalformedTransaction, UnsupportedTransactionType
from .impersonation import DevnetBlock
from .instructions import QuickComputation
from .records import Header, Log, Receipt, Transaction

GAS_LIMIT = 60_000_000
"""Every block's gas limit: room for a settlement of 300 rows, twice over, in one block."""
GENESIS_SECONDS = 1_735_689_600
"""1 January 2025, 00:00 UTC: fixed, so that the genesis hash depends on settings alone."""
TRANSACTION_KINDS = (0, 1, 2, authorizations.SET_CODE)
"""Legacy, EIP-2930, EIP-1559, EIP-7702. Blobs (3) need a consensus layer."""

_UNREADABLE = (RLPException, ValidationError, PyEVMError, ValueError, TypeError, RecursionError)
"""What py-evm's decoding of hostile bytes raises."""

TYPE_BYTE_MAX = 0x7F
STANDARD_TOKEN_GAS = 10
TOKENS_PER_NON_ZERO_BYTE = 4
BASE_TRANSACTION_GAS = 21_000


def _pinned_header(parent: BlockHeaderAPI | None, **fields: Any) -> BlockHeaderAPI:
    """Make a header on `parent`: base fee as EIP-1559 says, gas limit pinned.

    py-evm would drag the limit towards 4.7 million.
    """
    fields["gas_limit"] = GAS_LIMIT
    # There is no beacon chain; py-evm would fill in the root of an empty trie.
    fields.setdefault("parent_beacon_block_root", ZERO_HASH32)
    return cast(BlockHeaderAPI, create_prague_header_from_parent(parent, **fields))


def _free_header(parent: BlockHeaderAPI | None, **fields: Any) -> BlockHeaderAPI:
    """The same with a base fee of zero: by EIP-1559 one appears after a block more than half full.

    Besu calls this `zeroBaseFee`.
    """
    fields.pop("base_fee_per_gas", None)
    return _pinned_header(parent, **fields).copy(base_fee_per_gas=0)


def context_with(now: ExecutionContextAPI, **changes: Any) -> ExecutionContext:
    """The surroundings of a message with some of them replaced."""
    names = (
        *("coinbase", "timestamp", "block_number", "difficulty", "mix_hash", "gas_limit"),
        *("prev_hashes", "chain_id", "base_fee_per_gas", "excess_blob_gas"),
    )
    return ExecutionContext(**{name: getattr(now, name) for name in names} | changes)


class DevnetState(PragueState):
    """Prague's state, which may show another base fee than it asks for."""

    computation_class = QuickComputation
    shown_base_fee: int | None = None

    @property
    def base_fee(self) -> int:
        """What BASEFEE finds."""
        if self.shown_base_fee is None:
            return int(self.execution_context.base_fee_per_gas or 0)
        return self.shown_base_fee


class DevnetVM(PragueVM):
    """Prague, with a gas limit that never moves and a base fee that moves as EIP-1559 says."""

    _state_class = DevnetState
    block_class = DevnetBlock

    create_header_from_parent = staticmethod(_pinned_header)

    @classmethod
    def base_fee_after(cls, parent: BlockHeaderAPI) -> int:
        """What the block after `parent` asks for."""
        return int(calculate_expected_base_fee_per_gas(parent))

    @classmethod
    def validate_gas(cls, header: BlockHeaderAPI, parent_header: BlockHeaderAPI) -> None:
        """Refuse a header with another gas limit or base fee (py-evm's hook)."""
        validate_gas_limit(header.gas_limit, parent_header.gas_limit)
        expected = cls.base_fee_after(parent_header)
        if header.base_fee_per_gas != expected:
            raise ValidationError(f"base fee must be {expected}, is {header.base_fee_per_gas}")

    def mine_unchecked(self, block: BlockAPI) -> BlockAndMetaWitness:
        """What `mine_block` does, for a block that breaks the rule of base fees."""
        return self.finalize_block(self.pack_block(block))

    def pretend_base_fee(self, base_fee: int) -> None:
        """Put another base fee in the place of the block's."""
        state = cast(DevnetState, self.state)
        state.shown_base_fee = base_fee
        state.execution_context = context_with(state.execution_context, base_fee_per_gas=base_fee)

    def lift_base_fee(self) -> None:
        """Ask no base fee of a message that offers no price; contracts see a pretended one alone.

        As in geth: what a contract sees as base fee is never more than what the message pays.
        """
        state = self.state
        state.execution_context = context_with(state.execution_context, base_fee_per_gas=0)


class ZeroBaseFeeVM(DevnetVM):
    """The same with a base fee of zero for ever: gas is free."""

    create_header_from_parent = staticmethod(_free_header)

    @classmethod
    def base_fee_after(cls, parent: BlockHeaderAPI) -> int:  # noqa: ARG003 - whatever came before
        """Nothing."""
        return 0


def chain_class(chain: int, base_fee_wei: int = 0) -> type[Chain]:
    """py-evm's chain class for one chain id and the genesis block's base fee: 0 for free gas."""
    rules = DevnetVM if base_fee_wei else ZeroBaseFeeVM
    configured: type[Chain] = Chain.configure(
        __name__=f"Devnet{chain}", vm_configuration=((0, rules),), chain_id=chain
    )
    return configured


def genesis_fields(chain: int, base_fee_wei: int = 0) -> dict[str, Any]:
    """The genesis header's fields: the chain id stands in the extra data, so it enters the hash."""
    return {
        "timestamp": GENESIS_SECONDS,
        "extra_data": b"farthing devnet " + chain.to_bytes(8, "big"),
        "requests_hash": EMPTY_SHA256,
        "base_fee_per_gas": base_fee_wei,
    }


def genesis_state(addresses: Iterable[Address], balance_wei: int) -> dict[Any, Any]:
    """The accounts that exist at genesis. No system contracts: nothing here needs them."""
    account = {"balance": balance_wei, "nonce": 0, "code": b"", "storage": {}}
    return {address: dict(account) for address in addresses}


def read_transaction(raw: bytes) -> tuple[SignedTransactionAPI, Transaction]:
    """Read one signed transaction from its wire form and recover its sender.

    Raises `UnsupportedTransactionType`, `BadSignature`, and `MalformedTransaction` for the rest.
    """
    signed = _decode(raw)
    try:
        return signed, transaction_record(signed)
    except (KeyException, ValidationError, ValueError) as error:
        raise BadSignature(f"invalid sender: the signature fits no key ({error})") from error


def _decode(raw: bytes) -> SignedTransactionAPI:
    if not raw:
        raise MalformedTransaction("the raw transaction is empty")
    # EIP-2718: a first byte up to 0x7f is a type; a legacy transaction starts as a list does.
    if 0 < raw[0] <= TYPE_BYTE_MAX and raw[0] not in TRANSACTION_KINDS:
        raise UnsupportedTransactionType(raw[0])
    try:
        decoded = DevnetVM.get_transaction_builder().decode(raw)
    except _UNREADABLE as error:
        raise MalformedTransaction(f"the raw transaction cannot be read ({error})") from error
    # A copy: what was decoded keeps the bytes it came from, an empty list in a number's place too.
    if decoded.copy().encode() != raw:
        raise MalformedTransaction("the raw transaction is not in canonical RLP")
    if decoded.type_id == authorizations.SET_CODE:
        authorizations.check(decoded)
    return decoded


def floor_gas(data: bytes) -> int:
    """The least a transaction with this calldata pays for (EIP-7623)."""
    zeros = data.count(0)
    tokens = zeros + TOKENS_PER_NON_ZERO_BYTE * (len(data) - zeros)
    return BASE_TRANSACTION_GAS + STANDARD_TOKEN_GAS * tokens


def intrinsic_gas(transaction: SignedTransactionAPI | UnsignedTransactionAPI) -> int:
    """The gas a transaction must bring: what it costs before it runs, and the calldata floor.

    py-evm charges the words of init code (EIP-3860) when it runs it; a node asks for them here.
    """
    words = (len(transaction.data) + 31) // 32 if transaction.to == CREATE_CONTRACT_ADDRESS else 0
    return max(int(transaction.intrinsic_gas) + 2 * words, floor_gas(transaction.data))


def transaction_record(transaction: SignedTransactionAPI) -> Transaction:
    """py-evm's transaction as a record; recovers the sender."""
    kind = transaction.type_id or 0
    legacy = kind == 0
    y_parity = transaction.y_parity
    return Transaction(
        hash=keccak256(transaction.encode()),
        kind=kind,
        sender=Address(bytes(transaction.sender)),
        to=Address(bytes(transaction.to)) if transaction.to else None,
        nonce=transaction.nonce,
        gas=transaction.gas,
        max_fee_wei=transaction.max_fee_per_gas,
        max_priority_fee_wei=transaction.max_priority_fee_per_gas,
        value_wei=transaction.value,
        data=transaction.data,
        access_list=tuple(
            (Address(bytes(address)), tuple(slot.to_bytes(32, "big") for slot in slots))
            for address, slots in transaction.access_list
        ),
        authorizations=authorizations.records_of(transaction),
        chain_id=transaction.chain_id,
        v=transaction.v if legacy else y_parity,  # type: ignore[attr-defined]  # legacy only
        y_parity=y_parity,
        r=transaction.r,
        s=transaction.s,
    )


def header_record(header: BlockHeaderAPI) -> Header:
    """py-evm's header as a record."""
    prague = cast(PragueBlockHeader, header)
    return Header(
        number=header.block_number,
        hash=header.hash,
        parent_hash=header.parent_hash,
        timestamp=header.timestamp,
        state_root=header.state_root,
        transactions_root=header.transaction_root,
        receipts_root=header.receipt_root,
        withdrawals_root=prague.withdrawals_root or BLANK_ROOT_HASH,
        parent_beacon_root=header.parent_beacon_block_root or bytes(32),
        requests_hash=prague.requests_hash,
        uncles_hash=header.uncles_hash,
        bloom=header.bloom.to_bytes(256, "big"),
        miner=Address(bytes(header.coinbase)),
        mix_hash=header.mix_hash,
        nonce=header.nonce,
        extra_data=header.extra_data,
        gas_limit=header.gas_limit,
        gas_used=header.gas_used,
        base_fee=header.base_fee_per_gas or 0,
        blob_gas_used=header.blob_gas_used,
        excess_blob_gas=header.excess_blob_gas,
    )


def receipt_records(
    header: BlockHeaderAPI,
    transactions: Sequence[Transaction],
    receipts: Sequence[ReceiptAPI],
) -> tuple[Receipt, ...]:
    """A block's receipts as records: gas per transaction, log indices counted over the block."""
    records = []
    gas_before = 0
    logs_before = 0
    for index, (transaction, receipt) in enumerate(zip(transactions, receipts, strict=True)):
        logs = tuple(
            Log(
                address=Address(bytes(log.address)),
                topics=tuple(topic.to_bytes(32, "big") for topic in log.topics),
                data=log.data,
                block_number=header.block_number,
                block_hash=header.hash,
                transaction_hash=transaction.hash,
                transaction_index=index,
                log_index=logs_before + place,
            )
            for place, log in enumerate(receipt.logs)
        )
        records.append(
            Receipt(
                transaction=transaction,
                transaction_index=index,
                block_number=header.block_number,
                block_hash=header.hash,
                # EIP-658: the field that once held a state root holds the status.
                succeeded=receipt.state_root == b"\x01",
                gas_used=receipt.gas_used - gas_before,
                gas_price_wei=transaction.price_wei(header.base_fee_per_gas or 0),
                cumulative_gas_used=receipt.gas_used,
                bloom=receipt.bloom.to_bytes(256, "big"),
                contract_address=_made_contract(transaction),
                logs=logs,
            )
        )
        gas_before = receipt.gas_used
        logs_before += len(logs)
    return tuple(records)


def _made_contract(transaction: Transaction) -> Address | None:
    if transaction.to is not None:
        return None
    return Address(keccak256(rlp.encode([transaction.sender, transaction.nonce]))[12:])


def block_size(block: BlockAPI) -> int:
    """The length of a block's RLP."""
    return len(rlp.encode(block))
