"""Amounts are whole microcents, written and read exactly, and bounded before they are used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.units import (
    DEPOSIT_MAX,
    TRANSFERRED_MAX,
    UCENT_PER_UNIT,
    AmountOutOfRange,
    MalformedAmount,
    check_amount,
    format_cents,
    parse_amount,
)


@pytest.mark.parametrize(
    ("text", "ucent"),
    [
        ("1", 1),
        ("12500", 12_500),
        ("12500uc", 12_500),
        ("12500µ¢", 12_500),
        ("+12500", 12_500),
        (" 12500 ", 12_500),
        ("12500.000", 12_500),
        ("0.0125c", 12_500),
        ("0.0125¢", 12_500),
        ("1c", 1_000_000),
        ("0.000001c", 1),
        ("0.0000010000c", 1),
        ("79228162514264337593543950335", TRANSFERRED_MAX),
    ],
)
def test_an_amount_is_read_in_microcents_or_cents(text: str, ucent: int) -> None:
    assert parse_amount(text) == ucent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "c",
        ".5c",
        "5.",
        "5.c",
        "1e5",
        "1_000",
        "1,000",
        "0x10",
        "NaN",
        "inf",
        "--1",
        "1 000",
        "12500 uc",
        "5d",
        "١٢",
        "0.5",
        "0.5uc",
        "0.0000001c",
        "1" * 41,
        "0." + "0" * 60 + "c",
    ],
)
def test_what_is_no_amount_or_splits_a_microcent_is_refused(text: str) -> None:
    with pytest.raises(MalformedAmount):
        parse_amount(text)


@pytest.mark.parametrize("text", ["0", "-1", "-0.0125c", "0c", str(TRANSFERRED_MAX + 1)])
def test_an_amount_that_no_lane_can_carry_is_refused(text: str) -> None:
    with pytest.raises(AmountOutOfRange):
        parse_amount(text)


@pytest.mark.parametrize("amount", [1, 2, DEPOSIT_MAX - 1, DEPOSIT_MAX])
def test_an_amount_within_its_bound_is_returned(amount: int) -> None:
    assert check_amount(amount, maximum_ucent=DEPOSIT_MAX) == amount


@pytest.mark.parametrize("amount", [-1, 0, DEPOSIT_MAX + 1])
def test_an_amount_outside_its_bound_is_refused_with_the_bound(amount: int) -> None:
    with pytest.raises(AmountOutOfRange) as caught:
        check_amount(amount, maximum_ucent=DEPOSIT_MAX)
    assert (caught.value.amount_ucent, caught.value.maximum_ucent) == (amount, DEPOSIT_MAX)
    assert str(DEPOSIT_MAX) in caught.value.what_to_do


@pytest.mark.parametrize(
    ("ucent", "text"),
    [
        (0, "0 ¢"),
        (1, "0.000001 ¢"),
        (12_500, "0.0125 ¢"),
        (1_000_000, "1 ¢"),
        (-12_500, "-0.0125 ¢"),
        (UCENT_PER_UNIT * 12 + 1, "1,200.000001 ¢"),
    ],
)
def test_cents_are_written_exactly(ucent: int, text: str) -> None:
    assert format_cents(ucent) == text


@given(st.integers(1, TRANSFERRED_MAX))
def test_what_is_written_in_cents_reads_back_as_the_same_amount(ucent: int) -> None:
    assert parse_amount(format_cents(ucent).replace(",", "").replace(" ", "")) == ucent
