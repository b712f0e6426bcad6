"""Transactions that a device signs itself: typed by EIP-1559, at a gas price of zero by default.

Rule: what is sent can be persisted first, and sending it again is harmless; whether to make it
again is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import rlp
import trio

from ..deployment import Deployment
from ..errors import ChainError
from ..hashing import keccak256
from ..ids import Address, to_hex
from ..signing import Signer
from ..state import CloseTerms, WithdrawalTerms
from ..terms import Terms
from . import abi
from .abi import SettleRow
from .chain import (
    OUTCOME_TIMEOUT_SECONDS,
    POLL_SECONDS,
    ChainReader,
    Outcome,
    OutcomeUnknown,
)
from .outbox import EMPTY_GAS, NOT_SENT, Outbox, Quarrel, Sent
from .rpc import RpcRefused, RpcTimeout, RpcUnreachable, RpcUnusable

GAS_LIMIT_MAX: Final = 30_000_000
"""No block in use holds more; a call that needs more is split by the caller."""

RESUME_SECONDS: Final = 10.0
"""Between two tries to find out what became of an earlier process's transactions."""

_TYPE: Final = b"\x02"  # EIP-2718 number of an EIP-1559 transaction
_GAS_MARGIN_DIVISOR: Final = 4
_GAS_MARGIN: Final = 10_000
"""A quarter and a bit above the estimate: the state may change until the block is made."""


class TransactionFailed(ChainError):
    """A transaction was mined and reverted: nothing changed except its sender's nonce."""

    code = "transaction-failed"
    remedy = "read the reason, look at the channel's state on the chain, and decide anew"

    def __init__(self, what: str, outcome: Outcome, reason: str | None) -> None:
        cause = reason or "it succeeds when tried again: the state has changed since"
        super().__init__(f"{what} ({to_hex(outcome.transaction_hash)}) reverted: {cause}")
        self.what = what
        self.outcome = outcome
        self.reason = reason


class GasAboveLimit(ChainError):
    """The call would need more gas than a block holds."""

    code = "gas-above-limit"
    remedy = "ask for less in one call"

    def __init__(self, what: str, gas: int) -> None:
        super().__init__(f"{what} would use {gas:,} gas, more than {GAS_LIMIT_MAX:,}")
        self.what = what
        self.gas = gas


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a contract; `what` names it in errors."""

    to: Address
    data: bytes
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The fields of an EIP-1559 transaction without value and access list; prices in wei."""

    chain_id: int
    nonce: int
    to: Address
    data: bytes
    gas_limit: int
    fee_per_gas_wei: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A transaction as it goes to a node, and the hash under which it will be found."""

    call: Call
    nonce: int
    gas_limit: int
    raw: bytes
    transaction_hash: bytes


class ContractCalls:
    """Makes the calls of one deployment that a device may send."""

    def __init__(self, deployment: Deployment) -> None:
        self._channels = deployment.payment_channels
        self._token = deployment.city_credit

    def start_close(self, terms: Terms, *, expires: int = 0, signature: bytes = b"") -> Call:
        """Start the challenge window; without a signature the sender must be a party."""
        data = abi.start_close(terms, expires=expires, signature=signature)
        return Call(to=self._channels, data=data, what="start_close")

    def finish_close(self, terms: Terms) -> Call:
        """End a channel whose window has passed; anyone may."""
        return Call(to=self._channels, data=abi.finish_close(terms), what="finish_close")

    def settle(self, rows: Sequence[SettleRow]) -> Call:
        """Raise lanes' totals; bad rows are skipped and reported in the outcome's logs."""
        return Call(to=self._channels, data=abi.settle(rows), what="settle")

    def close(
        self, terms: Terms, content: CloseTerms, *, signature_a: bytes, signature_b: bytes
    ) -> Call:
        """End a channel at once by a close that both signers signed; anyone may."""
        data = abi.close(terms, content, signature_a=signature_a, signature_b=signature_b)
        return Call(to=self._channels, data=data, what="close")

    def withdraw(
        self, terms: Terms, content: WithdrawalTerms, *, signature_a: bytes, signature_b: bytes
    ) -> Call:
        """Pay an account out of its open channel, by both signatures; anyone may."""
        data = abi.withdraw(terms, content, signature_a=signature_a, signature_b=signature_b)
        return Call(to=self._channels, data=data, what="withdraw")

    def approve(self, amount_ucent: int) -> Call:
        """Let the contract take that many µ¢ of the sender's tokens for its deposits."""
        return Call(to=self._token, data=abi.approve(self._channels, amount_ucent), what="approve")

    def deposit(self, terms: Terms, *, account: Address, amount_ucent: int) -> Call:
        """Add the sender's approved tokens to the account's side of an open channel."""
        data = abi.deposit(terms, account=account, amount_ucent=amount_ucent)
        return Call(to=self._channels, data=data, what="deposit")

    def claim(self, account: Address) -> Call:
        """Pay out what a refused transfer left waiting; anyone may."""
        return Call(to=self._channels, data=abi.claim(account), what="claim")


def sign_transaction(transaction: Transaction, signer: Signer) -> bytes:
    """The raw transaction, ready for `eth_sendRawTransaction` (EIP-1559, EIP-2718)."""
    fields: list[object] = [
        transaction.chain_id,
        transaction.nonce,
        transaction.fee_per_gas_wei,  # the priority fee, all of it
        transaction.fee_per_gas_wei,
        transaction.gas_limit,
        transaction.to,
        0,  # value
        transaction.data,
        [],  # access list
    ]
    signature = signer.sign_digest(keccak256(_TYPE + rlp.encode(fields)))
    y_parity = signature[64] - 27
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:64], "big")
    encoded: bytes = rlp.encode([*fields, y_parity, r, s])
    return _TYPE + encoded


class TransactionSender:
    """Sends one signer's transactions, one at a time, and waits until they are confirmed.

    One sender per key and chain: two would take the same nonce. What `execute` sends is in the
    outbox first; while something of it may still be mined, it sends that again and nothing else.
    """

    def __init__(
        self,
        reader: ChainReader,
        signer: Signer,
        *,
        fee_per_gas_wei: int = 0,
        outbox: Outbox | None = None,
    ) -> None:
        self._reader = reader
        self._signer = signer
        self._fee_per_gas_wei = fee_per_gas_wei
        self._outbox = Outbox() if outbox is None else outbox
        self._quarrel = Quarrel()
        self.on_stranger: Callable[[], None] = lambda: None
        """Called when another program has sent with the same key."""
        self._turn = trio.Lock()

    @property
    def address(self) -> Address:
        """The sender of all its transactions."""
        return self._signer.address

    async def execute(
        self, call: Call, *, timeout_seconds: float = OUTCOME_TIMEOUT_SECONDS
    ) -> Outcome:
        """Sign, write down, send, and wait until it is confirmed.

        Raises `RpcRefused` with the contract's reason if the call would revert now, or if the node
        does not take it and no block holds it, `GasAboveLimit`, `OutboxUnusable`,
        `TransactionFailed` if it was mined and reverted, and `OutcomeUnknown` if it, or what was
        sent before, was not confirmed in time.
        """
        async with self._turn:
            await self._look_back(timeout_seconds)
            nonce = await self._reader.next_nonce(self.address)
            if not self._outbox.vouches_for(nonce):
                await self._carry_out(self._empty(nonce), timeout_seconds)
                nonce += 1
            signed = self._signed(call, nonce, await self._gas_limit(call))
            return await self._carry_out(signed, timeout_seconds)

    async def _carry_out(self, signed: SignedTransaction, timeout_seconds: float) -> Outcome:
        """Write it down, send it, and wait until it is confirmed."""
        sent = self._written(signed)
        try:
            outcome = await self._submit(signed, timeout_seconds)
        except RpcRefused:
            self._outbox.forget(sent)  # the node neither takes nor has it
            raise
        except TransactionFailed as failure:
            sent.block, sent.is_shown = failure.outcome.block, True
            raise
        sent.block, sent.is_shown = outcome.block, True
        return outcome

    def _written(self, signed: SignedTransaction) -> Sent:
        call = signed.call
        sent = Sent(
            what=call.what,
            nonce=signed.nonce,
            transaction_hash=signed.transaction_hash,
            raw=signed.raw,
            to=call.to,
            data=call.data,
            gas_limit=signed.gas_limit,
            fee_per_gas_wei=self._fee_per_gas_wei,
        )
        self._outbox.add(sent)
        return sent

    async def resume(self) -> None:
        """Send again what an earlier process left, until all of it has its place in the chain."""
        while True:
            try:
                async with self._turn:
                    await self._look_back(OUTCOME_TIMEOUT_SECONDS)
            except NOT_SENT:  # the follower tells the owner of the chain, the next call of the disk
                await trio.sleep(RESUME_SECONDS)
            else:
                return

    async def _look_back(self, timeout_seconds: float) -> None:
        """Until everything has its place: a later one would wait behind it anyway."""
        under_way = await self._judge()
        with trio.move_on_after(timeout_seconds):
            while under_way:
                for sent in under_way:
                    await self._send_again(sent)
                await trio.sleep(POLL_SECONDS)
                under_way = await self._judge()
        if under_way:
            raise OutcomeUnknown(under_way[0].transaction_hash, timeout_seconds)

    async def _judge(self) -> tuple[Sent, ...]:
        if not self._outbox.rows:
            return ()
        count = await self._reader.next_nonce(self.address)
        mined = {}
        for sent in self._outbox.rows:
            outcome = await self._reader.outcome(sent.transaction_hash)
            if outcome is not None:
                mined[sent.transaction_hash] = outcome.block
        head = await self._reader.newest()  # after the count, whose state it then holds
        judgement = self._outbox.judge(count=count, head=head, mined=mined)
        if self._quarrel.tells(strange=judgement.strange):
            self.on_stranger()
        for sent in judgement.stranded:  # a lie has put it where the account does not get
            self._written(self._empty(sent.nonce))
            self._outbox.forget(sent)
        fillings = tuple(self._written(self._empty(nonce)) for nonce in judgement.missing)
        return fillings + judgement.under_way

    def _empty(self, nonce: int) -> SignedTransaction:
        """A transfer of nothing to ourselves, which uses up a nonce."""
        call = Call(to=self.address, data=b"", what="using up a nonce")
        return self._signed(call, nonce, EMPTY_GAS)

    async def _send_again(self, sent: Sent) -> None:
        """Give it to the node; where that neither takes nor has it, it is forgotten."""
        try:
            await self._reader.send_raw(sent.raw)
        except RpcRefused:
            if not await self._reader.knows(sent.transaction_hash):
                self._outbox.forget(sent)

    async def _gas_limit(self, call: Call) -> int:
        """Enough gas; raises `RpcRefused`, `GasAboveLimit`."""
        gas = await self._reader.estimate_gas(self.address, call.to, call.data)
        if gas > GAS_LIMIT_MAX:
            raise GasAboveLimit(call.what, gas)
        return min(gas + gas // _GAS_MARGIN_DIVISOR + _GAS_MARGIN, GAS_LIMIT_MAX)

    def _signed(self, call: Call, nonce: int, gas_limit: int) -> SignedTransaction:
        transaction = Transaction(
            chain_id=self._reader.deployment.chain_id,
            nonce=nonce,
            to=call.to,
            data=call.data,
            gas_limit=gas_limit,
            fee_per_gas_wei=self._fee_per_gas_wei,
        )
        raw = sign_transaction(transaction, self._signer)
        return SignedTransaction(
            call=call,
            nonce=nonce,
            gas_limit=gas_limit,
            raw=raw,
            transaction_hash=keccak256(raw),
        )

    async def _submit(self, signed: SignedTransaction, timeout_seconds: float) -> Outcome:
        outcome: Outcome | None = None
        with trio.move_on_after(timeout_seconds):
            await self._send(signed)
            outcome = await self._reader.wait_outcome(
                signed.transaction_hash, timeout_seconds=timeout_seconds
            )
        if outcome is None:
            raise OutcomeUnknown(signed.transaction_hash, timeout_seconds)
        if not outcome.succeeded:
            call = signed.call
            reason = await self._reader.revert_reason(
                self.address, call.to, call.data, outcome.block
            )
            raise TransactionFailed(call.what, outcome, reason)
        return outcome

    async def _send(self, signed: SignedTransaction) -> None:
        """Until the node holds it; where no answer came, it is sent again, which is harmless."""
        while True:  # bounded by the caller's timeout
            try:
                named = await self._reader.send_raw(signed.raw)
            except RpcRefused:
                # A repeat is refused as already known or as used up: only the chain tells which.
                if not await self._reader.knows(signed.transaction_hash):
                    raise
                return
            except (RpcUnreachable, RpcTimeout):
                await trio.sleep(POLL_SECONDS)
                continue
            if named != signed.transaction_hash:
                raise RpcUnusable("the node calls the transaction by another hash than its own")
            return
