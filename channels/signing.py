"""Signatures over secp256k1: making, checking and recovering them.

Rule: the only module that touches a curve library and the only one that makes a `Voucher`
from an `UnverifiedVoucher`. One format exists: 65 bytes r ‖ s ‖ v, v 27 or 28, low s.
"""

from __future__ import annotations

from typing import Final, NoReturn

from coincurve import PrivateKey, PublicKey

from .eip712 import voucher_digest
from .errors import LocalError, PeerError
from .hashing import keccak256
from .ids import WORD_BYTES, ZERO_WORD, Address, ChannelId, address_to_hex
from .voucher import SIGNATURE_BYTES, LaneTotal, UnverifiedVoucher, Voucher

SECRET_BYTES: Final = 32

CURVE_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Of secp256k1 (SEC 2, section 2.4.1)."""

LOW_S_MAX: Final = CURVE_ORDER // 2
"""Of s and order - s, which both verify, only the smaller is accepted (EIP-2)."""

_V_OFFSET: Final = 27  # Ethereum's v of a message signature is 27 + the recovery id


class BadSignature(PeerError):
    """A signature in another format than the one there is, or not made by the expected signer."""

    code = "bad-signature"
    remedy = "drop what it covers; a peer that means it sends 65 bytes with a low s and v 27 or 28"

    def __init__(
        self, text: str, *, expected: Address | None = None, recovered: Address | None = None
    ) -> None:
        super().__init__(text)
        self.expected = expected
        self.recovered = recovered


class BadSecret(LocalError):
    """Bytes that are no private key; the text never shows them."""

    code = "bad-secret"
    remedy = "give 32 random bytes, neither zero nor above the curve's order"


class BadDigest(LocalError):
    """Something other than a 32-byte hash was to be signed or checked."""

    code = "bad-digest"
    remedy = "hash the message first: only 32-byte digests are signed"


class Signer:
    """A private key that signs and is never shown: not by repr, pickle or an error."""

    __slots__ = ("_key", "address")

    address: Address
    """The address of the key: 20 bytes."""

    def __init__(self, secret: bytes) -> None:
        """Take a 32-byte private key; raises `BadSecret`."""
        if len(secret) != SECRET_BYTES:
            raise BadSecret(f"a private key of {len(secret)} bytes is not {SECRET_BYTES}")
        if not 0 < int.from_bytes(secret, "big") < CURVE_ORDER:
            raise BadSecret("the private key is not within the curve's order")
        self._key = PrivateKey(secret)
        self.address = _address_of(self._key.public_key)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes: 65 bytes r ‖ s ‖ v, deterministic (RFC 6979); raises `BadDigest`."""
        _check_digest(digest)
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes((_V_OFFSET + signature[64],))

    def __repr__(self) -> str:
        return f"<Signer {address_to_hex(self.address)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer is not pickled or copied: its key stays where it was unlocked")


def recover(digest: bytes, signature: bytes) -> Address:
    """The address that signed the 32-byte digest; raises `BadSignature`, `BadDigest`.

    Every signature recovers to *some* address: compare it, or use `verify_digest`.
    """
    _check_digest(digest)
    _check_format(signature)
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes((signature[64] - _V_OFFSET,)), digest, hasher=None
        )
    except ValueError:
        raise BadSignature("the signature is of no point on the curve") from None
    return _address_of(key)


def verify_digest(digest: bytes, signature: bytes, signer: Address) -> None:
    """Return if `signer` signed the 32-byte digest; raises `BadSignature`, `BadDigest`.

    The whole signature is checked, v included: the contract recovers, so a signature that only
    verifies against the key (which v takes no part in) could not be settled.
    """
    recovered = recover(digest, signature)
    if recovered != signer:
        raise BadSignature(
            f"the signature is not by {address_to_hex(signer)}",
            expected=signer,
            recovered=recovered,
        )


def verify_voucher(separator: bytes, unverified: UnverifiedVoucher, signer: Address) -> Voucher:
    """The one door from `UnverifiedVoucher` to `Voucher`; raises `BadSignature`.

    `separator` is the domain's, `signer` the one that the channel's terms name for the payer's
    lane. It proves who signed, not that the total may be accepted.
    """
    verify_digest(
        _digest_of(
            separator, unverified.channel, unverified.payer, unverified.total, unverified.conditions
        ),
        unverified.signature,
        signer,
    )
    return Voucher(
        channel=unverified.channel,
        payer=unverified.payer,
        total=unverified.total,
        conditions=unverified.conditions,
        signature=unverified.signature,
    )


def sign_voucher(
    separator: bytes, signer: Signer, *, channel: ChannelId, payer: Address, total: LaneTotal
) -> Voucher:
    """Sign a lane's total, without conditions; `payer` is the lane's account, not its signer."""
    digest = _digest_of(separator, channel, payer, total, ZERO_WORD)
    return Voucher(
        channel=channel,
        payer=payer,
        total=total,
        conditions=ZERO_WORD,
        signature=signer.sign_digest(digest),
    )


def _digest_of(
    separator: bytes, channel: ChannelId, payer: Address, total: LaneTotal, conditions: bytes
) -> bytes:
    return voucher_digest(
        separator,
        channel=channel,
        payer=payer,
        nonce=total.nonce,
        transferred_ucent=total.transferred_ucent,
        history=total.history,
        conditions=conditions,
    )


def _check_digest(digest: bytes) -> None:
    if len(digest) != WORD_BYTES:
        raise BadDigest(f"a digest of {len(digest)} bytes is not {WORD_BYTES}")


def _check_format(signature: bytes) -> None:
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(f"a signature of {len(signature)} bytes is not {SIGNATURE_BYTES}")
    v = signature[64]
    if v not in (_V_OFFSET, _V_OFFSET + 1):
        raise BadSignature(f"a signature with v {v} has neither 27 nor 28")
    if not 0 < int.from_bytes(signature[:32], "big") < CURVE_ORDER:
        raise BadSignature("the signature's r is zero or not within the curve's order")
    s = int.from_bytes(signature[32:64], "big")
    if not 0 < s <= LOW_S_MAX:
        raise BadSignature("the signature's s is zero or not the low one of its two")


def _address_of(key: PublicKey) -> Address:
    return Address(keccak256(key.format(compressed=False)[1:])[12:])
