"""A signature in any form but the one is refused by our Python and by every door of the contract.

eth-account takes some of them, such as a high s and a v of 0; the vectors say which.
"""

from typing import Any, TypeAlias

import pytest
from eth_account import Account

from farthing.channels.ids import ZERO_ADDRESS, Address
from farthing.channels.signing import BadSignature, verify_digest

from ..contract.city import City, bob
from ..contract.evm import Reverted
from .forms import read, unhex
from .make_signatures_refused import eth_account_says
from .test_contract_vectors import ENDS, TERMS, call, packed, row

Statement: TypeAlias = dict[str, Any]

STATEMENTS: list[Statement] = read("signatures_refused.json")["statements"]


def statements(*kinds: str) -> list[Any]:
    return [
        pytest.param(s, id=f"{s['type']} {s['signer'][:6]}")
        for s in STATEMENTS
        if s["type"] in kinds
    ]


ALL = statements("Voucher", "Withdrawal", "Close", "StartClose")


def with_signature(statement: Statement, signature: str) -> Statement:
    """The statement with this signature in its signer's place."""
    return statement | {"signatures": statement["signatures"] | {statement["signer"]: signature}}


@pytest.mark.parametrize("statement", ALL)
def test_the_good_signature_that_each_was_made_of_is_taken(
    city: City, statement: Statement
) -> None:
    good = unhex(statement["signatures"][statement["signer"]])
    signer = Address(unhex(statement["signer"]))
    verify_digest(unhex(statement["digest"]), good, signer)
    assert Account._recover_hash(unhex(statement["digest"]), signature=good) == statement["signer"]
    if statement["type"] == "Voucher":
        assert city.settled(bob, row(statement)).named("Settled")
    else:
        assert call(city, statement).events


@pytest.mark.parametrize("statement", ALL)
def test_our_python_refuses_every_other_form(statement: Statement) -> None:
    digest, signer = unhex(statement["digest"]), Address(unhex(statement["signer"]))
    assert len(statement["refused"]) >= 30
    for case in statement["refused"]:
        for expected in (signer, ZERO_ADDRESS):
            with pytest.raises(BadSignature):
                verify_digest(digest, unhex(case["signature"]), expected)


@pytest.mark.parametrize("statement", ALL)
def test_eth_account_takes_of_them_what_the_vectors_say(statement: Statement) -> None:
    digest, signer = unhex(statement["digest"]), statement["signer"]
    for case in statement["refused"]:
        said = eth_account_says(digest, unhex(case["signature"]), signer)
        assert said == case["eth_account"], case["why"]
    lenient = {c["why"] for c in statement["refused"] if c["eth_account"] == "takes"}
    assert "s is the high one of its two" in lenient
    assert all(why.startswith("v is ") or "high one" in why for why in lenient)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("statement", statements("Voucher"))
def test_no_row_is_settled_by_another_form(city: City, statement: Statement, end: str) -> None:
    before = city.state(TERMS)
    good = row(statement)
    rows = []
    for case in statement["refused"]:
        spoilt = good._replace(signature=unhex(case["signature"]))
        if len(spoilt.signature) > 65 and end == "settle":
            with pytest.raises(Reverted) as caught:  # no ABI: the type is Bytes[65]
                city.settled(bob, spoilt)
            assert caught.value.reason == ""
        elif len(spoilt.signature) == 65 or end == "settle":
            rows.append(spoilt)
    assert len(rows) > 25
    sent = rows if end == "settle" else [packed(each) for each in rows]
    outcome = city.channels.send(bob, end, sent)
    assert [e["reason"] for e in outcome.named("RowSkipped")] == [7] * len(rows)
    assert city.state(TERMS) == before


@pytest.mark.parametrize("statement", statements("Withdrawal", "Close"))
def test_no_order_of_both_passes_with_another_form_in_either_place(
    city: City, statement: Statement
) -> None:
    party = "A" if statement["signer"] == TERMS.signer_a else "B"
    before = city.state(TERMS)
    for case in statement["refused"]:
        with pytest.raises(Reverted) as caught:
            call(city, with_signature(statement, case["signature"]))
        too_long = len(unhex(case["signature"])) > 65
        assert caught.value.reason == ("" if too_long else f"channels: bad signature of {party}")
    assert city.state(TERMS) == before


@pytest.mark.parametrize("statement", statements("StartClose"))
def test_no_close_is_started_by_another_form(city: City, statement: Statement) -> None:
    before = city.state(TERMS)
    for case in statement["refused"]:
        with pytest.raises(Reverted) as caught:
            call(city, with_signature(statement, case["signature"]))
        if len(unhex(case["signature"])) > 65:
            assert caught.value.reason == ""
        elif case["why"] == "empty" or case["eth_account"] == "finds another signer":
            assert caught.value.reason in ("channels: not a party", "channels: bad signature")
        else:
            assert caught.value.reason == "channels: bad signature"
    assert city.state(TERMS) == before
