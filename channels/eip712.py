"""EIP-712 hashes of the five signed types, by hand: fixed layouts need no generic encoder.

Rule: no digest is made of a value that its type cannot hold, so none can be signed or verified.
Source: https://eips.ethereum.org/EIPS/eip-712. Golden vectors in tests/interop/vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LocalError
from .hashing import keccak256
from .ids import ADDRESS_BYTES, WORD_BYTES, Address, ChannelId

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


class UnsignableValue(LocalError):
    """A value that its member of a signed type cannot hold."""

    code = "unsignable-value"
    remedy = "sign nothing: no contract takes such a value"

    def __init__(self, value: int | bytes, *, kind: str) -> None:
        found = value if isinstance(value, int) else f"of {len(value)} bytes"
        super().__init__(f"a value {found} does not fit in {kind}")
        self.value = value
        self.kind = kind


def _uint(value: int, bits: int) -> bytes:
    if value >> bits:  # a negative number, shifted, stays negative
        raise UnsignableValue(value, kind=f"uint{bits}")
    return value.to_bytes(32, "big")


def _word(value: bytes) -> bytes:
    if len(value) != WORD_BYTES:
        raise UnsignableValue(value, kind="bytes32")
    return value


def _address(value: bytes) -> bytes:
    if len(value) != ADDRESS_BYTES:
        raise UnsignableValue(value, kind="address")
    return _PAD + value


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What every signature is bound to: one contract on one chain."""

    chain_id: int
    contract: Address

    def separator(self) -> bytes:
        """32 bytes, the EIP-712 domain separator; raises `UnsignableValue`."""
        return keccak256(
            _DOMAIN_HASH
            + _NAME_HASH
            + _VERSION_HASH
            + _uint(self.chain_id, 256)
            + _address(self.contract)
        )


def _digest(separator: bytes, struct: bytes) -> bytes:
    return keccak256(b"\x19\x01" + _word(separator) + keccak256(struct))


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
    """32 bytes that a lane's signer signs; raises `UnsignableValue`."""
    return _digest(
        separator,
        _VOUCHER_HASH
        + _word(channel)
        + _address(payer)
        + _uint(nonce, 64)
        + _uint(transferred_ucent, 96)
        + _word(history)
        + _word(conditions),
    )


def withdrawal_digest(
    separator: bytes, *, channel: ChannelId, account: Address, total_ucent: int, expires: int
) -> bytes:
    """32 bytes that both signers sign to take money out of an open channel.

    Raises `UnsignableValue`.
    """
    return _digest(
        separator,
        _WITHDRAWAL_HASH
        + _word(channel)
        + _address(account)
        + _uint(total_ucent, 96)
        + _uint(expires, 64),
    )


def close_digest(
    separator: bytes,
    *,
    channel: ChannelId,
    transferred_a_ucent: int,
    transferred_b_ucent: int,
    expires: int,
) -> bytes:
    """32 bytes that both signers sign to end a channel at once; raises `UnsignableValue`."""
    return _digest(
        separator,
        _CLOSE_HASH
        + _word(channel)
        + _uint(transferred_a_ucent, 96)
        + _uint(transferred_b_ucent, 96)
        + _uint(expires, 64),
    )


def start_close_digest(separator: bytes, *, channel: ChannelId, expires: int) -> bytes:
    """32 bytes that one party signs so that anybody may start the close for it.

    Raises `UnsignableValue`.
    """
    return _digest(separator, _START_CLOSE_HASH + _word(channel) + _uint(expires, 64))


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
    """32 bytes that one end of a connection signs to prove its signer to the other.

    Raises `UnsignableValue`.
    """
    return _digest(
        separator,
        _AUTHENTICATE_HASH
        + _uint(role, 8)
        + _address(dialer)
        + _address(listener)
        + _word(dialer_nonce)
        + _word(listener_nonce)
        + _word(greetings)
        + _word(certificate),
    )
