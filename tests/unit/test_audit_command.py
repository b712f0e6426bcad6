"""The auditor's command: its help, its exit codes and what it prints when it cannot tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from farthing.channels.deployment import Deployment
from farthing.channels.ids import Address
from farthing.cli.audit import audit

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    record = Deployment(
        chain_id=5,
        genesis_hash=bytes(32),
        block=3,
        city_credit=Address(b"\xc1" * 20),
        member_registry=Address(b"\xc2" * 20),
        payment_channels=Address(b"\xc3" * 20),
        deployment=bytes(32),
    )
    path = tmp_path / "deployment.json"
    path.write_text(record.to_json())
    return path


def _check(deployment: Path, *more: str) -> tuple[int, str]:
    arguments = ["check", "--rpc", NOWHERE, "--deployment", str(deployment), *more]
    result = CliRunner().invoke(audit, arguments)
    return result.exit_code, result.stdout


def test_an_unreachable_endpoint_is_one_line_that_says_what_to_do(deployment: Path) -> None:
    code, output = _check(deployment, "--receipts", "hub.jsonl")
    assert code == 2
    assert output.count("\n") == 1
    assert output.startswith(f"inconclusive rpc-unreachable: no answer from {NOWHERE}")
    assert "check --rpc" in output


def test_the_same_as_json_has_the_keys_of_a_conclusion_left_empty(deployment: Path) -> None:
    code, output = _check(deployment, "--receipts", "hub.jsonl", "--json")
    record = json.loads(output)
    assert code == 2
    assert record["ok"] is False
    assert record["inconclusive"] is True
    assert record["reason"] == "rpc-unreachable"
    assert record["difference_ucent"] is None
    assert record["findings"] == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "unreadable-file"),
        (b"\xff", "unreadable-file"),
        (b"{", "malformed-deployment"),
        (b"{}", "malformed-deployment"),
    ],
)
def test_a_deployment_record_that_cannot_be_read_is_inconclusive(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    code, output = _check(path, "--receipts", "hub.jsonl", "--json")
    assert code == 2
    assert json.loads(output)["reason"] == reason


def test_a_deployment_record_with_a_wrong_address_is_inconclusive(deployment: Path) -> None:
    record = json.loads(deployment.read_text()) | {"city_credit": "0x12"}
    deployment.write_text(json.dumps(record))
    code, output = _check(deployment, "--receipts", "hub.jsonl")
    assert code == 2
    assert "0x12" in output


def test_the_help_shows_an_example_and_the_exit_codes_without_an_http_client() -> None:
    script = (
        "import sys\n"
        "from farthing.cli.audit import audit\n"
        "audit(['check', '--help'], standalone_mode=False)\n"
        "assert 'httpx' not in sys.modules and 'web3' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "farthing audit check --rpc http" in done.stdout
    assert "Exit codes: 0 it ties out, 1 it differs" in done.stdout


def test_the_audit_imports_nothing_of_the_hub() -> None:
    script = (
        "import sys\n"
        "import farthing.node.audit.audit\n"
        "ours = {name for name in sys.modules if name.startswith('farthing.node.')}\n"
        "assert all(name.startswith('farthing.node.audit') for name in ours), ours\n"
        "assert 'web3' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
