"""Databases that older software wrote are opened by today's, say the same, and go on."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client import connection, follower
from farthing.channels.client.folder import Folder
from farthing.channels.client.ledger import RECEIVED, SCHEMA_VERSION, SENT, Ledger, LedgerUnusable
from farthing.channels.client.offline import read_folder
from farthing.channels.client.records import channel_to_record
from farthing.channels.client.schema import SCHEMA
from farthing.channels.client.submissions import Submissions
from farthing.channels.ids import Address, bytes_from_hex, to_hex
from farthing.node.store import HubStore

from ..end_to_end.small_city import SmallCity, open_city, until
from ..hub_world import rewarded_times

DATABASES = Path(__file__).parent / "databases"
OLDER = [1, 2, 3]
"""Every version there was before today's, and today's own."""


def place(name: str, path: Path) -> Path:
    """Make the database of a dump, and beside it the count that stood beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.executescript((DATABASES / f"{name}.sql").read_text())
    settings = dict(database.execute("SELECT key, value FROM setting"))
    database.close()
    if "database" in settings:
        marker = {"database": settings["database"], "offers": int(settings["offers"])}
        path.with_name(path.name + ".continuity").write_text(json.dumps(marker))
    return path


def said(name: str) -> dict[str, Any]:
    """What the software that wrote it said of it."""
    return dict(json.loads((DATABASES / f"{name}.json").read_text()))


def check_channels(ledger: Ledger, expected: dict[str, Any]) -> None:
    channels = ledger.load_channels()
    assert len(channels) == len(expected["channels"]) > 0
    for channel, old in zip(channels, expected["channels"], strict=True):
        new = json.loads(json.dumps(channel_to_record(channel)))
        assert {key: new[key] for key in old} == old
        added = {key: value for key, value in new.items() if key not in old}
        since = {"withdrawals": [None, None], "untold_from": None}
        assert added == {key: since[key] for key in added}
    unacknowledged = [[total.nonce for total in c.sent.unacknowledged] for c in channels]
    assert unacknowledged == expected["unacknowledged"]
    lanes = {
        f"{to_hex(channel.id)} {name}": [
            [
                stored.total.nonce,
                stored.payment.amount_ucent,
                stored.total.transferred_ucent,
                to_hex(stored.total.history),
            ]
            for stored in ledger.payments(channel.id, direction)
        ]
        for channel in channels
        for direction, name in ((SENT, "sent"), (RECEIVED, "received"))
    }
    assert lanes == expected["lanes"]


def test_every_version_has_its_databases() -> None:
    assert [1, *range(2, SCHEMA_VERSION + 1)] == OLDER
    for version in OLDER:
        for name in ("wallet", "hub", "peer"):
            text = (DATABASES / f"{name}-{version}.sql").read_text()
            assert f"PRAGMA user_version={version};" in text


@pytest.mark.parametrize("version", OLDER)
def test_a_wallet_s_database_says_the_same(tmp_path: Path, version: int) -> None:
    path = place(f"wallet-{version}", tmp_path / "ledger.sqlite")
    expected = said(f"wallet-{version}")
    for _ in range(2):  # the first time it is brought forward, then it is one of today's
        ledger = Ledger(path, schema=SCHEMA)
        check_channels(ledger, expected)
        assert ledger.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        asks = ledger.query("SELECT id, amount_ucent, purpose, state, nonce FROM request")
        assert [[to_hex(i), int(a), p, s, n] for i, a, p, s, n in asks] == expected["requests"]
        for submission, outcomes in expected["outcomes"].items():
            rows = Submissions.outcome(_reading(ledger), bytes_from_hex(submission, 16, what="id"))
            assert [[o.amount_ucent, o.nonce] for o in rows.outcomes or ()] == outcomes
        ledger.close()


def _reading(ledger: Ledger) -> Submissions:
    """Submissions of a ledger that no wallet runs."""
    submissions = object.__new__(Submissions)
    submissions._ledger = ledger
    submissions._waiting = {}
    return submissions


@pytest.mark.parametrize("version", OLDER)
def test_a_hub_s_database_says_the_same(tmp_path: Path, version: int) -> None:
    path = place(f"hub-{version}", tmp_path / "hub.sqlite")
    expected = said(f"hub-{version}")
    for _ in range(2):
        store = HubStore(path)
        check_channels(store.ledger, expected)
        assert store.ledger.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        for (signer, submission), outcomes in zip(
            expected["submissions"], expected["outcomes"], strict=True
        ):
            found = store.outcomes(
                Address(bytes.fromhex(signer[2:])), bytes.fromhex(submission[2:])
            )
            assert [[o.amount_ucent, o.nonce, o.code] for o in found or ()] == outcomes
        account = Address(bytes.fromhex(expected["account"][2:]))
        assert store.spent_ucent("test-block") == expected["spent"]
        rewarded = rewarded_times(store, account)
        assert [str(taken) for taken in rewarded] == expected["rewarded"] != []
        assert store.settlements() == expected["settlements"] != []
        assert sorted(to_hex(member.account) for member in store.members()) == expected["members"]
        cursor = store.cursor()
        assert cursor is not None
        assert [cursor[0], to_hex(cursor[1])] == expected["cursor"]
        store.ledger.close()


@asynccontextmanager
async def old_city(tmp_path: Path, version: int) -> AsyncIterator[SmallCity]:
    """The chain as it was, and wallet and hub on the databases that the old software left."""
    place(f"peer-{version}", tmp_path / "hub.sqlite")
    async with open_city(tmp_path) as city:
        folder = Folder(path=city.folder)
        place(f"wallet-{version}", folder.ledger_file)
        with read_folder(folder) as view:
            (row,) = view.channels()
        (channel,) = city.chain.channels
        assert to_hex(channel) == row["channel"]
        city.chain.mine(blocks=1000)
        city.chain._change(channel, withdrawn_ucent=(0, row["withdrawn_ucent"]))
        city.hub.hold(channel)
        yield city


@pytest.mark.parametrize("version", OLDER)
async def test_both_sides_go_on_where_the_old_software_stopped(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((follower, "POLL_SECONDS_MIN"), (connection, "BACKOFF_SECONDS_MIN")):
        monkeypatch.setattr(module, name, 0.01)
    (lane,) = (v for k, v in said(f"wallet-{version}")["lanes"].items() if k.endswith("sent"))
    newest, _, sent_ucent, _ = lane[-1]
    async with old_city(tmp_path, version) as city:
        async with city.wallet() as wallet:
            assert not wallet.status()["restored"]
            await wallet.join(timeout_seconds=10)
            # What was unacknowledged is sent again, and the next payment has the next number.
            await until(wallet, lambda: wallet.balance().sent_unacknowledged_ucent == 0)
            paid = await wallet.pay(13, "parking", timeout_seconds=10)
            assert (paid.nonce, paid.acknowledged) == (newest + 1, True)
            city.hub.pay(17)
            before = wallet.channels()[0].received.total.nonce
            await until(wallet, lambda: wallet.channels()[0].received.total.nonce == before + 1)
        (held,) = city.hub.driver.channels.values()
        assert held.received.total.transferred_ucent == sent_ucent + 13


def test_a_database_of_newer_software_is_refused_by_wallet_and_hub(tmp_path: Path) -> None:
    for name, opened in (("wallet", Ledger), ("hub", HubStore)):
        path = place(f"{name}-{SCHEMA_VERSION}", tmp_path / name)
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        database.close()
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match="use the newer software"):
            opened(path)
        assert path.read_bytes() == before
