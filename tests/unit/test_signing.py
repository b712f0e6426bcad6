"""Signatures: the one format, and the one door from an unverified voucher to a verified one."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from farthing.channels.errors import PeerError
from farthing.channels.ids import ZERO_ADDRESS, Address, ChannelId, address_from_hex
from farthing.channels.signing import (
    CURVE_ORDER,
    LOW_S_MAX,
    BadDigest,
    BadSecret,
    BadSignature,
    Signer,
    recover,
    sign_voucher,
    verify_digest,
    verify_voucher,
)
from farthing.channels.voucher import LaneTotal, UnverifiedVoucher, Voucher

# Account 0 of the development mnemonic, known to everybody: key and address.
SECRET = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
ADDRESS = address_from_hex("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
DIGEST = bytes(range(32))
SEPARATOR = b"\x07" * 32
CHANNEL = ChannelId(b"\x01" * 32)
PAYER = Address(b"\x02" * 20)
TOTAL = LaneTotal(nonce=3, transferred_ucent=500, history=b"\x09" * 32)


@pytest.fixture
def alice() -> Signer:
    return Signer(SECRET)


@pytest.fixture
def mallory() -> Signer:
    return Signer(b"\x66" * 32)


def with_parts(
    signature: bytes, *, r: int | None = None, s: int | None = None, v: int | None = None
) -> bytes:
    r_bytes = signature[:32] if r is None else r.to_bytes(32, "big")
    s_bytes = signature[32:64] if s is None else s.to_bytes(32, "big")
    return r_bytes + s_bytes + (signature[64:] if v is None else bytes([v]))


def unverified(voucher: Voucher, **changes: Any) -> UnverifiedVoucher:
    names = ("channel", "payer", "total", "conditions", "signature")
    return UnverifiedVoucher(**({name: getattr(voucher, name) for name in names} | changes))


def test_a_signer_has_the_address_that_ethereum_gives_its_key(alice: Signer) -> None:
    assert alice.address == ADDRESS


def test_a_signature_recovers_to_its_signer(alice: Signer) -> None:
    signature = alice.sign_digest(DIGEST)
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    assert recover(DIGEST, signature) == alice.address
    verify_digest(DIGEST, signature, alice.address)


def test_signing_is_deterministic(alice: Signer) -> None:
    assert alice.sign_digest(DIGEST) == alice.sign_digest(DIGEST)


def test_every_signature_has_a_low_s_and_both_values_of_v_occur(alice: Signer) -> None:
    signatures = [alice.sign_digest(number.to_bytes(32, "big")) for number in range(64)]
    assert all(int.from_bytes(s[32:64], "big") <= LOW_S_MAX for s in signatures)
    assert {s[64] for s in signatures} == {27, 28}


def test_the_high_s_twin_of_a_signature_is_refused(alice: Signer) -> None:
    signature = alice.sign_digest(DIGEST)
    s = int.from_bytes(signature[32:64], "big")
    twin = with_parts(signature, s=CURVE_ORDER - s, v=27 + 28 - signature[64])
    with pytest.raises(BadSignature, match="low"):
        recover(DIGEST, twin)


def test_the_other_v_is_refused(alice: Signer) -> None:
    signature = alice.sign_digest(DIGEST)
    with pytest.raises(BadSignature):
        verify_digest(DIGEST, with_parts(signature, v=27 + 28 - signature[64]), alice.address)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 30, 31, 35, 255])
def test_a_v_other_than_27_and_28_is_refused(alice: Signer, v: int) -> None:
    with pytest.raises(BadSignature, match=f"v {v} "):
        recover(DIGEST, with_parts(alice.sign_digest(DIGEST), v=v))


@pytest.mark.parametrize(
    "part",
    [
        {"r": 0},
        {"r": CURVE_ORDER},
        {"r": 2**256 - 1},
        {"s": 0},
        {"s": LOW_S_MAX + 1},
        {"s": CURVE_ORDER},
        {"s": 2**256 - 1},
    ],
)
def test_r_and_s_out_of_range_are_refused(alice: Signer, part: dict[str, int]) -> None:
    with pytest.raises(BadSignature):
        recover(DIGEST, with_parts(alice.sign_digest(DIGEST), **part))


def test_an_s_at_its_bounds_has_the_right_format(alice: Signer) -> None:
    signature = alice.sign_digest(DIGEST)
    assert recover(DIGEST, with_parts(signature, s=LOW_S_MAX)) != alice.address
    assert recover(DIGEST, with_parts(signature, s=1)) != alice.address


def test_an_r_that_is_no_point_is_refused(alice: Signer) -> None:
    # No point of the curve has x = 5.
    with pytest.raises(BadSignature, match="no point"):
        recover(DIGEST, with_parts(alice.sign_digest(DIGEST), r=5))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 66, 130])
def test_a_signature_of_another_length_is_refused(alice: Signer, size: int) -> None:
    signature = (alice.sign_digest(DIGEST) * 2)[:size]
    with pytest.raises(BadSignature, match=f"{size} bytes"):
        recover(DIGEST, signature)


def test_another_persons_signature_names_both_addresses(alice: Signer, mallory: Signer) -> None:
    signature = mallory.sign_digest(DIGEST)
    with pytest.raises(BadSignature) as caught:
        verify_digest(DIGEST, signature, alice.address)
    assert caught.value.expected == alice.address
    assert caught.value.recovered == mallory.address
    assert isinstance(caught.value, PeerError)


def test_nobody_signs_for_the_zero_address(alice: Signer) -> None:
    with pytest.raises(BadSignature):
        verify_digest(DIGEST, alice.sign_digest(DIGEST), ZERO_ADDRESS)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_only_digests_are_signed_and_checked(alice: Signer, size: int) -> None:
    with pytest.raises(BadDigest):
        alice.sign_digest(bytes(size))
    with pytest.raises(BadDigest):
        recover(bytes(size), alice.sign_digest(DIGEST))


@pytest.mark.parametrize(
    "secret",
    [bytes(32), CURVE_ORDER.to_bytes(32, "big"), b"\xff" * 32, b"", b"\x01", b"\x01" * 33],
)
def test_bytes_that_are_no_key_are_refused_and_not_shown(secret: bytes) -> None:
    with pytest.raises(BadSecret) as caught:
        Signer(secret)
    assert secret.hex() not in str(caught.value) or not secret


def test_the_greatest_key_signs() -> None:
    signer = Signer((CURVE_ORDER - 1).to_bytes(32, "big"))
    assert recover(DIGEST, signer.sign_digest(DIGEST)) == signer.address


def test_a_signer_never_shows_its_key(alice: Signer) -> None:
    shown = repr(alice) + str(alice) + f"{alice}"
    assert SECRET.hex() not in shown.lower()
    assert str(int.from_bytes(SECRET, "big")) not in shown
    assert "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in shown
    leaks: tuple[Callable[[Signer], object], ...] = (pickle.dumps, copy.copy, copy.deepcopy)
    for leak in leaks:
        with pytest.raises(TypeError):
            leak(alice)


def test_a_signed_voucher_verifies_and_stays_the_same(alice: Signer) -> None:
    voucher = sign_voucher(SEPARATOR, alice, channel=CHANNEL, payer=PAYER, total=TOTAL)
    verified = verify_voucher(SEPARATOR, unverified(voucher), alice.address)
    assert type(verified) is Voucher
    assert verified == voucher


@pytest.mark.parametrize(
    "change",
    [
        {"channel": ChannelId(b"\x03" * 32)},
        {"payer": Address(b"\x04" * 20)},
        {"total": LaneTotal(nonce=4, transferred_ucent=500, history=b"\x09" * 32)},
        {"total": LaneTotal(nonce=3, transferred_ucent=501, history=b"\x09" * 32)},
        {"total": LaneTotal(nonce=3, transferred_ucent=500, history=b"\x08" * 32)},
        {"conditions": b"\x01" * 32},
        {"signature": bytes(65)},
    ],
)
def test_a_voucher_with_one_field_changed_is_refused(alice: Signer, change: dict[str, Any]) -> None:
    voucher = sign_voucher(SEPARATOR, alice, channel=CHANNEL, payer=PAYER, total=TOTAL)
    with pytest.raises(BadSignature):
        verify_voucher(SEPARATOR, unverified(voucher, **change), alice.address)


def test_a_voucher_of_another_chain_or_contract_is_refused(alice: Signer) -> None:
    voucher = sign_voucher(SEPARATOR, alice, channel=CHANNEL, payer=PAYER, total=TOTAL)
    with pytest.raises(BadSignature):
        verify_voucher(b"\x08" * 32, unverified(voucher), alice.address)


def test_a_voucher_by_somebody_else_is_refused(alice: Signer, mallory: Signer) -> None:
    voucher = sign_voucher(SEPARATOR, mallory, channel=CHANNEL, payer=PAYER, total=TOTAL)
    with pytest.raises(BadSignature):
        verify_voucher(SEPARATOR, unverified(voucher), alice.address)
