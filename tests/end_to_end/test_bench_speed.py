"""`farthing bench updates` and its neighbours, with a handful of payments: fields and checks.

No time is judged here: what a figure is depends on the machine and on what else runs on it.
"""

import dataclasses
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from farthing.channels.client.ledger import Ledger
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address
from farthing.channels.state import Channel
from farthing.channels.terms import Side
from farthing.cli import bench_speed
from farthing.cli.bench import bench
from farthing.devnet.bench import coalesced, fan_in, latency, memory, peers, peers_others, updates
from farthing.devnet.bench import devnet as devnet_figures
from farthing.devnet.bench.capacity import (
    MEASURED_FILE,
    City,
    ResultsMissing,
    bench_city,
    measured_toml,
    read_measured,
)
from farthing.devnet.bench.checked import FigureVoid, check_killed, check_pair
from farthing.devnet.bench.limits import middle
from farthing.devnet.bench.pair import Orders, Paid, Stand, open_stand, run_pair
from farthing.devnet.bench.peers import PeersMissing, bench_peers, ours_us
from farthing.devnet.bench.pictures import PICTURES, draw, save
from farthing.devnet.bench.report import GOALS, PAGE_NAME, Goal, results_page
from farthing.devnet.bench.settle import bench_settle
from farthing.devnet.bench.sides import profiles
from farthing.devnet.bench.stage import HUB_DATABASE, WALLET_DATABASE, member
from farthing.devnet.bench.summary import histogram, in_order, median_and_spread, percentile
from farthing.devnet.bench.watched import new_profile, profile_rows, profiled

from ..chains import served_devnet

STRANGER = Address(b"\x99" * 20)
PAYMENTS = 6
WARM_UP = 2
WALLETS = 4
ORDERS = Orders(
    payments=PAYMENTS, rounds=1, warm_up=WARM_UP, window=4, each=True, tls=True, profile=True
)
LIMITS = {"sign_us", "verify_us", "recover_us", "keccak_us", "fsync_us", "fdatasync_us"}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with open_stand(tmp_path_factory.mktemp("bench"), quick=True) as stand:
        yield stand


@pytest.fixture(scope="module")
def pair(stand: Stand) -> Path:
    """The folder of a pair that has paid."""
    return stand.sub("pair")


@pytest.fixture(scope="module")
def paid(pair: Path) -> Paid:
    return run_pair(pair, ORDERS)


@pytest.fixture
def copied(pair: Path, paid: Paid, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(pair, tmp_path / "pair"))


def damage(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as db:
        assert db.execute(sql).rowcount == 1
        db.commit()


def test_a_pair_pays_over_tls_and_each_payment_is_signed_verified_and_stored(
    pair: Path, paid: Paid
) -> None:
    whole = PAYMENTS + WARM_UP
    assert paid.payments == paid.payer["acknowledged"] == whole
    assert paid.payee["verifications"] == paid.payee["updates_received"] == whole
    assert paid.payee["payments_stored"] == paid.payer["payments_stored"] == whole
    assert 0 < paid.payee["syncs_at_least"] <= paid.payee["commits"]
    assert paid.rounds[0].per_second > 0
    checked = check_pair(pair, whole)
    assert checked["receipts_replayed"] == checked["payer_receipts_replayed"] == whole
    assert checked["vouchers_verified"] == 1


def test_a_profile_is_of_both_sides_and_of_their_commits(paid: Paid) -> None:
    shown = profiles(paid)
    for side in ("payer_main", "payee_main"):
        assert shown[side][0].keys() >= {"function", "calls", "own_seconds", "own_percent"}
    if sys.version_info < (3, 12):
        commits = {row["function"] for row in shown["payee_commits"]}
        assert commits


def test_a_profile_names_what_ran_while_it_was_on() -> None:
    profile = new_profile(wanted=True)
    ours_us(1)  # before it: what is imported or made once
    with profiled(profile):
        ours_us(200)
    rows = profile_rows(profile)
    signed = next(row for row in rows if "secp256k1_ecdsa_sign_recoverable" in row["function"])
    assert signed["calls"] == 200
    assert [row["own_seconds"] for row in rows] == sorted(
        (row["own_seconds"] for row in rows), reverse=True
    )


@pytest.mark.parametrize(
    ("database", "sql"),
    [
        (HUB_DATABASE, "DELETE FROM payment WHERE nonce=3"),
        (HUB_DATABASE, "DELETE FROM payment WHERE nonce=8"),
        (HUB_DATABASE, "UPDATE payment SET salt=zeroblob(32) WHERE nonce=2"),
        (WALLET_DATABASE, "UPDATE payment SET receipt=x'a0' WHERE nonce=1"),
        (WALLET_DATABASE, "DELETE FROM payment WHERE nonce=8"),
    ],
)
def test_a_run_that_lost_or_changed_a_receipt_has_no_figure(
    copied: Path, database: str, sql: str
) -> None:
    damage(copied / database, sql)
    with pytest.raises(FigureVoid):
        check_pair(copied, PAYMENTS + WARM_UP)


def test_a_pair_that_was_killed_may_not_lack_what_was_acknowledged(copied: Path) -> None:
    whole = PAYMENTS + WARM_UP
    assert check_killed(copied, whole)["held_by_payee"] == whole
    with pytest.raises(FigureVoid, match="payments held by the payee"):
        check_killed(copied, whole + 1)


def test_a_voucher_of_another_signer_has_no_figure(copied: Path) -> None:
    with closing(Ledger(copied / HUB_DATABASE)) as ledger:
        (channel,) = ledger.load_channels()
        voucher = channel.received.voucher
        assert voucher is not None
        forged = dataclasses.replace(voucher, signature=bytes(31) + b"\1" * 33 + b"\x1b")
        lane = dataclasses.replace(channel.received, voucher=forged)
        changed: Channel = dataclasses.replace(channel, received=lane)
        ledger.commit([changed], (), ())
    with pytest.raises(Exception, match="signature"):
        check_pair(copied, PAYMENTS + WARM_UP)


# -- what is printed ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(stand: Stand, pair: Path, paid: Paid) -> dict[str, dict[str, Any]]:
    """A result of each benchmark, of very little."""
    checked = check_pair(pair, paid.payments)
    by_name = {"plain": paid, "tls": paid, "shipped": paid}
    return {
        "updates": {**updates._record(stand, ORDERS, by_name), **stand.record()},
        "coalesced": coalesced._record(stand, (paid, paid, paid), checked),
        "latency": latency._record(stand, 1_000, (paid, paid, paid), checked),
        "memory": memory._result(stand, *_crowds(stand)),
        "fan-in": fan_in._record(stand, WALLETS, fan_in._crowded(stand, "crowd", (WALLETS, 2, 1))),
        "settle": bench_settle(sizes=(1, 3), rows=2),
        "devnet": devnet_figures.bench_devnet(starts=1, blocks=3, batches=2, rows=2),
        "peers": peers._record(stand, {name: [1.0, 9.0, 2.0] for name in _PEERS}, ({}, {})),
    }


_PEERS = (
    "ours",
    "eth_account",
    "x402",
    "eth_account_without_coincurve",
    "x402_without_coincurve",
)


def _crowds(stand: Stand) -> tuple[dict[str, Any], dict[str, Any]]:
    crowd = memory._crowded(stand, "many", WALLETS, 0.01, empty_kib=1)
    return crowd, crowd


FIELDS = {
    "updates": {"ratio", "ratio_by_cpu", "updates_per_second", "store", "plain", "tls"},
    "coalesced": {"payments_per_second", "p99_ms", "receipt_bytes", "checked"},
    "latency": {"p50_ms", "p99_ms", "histogram", "offered_per_second"},
    "fan-in": {"ratio", "updates_per_second", "hub_cpu_us", "generator_cpu_us", "workers"},
    "memory": {"kib_per_connection", "kernel_kib_per_connection", "storm_seconds", "tls"},
    "settle": {"gas_per_channel", "calldata_bytes_per_channel", "rows"},
    "devnet": {"start_seconds", "logs_ms", "openings_per_second", "conditions"},
    "peers": {"ours_vs_eth_account", "ours_vs_x402", "ours_us"},
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_result_has_its_fields_the_limits_and_the_machine(
    results: dict[str, dict[str, Any]], name: str
) -> None:
    result = results[name]
    assert result["benchmark"] == name
    assert FIELDS[name] | {"limits", "machine"} <= result.keys()
    assert result["limits"].keys() >= LIMITS
    assert all(value > 0 for value in result["limits"].values())
    assert result["machine"]["packages"]["coincurve"][0].isdigit()
    json.dumps(result)


@pytest.mark.parametrize("name", PICTURES)
def test_each_result_is_drawn(
    results: dict[str, dict[str, Any]], name: str, tmp_path: Path
) -> None:
    record, picture = save(results[name], tmp_path)
    assert json.loads(record.read_text())["benchmark"] == name
    texts = [node.text for node in ET.parse(picture).getroot().iter() if node.text]  # noqa: S314 - our own
    assert any("cores of" in text for text in texts)
    assert draw(results[name]) == picture.read_text()


def test_wallets_come_back_after_a_restart_and_lose_nothing(
    results: dict[str, dict[str, Any]],
) -> None:
    result = results["memory"]
    assert (result["connections"], result["disconnected"]) == (WALLETS, 0)
    assert result["checked"]["payments"] == 2 * WALLETS
    assert result["kib_per_connection"] > result["kib_per_channel"] > 0


def test_each_wallet_of_a_crowd_is_verified_and_replayed(
    results: dict[str, dict[str, Any]],
) -> None:
    checked = results["fan-in"]["plain"]["checked"]
    assert checked == {
        "channels": WALLETS,
        "payments": 3 * WALLETS,
        "receipts_replayed": 3 * WALLETS,
        "vouchers_verified": WALLETS,
    }


def test_settling_takes_as_many_transactions_as_the_rows_need(
    results: dict[str, dict[str, Any]],
) -> None:
    assert [row["transactions"] for row in results["settle"]["rows"]] == [1, 2]
    assert all(row["gas"] > 15_000 * row["channels"] for row in results["settle"]["rows"])


def test_a_devnet_is_started_searched_and_filled_with_channels(
    results: dict[str, dict[str, Any]],
) -> None:
    result = results["devnet"]
    assert (result["blocks_asked_for"], result["channels_opened"]) == (3, 4)
    assert all(result["plain"][name]["min"] > 0 for name in FIELDS["devnet"] - {"conditions"})


def test_logs_and_channels_that_are_missing_have_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_devnet() as url:
        city = devnet_figures._City(url, os.getpid(), tmp_path / "deployment.json", 1)
        approve = keccak256(b"approve(address,uint256)")[:4]
        monkeypatch.setattr(devnet_figures, "TRANSFER_CALL", approve)
        with pytest.raises(FigureVoid, match="blocks and amounts of the logs"):
            city.find_logs(1)
        monkeypatch.setattr(devnet_figures, "_wallet", lambda _: (STRANGER, STRANGER))
        with pytest.raises(FigureVoid, match="different channels"):
            city.open_channels(1)


def test_the_command_prints_a_result_and_saves_it(
    results: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "bench_latency", lambda **_: results["latency"])
    arguments = ["latency", "--save", str(tmp_path)]
    ran = CliRunner().invoke(bench, [*arguments, "--json"])
    assert json.loads(ran.stdout) == results["latency"]
    assert (tmp_path / "latency.svg").exists()
    shown = CliRunner().invoke(bench, arguments).stdout
    assert "p99_ms" in shown
    assert "limits.verify_us" in shown
    assert "histogram" not in shown


def test_a_figure_that_is_void_ends_the_command_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(**_: object) -> None:
        raise FigureVoid("stored receipts", 1, 2)

    monkeypatch.setattr(updates, "bench_updates", lost)
    ran = CliRunner().invoke(bench, ["updates", "--json"])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["error"]["code"] == "figure-void"


# -- peers --------------------------------------------------------------------------------------


def test_an_environment_without_the_others_is_refused() -> None:
    with pytest.raises(PeersMissing):
        bench_peers(count=1, rounds=1, environment=Path(sys.executable))


def test_ours_and_eth_account_sign_the_same_kind_of_voucher() -> None:
    assert ours_us(2) > 0
    peers_others.eth_account_work()(0)
    names = [field["name"] for field in peers_others.TYPES["Voucher"]]
    assert names == ["channel", "payer", "nonce", "transferred", "history", "conditions"]


# -- the city -----------------------------------------------------------------------------------


def test_a_city_is_computed_and_each_row_says_what_it_rests_on() -> None:
    ran = CliRunner().invoke(bench, ["city", "--devices", "1000000", "--json"])
    answer = json.loads(ran.stdout)
    rows = {row["name"]: row for row in answer["rows"]}
    assert {row["basis"] for row in answer["rows"]} == {"measured", "assumed", "extrapolated"}
    assert answer["hubs"] >= 100  # 10,000 wallets each
    assert rows["payments"]["value"] == pytest.approx(1_000_000 * 96 / 86_400 * 3, rel=1e-3)
    table = CliRunner().invoke(bench, ["city", "--devices", "1000"]).stdout
    assert "settle_blocks" in table


def test_twice_the_devices_need_twice_the_gas_and_disk() -> None:
    one, two = (
        {row["name"]: row["value"] for row in bench_city(City(devices=n))["rows"]}
        for n in (100_000, 200_000)
    )
    for name in ("settle_gas", "disk_of_all_hubs", "payments"):
        assert two[name] == pytest.approx(2 * one[name], rel=1e-3)


def test_a_city_is_computed_from_a_folder_of_results(
    results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(ResultsMissing):
        bench_city(City(devices=1), tmp_path)
    for result in results.values():
        save(result, tmp_path)
    read = read_measured(tmp_path)
    assert read.hub_cpu_us_per_update == results["fan-in"]["hub_cpu_us"]["median"]
    assert bench_city(City(devices=1), tmp_path)["hubs"] == 1


def test_the_page_of_results_is_written_from_the_results() -> None:
    folder = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
    page = (folder / PAGE_NAME).read_text()
    assert page == results_page(folder)
    for goal in GOALS:
        assert f"| {goal.benchmark} | `{goal.field}` |" in page


def test_a_goal_says_whether_it_is_reached(
    results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    memory = Goal(benchmark="memory", field="kib_per_connection", wanted=24, at_least=False)
    assert (memory.is_reached(24), memory.is_reached(24.1)) == (True, False)
    ratio = Goal(benchmark="updates", field="ratio", wanted=0.7, at_least=True)
    assert (ratio.is_reached(0.7), ratio.is_reached(0.69)) == (True, False)
    save({**results["updates"], "ratio": 0.69}, tmp_path)
    page = results_page(tmp_path)
    assert "| updates | `ratio` | ≥ 0.7 | 0.69 | **no** |" in page
    assert "coalesced" not in page


def test_the_models_figures_are_those_of_the_documentation() -> None:
    folder = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
    assert MEASURED_FILE.read_text() == measured_toml(read_measured(folder))


# -- figures ------------------------------------------------------------------------------------


def test_a_percentile_counts_each_value_as_often_as_it_was_there() -> None:
    weighted = [(1.0, 98), (50.0, 1), (9.0, 1)]
    assert percentile(weighted, 50) == 1.0
    assert percentile(weighted, 99) == 9.0
    assert percentile(weighted, 100) == 50.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_a_histogram_leaves_no_value_out_and_stands_in_order() -> None:
    bars = histogram([(2000.0, 3), (0.1, 2), (0.25, 1), (0.26, 4)])
    assert bars == [
        {"ms": "<= 0.25", "count": 3},
        {"ms": "<= 0.5", "count": 4},
        {"ms": "> 1000", "count": 3},
    ]
    assert in_order(["> 1000", "<= 16", "<= 0.5"]) == ["<= 0.5", "<= 16", "> 1000"]


def test_a_median_comes_with_its_spread_and_limits_with_their_middle() -> None:
    found = median_and_spread([3.0, 1.0, 2.0])
    assert (found["median"], found["min"], found["max"]) == (2.0, 1.0, 3.0)
    assert middle([{"sign_us": 3.0}, {"sign_us": 1.0}, {"sign_us": 2.0}]) == {"sign_us": 2.0}


def test_each_wallet_has_a_channel_of_its_own() -> None:
    assert len({member(number).channel(Side.A).id for number in range(20)}) == 20
    assert {command.name for command in bench_speed.COMMANDS} >= FIELDS.keys()
