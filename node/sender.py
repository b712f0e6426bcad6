"""Sends one account's transactions over web3 and waits for them; turns failures into our errors."""

from __future__ import annotations

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
    TimeExhausted,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import TxReceipt

from ..channels.client.transaction import Transaction, sign_transaction
from ..channels.errors import ChainError
from ..channels.hashing import keccak256
from ..channels.ids import Address, address_to_hex, to_hex
from ..channels.signing import Signer

RECEIPT_SECONDS_MAX = 120
"""Long enough for a chain that makes a block every few seconds and was briefly stalled."""
RECEIPT_POLL_SECONDS = 0.2
GAS_MARGIN_PERCENT = 10
"""Over the estimate: state may have changed by the time the transaction is mined."""
REASON_CHARACTERS_MAX = 300
"""Of what an endpoint says: some send a page of HTML."""


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
    provider = HTTPProvider(
        rpc_url,
        request_kwargs={"timeout": timeout_seconds},
        session=session,
        exception_retry_configuration=None,
    )
    weakref.finalize(provider, session.close)  # web3 itself never closes its connections
    return Web3(provider)


class Sender:
    """One account's transactions, one at a time; the account's key stays in its `Signer`."""

    def __init__(self, web3: Web3, signer: Signer, chain_id: int) -> None:
        self.web3 = web3
        self.address = checksum(signer.address)
        self._signer = signer
        self._chain_id = chain_id
        self._unknown: HexBytes | None = None

    def send(self, what: str, call: Any) -> TxReceipt:
        """Sign, send and wait for a contract call or constructor; raises `ChainError`.

        After a `TransactionUnknown` or a connection lost meanwhile, the next call sends nothing
        and raises until the endpoint has said what became of the earlier transaction, and once
        more then: who repeats a call must look at the chain in between.
        """
        self._look_back(what)
        with _sending(what):
            raw = self._signed(call)
        self._unknown = HexBytes(keccak256(raw))
        try:
            with _sending(what):
                sent = self.web3.eth.send_raw_transaction(HexBytes(raw))
        except TransactionFailed:
            self._unknown = None
            raise
        receipt = self._receipt(what, sent)
        self._unknown = None
        if receipt["status"] != 1:
            raise TransactionFailed(f"{what}: transaction {to_hex(bytes(sent))} reverted")
        return receipt

    def _signed(self, call: Any) -> bytes:
        built = call.build_transaction({"from": self.address, "gas": 0, "gasPrice": 0})
        estimate = call.estimate_gas({"from": self.address})
        to = built.get("to")
        transaction = Transaction(
            chain_id=self._chain_id,
            nonce=self.web3.eth.get_transaction_count(self.address, "pending"),
            to=Address(bytes.fromhex(to[2:]) if to else b""),
            data=bytes.fromhex(built["data"][2:]),
            gas_limit=estimate + estimate * GAS_MARGIN_PERCENT // 100,
            fee_per_gas_wei=self.web3.eth.gas_price,
        )
        return sign_transaction(transaction, self._signer)

    def _receipt(self, what: str, sent: HexBytes) -> TxReceipt:
        with asking(what):
            try:
                return self.web3.eth.wait_for_transaction_receipt(
                    sent, timeout=RECEIPT_SECONDS_MAX, poll_latency=RECEIPT_POLL_SECONDS
                )
            except TimeExhausted as error:
                raise TransactionUnknown(
                    f"{what}: transaction {to_hex(bytes(sent))} is in no block"
                    f" after {RECEIPT_SECONDS_MAX} s"
                ) from error

    def _look_back(self, what: str) -> None:
        unknown = self._unknown
        if unknown is None:
            return
        with asking(what):
            try:
                self.web3.eth.get_transaction_receipt(unknown)
                self._unknown = None
            except TransactionNotFound:
                count = self.web3.eth.get_transaction_count
                if count(self.address, "pending") == count(self.address, "latest"):
                    self._unknown = None  # the endpoint never had it, or has dropped it
        raise TransactionUnknown(
            f"{what}: not sent, as the outcome of transaction {to_hex(bytes(unknown))} was unknown"
        )


def checksum(address: bytes) -> ChecksumAddress:
    """Return an address as web3 wants it."""
    return ChecksumAddress(HexStr(address_to_hex(address)))  # type: ignore[arg-type]  # NewType
