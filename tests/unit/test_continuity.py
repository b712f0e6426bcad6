"""A database that was restored is noticed by a count that is kept beside it."""

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from farthing.channels.client.continuity import Continuity, NoHome, elsewhere, state_home
from farthing.channels.client.ledger import Ledger, LedgerUnusable
from farthing.channels.events import AskedWithdraw, ObservedChannel
from farthing.channels.state import DOUBT_UNKNOWN, OFFER_SECONDS_MAX, Link, Phase
from farthing.channels.terms import Side

from ..nodes import Node
from ..people import ALICE, BOB, NOW, moment, terms, view


def opened(path: Path) -> Continuity:
    ledger = Ledger(path)
    try:
        return Continuity(ledger)
    finally:
        ledger.close()


def signed(path: Path, offers: int = 1) -> None:
    """Sign offers in a database, as the driver does."""
    ledger = Ledger(path)
    continuity = Continuity(ledger)
    ledger.commit((), (), continuity.count(offers))
    continuity.mark()
    ledger.close()


def restore(backup: Path, path: Path) -> None:
    for name in ("", "-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    shutil.copy(backup, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_new_database_and_one_opened_again_are_in_no_doubt(path: Path) -> None:
    assert opened(path).doubt_ends is None
    assert opened(path).doubt_ends is None
    signed(path)
    assert opened(path).doubt_ends is None
    assert (opened(path).path.stat().st_mode & 0o777) == 0o600


def test_a_backup_from_before_an_offer_is_in_doubt_until_the_doubt_is_over(
    path: Path, tmp_path: Path
) -> None:
    opened(path)
    backup = tmp_path / "backup"
    shutil.copy(path, backup)
    signed(path)
    restore(backup, path)
    assert opened(path).doubt_ends == DOUBT_UNKNOWN
    assert opened(path).doubt_ends == DOUBT_UNKNOWN  # and at each start until it has ended
    ledger = Ledger(path)
    continuity = Continuity(ledger)
    ledger.commit((), (), continuity.note(NOW, was=DOUBT_UNKNOWN))
    ledger.close()
    assert opened(path).doubt_ends == NOW
    ledger = Ledger(path)
    continuity = Continuity(ledger)
    ledger.commit((), (), continuity.note(None, was=NOW))
    ledger.close()
    assert opened(path).doubt_ends is None


def test_a_backup_from_after_the_last_offer_is_in_no_doubt(path: Path, tmp_path: Path) -> None:
    signed(path)
    backup = tmp_path / "backup"
    shutil.copy(path, backup)
    restore(backup, path)
    assert opened(path).doubt_ends is None


def test_a_crash_between_commit_and_file_is_no_doubt(path: Path) -> None:
    ledger = Ledger(path)
    ledger.commit((), (), Continuity(ledger).count(1))
    ledger.close()
    assert opened(path).doubt_ends is None


def test_a_deleted_database_is_in_doubt(path: Path) -> None:
    opened(path)
    path.unlink()
    assert opened(path).doubt_ends == DOUBT_UNKNOWN


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"database": 1, "offers": 0}', '{"database": "x", "offers": true}']
)
def test_a_file_that_is_gone_or_damaged_is_a_doubt(path: Path, text: str) -> None:
    marker = opened(path).path
    if text:
        marker.write_text(text)
    else:
        marker.unlink()
    assert opened(path).doubt_ends == DOUBT_UNKNOWN
    assert json.loads(marker.read_text())["offers"] == 0


def test_another_database_s_file_is_a_doubt(path: Path, tmp_path: Path) -> None:
    other = opened(tmp_path / "other.sqlite").path
    opened(path)
    shutil.copy(other, path.with_name(path.name + ".continuity"))
    assert opened(path).doubt_ends == DOUBT_UNKNOWN


def test_a_count_that_cannot_be_noted_is_not_said(path: Path) -> None:
    continuity = opened(path)  # whose ledger, and with it the file, is closed
    with pytest.raises(LedgerUnusable, match="stored and goes on"):
        continuity.mark()


def test_a_place_where_no_file_can_be_is_said_at_the_start(path: Path) -> None:
    path.with_name(path.name + ".continuity").mkdir()
    with pytest.raises(LedgerUnusable, match="check that it is a file"):
        opened(path)


def test_noting_a_count_needs_no_new_descriptor(path: Path) -> None:
    ledger = Ledger(path)
    continuity = Continuity(ledger)
    ledger.commit((), (), continuity.count(1))  # which opens what SQLite needs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = [os.open(path, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used[0] + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            used.extend(os.open(path, os.O_RDONLY) for _ in range(10_000))
        ledger.commit((), (), continuity.count(1))
        continuity.mark()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in used:
            os.close(descriptor)
    assert json.loads(continuity.path.read_text())["offers"] == 2
    ledger.close()


def test_a_doubt_that_begins_while_it_runs_lasts_as_long_as_that_of_the_longest_channel(
    path: Path,
) -> None:
    continuity = opened(path)
    assert continuity.note(None, was=None) == []
    assert continuity.note(NOW, was=None)
    assert continuity.note(NOW + 9, was=NOW)  # another channel's
    assert continuity.note(None, was=NOW) == []  # the first one's has ended, the other's has not
    assert continuity.doubt_ends == NOW + 9
    assert continuity.note(None, was=NOW + 9)
    assert continuity.doubt_ends is None


async def test_a_driver_holds_its_channels_in_doubt_until_the_longest_offer_is_dead(
    tmp_path: Path,
) -> None:
    path = tmp_path / "alice.sqlite"
    first = Node(path, ALICE)
    channel = first.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.driver.run)
        await first.driver.wait_durable()
        nursery.cancel_scope.cancel()
    first.ledger.close()
    path.with_name(path.name + ".continuity").unlink()

    again = Node(path, ALICE)
    assert again.driver.in_doubt
    assert again.driver.get(channel).phase is Phase.RESTORED
    other = terms(sequence=2)
    fresh = again.hold(other)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.driver.run)
        for one in (channel, fresh):
            again.driver.feed(one, ObservedChannel(view=view(block=101, timestamp=NOW)))
        assert again.driver.get(fresh).phase is Phase.RESTORED
        end = NOW + OFFER_SECONDS_MAX
        again.now = lambda: moment(end + 1)
        for one in (channel, fresh):
            again.driver.feed(one, ObservedChannel(view=view(block=102, timestamp=end + 1)))
        in_doubt: bool = again.driver.in_doubt
        assert not in_doubt
        assert again.driver.get(channel).phase is Phase.DOWN
        await again.driver.wait_durable()
        nursery.cancel_scope.cancel()
    again.ledger.close()
    assert opened(path).doubt_ends is None


async def test_a_signed_offer_is_counted_before_it_leaves(tmp_path: Path) -> None:
    alice = Node(tmp_path / "alice.sqlite", ALICE)
    channel = alice.hold()
    alice.driver.channels[channel] = replace(alice.driver.get(channel), link=Link.LIVE)
    counted: list[int] = []

    def look() -> None:
        """What the file says after the commit, when nothing has been sent yet."""
        marker = (tmp_path / "alice.sqlite.continuity").read_text()
        counted.append(json.loads(marker)["offers"])

    alice.driver.feed(channel, AskedWithdraw(amount_ucent=1))
    alice.driver.store((), then=look)
    await alice.driver.flush()
    assert counted == [1]
    assert alice.driver.get(channel).withdrawals[Side.A] is not None
    alice.ledger.close()


# -- the count that is kept elsewhere ---------------------------------------------------------


def opened_with(path: Path, place: Path) -> int | None:
    ledger = Ledger(path)
    try:
        return Continuity(ledger, elsewhere=place).doubt_ends
    finally:
        ledger.close()


def test_both_files_hold_the_count_before_it_is_said(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "machine" / "count"
    ledger = Ledger(path)
    continuity = Continuity(ledger, elsewhere=place)
    ledger.commit((), (), continuity.count(3))
    continuity.mark()
    ledger.close()
    assert place.read_bytes() == continuity.path.read_bytes()
    assert json.loads(place.read_text())["offers"] == 3
    assert opened_with(path, place) is None


def test_a_folder_put_back_whole_is_noticed_by_the_count_elsewhere(
    path: Path, tmp_path: Path
) -> None:
    place, marker = tmp_path / "elsewhere", path.with_name(path.name + ".continuity")
    assert opened_with(path, place) is None
    backups = [tmp_path / "ledger", tmp_path / "marker"]
    shutil.copy(path, backups[0])
    shutil.copy(marker, backups[1])
    ledger = Ledger(path)
    continuity = Continuity(ledger, elsewhere=place)
    ledger.commit((), (), continuity.count(1))
    continuity.mark()
    ledger.close()
    restore(backups[0], path)
    shutil.copy(backups[1], marker)
    assert opened_with(path, place) == DOUBT_UNKNOWN
    assert json.loads(place.read_text())["offers"] == 1


def test_a_database_that_misses_its_count_elsewhere_was_brought_from_another_machine(
    path: Path, tmp_path: Path
) -> None:
    assert opened_with(path, tmp_path / "one") is None
    assert opened_with(path, tmp_path / "two") == DOUBT_UNKNOWN


def test_a_new_database_of_a_signer_that_had_one_is_in_doubt(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    assert opened_with(path, place) is None
    assert opened_with(tmp_path / "another.sqlite", place) == DOUBT_UNKNOWN


def test_a_database_of_older_software_gets_its_second_count_without_a_doubt(
    path: Path, tmp_path: Path
) -> None:
    signed(path)
    assert opened_with(path, tmp_path / "elsewhere") is None
    assert opened_with(path, tmp_path / "elsewhere") is None


def test_a_machine_keeps_its_counts_where_its_files_of_state_are() -> None:
    assert state_home({"XDG_STATE_HOME": "/var/x"}) == Path("/var/x/farthing")
    for ignored in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "x"}):
        assert state_home(ignored) == Path.home() / ".local" / "state" / "farthing"
    one, other = (elsewhere(Path("/x"), ALICE.address, bytes((n,)) * 32) for n in (1, 2))
    assert one != other
    assert one != elsewhere(Path("/x"), BOB.address, bytes((1,)) * 32)


def test_where_there_is_no_home_a_folder_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(NoHome, match="marker_dir"):
        state_home({})
