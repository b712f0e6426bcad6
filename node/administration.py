"""What an agency's administrators do on the chain: register members, mint credit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from web3 import Web3

from ..channels.deployment import Deployment
from ..channels.ids import ZERO_WORD, Address
from ..channels.signing import Signer
from ..contracts.artifacts import load
from ..contracts.members import MemberStatus
from .sender import Sender, TransactionFailed, asking, checksum

MEMBER_ROWS_MAX = 100
"""Members in one transaction: well under a block's gas."""


class Role(IntEnum):
    """A member's role in the registry."""

    REGISTRAR = 1
    TREASURY = 2
    HUB = 3
    RESIDENT = 4
    DEVICE = 5
    RELAYER = 6
    AUDITOR = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One member's row: who, as what, since when not, and why it changes (32-byte code)."""

    account: Address
    role: Role
    status: MemberStatus = MemberStatus.ACTIVE
    valid_until: int = 0
    commitment: bytes = ZERO_WORD
    reason: bytes = ZERO_WORD


class Administrator:
    """A registrar's or treasury's transactions under one deployment; raises `ChainError`."""

    def __init__(self, web3: Web3, deployment: Deployment, signer: Signer | None) -> None:
        """Take the key that sends; without one, only reading works."""
        self._web3 = web3
        self._sender_or_none = None if signer is None else Sender(web3, signer, deployment.chain_id)
        self._registry = web3.eth.contract(
            address=checksum(deployment.member_registry),
            abi=cast("Any", load("member_registry").abi),
        )
        self._credit = web3.eth.contract(
            address=checksum(deployment.city_credit), abi=cast("Any", load("city_credit").abi)
        )

    @property
    def _sender(self) -> Sender:
        if self._sender_or_none is None:
            raise TransactionFailed("no key was given to sign with")
        return self._sender_or_none

    def set_members(self, rows: Sequence[Registration]) -> list[int]:
        """Register or change members, in as few transactions as fit; returns their blocks."""
        blocks: list[int] = []
        for start in range(0, len(rows), MEMBER_ROWS_MAX):
            arguments = [
                (
                    checksum(row.account),
                    int(row.role),
                    int(row.status),
                    row.valid_until,
                    row.commitment,
                    row.reason,
                )
                for row in rows[start : start + MEMBER_ROWS_MAX]
            ]
            receipt = self._sender.send(
                "registering members", self._registry.functions.set_members(arguments)
            )
            blocks.append(receipt["blockNumber"])
        return blocks

    def member(self, account: Address) -> Registration | None:
        """Return what the registry says of an address, or None if it never was a member."""
        with asking("reading a member"):
            role, status, valid_until, commitment = self._registry.functions.member(
                checksum(account)
            ).call()
        if not role:
            return None
        return Registration(
            account=account,
            role=Role(role),
            status=MemberStatus(status),
            valid_until=valid_until,
            commitment=bytes(commitment),
        )

    def mint(self, to: Address, amount_ucent: int, funding_reference: bytes) -> int:
        """Mint credit under a 32-byte funding reference; returns the block.

        Each reference mints once: a mint whose outcome is unknown may be sent again, and the
        contract refuses the second.
        """
        call = self._credit.functions.mint(checksum(to), amount_ucent, funding_reference)
        return self._sender.send("minting credit", call)["blockNumber"]

    def balance_ucent(self, account: Address) -> int:
        """Return an account's credit outside channels, in µ¢."""
        with asking("reading a balance"):
            return int(self._credit.functions.balanceOf(checksum(account)).call())

    def admit(self, accounts: Sequence[Address]) -> bool:
        """Have the node take these accounts' transactions (Besu's `perm_*`).

        Returns whether its allowlist holds them now; False where it has none that can be changed.
        """
        listed = self._allowlist("perm_getAccountsAllowlist", [])
        if not isinstance(listed, list):
            return False
        known = {str(entry).lower() for entry in listed}
        missing = [checksum(a) for a in accounts if checksum(a).lower() not in known]
        return not missing or self._allowlist("perm_addAccountsToAllowlist", [missing]) == "Success"

    def _allowlist(self, method: str, params: list[Any]) -> Any:
        with asking("changing the node's allowlist"):
            return self._web3.provider.make_request(cast("Any", method), params).get("result")
