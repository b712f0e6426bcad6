# pragma version 0.4.3
"""
@title Signatures
@license Apache-2.0
@notice What the parties of a channel sign (EIP-712), and the one format their signatures have.
@dev Stateless. A signature is 65 bytes: r, s not above half the curve's order, v of 27 or 28.
"""

# constants

_DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_DOMAIN_NAME: constant(bytes32) = keccak256("Farthing")
_DOMAIN_VERSION: constant(bytes32) = keccak256("1")

# Its digest is made where vouchers are settled, without a call, for gas.
VOUCHER_TYPE: constant(bytes32) = keccak256(
    "Voucher(bytes32 channel,address payer,uint64 nonce,uint96 transferred,bytes32 history,bytes32 conditions)"
)
_WITHDRAWAL_TYPE: constant(bytes32) = keccak256(
    "Withdrawal(bytes32 channel,address account,uint96 total,uint64 expires)"
)
_CLOSE_TYPE: constant(bytes32) = keccak256(
    "Close(bytes32 channel,uint96 transferredA,uint96 transferredB,uint64 expires)"
)
_START_CLOSE_TYPE: constant(bytes32) = keccak256("StartClose(bytes32 channel,uint64 expires)")

# Half the order of secp256k1: signatures with a greater s are refused, so that each has one form.
S_MAX: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168


# structs

struct Signature:
    r: uint256
    s: uint256
    v: uint256


# internal

@internal
@view
def domain_separator() -> bytes32:
    # Made anew each time: a cached one would outlive a fork of the chain.
    return keccak256(abi_encode(_DOMAIN_TYPE, _DOMAIN_NAME, _DOMAIN_VERSION, chain.id, self))


@internal
@view
def withdrawal_digest(
    channel: bytes32, account: address, total: uint256, expires: uint64
) -> bytes32:
    return self._digest(keccak256(abi_encode(_WITHDRAWAL_TYPE, channel, account, total, expires)))


@internal
@view
def close_digest(
    channel: bytes32, transferred_a: uint256, transferred_b: uint256, expires: uint64
) -> bytes32:
    return self._digest(
        keccak256(abi_encode(_CLOSE_TYPE, channel, transferred_a, transferred_b, expires))
    )


@internal
@view
def start_close_digest(channel: bytes32, expires: uint64) -> bytes32:
    return self._digest(keccak256(abi_encode(_START_CLOSE_TYPE, channel, expires)))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", self.domain_separator(), struct_hash))


@internal
@pure
def split(signature: Bytes[65]) -> Signature:
    # Zeros unless the signature has 65 bytes and a low s. Its v is left to ecrecover, which answers
    # the empty address for any but 27 and 28.
    if len(signature) != 65:
        return empty(Signature)
    r: uint256 = extract32(signature, 0, output_type=uint256)
    s: uint256 = extract32(signature, 32, output_type=uint256)
    v: uint256 = extract32(signature, 33, output_type=uint256) & 255
    if s > S_MAX:
        return empty(Signature)
    return Signature(r=r, s=s, v=v)


@internal
@pure
def recovered(digest: bytes32, signature: Bytes[65]) -> address:
    # The empty address for anything that is no signature in the one format.
    sig: Signature = self.split(signature)
    return ecrecover(digest, sig.v, sig.r, sig.s)


@internal
@pure
def is_signed(signer: address, digest: bytes32, signature: Bytes[65]) -> bool:
    # The empty address is ecrecover's answer to garbage: that is nobody's signature.
    return signer != empty(address) and self.recovered(digest, signature) == signer
