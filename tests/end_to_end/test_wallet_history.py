"""`farthing wallet history` beside a running wallet, and after it: real payments, both ways."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.control import serve_control
from farthing.channels.client.history import COLUMNS
from farthing.channels.client.service import Service
from farthing.channels.client.wallet import Wallet
from farthing.cli.wallet import CHANNEL_COLUMNS
from farthing.cli.wallet_payments import REQUEST_COLUMNS

from .small_city import PRICE_UCENT, SmallCity, earn, make_folder, until
from .test_wallet_command import Running, run_now

PARKING_UCENT = 12_000


def amounts(rows: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return sorted((row["direction"], row["amount_ucent"], row["state"]) for row in rows)


async def busy(running: Running, wallet: Wallet) -> None:
    """Two rewards, a request that is paid, and a payment for parking."""
    await earn(wallet, records=2)
    await running.json("request", "0.005c", "--purpose", "refund")
    await until(wallet, lambda: wallet.balance().in_channel_ucent == 2 * PRICE_UCENT + 5_000)
    await running.json("pay", str(PARKING_UCENT), "--purpose", "parking", "--timeout", "10")


async def same_in_every_form(running: Running) -> None:
    """Channels and requests have the same values as a table, as JSON and as CSV."""
    for what, columns in (("channels", CHANNEL_COLUMNS), ("requests", REQUEST_COLUMNS)):
        records = await running.json(what)
        written = list(csv.DictReader(io.StringIO((await running.run(what, "--csv")).output)))
        assert [tuple(row) for row in written] == [columns] * len(records)
        assert [row["channel"] for row in written] == [row["channel"] for row in records]
        assert set(columns) <= set(records[0])
        table = (await running.run(what)).output.splitlines()
        assert len(table) == 1 + len(records)
        assert records[0]["channel"] in table[1]


async def test_history_is_the_same_beside_a_running_wallet_and_after_it(city: SmallCity) -> None:
    async with city.wallet() as wallet, trio.open_nursery() as nursery:
        await nursery.start(serve_control, wallet.folder.control_file, Service(wallet).methods())
        running = Running(city=city, wallet=wallet)
        await busy(running, wallet)
        online = await running.json("history")
        await same_in_every_form(running)
        nursery.cancel_scope.cancel()
    assert amounts(online) == sorted(
        [
            ("received", PRICE_UCENT, "acknowledged"),
            ("received", PRICE_UCENT, "acknowledged"),
            ("received", 5_000, "acknowledged"),
            ("sent", PARKING_UCENT, "acknowledged"),
        ]
    )
    by_type = {row["type"]: row for row in online}
    assert by_type["usage"]["purpose"] == "parking"
    assert by_type["reward"]["quantity"] == "flow"
    assert by_type["reward"]["taken"] == 1_700_000_000
    assert by_type["request"]["request"].startswith("0x")
    assert by_type["request"]["transferred_ucent"] == 2 * PRICE_UCENT + 5_000
    folder = ("--folder", str(city.folder))
    assert run_now("history", *folder, "--json").record == online
    table = run_now("history", *folder)
    assert len(table.output.splitlines()) == 5
    assert "2023-11-14 22:13:20" in table.output  # when the readings were taken
    assert table.error == ""
    rows = list(csv.DictReader(io.StringIO(run_now("history", *folder, "--csv").output)))
    assert [tuple(row) for row in rows] == [COLUMNS] * 4
    assert [row["reference"] for row in rows] == [row["reference"] for row in online]
    sent = run_now("history", *folder, "--direction", "sent", "--json").record
    assert [row["amount_ucent"] for row in sent] == [PARKING_UCENT]
    newest = run_now("history", *folder, "--last", "1")
    assert "the newest 1 of 4" in newest.error
    channel = online[0]["channel"]
    assert run_now("history", *folder, "--channel", channel, "--json").record == online
    unknown = run_now("history", *folder, "--channel", "0x" + "00" * 32, "--json")
    assert (unknown.code, unknown.record["error"]["code"]) == (1, "unknown-channel")


async def test_a_payment_is_pending_then_settled(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet, trio.open_nursery() as nursery:
        await nursery.start(serve_control, wallet.folder.control_file, Service(wallet).methods())
        running = Running(city=city, wallet=wallet)
        await earn(wallet, records=1)
        with monkeypatch.context() as deaf:
            deaf.setattr(city.hub.driver, "receive", lambda events: None)
            await running.json("pay", "100", "--timeout", "0.1", code=2)
            assert amounts(await running.json("history")) == [
                ("received", PRICE_UCENT, "acknowledged"),
                ("sent", 100, "pending"),
            ]
        await city.hub.cut()  # the hub hears again, and the wallet resends what it signed
        await until(wallet, lambda: not wallet.balance().sent_unacknowledged_ucent)
        assert ("sent", 100, "acknowledged") in amounts(await running.json("history"))
        await running.json("close", "--timeout", "20")
        assert amounts(await running.json("history")) == [
            ("received", PRICE_UCENT, "settled"),
            ("sent", 100, "settled"),
        ]
        nursery.cancel_scope.cancel()


def test_a_wallet_that_never_ran_has_an_empty_history(tmp_path: Path) -> None:
    folder = ("--folder", str(make_folder(tmp_path / "alice", port=1).path))
    assert run_now("history", *folder, "--json").record == []
    assert run_now("history", *folder).output == "none\n"
    assert run_now("history", *folder, "--csv").output.startswith("at,direction,")
