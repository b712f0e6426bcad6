"""The doctor names what is wrong with a watchtower, and what to do; each check can fail."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.doctor import Verdict
from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.signing import Signer
from farthing.channels.terms import Terms
from farthing.contracts.members import MemberStatus
from farthing.node import doctor as hub_doctor
from farthing.node.administration import Role
from farthing.node.certificate import make_certificate
from farthing.node.doctor import check_certificate
from farthing.node.watchtower.tower import Tower

from ..certificates import Authority
from ..hub_world import (
    City,
    Outcome,
    build_city,
    farthing_beside,
    new_signer,
    until,
)
from ..tower_world import (
    Street,
    deposit_of,
    depositor,
    make_street,
    running_tower,
    tower_folder,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

OK, WARNING, PROBLEM, NOT_CHECKED = Verdict


async def examined(config: Path) -> Outcome:
    return await farthing_beside("watchtower", "doctor", "--config", config, "--json")


def rows_of(done: Outcome) -> dict[str, dict[str, Any]]:
    rows = {row["what"]: row for row in done.json}
    assert len(rows) == len(done.json)
    assert all(r["what_to_do"] for r in rows.values() if r["verdict"] in (WARNING, PROBLEM))
    assert done.code == any(row["verdict"] == PROBLEM for row in rows.values())
    return rows


def wrong(done: Outcome) -> dict[str, str]:
    """What is not as it should be; a stopped tower's port is not there."""
    found = {what: row["verdict"] for what, row in rows_of(done).items() if row["verdict"] != OK}
    assert found.pop("listening") == NOT_CHECKED  # port 0
    assert found.pop("certificate") == NOT_CHECKED  # none is configured
    return found


def database_of(config: Path) -> Path:
    return config.parent / "data" / "watchtower.sqlite"


def change(config: Path, sql: str, *values: Any) -> None:
    database = sqlite3.connect(database_of(config))
    with database:
        assert database.execute(sql, values).rowcount >= 1
    database.close()


async def keeps(city: City, street: Street, tower: Tower, wallet: Signer) -> Terms:
    """A wallet's channel of which the tower holds a voucher."""
    (terms,) = await trio.to_thread.run_sync(street.open, wallet)
    async with depositor(city, tower, wallet) as one:
        await one.kept(deposit_of(terms, street.voucher(terms, 500)))
    return terms


@pytest.fixture(scope="module")
def hub_city(own_chain: str, tmp_path_factory: pytest.TempPathFactory) -> City:
    """A chain of these tests' own: others let years pass on theirs, which a doctor has to tell."""
    return build_city(own_chain, tmp_path_factory.mktemp("city"))


@pytest.fixture
def street(hub_city: City) -> Street:
    return make_street(hub_city)


@pytest.fixture
def config(hub_city: City, tmp_path: Path) -> Path:
    return tower_folder(hub_city, tmp_path / "tower")


@pytest.fixture
async def used(hub_city: City, street: Street, config: Path) -> tuple[Path, Terms]:
    """A tower that holds a wallet's voucher, and does not run."""
    async with running_tower(config) as tower:
        return config, await keeps(hub_city, street, tower, new_signer())


async def test_a_tower_in_order_has_nothing_wrong_and_is_not_changed_while_it_runs(
    hub_city: City, street: Street, config: Path
) -> None:
    async with running_tower(config) as tower:
        await keeps(hub_city, street, tower, new_signer())
        before = database_of(config).read_bytes()
        done = await examined(config)
        assert wrong(done) == {}
        rows = rows_of(done)
        assert rows["vouchers"]["found"].startswith("1 are held")
        assert rows["room"]["found"].startswith("1 of 10000 channels")
        assert rows["wallets"]["found"] == "those of 1 channels were seen within 24 h"
        assert rows["at risk"]["found"].startswith("500 µ¢ of 1 channels")
        assert rows["membership"]["found"] == "active, as relayer"
        assert rows["database owner"]["found"].startswith(address_to_hex(tower.signer.address))
        assert database_of(config).read_bytes() == before


async def test_a_tower_that_never_ran_has_nothing_wrong_and_gets_no_folder(config: Path) -> None:
    done = await examined(config)
    assert wrong(done) == {}
    assert "has not run" in rows_of(done)["database"]["found"]
    assert not (config.parent / "data").exists()


async def test_a_tower_that_does_not_run_is_told_so_where_its_port_is_known(
    hub_city: City, tmp_path: Path
) -> None:
    config = tower_folder(hub_city, tmp_path / "tower", listen_port=1)
    listening = rows_of(await examined(config))["listening"]
    assert listening["verdict"] == WARNING
    assert listening["what_to_do"] == "check that the watchtower runs"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("password", "password file"),
        ("keystore.json", "keystore"),
        ("data", "data folder"),
        ("data/watchtower.sqlite", "database file"),
        ("data/transactions", "transactions"),
        ("data/lock", "lock"),
    ],
)
async def test_what_others_may_read_is_a_problem(
    used: tuple[Path, Terms], name: str, what: str
) -> None:
    config, _ = used
    path = config.parent / name
    mode = path.stat().st_mode
    path.chmod(0o755)
    try:
        if name == "password":  # with it the configuration is refused whole
            assert (await examined(config)).code != 0
        else:
            assert wrong(await examined(config)) == {what: PROBLEM}
    finally:
        path.chmod(mode)


async def test_a_voucher_that_does_not_verify_is_a_problem(used: tuple[Path, Terms]) -> None:
    config, _ = used
    change(config, "UPDATE held SET record=replace(record, '500', '501')")
    done = await examined(config)
    assert wrong(done) == {"vouchers": PROBLEM}
    assert "1 do not verify" in rows_of(done)["vouchers"]["found"]


async def test_a_database_that_is_broken_or_somebody_elses_is_a_problem(
    used: tuple[Path, Terms],
) -> None:
    config, _ = used
    change(config, "UPDATE setting SET value='0x00' WHERE key='signer'")
    assert wrong(await examined(config)) == {"database owner": PROBLEM}
    change(config, "UPDATE held SET record='nonsense'")
    assert wrong(await examined(config)) == {
        "database owner": PROBLEM,
        "database content": PROBLEM,
    }
    database_of(config).write_bytes(b"no database at all" * 100)
    assert wrong(await examined(config)) == {"database content": PROBLEM}


async def test_a_wallet_that_was_not_seen_for_long_is_named(used: tuple[Path, Terms]) -> None:
    config, terms = used
    change(config, "UPDATE seen SET at='1750000000'")
    done = await examined(config)
    ((what, verdict),) = wrong(done).items()
    assert verdict == WARNING
    assert address_to_hex(terms.signer_b) in what
    assert "last seen 2025-06-15 15:06 UTC; 500 µ¢ are held" in rows_of(done)[what]["found"]
    change(config, "DELETE FROM seen")
    assert "last seen never" in rows_of(await examined(config))[what]["found"]


async def test_a_tower_that_is_nearly_full_is_told_so(used: tuple[Path, Terms]) -> None:
    config, _ = used
    config.write_text(config.read_text() + "channels_max = 1\n")
    assert wrong(await examined(config)) == {"room": WARNING}


async def test_a_close_that_nobody_has_answered_is_a_problem(
    hub_city: City, street: Street, config: Path
) -> None:
    async with running_tower(config) as tower:
        terms = await keeps(hub_city, street, tower, new_signer())
        await trio.to_thread.run_sync(street.start_close, terms)
        await until(lambda: tower.status()["closing"] == 1 and tower.status()["answered"] == 1)
        await until(lambda: tower.status()["unsettled_ucent"] == 0)
    assert "1 closes are answered" in rows_of(await examined(config))["at risk"]["found"]
    change(config, "UPDATE held SET record=replace(record, '[500, 0]', '[0, 0]')")
    what = f"close of {to_hex(street.id_of(terms))}"
    assert wrong(await examined(config)) == {what: PROBLEM}


async def test_a_tower_that_the_chain_takes_no_answer_of_is_a_problem(
    hub_city: City, config: Path
) -> None:
    address = (await farthing_beside("watchtower", "address", "--config", config, "--json")).json[
        "watchtower"
    ]
    account = type(new_signer().address)(bytes.fromhex(address[2:]))
    await trio.to_thread.run_sync(
        lambda: hub_city.register(account, role=Role.RELAYER, status=MemberStatus.SUSPENDED)
    )
    assert wrong(await examined(config)) == {"membership": PROBLEM}


@pytest.fixture
def nowhere(config: Path, hub_city: City) -> Path:
    """The configuration with an endpoint that is not there."""
    config.write_text(config.read_text().replace(hub_city.rpc_url, "http://127.0.0.1:1"))
    return config


async def test_an_endpoint_that_does_not_answer_is_a_problem(nowhere: Path) -> None:
    assert wrong(await examined(nowhere)) == {
        "chain": PROBLEM,
        "clock and chain": NOT_CHECKED,
        "membership": NOT_CHECKED,
    }


# -- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "verdict"), [(3000, OK), (3640, WARNING), (3660, WARNING), (-2, WARNING)]
)
def test_a_pinned_certificate_that_ends_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, verdict: Verdict
) -> None:
    files = make_certificate(tmp_path, "localhost")
    monkeypatch.setattr(hub_doctor, "datetime", clock_of(days))
    assert check_certificate(*files).verdict is verdict


def test_a_certificate_of_a_ca_that_has_ended_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = Authority(tmp_path).leaf("tower")
    assert check_certificate(leaf.certificate, leaf.key).verdict in (OK, WARNING)
    monkeypatch.setattr(hub_doctor, "datetime", clock_of(100_000))
    found = check_certificate(leaf.certificate, leaf.key)
    assert found.verdict is PROBLEM
    assert "and not now" in found.found


def clock_of(days: int) -> Any:
    """A clock that is so many days ahead."""

    class Clock:
        now: Callable[..., datetime] = staticmethod(
            lambda zone: datetime.now(UTC) + timedelta(days=days)
        )

    return Clock


async def test_a_tower_s_certificate_is_looked_at(hub_city: City, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "localhost")
    config = tower_folder(
        hub_city,
        tmp_path / "tower",
        tls_certificate_file=str(certificate),
        tls_key_file=str(key),
    )
    rows = rows_of(await examined(config))
    assert (rows["certificate"]["verdict"], rows["certificate key"]["verdict"]) == (OK, OK)
    assert "valid to 20" in rows["certificate"]["found"]
