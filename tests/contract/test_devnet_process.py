"""`farthing devnet` as a person uses it: real processes, exit codes, and a SIGKILL."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result
from eth.db.atomic import AtomicDB

from farthing.channels.ids import to_hex
from farthing.cli.devnet import devnet
from farthing.devnet.accounts import BALANCE_WEI, dev_accounts
from farthing.devnet.chain import DevChain
from farthing.devnet.evm import chain_class, genesis_fields, genesis_state
from farthing.devnet.opening import ChainSettings

from .devnet_probe import compiled

SECONDS_MAX = 60
FARTHING = (sys.executable, "-c", "from farthing.cli.main import main; main()", "devnet")
ALICE = dev_accounts(1)[0].checksum_address
NOBODY = "http://127.0.0.1:1"
"""Port 1 (tcpmux): nothing listens there."""


@contextlib.contextmanager
def devnet_process(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A devnet process and its ready line; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*FARTHING, "up", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def call(url: str, method: str, *params: object) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [*params]}
    with httpx.Client(trust_env=False, timeout=SECONDS_MAX) as client:
        return client.post(url, json=request).json()["result"]


def run(*arguments: str) -> Result:
    """A devnet command in this process."""
    return CliRunner().invoke(devnet, [*arguments])


def test_a_devnet_process_starts_answers_and_stops_at_a_signal(tmp_path: Path) -> None:
    with devnet_process("--data", str(tmp_path / "chain"), "--chain-id", "77") as (process, ready):
        assert set(ready) == {"rpc", "chain_id", "block_time_seconds", "accounts"}
        assert (ready["chain_id"], ready["block_time_seconds"]) == (77, 1)
        assert len(ready["accounts"]) == 10
        url = ready["rpc"]
        assert call(url, "eth_chainId") == "0x4d"

        before = int(call(url, "eth_blockNumber"), 16)
        mined = json.loads(run("mine", "5", "--rpc", url, "--json").stdout)
        assert mined["block"] >= before + 5
        warped = json.loads(run("warp", "3600", "--rpc", url, "--json").stdout)
        assert warped["timestamp"] >= mined["timestamp"] + 3_600
        assert run("mine", "--rpc", url).stdout.startswith("block")

        port = url.rsplit(":", 1)[1]
        second = subprocess.run(
            [*FARTHING, "up", "--port", port], capture_output=True, text=True, check=False
        )
        assert (second.returncode, second.stdout) == (1, "")
        assert f"port {port} on 127.0.0.1 is in use: choose another with --port" in second.stderr

        process.terminate()
        assert process.wait(SECONDS_MAX) == 0
        assert process.stderr is not None
        assert "Stop it with Ctrl-C" in process.stderr.read()


def test_a_killed_devnet_comes_back_at_its_last_block_and_the_chain_is_sound(
    tmp_path: Path,
) -> None:
    """Its base fee moves, and goes on to move when nothing is said of it at the second start."""
    options = ("--block-time", "0", "--data", str(tmp_path), "--accounts", "2")
    code, _ = compiled()
    with devnet_process(*options, "--base-fee", "1") as (process, ready):
        url = ready["rpc"]
        deployment = {"from": ALICE, "data": to_hex(code), "gas": "0x300000"}
        batch = [
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "eth_sendTransaction",
                "params": [deployment],
            }
            for number in range(300)
        ]

        def send() -> None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(url, json=batch, trust_env=False, timeout=SECONDS_MAX)

        sender = threading.Thread(target=send)
        sender.start()
        seen = 0
        while seen < 20:
            seen = int(call(url, "eth_blockNumber"), 16)
        last = call(url, "eth_getBlockByNumber", hex(seen), False)
        receipt = call(url, "eth_getTransactionReceipt", last["transactions"][0])
        process.kill()
        process.wait(SECONDS_MAX)
        sender.join(SECONDS_MAX)

    with devnet_process(*options) as (process, ready):
        url = ready["rpc"]
        assert int(call(url, "eth_blockNumber"), 16) >= seen
        assert call(url, "eth_getBlockByNumber", hex(seen), False) == last
        assert call(url, "eth_getTransactionReceipt", receipt["transactionHash"]) == receipt
        assert call(url, "eth_getCode", receipt["contractAddress"], "latest") != "0x"
        sent = call(url, "eth_sendTransaction", {"from": ALICE, "to": ALICE})
        assert call(url, "eth_getTransactionReceipt", sent)["status"] == "0x1"
        assert call(url, "farthing_status")["base_fee_moves"] is True
        process.kill()
        process.wait(SECONDS_MAX)

    kept = DevChain(ChainSettings(folder=tmp_path, accounts=2))
    try:
        state = genesis_state([account.address for account in kept.accounts], BALANCE_WEI)
        fresh = chain_class(kept.chain_id, 10**9).from_genesis(
            AtomicDB(), genesis_fields(kept.chain_id, 10**9), state
        )
        for number in range(1, kept.head.number + 1):
            fresh.import_block(kept._chain.get_canonical_block_by_number(number))  # type: ignore[arg-type]
        assert fresh.get_canonical_head().hash == kept.head.hash
    finally:
        kept.close()


def test_a_start_that_is_refused_ends_with_1_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "chain.sqlite").write_text("no database, but long enough to be looked at " * 20)
    for options, text in (
        (("--host", "0.0.0.0"), "bind to 127.0.0.1"),  # noqa: S104 - refused
        (("--data", str(tmp_path)), "move the file away"),
        (("--accounts", "0"), "give 1 to 1000"),
        (("--chain-id", "0"), "chain id = 0 is not possible"),
        (("--base-fee", "1000001"), "give 0 for free gas, or up to 1000000000000000 wei"),
        (("--block-time", "0.01"), "0 for a block with each transaction, or 0.05 to 3600"),
    ):
        result = run("up", "--port", "0", *options)
        assert result.exit_code == 1, result.output
        assert text in result.stderr
        assert result.stdout == ""
    as_json = run("up", "--port", "0", "--accounts", "0", "--json")
    assert json.loads(as_json.stdout)["error"]["code"] == "devnet-bad-setting"


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--port", "70000"),
        ("up", "--block-time", "soon"),
        ("up", "--block-time", "0.0001"),
        ("up", "--block-time", "-1"),
        ("up", "--block-time", "NaN"),
        ("up", "--gas-price", "1"),
        ("up", "--base-fee", "0"),
        ("up", "--base-fee", "-1"),
        ("up", "--base-fee", "0.0000000001"),
        ("up", "--base-fee", "Infinity"),
        ("up", "--base-fee", "much"),
        ("up", "--base-fee", "1", "--gas-price", "0"),
        ("mine", "0"),
        ("mine", "10001"),
        ("warp",),
        ("warp", "-5"),
        ("nothing",),
    ],
)
def test_wrong_usage_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        devnet.main([*arguments], standalone_mode=False)


@pytest.mark.parametrize("command", [("mine",), ("warp", "5")])
@pytest.mark.parametrize("url", [NOBODY, "nonsense", "http://"])
def test_an_endpoint_that_does_not_answer_ends_with_2(command: tuple[str, ...], url: str) -> None:
    result = run(*command, "--rpc", url)
    assert result.exit_code == 2
    assert "start one with `farthing devnet up`" in result.stderr


def test_what_the_devnet_refuses_ends_with_1() -> None:
    with devnet_process("--block-time", "0") as (_, ready):
        result = run("warp", str(10**11), "--rpc", ready["rpc"])
    assert result.exit_code == 1
    assert "evm_increaseTime was refused" in result.stderr


def test_the_accounts_are_listed_with_their_keys() -> None:
    listed = json.loads(run("accounts", "--count", "2", "--json").stdout)
    assert [row["address"] for row in listed] == [
        account.checksum_address for account in dev_accounts(2)
    ]
    text = run("accounts", "--count", "1").stdout
    assert ALICE in text
    assert "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80" in text


@pytest.mark.parametrize("command", [(), *((name,) for name in sorted(devnet.commands))])
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Example: farthing devnet" in result.stdout
