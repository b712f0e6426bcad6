"""Fixtures: a real `farthing devnet up` for each file, and what each client is to do with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.ids import address_to_hex, to_hex
from farthing.contracts.artifacts import load
from farthing.devnet.accounts import DevAccount, dev_accounts

from ..contract.devnet_probe import compiled

FOLDER = Path(__file__).parent
UP = (sys.executable, "-c", "from farthing.cli.main import main; main()", "devnet", "up")
CLIENT_SECONDS = 120
TYPES = [0, 1, 2, 4]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a devnet answers, by HTTP and by WebSocket."""

    url: str
    ws: str
    chain_id: int


@contextmanager
def devnet_process(*options: str) -> Iterator[Endpoint]:
    """`farthing devnet up` as people start it; it has to stop well at SIGTERM."""
    with subprocess.Popen(
        [*UP, "--port", "0", "--block-time", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            ws = "ws" + ready["rpc"].removeprefix("http")
            yield Endpoint(url=ready["rpc"], ws=ws, chain_id=ready["chain_id"])
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def devnet() -> Iterator[Endpoint]:
    with devnet_process() as endpoint:
        yield endpoint


def made(name: str) -> dict[str, Any]:
    """A contract as the clients take it."""
    artifact = load(name)
    return {"abi": list(artifact.abi), "bytecode": to_hex(artifact.bytecode)}


def person(account: DevAccount) -> dict[str, str]:
    return {"address": account.checksum_address, "key": to_hex(account.private_key)}


def task_of(devnet: Endpoint, place: int) -> dict[str, Any]:
    """What a client is given; each has two accounts that no other uses."""
    registrar, treasury = dev_accounts(10)[2 * place : 2 * place + 2]
    code, abi = compiled()
    return {
        "url": devnet.url,
        "ws": devnet.ws,
        "chain_id": devnet.chain_id,
        "registrar": person(registrar),
        "treasury": person(treasury),
        "stranger": address_to_hex(bytes(19) + b"\x99"),
        "registry": made("member_registry"),
        "credit": made("city_credit"),
        "probe": {"abi": abi, "bytecode": to_hex(code)},
        "types": TYPES,
        "amount": 123_456_789,
        "word": "0x" + "17" * 32,
    }


def node_report(script: str, task: dict[str, Any]) -> dict[str, Any]:
    """Run one of the scripts beside this file; what it printed."""
    done = subprocess.run(
        ["node", str(FOLDER / script)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
