"""The demo as a stranger runs it, and the auditor on the kept folder, honest and tampered."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client.keystore import read_password_file, unlock
from farthing.channels.client.ledger import SENT, Ledger
from farthing.channels.deployment import Deployment
from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.signing import sign_voucher
from farthing.channels.voucher import Payment
from farthing.contracts.members import MemberStatus
from farthing.devnet.accounts import development_signer
from farthing.devnet.processes import Process
from farthing.node.administration import Administrator, Registration, Role
from farthing.node.chain import SettleRow, Web3Chain
from farthing.node.sender import connect

CLI = (sys.executable, "-m", "farthing.cli.main")
RUN_SECONDS_MAX = 400
READINGS = 1_268 + 4 * 509

Line = dict[str, Any]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
    )


@dataclass(frozen=True)
class Kept:
    """A demo that ended: its folder, what it printed, and its chain, running again."""

    folder: Path
    summary: dict[str, Any]
    rpc_url: str

    def lines(self) -> list[Line]:
        return [json.loads(text) for text in self._receipts().splitlines()]

    def _receipts(self) -> str:
        return (self.folder / "receipts.jsonl").read_text()

    def audit(
        self, receipts: Path, *, rpc: str | None = None, deployment: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run(
            *("audit", "check", "--json", "--rpc", rpc or self.rpc_url),
            *("--deployment", str(deployment or self.folder / "deployment.json")),
            *("--receipts", str(receipts)),
        )

    def tampered(self, path: Path, change: Callable[[list[Line]], None]) -> Path:
        lines = self.lines()
        change(lines)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = run("demo", "--json", "--keep", str(folder))
    assert done.returncode == 0, done.stderr
    devnet = Process(
        "devnet", ["devnet", "up", "--port", "0", "--data", str(folder / "chain")], folder / "log"
    )
    devnet.start()
    try:
        yield Kept(
            folder=folder, summary=json.loads(done.stdout), rpc_url=devnet.wait_ready()["rpc"]
        )
    finally:
        devnet.stop()


def test_every_reading_is_rewarded_or_refused_with_a_reason(kept: Kept) -> None:
    summary = kept.summary
    assert summary["readings"] == summary["rewarded"] + summary["refused"] == READINGS
    assert sum(summary["refusals"].values()) == summary["refused"]
    assert summary["uses_paid"] > 0
    assert summary["payments"] > summary["rewarded"]


def test_the_killed_device_lost_nothing_that_it_had_acknowledged(kept: Kept) -> None:
    recovery = kept.summary["killed_and_recovered"]
    assert recovery["kills"] == 1
    assert recovery["in_flight_at_kill"] > 0
    assert 0 < recovery["acknowledged_before"] < recovery["acknowledged_after_restart"]
    assert recovery["lost"] == recovery["double_counted"] == 0


def test_what_was_paid_is_the_sum_of_the_kept_receipts_and_all_of_it_is_settled(
    kept: Kept,
) -> None:
    lines = kept.lines()
    assert kept.summary["paid_ucent"] == sum(line["amount_ucent"] for line in lines)
    assert kept.summary["payments"] == len(lines)
    assert kept.summary["settled_ucent"] == kept.summary["paid_ucent"]
    assert kept.summary["settlement_transactions"] > 1
    assert kept.summary["gas_per_settled_channel"] > 0
    assert kept.summary["channels_closed"] == 2
    assert kept.summary["audit"] == {"ok": True, "difference_ucent": 0}


def test_the_original_times_of_readings_are_in_their_receipts(kept: Kept) -> None:
    originals = {
        line["receipt"]
        for line in kept.lines()
        if b"2022-03-20T11:00:00+01:00".hex() in line["receipt"]
    }
    assert len(originals) == 1


def test_the_kept_folder_ties_out_again(kept: Kept) -> None:
    done = kept.audit(kept.folder / "receipts.jsonl")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["ok"]


def test_a_deleted_receipt_is_named(kept: Kept, tmp_path: Path) -> None:
    victim: Line = {}

    def delete(lines: list[Line]) -> None:
        victim.update(lines.pop(len(lines) // 2))

    done = kept.audit(kept.tampered(tmp_path / "receipts.jsonl", delete))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert _names(report, victim["channel"], str(victim["nonce"]))


def test_a_changed_amount_is_named(kept: Kept, tmp_path: Path) -> None:
    victim: Line = {}

    def change(lines: list[Line]) -> None:
        lines[7]["amount_ucent"] += 1
        victim.update(lines[7])

    done = kept.audit(kept.tampered(tmp_path / "receipts.jsonl", change))
    assert done.returncode == 1
    assert _names(json.loads(done.stdout), victim["channel"], str(victim["nonce"]))


def _names(report: dict[str, Any], *words: str) -> bool:
    return any(all(word in json.dumps(f) for word in words) for f in report["findings"])


def test_another_contract_or_chain_is_inconclusive(kept: Kept, tmp_path: Path) -> None:
    record = json.loads((kept.folder / "deployment.json").read_text())
    record["payment_channels"] = record["city_credit"]
    wrong = tmp_path / "deployment.json"
    wrong.write_text(json.dumps(record))
    receipts = kept.folder / "receipts.jsonl"
    assert kept.audit(receipts, deployment=wrong).returncode == 2
    assert kept.audit(receipts, rpc="http://127.0.0.1:9").returncode == 2


def test_a_payee_removed_from_the_registry_before_its_payments_is_named(
    kept: Kept, tmp_path: Path
) -> None:
    """The demo's own hub, gone bad: it pays and settles for a device that was removed before."""
    deployment = Deployment.from_json((kept.folder / "deployment.json").read_text())
    home = kept.folder / "hub"
    password = read_password_file(home / "password")
    account, signer = (
        unlock(home / "account.json", password),
        unlock(home / "signer.json", password),
    )
    chain = Web3Chain(connect(kept.rpc_url), deployment, signer=account)
    ledger = Ledger(home / "data" / "hub.sqlite")
    try:
        open_ones = [
            c for c in ledger.load_channels() if chain.view(c.id, chain.head()).status == 1
        ]
        channel = open_ones[0]
        *_, last = ledger.payments(channel.id, SENT)
    finally:
        ledger.close()
    registrar = Administrator(connect(kept.rpc_url), deployment, development_signer(0))
    removed = Registration(
        account=channel.peer_account, role=Role.DEVICE, status=MemberStatus.REMOVED
    )
    registrar.set_members([removed])
    head = chain.head()
    fields = {"amount": 5, "block": head.number, "at": head.timestamp, "purpose": "favour"}
    receipt = make_receipt(ReceiptType.USAGE, fields, salt=secrets.token_bytes(32))
    total = last.total.after(Payment(amount_ucent=5, receipt=receipt))
    voucher = sign_voucher(
        deployment.domain().separator(),
        signer,
        channel=channel.id,
        payer=channel.our_account,
        total=total,
    )
    row = SettleRow(
        terms=channel.terms,
        lane=channel.side,
        nonce=total.nonce,
        transferred_ucent=total.transferred_ucent,
        history=total.history,
        conditions=voucher.conditions,
        signature=voucher.signature,
    )
    assert chain.settle([row]).settled == 1
    line = {
        "v": 1,
        "channel": to_hex(channel.id),
        "payer": address_to_hex(channel.our_account),
        "payee": address_to_hex(channel.peer_account),
        "nonce": total.nonce,
        "amount_ucent": 5,
        "type": int(receipt.type),
        "receipt": to_hex(receipt.cbor),
        "salt": to_hex(receipt.salt),
    }
    done = kept.audit(kept.tampered(tmp_path / "receipts.jsonl", lambda lines: lines.append(line)))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert _names(report, address_to_hex(channel.peer_account), str(total.nonce))


def test_rows_of_a_file_of_one_s_own_are_refused_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text(
        "time,water-flow [l/s]\n"
        "2026-01-01T00:00:00Z,1.5\n"
        "2026-01-01T01:00:00Z,much\n"
        "yesterday,2\n"
        "2026-01-01T02:00:00Z,-4\n"
        "2026-01-01T03:00:00Z,2.5\n"
    )
    done = run("demo", "--json", "--devices", "1", "--readings", str(file))
    summary = json.loads(done.stdout)
    assert summary["readings"] == 5
    assert summary["refusals"] == {"malformed-row": 2, "implausible": 1}
    assert "line 3" in done.stderr
    assert "line 4" in done.stderr
    assert done.returncode == 0, done.stdout


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = run("demo", "--keep", str(tmp_path))
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"
