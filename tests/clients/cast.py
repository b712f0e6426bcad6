"""What a user of Foundry's cast does and sees: one process for each command."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CUSTOM = "TooFew(uint256,uint256)"
MINTED = "Minted(address,uint256,bytes32)"
EVENTS = (MINTED, "Transfer(address,address,uint256)")
MINT = "mint(address,uint256,bytes32)"


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

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(cast_binary()), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"HOME": str(self.home), "ETH_RPC_URL": self.url, "NO_COLOR": "1"},
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

    row = f"({treasury['address']},2,1,0,{task['word']},{task['word']})"
    signature = "set_member((address,uint8,uint8,uint64,bytes32,bytes32))"
    cast("send", "--private-key", registrar["key"], registry, signature, row)
    words = cast(
        *("call", registry, "member(address)(uint8,uint8,uint64,bytes32)", treasury["address"])
    )

    order = [credit, MINT, treasury["address"], task["amount"], task["word"]]
    sender = ["--from", treasury["address"]]
    estimate = int(cast("estimate", *sender, *order))
    mint = cast.json("send", "--private-key", treasury["key"], *order)
    number = int(mint["blockNumber"], 16)
    logs = cast.json("logs", "--from-block", number, "--address", credit, MINTED)
    balance = cast("call", credit, "balanceOf(address)(uint256)", treasury["address"])

    refused = {
        "call": reason_in(cast.refused("call", *sender, *order)),
        "estimate": reason_in(cast.refused("estimate", *sender, *order)),
        "mined": int(
            cast.json("send", "--private-key", treasury["key"], "--gas-limit", 200_000, *order)[
                "status"
            ],
            16,
        ),
    }
    said = cast.refused("call", probe, "refuse_with_numbers(uint256,uint256)", 3, 8)
    found = re.search(r"0x[0-9a-f]{136}", said)
    assert found is not None, said
    custom = cast("decode-error", "--sig", CUSTOM, found[0]).split()
    block = cast.json("block", number)
    looked = cast.json("tx", mint["transactionHash"])
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
        "custom": ["TooFew", *map(int, custom)],
        "transfers": _transfers(cast, task, probe),
        "code": cast("code", treasury["address"]),
        "fees": [int(cast("gas-price")), int(cast("gas-price")), int(cast("base-fee"))],
        "block": {"hash": block["hash"], "transactions": block["transactions"]},
        "looked": {
            "from": cast("to-check-sum-address", looked["from"]),
            "nonce": int(looked["nonce"], 16),
            "block": int(looked["blockNumber"], 16),
        },
        "polled": None,
        "pushed": None,
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
