"""`farthing deploy` and `farthing audit contract` as somebody types them."""

import json
from pathlib import Path

import pytest

from farthing.devnet.accounts import dev_accounts

from ..hub_world import farthing

_, GOVERNANCE, MALLORY = (account.checksum_address for account in dev_accounts(3))


@pytest.fixture
def rpc_url(own_chain: str) -> str:
    return own_chain


def test_a_governance_is_the_registrar_and_the_deployer_is_nobody(
    rpc_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "deployment.json"
    chain = ["--rpc", rpc_url, "--deployment", out]
    command = ["deploy", "--rpc", rpc_url, "--dev-account", "0", "--out", out]
    done = farthing(*command, "--governance", GOVERNANCE)
    assert done.code == 0
    assert [line.split()[0] for line in done.err.splitlines()] == [
        "note:",
        "member_registry",
        "city_credit",
        "payment_channels",
    ]
    assert list(tmp_path.iterdir()) == [out]
    assert out.stat().st_mode & 0o777 == 0o644
    shown = farthing("member", "show", dev_accounts(1)[0].checksum_address, *chain, "--json")
    assert (shown.code, shown.json["status"]) == (1, "none")
    refused = farthing("member", "set", MALLORY, "--role", "hub", *chain, "--dev-account", "0")
    assert (refused.code, "not a registrar" in refused.err) == (1, True)
    checked = farthing("audit", "contract", *chain, "--json")
    assert (checked.code, checked.json["registrars"]) == (0, [GOVERNANCE])
    taken = farthing("member", "set", MALLORY, "--role", "treasury", *chain, "--dev-account", "1")
    assert taken.code == 0
    told = farthing("audit", "contract", *chain)
    assert told.code == 0
    assert f"treasury          {MALLORY}" in told.out
    before = farthing("audit", "contract", *chain, "--block", checked.json["block"], "--json")
    assert (before.code, before.json["treasuries"]) == (0, [])


def test_what_differs_ends_with_1_and_what_cannot_be_told_with_2(
    rpc_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "deployment.json"
    assert farthing("deploy", "--rpc", rpc_url, "--dev-account", "3", "--out", out).code == 0
    record = json.loads(out.read_text())
    contract = ["audit", "contract", "--deployment", out]
    lost = farthing(*contract, "--rpc", rpc_url, "--governance", MALLORY)
    assert lost.code == 1
    assert "failure registrar-lost" in lost.out
    assert "failure role-left-behind" in lost.out
    swapped = {**record, "city_credit": record["member_registry"]}
    out.write_text(json.dumps(swapped))
    differs = farthing(*contract, "--rpc", rpc_url, "--json")
    assert differs.code == 1
    assert "code-differs" in {finding["code"] for finding in differs.json["findings"]}
    silent = farthing(*contract, "--rpc", "http://127.0.0.1:9", "--json")
    assert (silent.code, silent.json["reason"]) == (2, "rpc-unreachable")
    out.write_text(json.dumps({**record, "chain_id": 1}))
    other = farthing(*contract, "--rpc", rpc_url, "--json")
    assert (other.code, other.json["reason"]) == (2, "wrong-chain")


@pytest.mark.parametrize(
    ("governance", "code", "text"),
    [
        (GOVERNANCE.lower(), 64, "with its checksum"),
        (GOVERNANCE.replace("0x70", "0x71"), 1, "checksum"),
        (dev_accounts(1)[0].checksum_address, 1, "sends the transactions itself"),
        ("0x12", 1, "20 bytes"),
    ],
)
def test_a_governance_that_may_be_a_mistake_is_refused(
    rpc_url: str, tmp_path: Path, governance: str, code: int, text: str
) -> None:
    out = tmp_path / "deployment.json"
    command = ["deploy", "--rpc", rpc_url, "--dev-account", "0", "--out", out]
    refused = farthing(*command, "--governance", governance)
    assert (refused.code, text in refused.err) == (code, True), refused
    assert list(tmp_path.iterdir()) == []
