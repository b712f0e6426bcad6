"""`farthing deploy` killed by SIGKILL at each of its steps goes on and deploys nothing twice."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farthing.devnet.accounts import dev_accounts
from farthing.devnet.processes import Process
from farthing.node.audit.contract import verify
from farthing.node.audit.deployed import Deployed
from farthing.node.audit.rpc import HttpRpc

CHILD = Path(__file__).with_name("deploying_child.py")
GOVERNANCE = dev_accounts(2)[1]
PATIENCE_SECONDS = 120
STEPS_MIN = 30
"""Fewer would mean that a step is no longer seen: three sends, some twenty files, what is asked."""


@contextmanager
def devnet(tmp_path: Path, *options: str) -> Iterator[str]:
    process = Process("devnet", ["devnet", "up", "--port", "0", *options], tmp_path / "devnet.log")
    process.start()
    try:
        yield process.wait_ready()["rpc"]
    finally:
        process.stop()


def ask(rpc_url: str, method: str, *params: Any) -> Any:
    with HttpRpc(rpc_url) as rpc:
        return rpc.call_many(method, [params])[0]


def sent_by(rpc_url: str, account: str, block: str = "latest") -> int:
    return int(ask(rpc_url, "eth_getTransactionCount", account, block), 16)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does, which tells nobody."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_killed_at_each_step_it_goes_on_and_deploys_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    with devnet(tmp_path, "--block-time", "0", "--accounts", "200") as rpc_url:
        done = subprocess.run(
            [sys.executable, str(CHILD), rpc_url, str(folder)],
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE_SECONDS,
            check=True,
        )
        lives = [json.loads(line) for line in done.stdout.splitlines()]
        *killed, whole = lives
        assert len(killed) >= STEPS_MIN
        assert all(life["killed"] for life in killed)
        assert not whole["killed"]
        # Killed after the very last step, it has done everything: the second is a second one.
        assert [life["end"] for life in lives] == [
            *["done"] * (len(killed) - 1),
            "already-deployed",
            "done",
        ]
        there = [life["record_at_kill"] for life in lives]
        assert there == sorted(there), "the record appears once, and late"
        assert 3 < there.count(True) < 12
        with HttpRpc(rpc_url) as rpc:
            for life in lives:
                assert life["files"] == ["deployment.json"]
                assert sent_by(rpc_url, life["deployer"]) == 3
                text = (folder / str(life["step"]) / "deployment.json").read_text()
                assert verify(rpc, Deployed.from_json(text)).ok


@pytest.mark.parametrize("mined_while_dead", [True, False])
def test_killed_between_sending_and_mining_of_each_contract_it_sends_nothing_else(
    tmp_path: Path, mined_while_dead: bool
) -> None:
    out = tmp_path / "deployment.json"
    with devnet(tmp_path, "--block-time", "3600") as rpc_url:
        deployer = dev_accounts(1)[0].checksum_address
        command = ["deploy", "--rpc", rpc_url, "--dev-account", "0", "--out", str(out)]
        command += ["--governance", GOVERNANCE.checksum_address]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-m", "farthing.cli.main", *command])

        for mined in range(3):
            process = start()
            if mined and not mined_while_dead:
                # What the one before had sent is in the pool, and stays the only one of its nonce.
                until(lambda: (out.parent / "deployment.json.partial/lock").stat().st_size > 0)
                ask(rpc_url, "evm_mine")
            until(lambda: sent_by(rpc_url, deployer, "pending") == mined + 1)  # noqa: B023 - now
            process.kill()
            process.wait()
            assert sent_by(rpc_url, deployer) == mined
            assert not out.exists()
            if mined_while_dead:
                ask(rpc_url, "evm_mine")
        process = start()

        def ended() -> bool:
            ask(rpc_url, "evm_mine")
            return process.poll() is not None

        until(ended)
        assert process.returncode == 0
        assert sent_by(rpc_url, deployer, "pending") == 3
        deployed = Deployed.from_json(out.read_text())
        assert deployed.registrar == GOVERNANCE.address
        with HttpRpc(rpc_url) as rpc:
            report = verify(rpc, deployed)
        assert report.ok
        assert report.registrars == (GOVERNANCE.address,)
