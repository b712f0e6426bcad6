"""A wallet whose folder is gone is made again: from bundle, hub and chain, or the chain alone."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.state import OFFER_SECONDS_MAX

from ..agency import PATIENCE_SECONDS, Agency, running_agency
from ..hub_world import FLOW_UCENT, PASSWORD, City, Outcome, farthing


@pytest.fixture(scope="module")
def agency(hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    with running_agency(hub_city, tmp_path_factory.mktemp("agency")) as agency:
        yield agency


@pytest.fixture
def password_file(agency: Agency, tmp_path: Path) -> Path:
    return Path(shutil.copy(agency.folder.path / "password", tmp_path / "password"))


def backup(agency: Agency, file: Path, *arguments: str) -> dict[str, Any]:
    return dict(agency.ask_wallet("backup", str(file), *arguments, "--json").json)


def recover(agency: Agency, bundle: Path, password_file: Path, *arguments: object) -> Outcome:
    return farthing(
        *("wallet", "recover", agency.folder.path, "--bundle", bundle),
        *("--password-file", password_file, "--json", *arguments),
    )


def run_again(agency: Agency, password_file: Path) -> None:
    """What the recovery said to do next; the folder has no password file of its own."""
    if not (agency.folder.path / "password").exists():
        shutil.copy(password_file, agency.folder.path / "password")
    agency.wallet.start()
    agency.wallet.wait_ready()


def out_of_doubt(agency: Agency) -> None:
    agency.until(lambda: bool(agency.ask_wallet("status", "--json").json["restored"]))
    agency.until(lambda: agency.hub_channel()["phase"] == "live")
    agency.pass_time(1)
    agency.pass_time(OFFER_SECONDS_MAX + PATIENCE_SECONDS)  # the clock may be ahead of the chain
    agency.until(agency.is_live)


def history(agency: Agency, direction: str) -> list[dict[str, Any]]:
    done = agency.ask_wallet("history", "--direction", direction, "--json")
    return list(done.json)


def settle(agency: Agency) -> None:
    done = farthing("settle", "--config", agency.config)
    assert done.code == 0, done.err


def test_a_wallet_whose_folder_is_gone_goes_on_where_it_was(
    agency: Agency, tmp_path: Path, password_file: Path
) -> None:
    agency.earn(2)
    for _ in range(2):  # one payment
        agency.ask_wallet("pay", "700", "--id", "0x" + "ab" * 16)
    agency.ask_wallet("pay", "50")
    made = backup(agency, tmp_path / "bundle", "--with-keystore")
    assert (made["written"], made["channels"], made["keystore"]) == (True, 1, True)
    sent_before = history(agency, "sent")

    # A payment that the hub makes and the wallet never hears of.
    request = agency.ask_wallet("request", "900", "--purpose", "good deed", "--json").json["id"]
    agency.until(lambda: bool(agency.ask_hub("requests", "--json").json))
    agency.wallet.signal(signal.SIGSTOP)
    agency.ask_hub("answer", request, "--pay")
    assert agency.hub_channel()["unacknowledged"] == 1
    agency.wallet.kill()
    shutil.rmtree(agency.folder.path)

    done = recover(agency, tmp_path / "bundle", password_file)
    assert done.code == 0, done.err
    (row,) = done.json["channels"]
    assert row["found"] == ["bundle", "chain", "hub"]
    assert (row["received_ucent"], row["sent_ucent"]) == (2 * FLOW_UCENT + 900, 750)
    assert (row["received_payments"], row["sent_payments"]) == (3, 2)
    assert f"{2 * FLOW_UCENT + 900} µ¢ of received payments are not on the chain" in row["at_risk"]
    assert recover(agency, tmp_path / "bundle", password_file).code == 1  # it is there now

    run_again(agency, password_file)
    out_of_doubt(agency)
    agency.until(lambda: agency.channel()["received_ucent"] == 2 * FLOW_UCENT + 900)
    agency.until(lambda: agency.hub_channel()["unacknowledged"] == 0)
    agency.pass_time(1)
    agency.ask_wallet("pay", "3")
    agency.earn(1)
    ours, theirs = agency.channel(), agency.hub_channel()
    assert (ours["sent_ucent"], ours["sent_payments"]) == (753, 3)
    assert theirs["received_ucent"] == ours["sent_ucent"]
    assert theirs["rewarded_ucent"] == ours["received_ucent"] == 3 * FLOW_UCENT + 900
    assert len(history(agency, "received")) == 4

    check_receipts(agency, tmp_path, [one["amount_ucent"] for one in sent_before])


def check_receipts(agency: Agency, tmp_path: Path, paid_before: list[int]) -> None:
    """The receipts of what it had paid are gone: it says from where on it has them."""
    told = agency.ask_wallet("history", "--direction", "sent", "--json")
    assert [(one["nonce"], one["amount_ucent"]) for one in told.json] == [(3, 3)]
    assert "2 payments sent" in told.err
    assert "from payment 3 on" in told.err
    out = tmp_path / "alice.jsonl"
    exported = agency.ask_wallet("receipts", "--out", str(out), "--json").json
    assert exported["receipts"] == 5
    (gap,) = exported["gaps"]
    assert (gap["direction"], gap["first_nonce"], gap["missing"]) == ("sent", 3, 2)
    assert "from payment 3 on" in agency.ask_wallet("receipts").err

    # The hub has the others, and with them everything ties out.
    agency.ask_hub("receipts", "--out", str(tmp_path / "hub.jsonl"))
    settle(agency)
    (missed,) = agency.audit(out)
    assert "nonces 1 to 2 is missing" in missed
    assert agency.audit(tmp_path / "hub.jsonl", out) == []
    lines = [json.loads(line) for line in (tmp_path / "hub.jsonl").read_text().splitlines()]
    paid = [one["amount_ucent"] for one in lines if one["payer"] == address(agency)]
    assert paid == [*paid_before, 3]


def address(agency: Agency) -> str:
    return str(agency.ask_wallet("address").out.split()[0])


def test_a_wallet_of_which_only_the_key_is_left_heals_as_well(
    agency: Agency, tmp_path: Path, password_file: Path
) -> None:
    before = agency.channel()
    agency.wallet.kill()
    key = Path(shutil.copy(agency.folder.keystore_file, tmp_path / "keystore.json"))
    settings = agency.folder.settings()
    shutil.rmtree(agency.folder.path)
    shutil.rmtree(agency.folder.path.parent / "state")  # and the machine that ran it
    made = farthing(
        *("wallet", "init", "--folder", agency.folder.path, "--keystore", key, "--json"),
        *("--password-file", password_file, "--hub", settings.hub),
        *("--hub-signer", "0x" + settings.hub_signer.hex()),
        *("--rpc", agency.city.rpc_url, "--deployment", agency.city.deployment_file),
    )
    assert made.code == 0, made.err
    run_again(agency, password_file)
    agency.until(lambda: bool(agency.ask_wallet("channels", "--json").json))
    out_of_doubt(agency)
    agency.until(lambda: agency.channel()["received_ucent"] == before["received_ucent"])
    agency.pass_time(1)
    agency.ask_wallet("pay", "1")
    assert agency.hub_channel()["received_ucent"] == before["sent_ucent"] + 1


def test_a_hub_that_is_gone_leaves_what_the_chain_has_and_a_way_to_close(
    agency: Agency, tmp_path: Path, password_file: Path
) -> None:
    settle(agency)
    agency.earn(1)  # which only the hub knows of after this
    before = agency.channel()
    backup(agency, tmp_path / "bundle", "--with-keystore")
    tokens = agency.tokens()
    agency.wallet.kill()
    agency.hub.kill()
    shutil.rmtree(agency.folder.path)
    done = recover(agency, tmp_path / "bundle", password_file)
    assert done.code == 0, done.err
    assert "cannot be reached" in done.json["hub"]
    (row,) = done.json["channels"]
    assert row["found"] == ["bundle", "chain"]
    settled = before["received_ucent"] - FLOW_UCENT
    assert row["settled_received_ucent"] == settled
    assert row["received_ucent"] is None
    assert f"{settled} µ¢" in row["at_risk"]
    assert "lost if they keep it back" in row["at_risk"]
    shutil.rmtree(agency.folder.path)
    assert recover(agency, tmp_path / "bundle", password_file, "--offline").json["hub"] == (
        "not asked"
    )

    run_again(agency, password_file)
    agency.ask_wallet("close", "--unilateral")
    window = agency.channel()
    agency.city.warp(window["challenge_seconds"] + 1)
    for _ in range(window["challenge_blocks"] + 1):
        agency.city.ask("evm_mine")
    agency.until(lambda: agency.ask_wallet("channels", "--json").json[0]["phase"] == "closing")
    agency.ask_wallet("finish-close")
    assert agency.tokens() == tokens + settled - before["sent_ucent"]
    assert agency.channel()["phase"] == "closed"
    agency.wallet.stop()
    assert PASSWORD not in agency.log(agency.wallet)
