"""Money is an integer number of microcents (µ¢); this module bounds, reads and writes it."""

from __future__ import annotations

import re

from .errors import LocalError

UCENT_PER_CENT = 1_000_000
UCENT_PER_UNIT = 100 * UCENT_PER_CENT
"""One currency unit; the token's `decimals` is 8."""

TRANSFERRED_MAX = 2**96 - 1
"""A lane's total; 96 bits of its storage word."""

DEPOSIT_MAX = 2**76 - 1
"""Deposits and withdrawals of one party; 76 bits each of its storage word."""

NONCE_MAX = 2**64 - 1

_AMOUNT = re.compile(r"(?P<sign>[-+]?)(?P<whole>[0-9]+)(?:\.(?P<part>[0-9]+))?(?P<unit>uc|µ¢|c|¢)?")
_DIGITS_MAX = 40  # longer than any amount that fits, short enough to be cheap to refuse


class MalformedAmount(LocalError):
    """A text that is no amount."""

    code = "malformed-amount"
    remedy = "write whole microcents (12500 or 12500uc) or cents (0.0125c)"


class AmountOutOfRange(LocalError):
    """An amount below 1 µ¢ or above what a lane can hold."""

    code = "amount-out-of-range"

    def __init__(self, amount_ucent: int, *, maximum_ucent: int = TRANSFERRED_MAX) -> None:
        super().__init__(
            f"amount of {amount_ucent} µ¢ is out of range",
            remedy=f"give at least 1 and at most {maximum_ucent} µ¢",
        )
        self.amount_ucent = amount_ucent
        self.maximum_ucent = maximum_ucent


def check_amount(amount_ucent: int, *, maximum_ucent: int = TRANSFERRED_MAX) -> int:
    """Return the amount if it is within 1..maximum µ¢; raises `AmountOutOfRange`."""
    if not 1 <= amount_ucent <= maximum_ucent:
        raise AmountOutOfRange(amount_ucent, maximum_ucent=maximum_ucent)
    return amount_ucent


def parse_amount(text: str) -> int:
    """Read µ¢ from '12500', '12500uc' or '0.0125c'; raises `MalformedAmount`, `AmountOutOfRange`.

    A fraction of a microcent is refused: nothing smaller exists.
    """
    match = _AMOUNT.fullmatch(text.strip()) if len(text) <= _DIGITS_MAX else None
    if match is None:
        raise MalformedAmount(f"{text[:_DIGITS_MAX]!r} is not an amount")
    places = 6 if match["unit"] in ("c", "¢") else 0
    part = (match["part"] or "").rstrip("0")
    if len(part) > places:
        raise MalformedAmount(f"{text!r} has a fraction of a microcent")
    scale: int = 10**places
    amount = int(match["whole"]) * scale + int(part.ljust(places, "0") or 0)
    return check_amount(-amount if match["sign"] == "-" else amount)


def format_cents(amount_ucent: int) -> str:
    """Write µ¢ as exact cents, such as '0.0125 ¢'."""
    sign = "-" if amount_ucent < 0 else ""
    whole, part = divmod(abs(amount_ucent), UCENT_PER_CENT)
    digits = f"{part:06d}".rstrip("0")
    return f"{sign}{whole:,}{'.' + digits if digits else ''} ¢"
