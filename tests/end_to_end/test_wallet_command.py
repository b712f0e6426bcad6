"""`farthing wallet` as a person or a script uses it: each command against a running wallet."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import pytest
import trio
from click.testing import CliRunner

from farthing.channels.client.control import call_control, serve_control
from farthing.channels.client.folder import Folder
from farthing.channels.client.service import Service
from farthing.channels.client.tls import certificate_hash, fingerprint, read_certificate
from farthing.channels.client.wallet import Wallet
from farthing.channels.errors import LocalError
from farthing.channels.ids import address_to_hex
from farthing.channels.messages import SubmitReadings
from farthing.cli.main import main
from farthing.cli.wallet import wallet as command
from farthing.node.certificate import make_certificate

from .small_city import (
    ALICE,
    DEPLOYMENT,
    HUB,
    PASSWORD,
    PRICE_UCENT,
    WINDOW_BLOCKS,
    WINDOW_SECONDS,
    SmallCity,
    make_folder,
    until,
)


@dataclass
class Ran:
    """A command that ended."""

    code: int
    output: str
    error: str

    @property
    def record(self) -> Any:
        return json.loads(self.output)


def run_now(*arguments: str) -> Ran:
    result = CliRunner().invoke(command, list(arguments), env={"FARTHING_WALLET": ""})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(code=result.exit_code, output=result.stdout, error=result.stderr)


@dataclass
class Running:
    """A running wallet with its control socket, and the commands that reach it."""

    city: SmallCity
    wallet: Wallet

    async def run(self, *arguments: str, code: int = 0) -> Ran:
        ran = await trio.to_thread.run_sync(
            lambda: run_now(*arguments, "--folder", str(self.city.folder))
        )
        assert ran.code == code, (ran.output, ran.error)
        return ran

    async def json(self, *arguments: str, code: int = 0) -> Any:
        return (await self.run(*arguments, "--json", code=code)).record


@pytest.fixture
async def running(city: SmallCity) -> AsyncIterator[Running]:
    async with city.wallet() as wallet, trio.open_nursery() as nursery:
        await nursery.start(serve_control, wallet.folder.control_file, Service(wallet).methods())
        yield Running(city=city, wallet=wallet)
        nursery.cancel_scope.cancel()


async def test_a_person_joins_submits_pays_and_looks(running: Running) -> None:
    joined = await running.json("join", "--timeout", "10")
    made = await running.json(
        *("submit", "--name", "flow", "--unit", "l/s", "--value", "12.50", "--wait", "10")
    )
    assert made["outcomes"] == [{"record": 0, "amount_ucent": PRICE_UCENT, "nonce": 1}]
    await until(running.wallet, lambda: running.wallet.balance().in_channel_ucent > 0)
    paid = await running.json("pay", "0.0125c", "--purpose", "parking", "--timeout", "10")
    assert paid["acknowledged"] is True
    assert (await running.json("balance"))["in_channel_ucent"] == 0
    [channel] = await running.json("channels")
    assert channel["channel"] == joined["channel"]
    status = await running.json("status")
    assert status["hub"]["state"] == "connected"
    people = await running.run("status")
    assert "hub.state" in people.output
    assert f"channel {joined['channel']}" in people.output


async def test_a_file_of_readings_is_submitted_once(running: Running, tmp_path: Path) -> None:
    await running.json("join", "--timeout", "10")
    pack = tmp_path / "pack.json"
    pack.write_text('[{"bn":"room:","n":"co2","u":"ppm","v":400,"t":1700000000},{"n":"t","v":20}]')
    arguments = ("submit", str(pack), "--id", "0x" + "00" * 16)
    first = await running.json(*arguments)
    assert await running.json(*arguments) == first
    answered = await running.json(*arguments, "--wait", "10")
    assert [row["amount_ucent"] for row in answered["outcomes"]] == [PRICE_UCENT] * 2
    people = await running.run(*arguments, "--wait", "10")
    assert f"paid {PRICE_UCENT} µ¢" in people.output
    pack.write_text('[{"n":"other","v":1}]')
    refused = await running.run(*arguments, code=1)
    assert "holds other readings" in refused.error


async def test_a_file_of_readings_in_cbor_is_submitted(running: Running, tmp_path: Path) -> None:
    await running.json("join", "--timeout", "10")
    pack = tmp_path / "pack.cbor"
    pack.write_bytes(cbor2.dumps([{0: "flow", 1: "l/s", 2: 3, 6: 1_700_000_000}]))
    answered = await running.json("submit", str(pack), "--wait", "10")
    assert answered["paid_ucent"] == PRICE_UCENT
    missing = await running.run("submit", str(tmp_path / "none.json"), code=1)
    assert "none.json cannot be used" in missing.error
    nothing = await running.run("submit", code=2)  # click's own; `farthing` ends with 64
    assert "give FILE, or --name with --value" in nothing.error


async def test_readings_that_wait_for_a_hub_are_not_an_error_until_somebody_waits(
    running: Running,
) -> None:
    running.city.hub.ignored = (SubmitReadings,)
    made = await running.json("submit", "--name", "flow", "--value", "1")
    assert made["answered"] is False
    waited = await running.json(
        "submit", "--name", "flow", "--value", "1", "--wait", "0.05", code=2
    )
    assert waited["answered"] is False


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("submit", "--name", "flow", "--value", "NaN"), "not a finite number"),
        (("submit", "--name", "flow", "--value", "1,"), "not JSON"),
        (("submit", "--name", "no spaces", "--value", "1"), "name"),
        (("pay", "5", "--purpose", "x" * 65), "purpose"),
        (("pay", "5"), "5 µ¢ are needed and 0 µ¢ are available"),
        (("answer", "0x00"), "16 bytes"),
        (("answer", "0x" + "00" * 16), "there is no request"),
        (("refuse", "0x" + "00" * 16), "there is no request"),
        (("close", "--channel", "0x" + "00" * 32), "is unknown"),
        (("finish-close",), "no close"),
    ],
)
async def test_bad_input_is_named_and_the_wallet_goes_on(
    running: Running, arguments: tuple[str, ...], what: str
) -> None:
    await running.json("join", "--timeout", "10")
    ran = await running.run(*arguments, code=1)
    assert what in ran.error
    assert "error: " in ran.error
    as_json = await running.run(*arguments, "--json", code=1)
    assert as_json.record["error"]["what_to_do"]
    assert as_json.record["error"]["code"] != "refused"
    assert (await running.json("status"))["hub"]["state"] == "connected"


async def test_requests_go_both_ways(running: Running) -> None:
    await running.json("join", "--timeout", "10")
    asked = await running.json("request", "0.005c", "--purpose", "refund")
    assert asked["asked_by"] == "wallet"
    await until(running.wallet, lambda: running.wallet.balance().in_channel_ucent == 5_000)
    for number in (1, 2):
        running.city.hub.ask(2_000, "parking", bytes([number]) * 16)
    await until(running.wallet, lambda: len(running.wallet.requests()) == 3)
    answered = await running.json("answer", "0x" + "01" * 16, "--timeout", "10")
    assert answered["amount_ucent"] == 2_000
    assert (await running.json("refuse", "0x" + "02" * 16))["state"] == "refused"
    states = {row["id"]: row["state"] for row in await running.json("requests")}
    assert states == {asked["id"]: "paid", "0x" + "01" * 16: "paid", "0x" + "02" * 16: "refused"}
    assert "refund" in (await running.run("requests")).output


async def test_a_payment_without_an_answer_ends_with_2(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.json("join", "--timeout", "10")
    await running.json("submit", "--name", "flow", "--value", "1", "--wait", "10")
    await until(running.wallet, lambda: running.wallet.balance().in_channel_ucent > 0)
    monkeypatch.setattr(running.city.hub.driver, "receive", lambda events: None)
    paid = await running.json("pay", "100", "--timeout", "0.1", code=2)
    assert paid["acknowledged"] is False
    assert "do not pay again" in paid["what_to_do"]


async def test_channels_are_closed_from_the_command_line(running: Running) -> None:
    await running.json("join", "--timeout", "10")
    closing = await running.json("close", "--unilateral")
    assert closing["status"] == "closing"
    early = await running.run("finish-close", "--json", code=1)
    assert early.record["error"]["code"] == "window-not-over"
    running.city.chain.mine(blocks=WINDOW_BLOCKS + 1, seconds=WINDOW_SECONDS + 1)
    assert (await running.json("finish-close"))["status"] == "closed"


async def test_money_is_taken_out_from_the_command_line(running: Running) -> None:
    await running.json("join", "--timeout", "10")
    await running.json("submit", "--name", "flow", "--value", "1", "--wait", "10")
    await until(running.wallet, lambda: running.wallet.balance().in_channel_ucent > 0)
    taken = await running.json("withdraw", "0.0025c", "--timeout", "10")
    assert (taken["amount_ucent"], taken["total_ucent"]) == (2_500, 2_500)
    assert (await running.json("balance"))["in_channel_ucent"] == PRICE_UCENT - 2_500
    assert (await running.run("claim", "--json", code=1)).record["error"]["code"] == (
        "nothing-to-claim"
    )
    running.city.chain.refused_payouts[ALICE.address] = 700
    running.city.chain.mine()
    claimed = await running.json("claim", "--timeout", "10")
    assert claimed == {"account": address_to_hex(ALICE.address), "claimed_ucent": 700}
    running.city.chain.refused_payouts[ALICE.address] = 50
    running.city.chain.mine()
    assert "claimed_ucent  50" in (await running.run("claim")).output
    assert (await running.json("balance"))["token_ucent"] == 2_500 + 750


async def test_a_close_that_nobody_answers_ends_with_2(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.json("join", "--timeout", "10")
    monkeypatch.setattr(running.city.hub.driver, "receive", lambda events: None)
    ran = await running.run("close", "--timeout", "0.1", code=2)
    assert "--unilateral" in ran.error


async def test_receipts_and_balance_are_there_with_and_without_a_running_wallet(
    city: SmallCity, tmp_path: Path
) -> None:
    out = tmp_path / "alice.jsonl"
    async with city.wallet() as wallet, trio.open_nursery() as nursery:
        await nursery.start(serve_control, wallet.folder.control_file, Service(wallet).methods())
        running = Running(city=city, wallet=wallet)
        await running.json("join", "--timeout", "10")
        await running.json("submit", "--name", "flow", "--value", "1", "--wait", "10")
        await until(wallet, lambda: wallet.balance().in_channel_ucent > 0)
        online = await running.json("receipts", "--out", str(out))
        balance = await running.json("balance")
        nursery.cancel_scope.cancel()
    assert online == {"file": str(out), "receipts": 1, "paid_ucent": PRICE_UCENT, "gaps": []}
    lines = await running.run("receipts")
    assert lines.output == out.read_text()
    offline = await running.json("balance")
    assert offline == {**balance, "token_ucent": None, "claimable_ucent": None, "block": None}
    assert (await running.json("channels"))[0]["received_payments"] == 1
    stopped = await running.run("pay", "1", code=1)
    assert "farthing wallet run --folder" in stopped.error


@pytest.mark.parametrize(
    ("method", "params", "what"),
    [
        ("no-such-method", {}, "known method"),
        ("submit", {}, "'senml' is missing"),
        ("submit", {"senml": "[]", "format": 7}, "neither 110"),
        ("pay", {"purpose": "x", "amount_ucent": 1.5}, "no whole number"),
        ("pay", {"purpose": "x", "amount_ucent": True}, "no whole number"),
        ("join", {"timeout_seconds": -1}, "'timeout_seconds'"),
        ("withdraw", {}, "'amount_ucent' is missing"),
        ("withdraw", {"amount_ucent": "1"}, "no whole number"),
        ("withdraw", {"amount_ucent": True}, "no whole number"),
        ("withdraw", {"amount_ucent": 1, "channel": 7}, "'channel' is missing or no text"),
        ("withdraw", {"amount_ucent": 1, "channel": "0x00"}, "32 bytes"),
        ("withdraw", {"amount_ucent": 1, "timeout_seconds": "1"}, "'timeout_seconds'"),
        ("claim", {"timeout_seconds": float("inf")}, "'timeout_seconds'"),
        ("outcome", {"id": "0x00"}, "16 bytes"),
    ],
)
async def test_a_program_that_asks_wrongly_is_told_what_is_wrong(
    running: Running, method: str, params: dict[str, Any], what: str
) -> None:
    with pytest.raises(LocalError, match=what):
        await trio.to_thread.run_sync(
            call_control, running.wallet.folder.control_file, method, params
        )


async def test_a_program_waits_until_everything_is_answered(running: Running) -> None:
    await running.json("join", "--timeout", "10")
    await running.json("submit", "--name", "flow", "--value", "1")
    socket = running.wallet.folder.control_file
    waited = await trio.to_thread.run_sync(call_control, socket, "wait_queue_empty", {})
    assert waited == {"waiting": 0}


# -- as a process -------------------------------------------------------------------------------

FARTHING = [sys.executable, "-m", "farthing.cli.main", "wallet"]


def init_arguments(folder: Path, deployment: Path, *more: str) -> list[str]:
    deployment.write_text(DEPLOYMENT.to_json())
    return [
        "init",
        *("--folder", str(folder)),
        *("--hub", "127.0.0.1:1"),
        *("--hub-signer", address_to_hex(HUB.address)),
        *("--rpc", "http://127.0.0.1:1"),
        *("--deployment", str(deployment)),
        *more,
    ]


def test_init_makes_a_folder_that_only_its_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "alice"
    made = run_now(*init_arguments(folder, tmp_path / "deployment.json", "--json"))
    assert made.code == 0, made.error
    assert made.record["account"] == made.record["signer"]
    assert {p.name for p in folder.iterdir()} == {"wallet.json", "keystore.json", "password"}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})
    again = run_now(*init_arguments(folder, tmp_path / "deployment.json"))
    assert again.code == 1
    assert "already a wallet" in again.error
    named = run_now("address", "--folder", str(folder), "--json")
    assert named.record["signer"] == made.record["signer"]


def test_init_refuses_a_hub_on_another_machine(tmp_path: Path) -> None:
    arguments = init_arguments(tmp_path / "alice", tmp_path / "deployment.json")
    arguments[arguments.index("127.0.0.1:1")] = "192.0.2.7:7171"
    ran = run_now(*arguments)
    assert ran.code == 1
    assert "--hub-certificate" in ran.error
    assert not (tmp_path / "alice").exists()


PIN, OTHER_PIN = "sha256:" + "5a" * 32, "sha256:" + "A5" * 32


def test_init_takes_a_hub_on_another_machine_that_is_known(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, "hub.example")
    its_hash = fingerprint(certificate_hash(read_certificate(certificate)))
    for number, (options, known) in enumerate(
        (
            (["--hub-certificate", PIN], {"hub_certificates": [PIN]}),
            (["--hub-ca", "system"], {"hub_ca": "system"}),
            (["--hub-ca", str(certificate)], {"hub_ca": str(certificate)}),
            (
                ["--hub-certificate", str(certificate)],
                {"hub_certificates": [its_hash]},
            ),
        )
    ):
        folder = tmp_path / f"alice{number}"
        arguments = init_arguments(folder, tmp_path / "deployment.json", *options)
        arguments[arguments.index("127.0.0.1:1")] = "hub.example:7171"
        assert run_now(*arguments).code == 0
        settings = json.loads((folder / "wallet.json").read_text())
        assert {key: settings[key] for key in settings if key.startswith("hub_c")} == known


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hub-certificate", "sha256:00"], "no hash of a certificate"),
        (["--hub-certificate", "none.pem"], "none.pem cannot be read"),
        (["--hub-ca", "none.pem"], "none.pem cannot be used"),
        (["--hub-ca", "system", "--hub-certificate", PIN], "either"),
        (["--hub-certificate", PIN] * 3, "3 pins"),
    ],
)
def test_init_refuses_what_no_hub_can_be_known_by(
    tmp_path: Path, options: list[str], said: str
) -> None:
    ran = run_now(*init_arguments(tmp_path / "alice", tmp_path / "deployment.json", *options))
    assert ran.code == 1
    assert said in ran.error
    assert not (tmp_path / "alice").exists()


def test_a_wallet_is_told_of_a_new_certificate_beside_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "alice"
    assert run_now(*init_arguments(folder, tmp_path / "deployment.json")).code == 0
    trust = ["trust", "--folder", str(folder), "--json"]
    assert run_now(*trust).record == {"hub_certificates": [], "hub_ca": None}
    both = {"hub_certificates": [PIN, OTHER_PIN.lower()], "hub_ca": None}
    given = ["--hub-certificate", PIN, "--hub-certificate", OTHER_PIN]
    assert run_now(*trust, *given).record == both
    assert run_now(*trust).record == both
    with Folder(path=folder).locked():
        ran = run_now(*trust, "--hub-ca", "system")
        assert (ran.code, ran.record["error"]["code"]) == (1, "wallet-in-use")
    assert run_now(*trust, "--hub-ca", "system").record["hub_ca"] == "system"


@contextmanager
def process(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    password = folder / "password"
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(PASSWORD + "\n")
    running = subprocess.Popen(
        [*FARTHING, "run", "--folder", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def test_run_says_when_it_is_ready_and_ends_when_told(tmp_path: Path) -> None:
    """Neither a hub nor a chain is there: the wallet runs, says so, and keeps its queue."""
    folder = make_folder(tmp_path / "alice", port=1)
    with process(folder.path, "--json") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        ready = json.loads(running.stdout.readline())
        assert ready == {
            "wallet": address_to_hex(ALICE.address),
            "account": address_to_hex(ALICE.address),
            "control": str(folder.control_file),
        }
        kinds = {json.loads(running.stdout.readline())["kind"] for _ in range(2)}
        assert kinds == {"chain-trouble", "disconnected"}
        second = subprocess.run(
            [*FARTHING, "run", "--folder", str(folder.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert f"run by process {running.pid}" in second.stderr
        queued = run_now(
            "submit", "--folder", str(folder.path), "--name", "flow", "--value", "1", "--json"
        )
        assert queued.code == 0
        status = run_now("status", "--folder", str(folder.path), "--json").record
        assert "hub at 127.0.0.1:1 cannot be reached" in status["hub"]["trouble"]
        assert "cannot be reached" in status["chain"]["trouble"]
        assert status["submissions"] == {"waiting": 1, "in_flight": 0}
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert running.stderr.read() == ""
    assert not folder.control_file.exists()
    balance = run_now("balance", "--folder", str(folder.path), "--json")
    assert balance.record["submissions_waiting"] == 1


def test_run_names_a_wrong_password(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "alice", port=1)
    (folder.path / "password").touch(mode=0o600)
    (folder.path / "password").write_text("another\n")
    with process(folder.path) as running:
        assert running.wait(20) == 1
        assert running.stderr is not None
        assert "the password does not open the keystore" in running.stderr.read()


def test_a_folder_deeper_than_a_socket_name_works(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / ("deep" * 30), port=1)
    with process(folder.path) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["control"] == str(folder.control_file)
        assert run_now("status", "--folder", str(folder.path), "--json").code == 0


@pytest.mark.parametrize(
    ("amount", "what"),
    [
        ("0", "out of range"),
        ("-5", "No such option"),
        ("0.5", "fraction of a microcent"),
        (str(2**96), "out of range"),
        ("five", "is not an amount"),
    ],
)
def test_an_amount_that_is_none_is_named(
    amount: str, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["farthing", "wallet", "pay", amount, "--folder", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == (64 if "option" in what else 1)
    assert what in capsys.readouterr().err
