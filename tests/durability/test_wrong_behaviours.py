"""The checks of this folder are able to fail: processes that do it wrong are caught by them."""

import signal
from pathlib import Path

import pytest

from ..agency import Agency
from ..hub_world import City
from .traffic import (
    KILLED,
    SYNC_FAILS,
    pay,
    pay_until_it_ends,
    start,
    submit,
    traced,
    traced_agency,
    verdicts,
    withdraw,
)
from .verdict import Verdict

pytestmark = pytest.mark.usefixtures("strace")


def exchange_a_little(agency: Agency) -> None:
    agency.earn(2)
    for _ in range(5):
        pay(agency)
        submit(agency, 1)
    agency.wallet.ask("wait_queue_empty", timeout_seconds=20)
    withdraw(agency, 1_000)


def caught(verdict: Verdict) -> set[str]:
    """The kinds of messages that left too early."""
    return {line.split(":")[0] for line in verdict.early}


def both_verdicts(agency: Agency, scratch: Path) -> tuple[Verdict, Verdict]:
    """Of the last life of each process."""
    for process in (agency.wallet, agency.hub):
        process.stop()
    hub, wallet = (verdicts(agency, name, scratch)[-1] for name in ("hub", "wallet"))
    return hub, wallet


def test_a_payee_and_a_payer_that_speak_before_the_commit_are_caught(
    hub_city: City, tmp_path: Path
) -> None:
    wrong = {"hub": "acknowledges before the commit", "wallet": "signs before the commit"}
    with traced_agency(hub_city, tmp_path, wrong) as agency:
        exchange_a_little(agency)
        hub, wallet = both_verdicts(agency, tmp_path / "image")
    assert caught(hub) == {"Ack"}
    assert "payment 1 is acknowledged and not held" in hub.early[0]
    assert caught(wallet) == {"Update"}
    assert "payment 1 is signed and not held" in wallet.early[0]


def test_forgotten_offers_and_commits_without_a_sync_are_caught(
    hub_city: City, tmp_path: Path
) -> None:
    wrong = {"hub": "forgets co-signed offers", "wallet": "syncs at checkpoints alone"}
    with traced_agency(hub_city, tmp_path, wrong) as agency:
        exchange_a_little(agency)
        hub, wallet = both_verdicts(agency, tmp_path / "image")
    assert caught(hub) - {"transaction"} == {"Withdrawal"}  # the wallet may be the first to send it
    assert "Withdrawal: our signature on a withdrawal is forgotten" in hub.early
    told = {"Update", "Ack", "SubmitReadings", "submitted", "paid", "Withdrawal"}
    assert caught(wallet) >= told


def test_a_count_that_is_not_synced_and_a_log_that_is_trusted_are_caught(
    hub_city: City, tmp_path: Path
) -> None:
    wrong = {"hub": "leaves the count unsynced", "wallet": KILLED}
    with traced_agency(hub_city, tmp_path, wrong, {"wallet": SYNC_FAILS.format(40)}) as agency:
        agency.earn(2)
        assert pay_until_it_ends(agency) > 5
        assert traced(agency, "wallet").wait_end() == -signal.SIGKILL
        start(agency, "wallet", behaviour="trusts the log of a process whose sync failed")
        exchange_a_little(agency)
        hub, wallet = both_verdicts(agency, tmp_path / "image")
    assert caught(hub) == {"Withdrawal"}
    assert "Withdrawal: 1 offers are counted, [None, None] beside the database" in hub.early
    assert caught(wallet) >= {"Update", "Ack", "SubmitReadings"}
