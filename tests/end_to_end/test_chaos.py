"""Chaos as a stranger runs it, on the product and on a hub that makes the one mistake."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client.folder import Folder
from farthing.devnet.chaos.compare import Comparison, Wrong, compare_all
from farthing.devnet.chaos.run import Options, chaos_in, is_good
from farthing.devnet.chaos.tally import reported_in
from farthing.devnet.child import set_clock
from farthing.devnet.processes import Process
from farthing.node.home import DATABASE_NAME

from ..agency import PATIENCE_SECONDS

RUN_SECONDS_MAX = 400
WALLETS = ("alice", "bob")
SPEAKS_FIRST = Path(__file__).parents[1] / "hub_that_speaks_first.py"


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "farthing.cli.main", "chaos", *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


@dataclass(frozen=True)
class Kept:
    """A run that ended: its folder and what it printed."""

    folder: Path
    summary: dict[str, Any]
    said: str

    @property
    def hub(self) -> Path:
        return self.folder / "hub" / "data" / DATABASE_NAME

    def wallet(self, name: str) -> Path:
        return Folder(path=self.folder / "wallets" / name).ledger_file

    def compare(self, hub: Path | None = None) -> Comparison:
        """The comparison done again, with the kept record, or with another hub's database."""
        record = reported_in(self.folder / "acknowledged.jsonl")
        wallets = {name: self.wallet(name) for name in WALLETS}
        return compare_all(hub or self.hub, wallets, record)[0]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("chaos") / "kept"
    done = chaos(
        *("--kills", "4", "--seed", "7", "--wallets", "2", "--rate", "400"),
        *("--faults", "wire,disk", "--json", "--keep", str(folder)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield Kept(folder=folder, summary=json.loads(done.stdout), said=done.stderr)
    shutil.rmtree(folder)


def test_nothing_is_lost_or_counted_twice_and_every_channel_balances(kept: Kept) -> None:
    summary = kept.summary
    assert summary["ok"]
    assert summary["lost"] == summary["double_counted"] == summary["unbalanced"] == 0
    assert summary["conserved"]
    assert summary["audit_ok"]
    assert summary["problems"] == summary["died"] == []


def test_everybody_was_killed_as_planned_while_payments_were_under_way(kept: Kept) -> None:
    summary = kept.summary
    assert summary["seed"] == 7
    assert summary["kills"] == summary["kills_hub"] + summary["kills_wallet"] == 4
    assert summary["kills_hub"] >= 1
    assert summary["kills_wallet"] >= 1
    assert summary["kills_in_flight"] >= 1
    planned = json.loads((kept.folder / "schedule.json").read_text())
    again = json.loads(
        chaos(
            *("--kills", "4", "--seed", "7", "--wallets", "2"),
            *("--faults", "wire,disk", "--schedule", "--json"),
        ).stdout
    )
    assert planned == again


def test_what_was_offered_is_acknowledged_both_ways(kept: Kept) -> None:
    summary = kept.summary
    assert summary["offered_per_second"] >= 390
    # What a wallet had ordered in the moment of its death is open for ever.
    open_at_most = 4 * 1_024 * summary["kills_wallet"]
    assert summary["offered"] - open_at_most <= summary["acknowledged"] <= summary["offered"]
    record = reported_in(kept.folder / "acknowledged.jsonl")
    for name in WALLETS:
        assert record[name].acknowledged
        assert record[name].received
        assert record[name].decided
    counted = sum(reported.acknowledged_count for reported in record.values())
    assert counted == summary["acknowledged"]


def test_each_fault_was_made_and_a_failing_disk_stopped_a_process(kept: Kept) -> None:
    faults = kept.summary["faults"]
    wire = [f"wire-{fault}" for fault in ("cut", "delay", "double", "drop", "stall", "swap")]
    for fault in (*wire, "disk-full"):
        assert faults[fault] >= 1
    not_made = kept.summary["not_available"]  # said, where strace is missing or may not attach
    assert (faults.get("disk-fsync", 0) >= 1) is ("disk-fsync" not in not_made)
    stopped = sum(count for fault, count in faults.items() if fault.endswith("-stopped"))
    logs = "".join(path.read_text() for path in (kept.folder / "logs").glob("*.log"))
    assert logs.count("could not be made durable") >= stopped >= 1


def test_money_is_settled_on_the_chain(kept: Kept) -> None:
    assert kept.summary["channels"] == 2
    assert kept.summary["settlements"] >= 1
    assert "1 channels closed by agreement, alice's stays open" in kept.said


def test_the_kept_record_and_databases_are_compared_again_with_the_same_result(kept: Kept) -> None:
    found = kept.compare()
    assert (found.lost, found.double_counted, found.unbalanced) == (0, 0, 0)


@pytest.fixture
def hub_copy(kept: Kept, tmp_path: Path) -> Path:
    """The hub's database, to be changed."""
    copy = tmp_path / DATABASE_NAME
    for path in kept.hub.parent.glob(f"{DATABASE_NAME}*"):
        shutil.copy(path, tmp_path / path.name)
    return copy


def test_a_hub_that_forgets_a_payment_is_found_out(kept: Kept, hub_copy: Path) -> None:
    with closing(sqlite3.connect(hub_copy, isolation_level=None)) as db:
        # An early one of each channel: nobody was killed before its acknowledgement was reported.
        changed = db.execute("DELETE FROM payment WHERE direction=1 AND nonce=2")
        assert changed.rowcount == len(WALLETS)
    found = kept.compare(hub_copy)
    assert found.lost == len(WALLETS)
    assert found.double_counted == 0
    lost = [problem for problem in found.problems if problem.wrong is Wrong.LOST]
    assert all("to the hub is not held by its payee" in problem.text for problem in lost)
    assert all(problem.reference.startswith(WALLETS) for problem in lost)


def test_a_hub_that_counts_one_payment_twice_is_found_out(kept: Kept, hub_copy: Path) -> None:
    with closing(sqlite3.connect(hub_copy, isolation_level=None)) as db:
        changed = db.execute(
            "UPDATE payment SET receipt=(SELECT receipt FROM payment AS other WHERE other.nonce=1"
            " AND other.channel=payment.channel AND other.direction=0)"
            " WHERE direction=0 AND nonce=2"
        )
        assert changed.rowcount == len(WALLETS)
    found = kept.compare(hub_copy)
    assert found.double_counted == len(WALLETS)
    assert found.lost >= len(WALLETS)  # the payments in whose place they stand


def test_a_hub_that_speaks_before_it_commits_is_found_out(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    options = Options(kills=2, seed=1, wallets=2, rate=300.0, hub_program=str(SPEAKS_FIRST))
    said: list[str] = []
    summary = chaos_in(folder, options, said.append)
    assert not summary["ok"]
    assert not is_good(summary)
    assert summary["lost"] + summary["unbalanced"] > 0
    assert summary["problems"][0]["channel"].startswith("0x")
    assert said[-1] == f"kept everything in {folder}"
    assert json.loads((folder / "summary.json").read_text())["lost"] == summary["lost"]


def test_a_fault_that_there_is_not_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = chaos("--faults", "plague", "--keep", str(tmp_path / "kept"))
    assert done.returncode == 1
    assert "name some of wire, disk, chain, clock, or all" in done.stderr
    assert not (tmp_path / "kept").exists()


def test_a_programs_clock_is_put_ahead_while_it_runs(tmp_path: Path) -> None:
    program = tmp_path / "clock.py"
    program.write_text(
        "import time\n"
        "began = time.time()\n"
        "print('{\"ready\": true}', flush=True)\n"
        "while time.time() - began < 3_000: time.sleep(0.01)\n"
        "print(int(time.time() - began), flush=True)\n"
    )
    said: list[str] = []
    set_clock(tmp_path / "clock", 0.0)
    process = Process(
        "clock",
        [],
        tmp_path / "log",
        program=str(program),
        clock=tmp_path / "clock",
        on_line=said.append,
    )
    process.start()
    process.wait_ready()
    set_clock(tmp_path / "clock", 3_600.0)
    assert process.wait_ended(PATIENCE_SECONDS)
    assert 3_600 <= int(said[0]) < 3_700
