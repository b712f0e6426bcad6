"""A folder that was copied, and two processes that run both: both are told, no payment is lost."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client.folder import Folder
from farthing.devnet.processes import Process

from ..agency import Agency, running_agency
from ..hub_world import FLOW_UCENT, City, farthing


@pytest.fixture
def agency(hub_city: City, tmp_path: Path) -> Iterator[Agency]:
    with running_agency(hub_city, tmp_path / "agency") as agency:
        yield agency


@pytest.fixture
def copy(agency: Agency) -> Iterator[Agency]:
    """The same wallet from a copied folder, running beside the first."""
    agency.earn(2)
    agency.wallet.stop()
    path = agency.folder.path.with_name("copy")
    shutil.copytree(agency.folder.path, path)
    agency.wallet.start()
    agency.wallet.wait_ready()
    agency.until(agency.is_live)
    command = ["wallet", "run", "--folder", str(path), "--json"]
    second = Process("copy", command, path.with_name("copy.log"))
    second.start()
    second.wait_ready()
    yield replace(agency, folder=Folder(path=path), wallet=second)
    second.stop()


def status(agency: Agency) -> dict[str, Any]:
    return dict(agency.ask_wallet("status", "--json").json)


def knows_its_twin(agency: Agency) -> bool:
    return status(agency)["running_twice"] is not None


def test_two_processes_of_one_wallet_are_both_told_and_the_channel_stays_consistent(
    agency: Agency, copy: Agency, tmp_path: Path
) -> None:
    # The newest connection wins, and the first process is told at once.
    agency.until(lambda: knows_its_twin(agency))
    copy.ask_wallet("join", "--timeout", "20")  # and has read the chain
    assert "another process uses this wallet's key" in status(agency)["hub"]["trouble"]
    copy.ask_wallet("pay", "700")
    assert agency.ask_wallet("pay", "700", code=1).err

    # It comes back: now the other is told, and it is itself shown a payment that it never made.
    agency.until(lambda: knows_its_twin(copy))
    agency.until(lambda: agency.channel()["stopped"] is not None)
    assert "never made" in agency.channel()["stopped"]
    listed = agency.ask_hub("status", "--json").json
    assert listed["running_twice"] == [status(agency)["wallet"]]
    assert listed["stopped"] == []
    assert agency.log(agency.hub).count("two processes use the key") == 1

    # The one whose state is the newest goes on once it is alone; the fork stays stopped.
    agency.wallet.stop()
    copy.wallet.stop()
    copy.wallet.start()
    copy.wallet.wait_ready()
    copy.ask_wallet("join", "--timeout", "20")
    copy.ask_wallet("pay", "50")
    copy.earn(1)
    ours, theirs = copy.channel(), copy.hub_channel()
    assert ours["sent_ucent"] == theirs["received_ucent"] == 750
    assert ours["received_ucent"] == theirs["rewarded_ucent"] == 3 * FLOW_UCENT
    agency.wallet.start()
    agency.wallet.wait_ready()
    assert agency.channel()["stopped"] is not None
    agency.wallet.stop()

    # No payment is lost or counted twice.
    receipts = [tmp_path / "copy.jsonl", tmp_path / "hub.jsonl"]
    copy.ask_wallet("receipts", "--out", str(receipts[0]))
    copy.ask_hub("receipts", "--out", str(receipts[1]))
    assert sorted(receipts[0].read_text().splitlines()) == sorted(
        receipts[1].read_text().splitlines()
    )
    assert farthing("settle", "--config", agency.config).code == 0
    assert copy.audit(*receipts) == []
    log = agency.log(agency.wallet) + agency.log(copy.wallet)
    assert log.count('"kind": "running-twice"') >= 2
