"""Nothing leaves before the sync that covers it, and what only the disk kept is enough to go on.

A hub and a wallet run under strace while payments, withdrawals and a close go back and forth. One
run serves every test here. FARTHING_POWER_CUTS sets how many restarts are tried.
"""

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from farthing.channels.client.keystore import read_password_file
from farthing.channels.client.ledger import COMMITS_IN_LOG_MAX, RECEIVED, SENT
from farthing.channels.client.wallet import Wallet, open_wallet
from farthing.channels.ids import ChannelId
from farthing.devnet.processes import Process
from farthing.node.hub import Hub

from ..agency import Agency
from ..hub_world import FLOW_UCENT, City, running_hub, until
from .disk import Disk, write_image
from .held import missing, read_held
from .trace import Trace
from .traced import STATE
from .traffic import (
    DATABASES,
    FOLDERS,
    PAY_UCENT,
    close_and_join,
    exchange,
    fresh_reading,
    pay,
    traced,
    traced_agency,
    verdicts,
    withdraw,
)
from .verdict import SEED, Image, Judge, Kind, Verdict, killed, powerless, torn

PACKS, RECORDS, PAYMENTS = 60, 5, 150
CUTS = int(os.environ.get("FARTHING_POWER_CUTS", "8"))
TORN_IMAGES = 30
KINDS: list[dict[str, Kind]] = [
    {"hub": powerless, "wallet": powerless},
    {"hub": powerless, "wallet": killed},
    {"hub": killed, "wallet": powerless},
    {"hub": torn, "wallet": torn},
]
"""Both lose their power, or one does while the other is killed."""


@dataclass
class Run:
    """Two traces of the same minutes, and what was found in them."""

    city: City
    hub_port: int
    disks: dict[str, Disk]
    traces: dict[str, Trace]
    verdicts: dict[str, Verdict]
    channel: ChannelId
    """The second one, which stays open."""


@pytest.fixture(scope="module")
def run(strace: str, hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("traced")
    with traced_agency(hub_city, folder) as agency:
        agency.earn(2)
        pay(agency)
        withdraw(agency, 1_000)
        close_and_join(agency)
        exchange(agency, packs=PACKS, records=RECORDS, payments=PAYMENTS)
        for _ in range(COMMITS_IN_LOG_MAX):  # a commit each on both sides: none joins another
            pay(agency)
        withdraw(agency, 2_000)
        (channel,) = [c for c in agency.wallet.ask("channels") if c["phase"] == "live"]
        for process in (agency.wallet, agency.hub):
            process.stop()
    return examined(agency, folder, ChannelId(bytes.fromhex(channel["channel"][2:])))


def examined(agency: Agency, folder: Path, channel: ChannelId) -> Run:
    found = {
        name: verdicts(agency, name, folder / f"image-{name}", torn_images=TORN_IMAGES)
        for name in FOLDERS
    }
    return Run(
        city=agency.city,
        hub_port=agency.hub.ready["port"],
        disks={name: traced(agency, name).disk for name in FOLDERS},
        traces={name: traced(agency, name).traces()[0] for name in FOLDERS},
        verdicts={name: verdict for name, (verdict,) in found.items()},
        channel=channel,
    )


LEAST = {
    "hub": {"Ack": 50, "Update": 30, "ReadingOutcome": PACKS, "Reestablish": 2},
    "wallet": {"Update": PAYMENTS, "Ack": 30, "SubmitReadings": PACKS, "submitted": PACKS},
}
"""Messages that a run must have seen to show anything; group commits make fewer of them."""


@pytest.mark.parametrize("name", FOLDERS)
def test_no_signature_and_no_acknowledgement_precedes_the_sync_that_covers_it(
    run: Run, name: str
) -> None:
    verdict = run.verdicts[name]
    assert verdict.early == []
    counts = verdict.counts()
    assert {kind: n for kind, n in LEAST[name].items() if counts[kind] < n} == {}
    assert (counts["Close"], counts["Withdrawal"], counts["transaction"] >= 1) == (1, 2, True)
    paid = sum(len(s.fields["payments"]) for s in verdict.said if s.kind == "Update")
    assert (
        paid == {"hub": 2 + 2 + PACKS * RECORDS, "wallet": 1 + PAYMENTS + COMMITS_IN_LOG_MAX}[name]
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_bytes_that_no_sync_covers_cannot_spoil_what_one_does(run: Run, name: str) -> None:
    verdict = run.verdicts[name]
    assert verdict.torn == []
    assert verdict.torn_images == TORN_IMAGES


@pytest.mark.parametrize("name", FOLDERS)
def test_the_run_goes_through_the_log_and_the_database_file(run: Run, name: str) -> None:
    """One sync of the file makes it, one ends the process: others move the log while it runs."""
    database = Path(DATABASES[name]).name
    syncs = run.verdicts[name].syncs
    assert syncs[database] > 2
    assert syncs[f"{database}-wal"] > 100
    counts = [n for name, n in syncs.items() if name.endswith(".continuity")]
    assert counts == [1 + 3] * 2  # beside the database, and outside of its folder


# -- starting from what was synced ----------------------------------------------------------------


@dataclass
class Cut:
    """A moment at which the power went, and what both disks held."""

    at: float
    images: dict[str, Image]


def moments(run: Run, count: int) -> list[float]:
    """Moments just before a message leaves, from the second channel's first payment on.

    The last signature on a withdrawal and the last message of all are among them.
    """
    said = [s for verdict in run.verdicts.values() for s in verdict.said]
    begin = min(s.at for s in said if s.kind == "Update" and s.fields["channel"] == run.channel)
    times = sorted({s.at for s in said if s.at >= begin})
    last = times.index(max(s.at for s in said if s.kind == "Withdrawal"))
    dice = random.Random(SEED)  # noqa: S311 - the same each time
    others = sorted(set(range(len(times))) - {last, len(times) - 1})
    chosen = dice.sample(others, count - 2)
    return [times[i] for i in sorted({*chosen, last, len(times) - 1})]


def cuts(run: Run, folder: Path) -> Iterator[Cut]:
    times = moments(run, CUTS)
    found: dict[str, list[Image]] = {}
    for name in FOLDERS:
        judge = Judge(run.disks[name], DATABASES[name], folder)
        kinds = [KINDS[i % len(KINDS)][name] for i in range(len(times))]
        found[name] = judge.images(run.traces[name], times, kinds)
    for index, at in enumerate(times):
        yield Cut(at, {name: images[index] for name, images in found.items()})


def restore(run: Run, cut: Cut, folder: Path) -> dict[str, Path]:
    """Both folders on a real disk; the hub listens where the wallet looks for it."""
    places = {n: write_image(cut.images[n], folder / place) for n, place in FOLDERS.items()}
    config = places["hub"] / "hub.toml"
    text = config.read_text().replace("listen_port = 0", f"listen_port = {run.hub_port}")
    config.write_text(text)
    for place in places.values():  # whoever starts both has one such place for them
        shutil.copytree(place / STATE, folder / STATE, dirs_exist_ok=True)
    return places


async def live(run: Run, hub: Hub, wallet: Wallet) -> None:
    """Wait until the channel is used again and nothing is on its way."""
    await wallet.join(timeout_seconds=20)
    await wallet.wait_queue_empty(timeout_seconds=20)
    drivers = (hub.driver, wallet._driver)
    await until(lambda: all(driver.get(run.channel).sent.quiet for driver in drivers))
    for driver in drivers:
        await driver.wait_durable()


def rows(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql).fetchall()


def check_nothing_is_lost_or_doubled(run: Run, cut: Cut, places: dict[str, Path]) -> None:
    """Everything said before the cut is held, and both ends hold the same, each payment once."""
    held = {name: read_held(places[name], DATABASES[name]) for name in FOLDERS}
    for name, verdict in run.verdicts.items():
        said = [s for s in verdict.said if s.at < cut.at and s.kind != "transaction"]
        assert [lost for s in said if (lost := missing(s, held[name]))] == []
    for payer, payee in (("hub", "wallet"), ("wallet", "hub")):
        sent, received = held[payer].payments_of(SENT), held[payee].payments_of(RECEIVED)
        assert sent == received
        for channel in held[payer].channels:
            payments = {n: row for (c, n), row in sent.items() if c == channel}
            newest = held[payer].lane(channel, SENT)
            assert newest["transferred_ucent"] == sum(row[0] for row in payments.values())
            assert sorted(payments) == list(range(1, newest["nonce"] + 1))
            assert held[payee].lane(channel, RECEIVED) == newest
    check_each_reading_was_paid_once(places)


def check_each_reading_was_paid_once(places: dict[str, Path]) -> None:
    """Over both channels: a reading of the first may be in the queue when the power goes."""
    ledger, hub = (places[n] / DATABASES[n] for n in ("wallet", "hub"))
    ((records,),) = rows(ledger, "SELECT sum(records) FROM submission WHERE answered=1")
    ((paid, receipts),) = rows(
        hub, "SELECT count(*), count(DISTINCT receipt) FROM payment WHERE direction=0"
    )
    assert paid == receipts == records
    assert rows(ledger, "SELECT * FROM submission WHERE answered=0") == []


async def pay_on(run: Run, hub: Hub, wallet: Wallet) -> None:
    """One payment each way counts once."""
    before = hub.driver.get(run.channel)
    await wallet.pay(PAY_UCENT, "parking", timeout_seconds=20)
    await wallet.wait_outcome(await wallet.submit([fresh_reading()]), timeout_seconds=20)
    await live(run, hub, wallet)
    after = hub.driver.get(run.channel)
    received = after.received.total.transferred_ucent - before.received.total.transferred_ucent
    rewarded = after.sent.total.transferred_ucent - before.sent.total.transferred_ucent
    assert (received, rewarded) == (PAY_UCENT, FLOW_UCENT)


@pytest.mark.usefixtures("quick_hub")
async def test_from_what_was_synced_both_go_on_and_nothing_acknowledged_is_lost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0
    for number, cut in enumerate(cuts(run, tmp_path / "scratch")):
        places = restore(run, cut, tmp_path / str(number))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / str(number) / STATE))
        password = read_password_file(places["wallet"] / "password")
        await trio.to_thread.run_sync(
            run.city.mine
        )  # on a view that is too old nothing is accepted
        async with (
            running_hub(places["hub"] / "hub.toml") as hub,
            open_wallet(places["wallet"], password) as wallet,
        ):
            assert not hub.driver.in_doubt
            assert not wallet._driver.in_doubt
            await live(run, hub, wallet)
            check_nothing_is_lost_or_doubled(run, cut, places)
            await pay_on(run, hub, wallet)
            check_nothing_is_lost_or_doubled(run, cut, places)
        tried += 1
    assert tried == CUTS


def test_the_commands_themselves_start_from_what_was_synced(run: Run, tmp_path: Path) -> None:
    *_, cut = cuts(run, tmp_path / "scratch")
    run.city.mine()
    places = restore(run, cut, tmp_path / "again")
    config = str(places["hub"] / "hub.toml")
    hub = Process("hub", ["hub", "serve", "--config", config], tmp_path / "again" / "hub.log")
    arguments = ["wallet", "run", "--folder", str(places["wallet"]), "--json"]
    wallet = Process("wallet", arguments, tmp_path / "again" / "alice.log")
    with ExitStack() as stack:
        for process in (hub, wallet):
            stack.callback(process.stop)
            process.start()
            process.wait_ready()
        wallet.ask("join", timeout_seconds=20)
        wallet.ask("wait_queue_empty", timeout_seconds=20)
        assert "text" not in wallet.ask("pay", amount_ucent=PAY_UCENT, purpose="parking")
    check_nothing_is_lost_or_doubled(run, cut, places)
    for log in ("hub.log", "alice.log"):
        assert "restored" not in (tmp_path / "again" / log).read_text()
