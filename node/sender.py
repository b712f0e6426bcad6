"""Sends one account's transactions over web3 and waits for them; turns failures into our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests.exceptions
from eth_typing import ChecksumAddress, HexStr
from web3 import HTTPProvider, Web3
from web3.exceptions import BlockNotFound, Web3Exception
from web3.types import TxReceipt

from ..channels.client.transaction import Transaction, sign_transaction
from ..channels.errors import ChainError
from ..channels.ids import Address, address_to_hex, to_hex
from ..channels.signing import Signer

RECEIPT_SECONDS_MAX = 120
"""Long enough for a chain that makes a block every few seconds and was briefly stalled."""
RECEIPT_POLL_SECONDS = 0.2
GAS_MARGIN_PERCENT = 10
"""Over the estimate: state may have changed by the time the transaction is mined."""


class ChainUnreachable(ChainError):
    """The RPC endpoint gives no answer, or none that can be read."""

    code = "chain-unreachable"
    remedy = "check the RPC URL and that the chain's node is running"
    retryable = True


class TransactionFailed(ChainError):
    """A transaction was refused or reverted; nothing of it took effect."""

    code = "transaction-failed"
    remedy = "read the reason, put it right and send it again"


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn whatever web3 raises into `ChainUnreachable` or `TransactionFailed`."""
    try:
        yield
    except (requests.exceptions.RequestException, BlockNotFound) as error:
        raise ChainUnreachable(f"{what}: the endpoint does not answer ({_short(error)})") from error
    except Web3Exception as error:
        reason = getattr(error, "user_message", None) or getattr(error, "message", None) or error
        raise TransactionFailed(f"{what}: {str(reason)[:300]}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ChainUnreachable(f"{what}: the endpoint's answer makes no sense ({error})") from error


def _short(error: Exception) -> str:
    return type(error).__name__


def connect(rpc_url: str, *, timeout_seconds: int = 10) -> Web3:
    """Return a client of the endpoint that never retries by itself."""
    provider = HTTPProvider(
        rpc_url, request_kwargs={"timeout": timeout_seconds}, exception_retry_configuration=None
    )
    return Web3(provider)


class Sender:
    """One account's transactions, one at a time; the account's key stays in its `Signer`."""

    def __init__(self, web3: Web3, signer: Signer, chain_id: int) -> None:
        self.web3 = web3
        self.address = checksum(signer.address)
        self._signer = signer
        self._chain_id = chain_id

    def send(self, what: str, call: Any) -> TxReceipt:
        """Sign, send and wait for a contract call or constructor; raises `ChainError`."""
        with asking(what):
            built = call.build_transaction({"from": self.address, "gas": 0, "gasPrice": 0})
            estimate = call.estimate_gas({"from": self.address})
            to = built.get("to")
            raw = sign_transaction(
                Transaction(
                    chain_id=self._chain_id,
                    nonce=self.web3.eth.get_transaction_count(self.address, "pending"),
                    to=Address(bytes.fromhex(to[2:]) if to else b""),
                    data=bytes.fromhex(built["data"][2:]),
                    gas_limit=estimate + estimate * GAS_MARGIN_PERCENT // 100,
                    fee_per_gas_wei=self.web3.eth.gas_price,
                ),
                self._signer,
            )
            sent = self.web3.eth.send_raw_transaction(raw)
            receipt = self.web3.eth.wait_for_transaction_receipt(
                sent, timeout=RECEIPT_SECONDS_MAX, poll_latency=RECEIPT_POLL_SECONDS
            )
        if receipt["status"] != 1:
            raise TransactionFailed(f"{what}: transaction {to_hex(bytes(sent))} reverted")
        return receipt


def checksum(address: bytes) -> ChecksumAddress:
    """Return an address as web3 wants it."""
    return ChecksumAddress(HexStr(address_to_hex(address)))  # type: ignore[arg-type]  # NewType
