"""The commands of an agency's administrators and operators, against a devnet and a running hub."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.control import serve_control
from farthing.channels.client.keystore import address as address_of
from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.messages import PaymentRequest
from farthing.channels.state import Phase
from farthing.contracts.members import MemberStatus
from farthing.node.administration import Administrator, Role
from farthing.node.control import Operator
from farthing.node.home import CONTROL_NAME
from farthing.node.hub import Hub
from farthing.node.sender import TransactionFailed, connect
from farthing.node.server import CannotListen, open_listener

from ..hub_world import (
    FLOW_UCENT,
    City,
    Outcome,
    TinyWallet,
    farthing,
    farthing_beside,
    hub_folder,
    new_signer,
    running_hub,
    tiny_wallet,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

FUNDING = "0x" + "11" * 32
NOBODY = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture
def chain(hub_city: City) -> list[str]:
    """The options that say which chain."""
    return ["--rpc", hub_city.rpc_url, "--deployment", str(hub_city.deployment_file)]


# -- deploy ---------------------------------------------------------------------------------------


def test_a_deployment_is_written_once_and_a_second_is_refused(
    hub_city: City, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "deployment.json"
    command = ["deploy", "--rpc", hub_city.rpc_url, "--dev-account", "0", "--out", out, "--json"]
    first = farthing(*command)
    assert first.code == 0
    assert json.loads(out.read_text())["payment_channels"] == first.json["payment_channels"]
    second = farthing(*command)
    assert second.code == 1
    assert second.json["error"]["code"] == "already-deployed"
    assert "--out" in second.err
    assert json.loads(out.read_text())["block"] == first.json["block"]


@pytest.mark.allowlist("its deployer is an account that the chain does not admit")
def test_a_deployment_that_fails_leaves_no_record(hub_city: City, tmp_path: Path) -> None:
    out = tmp_path / "deployment.json"
    # an account of the mnemonic that the chain does not admit
    refused = farthing(
        "deploy", "--rpc", hub_city.rpc_url, "--dev-account", "42", "--out", out, "--json"
    )
    assert refused.code == 1
    assert refused.json["error"]["code"] == "transaction-failed"
    assert not out.exists()
    down = farthing("deploy", "--rpc", "http://127.0.0.1:9", "--dev-account", "0", "--out", out)
    assert down.code == 2
    assert "check the RPC URL" in down.err
    assert not out.exists()


def test_a_record_that_an_interrupted_deployment_left_says_so(
    hub_city: City, tmp_path: Path
) -> None:
    out = tmp_path / "deployment.json"
    out.touch()
    refused = farthing("deploy", "--rpc", hub_city.rpc_url, "--dev-account", "0", "--out", out)
    assert refused.code == 1
    assert "remove the file" in refused.err


def test_a_record_where_none_can_be_written_is_named(hub_city: City, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "deployment.json"
    refused = farthing("deploy", "--rpc", hub_city.rpc_url, "--dev-account", "0", "--out", out)
    assert refused.code == 1
    assert str(tmp_path / "file") in refused.err


# -- members and credit ---------------------------------------------------------------------------


@pytest.mark.allowlist("it looks whether a new member was admitted")
def test_members_are_registered_shown_suspended_and_removed(chain: list[str]) -> None:
    alice = address_to_hex(new_signer().address)
    shown = farthing("member", "show", alice, *chain, "--json")
    assert (shown.code, shown.json["status"], shown.json["role"]) == (1, "none", None)
    key = ["--dev-account", "0"]
    done = farthing("member", "set", alice, "--role", "device", *chain, *key, "--json")
    assert done.code == 0
    assert done.json["admitted"] is True
    assert done.json["members"] == [alice]
    again = farthing("member", "set", alice, "--role", "device", *chain, *key, "--json")
    assert again.json["admitted"] is True  # it is on the allowlist already
    assert farthing("member", "show", alice, *chain).code == 0
    for status in ("suspended", "removed"):
        options = ["--role", "device", "--status", status, "--reason", "appeal-7"]
        assert farthing("member", "set", alice, *options, *chain, *key).code == 0
        shown = farthing("member", "show", alice, *chain, "--json")
        assert (shown.code, shown.json["status"]) == (1, status)


def test_a_membership_may_end_at_any_time_the_registry_can_hold(chain: list[str]) -> None:
    alice = address_to_hex(new_signer().address)
    options = ["--role", "resident", "--valid-until", 2**64 - 1, "--dev-account", "0"]
    assert farthing("member", "set", alice, *options, *chain).code == 0
    shown = farthing("member", "show", alice, *chain, "--json")
    assert shown.json["valid_until"] == 2**64 - 1


def test_many_members_go_in_several_transactions(
    hub_city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.node.administration.MEMBER_ROWS_MAX", 2)
    people = [new_signer().address for _ in range(5)]
    hub_city.register(*people, role=Role.AUDITOR)
    found = [hub_city.registrar.member(address) for address in people]
    assert all(row is not None and row.role is Role.AUDITOR for row in found)


def test_only_a_registrar_registers(chain: list[str]) -> None:
    refused = farthing(
        "member", "set", NOBODY, "--role", "device", *chain, "--dev-account", "3", "--json"
    )
    assert refused.code == 1
    assert refused.json["error"]["code"] == "transaction-failed"
    assert "registrar" in refused.json["error"]["text"]


def test_credit_is_minted_by_the_treasury_and_by_nobody_else(chain: list[str]) -> None:
    alice = address_to_hex(new_signer().address)
    mint = ["credit", "mint", alice, "2.5c", "--reference", FUNDING, *chain]
    done = farthing(*mint, "--dev-account", "1", "--json")
    assert (done.code, done.json["amount_ucent"]) == (0, 2_500_000)
    refused = farthing(*mint, "--dev-account", "0", "--json")
    assert refused.code == 1
    assert "treasury" in refused.json["error"]["text"]
    repeated = farthing(*mint, "--dev-account", "1", "--json")
    assert repeated.code == 1
    assert "reference used" in repeated.json["error"]["text"]
    balance = farthing("credit", "balance", alice, *chain, "--json")
    assert balance.json == {"address": alice, "balance_ucent": 2_500_000}
    assert "2.5 ¢" in farthing("credit", "balance", alice, *chain).out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["member", "show", "0x00"], 1, "40"),
        (["member", "show", NOBODY.swapcase().replace("0X", "0x")], 1, "checksum"),
        (["credit", "balance", "alice"], 1, "hex"),
        (["credit", "mint", NOBODY, "1"], 64, "reference"),
        (["credit", "mint", NOBODY, "-5", "--reference", FUNDING], 64, "-5"),
        (["credit", "mint", NOBODY, "0", "--reference", FUNDING], 1, "out of range"),
        (["credit", "mint", NOBODY, "0.5", "--reference", FUNDING], 1, "fraction"),
        (["credit", "mint", NOBODY, "1", "--reference", "0x11", "--dev-account", "1"], 1, "32"),
        (["member", "set", NOBODY, "--role", "king"], 64, "king"),
        (["member", "set", NOBODY, "--role", "hub"], 64, "--dev-account"),
        (
            ["member", "set", NOBODY, "--role", "hub", "--reason", "x" * 33, "--dev-account", "0"],
            64,
            "32 bytes",
        ),
    ],
)
def test_a_wrong_value_is_named(
    chain: list[str], arguments: list[str], code: int, text: str
) -> None:
    done = farthing(*arguments, *chain)
    assert done.code == code, done
    assert text in done.err


def test_a_chain_that_is_not_the_records_is_refused(
    hub_city: City, tmp_path: Path, chain: list[str]
) -> None:
    record = json.loads(hub_city.deployment_file.read_text())
    other = tmp_path / "other.json"
    for change, text in (
        ({"chain_id": 1}, "serves chain"),
        ({"genesis_hash": "0x" + "00" * 32}, "another genesis"),
        ({"city_credit": record["member_registry"]}, "is not city_credit"),
        ({"deployment": "0x" + "00" * 32}, "another deployment id"),
    ):
        other.write_text(json.dumps(record | change))
        done = farthing("member", "show", NOBODY, "--rpc", hub_city.rpc_url, "--deployment", other)
        assert done.code == 2
        assert text in done.err


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "No such file"), (b"\xff", "not UTF-8"), (b"{}", "version"), (b" " * 70_000, "long")],
)
def test_a_deployment_record_that_cannot_be_used_is_named(
    hub_city: City, tmp_path: Path, content: bytes | None, text: str
) -> None:
    record = tmp_path / "record.json"
    if content is not None:
        record.write_bytes(content)
    done = farthing("member", "show", NOBODY, "--rpc", hub_city.rpc_url, "--deployment", record)
    assert done.code == 1
    assert text in done.err


def test_a_key_is_given_by_keystore_and_password_file(
    hub_city: City, tmp_path: Path, chain: list[str]
) -> None:
    config = hub_folder(hub_city, tmp_path / "hub")
    keystore = ["--keystore", config.parent / "account.json"]
    password = ["--password-file", config.parent / "password"]
    mint = ["credit", "mint", NOBODY, "1", "--reference", FUNDING, *chain]
    refused = farthing(*mint, *keystore, *password)
    assert refused.code == 1  # the key was read, and is not the treasury's
    assert "treasury" in refused.err
    assert farthing(*mint, *keystore).code == 64
    assert farthing(*mint, *keystore, *password, "--dev-account", "1").code == 64
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("battery staple\n")
    denied = farthing(*mint, *keystore, "--password-file", wrong, "--json")
    assert (denied.code, denied.json["error"]["code"]) == (1, "wrong-password")


# -- a hub's folder -------------------------------------------------------------------------------


def test_a_hubs_folder_is_made_once(hub_city: City, tmp_path: Path) -> None:
    folder = tmp_path / 'h "ü😀'
    init = ["hub", "init", folder, "--rpc", hub_city.rpc_url]
    init += ["--deployment", hub_city.deployment_file, "--port", "0", "--json"]
    made = farthing(*init)
    assert made.code == 0, made
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    addresses = farthing("hub", "addresses", "--config", made.json["config"], "--json")
    assert addresses.json["account"] == made.json["account"]
    plain = farthing("hub", "addresses", "--config", made.json["config"])
    assert plain.out.split() == [made.json["account"], made.json["signer"]]
    again = farthing(*init)
    assert (again.code, again.json["error"]["code"]) == (1, "keystore-exists")
    assert address_to_hex(address_of(folder / "signer.json")) == made.json["signer"]


def test_a_hubs_folder_takes_programmes_and_checks_them(hub_city: City, tmp_path: Path) -> None:
    programme = hub_folder(hub_city, tmp_path / "other").parent / "programme.toml"
    init = ["hub", "init", tmp_path / "hub", "--rpc", hub_city.rpc_url]
    init += ["--deployment", hub_city.deployment_file, "--json"]
    missing = farthing(*init, "--programme", tmp_path / "none.toml")
    assert missing.code == 1
    twice = farthing(*init, "--programme", programme, "--programme", programme)
    assert twice.json["error"]["code"] == "clashing-programmes"
    assert not (tmp_path / "hub").exists()
    made = farthing(*init, "--programme", programme)
    assert str(programme) in Path(made.json["config"]).read_text()


def test_a_hubs_folder_that_cannot_be_made_is_named(hub_city: City, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    init = ["hub", "init", tmp_path / "file" / "hub", "--rpc", hub_city.rpc_url]
    done = farthing(*init, "--deployment", hub_city.deployment_file, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "file-unusable")


# -- a running hub --------------------------------------------------------------------------------


@asynccontextmanager
async def operated(city: City, folder: Path) -> AsyncIterator[tuple[Hub, Path, TinyWallet]]:
    """A hub with its control socket, and alice, who has a channel with it."""
    config = await trio.to_thread.run_sync(hub_folder, city, folder / "hub")
    async with (
        running_hub(config) as hub,
        tiny_wallet(city, folder) as alice,
        alice.connected(hub),
        trio.open_nursery() as nursery,
    ):
        socket = hub.config.data_dir / CONTROL_NAME
        await nursery.start(serve_control, socket, Operator(hub).methods())
        await alice.join()
        yield hub, config, alice
        nursery.cancel_scope.cancel()


async def test_an_operator_runs_a_hub_by_its_commands(hub_city: City, tmp_path: Path) -> None:
    async with operated(hub_city, tmp_path) as (hub, config, alice):

        async def hub_command(*arguments: object) -> Outcome:
            return await farthing_beside(*arguments, "--config", config)

        channel = to_hex(alice.channel.id)
        await alice.submit("1")
        await alice.wait_received(FLOW_UCENT)
        status = await hub_command("hub", "status", "--json")
        assert (status.json["rewarded_ucent"], status.json["chain_trouble"]) == (FLOW_UCENT, None)
        assert "rewarded_ucent" in (await hub_command("hub", "status")).out
        assert channel in (await hub_command("hub", "channels")).out
        assert (await hub_command("hub", "requests")).out == "none\n"

        asked = await hub_command("hub", "request", channel, "0.005c", "--purpose", "p", "--json")
        assert asked.json["sent"] is True
        await alice.until(lambda: any(isinstance(m, PaymentRequest) for m in alice.heard))
        listed = await hub_command("hub", "requests", "--json")
        assert [row["amount_ucent"] for row in listed.json] == [5000]
        unknown = "0x" + "00" * 16
        refused = await hub_command("hub", "answer", unknown, "--pay", "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "unknown-request")

        settled = await hub_command("settle", "--json")
        assert (settled.code, settled.json["settled"]) == (0, 1)
        out = tmp_path / "receipts.jsonl"
        receipts = await hub_command("hub", "receipts", "--out", out, "--json")
        assert receipts.json["paid_ucent"] == FLOW_UCENT
        assert len(out.read_text().splitlines()) == 1
        nowhere = await hub_command("hub", "receipts", "--out", tmp_path / "no" / "file", "--json")
        assert (nowhere.code, nowhere.json["error"]["code"]) == (1, "file-unusable")

        closed = await hub_command("hub", "close", channel, "--json")
        assert closed.json == {"channel": channel, "asked": True}
        await alice.until(lambda: bool(alice.closes))
        await trio.to_thread.run_sync(hub_city.warp, 20)
        await until(lambda: hub.driver.get(alice.channel.id).phase is Phase.CLOSED)
        again = await hub_command("hub", "close", channel)
        assert again.code == 1


async def test_channels_are_opened_by_a_command_that_says_how_many(
    hub_city: City, tmp_path: Path
) -> None:
    async with operated(hub_city, tmp_path) as (_, config, alice):
        known = f"{address_to_hex(alice.account)}:{address_to_hex(alice.signer.address)}"
        fine = await farthing_beside("hub", "open", known, "--config", config, "--json")
        assert (fine.code, fine.json["open_before"]) == (0, 1)
        nobody = address_to_hex(new_signer().address)
        stranger = f"{nobody}:{nobody}"
        part = await farthing_beside("hub", "open", known, stranger, "--config", config, "--json")
        assert (part.code, part.json["opened"]) == (1, 0)
        usage = await farthing_beside("hub", "open", NOBODY, "--config", config)
        assert usage.code == 64


def test_commands_of_a_hub_that_does_not_run_say_so(hub_city: City, tmp_path: Path) -> None:
    config = hub_folder(hub_city, tmp_path / "hub")
    for command in (["hub", "status"], ["settle"], ["hub", "requests"]):
        done = farthing(*command, "--config", config, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "not-running")
    receipts = farthing("hub", "receipts", "--out", tmp_path / "r", "--config", config, "--json")
    assert (receipts.code, receipts.json["error"]["code"]) == (1, "no-database")


# -- hub serve ------------------------------------------------------------------------------------


@contextmanager
def served(config: Path, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", Any]]:
    """`farthing hub serve` as a process; its ready line, or what it said instead."""
    process = subprocess.Popen(
        [sys.executable, "-m", "farthing.cli.main", "hub", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, json.loads(line) if line else None
    finally:
        process.kill()
        process.communicate()


def test_a_served_hub_prints_one_json_line_and_ends_cleanly_when_told(
    hub_city: City, tmp_path: Path
) -> None:
    config = hub_folder(hub_city, tmp_path / "hub")
    with served(config) as (process, ready):
        assert set(ready) == {"host", "port", "account", "signer", "control"}
        status = farthing("hub", "status", "--config", config, "--json")
        assert status.json["connections"] == 0
        second = farthing("hub", "serve", "--config", config, "--json")
        assert (second.code, second.json["error"]["code"]) == (1, "hub-in-use")
        assert str(process.pid) in second.err
        with served(config, FARTHING_HUB_LISTEN_PORT=str(ready["port"])) as (other, none):
            assert none is None
            assert other.stderr is not None
            assert "is in use" in other.stderr.read()
            assert other.wait(30) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not Path(ready["control"]).exists()


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"rpc_url": "http://127.0.0.1:9"}, 2, "check the RPC URL"),
        ({"listen_host": "0.0.0.0"}, 1, "tls_certificate_file"),  # noqa: S104 - it is refused
        ({"deployment_file": "none.json"}, 1, "none.json"),
        ({"deployment_file": "password"}, 1, "deployment record"),
        ({"signer_keystore": "programme.toml"}, 1, "not a usable keystore"),
        ({"programme_files": ["account.json"]}, 1, "account.json"),
        ({"data_dir": "account.json"}, 1, "not a folder"),
        ({"confirmations": 3}, 1, "at most 2"),
    ],
)
def test_a_hub_that_cannot_start_says_why(
    hub_city: City, tmp_path: Path, change: dict[str, Any], code: int, text: str
) -> None:
    config = hub_folder(hub_city, tmp_path / "hub", **change)
    done = farthing("hub", "serve", "--config", config)
    assert done.code == code, done
    assert text in done.err


def test_a_hub_with_a_wrong_password_or_no_configuration_says_why(
    hub_city: City, tmp_path: Path
) -> None:
    config = hub_folder(hub_city, tmp_path / "hub")
    (config.parent / "password").write_text("battery staple\n")
    wrong = farthing("hub", "serve", "--config", config, "--json")
    assert (wrong.code, wrong.json["error"]["code"]) == (1, "wrong-password")
    none = farthing("hub", "serve", "--config", tmp_path / "none.toml", "--json")
    assert (none.code, none.json["error"]["code"]) == (1, "unreadable-settings")


def test_a_data_folder_that_cannot_be_written_is_named(hub_city: City, tmp_path: Path) -> None:
    config = hub_folder(hub_city, tmp_path / "hub", data_dir="/proc/no/such")
    done = farthing("hub", "serve", "--config", config, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "data-folder-unusable")


async def test_a_database_of_another_hub_is_not_used(hub_city: City, tmp_path: Path) -> None:
    first = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "first")
    other = await trio.to_thread.run_sync(
        lambda: hub_folder(hub_city, tmp_path / "other", data_dir=str(tmp_path / "first/data"))
    )
    async with running_hub(first):
        pass
    with pytest.raises(Exception, match="is of account") as caught:
        async with running_hub(other):
            pass
    assert getattr(caught.value, "code", None) == "other-hubs-database"


async def test_a_hub_that_is_no_member_says_what_to_register(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    signer = address_of(config.parent / "signer.json")
    await trio.to_thread.run_sync(
        lambda: hub_city.register(signer, role=Role.HUB, status=MemberStatus.SUSPENDED)
    )
    async with running_hub(config):
        text = f"signer {address_to_hex(signer)} is no active member: register it with role hub"
        assert text in caplog.text


def test_an_administrator_without_a_key_only_reads(hub_city: City) -> None:
    reader = Administrator(connect(hub_city.rpc_url), hub_city.deployment, None)
    assert reader.balance_ucent(new_signer().address) == 0
    with pytest.raises(TransactionFailed, match="no key"):
        reader.mint(new_signer().address, 1, bytes(32))


def test_a_node_without_an_allowlist_admits_nobody(
    hub_city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    web3 = connect(hub_city.rpc_url)
    refusal = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no method"}}
    monkeypatch.setattr(web3.provider, "make_request", lambda *_: refusal)
    assert not Administrator(web3, hub_city.deployment, None).admit([new_signer().address])


@pytest.mark.parametrize(
    ("host", "error", "text"),
    [
        ("192.0.2.1", None, "other machines"),
        ("127.0.0.1", PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_is_named(
    host: str, error: OSError | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        assert error is not None
        raise error

    monkeypatch.setattr("farthing.node.server.trio.open_tcp_listeners", fails)
    with pytest.raises(CannotListen, match=text):
        await open_listener(host, 80)
