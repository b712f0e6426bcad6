"""The devnet's own errors: one class per reason, each saying what to do next.

Those that answer a JSON-RPC call carry the error code a real node would send.
"""

from __future__ import annotations

from typing import ClassVar

from ..channels.errors import LocalError
from ..channels.ids import address_to_hex


class StartRefused(LocalError):
    """The devnet was asked to start in a way that is not allowed; nothing was opened."""


class NotLoopback(StartRefused):
    """A host that other machines can reach: the devnet signs for anybody who can talk to it."""

    code = "devnet-not-loopback"
    remedy = "bind to 127.0.0.1 (or ::1) and reach it from elsewhere through an SSH tunnel"

    def __init__(self, host: str) -> None:
        super().__init__(f"the devnet does not listen on {host!r}")
        self.host = host


class PortInUse(StartRefused):
    """Another process already listens there."""

    code = "devnet-port-in-use"
    remedy = "choose another with --port, let the system choose with --port 0, or stop the other"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use")
        self.host = host
        self.port = port


class CannotListen(StartRefused):
    """The operating system refuses to open the listening socket."""

    code = "devnet-cannot-listen"
    remedy = "choose another port above 1023, or --port 0"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port} ({reason})")
        self.host = host
        self.port = port
        self.reason = reason


class BadSetting(StartRefused):
    """A setting outside its bounds."""

    code = "devnet-bad-setting"

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} = {value!r} is not possible", remedy=f"give {allowed}")
        self.name = name
        self.value = value


class FolderInUse(StartRefused):
    """Another process holds the chain's database."""

    code = "devnet-folder-in-use"
    remedy = "stop the devnet that uses it, or give another folder with --data"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is in use by another process")
        self.path = path


class FolderUnusable(StartRefused):
    """The folder cannot be made, or what lies there is not a devnet's database."""

    code = "devnet-folder-unusable"
    remedy = "give a folder that can be written with --data, or move the file away"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be used ({reason})")
        self.path = path
        self.reason = reason


class OtherChain(StartRefused):
    """The folder holds a chain that was started with other settings."""

    code = "devnet-other-chain"

    def __init__(self, path: str, name: str, stored: str, asked: str) -> None:
        super().__init__(
            f"the chain in {path} was made with {name} {stored}, not {asked}",
            remedy=f"start it with {name} {stored}, or give another folder with --data",
        )
        self.name = name
        self.stored = stored
        self.asked = asked


class OtherBaseFee(StartRefused):
    """The folder holds a chain whose gas is free where it was asked not to be, or the reverse."""

    code = "devnet-other-base-fee"
    remedy = (
        "leave --base-fee and --gas-price away to go on as it was made, "
        "or give another folder with --data"
    )

    def __init__(self, path: str, stored_wei: int, asked_wei: int) -> None:
        stored, asked = (
            f"a base fee that moves from {wei} wei" if wei else "a base fee of 0 for ever"
            for wei in (stored_wei, asked_wei)
        )
        super().__init__(f"the chain in {path} was made with {stored}, not with {asked}")
        self.stored_wei = stored_wei
        self.asked_wei = asked_wei


class CallRefused(LocalError):
    """The chain refuses what a caller asked for; nothing changed.

    `hint` goes with it where the text has to be a real node's, word for word.
    """

    rpc_code: ClassVar[int] = -32000
    hint: str | None = None


class UnknownBlock(CallRefused):
    """A block that is not on this chain."""

    code = "devnet-unknown-block"
    remedy = "ask for a block up to the head, or for latest"

    def __init__(self, asked: str, head: int) -> None:
        super().__init__(f"header not found: {asked} is not on this chain, whose head is {head}")
        self.asked = asked
        self.head = head


class TimeRefused(CallRefused):
    """A change of the chain's clock that would take it backwards or too far."""

    code = "devnet-time-refused"
    rpc_code = -32602


class TooManyBlocks(CallRefused):
    """More blocks in one call than are mined in one go."""

    code = "devnet-too-many-blocks"
    rpc_code = -32602

    def __init__(self, asked: int, limit: int) -> None:
        super().__init__(
            f"{asked} blocks in one call are out of bounds", remedy=f"ask for 1 to {limit}"
        )
        self.asked = asked
        self.limit = limit


class TooManyLogs(CallRefused):
    """A query whose answer would be too large."""

    code = "devnet-too-many-logs"
    remedy = "ask for a shorter range of blocks, or name an address and topics"
    rpc_code = -32005

    def __init__(self, limit: int) -> None:
        super().__init__(f"query returned more than {limit} results")
        self.limit = limit


class TooManyFilters(CallRefused):
    """As many filters are installed as one chain keeps."""

    code = "devnet-too-many-filters"
    remedy = "uninstall some with eth_uninstallFilter; forgotten ones go after 5 minutes"
    rpc_code = -32005

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} filters are installed")
        self.limit = limit


class TooManySubscriptions(CallRefused):
    """As many subscriptions as one connection may have."""

    code = "devnet-too-many-subscriptions"
    remedy = "end some with eth_unsubscribe, or open another connection"
    rpc_code = -32005

    def __init__(self, limit: int) -> None:
        super().__init__(f"this connection has {limit} subscriptions")
        self.limit = limit


class UnknownFilter(CallRefused):
    """A filter that was never made, was not asked for in 5 minutes, or fell too far behind."""

    code = "devnet-unknown-filter"
    remedy = "install it again, and ask for what happened meanwhile with eth_getLogs"

    def __init__(self) -> None:
        super().__init__("filter not found")


class BadTypedData(CallRefused):
    """Typed data that cannot be encoded as EIP-712 wants it."""

    code = "devnet-bad-typed-data"
    remedy = "give types (with EIP712Domain), primaryType, domain and message"
    rpc_code = -32602

    def __init__(self, reason: str) -> None:
        super().__init__(f"the typed data cannot be signed: {reason[:300]}")


class CheatRefused(CallRefused):
    """A change of the chain from outside that it cannot bear."""

    code = "devnet-cheat-refused"
    rpc_code = -32602


class UnknownTransaction(CallRefused):
    """A transaction that is in no block of this chain."""

    code = "devnet-unknown-transaction"

    def __init__(self, transaction: bytes) -> None:
        super().__init__(f"transaction not found: 0x{transaction.hex()} is in no block")
        self.transaction = transaction


class TraceTooLarge(CallRefused):
    """A trace whose answer would be too large."""

    code = "devnet-trace-too-large"
    remedy = "ask for less: limit, disableStack, onlyTopCall, or one transaction of a block"
    rpc_code = -32005

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the trace is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class AllowlistRefused(CallRefused):
    """A change of the allowlist that Besu would refuse, in Besu's words."""

    code = "devnet-allowlist-refused"


class ExecutionFailed(CallRefused):
    """A call ended without success for another reason than a revert."""

    code = "devnet-execution-failed"


class ExecutionReverted(CallRefused):
    """A call was reverted by the contract; `data` is what it reverted with."""

    code = "devnet-execution-reverted"
    rpc_code = 3

    def __init__(self, data: bytes, reason: str | None) -> None:
        text = "execution reverted" if reason is None else f"execution reverted: {reason}"
        super().__init__(text)
        self.data = data
        self.reason = reason


class TransactionRefused(CallRefused):
    """A transaction that is not taken into the pool."""


class MalformedTransaction(TransactionRefused):
    """Bytes that are not a signed transaction."""

    code = "devnet-malformed-transaction"
    remedy = "send the RLP of one signed transaction of type 0, 1, 2 or 4 as hex"
    rpc_code = -32602


class UnsupportedTransactionType(TransactionRefused):
    """A transaction type that this chain does not take."""

    code = "devnet-transaction-type"
    remedy = "send type 0 (legacy), 1 (access list), 2 (EIP-1559) or 4 (EIP-7702)"

    def __init__(self, kind: int) -> None:
        super().__init__(f"transaction type {kind} not supported")
        self.kind = kind


class NoAuthorization(TransactionRefused):
    """A transaction of type 4 that authorizes nothing."""

    code = "devnet-no-authorization"

    def __init__(self) -> None:
        super().__init__("set code tx must have at least one authorization tuple")


class WrongChainId(TransactionRefused):
    """Signed for another chain, or for none."""

    code = "devnet-wrong-chain-id"
    remedy = "sign again with this chain's id (EIP-155)"

    def __init__(self, have: int | None, want: int) -> None:
        text = "none (only replay-protected transactions are taken)" if have is None else str(have)
        super().__init__(f"invalid chain id for signer: have {text}, want {want}")
        self.have = have
        self.want = want


class BadSignature(TransactionRefused):
    """A signature that no key can have made, or a malleable one."""

    code = "devnet-bad-signature"
    remedy = "sign the transaction again with secp256k1 and a low s"


class SenderNotAllowed(TransactionRefused):
    """The sender is not on the allowlist; the text is Besu's, word for word."""

    code = "devnet-sender-not-allowed"
    rpc_code = -32007

    def __init__(self, sender: bytes, registry: bytes | None = None) -> None:
        super().__init__("Sender account not authorized to send transactions")
        self.sender = sender
        self.registry = registry
        if registry is None:
            where, what_to_do = "on the allowlist", "add it with perm_addAccountsToAllowlist"
        else:
            where = f"a member in the registry at {address_to_hex(registry)}, or removed there"
            what_to_do = "register it with `farthing member set`"
        self.hint = f"{address_to_hex(sender)} is not {where}: {what_to_do}"


class NonceTooLow(TransactionRefused):
    """The nonce was used by a transaction that is already mined."""

    code = "devnet-nonce-too-low"

    def __init__(self, have: int, want: int) -> None:
        super().__init__(f"nonce too low: next nonce {want}, tx nonce {have}")
        self.have = have
        self.want = want


class NonceTooHigh(TransactionRefused):
    """The nonce lies too far ahead of the account's."""

    code = "devnet-nonce-too-high"

    def __init__(self, have: int, want: int, limit: int) -> None:
        super().__init__(
            f"nonce too high: next nonce {want}, tx nonce {have}",
            remedy=f"send the missing ones first; at most {limit} may wait",
        )
        self.have = have
        self.want = want
        self.limit = limit


class GasTooLow(TransactionRefused):
    """Less gas than the transaction costs before it runs."""

    code = "devnet-gas-too-low"

    def __init__(self, have: int, want: int) -> None:
        super().__init__(f"intrinsic gas too low: have {have}, want {want}")
        self.have = have
        self.want = want


class GasTooHigh(TransactionRefused):
    """More gas than a block holds."""

    code = "devnet-gas-too-high"

    def __init__(self, have: int, limit: int) -> None:
        super().__init__(f"exceeds block gas limit: have {have}, limit {limit}")
        self.have = have
        self.limit = limit


class FeeOrderWrong(TransactionRefused):
    """A priority fee above the fee cap."""

    code = "devnet-fee-order"

    def __init__(self, tip: int, cap: int) -> None:
        super().__init__(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas {tip}, maxFeePerGas {cap}"
        )
        self.tip = tip
        self.cap = cap


class FeeCapTooLow(TransactionRefused):
    """The most that is offered for gas is less than the block asks of everybody."""

    code = "devnet-fee-cap-too-low"

    def __init__(self, sender: bytes, cap_wei: int, base_fee_wei: int) -> None:
        super().__init__(
            f"max fee per gas less than block base fee: address {address_to_hex(sender)}, "
            f"maxFeePerGas: {cap_wei}, baseFee: {base_fee_wei}"
        )
        self.cap_wei = cap_wei
        self.base_fee_wei = base_fee_wei
        self.hint = "offer at least the base fee: what eth_gasPrice says is enough"


class GasExceedsAllowance(TransactionRefused):
    """The gas that the sender can pay for, at the price that it offers, is not enough."""

    code = "devnet-gas-exceeds-allowance"

    def __init__(self, allowance: int) -> None:
        super().__init__(f"gas required exceeds allowance ({allowance})")
        self.allowance = allowance
        self.hint = "the allowance is the account's balance, less the value, through the gas price"


class InsufficientFunds(TransactionRefused):
    """The sender cannot pay for value and gas."""

    code = "devnet-insufficient-funds"

    def __init__(self, have: int, want: int) -> None:
        super().__init__(f"insufficient funds for gas * price + value: have {have}, want {want}")
        self.have = have
        self.want = want


class OversizedTransaction(TransactionRefused):
    """Larger than the pool takes."""

    code = "devnet-oversized-transaction"

    def __init__(self, have: int, limit: int, *, what: str = "transaction") -> None:
        super().__init__(f"oversized data: {what} size {have}, limit {limit}")
        self.have = have
        self.limit = limit


class AlreadyKnown(TransactionRefused):
    """The same transaction waits in the pool already, or has been mined."""

    code = "devnet-already-known"

    def __init__(self, transaction: bytes) -> None:
        super().__init__("already known")
        self.transaction = transaction


class ReplacementUnderpriced(TransactionRefused):
    """Another transaction with this nonce waits, and this one does not pay more."""

    code = "devnet-replacement-underpriced"
    remedy = "raise both fees by a tenth, at least by 1 wei, or use the next nonce"

    def __init__(self, nonce: int) -> None:
        super().__init__(f"replacement transaction underpriced (nonce {nonce})")
        self.nonce = nonce


class PoolFull(TransactionRefused):
    """As many transactions wait as the pool holds."""

    code = "devnet-pool-full"
    remedy = "wait for the next block and send it again"
    retryable = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"txpool is full: {limit} transactions wait")
        self.limit = limit


class UnknownAccount(TransactionRefused):
    """eth_sendTransaction for an address whose key the devnet does not hold."""

    code = "devnet-unknown-account"
    remedy = "use one of eth_accounts, or sign yourself and use eth_sendRawTransaction"

    def __init__(self, address: bytes) -> None:
        super().__init__(f"unknown account {address_to_hex(address)}")
        self.address = address
