"""Sends one account's transactions over web3 and waits for them; turns failures into our errors.

Rule: a transaction is on disk before it is sent, and nothing is sent while an earlier one may still
be mined; so nothing is done twice, whatever endpoint and chain do with it.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from eth_abi.exceptions import DecodingError
from eth_typing import ChecksumAddress, HexStr
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BlockNotFound,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import TxReceipt

from ..channels.client.outbox import EMPTY_GAS, GAP_MAX, Judgement, Outbox, Quarrel, Sent
from ..channels.client.transaction import Transaction, sign_transaction
from ..channels.errors import ChainError
from ..channels.hashing import keccak256
from ..channels.ids import Address, address_to_hex, to_hex
from ..channels.signing import Signer
from .legacy import sign_legacy

RECEIPT_SECONDS_MAX = 120
"""Long enough for a chain that makes a block every few seconds and was briefly stalled."""
RECEIPT_POLL_SECONDS = 0.2
PUSH_AGAIN_SECONDS = 15
"""Between two times that what no block holds is sent: nodes forget, and fees rise."""
FEE_BUMP_PERCENT = 113
"""Over the fee of the one that is replaced: nodes want 110, some of them 112.5."""
FEE_PER_GAS_MAX_WEI = 10**12
"""A thousand gwei: what an endpoint that lies can make us pay, at most."""
GAS_MARGIN_PERCENT = 10
"""Over the estimate: state may have changed by the time the transaction is mined."""
REASON_CHARACTERS_MAX = 300
"""Of what an endpoint says: some send a page of HTML."""

log = logging.getLogger("farthing.hub.chain")


class ChainUnreachable(ChainError):
    """The RPC endpoint gives no answer, or none that can be read."""

    code = "chain-unreachable"
    remedy = "check the RPC URL and that the chain's node is running"
    retryable = True


class TransactionFailed(ChainError):
    """A transaction was refused or reverted; nothing of it took effect."""

    code = "transaction-failed"
    remedy = "read the reason, put it right and send it again"


class TransactionUnknown(ChainError):
    """A transaction was sent and no block with it was seen in time; it may still take effect."""

    code = "transaction-unknown"
    remedy = "look at the chain, then try again: it may have taken effect"
    retryable = True


_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, DecodingError)
"""What decoding raises when an endpoint answers with another shape than the specification's."""


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn whatever web3 raises while reading into `ChainUnreachable`."""
    try:
        yield
    except (requests.exceptions.RequestException, BlockNotFound) as error:
        kind = type(error).__name__
        raise ChainUnreachable(f"{what}: the endpoint does not answer ({kind})") from error
    except Web3Exception as error:
        raise ChainUnreachable(f"{what}: the endpoint refuses ({_reason(error)})") from error
    except _UNREADABLE as error:
        raise ChainUnreachable(
            f"{what}: the endpoint's answer makes no sense ({str(error)[:REASON_CHARACTERS_MAX]})"
        ) from error


@contextmanager
def _sending(what: str) -> Iterator[None]:
    """The same around a transaction, where a refusal is the chain's answer."""
    with asking(what):
        try:
            yield
        except (ContractLogicError, Web3RPCError) as error:
            raise TransactionFailed(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What the node itself said, where web3 holds it, without web3's own sentences."""
    response = getattr(error, "rpc_response", None)
    record = response.get("error") if isinstance(response, dict) else None
    said = record.get("message") if isinstance(record, dict) else getattr(error, "message", None)
    return str(said or error)[:REASON_CHARACTERS_MAX]


def connect(rpc_url: str, *, timeout_seconds: int = 10) -> Web3:
    """Return a client of the endpoint that never retries by itself; any thread may use it."""
    session = requests.Session()
    # A proxy in the environment must not see or answer chain reads, nor a .netrc add to them; and
    # looking for both takes half a millisecond of each request.
    session.trust_env = False
    provider = HTTPProvider(
        rpc_url,
        request_kwargs={"timeout": timeout_seconds},
        session=session,
        exception_retry_configuration=None,
    )
    weakref.finalize(provider, session.close)  # web3 itself never closes its connections
    web3 = Web3(provider)
    # Blocks of a proof of authority say in their extra-data who signed them: over 32 bytes.
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    # It asks for the chain's id twice with each call, to compare it with what no call here names.
    # What is signed names its chain, and which chain it is was checked by whoever connects.
    web3.middleware_onion.remove("validation")
    return web3


class Sender:
    """One account's transactions, one at a time; the account's key stays in its `Signer`.

    Each is written into the outbox before it is sent, so that a hub that is killed knows of it.
    """

    def __init__(
        self,
        web3: Web3,
        signer: Signer,
        chain_id: int,
        *,
        outbox: Outbox | None = None,
        is_legacy: bool = False,
    ) -> None:
        self.web3 = web3
        self._sign = sign_legacy if is_legacy else sign_transaction
        self.address = checksum(signer.address)
        self._signer = signer
        self._chain_id = chain_id
        self._outbox = Outbox() if outbox is None else outbox
        self._is_alone = outbox is not None
        """Whether the account is this program's: one that keeps no record is run beside others."""
        self._quarrel = Quarrel()

    def send(self, what: str, call: Any, *, nonce: int | None = None) -> TxReceipt:
        """Sign, send and wait for a contract call or constructor; raises `NOT_SENT`.

        A `nonce` is one that `ready_nonce` just gave, after which nothing else was sent.

        After a `TransactionUnknown` or a connection lost meanwhile, the next call sends nothing
        and raises until the endpoint has said what became of the earlier transaction, and once
        more then: who repeats a call must look at the chain in between.
        """
        nonce = self.ready_nonce(what) if nonce is None else nonce
        with _sending(what):
            sent = self._signed(what, call, nonce)
        receipt = self._sent(sent)
        if receipt["status"] != 1:
            text = f"{what}: transaction {to_hex(sent.transaction_hash)} reverted"
            raise TransactionFailed(text)
        return receipt

    def ready_nonce(self, what: str, *, least: int = 0) -> int:
        """The nonce of the next transaction, once nothing is under way; raises as `send`.

        The chain's own count and not the pool's: nothing of ours waits there, and who answers
        with a count that is too high would leave a gap that nobody fills. Where the outbox cannot
        vouch for it, an empty transaction is mined under it first; and under those below `least`,
        unless that is further ahead than a gap which is ever filled.
        """
        unknown = [sent for sent in self._outbox.rows if sent.block is None and not sent.is_empty]
        if self._outbox.rows:
            self.look_back()
        if unknown:
            raise TransactionUnknown(
                f"{what}: not sent, as the outcome of transaction"
                f" {to_hex(unknown[0].transaction_hash)} was unknown"
            )
        nonce = self._count(what)
        if not self._outbox.vouches_for(nonce):
            log.warning(
                "%s has used %d nonces, and not all of them from here: an empty transaction goes"
                " first, as nothing is signed on an endpoint's word alone",
                self.address,
                nonce,
            )
            self._sent(self._empty(nonce))
            nonce = self._count(what)
        if not self._outbox.vouches_for(nonce):
            raise ChainUnreachable(f"{what}: the count of our transactions has moved to {nonce}")
        while 0 < least - nonce <= GAP_MAX:
            self._sent(self._empty(nonce))
            nonce = self._count(what)
        return nonce

    def _count(self, what: str) -> int:
        with asking(what):
            mined = self.web3.eth.get_transaction_count(self.address, "latest")
            waiting = self.web3.eth.get_transaction_count(self.address, "pending")
        self._notice_another(strange=waiting > mined)  # nothing of ours waits
        nonce = mined if self._is_alone else waiting  # others' calls are not to be replaced
        newest = max((sent.nonce for sent in self._outbox.rows if sent.block), default=-1)
        if nonce <= newest:
            raise ChainUnreachable(
                f"{what}: the endpoint lags: it does not know our transaction {newest} yet"
            )
        return nonce

    def _sent(self, sent: Sent) -> TxReceipt:
        """Write one down, send it, and wait for its receipt."""
        self._outbox.add(sent)
        self._push(sent)
        return self._receipt(sent)

    def look_back(self) -> int:
        """Find out what became of all that was sent; the newest block in which some of it is.

        What is in no block is sent again, for a higher fee where the chain asks for more. Raises
        `TransactionUnknown` while anything is under way, `NOT_SENT`.
        """
        judgement = self._judge()
        for sent in judgement.returned:
            log.warning("%s: its block was taken back, it is sent again", sent.what)
        for sent in judgement.stranded:
            self._give_up(sent)
        for sent in (*self._fillings(judgement), *judgement.under_way):
            try:
                self._push(self._renewed(sent))
            except TransactionFailed as error:
                log.warning("%s", error)
        if judgement.under_way:
            raise TransactionUnknown(
                f"{judgement.under_way[0].what}: transaction"
                f" {to_hex(judgement.under_way[0].transaction_hash)} is in no block yet"
            )
        return judgement.block

    def _give_up(self, sent: Sent) -> None:
        """Put an empty transaction in a call's place that a lie has put too far ahead.

        Its nonce is used up by one of the two, should the account ever get there; until then
        neither stands in the way, and who wants the call looks at the chain and makes it again.
        Nodes that hold the call replace it by a dearer one alone, which not every account can pay.
        """
        text = "%s: nonce %d is not to be reached: it is given up, and made again where needed"
        log.warning(text, sent.what, sent.nonce)
        plain = self._empty(sent.nonce)
        self._outbox.add(plain)
        self._outbox.forget(sent)
        dearer = self._empty(sent.nonce, above_wei=sent.fee_per_gas_wei)
        self._outbox.add(dearer)
        if self._is_taken(dearer) or dearer.raw == plain.raw:
            return
        self._outbox.forget(dearer)
        self._is_taken(plain)  # if not, it is sent when its turn comes

    def _is_taken(self, sent: Sent) -> bool:
        """Give it to the node, and keep it whatever the node says."""
        try:
            with _sending(sent.what):
                self.web3.eth.send_raw_transaction(HexBytes(sent.raw))
        except TransactionFailed as error:
            log.info("%s", error)
            return False
        return True

    def _fillings(self, judgement: Judgement) -> list[Sent]:
        """Empty transactions for the nonces that are missing in front of what is under way."""
        fillings = [self._empty(nonce) for nonce in judgement.missing]
        for filling in fillings:
            log.warning("nonce %d is missing: an empty transaction fills it", filling.nonce)
            self._outbox.add(filling)
        return fillings

    def _empty(self, nonce: int, *, above_wei: int = -1) -> Sent:
        """A transfer of nothing to ourselves; dearer than `above_wei`, which it is to replace."""
        what = "using up a nonce"
        with asking(what):
            price = self.web3.eth.gas_price
        dearer = 0 if above_wei < 0 else above_wei * FEE_BUMP_PERCENT // 100 + 1
        return self._made(
            what,
            Transaction(
                chain_id=self._chain_id,
                nonce=nonce,
                to=self._signer.address,
                data=b"",
                gas_limit=EMPTY_GAS,
                fee_per_gas_wei=_bounded_fee(max(price, dearer)),
            ),
        )

    def _judge(self) -> Judgement:
        with asking("looking for our transactions"):
            count = self.web3.eth.get_transaction_count(self.address, "latest")
            mined = {
                sent.transaction_hash: receipt["blockNumber"]
                for sent in self._outbox.rows
                if (receipt := self._find(sent)) is not None
            }
            # After the count: whatever used a nonce is in the state of this block.
            head = self.web3.eth.block_number
        judgement = self._outbox.judge(count=count, head=head, mined=mined)
        self._notice_another(strange=judgement.strange)
        return judgement

    def _notice_another(self, *, strange: bool) -> None:
        if self._is_alone and self._quarrel.tells(strange=strange):
            text = "another program sends transactions from %s: run one hub with one account"
            log.warning(text, self.address)

    def _find(self, sent: Sent) -> TxReceipt | None:
        """The receipt of a transaction of ours; None where no block holds it."""
        try:
            receipt = self.web3.eth.get_transaction_receipt(HexBytes(sent.transaction_hash))
        except TransactionNotFound:
            return None
        if bytes(receipt["transactionHash"]) != sent.transaction_hash:
            raise ValueError("it is another transaction's receipt")
        if type(receipt["blockNumber"]) is not int or type(receipt["status"]) is not int:
            raise ValueError("a receipt names no block, or not whether it succeeded")
        return receipt

    def _signed(self, what: str, call: Any, nonce: int) -> Sent:
        built = call.build_transaction({"from": self.address, "gas": 0, "gasPrice": 0})
        estimate = call.estimate_gas({"from": self.address})
        to = built.get("to")
        return self._made(
            what,
            Transaction(
                chain_id=self._chain_id,
                nonce=nonce,
                to=Address(bytes.fromhex(to[2:]) if to else b""),
                data=bytes.fromhex(built["data"][2:]),
                gas_limit=estimate + estimate * GAS_MARGIN_PERCENT // 100,
                fee_per_gas_wei=_bounded_fee(self.web3.eth.gas_price),
            ),
        )

    def _made(self, what: str, transaction: Transaction) -> Sent:
        raw = self._sign(transaction, self._signer)
        return Sent(
            what=what,
            nonce=transaction.nonce,
            transaction_hash=keccak256(raw),
            raw=raw,
            to=transaction.to,
            data=transaction.data,
            gas_limit=transaction.gas_limit,
            fee_per_gas_wei=transaction.fee_per_gas_wei,
        )

    def _renewed(self, sent: Sent) -> Sent:
        """The same for the fee that the chain asks now, where it offers less; else itself."""
        with asking(sent.what):
            price = self.web3.eth.gas_price
        if price <= sent.fee_per_gas_wei:
            return sent
        fee = max(price, sent.fee_per_gas_wei * FEE_BUMP_PERCENT // 100 + 1)
        transaction = Transaction(
            chain_id=self._chain_id,
            nonce=sent.nonce,
            to=sent.to,
            data=sent.data,
            gas_limit=sent.gas_limit,
            fee_per_gas_wei=_bounded_fee(fee),
        )
        renewed = self._made(sent.what, transaction)
        self._outbox.add(renewed)
        return renewed

    def _push(self, sent: Sent) -> None:
        """Give it to the node; raises `TransactionFailed` where that neither takes nor has it."""
        try:
            with _sending(sent.what):
                self.web3.eth.send_raw_transaction(HexBytes(sent.raw))
        except TransactionFailed:
            if not self._holds(sent):
                self._outbox.forget(sent)
                raise

    def _holds(self, sent: Sent) -> bool:
        """Whether the node has it, waiting or mined: it refuses what it has, too."""
        with asking(sent.what):
            try:
                found = self.web3.eth.get_transaction(HexBytes(sent.transaction_hash))
            except TransactionNotFound:
                return False
            return bytes(found["hash"]) == sent.transaction_hash

    def _receipt(self, sent: Sent) -> TxReceipt:
        """Wait until a block holds it; sent again now and then, for nodes forget."""
        give_up = time.monotonic() + RECEIPT_SECONDS_MAX
        again = time.monotonic() + PUSH_AGAIN_SECONDS
        while True:
            receipt = self._placed(sent)
            if receipt is not None:
                return receipt
            now = time.monotonic()
            if now >= give_up:
                raise TransactionUnknown(
                    f"{sent.what}: transaction {to_hex(sent.transaction_hash)} is in no block"
                    f" after {RECEIPT_SECONDS_MAX} s"
                )
            if now >= again:
                again = now + PUSH_AGAIN_SECONDS
                self._push_again(sent)
            time.sleep(RECEIPT_POLL_SECONDS)

    def _placed(self, sent: Sent) -> TxReceipt | None:
        """The receipt of a transaction, or of what replaced it for a higher fee."""
        with asking(sent.what):
            for each in self._outbox.rows:
                if each.nonce == sent.nonce and (receipt := self._find(each)) is not None:
                    each.block, each.is_shown = receipt["blockNumber"], True
                    return receipt
        return None

    def _push_again(self, sent: Sent) -> None:
        """Send it again, or find that its nonce was used up; raises `TransactionUnknown` then."""
        newest = [each for each in self._judge().under_way if each.nonce == sent.nonce]
        if newest:
            try:
                self._push(self._renewed(newest[-1]))
            except TransactionFailed as error:
                if all(each.nonce != sent.nonce for each in self._outbox.rows):
                    raise
                log.warning("%s", error)  # the one that it was to replace may still be mined
        elif self._placed(sent) is None:
            text = "its nonce is used up, and no receipt says that it was by this transaction"
            raise TransactionUnknown(f"{sent.what}: {text}")


def _bounded_fee(fee_wei: int) -> int:
    """A fee that the account can stand, whatever an endpoint says that the chain asks for."""
    return min(fee_wei, FEE_PER_GAS_MAX_WEI)


def checksum(address: bytes) -> ChecksumAddress:
    """Return an address as web3 wants it."""
    return ChecksumAddress(HexStr(address_to_hex(address)))  # type: ignore[arg-type]  # NewType
