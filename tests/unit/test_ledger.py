"""The ledger keeps whole batches or nothing, and says what to do about a file it cannot use."""

import errno
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from farthing.channels.client import ledger as ledger_module
from farthing.channels.client.ledger import (
    RECEIVED,
    SCHEMA_VERSION,
    SENT,
    Ledger,
    LedgerUnusable,
    StoredPayment,
    payer_and_payee,
)
from farthing.channels.client.records import channel_from_record, channel_to_record
from farthing.channels.state import (
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    ReceivedLane,
    SignedClose,
)
from farthing.channels.terms import Side
from farthing.channels.units import TRANSFERRED_MAX
from farthing.channels.voucher import LaneTotal

from ..people import CHANNEL, TERMS, channel, lane, payment, sent_lane, view, voucher


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wallet.sqlite"


def stored(*amounts: int) -> list[StoredPayment]:
    return [
        StoredPayment(payment=payment(amount, number=n), total=lane(*amounts[:n]))
        for n, amount in enumerate(amounts, 1)
    ]


def commit(ledger: Ledger, state: Channel, *payments: StoredPayment) -> None:
    ledger.commit([state], [(CHANNEL, SENT, one) for one in payments], [])


def test_a_file_is_made_for_its_owner_alone(path: Path) -> None:
    ledger = Ledger(path, schema="CREATE TABLE own (x);")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ledger.load_channels() == []
    assert ledger.query("SELECT * FROM own") == []
    ledger.close()


def test_what_was_committed_is_there_after_a_boot(path: Path) -> None:
    state = channel(sent=sent_lane(Side.A, 5, 6, acknowledged=1))
    ledger = Ledger(path)
    commit(ledger, state, *stored(5, 6))
    ledger.close()
    ledger = Ledger(path)
    (booted,) = ledger.load_channels()
    assert booted == channel(sent=state.sent, link=Link.DOWN, fresh_boot=True)
    assert list(ledger.payments(CHANNEL, SENT)) == stored(5, 6)
    assert list(ledger.payments(CHANNEL, SENT, first_nonce=2)) == stored(5, 6)[1:]
    assert list(ledger.payments(CHANNEL, RECEIVED)) == []
    ledger.close()


def test_a_batch_that_fails_leaves_nothing_behind(path: Path) -> None:
    ledger = Ledger(path)
    first = channel(sent=sent_lane(Side.A, 5))
    commit(ledger, first, *stored(5))
    later = channel(sent=sent_lane(Side.A, 5, 6))
    with pytest.raises(LedgerUnusable, match="UNIQUE"):  # a payment that is counted twice
        commit(ledger, later, stored(5, 6)[1], stored(5)[0])
    with pytest.raises(LedgerUnusable, match="no such table"):
        ledger.commit([later], [], [("INSERT INTO nowhere VALUES (1)", ())])
    with pytest.raises(LedgerUnusable, match="too large"):
        ledger.commit([later], [], [("INSERT INTO setting VALUES (?, 1)", (2**63,))])
    assert len(list(ledger.payments(CHANNEL, SENT))) == 1
    assert ledger.load_channels()[0].sent == first.sent
    commit(ledger, later, stored(5, 6)[1])  # and the next batch is none the worse for it
    assert len(list(ledger.payments(CHANNEL, SENT))) == 2
    ledger.close()


def test_a_mistake_of_our_own_leaves_nothing_behind_and_is_not_called_a_disk_s(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(AttributeError):
        ledger.commit([channel(), None], [], [])  # type: ignore[list-item]
    assert ledger.load_channels() == []
    commit(ledger, channel())
    ledger.close()


def test_amounts_of_any_size_are_kept_exactly(path: Path) -> None:
    most = StoredPayment(
        payment=payment(TRANSFERRED_MAX),
        total=LaneTotal(nonce=1, transferred_ucent=TRANSFERRED_MAX, history=b"\x01" * 32),
    )
    ledger = Ledger(path)
    commit(ledger, channel(chain=None), most)
    assert list(ledger.payments(CHANNEL, SENT)) == [most]
    ledger.close()


def test_a_file_of_newer_software_is_refused_untouched(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(LedgerUnusable, match=f"has version {SCHEMA_VERSION + 1}") as caught:
        Ledger(path)
    assert "newer software" in caught.value.what_to_do


def test_a_file_of_version_1_is_taken_forwards(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=1")
    db.close()
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than its header would be" * 10)
    with pytest.raises(LedgerUnusable, match="not a database"):
        Ledger(path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="nowhere") as caught:
        Ledger(tmp_path / "nowhere" / "wallet.sqlite")
    assert "folder exists" in caught.value.what_to_do


def test_each_direction_has_its_payer_and_its_payee() -> None:
    for side in Side:
        state = channel(side)
        assert payer_and_payee(state, SENT) == (state.our_account, state.peer_account)
        assert payer_and_payee(state, RECEIVED) == (state.peer_account, state.our_account)


CLOSE = CloseTerms(transferred_a_ucent=5, transferred_b_ucent=7, expires=2**64 - 1)


@pytest.mark.parametrize(
    "state",
    [
        channel(chain=None),
        channel(Side.B, received=ReceivedLane(voucher=voucher(Side.A, lane(5)))),
        channel(chain=view(ChainStatus.CLOSING, deadline_seconds=9, deadline_block=8)),
        channel(stopped="a clone", we_want_close=True),
        channel(close=SignedClose(terms=CLOSE, ours=bytes(65))),
        channel(
            close=SignedClose(terms=CLOSE, ours=bytes(65), theirs=b"\x01" * 65, submitted_at=3)
        ),
    ],
)
def test_a_record_keeps_what_must_outlive_a_process(state: Channel) -> None:
    booted = channel_from_record(channel_to_record(state), lambda _, __: state.sent.unacknowledged)
    assert booted.terms == TERMS
    assert (booted.chain, booted.close, booted.stopped) == (state.chain, state.close, state.stopped)
    assert (booted.sent, booted.received) == (state.sent, state.received)
    assert booted.we_want_close is state.we_want_close
    assert (booted.link, booted.fresh_boot, booted.refusing) == (Link.DOWN, True, False)


def test_a_damaged_file_is_refused_with_advice(path: Path) -> None:
    ledger = Ledger(path)
    commit(ledger, channel(), *stored(5, 6))
    ledger.close()
    ledger = Ledger(path)
    page = 4096
    content = path.read_bytes()
    path.write_bytes(content[:page] + b"\xff" * (len(content) - page))
    with pytest.raises(LedgerUnusable, match="cannot be read"):
        ledger.load_channels()
    ledger.close()


def left_by_a_killed_process(path: Path) -> Ledger:
    """A database whose newest batch is in the log alone."""
    before = Ledger(path.with_name("before.sqlite"))
    commit(before, channel(), *stored(5))
    for end in ("", "-wal"):
        shutil.copy(f"{before.path}{end}", f"{path}{end}")
    before.close()
    return Ledger(path)


def payments_in_file(path: Path) -> int:
    """Payments in the database file itself, whatever the log says."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
        ((count,),) = db.execute("SELECT count(*) FROM payment").fetchall()
    return int(count)


def test_who_takes_over_writes_and_syncs_what_another_process_left_in_the_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "REWRITE_BYTES", 1000)
    ledger = left_by_a_killed_process(path)
    before = path.with_name(f"{path.name}-wal").read_bytes()
    written = bytearray()
    synced: list[None] = []
    pwrite, fsync = os.pwrite, os.fsync

    def watch(descriptor: int, content: bytes, offset: int) -> int:
        assert (offset, synced) == (len(written), [])
        written.extend(content)
        return pwrite(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", watch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(fsync(descriptor)))
    ledger.take_over()
    assert (bytes(written), len(synced)) == (before, 1)
    assert len(before) > 1000
    assert list(ledger.payments(CHANNEL, SENT)) == stored(5)
    ledger.close()


def test_a_log_that_cannot_be_synced_or_opened_keeps_the_next_owner_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = left_by_a_killed_process(path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("fsync", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(LedgerUnusable) as refused:
                ledger.take_over()
        assert "cannot be made durable" in refused.value.text
        assert "start again" in refused.value.what_to_do
    ledger.take_over()
    ledger.close()


def test_a_database_without_a_log_is_taken_over_as_it_is(path: Path) -> None:
    ledger = Ledger(path)
    path.with_name(f"{path.name}-wal").unlink()
    ledger.take_over()
    ledger.close()


@pytest.mark.parametrize("limit", ["COMMITS_IN_LOG_MAX", "ROWS_IN_LOG_MAX"])
def test_the_log_s_pages_go_into_the_file_before_it_grows_long(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    Ledger(path).close()  # its tables go into the file
    ledger = Ledger(path)
    monkeypatch.setattr(ledger_module, limit, 3 if limit.startswith("COMMITS") else 5)
    in_file = []
    for number in range(1, 7):
        commit(ledger, channel(), stored(*[7] * number)[-1])  # two rows
        in_file.append(payments_in_file(path))
    assert in_file == [0, 0, 3, 3, 3, 6]
    ledger.close()
