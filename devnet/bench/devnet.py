"""`farthing bench devnet`: how soon it answers, finds a thousand blocks' logs, opens channels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...channels.hashing import keccak256
from ...channels.ids import Address, address_to_hex, to_hex
from ...channels.signing import Signer
from ...channels.state import ChainStatus
from ...channels.units import UCENT_PER_CENT
from ...node.administration import Administrator, Registration, Role
from ...node.chain import OpenedChannel, OpenRow, Web3Chain
from ...node.deploying import deploy
from ..accounts import development_signer
from ..asking import HttpAsk
from ..client import web3_at
from ..processes import Process
from .checked import expect
from .machine import cpu_seconds
from .pair import open_stand
from .summary import median_and_spread

STARTS: Final = 5
BLOCKS: Final = 1_000
BATCHES: Final = 5
ROWS: Final = 100
"""Channels in a transaction; the gas limit allows four times as many."""
ASKED: Final = 9
"""How often the whole history is asked for."""
DEPOSIT_UCENT: Final = 100 * UCENT_PER_CENT
CHALLENGE_SECONDS: Final = 3_600
CHALLENGE_BLOCKS: Final = 20
REGISTRAR, TREASURY, HUB, HUB_SIGNER, OTHER = range(5)
"""Numbers of the development accounts that have these parts."""
TRANSFER: Final = keccak256(b"Transfer(address,address,uint256)")
TRANSFER_CALL: Final = keccak256(b"transfer(address,uint256)")[:4]
TRANSFER_GAS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A devnet's process, and how long it took until it had answered."""

    process: Process
    rpc_url: str
    seconds: float
    cpu_seconds: float


def bench_devnet(
    *,
    starts: int = STARTS,
    blocks: int = BLOCKS,
    batches: int = BATCHES,
    rows: int = ROWS,
    within: Path | None = None,
) -> dict[str, Any]:
    """Start devnets, the last of which is then used; raises `FigureVoid`, `ChainError`."""
    with open_stand(within, quick=True) as stand:
        began: list[Running] = []
        for number in range(starts - 1):
            with _devnet(stand.folder / f"start{number}") as running:
                began.append(running)
        with _devnet(stand.folder / "used") as running:
            began.append(running)
            record = stand.folder / "deployment.json"
            city = _City(running.rpc_url, running.process.pid, record, rows)
            logs_ms = city.find_logs(blocks)
            opening = city.open_channels(batches)
        start = median_and_spread([each.seconds for each in began], digits=2)
        logs = median_and_spread(logs_ms, digits=1)
        return {
            "benchmark": "devnet",
            "start_seconds": start["median"],
            "logs_ms": logs["median"],
            "openings_per_second": opening["per_second"]["median"],
            "openings_per_second_by_cpu": opening["per_second_by_cpu"],
            "start_cpu_seconds": round(min(each.cpu_seconds for each in began), 2),
            "blocks_asked_for": blocks,
            "channels_opened": batches * rows,
            "channels_in_a_transaction": rows,
            "plain": {
                "start_seconds": start,
                "logs_ms": logs,
                "openings_per_second": opening["per_second"],
            },
            "conditions": "processes over loopback HTTP, the chain in a folder, a block with each"
            " transaction; from the start to the first answer; each channel another wallet's",
            **stand.record(),
        }


@contextmanager
def _devnet(folder: Path) -> Iterator[Running]:
    """`farthing devnet up` until the block ends; it has to end well."""
    folder.mkdir()
    options = ("--port", "0", "--block-time", "0", "--data", str(folder / "chain"), "--json")
    process = Process("devnet", ["devnet", "up", *options], folder / "log")
    began = time.perf_counter()
    process.start()
    try:
        ready = process.wait_ready()
        with HttpAsk(ready["rpc"]) as ask:
            expect("the chain id", int(ask("eth_chainId"), 16), ready["chain_id"])
        seconds = time.perf_counter() - began
        yield Running(
            process=process,
            rpc_url=ready["rpc"],
            seconds=seconds,
            cpu_seconds=cpu_seconds(process.pid),
        )
    finally:
        process.stop()
    expect("the devnet's exit code", process.exit_code(), 0)


class _City:
    """The contracts on a devnet that runs, and what is done with them."""

    def __init__(self, rpc_url: str, pid: int, record: Path, rows: int) -> None:
        """Deploy; `pid` is the process whose CPU time counts, `rows` how many wallets there are."""
        self._rpc_url = rpc_url
        self._rows = rows
        self._pid = pid
        self._hub = development_signer(HUB)
        with web3_at(rpc_url) as web3:
            registrar, treasury = development_signer(REGISTRAR), development_signer(TREASURY)
            self._deployment = deploy(web3, registrar, record).deployment
            self._register(Administrator(web3, self._deployment, registrar), treasury)
            minted = 2**60
            Administrator(web3, self._deployment, treasury).mint(
                self._hub.address, minted, keccak256(b"farthing bench devnet")
            )
            Web3Chain(web3, self._deployment, signer=self._hub).approve(minted // 2)

    def _register(self, administrator: Administrator, treasury: Signer) -> None:
        hub = [(development_signer(number).address, Role.HUB) for number in (HUB, HUB_SIGNER)]
        wallets = [(key, Role.RESIDENT) for n in range(self._rows) for key in _wallet(n)]
        administrator.set_members(
            [
                Registration(account=account, role=role)
                for account, role in [(treasury.address, Role.TREASURY), *hub, *wallets]
            ]
        )

    def find_logs(self, blocks: int) -> list[float]:
        """The ms of each answer with the logs of so many blocks, each with a log of its own."""
        with HttpAsk(self._rpc_url) as ask:
            first = int(ask("eth_blockNumber"), 16) + 1
            sender, credit = self._hub.address, self._deployment.city_credit
            to = bytes(12) + development_signer(OTHER).address
            for amount in range(1, blocks + 1):
                order = {
                    "from": address_to_hex(sender),
                    "to": address_to_hex(credit),
                    "gas": hex(TRANSFER_GAS),
                    "data": to_hex(TRANSFER_CALL + to + amount.to_bytes(32)),
                }
                ask("eth_sendTransaction", order)
            asked = {
                "fromBlock": hex(first),
                "toBlock": "latest",
                "address": address_to_hex(credit),
                "topics": [to_hex(TRANSFER), to_hex(bytes(12) + sender)],
            }
            milliseconds = []
            for _ in range(ASKED):
                began = time.perf_counter()
                logs = ask("eth_getLogs", asked)
                milliseconds.append(1_000 * (time.perf_counter() - began))
                found = [(int(log["blockNumber"], 16), int(log["data"], 16)) for log in logs]
                expected = [(first + n, n + 1) for n in range(blocks)]
                expect("blocks and amounts of the logs", found, expected)
            return milliseconds

    def open_channels(self, batches: int) -> dict[str, Any]:
        """Let the hub open a channel with each wallet, so many times; each is looked up."""
        with web3_at(self._rpc_url) as web3:
            port = Web3Chain(web3, self._deployment, signer=self._hub)
            rows = self._rows
            parties = [_wallet(n) for n in range(rows)]
            open_rows = [OpenRow(account_b=account, signer_b=signer) for account, signer in parties]
            opened: list[OpenedChannel] = []
            per_second = []
            cpu_began = cpu_seconds(self._pid) + time.process_time()
            for _ in range(batches):
                began = time.perf_counter()
                mined = port.open_many(
                    open_rows,
                    account=self._hub.address,
                    signer=development_signer(HUB_SIGNER).address,
                    challenge_seconds=CHALLENGE_SECONDS,
                    challenge_blocks=CHALLENGE_BLOCKS,
                    deposit_ucent=DEPOSIT_UCENT,
                )
                per_second.append(rows / (time.perf_counter() - began))
                opened += mined.opened
            cpu = cpu_seconds(self._pid) + time.process_time() - cpu_began
            self._check_opened(port, opened, batches * rows)
        return {
            "per_second": median_and_spread(per_second, digits=0),
            "per_second_by_cpu": round(batches * rows / cpu),
        }

    def _check_opened(self, port: Web3Chain, opened: list[OpenedChannel], count: int) -> None:
        """Every channel is another one, is open and holds its deposit; the contract holds all."""
        expect("different channels", len({one.channel for one in opened}), count)
        head = port.head()
        for one in opened:
            view = port.view(one.channel, head)
            expect("a channel's status", view.status, ChainStatus.OPEN)
            expect("a channel's deposits", view.deposit_ucent, (DEPOSIT_UCENT, 0))
        held = port.balance_ucent(self._deployment.payment_channels, head.number)
        expect("what the contract holds", held, count * DEPOSIT_UCENT)


def _wallet(number: int) -> tuple[Address, Address]:
    """The account and the signer of a wallet: addresses alone, for nobody signs here."""
    account, signer = (
        Address(keccak256(f"farthing bench devnet: {number}, {part}".encode())[12:])
        for part in ("account", "signer")
    )
    return account, signer
