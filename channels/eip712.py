"""EIP-712 hashes of the five signed types, by hand: fixed layouts need no generic encoder.

Source: https://eips.ethereum.org/EIPS/eip-712. Golden vectors in tests/interop/vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

from .hashing import keccak256
from .ids import Address, ChannelId

DOMAIN_NAME = "Farthing"
DOMAIN_VERSION = "1"

DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
VOUCHER_TYPE = (
    "Voucher(bytes32 channel,address payer,uint64 nonce,uint96 transferred,"
    "bytes32 history,bytes32 conditions)"
)
WITHDRAWAL_TYPE = "Withdrawal(bytes32 channel,address account,uint96 total,uint64 expires)"
CLOSE_TYPE = "Close(bytes32 channel,uint96 transferredA,uint96 transferredB,uint64 expires)"
START_CLOSE_TYPE = "StartClose(bytes32 channel,uint64 expires)"
AUTHENTICATE_TYPE = (
    "Authenticate(uint8 role,address dialer,address listener,bytes32 dialerNonce,"
    "bytes32 listenerNonce,bytes32 greetings,bytes32 certificate)"
)

_DOMAIN_HASH = keccak256(DOMAIN_TYPE.encode())
_VOUCHER_HASH = keccak256(VOUCHER_TYPE.encode())
_WITHDRAWAL_HASH = keccak256(WITHDRAWAL_TYPE.encode())
_CLOSE_HASH = keccak256(CLOSE_TYPE.encode())
_START_CLOSE_HASH = keccak256(START_CLOSE_TYPE.encode())
_AUTHENTICATE_HASH = keccak256(AUTHENTICATE_TYPE.encode())
_NAME_HASH = keccak256(DOMAIN_NAME.encode())
_VERSION_HASH = keccak256(DOMAIN_VERSION.encode())
_PAD = bytes(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What every signature is bound to: one contract on one chain."""

    chain_id: int
    contract: Address

    def separator(self) -> bytes:
        """32 bytes, the EIP-712 domain separator."""
        return keccak256(
            _DOMAIN_HASH
            + _NAME_HASH
            + _VERSION_HASH
            + self.chain_id.to_bytes(32, "big")
            + _PAD
            + self.contract
        )


def _digest(separator: bytes, struct: bytes) -> bytes:
    return keccak256(b"\x19\x01" + separator + keccak256(struct))


def voucher_digest(  # noqa: PLR0913 - one argument per signed field
    separator: bytes,
    *,
    channel: ChannelId,
    payer: Address,
    nonce: int,
    transferred_ucent: int,
    history: bytes,
    conditions: bytes,
) -> bytes:
    """32 bytes that a lane's signer signs."""
    return _digest(
        separator,
        _VOUCHER_HASH
        + channel
        + _PAD
        + payer
        + nonce.to_bytes(32, "big")
        + transferred_ucent.to_bytes(32, "big")
        + history
        + conditions,
    )


def withdrawal_digest(
    separator: bytes, *, channel: ChannelId, account: Address, total_ucent: int, expires: int
) -> bytes:
    """32 bytes that both signers sign to take money out of an open channel."""
    return _digest(
        separator,
        _WITHDRAWAL_HASH
        + channel
        + _PAD
        + account
        + total_ucent.to_bytes(32, "big")
        + expires.to_bytes(32, "big"),
    )


def close_digest(
    separator: bytes,
    *,
    channel: ChannelId,
    transferred_a_ucent: int,
    transferred_b_ucent: int,
    expires: int,
) -> bytes:
    """32 bytes that both signers sign to end a channel at once."""
    return _digest(
        separator,
        _CLOSE_HASH
        + channel
        + transferred_a_ucent.to_bytes(32, "big")
        + transferred_b_ucent.to_bytes(32, "big")
        + expires.to_bytes(32, "big"),
    )


def start_close_digest(separator: bytes, *, channel: ChannelId, expires: int) -> bytes:
    """32 bytes that one party signs so that anybody may start the close for it."""
    return _digest(separator, _START_CLOSE_HASH + channel + expires.to_bytes(32, "big"))


def authenticate_digest(  # noqa: PLR0913 - one argument per signed field
    separator: bytes,
    *,
    role: int,
    dialer: Address,
    listener: Address,
    dialer_nonce: bytes,
    listener_nonce: bytes,
    greetings: bytes,
    certificate: bytes,
) -> bytes:
    """32 bytes that one end of a connection signs to prove its signer to the other."""
    return _digest(
        separator,
        _AUTHENTICATE_HASH
        + role.to_bytes(32, "big")
        + _PAD
        + dialer
        + _PAD
        + listener
        + dialer_nonce
        + listener_nonce
        + greetings
        + certificate,
    )
