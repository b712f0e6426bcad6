"""What eth-account signed, the compiled contract takes: so it hashes the very same bytes.

Only the signed digest recovers to the signer, so each acceptance proves that the contract's digest
is the vector's; each field changed by one bit is refused, so each field is under the hash.
"""

from typing import Any, TypeAlias

import pytest

from farthing.channels import eip712
from farthing.channels.eip712 import Domain, UnsignableValue
from farthing.channels.ids import Address
from farthing.channels.signing import verify_digest

from ..contract.city import City, PackedRow, SettleRow, Terms, bob
from ..contract.evm import Outcome, Reverted
from .forms import read, unhex
from .placed import evm_terms, send_wide, stand_at

Vector: TypeAlias = dict[str, Any]

RECORD = read("on_chain.json")
VECTORS: list[Vector] = RECORD["vectors"]
REFUSED: list[Vector] = RECORD["refused"]
TERMS: Terms = evm_terms(RECORD["terms"])
DEPOSIT_A, DEPOSIT_B = int(RECORD["deposit_a"]), int(RECORD["deposit_b"])
REASONS = {"NONCE_RANGE": 4, "TOTAL_RANGE": 5, "NOT_GREATER": 6, "BAD_SIGNATURE": 7}
ENDS = ("settle", "settle_many")


def of_kind(vectors: list[Vector], *kinds: str) -> list[Any]:
    chosen = [vector for vector in vectors if vector["type"] in kinds]
    assert chosen
    return [pytest.param(vector, id=name_of(vector)) for vector in chosen]


def name_of(vector: Vector) -> str:
    values = [value for value in vector["message"].values() if not value.startswith("0x")]
    return " ".join([vector["type"], *values, str(vector.get("lane", ""))])


def row(vector: Vector) -> SettleRow:
    message = vector["message"]
    [signature] = vector["signatures"].values()
    return SettleRow(
        TERMS,
        vector["lane"],
        int(message["nonce"]),
        int(message["transferred"]),
        unhex(message["history"]),
        unhex(message["conditions"]),
        unhex(signature),
    )


def packed(settle_row: SettleRow) -> PackedRow:
    """The row as docs/protocol.md packs it, by addition: what overflows runs into its neighbour."""
    signature = settle_row.signature
    assert len(signature) == 65
    statement = (signature[64] << 168) + (settle_row.lane << 160)
    statement += (settle_row.nonce << 96) + settle_row.transferred
    return PackedRow(
        tuple(int(word, 16) if isinstance(word, str) else word for word in settle_row.terms),
        statement,
        settle_row.history,
        settle_row.conditions,
        int.from_bytes(signature[:32], "big"),
        int.from_bytes(signature[32:64], "big"),
    )


def settle(city: City, end: str, settle_row: SettleRow) -> Outcome:
    if end == "settle":
        return city.channels.send(bob, "settle", [settle_row])
    return city.channels.send(bob, "settle_many", [packed(settle_row)])


def call(city: City, vector: Vector, **changes: Any) -> Outcome:
    """Send the vector's call, with some of its values replaced."""
    stand_at(city, int(vector["now"]))
    message = vector["message"] | changes
    signatures = [unhex(signature) for signature in vector["signatures"].values()]
    expires = int(message["expires"])
    if vector["type"] == "Withdrawal":
        arguments = [TERMS, message["account"], int(message["total"]), expires]
        return send_wide(city, bob, "withdraw", *arguments, *signatures)
    if vector["type"] == "Close":
        totals = [int(message["transferredA"]), int(message["transferredB"])]
        return send_wide(city, bob, "close", TERMS, *totals, expires, *signatures)
    return send_wide(city, bob, "start_close", TERMS, expires, *signatures)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("vector", of_kind(VECTORS, "Voucher"))
def test_the_contract_hashes_a_voucher_as_the_vector_does(
    city: City, vector: Vector, end: str
) -> None:
    outcome = settle(city, end, row(vector))
    lane = "ab"[vector["lane"]]
    total = getattr(city.state(TERMS), f"transferred_{lane}")
    if vector["contract"] != "takes":
        reason = REASONS[vector["contract"].removeprefix("skips: ")]
        assert [each["reason"] for each in outcome.named("RowSkipped")] == [reason]
        assert total == 0
        return
    [settled] = outcome.named("Settled")
    message = vector["message"]
    assert settled["nonce"] == int(message["nonce"])
    assert settled["transferred"] == total == int(message["transferred"])
    assert settled["history"] == unhex(message["history"])
    assert settled["payer"] == message["payer"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize("member", ["nonce", "transferred", "history", "conditions"])
def test_a_voucher_with_one_bit_changed_is_refused(
    city: City, lane: int, member: str, end: str
) -> None:
    good = next(row(v) for v in VECTORS if v.get("lane") == lane)
    value = getattr(good, member)
    bits = {"nonce": 64, "transferred": 96}.get(member, 256)
    for bit in range(bits):
        number = value if isinstance(value, int) else int.from_bytes(value, "big")
        changed = number ^ (1 << bit)
        if member == "transferred" and changed == 0:
            continue
        spoilt: Any = changed if isinstance(value, int) else changed.to_bytes(32, "big")
        outcome = settle(city, end, good._replace(**{member: spoilt}))
        assert [each["reason"] for each in outcome.named("RowSkipped")] == [7]
    assert settle(city, end, good).named("Settled")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("vector", of_kind(REFUSED, "Voucher"))
def test_a_voucher_beyond_its_bounds_is_skipped_though_it_is_signed(
    city: City, vector: Vector, end: str
) -> None:
    before = city.state(TERMS)
    outcome = settle(city, end, row(vector))
    [skipped] = outcome.named("RowSkipped")
    if end == "settle":
        assert skipped["reason"] == REASONS[vector["contract"].removeprefix("skips: ")]
    assert city.state(TERMS) == before


@pytest.mark.parametrize("vector", of_kind(VECTORS, "Withdrawal"))
def test_the_contract_hashes_a_withdrawal_as_the_vector_does(city: City, vector: Vector) -> None:
    if vector["contract"] != "takes":
        with pytest.raises(Reverted) as caught:
            call(city, vector)
        assert caught.value.reason == vector["contract"]
        return
    [withdrawn] = call(city, vector).named("Withdrawn")
    assert withdrawn["account"] == vector["message"]["account"]
    assert withdrawn["total"] == int(vector["message"]["total"])


@pytest.mark.parametrize("vector", of_kind(VECTORS, "Close"))
def test_the_contract_hashes_a_close_as_the_vector_does(city: City, vector: Vector) -> None:
    [closed] = call(city, vector).named("Closed")
    assert closed["transferred_a"] == int(vector["message"]["transferredA"])
    assert closed["transferred_b"] == int(vector["message"]["transferredB"])
    assert closed["payout_a"] + closed["payout_b"] == DEPOSIT_A + DEPOSIT_B


@pytest.mark.parametrize("vector", of_kind(VECTORS, "StartClose"))
def test_the_contract_hashes_a_start_of_a_close_as_the_vector_does(
    city: City, vector: Vector
) -> None:
    [signer] = vector["signatures"]
    [started] = call(city, vector).named("CloseStarted")
    assert started["by"] == signer


def flipped(value: str, bit: int) -> str:
    return str(int(value) ^ (1 << bit))


@pytest.mark.parametrize(
    ("kind", "member", "bits", "refusal"),
    [
        ("Withdrawal", "total", 76, "channels: bad signature of A"),
        ("Withdrawal", "expires", 64, "channels: bad signature of A"),
        ("Close", "transferredA", 96, "channels: bad signature of A"),
        ("Close", "transferredB", 96, "channels: bad signature of A"),
        ("Close", "expires", 64, "channels: bad signature of A"),
        ("StartClose", "expires", 64, "channels: not a party"),
    ],
)
def test_an_order_with_one_bit_changed_is_refused(
    city: City, kind: str, member: str, bits: int, refusal: str
) -> None:
    good = next(
        v
        for v in VECTORS
        if (v["type"], v["contract"]) == (kind, "takes") and v["message"][member] not in "01"
    )
    for bit in range(bits):
        changed = flipped(good["message"][member], bit)
        with pytest.raises(Reverted) as caught:
            call(city, good | {"now": "0"}, **{member: changed})
        assert caught.value.reason == refusal, bit
    assert call(city, good).events


def test_a_withdrawal_for_the_other_account_is_refused(city: City) -> None:
    good = next(v for v in VECTORS if v["type"] == "Withdrawal" and v["contract"] == "takes")
    with pytest.raises(Reverted, match="bad signature of A"):
        call(city, good, account=TERMS.account_b)


@pytest.mark.parametrize("vector", of_kind(REFUSED, "Withdrawal", "Close", "StartClose"))
def test_an_order_beyond_its_bounds_reverts_though_it_is_signed(city: City, vector: Vector) -> None:
    with pytest.raises(Reverted) as caught:
        call(city, vector)
    said = vector["contract"]
    assert caught.value.reason == (said if said.startswith("channels: ") else "")


def our_digest(vector: Vector) -> bytes:
    separator = Domain(
        chain_id=int(RECORD["chain_id"]), contract=Address(unhex(RECORD["contract"]))
    ).separator()
    names = {
        "transferredA": "transferred_a_ucent",
        "transferredB": "transferred_b_ucent",
        "transferred": "transferred_ucent",
        "total": "total_ucent",
    }
    values = {
        names.get(name, name): unhex(value) if value.startswith("0x") else int(value)
        for name, value in vector["message"].items()
    }
    digest = {
        "Voucher": eip712.voucher_digest,
        "Withdrawal": eip712.withdrawal_digest,
        "Close": eip712.close_digest,
        "StartClose": eip712.start_close_digest,
    }[vector["type"]]
    found: bytes = digest(separator, **values)  # type: ignore[operator]
    return found


def test_we_hash_and_verify_each_vector_and_make_no_digest_of_the_refused() -> None:
    for vector in VECTORS:
        assert our_digest(vector) == unhex(vector["digest"])
        for signer, signature in vector["signatures"].items():
            verify_digest(our_digest(vector), unhex(signature), Address(unhex(signer)))
    for vector in REFUSED:
        with pytest.raises(UnsignableValue):
            our_digest(vector)
