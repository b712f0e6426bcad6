"""A wallet's state folder: settings, keystore, ledger and its count, control socket and lock.

Rule: one running wallet owns the folder (an exclusive lock); everything in it is for its owner's
eyes alone (mode 0700).
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from .. import bounded_json
from ..bounded_json import NotJson
from ..deployment import CHAIN_AHEAD_SECONDS_MAX, Deployment
from ..errors import LocalError
from ..ids import Address, address_from_hex, address_to_hex
from ..terms import (
    CHALLENGE_BLOCKS_MAX,
    CHALLENGE_BLOCKS_MIN,
    CHALLENGE_SECONDS_MAX,
    CHALLENGE_SECONDS_MIN,
)
from . import keystore
from .continuity import elsewhere, state_home
from .durable_file import make_folder, write_whole
from .tls import Trust, fingerprint, parse_fingerprint

SETTINGS_VERSION: Final = 1
SETTINGS_BYTES_MAX: Final = 64 << 10
"""A settings file is about 2 KB; a longer one is another file."""
CONFIRMATIONS_MAX: Final = 1000
YEAR_SECONDS: Final = 366 * 24 * 3600
PORT_MAX: Final = 65_535
PORT_DIGITS_MAX: Final = 5
HOST_NAME: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")
LOCK_BYTES_MAX: Final = 64
NO_MARKER: Final = "none"
TOWERS_MAX: Final = 4
"""One does; a second one elsewhere guards against its outage. Each is a connection of its own."""


class FolderExists(LocalError):
    """A wallet was to be made where one is already; nothing was changed."""

    code = "wallet-exists"
    remedy = "choose another folder: this one may hold the only key to its money"


class FolderUnusable(LocalError):
    """The folder or its settings cannot be read or written."""

    code = "wallet-folder-unusable"
    remedy = "make one with `farthing wallet init`, or check the path and its permissions"


class MalformedSettings(LocalError):
    """A value of wallet.json that cannot be used; names its key."""

    code = "malformed-wallet-settings"

    def __init__(self, key: str, problem: str, *, remedy: str) -> None:
        super().__init__(f"{key!r} of the wallet's settings {problem}", remedy=remedy)
        self.key = key


class NotLoopback(LocalError):
    """A hub or tower on another machine and nothing to know it by: anybody could listen in."""

    code = "not-loopback"
    remedy = "name its certificate (--hub-certificate sha256:…) or a CA (--hub-ca system) for TLS"


TOWER_NEEDS_TLS: Final = (
    "name its certificate (--certificate sha256:…) or a CA (--ca system) for TLS"
)
"""What to do about a tower on another machine."""


class WalletInUse(LocalError):
    """Another process owns the folder."""

    code = "wallet-in-use"

    def __init__(self, path: Path, holder: str) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(
            f"the wallet in {path} is run by {who}",
            remedy="use its commands (they reach the running wallet), or stop that process",
        )
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """Where a hub or watchtower listens: an address or a host name, and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, so that nobody can listen on the way."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, of which a resolver may say anything
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hub_address(text: str, *, of: str = "hub") -> HubAddress:
    """Read HOST:PORT; raises `MalformedSettings`."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_port = port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS_MAX
    is_port = is_port and 1 <= int(port) <= PORT_MAX
    if not separator or not host or not is_port:
        remedy = "write HOST:PORT, such as 127.0.0.1:7171"
        raise MalformedSettings(of, f"is {text[:80]!r}, which is no address", remedy=remedy)
    if host == "localhost":
        host = "127.0.0.1"  # said here once, not asked of a resolver that may say otherwise
    if not (_is_address(host) or HOST_NAME.fullmatch(host)):
        remedy = "write HOST:PORT, such as hub.city.example:7171"
        raise MalformedSettings(of, f"names the host {host[:80]!r}", remedy=remedy)
    return HubAddress(host=host, port=int(port))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerPlace:
    """A watchtower that this wallet hands its vouchers to: where it listens, and its signer.

    Without `trust` the connection is plain, which is for loopback addresses only (`NotLoopback`).
    """

    address: HubAddress
    signer: Address
    trust: Trust | None = None

    def __post_init__(self) -> None:
        check_private(self.address, self.trust, of="tower")

    def record(self) -> dict[str, Any]:
        """As plain values, which `tower_from_record` reads; older software reads a plain one."""
        record = {"address": str(self.address), "signer": address_to_hex(self.signer)}
        return record | _trust_record(self.trust)


def tower_from_record(record: dict[str, Any]) -> TowerPlace:
    """Read a tower; raises `MalformedSettings`, `NotLoopback`, `MalformedTrust`."""
    return TowerPlace(
        address=parse_hub_address(_text(record, "address"), of="tower"),
        signer=address_from_hex(_text(record, "signer")),
        trust=_trust(record),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this wallet demands of a channel, beyond what the contract does.

    A longer challenge window leaves more time to answer a dishonest close and locks money longer.
    `confirmations` more blocks on top of a block confirm it; 0 for chains that are final at once.
    A block whose time is over `chain_ahead_seconds_max` ahead of this clock is not believed.
    Once the hub has not answered for `hub_silent_settle_seconds` what was received is settled, and
    after `hub_silent_close_seconds` the channel is closed without it; 0 for never.
    """

    challenge_seconds_min: int = CHALLENGE_SECONDS_MIN
    challenge_seconds_max: int = 7 * 24 * 3600
    challenge_blocks_min: int = CHALLENGE_BLOCKS_MIN
    challenge_blocks_max: int = 100_000
    confirmations: int = 0
    chain_ahead_seconds_max: int = CHAIN_AHEAD_SECONDS_MAX
    hub_silent_settle_seconds: int = 24 * 3600
    hub_silent_close_seconds: int = 0

    def __post_init__(self) -> None:
        for key in type(self).__dataclass_fields__:  # they are compared with each other below
            if type(getattr(self, key)) is not int:
                problem = f"is {getattr(self, key)!r}"
                raise MalformedSettings(f"policy.{key}", problem, remedy="write a whole number")
        for key, low, high in (
            ("challenge_seconds_min", CHALLENGE_SECONDS_MIN, self.challenge_seconds_max),
            ("challenge_seconds_max", self.challenge_seconds_min, CHALLENGE_SECONDS_MAX),
            ("challenge_blocks_min", CHALLENGE_BLOCKS_MIN, self.challenge_blocks_max),
            ("challenge_blocks_max", self.challenge_blocks_min, CHALLENGE_BLOCKS_MAX),
            ("confirmations", 0, CONFIRMATIONS_MAX),
            ("chain_ahead_seconds_max", 1, YEAR_SECONDS),
            ("hub_silent_settle_seconds", 0, YEAR_SECONDS),
            ("hub_silent_close_seconds", 0, YEAR_SECONDS),
        ):
            value = getattr(self, key)
            if not low <= value <= high:
                remedy = f"write a whole number from {low} to {high}"
                raise MalformedSettings(f"policy.{key}", f"is {value!r}", remedy=remedy)


def check_private(hub: HubAddress, trust: Trust | None, *, of: str = "hub") -> None:
    """Refuse to speak plainly with another machine's hub or tower; raises `NotLoopback`."""
    if trust is None and not hub.is_loopback:
        raise NotLoopback(
            f"the {of}'s host {hub.host[:80]} is not a loopback address",
            remedy=NotLoopback.remedy if of == "hub" else TOWER_NEEDS_TLS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `farthing wallet init` was told, all of it checked; see wallet.json.

    Without `trust` the connection is plain, which is for loopback addresses only (`NotLoopback`).
    """

    hub: HubAddress
    hub_signer: Address
    rpc_url: str
    account: Address
    deployment: Deployment
    policy: Policy = field(default_factory=Policy)
    marker_dir: str = ""
    """A folder that keeps the count of signed offers too: absolute; empty for this machine's own,
    `none` for no second place."""
    towers: tuple[TowerPlace, ...] = ()
    trust: Trust | None = None

    def __post_init__(self) -> None:
        check_private(self.hub, self.trust)

    def ahead_seconds_max(self) -> int | None:
        """How far the chain's time may be ahead of this clock; None where it is moved at will."""
        development = self.deployment.is_development
        return None if development else self.policy.chain_ahead_seconds_max

    def to_json(self) -> str:
        """Write the settings as JSON text that ends in a newline."""
        record: dict[str, Any] = {
            "version": SETTINGS_VERSION,
            "hub": str(self.hub),
            "hub_signer": address_to_hex(self.hub_signer),
            **_trust_record(self.trust, "hub_"),
            "rpc": self.rpc_url,
            "account": address_to_hex(self.account),
            "policy": asdict(self.policy),
            "deployment": json.loads(self.deployment.to_json()),
        }
        if self.marker_dir:
            record["marker_dir"] = self.marker_dir
        if self.towers:  # without one, older software reads the file too
            record["towers"] = [tower.record() for tower in self.towers]
        return json.dumps(record, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read the settings; raises a `LocalError` that names the key."""
        try:
            record = bounded_json.parse(text.encode(errors="surrogatepass"))
        except NotJson:
            record = None
        if not isinstance(record, dict) or record.get("version") != SETTINGS_VERSION:
            remedy = "restore wallet.json from a backup, or make a new wallet"
            raise MalformedSettings("version", f"is not {SETTINGS_VERSION}", remedy=remedy)
        known = {"version", "hub", "hub_signer", "rpc", "account", "policy", "deployment"}
        known |= {"marker_dir"}
        known |= {"hub_certificates", "hub_ca"}  # written only where the hub has TLS
        known |= {"towers"}  # written only where there is one
        for key in record.keys() - known:
            raise MalformedSettings(str(key), "is not known", remedy="remove it")
        return cls(
            hub=parse_hub_address(_text(record, "hub")),
            hub_signer=address_from_hex(_text(record, "hub_signer")),
            rpc_url=_text(record, "rpc"),
            account=address_from_hex(_text(record, "account")),
            deployment=Deployment.from_json(json.dumps(record.get("deployment"))),
            policy=_policy(record.get("policy", {})),
            marker_dir=_marker_dir(record.get("marker_dir", "")),
            towers=_towers(record.get("towers", [])),
            trust=_trust(record, "hub_"),
        )


def _trust_record(trust: Trust | None, whose: str = "") -> dict[str, Any]:
    if trust is None:
        return {}
    if trust.ca:
        return {f"{whose}ca": trust.ca}
    return {f"{whose}certificates": [fingerprint(pin) for pin in trust.pins]}


def _trust(record: dict[str, Any], whose: str = "") -> Trust | None:
    pins_key, ca_key = f"{whose}certificates", f"{whose}ca"
    if not record.keys() & {pins_key, ca_key}:
        return None
    pins, ca = record.get(pins_key, []), record.get(ca_key, "")
    if not isinstance(ca, str) or not isinstance(pins, list):
        raise MalformedSettings(pins_key, "is no list of hashes", remedy="write one")
    if not all(isinstance(pin, str) for pin in pins):
        raise MalformedSettings(pins_key, "holds no hashes", remedy="write sha256:…")
    return Trust(pins=tuple(parse_fingerprint(pin) for pin in pins), ca=ca)


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise MalformedSettings(key, "is missing or no text", remedy="write it as in a new wallet")
    return value


def _marker_dir(value: object) -> str:
    if not isinstance(value, str) or not (value in ("", NO_MARKER) or value.startswith("/")):
        remedy = f"write a path that begins with /, or {NO_MARKER!r} for no second place"
        raise MalformedSettings("marker_dir", "names no folder", remedy=remedy)
    return value


def _towers(rows: object) -> tuple[TowerPlace, ...]:
    least, most = {"address", "signer"}, {"address", "signer", "certificates", "ca"}
    if (
        not isinstance(rows, list)
        or len(rows) > TOWERS_MAX
        or not all(isinstance(row, dict) and least <= row.keys() <= most for row in rows)
    ):
        remedy = "use `farthing wallet tower add` and `remove`"
        raise MalformedSettings("towers", f"is no list of up to {TOWERS_MAX}", remedy=remedy)
    return tuple(tower_from_record(row) for row in rows)


def _policy(record: object) -> Policy:
    known = set(Policy.__dataclass_fields__)
    if not isinstance(record, dict) or not record.keys() <= known:
        remedy = f"use only {', '.join(sorted(known))}"
        raise MalformedSettings("policy", "holds something else", remedy=remedy)
    return Policy(**record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The paths of one wallet's files."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """wallet.json: where hub and chain are, and the policy."""
        return self.path / "wallet.json"

    @property
    def keystore_file(self) -> Path:
        """keystore.json: the signer's key, encrypted."""
        return self.path / "keystore.json"

    @property
    def ledger_file(self) -> Path:
        """ledger.sqlite: channels, payments, submissions, requests."""
        return self.path / "ledger.sqlite"

    @property
    def continuity_file(self) -> Path:
        """ledger.sqlite.continuity: how many offers the ledger has signed.

        Leave it out of backups: beside an older ledger it shows that this one was restored. Where
        both are brought back together, only the count that is kept elsewhere shows it.
        """
        return self.path / "ledger.sqlite.continuity"

    def marker_elsewhere(self, settings: Settings, signer: Address) -> Path | None:
        """Where the count is kept a second time, outside of the folder; raises `NoHome`.

        It shows that the whole folder was put back, or was brought here from another machine.
        """
        if settings.marker_dir == NO_MARKER:
            return None
        place = Path(settings.marker_dir) if settings.marker_dir else state_home(os.environ)
        return elsewhere(place, signer, settings.deployment.deployment)

    @property
    def outbox(self) -> Path:
        """transactions: a file for each transaction that the chain may still take or give back."""
        return self.path / "transactions"

    @property
    def control_file(self) -> Path:
        """control.sock: where commands reach the running wallet."""
        return self.path / "control.sock"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that runs the wallet, and names it."""
        return self.path / "lock"

    def settings(self) -> Settings:
        """Read wallet.json; raises `FolderUnusable` and what `Settings.from_json` raises."""
        try:
            with self.settings_file.open("rb") as file:
                content = file.read(SETTINGS_BYTES_MAX + 1)
            if len(content) > SETTINGS_BYTES_MAX:
                raise MalformedSettings("version", "is in too long a file", remedy="restore it")
            return Settings.from_json(content.decode())
        except OSError as error:
            raise FolderUnusable(f"there is no wallet in {self.path} ({error.strerror})") from None
        except UnicodeDecodeError:
            raise FolderUnusable(f"{self.settings_file} is not UTF-8 text") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Own the folder while the block lasts; raises `WalletInUse` at once."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderUnusable(f"there is no wallet in {self.path} ({error.strerror})") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, LOCK_BYTES_MAX, 0).decode(errors="replace").strip()
                raise WalletInUse(self.path, holder) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)  # which unlocks; the file stays, so that nobody locks a lost one


def create_folder(
    path: Path, password: str, settings: Callable[[Address], Settings], *, key: bytes | None = None
) -> Folder:
    """Make a wallet: a folder, a new key (or the given 32 bytes), and the settings for its address.

    Raises `FolderExists`, `FolderUnusable` and what `keystore.create` raises.
    """
    folder = Folder(path=path)
    if folder.settings_file.exists():
        raise FolderExists(f"there is already a wallet in {path}")
    try:
        make_folder(path)
        path.chmod(0o700)
    except OSError as error:
        raise FolderUnusable(f"the folder {path} cannot be made ({error.strerror})") from None
    signer = keystore.create(folder.keystore_file, password, key)
    write_settings(folder, settings(signer))
    return folder


def write_settings(folder: Folder, settings: Settings) -> None:
    """Write wallet.json whole or not at all; raises `FolderUnusable`."""
    try:
        write_whole(folder.settings_file, settings.to_json().encode())
    except OSError as error:
        raise FolderUnusable(
            f"{folder.settings_file} cannot be written ({error.strerror})"
        ) from None
