"""A channel's terms and its id."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .errors import LocalError
from .hashing import keccak256
from .ids import ADDRESS_BYTES, WORD_BYTES, ZERO_ADDRESS, Address, ChannelId

CHALLENGE_SECONDS_MIN = 600
CHALLENGE_SECONDS_MAX = 30 * 24 * 3600
CHALLENGE_BLOCKS_MIN = 10
CHALLENGE_BLOCKS_MAX = 1_000_000
"""The contract's own bounds (contracts/requests.vy); outside them a channel cannot open."""

_PAD = bytes(12)
_UINT64_MAX = 2**64 - 1
_UINT256_MAX = 2**256 - 1


class Side(IntEnum):
    """One of a channel's two parties; also the number of the lane that it pays on."""

    A = 0
    B = 1

    @property
    def other(self) -> Side:
        """The counterparty."""
        return Side.B if self is Side.A else Side.A


class UnsafeTerms(LocalError):
    """Terms under which nobody should sign."""

    code = "unsafe-terms"
    remedy = "refuse this channel and ask the hub for terms that hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Who the parties are, who signs for them, and how long a close can be answered."""

    account_a: Address
    signer_a: Address
    account_b: Address
    signer_b: Address
    challenge_seconds: int
    challenge_blocks: int
    sequence: int

    def __post_init__(self) -> None:
        addresses = (self.account_a, self.signer_a, self.account_b, self.signer_b)
        if any(len(a) != ADDRESS_BYTES or a == ZERO_ADDRESS for a in addresses):
            raise UnsafeTerms("an address of the terms is empty or not 20 bytes")
        if {self.account_a, self.signer_a} & {self.account_b, self.signer_b}:
            raise UnsafeTerms("one address stands on both sides of the channel")
        if not CHALLENGE_SECONDS_MIN <= self.challenge_seconds <= CHALLENGE_SECONDS_MAX:
            raise UnsafeTerms(f"a window of {self.challenge_seconds} s is outside the contract's")
        if not CHALLENGE_BLOCKS_MIN <= self.challenge_blocks <= CHALLENGE_BLOCKS_MAX:
            raise UnsafeTerms(
                f"a window of {self.challenge_blocks} blocks is outside the contract's"
            )
        if not 1 <= self.sequence <= _UINT64_MAX:
            raise UnsafeTerms(f"sequence {self.sequence} is not one that the contract assigns")

    def account(self, side: Side) -> Address:
        """The address that owns that party's money and is paid."""
        return self.account_a if side is Side.A else self.account_b

    def signer(self, side: Side) -> Address:
        """The hot key that signs that party's vouchers."""
        return self.signer_a if side is Side.A else self.signer_b

    def side_of_signer(self, signer: Address) -> Side | None:
        """The side that this signer signs for, or None if it is a stranger."""
        if signer == self.signer_a:
            return Side.A
        return Side.B if signer == self.signer_b else None


def channel_id(*, chain_id: int, contract: Address, deployment: bytes, terms: Terms) -> ChannelId:
    """keccak256(abi_encode(chain id, contract, deployment, terms)): it never repeats (rule 9).

    Raises `UnsafeTerms` where one of them does not fit its word.
    """
    if len(deployment) != WORD_BYTES:
        raise UnsafeTerms("the deployment id is not 32 bytes")
    if len(contract) != ADDRESS_BYTES or not 0 <= chain_id <= _UINT256_MAX:
        raise UnsafeTerms("the contract's address is not 20 bytes or the chain id not a word")
    numbers = (terms.challenge_seconds, terms.challenge_blocks, terms.sequence)
    return ChannelId(
        keccak256(
            chain_id.to_bytes(32, "big")
            + _PAD
            + contract
            + deployment
            + b"".join(
                _PAD + a for a in (terms.account_a, terms.signer_a, terms.account_b, terms.signer_b)
            )
            + b"".join(number.to_bytes(32, "big") for number in numbers)
        )
    )
