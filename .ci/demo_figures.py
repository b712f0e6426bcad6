"""Checks what `farthing demo --json` printed. usage: demo_figures.py FILE."""

import json
import sys
from pathlib import Path
from typing import Any

READINGS = 1_268 + 4 * 509
"""Every cell of the two files that the demo replays: water-flow and room-occupancy."""

KEYS = {
    "readings",
    "rewarded",
    "refused",
    "payments",
    "paid_ucent",
    "settled_ucent",
    "settlement_transactions",
    "gas_per_settled_channel",
    "channels_closed",
    "killed_and_recovered",
    "audit",
}


def complaints(demo: dict[str, Any]) -> list[str]:
    """What is wrong with the figures, each in words; nothing when they are fine."""
    missing = sorted(KEYS - demo.keys())
    if missing:
        return [f"{name} is missing" for name in missing]
    killed = demo["killed_and_recovered"]
    rules = {
        f"readings are {READINGS}": demo["readings"] == READINGS,
        "each reading is rewarded or refused": demo["rewarded"] + demo["refused"] == READINGS,
        "something was rewarded": demo["rewarded"] > 0,
        "every reward is a payment, and a resident paid too": demo["payments"] > demo["rewarded"],
        "money is whole µ¢": all(type(demo[k]) is int for k in ("paid_ucent", "settled_ucent")),
        "something was settled": 0 < demo["settled_ucent"] <= demo["paid_ucent"],
        "two channels closed": demo["channels_closed"] >= 2,  # noqa: PLR2004 - one of each kind
        "a device was killed": killed["kills"] >= 1,
        "nothing acknowledged was lost": killed["lost"] == 0
        and killed["acknowledged_after_restart"] >= killed["acknowledged_before"],
        "nothing was counted twice": killed["double_counted"] == 0,
        "the audit ties out": demo["audit"]["ok"] is True
        and demo["audit"]["difference_ucent"] == 0,
    }
    return [rule for rule, holds in rules.items() if not holds]


def main() -> int:
    """0 when the figures are fine, else 1 with each broken rule on a line."""
    # Exactly one object: json.loads refuses anything before or after it.
    demo = json.loads(Path(sys.argv[1]).read_text())
    wrong = complaints(demo)
    for rule in wrong:
        print(f"not true of the demo: {rule}")
    if not wrong:
        print(f"{demo['payments']} payments of {demo['paid_ucent']} µ¢; the audit ties out")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
