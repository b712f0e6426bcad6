"""What a device reads from the chain: through one endpoint, and at blocks that are confirmed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import trio

from ..deployment import Deployment
from ..errors import ChainError
from ..ids import WORD_BYTES, Address, ChannelId, address_to_hex, to_hex
from ..state import ChainStatus, ChainView, Settlement
from ..units import DEPOSIT_MAX, TRANSFERRED_MAX
from . import abi
from .abi import Method, bool_of, uint_of, word_of, words
from .logs import (
    CLOSED_TOPIC,
    OPENED_TOPIC,
    SETTLED_TOPIC,
    ChainLog,
    ClosedLog,
    OpenedLog,
    SettledLog,
    decode_logs,
)
from .rpc import (
    RpcAnswerTooLarge,
    RpcClient,
    RpcRefused,
    RpcUnusable,
    fields,
    octets,
    quantity,
)

LOG_BLOCKS_MAX: Final = 2_000
"""Blocks of one `eth_getLogs`: public endpoints refuse more than 2,000 to 10,000."""

LOGS_MAX: Final = 20_000
"""Logs of one answer; its size in bytes is bounded too."""

CHANNELS_PER_FILTER_MAX: Final = 100
"""Channel ids of one filter; a wallet has few."""

SEARCH_SECONDS_MAX: Final = 1_800.0
"""A search for all channels of an account: 100 questions a second cover ten years of blocks in
this time. An endpoint that makes up a far head, or as many logs as it likes, gets no more."""

OPENED_MAX: Final = 20_000
"""Channels of one account that a search takes in: a wallet has few, strangers pay for theirs."""

POLL_SECONDS: Final = 0.25
"""Between two looks for a transaction: a block takes a second or more."""

OUTCOME_TIMEOUT_SECONDS: Final = 120.0
"""How long a transaction is waited for; afterwards its outcome is unknown, not negative."""

_STATE_WORDS: Final = 9


class WrongChain(ChainError):
    """The endpoint serves another chain than the deployment's."""

    code = "wrong-chain"
    remedy = "use an endpoint of the deployment's chain, or that chain's deployment file"

    def __init__(self, *, expected: int, actual: int) -> None:
        super().__init__(f"the endpoint serves chain {actual}, the deployment is on {expected}")
        self.expected = expected
        self.actual = actual


class WrongGenesis(ChainError):
    """A chain of the same id that began otherwise, such as a development chain that was reset."""

    code = "wrong-genesis"
    remedy = "use an endpoint of the deployment's chain; on a chain that was reset, deploy anew"

    def __init__(self, *, expected: bytes, actual: bytes) -> None:
        super().__init__(
            f"the chain's genesis block is {to_hex(actual)}, the deployment's {to_hex(expected)}"
        )
        self.expected = expected
        self.actual = actual


class NoContract(ChainError):
    """There is no code where the deployment says a contract is."""

    code = "no-contract"
    remedy = "check the deployment file; if the node is still syncing, wait until it has caught up"

    def __init__(self, contract: str, address: Address) -> None:
        super().__init__(f"there is no {contract} at {address_to_hex(address)}")
        self.contract = contract
        self.address = address


class WrongContract(ChainError):
    """The contract at the deployment's address is another one."""

    code = "wrong-contract"
    remedy = "do not use this deployment file: get it anew from whoever deployed"

    def __init__(self, what: str, *, expected: bytes, actual: bytes) -> None:
        super().__init__(
            f"the contract's {what} is {to_hex(actual)}, the deployment says {to_hex(expected)}"
        )
        self.what = what
        self.expected = expected
        self.actual = actual


class OutcomeUnknown(ChainError):
    """A transaction was sent and is not in a confirmed block yet; it may still take effect."""

    code = "outcome-unknown"
    remedy = "wait for it again by its hash; do not send another in its place before it is known"
    retryable = True

    def __init__(self, transaction_hash: bytes, timeout_seconds: float) -> None:
        super().__init__(
            f"transaction {to_hex(transaction_hash)} was not confirmed in {timeout_seconds:g} s"
        )
        self.transaction_hash = transaction_hash
        self.timeout_seconds = timeout_seconds


class SearchEndless(ChainError):
    """A search of the chain was given up: the endpoint gives more than a real chain holds."""

    code = "search-endless"
    remedy = "use another endpoint; a slow one may have to be nearer, or on this machine"

    def __init__(self, block: int, head_block: int, reason: str) -> None:
        where = f"at block {block:,} of {head_block:,}"
        super().__init__(f"the search for channels was given up {where}: {reason}")
        self.block = block
        self.head_block = head_block


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A block: its number, 32-byte hash and time in seconds since 1970."""

    block: int
    block_hash: bytes
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a transaction; `logs` are those of the channels' contract."""

    transaction_hash: bytes
    block: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    logs: tuple[ChainLog, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBatch:
    """All logs from the asked block through `through_block`, in chain order."""

    logs: tuple[ChainLog, ...]
    through_block: int


class ChainReader:
    """Reads one deployment; `confirmations` blocks on top of a block confirm it."""

    def __init__(self, rpc: RpcClient, deployment: Deployment, *, confirmations: int = 0) -> None:
        if confirmations < 0:
            raise ValueError("confirmations is a number of blocks")
        self.rpc = rpc
        self.deployment = deployment
        self.confirmations = confirmations

    async def check_identity(self) -> None:
        """Check that this is the deployment's chain and contract, before anything is trusted.

        Raises `WrongChain`, `WrongGenesis`, `NoContract`, `WrongContract` and the RPC's errors.
        """
        pinned = self.deployment
        chain_id = quantity(await self.rpc.call("eth_chainId"), "the chain id", bits=256)
        if chain_id != pinned.chain_id:
            raise WrongChain(expected=pinned.chain_id, actual=chain_id)
        genesis = await self.block(0)
        if genesis.block_hash != pinned.genesis_hash:
            raise WrongGenesis(expected=pinned.genesis_hash, actual=genesis.block_hash)
        for name in ("city_credit", "member_registry", "payment_channels"):
            address: Address = getattr(pinned, name)
            if not octets(await self.rpc.call("eth_getCode", to_hex(address), "latest"), "code"):
                raise NoContract(name, address)
        for what, method, expected in (
            ("deployment id", abi.DEPLOYMENT, pinned.deployment),
            ("token", abi.TOKEN, word_of(pinned.city_credit)),
            ("registry", abi.REGISTRY, word_of(pinned.member_registry)),
        ):
            (actual,) = await self._view(pinned.payment_channels, method, block="latest")
            if actual != expected:
                raise WrongContract(what, expected=expected, actual=actual)

    async def head(self) -> Head:
        """The newest confirmed block."""
        if self.confirmations == 0:
            return await self._block("latest")
        return await self.block(max(0, await self.newest() - self.confirmations))

    async def block(self, number: int) -> Head:
        """The block of that number; raises `RpcUnusable` if the endpoint has none."""
        head = await self._block(hex(number))
        if head.block != number:
            raise RpcUnusable(f"block {head.block} was given for block {number}")
        return head

    async def block_hash(self, number: int) -> bytes:
        """The hash of the block of that number; raises as `block`."""
        return (await self.block(number)).block_hash

    async def channel_state(self, channel: ChannelId, head: Head) -> ChainView:
        """What the contract says of the channel at that block; amounts in µ¢."""
        state = await self._view(
            self.deployment.payment_channels,
            abi.CHANNEL_STATE,
            channel,
            block=hex(head.block),
            count=_STATE_WORDS,
        )
        totals = [
            (
                uint_of(state[i], "a total"),
                uint_of(state[i + 1], "a deposit"),
                uint_of(state[i + 2], "a withdrawal"),
            )
            for i in (1, 4)
        ]
        if any(t > TRANSFERRED_MAX or max(d, w) > DEPOSIT_MAX for t, d, w in totals):
            raise RpcUnusable("a channel's amounts are larger than the contract can hold")
        try:
            status = ChainStatus(uint_of(state[0], "the status"))
        except ValueError:
            raise RpcUnusable("a channel's status is none that the contract has") from None
        (settled_a, deposit_a, withdrawn_a), (settled_b, deposit_b, withdrawn_b) = totals
        return ChainView(
            block=head.block,
            timestamp=head.timestamp,
            status=status,
            deposit_ucent=(deposit_a, deposit_b),
            withdrawn_ucent=(withdrawn_a, withdrawn_b),
            settled_ucent=(settled_a, settled_b),
            deadline_seconds=uint_of(state[7], "the deadline", bits=64),
            deadline_block=uint_of(state[8], "the deadline", bits=64),
        )

    async def terms_opened(self, channel: ChannelId) -> OpenedLog | None:
        """The log that opened the channel, with its terms; None if no confirmed block has it.

        Raises as `channels_of`.
        """
        found = await self._opened([to_hex(channel)])
        if any(log.channel != channel for log in found) or len(found) > 1:
            raise RpcUnusable("one channel was asked for and another given")
        return found[0] if found else None

    async def channels_of(self, account: Address) -> tuple[OpenedLog, ...]:
        """All channels that ever had this account as a party, oldest first, confirmed ones only.

        Raises `SearchEndless` where the endpoint gives no end of blocks or logs.
        """
        word = to_hex(word_of(account))
        found = await self._opened([None, word]) + await self._opened([None, None, word])
        if any(account not in (log.terms.account_a, log.terms.account_b) for log in found):
            raise RpcUnusable("channels of one account were asked for and another's given")
        return tuple(sorted(found, key=lambda log: log.terms.sequence))

    async def log_batch(
        self, first_block: int, last_block: int, channels: Collection[ChannelId]
    ) -> LogBatch:
        """The next logs of these channels, at most `LOG_BLOCKS_MAX` blocks of them.

        Keep `through_block` with the batch and ask from the block after it. `last_block` should
        be confirmed, logs of later blocks may still vanish, and not before `first_block`.
        """
        if len(channels) > CHANNELS_PER_FILTER_MAX:
            raise ValueError(f"ask for at most {CHANNELS_PER_FILTER_MAX} channels at a time")
        if not channels:  # an empty filter would mean every channel
            return LogBatch(logs=(), through_block=last_block)
        wanted = set(channels)
        batch = await self._logs(first_block, last_block, [None, [to_hex(c) for c in wanted]])
        if any(getattr(log, "channel", None) not in wanted for log in batch.logs):
            raise RpcUnusable("logs of channels were given that nobody asked for")
        return batch

    async def closed_totals(
        self, channel: ChannelId, first_block: int, last_block: int
    ) -> tuple[int, int] | None:
        """The totals by which the channel was paid out; None if these blocks did not close it."""
        block = first_block
        while block <= last_block:
            topics = [to_hex(CLOSED_TOPIC), to_hex(channel)]
            batch = await self._logs(block, last_block, topics)
            for log in batch.logs:
                if not isinstance(log, ClosedLog) or log.channel != channel:
                    raise RpcUnusable("a channel's end was asked for and another event given")
                return log.transferred_a_ucent, log.transferred_b_ucent
            block = batch.through_block + 1
        return None

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        """By which payments these blocks settled a payer's lane, oldest first."""
        found: list[Settlement] = []
        block = first_block
        while block <= last_block:
            topics = [to_hex(SETTLED_TOPIC), to_hex(channel), to_hex(word_of(payer))]
            batch = await self._logs(block, last_block, topics)
            for log in batch.logs:
                if not isinstance(log, SettledLog) or log.channel != channel or log.payer != payer:
                    raise RpcUnusable("a lane's settlements were asked for and another event given")
                found.append(
                    Settlement(
                        before_ucent=log.transferred_before_ucent,
                        transferred_ucent=log.transferred_ucent,
                        nonce=log.nonce,
                        history=log.history,
                    )
                )
            block = batch.through_block + 1
        return tuple(found)

    async def is_active(self, account: Address, block: int) -> bool:
        """Whether the account was an active member at that block."""
        registry = self.deployment.member_registry
        (word,) = await self._view(registry, abi.IS_ACTIVE, account, block=hex(block))
        return bool_of(word, "a membership")

    async def claimable(self, account: Address, block: int) -> int:
        """µ¢ of refused payouts that wait for the account's `claim`."""
        contract = self.deployment.payment_channels
        (word,) = await self._view(contract, abi.CLAIMABLE, account, block=hex(block))
        return uint_of(word, "an amount")

    async def balance_of(self, account: Address, block: int) -> int:
        """µ¢ of tokens that the account holds outside channels."""
        token = self.deployment.city_credit
        (word,) = await self._view(token, abi.BALANCE_OF, account, block=hex(block))
        return uint_of(word, "a balance")

    async def allowance(self, owner: Address, block: int) -> int:
        """µ¢ of the owner's tokens that the channels' contract may still take for deposits."""
        spender = self.deployment.payment_channels
        token = self.deployment.city_credit
        (word,) = await self._view(token, abi.ALLOWANCE, owner, spender, block=hex(block))
        return uint_of(word, "an allowance")

    async def next_nonce(self, account: Address) -> int:
        """The nonce after the account's mined transactions; those that wait are not counted."""
        answer = await self.rpc.call("eth_getTransactionCount", to_hex(account), "latest")
        return quantity(answer, "the nonce")

    async def newest(self) -> int:
        """The newest block's number, confirmed or not."""
        return quantity(await self.rpc.call("eth_blockNumber"), "the block number")

    async def estimate_gas(self, sender: Address, to: Address, data: bytes) -> int:
        """Gas the call would use now; raises `RpcRefused` with the reason if it would revert."""
        call = {"from": to_hex(sender), "to": to_hex(to), "data": to_hex(data)}
        return quantity(await self.rpc.call("eth_estimateGas", call), "the gas estimate")

    async def revert_reason(
        self, sender: Address, to: Address, data: bytes, block: int
    ) -> str | None:
        """Why the call reverts at the state after that block, or None if it does not."""
        call = {"from": to_hex(sender), "to": to_hex(to), "data": to_hex(data)}
        try:
            await self.rpc.call("eth_call", call, hex(block))
        except RpcRefused as error:
            return error.reason or error.message
        return None

    async def send_raw(self, raw: bytes) -> bytes:
        """Hand a signed transaction to the node; returns the hash that the node gives it."""
        answer = await self.rpc.call("eth_sendRawTransaction", to_hex(raw))
        return octets(answer, "the transaction hash", size=WORD_BYTES)

    async def knows(self, transaction_hash: bytes) -> bool:
        """Whether the node holds the transaction, mined or waiting."""
        answer = await self.rpc.call("eth_getTransactionByHash", to_hex(transaction_hash))
        if answer is None:
            return False
        named = fields(answer, "the transaction").get("hash")
        return octets(named, "its hash", size=WORD_BYTES) == transaction_hash

    async def outcome(self, transaction_hash: bytes) -> Outcome | None:
        """What became of a transaction so far; None while no block holds it."""
        answer = await self.rpc.call("eth_getTransactionReceipt", to_hex(transaction_hash))
        if answer is None:
            return None
        entry = fields(answer, "the transaction receipt")
        named = octets(entry.get("transactionHash"), "its hash", size=WORD_BYTES)
        if named != transaction_hash:
            raise RpcUnusable("it is another transaction's receipt")
        return Outcome(
            transaction_hash=transaction_hash,
            block=quantity(entry.get("blockNumber"), "its block number"),
            block_hash=octets(entry.get("blockHash"), "its block hash", size=WORD_BYTES),
            succeeded=bool(quantity(entry.get("status"), "its status", bits=1)),
            gas_used=quantity(entry.get("gasUsed"), "its gas"),
            logs=decode_logs(self.deployment, entry.get("logs"), maximum=LOGS_MAX),
        )

    async def wait_outcome(
        self,
        transaction_hash: bytes,
        *,
        timeout_seconds: float = OUTCOME_TIMEOUT_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> Outcome:
        """Wait until a confirmed block holds the transaction; raises `OutcomeUnknown`.

        An endpoint that fails for a moment is asked again until the time is up.
        """
        with trio.move_on_after(timeout_seconds):
            while True:
                try:
                    outcome = await self._confirmed_outcome(transaction_hash)
                except ChainError as error:
                    if not error.retryable:
                        raise
                    outcome = None
                if outcome is not None:
                    return outcome
                await trio.sleep(poll_seconds)
        raise OutcomeUnknown(transaction_hash, timeout_seconds)

    async def _confirmed_outcome(self, transaction_hash: bytes) -> Outcome | None:
        # The head first: a reorganisation between the two answers can then only lengthen the wait.
        head = await self.head()
        outcome = await self.outcome(transaction_hash)
        return outcome if outcome is not None and outcome.block <= head.block else None

    async def _block(self, which: str) -> Head:
        transactions_in_full = False
        answer = await self.rpc.call("eth_getBlockByNumber", which, transactions_in_full)
        entry = fields(answer, f"block {which}")
        return Head(
            block=quantity(entry.get("number"), "the block's number"),
            block_hash=octets(entry.get("hash"), "the block's hash", size=WORD_BYTES),
            timestamp=quantity(entry.get("timestamp"), "the block's time"),
        )

    async def _view(
        self, contract: Address, method: Method, *arguments: bytes, block: str, count: int = 1
    ) -> tuple[bytes, ...]:
        call = {"to": to_hex(contract), "data": to_hex(abi.view(method, *arguments))}
        answer = octets(await self.rpc.call("eth_call", call, block), method.signature)
        return words(answer, count, method.signature)

    async def _opened(self, topics: list[str | None]) -> tuple[OpenedLog, ...]:
        head = await self.head()
        found: list[OpenedLog] = []
        block = self.deployment.block
        give_up = trio.current_time() + SEARCH_SECONDS_MAX
        while block <= head.block:
            if trio.current_time() > give_up:
                raise SearchEndless(block, head.block, f"it takes over {SEARCH_SECONDS_MAX:g} s")
            if len(found) > OPENED_MAX:
                raise SearchEndless(block, head.block, f"over {OPENED_MAX:,} channels of one party")
            batch = await self._logs(block, head.block, [to_hex(OPENED_TOPIC), *topics])
            for log in batch.logs:
                if not isinstance(log, OpenedLog):
                    raise RpcUnusable("opened channels were asked for and another event given")
                found.append(log)
            block = batch.through_block + 1
        return tuple(found)

    async def _logs(self, first_block: int, last_block: int, topics: list[Any]) -> LogBatch:
        """One batch; asks for half as many blocks as long as the endpoint finds it too much."""
        span = min(last_block - first_block + 1, LOG_BLOCKS_MAX)
        while True:
            through = first_block + span - 1
            question = {
                "address": to_hex(self.deployment.payment_channels),
                "fromBlock": hex(first_block),
                "toBlock": hex(through),
                "topics": topics,
            }
            try:
                answer = await self.rpc.call("eth_getLogs", question)
            except (RpcRefused, RpcAnswerTooLarge):
                if span == 1:
                    raise
                span //= 2
                continue
            logs = decode_logs(self.deployment, answer, maximum=LOGS_MAX)
            if any(not first_block <= log.place.block <= through for log in logs):
                raise RpcUnusable("logs of blocks were given that nobody asked for")
            return LogBatch(logs=logs, through_block=through)
