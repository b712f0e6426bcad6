"""Contracts that are wrong on purpose: a proof that cannot fail proves nothing.

`controls.py list` names each with the proof that must refute it; `controls.py write NAME FOLDER`
writes the contracts with that mistake.
"""

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

CONTRACTS = Path(__file__).resolve().parents[3] / "contracts"


class Control(NamedTuple):
    """One mistake: in which file, what stands there and what is written instead."""

    file: str
    right: str
    wrong: str
    contract: str
    check: str


PAYOUT = "check_a_payout"
FINISH = "check_finish_close"
CONTROLS = {
    "no-floor": Control(
        "lanes.vy", "min(max(balance_a, 0), ", "min(balance_a, ", "lanes_proof", PAYOUT
    ),
    "no-ceiling": Control(
        "lanes.vy",
        "convert(min(max(balance_a, 0), convert(total, int256)), uint256)",
        "convert(max(balance_a, 0), uint256)",
        "lanes_proof",
        PAYOUT,
    ),
    "lanes-exchanged": Control(
        "lanes.vy",
        "+ convert(b.transferred, int256)\n        - convert(a.transferred, int256)",
        "+ convert(a.transferred, int256)\n        - convert(b.transferred, int256)",
        "lanes_proof",
        PAYOUT,
    ),
    "one-bit-short": Control(
        "lanes.vy",
        "withdrawn=(word >> WITHDRAWN_SHIFT) & MONEY_MAX",
        "withdrawn=(word >> WITHDRAWN_SHIFT) & (MONEY_MAX >> 1)",
        "lanes_proof",
        "check_unpacking",
    ),
    "status-not-raised": Control(
        "payment_channels.vy",
        "word_a - lanes.CLOSING + lanes.CLOSED",
        "word_a",
        "channels_proof",
        FINISH,
    ),
    "paid-to-the-other": Control(
        "payment_channels.vy",
        "till.pay(channel, terms.account_a, payout_a)",
        "till.pay(channel, terms.account_b, payout_a)",
        "channels_proof",
        FINISH,
    ),
    "total-into-the-deposit": Control(
        "settlement.vy",
        "(word & lanes.BELOW_TRANSFERRED) | (transferred << lanes.TRANSFERRED_SHIFT)",
        "(word & lanes.BELOW_TRANSFERRED) | (transferred << (lanes.TRANSFERRED_SHIFT - 1))",
        "channels_proof",
        "check_no_row",
    ),
    "settled-downwards": Control(
        "settlement.vy", " or transferred <= before:", ":", "channels_proof", "check_no_row"
    ),
    "deposit-beyond-its-bits": Control(
        "payment_channels.vy",
        "row.amount > lanes.MONEY_MAX - before",
        "row.amount > lanes.MONEY_MAX",
        "channels_proof",
        "check_a_deposit",
    ),
    "close-started-again": Control(
        "payment_channels.vy",
        "books.words_a[channel] = word_a - lanes.OPEN + lanes.CLOSING",
        "books.words_a[channel] = word_a + lanes.CLOSING",
        "channels_proof",
        "check_starting",
    ),
}


def written(name: str, folder: Path) -> None:
    """Write all contracts with this one mistake into the folder."""
    control = CONTROLS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for path in CONTRACTS.glob("*.vy"):
        shutil.copy(path, folder)
    path = folder / control.file
    text = path.read_text(encoding="utf-8")
    if text.count(control.right) != 1:
        raise SystemExit(f"controls: {control.file} has changed: {name} has no place in it")
    path.write_text(text.replace(control.right, control.wrong), encoding="utf-8")


def main(order: str, *arguments: str) -> None:
    if order == "list":
        for name, control in CONTROLS.items():
            sys.stdout.write(f"{name} {control.contract} {control.check}\n")
        return
    name, folder = arguments
    written(name, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
