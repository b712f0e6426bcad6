"""pytest fixtures: a chain, the deployed system, a hub, two wallets, and time that a test moves.

Name it in a conftest.py: `pytest_plugins = ["farthing.devnet.testing"]`. Chain and deployment are
one for the whole run; each test that asks for a hub or wallets gets new ones, with keys of their
own. Everything is real and in this process: py-evm, HTTP, sockets, SQLite.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from ..channels.client import keystore
from ..channels.client.blocking import Wallet
from ..channels.client.folder import HubAddress, Settings, create_folder
from ..channels.deployment import Deployment
from ..channels.ids import Address
from ..channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from ..channels.units import UCENT_PER_CENT, UCENT_PER_UNIT
from ..node.administration import Administrator, Registration, Role
from ..node.config import load
from ..node.deploying import deploy
from ..node.hub import Hub, open_hub
from ..node.programme import EXAMPLE
from .accounts import development_signer
from .asking import HttpAsk
from .client import web3_at
from .up import DevnetConfig, RunningDevnet, serve

REGISTRAR, TREASURY = 0, 1
"""Numbers of the development accounts that take these roles."""
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30
PASSWORD = "of keys that guard nothing"  # noqa: S105 - as it says

Running = TypeVar("Running")


@dataclass(frozen=True, slots=True)
class MockTime:
    """The chain's clock in the hand of a test; it never goes back."""

    ask: HttpAsk

    def now(self) -> int:
        """The newest block's time, in seconds."""
        return int(self.ask("eth_getBlockByNumber", "latest")["timestamp"], 16)

    def warp(self, seconds: int) -> int:
        """Mine a block exactly that much later than the newest; its time."""
        self.ask("evm_setNextBlockTimestamp", hex(self.now() + seconds))
        self.ask("evm_mine")
        return self.now()

    def mine(self, count: int = 1) -> int:
        """Mine blocks; the newest one's number."""
        self.ask("anvil_mine", hex(count))
        return int(self.ask("eth_blockNumber"), 16)


@dataclass(frozen=True, slots=True)
class System:
    """The deployed contracts, and who administers them."""

    rpc_url: str
    deployment: Deployment
    record: Path
    registrar: Administrator
    treasury: Administrator

    def register(self, *accounts: Address, role: Role = Role.RESIDENT) -> None:
        """Make addresses active members, whose transactions the chain takes."""
        self.registrar.set_members([Registration(account=each, role=role) for each in accounts])
        self.registrar.admit(accounts)

    def fund(self, account: Address, amount_ucent: int) -> None:
        """Mint credit for an account."""
        self.treasury.mint(account, amount_ucent, secrets.token_bytes(32))


@pytest.fixture(scope="session")
def farthing_devnet() -> Iterator[RunningDevnet]:
    """A chain that makes a block with each transaction; `rpc_url` is where."""

    @asynccontextmanager
    async def run() -> AsyncIterator[RunningDevnet]:
        async with trio.open_nursery() as nursery:
            yield await nursery.start(serve, DevnetConfig(port=0, block_time_ms=0))
            nursery.cancel_scope.cancel()

    with in_thread(run) as running:
        yield running


@pytest.fixture(scope="session")
def farthing_system(
    farthing_devnet: RunningDevnet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """The contracts on that chain, with a registrar and a treasury."""
    record = tmp_path_factory.mktemp("farthing") / "deployment.json"
    registrar, treasury = development_signer(REGISTRAR), development_signer(TREASURY)
    with web3_at(farthing_devnet.rpc_url) as web3:
        deployment = deploy(web3, registrar, record).deployment
        system = System(
            farthing_devnet.rpc_url,
            deployment,
            record,
            Administrator(web3, deployment, registrar),
            Administrator(web3, deployment, treasury),
        )
        system.register(treasury.address, role=Role.TREASURY)
        yield system


@pytest.fixture
def farthing_time(farthing_devnet: RunningDevnet) -> Iterator[MockTime]:
    """The chain's clock: `now`, `warp`, `mine`."""
    with HttpAsk(farthing_devnet.rpc_url) as ask:
        yield MockTime(ask)


@pytest.fixture
def farthing_hub(farthing_system: System, tmp_path: Path) -> Iterator[Hub]:
    """A running hub with money, under the example programme; `port` and `signer` are its own."""
    config = load(_hub_folder(farthing_system, tmp_path / "hub"), {})
    with in_thread(lambda: open_hub(config)) as hub:
        yield hub


@pytest.fixture
def farthing_wallets(
    farthing_system: System, farthing_hub: Hub, tmp_path: Path
) -> Iterator[tuple[Wallet, Wallet]]:
    """Two residents' wallets, each with an open channel to the hub."""
    with ExitStack() as stack:
        alice, bob = (
            stack.enter_context(_wallet(farthing_system, farthing_hub, tmp_path / name))
            for name in ("alice", "bob")
        )
        yield alice, bob


@contextmanager
def in_thread(
    opens: Callable[[], AbstractAsyncContextManager[Running]],
) -> Iterator[Running]:
    """Hold something asynchronous open in a thread with a loop of its own.

    What ends it, at the start or later, is raised here.
    """
    ready = threading.Event()
    found: list[Running] = []
    failures: list[BaseException] = []
    ends: list[tuple[trio.lowlevel.TrioToken, trio.Event]] = []

    async def hold() -> None:
        async with opens() as running:
            end = trio.Event()
            ends.append((trio.lowlevel.current_trio_token(), end))
            found.append(running)
            ready.set()
            await end.wait()

    def run() -> None:
        try:
            trio.run(hold)
        except BaseException as error:  # handed to the test
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="farthing-testing", daemon=True)
    thread.start()
    ready.wait(START_SECONDS_MAX)
    try:
        if found:
            yield found[0]
    finally:
        for token, end in ends:
            if thread.is_alive():
                token.run_sync_soon(end.set)
        thread.join(STOP_SECONDS_MAX)
    if failures:
        raise failures[0]


def _hub_folder(system: System, folder: Path) -> Path:
    """A registered and funded hub's folder; its hub.toml."""
    folder.mkdir(mode=0o700)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD + "\n", encoding="utf-8")
    account = keystore.create(folder / "account.json", PASSWORD)
    signer = keystore.create(folder / "signer.json", PASSWORD)
    system.register(account, signer, role=Role.HUB)
    system.fund(account, 1_000 * UCENT_PER_UNIT)
    settings = {
        "listen_port": 0,
        "rpc_url": system.rpc_url,
        "deployment_file": str(system.record),
        "data_dir": "data",
        "account_keystore": "account.json",
        "signer_keystore": "signer.json",
        "password_file": "password",
        "programme_files": [str(EXAMPLE)],
        "challenge_seconds": CHALLENGE_SECONDS_MIN,
        "challenge_blocks": CHALLENGE_BLOCKS_MIN,
        "deposit_ucent": 100 * UCENT_PER_CENT,
    }
    config = folder / "hub.toml"
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
    config.write_text("".join(lines), encoding="utf-8")
    return config


@contextmanager
def _wallet(system: System, hub: Hub, folder: Path) -> Iterator[Wallet]:
    """A registered wallet with a channel; its folder keeps what it was paid."""

    def settings(account: Address) -> Settings:
        return Settings(
            hub=HubAddress(host="127.0.0.1", port=hub.port),
            hub_signer=hub.signer.address,
            rpc_url=system.rpc_url,
            account=account,
            deployment=system.deployment,
        )

    system.register(create_folder(folder, PASSWORD, settings).settings().account)
    with Wallet(folder, PASSWORD) as wallet:
        wallet.join(timeout_seconds=START_SECONDS_MAX)
        yield wallet
