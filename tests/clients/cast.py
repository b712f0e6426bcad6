"""What a user of Foundry's cast does and sees: one process for each command."""

import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

CUSTOM = "TooFew(uint256,uint256)"
MINTED = "Minted(address,uint256,bytes32)"
CHANGED = "MemberChanged(address,address,uint8,uint8,uint64,bytes32,bytes32)"
EVENTS = (MINTED, "Transfer(address,address,uint256)", CHANGED)
MINT = "mint(address,uint256,bytes32)"
HEARING_SECONDS = 30


def cast_binary() -> Path:
    """Foundry's own binary, which npm put there."""
    folder = Path(__file__).parent / "node_modules" / "@foundry-rs"
    found = sorted(folder.glob("cast-*/bin/cast"))
    assert found, "cast is not installed: sh ./run clients installs it"
    return found[0]


@dataclass(frozen=True, slots=True)
class Cast:
    """The command, pointed at an endpoint; `home` keeps its caches away from the user's."""

    url: str
    home: Path

    def command(self, *arguments: object) -> list[str]:
        return [str(cast_binary()), *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "ETH_RPC_URL": self.url, "NO_COLOR": "1"}

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment(),
        )

    def __call__(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def json(self, *arguments: object) -> Any:
        return json.loads(self(*arguments, "--json"))

    def refused(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def name_of(self, topic: str) -> str:
        """Which event has this first topic."""
        (name,) = (text for text in EVENTS if self("sig-event", text) == topic)
        return name.split("(")[0]

    def create(self, key: str, made: dict[str, Any], signature: str, *values: str) -> Any:
        code = ["--create", made["bytecode"], *([signature, *values] if signature else [])]
        return self.json("send", "--private-key", key, *code)


def reason_in(said: str) -> str:
    """The reason that cast tells of a revert."""
    found = re.search(r"execution reverted: ([^\n,\"]*)", said)
    assert found is not None, said
    return found[1]


def use(task: dict[str, Any], home: Path) -> dict[str, Any]:
    """Do the whole task; the report."""
    cast = Cast(task["url"], home)
    registrar, treasury = task["registrar"], task["treasury"]
    created = cast.create(
        registrar["key"], task["registry"], "constructor(address)", registrar["address"]
    )
    registry = cast("to-check-sum-address", created["contractAddress"])
    made = cast.create(registrar["key"], task["credit"], "constructor(address)", registry)
    credit = cast("to-check-sum-address", made["contractAddress"])
    probe = cast.create(registrar["key"], task["probe"], "")["contractAddress"]
    words = _member(cast, task, registry)

    order = [credit, MINT, treasury["address"], task["amount"], task["word"]]
    estimate = int(cast("estimate", "--from", treasury["address"], *order))
    with listening(Cast(task["ws"], home)) as heard:
        while not heard:
            _member(cast, task, registry)
        mint = cast.json("send", "--private-key", treasury["key"], *order)
        pushed = _pushed(cast, heard, mint["transactionHash"])
    number = int(mint["blockNumber"], 16)
    logs = cast.json("logs", "--from-block", number, "--address", credit, MINTED)
    balance = cast("call", credit, "balanceOf(address)(uint256)", treasury["address"])
    refused = _refused(cast, treasury, order)
    return {
        "chain_id": int(cast("chain-id")),
        "registry": registry,
        "credit": credit,
        "created": {
            "status": int(created["status"], 16),
            "address": registry,
            "block": int(created["blockNumber"], 16),
        },
        "member": words.split(),
        "balance": int(balance.split()[0]),
        "estimate": estimate,
        "mint": {
            "status": int(mint["status"], 16),
            "gas": int(mint["gasUsed"], 16),
            "block": number,
            "hash": mint["transactionHash"],
            "logs": [cast.name_of(log["topics"][0]) for log in mint["logs"]],
        },
        "logs": [_minted(cast, log) for log in logs],
        "refused": refused,
        "custom": _custom(cast, probe),
        "transfers": _transfers(cast, task, probe),
        **_looked(cast, treasury, mint),
        "polled": None,
        "pushed": pushed,
    }


def _member(cast: Cast, task: dict[str, Any], registry: str) -> str:
    """Make the treasury a member, and read it."""
    member = task["treasury"]["address"]
    row = f"({member},2,1,0,{task['word']},{task['word']})"
    signature = "set_member((address,uint8,uint8,uint64,bytes32,bytes32))"
    cast("send", "--private-key", task["registrar"]["key"], registry, signature, row)
    return cast("call", registry, "member(address)(uint8,uint8,uint64,bytes32)", member)


def _refused(cast: Cast, treasury: dict[str, str], order: list[Any]) -> dict[str, Any]:
    """What it says of a mint that was done before."""
    sender = ["--from", treasury["address"]]
    mined = cast.json("send", "--private-key", treasury["key"], "--gas-limit", 200_000, *order)
    return {
        "call": reason_in(cast.refused("call", *sender, *order)),
        "estimate": reason_in(cast.refused("estimate", *sender, *order)),
        "mined": int(mined["status"], 16),
    }


def _custom(cast: Cast, probe: str) -> list[Any]:
    said = cast.refused("call", probe, "refuse_with_numbers(uint256,uint256)", 3, 8)
    found = re.search(r"0x[0-9a-f]{136}", said)
    assert found is not None, said
    return ["TooFew", *map(int, cast("decode-error", "--sig", CUSTOM, found[0]).split())]


def _looked(cast: Cast, treasury: dict[str, str], mint: dict[str, Any]) -> dict[str, Any]:
    block = cast.json("block", int(mint["blockNumber"], 16))
    looked = cast.json("tx", mint["transactionHash"])
    return {
        "code": cast("code", treasury["address"]),
        "fees": [int(cast("gas-price")), int(cast("gas-price")), int(cast("base-fee"))],
        "block": {"hash": block["hash"], "transactions": block["transactions"]},
        "looked": {
            "from": cast("to-check-sum-address", looked["from"]),
            "nonce": int(looked["nonce"], 16),
            "block": int(looked["blockNumber"], 16),
        },
    }


@contextmanager
def listening(cast: Cast) -> Iterator["Heard"]:
    """`cast logs --subscribe` while the block lasts."""
    with subprocess.Popen(
        cast.command("logs", "--subscribe"),
        stdout=subprocess.PIPE,
        text=True,
        env=cast.environment(),
    ) as process:
        assert process.stdout is not None
        heard = Heard(process.stdout)
        try:
            yield heard
        finally:
            process.kill()


class Heard:
    """The logs that it says, as text: with --json it says nothing before a kilobyte is full."""

    def __init__(self, output: IO[str]) -> None:
        self._logs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._deadline = time.monotonic() + HEARING_SECONDS
        threading.Thread(target=self._read, args=(output,), daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        log: dict[str, Any] = {"topics": []}
        for line in output:
            name, _, value = line.strip().removeprefix("- ").partition(": ")
            if name.startswith("0x"):
                log["topics"].append(name)
            elif value not in ("", "["):
                log[name] = value
            if name == "transactionIndex":  # the last line of each
                self._logs.put(log)
                log = {"topics": []}

    def __bool__(self) -> bool:
        """Whether it has said anything; an error where it should have long ago."""
        assert time.monotonic() < self._deadline, "cast heard nothing"
        return not self._logs.empty()

    def next(self) -> dict[str, Any]:
        return self._logs.get(timeout=HEARING_SECONDS)


def _pushed(cast: Cast, heard: Heard, transaction: str) -> dict[str, Any]:
    """What it heard of the mint; all before is of the member who was made again and again."""
    while (log := heard.next())["transactionHash"] != transaction:
        assert cast.name_of(log["topics"][0]) == "MemberChanged"
    transfer, minted = log, heard.next()
    assert cast.name_of(transfer["topics"][0]) == "Transfer"
    return {
        "heads": None,
        "minted": [
            {
                "args": _minted(cast, minted),
                "transaction": minted["transactionHash"],
                "block": int(minted["blockNumber"]),
            }
        ],
    }


def _minted(cast: Cast, log: dict[str, Any]) -> list[Any]:
    to = cast("to-check-sum-address", "0x" + log["topics"][1][-40:])
    return [to, int(log["data"], 16), log["topics"][2]]


def _transfers(cast: Cast, task: dict[str, Any], probe: str) -> dict[str, Any]:
    """One transaction of each type."""
    key, own = task["treasury"]["key"], task["treasury"]["address"]
    plain = [task["stranger"], "--value", 5]
    price = ["--gas-price", 0]
    kinds: dict[int, list[object]] = {
        0: [*plain, "--legacy", *price],
        1: [*plain, "--legacy", *price, "--access-list", "[]"],
        2: [*plain, *price, "--priority-gas-price", 0],
        4: [own, "note(uint256,uint256)", 1, 2, "--auth", probe, "--gas-limit", 300_000],
    }
    transfers = {}
    for kind in task["types"]:
        receipt = cast.json("send", "--private-key", key, *kinds[kind])
        transfers[str(kind)] = {
            "status": int(receipt["status"], 16),
            "type": int(receipt["type"], 16),
            "gas": int(receipt["gasUsed"], 16),
        }
    return transfers
