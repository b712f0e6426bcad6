"""A city of real processes: a chain, its contracts and members, a hub, wallets.

The demo and chaos open one each, with a plan of their own.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..channels.client.folder import HubAddress, Settings, create_folder
from ..channels.client.keystore import create
from ..channels.deployment import Deployment
from ..channels.ids import Address, address_to_hex
from ..channels.signing import Signer
from ..channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from ..channels.units import UCENT_PER_CENT
from ..node.administration import Administrator, Registration, Role
from ..node.deploying import deploy
from ..node.sender import connect
from .accounts import development_signer
from .processes import FARTHING, Process

BLOCK_TIME_SECONDS = "0.5"
MINTED_UCENT = 1_000_000 * UCENT_PER_CENT
DEPOSIT_UCENT = 100 * UCENT_PER_CENT
SETTLE_AGE_SECONDS = 4
"""Short, so that settlements happen while it runs; a real hub settles hourly or daily."""

REGISTRAR, TREASURY = 0, 1
"""Numbers of the development accounts that take these roles."""

PASSWORD_BYTES = 24

Say = Callable[[str], None]

HubSettings = Mapping[str, str | int | list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with a wallet: the account that owns the money, and the wallet's own key."""

    name: str
    role: Role
    account: Address
    key: bytes


def _same(address: str) -> str:
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a city consists of, and what stands between its processes.

    `rpc_front` is given the chain's URL and gives the one that hub and wallets use; `hub_front`
    likewise with the hub's `host:port`. `clocks` is a folder with a clock's file for each process.
    """

    people: Sequence[Person]
    programme: Path
    hub_settings: HubSettings = field(default_factory=dict)
    hub_program: str = FARTHING
    wallet_program: str = FARTHING
    wallet_arguments: Callable[[str], Sequence[str]] = lambda _: ("wallet", "run")
    rpc_front: Callable[[str], str] = _same
    hub_front: Callable[[str], str] = _same
    clocks: Path | None = None
    on_line: Callable[[str, str], None] | None = None
    """Takes what a wallet's process says after its ready line, with the wallet's name."""

    def clock(self, name: str) -> Path | None:
        """The file of a process's clock; None if it has the machine's."""
        return None if self.clocks is None else self.clocks / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """A wallet of the city: whose it is, its two addresses, and its process."""

    name: str
    role: Role
    account: Address
    signer: Address
    process: Process


@dataclass(slots=True, kw_only=True)
class City:
    """Everything that runs."""

    folder: Path
    rpc_url: str
    deployment: Deployment
    devnet: Process
    hub: Process
    wallets: dict[str, Wallet] = field(default_factory=dict)

    def devices(self) -> list[Wallet]:
        """The devices, in order."""
        return [wallet for wallet in self.wallets.values() if wallet.role is Role.DEVICE]

    def residents(self) -> list[Wallet]:
        """The residents' own wallets."""
        return [wallet for wallet in self.wallets.values() if wallet.role is Role.RESIDENT]

    def stop(self) -> None:
        """Stop hub and wallets, all at once and for good; whoever waits for one of them fails."""
        processes = [self.hub, *(wallet.process for wallet in self.wallets.values())]
        for process in processes:
            process.end()
        for process in processes:
            process.stop()


@contextmanager
def open_city(folder: Path, plan: Plan, say: Say) -> Iterator[City]:
    """Start everything, up to open channels; stop every process at the end of the block."""
    for name in ("chain", "logs", "hub", "wallets"):
        (folder / name).mkdir(mode=0o700)
    with ExitStack() as stack:
        devnet = _start(stack, folder, "devnet", _devnet_command(folder))
        rpc_url = devnet.wait_ready()["rpc"]
        say(f"devnet ready at {rpc_url}")
        deployment = deploy(
            connect(rpc_url), development_signer(REGISTRAR), folder / "deployment.json"
        ).deployment
        say("contracts deployed; the deployer is the registrar")
        front_url = plan.rpc_front(rpc_url)
        account, signer = _make_hub(folder, front_url, plan)
        hub = Process(
            "hub",
            ["hub", "serve", "--config", str(folder / "hub/hub.toml")],
            _log(folder, "hub"),
            program=plan.hub_program,
            clock=plan.clock("hub"),
        )
        city = City(folder=folder, rpc_url=rpc_url, deployment=deployment, devnet=devnet, hub=hub)
        people = plan.people
        _register(city, people, (account, signer))
        say(f"{len(people)} residents and devices registered with the hub and the treasury")
        stack.callback(hub.stop)
        hub.start()
        say(f"hub ready at 127.0.0.1:{hub.wait_ready()['port']}")
        where = _Where(
            hub=plan.hub_front(f"127.0.0.1:{hub.ready['port']}"), signer=signer, rpc_url=front_url
        )
        for person in people:
            wallet = _make_wallet(city, plan, person, where)
            city.wallets[person.name] = wallet
            stack.callback(wallet.process.stop)
            wallet.process.start()
        pairs = [
            [address_to_hex(w.account), address_to_hex(w.signer)] for w in city.wallets.values()
        ]
        opened = hub.ask("open", pairs=pairs)
        say(f"{opened['opened']} channels opened in one transaction")
        for wallet in city.wallets.values():
            wallet.process.wait_ready()
            wallet.process.ask("join")
        say(f"{len(city.wallets)} wallets joined, each a process with a socket of its own")
        yield city


def _start(stack: ExitStack, folder: Path, name: str, arguments: list[str]) -> Process:
    process = Process(name, arguments, _log(folder, name))
    stack.callback(process.stop)
    process.start()
    return process


def _log(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def _devnet_command(folder: Path) -> list[str]:
    return [
        "devnet",
        "up",
        *("--port", "0"),
        *("--block-time", BLOCK_TIME_SECONDS),
        *("--data", str(folder / "chain")),
    ]


def _make_hub(folder: Path, rpc_url: str, plan: Plan) -> tuple[Address, Address]:
    """Write the hub's folder as `farthing hub init` would, with short periods."""
    home = folder / "hub"
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    _write_password(home / "password", password)
    account = create(home / "account.json", password)
    signer = create(home / "signer.json", password)
    (home / "programme.toml").write_bytes(plan.programme.read_bytes())
    settings: dict[str, str | int | list[str]] = {
        "listen_port": 0,
        "rpc_url": rpc_url,
        "deployment_file": "../deployment.json",
        "data_dir": "data",
        "account_keystore": "account.json",
        "signer_keystore": "signer.json",
        "password_file": "password",
        "programme_files": ["programme.toml"],
        "challenge_seconds": CHALLENGE_SECONDS_MIN,
        "challenge_blocks": CHALLENGE_BLOCKS_MIN,
        "deposit_ucent": DEPOSIT_UCENT,
        "settle_age_seconds": SETTLE_AGE_SECONDS,
        "settle_unsettled_ucent": 5 * UCENT_PER_CENT,
        **plan.hub_settings,
    }
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
    (home / "hub.toml").write_text("".join(lines), encoding="utf-8")
    return account, signer


def _register(city: City, people: Sequence[Person], hub: tuple[Address, Address]) -> None:
    """Register all members, have the chain admit them, and fund the hub's account."""
    treasury = development_signer(TREASURY)
    rows = [Registration(account=treasury.address, role=Role.TREASURY)]
    rows += [Registration(account=address, role=Role.HUB) for address in hub]
    for person in people:
        commitment = hashlib.sha256(secrets.token_bytes(32) + person.account).digest()
        rows += [
            Registration(account=address, role=person.role, commitment=commitment)
            for address in (person.account, Signer(person.key).address)
        ]
    web3 = connect(city.rpc_url)
    registrar = Administrator(web3, city.deployment, development_signer(REGISTRAR))
    registrar.set_members(rows)
    registrar.admit([row.account for row in rows])
    reference = hashlib.sha256(b"funding of the first city block").digest()
    Administrator(web3, city.deployment, treasury).mint(hub[0], MINTED_UCENT, reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Where a wallet finds its hub and the chain."""

    hub: str
    signer: Address
    rpc_url: str


def _make_wallet(city: City, plan: Plan, person: Person, where: _Where) -> Wallet:
    """Write a wallet's folder as `farthing wallet init` would, for an account kept elsewhere."""
    home = city.folder / "wallets" / person.name
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    host, _, port = where.hub.rpartition(":")

    def settings(_: Address) -> Settings:
        return Settings(
            hub=HubAddress(host=host, port=int(port)),
            hub_signer=where.signer,
            rpc_url=where.rpc_url,
            account=person.account,
            deployment=city.deployment,
        )

    create_folder(home, password, settings, key=person.key)
    password_file = home / "password"
    _write_password(password_file, password)
    on_line = plan.on_line
    return Wallet(
        name=person.name,
        role=person.role,
        account=person.account,
        signer=Signer(person.key).address,
        process=Process(
            person.name,
            [
                *plan.wallet_arguments(person.name),
                *("--folder", str(home), "--password-file", str(password_file)),
            ],
            _log(city.folder, person.name),
            program=plan.wallet_program,
            clock=plan.clock(person.name),
            on_line=None if on_line is None else partial(on_line, person.name),
        ),
    )


def _write_password(path: Path, password: str) -> None:
    path.touch(mode=0o600)
    path.write_text(password + "\n", encoding="utf-8")
