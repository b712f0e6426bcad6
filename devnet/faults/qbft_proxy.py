"""An endpoint that shows another node as a permissioned Besu QBFT chain shows itself, for tests.

Blocks carry extra-data as QBFT's do, longer than the 32 bytes of other chains; senders that are not
on the allowlist are refused, and `perm_*` keep that list, all in Besu's codes and words. A chain
whose validators are gone (no new block) is `set(RpcFault.STOPPED)`, as with the other faults.

It is no Besu. The block hashes are those of the node behind it, which hold for its own headers, and
its base fee is the node's: start anvil with a base fee of zero.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import rlp

from ...channels.hashing import keccak256
from ...channels.ids import Address, to_hex
from .. import params as read
from ..accounts import dev_accounts
from ..allowlist import Allowlist
from ..errors import CallRefused, SenderNotAllowed
from ..evm import read_transaction
from .rpc_faults import answered, encoded
from .rpc_proxy import RpcProxy

VALIDATORS: Final = 4
VANITY_BYTES: Final = 32
SEAL_BYTES: Final = 65
BLOCKS: Final = ("eth_getBlockByHash", "eth_getBlockByNumber")
_ALLOWLIST: Final = "perm_getAccountsAllowlist"
_ADD: Final = "perm_addAccountsToAllowlist"
_REMOVE: Final = "perm_removeAccountsFromAllowlist"
SENDING: Final = ("eth_sendRawTransaction", "eth_sendTransaction")


class _Memory:
    """Keeps an allowlist's addresses in memory."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = frozenset(addresses)

    def allowed(self) -> Sequence[Address]:
        return sorted(self._addresses)

    def allow(self, addresses: Sequence[Address]) -> None:
        self._addresses |= frozenset(addresses)

    def disallow(self, addresses: Sequence[Address]) -> None:
        self._addresses -= frozenset(addresses)

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield


def extra_data(number: int) -> bytes:
    """A block's extra-data as QBFT writes it: vanity, validators, no vote, round, seals.

    Four validators; three of them have sealed every block but the genesis.
    """
    validators = [keccak256(b"validator %d" % place)[-20:] for place in range(VALIDATORS)]
    vanity = b"qbft-like".ljust(VANITY_BYTES, b"\0")
    block = number.to_bytes(8, "big")
    seals = [
        (keccak256(block + account) + keccak256(account + block)).ljust(SEAL_BYTES, b"\0")
        for account in validators[:-1]
    ]
    encoded_fields: bytes = rlp.encode(
        [vanity, validators, [], bytes(4) if number else b"", seals if number else []]
    )
    return encoded_fields


class QbftProxy(RpcProxy):
    """The endpoint, in front of any node; the development accounts may send from the start."""

    def __init__(self, upstream: str, *, seed: int = 0, port: int = 0) -> None:
        super().__init__(upstream, seed=seed, port=port)
        self._allowlist = Allowlist(_Memory([account.address for account in dev_accounts()]))

    async def _answer_one(self, request: dict[str, Any]) -> tuple[int, bytes]:
        try:
            if request.get("method") in (_ALLOWLIST, _ADD, _REMOVE):
                return 200, encoded(answered(request, self._permissions(request)))
            if request.get("method") in SENDING:
                self._admit(request)
        except CallRefused as error:
            return 200, encoded(_refused(request, error))
        if request.get("method") not in BLOCKS:
            return await super()._answer_one(request)
        status, body = await super()._answer_one(request)
        return status, _with_extra_data(body)

    def _permissions(self, request: dict[str, Any]) -> object:
        """Besu's three methods for the accounts' allowlist."""
        if request["method"] == _ALLOWLIST:
            return [to_hex(address) for address in self._allowlist.addresses()]
        accounts = read.Params(request.get("params") or [], 1).required(0, read.addresses)
        if request["method"] == _ADD:
            self._allowlist.add(accounts)
        else:
            self._allowlist.remove(accounts)
        return "Success"

    def _admit(self, request: dict[str, Any]) -> None:
        """Raises `SenderNotAllowed`, or what the devnet says of what is no transaction."""
        given = read.Params(request.get("params") or [], 1)
        if request["method"] == "eth_sendTransaction":
            sender = given.required(0, read.call_request).sender
        else:
            _, transaction = read_transaction(given.required(0, read.data))
            sender = transaction.sender
        if sender not in self._allowlist:
            raise SenderNotAllowed(sender)


def _refused(request: dict[str, Any], error: CallRefused) -> dict[str, Any]:
    said = {"code": error.rpc_code, "message": str(error)}
    return {"jsonrpc": "2.0", "id": request.get("id"), "error": said}


def _with_extra_data(body: bytes) -> bytes:
    """The answer with QBFT's extra-data in its block, if it is one."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body  # a fault garbled it
    block = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(block, dict) or "number" not in block:
        return body
    shown = {**block, "extraData": to_hex(extra_data(int(block["number"] or "0x0", 16)))}
    return encoded({**answer, "result": shown})
