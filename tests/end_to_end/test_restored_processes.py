"""A wallet and a hub killed, put back on an older database, and started again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.channels.state import ACT_AGAIN_SECONDS, OFFER_SECONDS_MAX
from farthing.devnet.processes import Process

from ..agency import (
    Agency,
    copy_database,
    remove_database,
    restore_database,
    running_agency,
)
from ..hub_world import FLOW_UCENT, City


@pytest.fixture(scope="module")
def agency(hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    with running_agency(hub_city, tmp_path_factory.mktemp("agency")) as agency:
        yield agency


def again(process: Process) -> None:
    process.start()
    process.wait_ready()


def is_in_doubt(agency: Agency) -> bool:
    status = agency.ask_wallet("status", "--json").json
    return bool(status["restored"]) and [c["phase"] for c in status["channels"]] == ["restored"]


def test_a_wallet_put_back_before_a_withdrawal_waits_until_it_cannot_contradict_it(
    agency: Agency, tmp_path: Path
) -> None:
    agency.earn(2)
    agency.pass_time(1)
    agency.wallet.stop()
    backup = copy_database(agency.folder.ledger_file, tmp_path / "ledger")
    again(agency.wallet)
    agency.until(agency.is_live)
    agency.pass_time(1)
    agency.ask_wallet("withdraw", "20000")
    agency.wallet.kill()
    restore_database(backup, agency.folder.ledger_file)
    again(agency.wallet)

    agency.until(lambda: is_in_doubt(agency))
    agency.pass_time(1)
    agency.until(lambda: agency.hub_channel()["phase"] == "live")
    for refused in (("withdraw", "1"), ("pay", "1"), ("close", "--timeout", "1")):
        code = 2 if refused[0] == "close" else 1
        assert agency.ask_wallet(*refused, code=code).err
    assert "restored" in agency.ask_wallet("pay", "1", code=1).err
    agency.pass_time(OFFER_SECONDS_MAX - 2)
    assert is_in_doubt(agency)
    agency.pass_time(2 + 1)
    agency.until(agency.is_live)
    assert agency.balance()["in_channel_ucent"] == 2 * FLOW_UCENT - 20_000
    agency.pass_time(1)
    agency.ask_wallet("withdraw", "5000")
    assert agency.tokens() == 25_000
    agency.wallet.stop()
    log = agency.log(agency.wallet)
    assert log.count('"kind": "restored"') == log.count('"kind": "doubt-over"') == 1
    assert f"{OFFER_SECONDS_MAX} s of chain time" in log
    again(agency.wallet)
    agency.until(agency.is_live)


def test_a_wallet_whose_ledger_was_deleted_gets_it_back_from_hub_and_chain(
    agency: Agency,
) -> None:
    agency.earn(1)
    before = agency.channel()
    agency.ask_wallet("pay", "700")
    agency.wallet.kill()
    remove_database(agency.folder.ledger_file)
    again(agency.wallet)
    agency.until(lambda: is_in_doubt(agency))
    agency.pass_time(1)
    agency.pass_time(OFFER_SECONDS_MAX + 1)
    agency.until(lambda: agency.channel()["balance_ucent"] == before["balance_ucent"] - 700)
    after = agency.channel()
    assert (after["channel"], after["sent_ucent"]) == (before["channel"], 700)
    agency.pass_time(1)
    agency.ask_wallet("pay", "300")
    agency.ask_wallet("withdraw", str(before["balance_ucent"] - 1_000))
    assert agency.balance()["in_channel_ucent"] == 0


def test_a_hub_put_back_before_a_withdrawal_says_so_and_pays_nothing_until_it_is_safe(
    agency: Agency, tmp_path: Path
) -> None:
    agency.hub.stop()
    backup = copy_database(agency.hub_database, tmp_path / "hub")
    again(agency.hub)
    agency.until(agency.is_live)
    agency.pass_time(1)
    before = agency.hub_channel()
    agency.ask_hub("withdraw", before["channel"], "1000000")
    agency.until(lambda: agency.hub_channel()["withdrawn_ucent"] == 1_000_000)
    agency.hub.kill()
    assert "the database was restored" not in agency.log(agency.hub)
    restore_database(backup, agency.hub_database)
    again(agency.hub)
    assert "the database was restored" in agency.log(agency.hub)
    assert agency.hub_channel()["phase"] == "restored"
    agency.until(lambda: agency.channel()["phase"] == "live")
    for refused in (("withdraw", before["channel"], "1"), ("close", before["channel"])):
        assert "restored" in agency.ask_hub(*refused, code=1).err
    received = agency.channel()["received_ucent"]
    agency.submit(1)
    agency.pass_time(OFFER_SECONDS_MAX - 2)
    assert agency.hub_channel()["phase"] == "restored"
    assert agency.channel()["received_ucent"] == received
    agency.pass_time(3)
    agency.until(agency.is_live)
    agency.until(lambda: agency.channel()["received_ucent"] == received + FLOW_UCENT)
    available = before["available_ucent"] - 1_000_000 - FLOW_UCENT
    assert agency.hub_channel()["available_ucent"] == available


def test_a_hub_killed_with_a_withdrawal_that_both_signed_brings_it_to_the_chain(
    agency: Agency,
) -> None:
    """The wallet is gone for good: what it was promised comes all the same."""
    agency.pass_time(1)
    before = agency.tokens()
    agency.wallet.stop()
    agency.wallet_dies("before it is submitted", 2_000)
    agency.hub.kill()
    again(agency.hub)
    assert agency.tokens() == before
    agency.city.warp(ACT_AGAIN_SECONDS)
    agency.until(lambda: agency.tokens() == before + 2_000)
    again(agency.wallet)
    agency.until(lambda: agency.balance()["withdrawing_ucent"] == 0)
    assert agency.channel()["withdrawn_ucent"] == agency.tokens() == before + 2_000
