"""The demo's city: a chain, its contracts and members, a hub, residents and their devices."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from eth_account.hdaccount import key_from_seed

from ...channels.client.folder import HubAddress, Settings, create_folder
from ...channels.client.keystore import create
from ...channels.deployment import Deployment
from ...channels.ids import Address, address_to_hex
from ...channels.signing import SECRET_BYTES, Signer
from ...channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from ...channels.units import UCENT_PER_CENT
from ...node.administration import Administrator, Registration, Role, deploy
from ...node.sender import connect
from ..accounts import development_signer
from .processes import Process
from .stage import Say

BLOCK_TIME_SECONDS = "0.5"
MINTED_UCENT = 1_000_000 * UCENT_PER_CENT
DEPOSIT_UCENT = 100 * UCENT_PER_CENT
SETTLE_AGE_SECONDS = 4
"""Short, so that settlements happen while the demo runs; a real hub settles hourly or daily."""

REGISTRAR, TREASURY = 0, 1
"""Numbers of the development accounts that take these roles."""

RESIDENTS = ("alice", "bob")
PASSWORD_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """A wallet of the demo: whose it is, its two addresses, and its process."""

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


@contextmanager
def open_city(folder: Path, devices: int, programme: Path, say: Say) -> Iterator[City]:
    """Start everything, up to open channels; stop every process at the end of the block."""
    for name in ("chain", "logs", "hub", "wallets"):
        (folder / name).mkdir(mode=0o700)
    with ExitStack() as stack:
        devnet = _start(stack, folder, "devnet", _devnet_command(folder))
        rpc_url = devnet.wait_ready()["rpc"]
        say(f"devnet ready at {rpc_url}")
        deployment = deploy(
            connect(rpc_url), development_signer(REGISTRAR), folder / "deployment.json"
        )
        say("contracts deployed; the deployer is the registrar")
        account, signer = _make_hub(folder, rpc_url, programme)
        hub = Process(
            "hub", ["hub", "serve", "--config", str(folder / "hub/hub.toml")], _log(folder, "hub")
        )
        city = City(folder=folder, rpc_url=rpc_url, deployment=deployment, devnet=devnet, hub=hub)
        people = _people(devices)
        _register(city, people, (account, signer))
        say(f"{len(people)} residents and devices registered with the hub and the treasury")
        stack.callback(hub.stop)
        hub.start()
        say(f"hub ready at 127.0.0.1:{hub.wait_ready()['port']}")
        for person in people:
            wallet = _make_wallet(city, person, signer)
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


def _make_hub(folder: Path, rpc_url: str, programme: Path) -> tuple[Address, Address]:
    """Write the hub's folder as `farthing hub init` would, with the demo's short periods."""
    home = folder / "hub"
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    _write_password(home / "password", password)
    account = create(home / "account.json", password)
    signer = create(home / "signer.json", password)
    (home / "programme.toml").write_bytes(programme.read_bytes())
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
    }
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
    (home / "hub.toml").write_text("".join(lines), encoding="utf-8")
    return account, signer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    name: str
    role: Role
    account: Address
    key: bytes


def _people(devices: int) -> list[_Person]:
    """Make keys: each resident's accounts derive from one seed, one account a device."""
    people = []
    for index, resident in enumerate(RESIDENTS):
        seed = secrets.token_bytes(64)
        people.append(_person(resident, Role.RESIDENT, seed, 0))
        people += [
            _person(f"{resident}-device-{number + 1}", Role.DEVICE, seed, number + 1)
            for number in range(index, devices, len(RESIDENTS))
        ]
    return people


def _person(name: str, role: Role, seed: bytes, index: int) -> _Person:
    key = key_from_seed(seed, f"m/44'/60'/0'/0/{index}")
    account = Signer(bytes(key)).address
    return _Person(name=name, role=role, account=account, key=secrets.token_bytes(SECRET_BYTES))


def _register(city: City, people: list[_Person], hub: tuple[Address, Address]) -> None:
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
    reference = hashlib.sha256(b"demo: funding of the first city block").digest()
    Administrator(web3, city.deployment, treasury).mint(hub[0], MINTED_UCENT, reference)


def _make_wallet(city: City, person: _Person, hub_signer: Address) -> Wallet:
    """Write a wallet's folder as `farthing wallet init` would, for an account kept elsewhere."""
    home = city.folder / "wallets" / person.name
    password = secrets.token_urlsafe(PASSWORD_BYTES)

    def settings(_: Address) -> Settings:
        return Settings(
            hub=HubAddress(host="127.0.0.1", port=city.hub.ready["port"]),
            hub_signer=hub_signer,
            rpc_url=city.rpc_url,
            account=person.account,
            deployment=city.deployment,
        )

    create_folder(home, password, settings, key=person.key)
    password_file = home / "password"
    _write_password(password_file, password)
    command = ["wallet", "run", "--folder", str(home), "--password-file", str(password_file)]
    return Wallet(
        name=person.name,
        role=person.role,
        account=person.account,
        signer=Signer(person.key).address,
        process=Process(person.name, command, _log(city.folder, person.name)),
    )


def _write_password(path: Path, password: str) -> None:
    path.touch(mode=0o600)
    path.write_text(password + "\n", encoding="utf-8")
