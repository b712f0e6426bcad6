"""A sync that fails or a disk that is full ends the process with a reason, and loses nothing.

After a failed sync the bytes are shown to readers and never reach the disk: what a later life of
the process relies on is judged on a disk that behaves so. The tests share one agency, in order.
"""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client.ledger import COMMITS_IN_LOG_MAX

from ..agency import Agency
from ..hub_world import FLOW_UCENT, City
from .held import RECEIVED, SENT, read_held
from .traffic import (
    DATABASES,
    DISK_FULL,
    FOLDERS,
    KILLED,
    PAY_UCENT,
    SYNC_FAILS,
    pay,
    pay_until_it_ends,
    pay_until_no_answer,
    start,
    submit,
    traced,
    traced_agency,
    verdicts,
)

SYNCS, WRITES = 40, 250
"""Calls that succeed before the others fail: enough for a start and some payments."""
TORN_IMAGES = 15


@pytest.fixture(scope="module")
def agency(
    strace: str, hub_city: City, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agency]:
    folder = tmp_path_factory.mktemp("failing")
    with traced_agency(hub_city, folder, inject={"hub": SYNC_FAILS.format(SYNCS)}) as agency:
        agency.earn(2)
        yield agency


def check_it_said_why(agency: Agency, name: str, reason: str) -> None:
    """The last thing in its log names the database, the reason, and what to do."""
    process = traced(agency, name)
    assert process.wait_end() == 1
    end = agency.log(process)[-2000:]
    database = Path(DATABASES[name]).name
    assert f"{database} ({reason})" in end
    assert "a batch could not be made durable" in end
    assert "free space or repair the disk, then start again: nothing was acknowledged" in end


def unacknowledged(agency: Agency) -> int:
    return int(agency.balance()["sent_unacknowledged_ucent"])


def check_the_hub_ends_and_comes_back(agency: Agency, reason: str, next_fault: str) -> None:
    submit(agency, 1)
    assert pay_until_no_answer(agency) > 5
    check_it_said_why(agency, "hub", reason)
    before = agency.channel()
    submit(agency, 1)  # the wallet's queue goes on
    start(agency, "hub", next_fault)
    agency.wallet.ask("wait_queue_empty", timeout_seconds=20)
    agency.until(lambda: unacknowledged(agency) == 0)
    assert agency.channel()["sent_ucent"] == before["sent_ucent"]
    pay(agency)


def test_a_hub_whose_sync_fails_stops_and_says_why(agency: Agency) -> None:
    check_the_hub_ends_and_comes_back(agency, "disk I/O error", DISK_FULL.format(WRITES))


def test_a_hub_whose_disk_is_full_stops_and_says_why(agency: Agency) -> None:
    check_the_hub_ends_and_comes_back(agency, "database or disk is full", "")


def check_the_wallet_ends(agency: Agency, reason: str, fault: str) -> None:
    start(agency, "wallet", fault)
    before = agency.hub_channel()["received_ucent"]
    told = pay_until_it_ends(agency)
    assert told > 5
    check_it_said_why(agency, "wallet", reason)
    # What was told is with the hub; of the one that failed its commit nothing left.
    assert agency.hub_channel()["received_ucent"] == before + told * PAY_UCENT


def test_a_wallet_whose_sync_fails_stops_and_says_why(agency: Agency) -> None:
    agency.wallet.stop()
    check_the_wallet_ends(agency, "disk I/O error", SYNC_FAILS.format(SYNCS))


def test_a_wallet_whose_disk_is_full_stops_and_says_why(agency: Agency) -> None:
    check_the_wallet_ends(agency, "database or disk is full", DISK_FULL.format(WRITES))


def test_a_wallet_does_not_start_on_a_disk_that_syncs_nothing(agency: Agency) -> None:
    error = refused_start(agency, first_failing_sync=1)
    assert error["code"] == "outbox-unusable"
    assert "/transactions cannot be read (Input/output error)" in error["text"]
    assert "repair the disk" in error["what_to_do"]


def test_a_wallet_does_not_start_on_a_log_that_cannot_be_synced(agency: Agency) -> None:
    error = refused_start(agency, first_failing_sync=2)
    assert error["code"] == "ledger-unusable"
    assert "ledger.sqlite cannot be made durable (Input/output error)" in error["text"]
    assert "repair the disk" in error["what_to_do"]


def refused_start(agency: Agency, *, first_failing_sync: int) -> dict[str, Any]:
    """Start the wallet where this sync and all later ones fail; its first line, an error."""
    process = traced(agency, "wallet")
    process.inject = SYNC_FAILS.format(first_failing_sync)
    process.start()
    error: dict[str, Any] = process.wait_ready()["error"]
    assert process.wait_end() == 1
    return error


def test_what_a_failed_sync_left_in_the_log_is_not_built_upon(agency: Agency) -> None:
    """Such a log can only be left by a process that has no time to end in order."""
    start(agency, "wallet", SYNC_FAILS.format(SYNCS), behaviour=KILLED)
    assert pay_until_it_ends(agency) > 5
    assert traced(agency, "wallet").wait_end() == -signal.SIGKILL
    log = database_of(agency, "wallet").with_name("ledger.sqlite-wal")
    assert log.stat().st_size > 0


def test_on_a_sound_disk_both_go_on_and_nothing_is_lost_or_counted_twice(agency: Agency) -> None:
    start(agency, "wallet")
    agency.earn(2)
    pay(agency)
    agency.until(lambda: unacknowledged(agency) == 0)
    for process in (agency.wallet, agency.hub):
        process.stop()
    roots = {name: agency.config.parent.parent / folder for name, folder in FOLDERS.items()}
    held = {name: read_held(root, DATABASES[name]) for name, root in roots.items()}
    hub, wallet = held["hub"], held["wallet"]
    assert hub.payments_of(SENT) == wallet.payments_of(RECEIVED)
    assert wallet.payments_of(SENT) == hub.payments_of(RECEIVED)
    with closing(sqlite3.connect(database_of(agency, "wallet"))) as db:
        ((records, waiting),) = db.execute(
            "SELECT sum(records), sum(answered=0) FROM submission"
        ).fetchall()
    rewards = hub.payments_of(SENT).values()
    assert (waiting, len(rewards)) == (0, records)
    assert {row[0] for row in rewards} == {FLOW_UCENT}


def database_of(agency: Agency, name: str) -> Path:
    return agency.config.parent.parent / FOLDERS[name] / DATABASES[name]


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_was_said_that_a_power_cut_would_have_taken_back(
    agency: Agency, name: str, tmp_path: Path
) -> None:
    """Runs last. The sound lives too, which come after syncs that failed."""
    lives = verdicts(agency, name, tmp_path / "image", torn_images=TORN_IMAGES)
    assert len(lives) == {"hub": 3, "wallet": 7}[name]
    for life in lives:
        assert (life.early, life.torn) == ([], [])
    failed = [sum(n for sync, n in life.syncs.items() if "EIO" in sync) > 0 for life in lives]
    fails = {"hub": [True, False, False], "wallet": [False, True, False, True, True, True, False]}
    assert failed == fails[name]


COMMITS = """
import sys
from pathlib import Path
from farthing.channels.client.ledger import Ledger, LedgerUnusable
ledger, number = Ledger(Path(sys.argv[1])), 0
ledger.take_over()
try:
    while number < 1000:
        number += 1
        text = "INSERT OR REPLACE INTO setting VALUES ('number', ?)"
        ledger.commit((), (), [(text, (str(number),))])
except LedgerUnusable as error:
    print(number, error.what_to_do)
"""


def test_a_database_file_that_cannot_be_synced_ends_the_commit_that_moves_the_log(
    strace: str, tmp_path: Path
) -> None:
    """SQLite would go on, and say nothing: its log holds all. That the disk fails is known now."""
    database = tmp_path / "ledger.sqlite"
    # The first makes the file.
    fault = [strace, "-f", "-o", str(tmp_path / "trace"), "-P", str(database)]
    fault += ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=2+"]
    command = [*fault, sys.executable, "-c", COMMITS, str(database)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    number, what_to_do = done.stdout.split(" ", 1)
    assert 1 < int(number) <= COMMITS_IN_LOG_MAX
    assert "repair the disk" in what_to_do
    with closing(sqlite3.connect(database)) as db:
        held = db.execute("SELECT value FROM setting WHERE key='number'").fetchall()
    assert held == [(number,)]  # it was committed, and not said
