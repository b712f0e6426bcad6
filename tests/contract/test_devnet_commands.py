"""`farthing devnet`'s commands against a served devnet with channels on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from web3 import Web3

from farthing.channels.ids import address_to_hex
from farthing.cli import devnet_transactions
from farthing.cli.devnet import devnet
from farthing.devnet.accounts import development_signer
from farthing.devnet.chain import DevChain
from farthing.devnet.opening import ChainSettings
from farthing.devnet.provider import ChainProvider
from farthing.node.deploying import deploy

from .lively import ADDRESSES, DEPOSIT_UCENT, HUB, REWARD_UCENT, WALLETS, Lively

NOWHERE = "0x" + "ab" * 32


@pytest.fixture
def world(lively_devnet: Lively) -> Iterator[Lively]:
    """The lively devnet, brought back to where it was."""
    before = int(lively_devnet.bench.names["ask"]("evm_snapshot"), 16)
    yield lively_devnet
    assert lively_devnet.bench.names["ask"]("evm_revert", hex(before))


def said(world: Lively, *arguments: str) -> Any:
    """What a command prints as JSON."""
    result = world.run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_status_says_what_runs_and_how_far_it_is(world: Lively) -> None:
    found = said(world, "status")
    assert found["rpc"] == world.rpc_url
    assert found["block"] == world.w3.eth.block_number
    assert (found["permissioned"], found["folder"], found["waiting"]) == (True, None, 0)
    assert found["block_time_seconds"] == 0
    assert "in memory" in world.run("status").stdout


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("90", 90), ("15m", 900), ("1h30m", 5_400), ("2d", 172_800), ("1w1s", 604_801), ("0", 0)],
)
def test_the_clock_is_moved_by_a_span_of_time(world: Lively, duration: str, seconds: int) -> None:
    before = world.w3.eth.get_block("latest")["timestamp"]
    moved = said(world, "warp", duration)["timestamp"] - before
    assert seconds <= moved <= seconds + 60


@pytest.mark.parametrize(
    "arguments",
    [
        ("warp", "1x"),
        ("warp", "h"),
        ("warp", ""),
        ("warp", "1m1h"),
        ("warp", "\N{ARABIC-INDIC DIGIT ONE}h"),
        ("tx", "0x12"),
        ("block", "newest"),
        ("revert", "0"),
        ("reorg",),
        ("reorg", "--depth", "0"),
        ("reorg", "--depth", "1", "--fate", "lost"),
        ("logs", "--event", "Stolen"),
        ("console", "--json"),
    ],
)
def test_wrong_words_are_usage_errors(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        devnet.main([*arguments, "--rpc", "http://127.0.0.1:1"], standalone_mode=False)


@pytest.mark.parametrize(
    "arguments",
    [
        *(("status",), ("down",), ("snapshot",), ("revert", "1"), ("reorg", "--depth", "1")),
        *(("block",), ("tx", NOWHERE), ("logs",), ("deploy",), ("console", "-c", "1")),
    ],
)
def test_where_no_devnet_answers_each_command_ends_with_2(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(devnet, [*arguments, "--rpc", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "start one with `farthing devnet up`" in result.stderr


def test_a_snapshot_is_returned_to_once(world: Lively) -> None:
    taken = said(world, "snapshot")
    said(world, "mine", "3")
    back = said(world, "revert", str(taken["snapshot"]))
    assert (back["block"], back["hash"]) == (taken["block"], taken["hash"])
    again = world.run("revert", str(taken["snapshot"]))
    assert again.exit_code == 1
    assert "take one with `farthing devnet snapshot`" in again.stderr


def test_a_reorganisation_replaces_the_newest_blocks(world: Lively) -> None:
    said(world, "mine", "2")
    before = world.w3.eth.get_block("latest")
    found = said(world, "reorg", "--depth", "2")
    assert found["block"] == before["number"]
    assert found["hash_before"] == before["hash"].to_0x_hex()
    assert found["hash"] != found["hash_before"]
    deep = world.run("reorg", "--depth", "10000")
    assert deep.exit_code == 1
    assert "farthing_reorg was refused" in deep.stderr


def test_a_block_shows_what_its_transactions_call(world: Lively) -> None:
    receipt = world.w3.eth.get_transaction_receipt(world.opened)
    found = said(world, "block", str(receipt["blockNumber"]))
    assert found["hash"] == receipt["blockHash"].to_0x_hex()
    [row] = found["transactions"]
    assert (row["call"], row["status"]) == ("payment_channels.open_many", "succeeded")
    assert (row["from"], row["gas_used"]) == (ADDRESSES[HUB], receipt["gasUsed"])
    text = world.run("block", found["hash"]).stdout
    assert "(account 2)" in text
    assert "(payment_channels)" in text
    missing = world.run("block", "999999")
    assert missing.exit_code == 1
    assert "there is no block 999999" in missing.stderr


def test_a_transaction_is_shown_decoded(world: Lively) -> None:
    found = said(world, "tx", world.opened)
    rows = found["call"]["arguments"]["rows"]
    assert [row["account_b"] for row in rows] == [ADDRESSES[wallet] for wallet in WALLETS]
    assert {row["deposit"] for row in rows} == {DEPOSIT_UCENT}
    opened = [event for event in found["events"] if event["name"] == "Opened"]
    assert tuple(event["arguments"]["channel"] for event in opened) == world.channels
    [transfer] = [event for event in found["events"] if event["name"] == "Transfer"]
    assert transfer["arguments"]["value"] == len(WALLETS) * DEPOSIT_UCENT
    calls = found["trace"]
    assert calls[0]["gas_used"] == found["gas_used"]
    assert (calls[0]["depth"], calls[0]["function"]) == (0, "open_many")
    moved = [call for call in calls if call["function"] == "transferFrom"]
    assert [(call["depth"], call["contract"], call["returned"]) for call in moved] == [
        (1, "city_credit", [True])
    ]
    assert moved[0]["arguments"]["amount"] == len(WALLETS) * DEPOSIT_UCENT
    assert said(world, "tx", world.opened, "--no-trace")["trace"] is None
    text = world.run("tx", world.opened).stdout
    assert "    member_registry.is_active(0x3C44Cd…93BC) [staticcall] → True" in text
    assert "call payment_channels.open_many\n  rows: 3\n    [0] (account_a=0x3C44Cd…93BC" in text
    assert "events: 4\n  payment_channels.Opened channel=" in text
    assert f"deposit={DEPOSIT_UCENT}" in text


def test_a_failed_a_waiting_and_a_plain_transaction_are_told_apart(world: Lively) -> None:
    failed = said(world, "tx", world.reverted)
    assert (failed["status"], failed["call"]["name"]) == ("failed", "transfer")
    assert failed["reason"] == failed["trace"][0]["error"] is not None
    assert f"✗ {failed['reason']}" in world.run("tx", world.reverted).stdout
    made = said(world, "logs")[0]["transaction"]
    creation = said(world, "tx", made)
    assert creation["call"]["name"] == "constructor"
    assert creation["created"] == str(world.bench.names["contracts"].member_registry.address)
    ask = world.bench.names["ask"]
    far = {"from": ADDRESSES[0], "to": ADDRESSES[1], "nonce": "0x99", "value": "0x5"}
    waiting = said(world, "tx", ask("eth_sendTransaction", far))
    assert (waiting["status"], waiting["block"], waiting["value_wei"]) == ("waiting", None, 5)
    plain = ask("eth_sendTransaction", {"from": ADDRESSES[0], "to": ADDRESSES[1]})
    assert "no call: a transfer" in world.run("tx", plain).stdout
    odd = {"from": ADDRESSES[0], "to": ADDRESSES[1], "data": "0x1234"}
    assert "data 0x1234" in world.run("tx", ask("eth_sendTransaction", odd)).stdout
    missing = world.run("tx", NOWHERE)
    assert missing.exit_code == 1
    assert f"there is no transaction {NOWHERE}" in missing.stderr


def test_events_are_listed_by_name(world: Lively) -> None:
    settled = said(world, "logs", "--event", "Settled")
    assert [event["arguments"]["transferred"] for event in settled][:3] == [REWARD_UCENT] * 3
    assert {event["contract"] for event in settled} == {"payment_channels"}
    everything = said(world, "logs")
    assert {"MemberChanged", "Minted", "Opened", "CloseStarted"} <= {e["name"] for e in everything}
    assert said(world, "logs", "--from", "999999") == []
    assert world.run("logs", "--from", "999999").stdout == "none\n"
    text = world.run("logs", "--event", "CloseStarted").stdout
    assert text.startswith("block ")
    assert "payment_channels.CloseStarted channel=0x" in text


def test_events_are_followed_through_a_reorganisation(
    world: Lively, monkeypatch: pytest.MonkeyPatch
) -> None:
    credit = world.bench.names["contracts"].city_credit.functions
    transfer = partial(world.send, credit.transfer(ADDRESSES[7], 9), HUB)
    steps = iter((transfer, partial(world.bench.names["ask"], "farthing_reorg", "0x1", "dropped")))

    def wait(_seconds: float) -> None:
        """Between two looks of the command something happens; then somebody types ^C."""
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(devnet_transactions, "time", SimpleNamespace(sleep=wait))
    head = world.w3.eth.block_number
    lines = world.run("logs", "-f", "--json").stdout.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(event.get("name"), event.get("block")) for event in told[:1]] == [
        ("Transfer", head + 1)
    ]
    assert told[1:] == [{"taken_back_from": head + 1}]


def test_the_registry_is_listed_with_whom_the_chain_admits(world: Lively) -> None:
    record = ("--deployment", str(world.record))
    world.bench.names["ask"]("perm_removeAccountsFromAllowlist", [ADDRESSES[WALLETS[0]]])
    rows = {row["member"]: row for row in said(world, "members", *record)}
    assert rows[ADDRESSES[HUB]]["role"] == "hub"
    assert rows[ADDRESSES[HUB]]["admitted"] is True
    assert rows[ADDRESSES[WALLETS[0]]]["admitted"] is False
    assert list(rows)[:2] == ADDRESSES[:2]
    world.bench.names["ask"]("perm_addAccountsToAllowlist", [ADDRESSES[WALLETS[0]]])
    assert "registrar" in world.run("members", *record).stdout


def test_who_may_send_follows_the_registry_until_it_is_told_to_stop(world: Lively) -> None:
    record = ("--deployment", str(world.record))
    ask = world.bench.names["ask"]
    registry = world.bench.names["contracts"].member_registry.address
    ask("perm_removeAccountsFromAllowlist", [ADDRESSES[WALLETS[0]]])
    listed = len(ask("perm_getAccountsAllowlist"))
    answer = said(world, "follow", *record)
    assert answer == {"follows_registry": registry, "may_send": listed + 1}
    assert said(world, "status")["follows_registry"] == registry
    rows = {row["member"]: row["admitted"] for row in said(world, "members", *record)}
    assert rows[ADDRESSES[WALLETS[0]]] is True
    assert said(world, "follow", "--stop") == {"follows_registry": None, "may_send": listed}
    ask("perm_addAccountsToAllowlist", [ADDRESSES[WALLETS[0]]])
    assert "follows_registry     none" in world.run("status").stdout


def test_the_console_runs_code_with_the_contracts_bound(world: Lively) -> None:
    record = ("--deployment", str(world.record))
    supply = "contracts.city_credit.functions.totalSupply().call()"
    assert said(world, "console", "-c", supply, *record) == {"result": 10**14}
    assert world.run("console", "-c", "accounts[0]", *record).stdout == f"'{ADDRESSES[0]}'\n"
    assert world.run("console", "-c", "x = 1", *record).stdout == ""
    broken = world.run("console", "-c", "1 / 0", *record)
    assert broken.exit_code == 1
    assert "ZeroDivisionError: division by zero" in broken.stderr


def test_the_console_is_a_python_prompt(world: Lively) -> None:
    typed = "x = mine(2)\nx == w3.eth.block_number\nwarp(60) > 0\ncontracts\n"
    result = CliRunner().invoke(
        devnet, ["console", "--rpc", world.rpc_url], input=typed, catch_exceptions=False
    )
    assert result.exit_code == 0
    assert result.stdout.count("True") == 2
    assert "contracts   none: `farthing devnet deploy`" in result.stderr
    assert "namespace()" in result.stdout


def test_a_record_of_another_chain_is_refused_by_the_console(world: Lively, tmp_path: Path) -> None:
    other = json.loads(world.record.read_text())
    other["genesis_hash"] = NOWHERE
    (tmp_path / "other.json").write_text(json.dumps(other))
    result = world.run("console", "-c", "1", "--deployment", str(tmp_path / "other.json"))
    assert result.exit_code == 1
    assert "contracts that are not on this chain" in result.stderr


def deployed(folder: Path, record: Path) -> str:
    """A chain in a folder with the contracts on it; where the registry is."""
    settings = ChainSettings(folder=folder, automine=True, base_fee_wei=9)
    with closing(DevChain(settings)) as chain:
        made = deploy(Web3(ChainProvider(chain)), development_signer(0), record)
    return address_to_hex(made.deployment.member_registry)


def test_a_devnet_in_the_background_is_stopped_and_leaves_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    registry = deployed(folder, record := tmp_path / "deployment.json")
    options = ["up", "--detach", "--port", "0", "--block-time", "0", "--data", str(folder)]
    options += ["--base-fee", "0.000000009", "--follow-registry", str(record)]
    command = [sys.executable, "-m", "farthing.cli.main", "devnet", *options]
    started = subprocess.run(command, capture_output=True, text=True, check=True)
    ready = json.loads(started.stdout)
    assert f"farthing devnet down --rpc {ready['rpc']}" in started.stderr
    rpc = ("--rpc", ready["rpc"], "--json")
    status = json.loads(CliRunner().invoke(devnet, ["status", *rpc]).stdout)
    assert (status["pid"], status["folder"]) == (ready["pid"], str(folder))
    assert status["follows_registry"] == registry
    port = ready["rpc"].rsplit(":", 1)[1]
    second = CliRunner().invoke(
        devnet, ["up", "--detach", "--port", port, "--gas-price", "0", "--json"]
    )
    assert second.exit_code == 1
    assert json.loads(second.stdout)["error"]["text"] == f"port {port} on 127.0.0.1 is in use"

    stopped = CliRunner().invoke(devnet, ["down", *rpc])
    assert json.loads(stopped.stdout) == {
        "stopped": True,
        **{key: status[key] for key in ("rpc", "block", "folder", "pid")},
    }
    kept = DevChain(ChainSettings(folder=folder, base_fee_wei=9))  # nobody holds it any more
    assert kept.head.number == status["block"]
    kept.close()
    assert Path(ready["log"]).read_text() == ""
    assert CliRunner().invoke(devnet, ["down", *rpc]).exit_code == 2
