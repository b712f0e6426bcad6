"""The doctor names what is wrong with a wallet or a hub, and what to do; each check can fail."""

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client import doctor
from farthing.channels.client.bundle import bundle_of, write_bundle
from farthing.channels.client.chain import WrongChain
from farthing.channels.client.doctor import Check, Verdict, examine
from farthing.channels.client.folder import Folder, HubAddress, TowerPlace, write_settings
from farthing.channels.client.ledger import SCHEMA_VERSION
from farthing.channels.client.tls import Trust
from farthing.channels.ids import to_hex
from farthing.channels.signing import BadSignature
from farthing.node.certificate import make_certificate
from farthing.node.doctor import check_certificate

from ..agency import Agency, running_agency
from ..hub_world import build_city, farthing
from .small_city import PRICE_UCENT, SmallCity, earn, until

OK, WARNING, PROBLEM, NOT_CHECKED = Verdict


async def used(city: SmallCity) -> Folder:
    """A wallet that has earned and paid, and does not run."""
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.pay(700, "parking", timeout_seconds=10)
        await wallet.pay(50, "parking", timeout_seconds=10)
    return Folder(path=city.folder)


async def looked_over(city: SmallCity, **options: Any) -> dict[str, Check]:
    arguments = {"password_file": city.folder / "password", "bundle": None, **options}
    rows = await examine(Folder(path=city.folder), city.chain, **arguments)
    assert len({row.what for row in rows}) == len(rows)
    assert all(row.what_to_do for row in rows if row.verdict in (WARNING, PROBLEM))
    return {row.what: row for row in rows}


def wrong(rows: dict[str, Check]) -> dict[str, Verdict]:
    return {what: row.verdict for what, row in rows.items() if row.verdict in (WARNING, PROBLEM)}


def change(folder: Folder, sql: str, *values: Any) -> None:
    database = sqlite3.connect(folder.ledger_file)
    with database:
        assert database.execute(sql, values).rowcount >= 1
    database.close()


def channel_of(city: SmallCity) -> str:
    return to_hex(next(iter(city.chain.channels)))


async def test_a_wallet_in_order_has_nothing_wrong(city: SmallCity) -> None:
    await used(city)
    rows = await looked_over(city)
    assert wrong(rows) == {}
    channel = channel_of(city)
    assert rows[f"sent on {channel}"].found == "2 payments add up to 750 µ¢"
    assert "4 payments add up" in rows[f"received on {channel}"].found
    assert f"{4 * PRICE_UCENT} µ¢ received and not" in rows[f"at risk on {channel}"].found
    assert {what for what, row in rows.items() if row.verdict is NOT_CHECKED} == {
        "bundle",
        "certificate",
    }


async def test_a_folder_that_never_ran_has_nothing_wrong(city: SmallCity) -> None:
    rows = await looked_over(city)
    assert wrong(rows) == {}
    assert "has not run" in rows["database"].found
    assert not Folder(path=city.folder).ledger_file.exists()


async def test_it_works_beside_the_running_wallet_and_changes_nothing(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.wait_durable()
        before = contents(city.folder)
        assert wrong(await looked_over(city)) == {}
        assert contents(city.folder) == before
        await wallet.pay(1, "parking", timeout_seconds=10)


def contents(folder: Path) -> dict[str, str]:
    """Of all files but SQLite's index of readers, which every reader enters."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith("-shm")
    }


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("keystore.json", "keystore"),
        ("wallet.json", "settings"),
        ("ledger.sqlite", "database file"),
        ("ledger.sqlite.continuity", "count of offers"),
        ("lock", "lock"),
        ("password", "password file"),
        (".", "folder"),
    ],
)
async def test_what_others_can_read_is_a_problem(city: SmallCity, name: str, what: str) -> None:
    await used(city)
    (city.folder / "password").touch(mode=0o600)
    path = city.folder / name
    path.chmod(path.stat().st_mode | 0o044)
    rows = await looked_over(city)
    assert wrong(rows) == {what: PROBLEM}
    assert "chmod" in rows[what].what_to_do


async def test_a_keystore_that_is_gone_is_a_problem(city: SmallCity) -> None:
    folder = await used(city)
    folder.keystore_file.unlink()
    rows = await looked_over(city)
    assert wrong(rows) == {"keystore": PROBLEM}
    assert rows["continuity"].verdict is NOT_CHECKED


async def test_a_bundle_is_checked_where_one_is_named(city: SmallCity, tmp_path: Path) -> None:
    folder = await used(city)
    bundle = bundle_of(folder, with_keystore=False)
    write_bundle(tmp_path / "old", replace(bundle, channels=()))
    write_bundle(tmp_path / "new", bundle)
    (tmp_path / "no bundle").touch(mode=0o600)
    for name, verdict in (("old", WARNING), ("new", OK), ("no bundle", PROBLEM)):
        rows = await looked_over(city, bundle=tmp_path / name)
        assert rows["bundle"].verdict is verdict
        assert rows["bundle file"].verdict is OK


# -- the machine ----------------------------------------------------------------------------------


async def test_a_full_disk_is_seen_before_it_stops_the_wallet(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize, f_favail = 1, 4096, 5

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    await used(city)
    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    monkeypatch.setattr(os, "fsync", no_space)
    rows = await looked_over(city)
    assert wrong(rows) == {"disk space": WARNING, "disk writes": PROBLEM}
    assert "No space left" in rows["disk writes"].found


async def test_a_clock_that_was_never_set_or_is_far_from_the_chain_is_told(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    await used(city)
    now = time.time()
    for seconds, expected in (
        (-now + 5, {"clock": PROBLEM, "clock and chain": WARNING}),
        (140.0, {"clock and chain": WARNING}),
        (200.0, {"clock and chain": PROBLEM}),  # over a quarter of the window
    ):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda by=seconds: now + by)
            assert wrong(await looked_over(city)) == expected


def test_a_clock_that_jumps_while_it_is_looked_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((doctor.EARLIEST + 1.0, doctor.EARLIEST + 1.0, doctor.EARLIEST + 90.0))
    monkeypatch.setattr(time, "time", lambda: next(times))
    clock = next(doctor.check_machine())
    assert (clock.verdict, "jumped" in clock.found) == (WARNING, True)


def test_a_curve_library_that_does_not_work_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BadSignature("no")

    assert doctor.check_curve().verdict is OK
    monkeypatch.setattr(doctor, "recover", broken)
    assert doctor.check_curve().verdict is PROBLEM
    monkeypatch.setattr(doctor, "recover", lambda *_: b"another")
    assert "another key" in doctor.check_curve().found


# -- the database ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE payment SET amount_ucent='701' WHERE direction=0 AND nonce=1", "payments end at"),
        ("DELETE FROM payment WHERE direction=0 AND nonce=2", "the payments end at 1"),
        ("UPDATE payment SET salt=zeroblob(32) WHERE direction=0 AND nonce=2", "history"),
        (
            "UPDATE channel SET record=replace(record, ': 750', ': 751')",
            "signature does not verify",
        ),
    ],
)
async def test_a_lane_that_does_not_add_up_is_a_problem(
    city: SmallCity, sql: str, found: str
) -> None:
    change(await used(city), sql)
    rows = await looked_over(city)
    what = f"sent on {channel_of(city)}"
    assert wrong(rows) == {what: PROBLEM}
    assert found in rows[what].found


async def test_a_restored_lane_says_from_where_on_it_has_receipts(city: SmallCity) -> None:
    folder = await used(city)
    what = f"sent on {channel_of(city)}"
    for nonce, found in ((1, "receipts from payment 2 on"), (2, "receipts of it are not here")):
        change(folder, "DELETE FROM payment WHERE direction=0 AND nonce=?", nonce)
        rows = await looked_over(city)
        assert wrong(rows) == {}
        assert found in rows[what].found


async def test_a_damaged_or_newer_database_is_a_problem_and_the_rest_is_looked_at(
    city: SmallCity,
) -> None:
    folder = await used(city)
    content = bytearray(folder.ledger_file.read_bytes())
    change(folder, "UPDATE setting SET value='5' WHERE key='offers'")
    for damage, found in (
        (b"\xff" * 4096, "cannot be read"),
        (None, f"version {SCHEMA_VERSION + 1}"),
    ):
        if damage is None:
            folder.ledger_file.write_bytes(content)
            database = sqlite3.connect(folder.ledger_file)
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
            database.close()
        else:
            folder.ledger_file.write_bytes(content[:4096] + damage * (len(content) // 4096 - 1))
        rows = await looked_over(city)
        assert rows["database content"].verdict is PROBLEM
        assert found in rows["database content"].found
        assert rows["chain"].verdict is OK


async def test_a_database_that_was_put_back_is_told(city: SmallCity, machine: Path) -> None:
    folder = await used(city)
    (elsewhere,) = (machine / "farthing").iterdir()
    for marker in (folder.continuity_file, elsewhere):
        saved = marker.read_bytes()
        marker.write_bytes(saved.replace(b'"offers": 0', b'"offers": 1'))
        rows = await looked_over(city)
        assert wrong(rows) == {"continuity": WARNING}
        assert str(marker) in rows["continuity"].found
        marker.unlink()
        assert wrong(await looked_over(city)) == {"continuity": WARNING}
        marker.write_bytes(saved)
        marker.chmod(0o600)
    assert wrong(await looked_over(city)) == {}
    change(folder, "INSERT INTO setting VALUES ('doubt', '0')")
    assert wrong(await looked_over(city)) == {"continuity": WARNING}


# -- hub and chain --------------------------------------------------------------------------------


async def test_a_chain_that_is_down_or_another_is_a_problem(city: SmallCity) -> None:
    await used(city)
    city.chain.is_down = True
    rows = await looked_over(city)
    assert wrong(rows) == {"chain": PROBLEM}
    assert rows["clock and chain"].verdict is NOT_CHECKED
    city.chain.is_down = False
    city.chain.identity_error = WrongChain(expected=1, actual=2)
    rows = await looked_over(city)
    assert "serves chain 2" in rows["chain"].found


async def test_a_hub_that_does_not_answer_is_a_warning(city: SmallCity) -> None:
    folder = await used(city)
    settings = folder.settings()
    nowhere = replace(settings, hub=replace(settings.hub, port=1))
    write_settings(folder, nowhere)
    assert wrong(await looked_over(city)) == {"hub": WARNING}


async def test_a_tower_that_does_not_answer_is_a_warning(city: SmallCity) -> None:
    folder = await used(city)
    settings = folder.settings()
    place = TowerPlace(address=HubAddress(host="127.0.0.1", port=1), signer=settings.account)
    write_settings(folder, replace(settings, towers=(place,)))
    rows = await looked_over(city)
    assert wrong(rows) == {"tower 127.0.0.1:1": WARNING}
    assert "the tower runs" in rows["tower 127.0.0.1:1"].what_to_do
    assert rows["certificate of tower 127.0.0.1:1"].verdict is NOT_CHECKED


async def test_what_is_at_risk_is_told_of_each_channel(city: SmallCity) -> None:
    channel = channel_of(city)
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.driver.receive = lambda events: None  # type: ignore[method-assign]
        await wallet.start_close(timeout_seconds=10)
        await until(wallet, lambda: wallet.channels()[0].phase.value == "closing")
        await wallet.wait_durable()
        row = (await looked_over(city))[f"at risk on {channel}"]
        assert (row.verdict, "it is closing" in row.found) == (WARNING, True)
    folder = Folder(path=city.folder)
    change(
        folder, 'UPDATE channel SET record=replace(record, \'"stopped": null\', \'"stopped": "x"\')'
    )
    row = (await looked_over(city))[f"at risk on {channel}"]
    assert (row.verdict, "it has stopped: x" in row.found) == (PROBLEM, True)


# -- the commands ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agency(own_chain: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    """An agency on a chain of its own: others move their chain's clock, which a doctor notices."""
    city = build_city(own_chain, tmp_path_factory.mktemp("city"))
    with running_agency(city, tmp_path_factory.mktemp("agency")) as agency:
        yield agency


def rows_of(done: Any) -> dict[str, dict[str, str]]:
    return {row["what"]: row for row in done.json}


def test_the_commands_check_the_real_processes(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(agency.folder.path.parent / "state"))
    for path in agency.config.parent.glob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    agency.earn(1)
    agency.ask_wallet("pay", "700")
    checks: list[Callable[[], Any]] = [
        lambda: farthing("wallet", "doctor", agency.folder.path, "--json"),
        lambda: farthing("hub", "doctor", "--config", agency.config, "--json"),
    ]
    rows: dict[str, dict[str, str]] = {}
    for check in checks:
        done = check()
        rows = rows_of(done)
        assert done.code == 0, done.out
        assert {row["verdict"] for row in rows.values()} <= {"ok", "not checked"}, rows
        assert rows["continuity"]["verdict"] == rows["chain"]["verdict"] == "ok"
    assert "2 add up" in rows["lanes"]["found"]
    assert "700 µ¢ received" in rows["at risk"]["found"]
    assert rows["listening"]["verdict"] == "ok"
    for path in (agency.folder.keystore_file, agency.config.parent / "signer.json"):
        path.chmod(0o640)
    for check, what in zip(checks, ("keystore", "signer keystore"), strict=True):
        done = check()
        assert done.code == 1
        assert rows_of(done)[what]["verdict"] == "problem"
        assert "chmod 600" in rows_of(done)[what]["what_to_do"]
    table = farthing("wallet", "doctor", agency.folder.path)
    assert "what_to_do" in table.out.splitlines()[0]
    for path in (agency.folder.keystore_file, agency.config.parent / "signer.json"):
        path.chmod(0o600)


def test_a_hub_s_lane_that_does_not_add_up_is_named(agency: Agency, tmp_path: Path) -> None:
    agency.hub.stop()
    shutil.copytree(agency.config.parent, tmp_path / "hub")
    agency.hub.start()
    agency.hub.wait_ready()
    database = sqlite3.connect(tmp_path / "hub" / "data" / "hub.sqlite")
    with database:
        database.execute("UPDATE payment SET amount_ucent='9' WHERE direction=1")
        stop = 'UPDATE channel SET record=replace(record, \'"stopped": null\', \'"stopped": "x"\')'
        database.execute(stop)
    database.close()
    done = farthing("hub", "doctor", "--config", tmp_path / "hub" / "hub.toml", "--json")
    rows = rows_of(done)
    assert done.code == 1
    assert [w for w in rows if w.startswith("received on")] != []
    assert "1 add up" in rows["lanes"]["found"]
    assert [rows[w]["verdict"] for w in rows if w.startswith("channel ")] == ["problem"]


def test_a_hub_that_never_ran_has_nothing_wrong_but_that_it_does_not_run(
    agency: Agency, tmp_path: Path
) -> None:
    made = farthing(
        *("hub", "init", tmp_path / "hub", "--rpc", agency.city.rpc_url, "--port", "1"),
        *("--deployment", agency.city.deployment_file),
    )
    assert made.code == 0
    done = farthing("hub", "doctor", "--config", tmp_path / "hub" / "hub.toml", "--json")
    assert done.code == 0
    told = {w: row for w, row in rows_of(done).items() if row["verdict"] != "ok"}
    assert {w: row["verdict"] for w, row in told.items()} == {
        "certificate": "not checked",
        "listening": "warning",
    }
    assert not (tmp_path / "hub" / "data").exists()


def test_a_certificate_and_its_key_are_checked_by_the_hub_s_doctor(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "localhost")
    other = tmp_path / "other"
    other.mkdir()
    _, other_key = make_certificate(other, "localhost")
    assert check_certificate(certificate, key).verdict is OK
    for wrong_pair in ((certificate, other_key), (certificate, tmp_path / "missing")):
        assert check_certificate(*wrong_pair).verdict is PROBLEM


async def test_a_hub_without_the_trusted_certificate_is_a_problem(city: SmallCity) -> None:
    """Here it has none at all."""
    folder = await used(city)
    settings = folder.settings()
    write_settings(folder, replace(settings, trust=Trust(pins=(b"\x01" * 32,))))
    rows = await looked_over(city)
    assert wrong(rows) == {"certificate": PROBLEM}
    assert rows["hub"].verdict is OK
