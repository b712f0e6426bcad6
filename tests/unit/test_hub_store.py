"""The hub's tables, and who may use them."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from farthing.channels.ids import Address, ChannelId
from farthing.channels.messages import RecordOutcome
from farthing.contracts.members import MemberStatus
from farthing.node.chain import MemberRow, Mined
from farthing.node.home import HubInUse, owned
from farthing.node.store import (
    BLOCKS_KEPT,
    TOUCHED_MAX,
    HubStore,
    OtherHubsDatabase,
    RecentBlock,
    Touched,
)

from ..hub_parts import committed, reopened
from ..people import DEPLOYMENT, NOW

ACCOUNT, SIGNER = Address(b"\xa1" * 20), Address(b"\xa2" * 20)
PAID = RecordOutcome(amount_ucent=2**96 - 1, nonce=2**64 - 1, code="", text="", what_to_do="")
REFUSED = RecordOutcome(amount_ucent=0, nonce=0, code="c", text="\ud800 half", what_to_do="µ")


def test_outcomes_come_back_as_they_were_given(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    assert store.outcomes(SIGNER, bytes(16)) is None
    committed(store.ledger, store.remember_outcomes(SIGNER, bytes(16), [PAID, REFUSED]))
    store = reopened(store)
    assert store.outcomes(SIGNER, bytes(16)) == (PAID, REFUSED)
    assert store.outcomes(ACCOUNT, bytes(16)) is None
    store.ledger.close()


def test_rewarded_times_are_exact_and_in_order_of_time(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    times = [Decimal("1e9"), Decimal("999999999.000000000000000000000000001"), Decimal(1000)]
    for taken in times:
        committed(store.ledger, store.remember_rewarded(ACCOUNT, "p", "q", taken))
    near, seconds = Decimal(0), 10**10
    assert store.rewarded(ACCOUNT, "p", "q", near=near, seconds=seconds) == sorted(times)
    assert store.rewarded(ACCOUNT, "p", "other", near=near, seconds=seconds) == []
    store.ledger.close()


def test_rewarded_times_near_another_are_found_by_an_index(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    fraction = Decimal("0.000000000000001")
    times = [Decimal(NOW) + apart for apart in (-60, -fraction, 0, fraction, 59)]
    for taken in [*times, Decimal(NOW - 61), Decimal(NOW + 61)]:
        committed(store.ledger, store.remember_rewarded(ACCOUNT, "p", "q", taken))
    assert store.rewarded(ACCOUNT, "p", "q", near=Decimal(NOW), seconds=60) == times
    near = store.rewarded(ACCOUNT, "p", "q", near=Decimal(NOW) + fraction, seconds=0)
    assert near == times[1:4]  # a double cannot tell them apart: the caller does
    plans: list[str] = []
    with closing(sqlite3.connect(store.ledger.path)) as db:
        asked: list[str] = []
        store.ledger._reader.set_trace_callback(asked.append)
        store.rewarded(ACCOUNT, "p", "q", near=Decimal(NOW), seconds=60)
        plans = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    (plan,) = plans
    assert "USING COVERING INDEX rewarded_time (account=? AND programme=? AND quantity=?" in plan
    assert "AND <expr>>? AND <expr><?)" in plan
    store.ledger.close()


def test_members_hold_whatever_the_registry_does(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    row = MemberRow(account=ACCOUNT, role=7, status=MemberStatus.ACTIVE, valid_until=2**64 - 1)
    committed(store.ledger, store.remember_member(row))
    assert store.members() == [row]
    committed(store.ledger, store.forget_members())
    assert store.members() == []
    store.ledger.close()


def test_settlements_and_the_cursor_are_kept(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    assert store.cursor() is None
    mined = Mined(transaction=bytes(32), block=5, gas_used=9, settled=2, skipped=1)
    for statement in (store.remember_settlement(mined),) * 2:
        committed(store.ledger, statement)
    touched = Touched(channels=frozenset({ChannelId(b"\x01" * 32)}), members=frozenset({ACCOUNT}))
    block = RecentBlock(number=5, hash=b"\x05" * 32, touched=touched)
    committed(store.ledger, *store.remember_block(block))
    assert store.recent_blocks() == [block]
    empty = replace(block, touched=Touched(channels=frozenset(), members=frozenset()))
    committed(store.ledger, *store.remember_block(empty))  # a restart at the same head
    assert store.recent_blocks() == [block]
    (row,) = store.settlements()
    assert (row["block"], row["settled"], row["skipped"], row["gas_used"]) == (5, 2, 1, 9)
    assert store.cursor() == (5, b"\x05" * 32)
    store.ledger.close()


def test_so_many_heads_are_kept_and_a_fork_forgets_those_after_it(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    block = RecentBlock(number=0, hash=bytes(32), touched=None)
    for number in range(BLOCKS_KEPT + 9):
        committed(store.ledger, *store.remember_block(replace(block, number=number)))
    assert [b.number for b in store.recent_blocks()] == list(range(9, BLOCKS_KEPT + 9))
    fork = replace(block, number=50, hash=b"\x01" * 32)
    committed(store.ledger, *store.remember_block(fork, replaces_above=20))
    assert [b.number for b in store.recent_blocks()] == [*range(9, 21), 50]
    many = frozenset(ChannelId(n.to_bytes(32, "big")) for n in range(TOUCHED_MAX + 1))
    wide = replace(fork, number=51, touched=Touched(channels=many, members=frozenset()))
    committed(store.ledger, *store.remember_block(wide))
    assert store.recent_blocks()[-1].touched is None
    store.ledger.close()


def test_a_database_stays_with_its_deployment_and_keys(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    for _ in range(2):
        store.pin(DEPLOYMENT, ACCOUNT, SIGNER)
    store = reopened(store)
    with pytest.raises(OtherHubsDatabase, match="is of signer") as caught:
        store.pin(DEPLOYMENT, ACCOUNT, ACCOUNT)
    assert caught.value.what == "signer"
    assert caught.value.stored != caught.value.given
    store.ledger.close()


def test_a_data_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    with owned(folder):
        with pytest.raises(HubInUse, match=str(os.getpid())) as caught, owned(folder):
            pass
        assert caught.value.holder == str(os.getpid())
    with owned(folder):  # free again
        (folder / "lock").write_bytes(b"")
        with pytest.raises(HubInUse, match="another process"), owned(folder):
            pass
