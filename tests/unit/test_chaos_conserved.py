"""Whether the money is where the vouchers say, and what a run of chaos tells people."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.ids import ChannelId
from farthing.channels.state import ChainStatus, ChainView
from farthing.channels.voucher import LaneTotal
from farthing.devnet.chaos.compare import Held, Sides
from farthing.devnet.chaos.conserved import OnChain, judge
from farthing.devnet.chaos.report import text_of
from farthing.devnet.city import MINTED_UCENT

OPEN, CLOSED = ChannelId(b"\x01" * 32), ChannelId(b"\x02" * 32)
DEPOSIT = 1_000


def lane(ucent: int) -> Held:
    total = LaneTotal(nonce=1, transferred_ucent=ucent, history=b"\x07" * 32)
    return Held(total=total, payments=((1, ucent, "-"),))


def sides(channel: ChannelId) -> Sides:
    """The hub has rewarded 300 µ¢, of which the wallet has paid back 100."""
    paid, rewarded = lane(100), lane(300)
    return Sides(channel=channel, paid=(paid, paid), rewarded=(rewarded, rewarded))


HELD = {"alice": [sides(OPEN)], "bob": [sides(CLOSED)]}


def view(status: ChainStatus, **changes: Any) -> ChainView:
    fields: dict[str, Any] = {"deposit_ucent": (DEPOSIT, 0), "settled_ucent": (300, 100)}
    return ChainView(block=9, timestamp=9, status=status, **(fields | changes))


def chain(**changes: Any) -> OnChain:
    """Alice's channel is open, bob's was closed: 200 µ¢ went to him, 800 back to the hub."""
    views = {OPEN: view(ChainStatus.OPEN), CLOSED: view(ChainStatus.CLOSED)}
    fields: dict[str, Any] = {
        "views": views,
        "wallets": {"alice": 0, "bob": 200},
        "hub": MINTED_UCENT - 2 * DEPOSIT + 800,
        "contract": DEPOSIT,
    }
    return OnChain(**(fields | changes))


def test_money_that_is_where_it_belongs_is_conserved() -> None:
    found = judge(HELD, chain())
    assert found.conserved
    assert (found.deposits_ucent, found.payouts_ucent, found.locked_ucent) == (2_000, 1_000, 1_000)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (chain(wallets={"alice": 0, "bob": 199}), "bob was paid 199 µ¢, its vouchers say 200 µ¢"),
        (chain(contract=999), "the contract owns 999 µ¢ and locks 1000 µ¢"),
        (chain(hub=5), "the hub owns 5 µ¢ instead of"),
        (
            chain(
                views={
                    OPEN: view(ChainStatus.OPEN, settled_ucent=(300, 99)),
                    CLOSED: view(ChainStatus.CLOSED),
                }
            ),
            "is settled to 99 µ¢, the voucher of lane B says 100 µ¢",
        ),
    ],
)
def test_money_that_is_elsewhere_is_not(wrong: OnChain, text: str) -> None:
    found = judge(HELD, wrong)
    assert not found.conserved
    assert len(found.problems) == 1
    assert text in found.problems[0]


def test_deposits_that_neither_went_nor_stayed_are_not_conserved() -> None:
    assert not replace(judge(HELD, chain()), locked_ucent=999).conserved


def test_people_are_told_what_is_wrong_first() -> None:
    summary: dict[str, Any] = {
        "ok": False,
        "audit_ok": False,
        "conserved": False,
        "kills": 2,
        "kills_hub": 1,
        "kills_wallet": 1,
        "kills_in_flight": 2,
        "offered": 9,
        "load_seconds": 3.0,
        "offered_per_second": 3,
        "acknowledged": 8,
        "acknowledged_per_second": 2,
        "lost": 1,
        "double_counted": 0,
        "unbalanced": 0,
        "channels": 1,
        "settlements": 1,
        "faults": {"disk-full": 2, "disk-full-stopped": 1, "wire-cut": 1},
        "not_available": {"disk-fsync": "strace is not installed"},
        "problems": [
            {"wrong": "lost", "channel": "0x11", "reference": "alice.1.7", "text": "gone"}
        ],
        "died": ["hub ended by itself: -"],
        "processes": {
            "hub": {
                "samples": 9,
                "resident_kib_max": 2048,
                "database_kib": 512,
                "write_ahead_kib_max": 5120,
            },
            "alice": {"samples": 0},
        },
        "memory_flat": False,
        "seconds": 9.0,
        "seed": 4,
        "kept": "kept",
    }
    lines = text_of(summary).splitlines()
    assert lines[0] == "lost: gone (0x11 alice.1.7)"
    assert lines[1].endswith("hub ended by itself: -")
    assert any(line.split() == ["verdict", "BROKEN"] for line in lines)
    assert any("NOT CONSERVED, audit DIFFERS" in line for line in lines)
    assert any(line.split() == ["disk", "full", "2,", "full-stopped", "1"] for line in lines)
    assert any("disk-fsync: strace is not installed" in line for line in lines)
    assert lines[-1].split() == ["kept", "in", "kept"]
    memory = [line.split(maxsplit=1)[1] for line in lines if " memory up to " in line]
    assert memory == ["memory up to 2 MiB, database 0.5 MiB, its log up to 5.0 MiB"]
    assert any(line.split() == ["memory", "GROWS"] for line in lines)
    flat = text_of({**summary, "memory_flat": True}).splitlines()
    assert any(line.split() == ["memory", "flat"] for line in flat)
