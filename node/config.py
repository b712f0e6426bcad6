"""A hub's configuration: one TOML file, any key of it overridden from the environment.

Rule: it is checked whole before the hub does anything, and each error names the key and line or
the environment variable. Relative paths are relative to the file, wherever the value comes from.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..channels.client.continuity import state_home
from ..channels.deployment import CHAIN_AHEAD_SECONDS_MAX
from ..channels.state import STALE_DIVISOR
from ..channels.terms import (
    CHALLENGE_BLOCKS_MAX,
    CHALLENGE_BLOCKS_MIN,
    CHALLENGE_SECONDS_MAX,
    CHALLENGE_SECONDS_MIN,
)
from ..channels.units import DEPOSIT_MAX, TRANSFERRED_MAX, UCENT_PER_CENT, UCENT_PER_UNIT
from .listening import check_tls
from .marks import check_liquidity, with_derived
from .setting_paths import GROUP_OR_WORLD as _GROUP_OR_WORLD
from .setting_paths import mode_of as _mode
from .setting_paths import read_file as _file
from .setting_paths import read_folder as _folder
from .setting_paths import read_password_path as _password_file
from .settings import (
    MalformedSetting,
    Misconfigured,
    MissingSetting,
    Place,
    SettingOutOfRange,
    UnknownSetting,
    WrongSettingType,
    as_integer,
    as_text,
    read_document,
    refuse_unknown,
    shown,
)

VARIABLE_PREFIX = "FARTHING_HUB_"
"""FARTHING_HUB_LISTEN_PORT overrides the key listen_port, and so on."""

PROGRAMMES_MAX = 32
"""A reading is matched against each programme; an agency runs a handful."""

SETTLE_ROWS_MAX = 128
"""The contract's own limit on rows in one settlement (contracts/settlement.vy)."""

TOP_UP_ROWS_MAX = 128
"""Half of the contract's own limit on rows: a row of a top-up takes about 20,000 gas."""

SILENT_CLOSES_PER_HOUR_MAX = 600
"""One at each look, which is taken every five seconds; ten thousand channels are a day's work."""

MEMBER_DAY_MAX = 1_000_000
"""Nobody needs more of anything in a day; bounds the counters."""

_PORT_MAX = 65_535
_DAY_SECONDS = 86_400
_YEAR_SECONDS = 366 * _DAY_SECONDS
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")


class ExposedKey(Misconfigured):
    """A file with a private key that others on this machine may read or change."""

    code = "exposed-key"

    def __init__(self, place: Place, path: Path, mode: int) -> None:
        super().__init__(
            place,
            f"{path} has mode {stat.S_IMODE(mode):04o}, so other users may use it",
            remedy=f"run: chmod 600 {path}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """Everything a hub is told; paths are absolute, money is in µ¢, times in seconds.

    A lane is settled once `settle_unsettled_ucent` of it are not on-chain, or once something of
    it has been unsettled for `settle_age_seconds`. A block is confirmed when
    `confirmations` more stand on it. A lane is low below `top_up_below_ucent`; it is then topped
    up to `top_up_to_ucent`, with up to `top_up_member_day_ucent` a member and day.
    """

    listen_host: str
    listen_port: int
    tls_certificate_file: Path | None
    tls_key_file: Path | None
    rpc_url: str
    deployment_file: Path
    data_dir: Path
    marker_dir: Path | None
    account_keystore: Path
    signer_keystore: Path
    password_file: Path
    programme_files: tuple[Path, ...]
    challenge_seconds: int
    challenge_blocks: int
    deposit_ucent: int
    settle_unsettled_ucent: int
    settle_age_seconds: int
    settle_rows_max: int
    confirmations: int
    chain_ahead_seconds_max: int
    rpc_timeout_seconds: int
    connections_max: int
    guests_max: int
    strangers_max: int
    handshakes_per_second: int
    handshakes_per_address: int
    queued_mib_max: int
    channels_max: int
    top_up_below_ucent: int
    top_up_to_ucent: int
    top_up_member_day_ucent: int
    top_up_rows_max: int
    openings_member_day_max: int
    withdrawal_least_ucent: int
    withdrawals_member_day_max: int
    silent_settle_seconds: int
    silent_close_seconds: int
    silent_closes_per_hour: int
    submissions_per_day: int
    requests_per_day: int
    keep_days: int


_Read = Callable[[Place, Any, Path], Any]
"""Makes a checked value of a raw one; the path is the configuration's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row: how a key is read, its default as it would be written (None: it must be given)."""

    read: _Read
    default: Any
    what: str


def _whole(low: int, high: int) -> _Read:
    def read(place: Place, raw: Any, _: Path) -> int:
        return as_integer(place, raw, low=low, high=high)

    return read


def _host(place: Place, raw: Any, _: Path) -> str:
    text = as_text(place, raw)
    if text == "localhost":
        return "127.0.0.1"  # said here once, not asked of a resolver that may say otherwise
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise MalformedSetting(
            place,
            f"{shown(text)} is no address",
            remedy="write 127.0.0.1, or with TLS 0.0.0.0 or ::, or one of this machine's addresses",
        ) from None


def _url(place: Place, raw: Any, _: Path) -> str:
    """Check a URL; its text is not repeated in the error, as it may hold an access key."""
    text = as_text(place, raw)
    try:
        parts = urlsplit(text)
        is_usable = (
            parts.scheme in ("http", "https")
            and parts.hostname is not None
            and (parts.port is None or parts.port > 0)
            and not re.search(r"[\s\x00-\x1f]", text)
        )
        is_usable = is_usable and _is_host(parts.hostname or "")
    except ValueError:
        is_usable = False
    if not is_usable:
        raise MalformedSetting(
            place,
            "it is not the URL of a JSON-RPC endpoint",
            remedy="write http:// or https://, a host and a port, such as http://127.0.0.1:8545",
        )
    return text


def _is_host(text: str) -> bool:
    return ":" in text or _HOST_NAME.fullmatch(text) is not None


def _marker_dir(place: Place, raw: Any, folder: Path) -> Path | None:
    """Where the count of signed offers is kept a second time; `none` for nowhere."""
    if raw == "":
        return state_home(os.environ)
    return None if raw == "none" else _folder(place, raw, folder)


def _file_or_none(place: Place, raw: Any, folder: Path) -> Path | None:
    return None if raw == "" else _file(place, raw, folder)


def _key_file(place: Place, raw: Any, folder: Path) -> Path | None:
    path = _file_or_none(place, raw, folder)
    mode = 0 if path is None else _mode(path)
    if path is not None and os.name == "posix" and mode & _GROUP_OR_WORLD:
        raise ExposedKey(place, path, mode)
    return path


def _files(place: Place, raw: Any, folder: Path) -> tuple[Path, ...]:
    if place.variable is not None and isinstance(raw, str):
        raw = raw.split(os.pathsep)
    if not isinstance(raw, list) or not 1 <= len(raw) <= PROGRAMMES_MAX:
        raise WrongSettingType(
            place,
            f"{shown(raw)} is not a list of files",
            remedy=f'write 1 to {PROGRAMMES_MAX} paths, such as ["city-block.toml"]',
        )
    return tuple(_file(place, item, folder) for item in raw)


SETTINGS: Mapping[str, Setting] = {
    "listen_host": Setting(
        read=_host, default="127.0.0.1", what="address that wallets connect to; TLS but on loopback"
    ),
    "listen_port": Setting(
        read=_whole(0, _PORT_MAX), default=7171, what="its port; 0 takes any that is free"
    ),
    "tls_certificate_file": Setting(
        read=_file_or_none, default="", what="PEM certificate that wallets see; empty: no TLS"
    ),
    "tls_key_file": Setting(read=_key_file, default="", what="its unencrypted PEM key, mode 600"),
    "rpc_url": Setting(read=_url, default=None, what="JSON-RPC endpoint of the chain"),
    "deployment_file": Setting(
        read=_file, default="deployment.json", what="record that `farthing deploy` wrote"
    ),
    "data_dir": Setting(
        read=_folder, default="hub-data", what="folder of the hub's database; made if missing"
    ),
    "marker_dir": Setting(
        read=_marker_dir,
        default="",
        what="folder outside data_dir that counts signed offers too; empty: this machine's own",
    ),
    "account_keystore": Setting(
        read=_file, default=None, what="keystore v3 of the account that owns the hub's money"
    ),
    "signer_keystore": Setting(
        read=_file, default=None, what="keystore v3 of the key that signs the hub's vouchers"
    ),
    "password_file": Setting(
        read=_password_file, default=None, what="file with the keystores' password, mode 600"
    ),
    "programme_files": Setting(read=_files, default=None, what="programmes that the hub pays for"),
    "challenge_seconds": Setting(
        read=_whole(CHALLENGE_SECONDS_MIN, CHALLENGE_SECONDS_MAX),
        default=_DAY_SECONDS,
        what="time to answer a one-sided close, in channels that the hub opens",
    ),
    "challenge_blocks": Setting(
        read=_whole(CHALLENGE_BLOCKS_MIN, CHALLENGE_BLOCKS_MAX),
        default=1000,
        what="the same in blocks: a close ends when both have passed",
    ),
    "deposit_ucent": Setting(
        read=_whole(0, DEPOSIT_MAX),
        default=UCENT_PER_UNIT,
        what="what the hub puts into each channel that it opens",
    ),
    "settle_unsettled_ucent": Setting(
        read=_whole(1, TRANSFERRED_MAX),
        default=10 * UCENT_PER_CENT,
        what="a lane is settled once this much of it is not yet on-chain",
    ),
    "settle_age_seconds": Setting(
        read=_whole(1, _YEAR_SECONDS),
        default=3600,
        what="or once something of it has been unsettled for this long",
    ),
    "settle_rows_max": Setting(
        read=_whole(1, SETTLE_ROWS_MAX), default=100, what="lanes in one settling transaction"
    ),
    "confirmations": Setting(
        read=_whole(0, 1000), default=0, what="blocks on top of one that make it count; 0 for QBFT"
    ),
    "chain_ahead_seconds_max": Setting(
        read=_whole(1, _YEAR_SECONDS),
        default=CHAIN_AHEAD_SECONDS_MAX,
        what="how far ahead of this machine's clock a block's time is believed",
    ),
    "rpc_timeout_seconds": Setting(
        read=_whole(1, 300), default=10, what="how long to wait for one answer of the endpoint"
    ),
    "connections_max": Setting(
        read=_whole(1, 100_000), default=1000, what="members' wallets connected at one time"
    ),
    "guests_max": Setting(
        read=_whole(1, 100_000),
        default=64,
        what="connected wallets that are no members, such as before their registration",
    ),
    "strangers_max": Setting(
        read=_whole(1, 100_000),
        default=256,
        what="connections that have not authenticated; beyond it the oldest ends",
    ),
    "handshakes_per_second": Setting(
        read=_whole(1, 100_000),
        default=200,
        what="connections that may begin; ten seconds' worth at once",
    ),
    "handshakes_per_address": Setting(
        read=_whole(0, 100_000),
        default=100,
        what="the same for each address (IPv6: each /64); 0 for no limit, as behind a proxy",
    ),
    "queued_mib_max": Setting(
        read=_whole(4, 65_536),
        default=256,
        what="MiB of unsent and half-read bytes of all connections; the greatest ends beyond it",
    ),
    "channels_max": Setting(
        read=_whole(1, 1_000_000), default=10_000, what="open channels; bounds the hub's deposits"
    ),
    "top_up_below_ucent": Setting(
        read=_whole(0, DEPOSIT_MAX),
        default=0,
        what="a lane with less to spend is low; 0 for a quarter of `top_up_to_ucent`",
    ),
    "top_up_to_ucent": Setting(
        read=_whole(0, DEPOSIT_MAX),
        default=0,
        what="what a low lane is topped up to; 0 for `deposit_ucent`, or the cap if that is less",
    ),
    "top_up_member_day_ucent": Setting(
        read=_whole(0, DEPOSIT_MAX),
        default=10 * UCENT_PER_UNIT,
        what="top-ups for one member in a day of chain time; 0 for none at all",
    ),
    "top_up_rows_max": Setting(
        read=_whole(1, TOP_UP_ROWS_MAX), default=100, what="lanes topped up in one transaction"
    ),
    "openings_member_day_max": Setting(
        read=_whole(1, MEMBER_DAY_MAX),
        default=4,
        what="channels that wallets of one member get in a day by joining",
    ),
    "withdrawal_least_ucent": Setting(
        read=_whole(1, DEPOSIT_MAX),
        default=UCENT_PER_CENT,
        what="least that a member takes out at a time, unless it is all it has",
    ),
    "withdrawals_member_day_max": Setting(
        read=_whole(1, MEMBER_DAY_MAX),
        default=24,
        what="withdrawals that the hub countersigns for one member in a day",
    ),
    "silent_settle_seconds": Setting(
        read=_whole(1, _YEAR_SECONDS),
        default=_DAY_SECONDS,
        what="both lanes of a wallet that is silent for so long are settled at once",
    ),
    "silent_close_seconds": Setting(
        read=_whole(0, _YEAR_SECONDS),
        default=30 * _DAY_SECONDS,
        what="its channel is closed after so long; 0 for never",
    ),
    "silent_closes_per_hour": Setting(
        read=_whole(1, SILENT_CLOSES_PER_HOUR_MAX),
        default=12,
        what="closes for silence that are started in an hour, evenly spread",
    ),
    "submissions_per_day": Setting(
        read=_whole(1, 10_000_000),
        default=250_000,
        what="submissions of one wallet that are decided; three a second",
    ),
    "requests_per_day": Setting(
        read=_whole(1, 10_000_000), default=200, what="payments that one wallet may ask for"
    ),
    "keep_days": Setting(
        read=_whole(7, 36_500),
        default=400,
        what="days after which outcomes of submissions and refused requests are forgotten",
    ),
}
"""Every key that a file may hold, and the only ones."""


def load(path: Path, environ: Mapping[str, str]) -> HubConfig:
    """Read a hub's configuration; raises a `Misconfigured`, changes nothing.

    `environ` is the environment; of it only names with `VARIABLE_PREFIX` are read, and an unknown
    one of those is an error too, as it is most often mistyped.
    """
    values, places = read_settings(path, environ, SETTINGS, VARIABLE_PREFIX)
    config = with_derived(HubConfig(**values))
    check_tls(config.listen_host, config.tls_certificate_file, config.tls_key_file, places)
    check_liquidity(config, places)
    most = config.challenge_blocks // STALE_DIVISOR
    if config.confirmations > most:
        raise SettingOutOfRange(
            places["confirmations"],
            f"with {config.confirmations} confirmations a close is seen too late to be answered",
            remedy=f"write at most {most}, a quarter of challenge_blocks, or a longer window",
        )
    return config


def read_settings(
    path: Path, environ: Mapping[str, str], settings: Mapping[str, Setting], prefix: str
) -> tuple[dict[str, Any], dict[str, Place]]:
    """Read every setting of a file and the environment, and where each stands; as `load`."""
    document = read_document(path)
    folder = path.absolute().parent
    refuse_unknown(document, (), document.values, settings)
    variables = {prefix + key.upper(): key for key in settings}
    for name in environ:
        if name.startswith(prefix) and name not in variables:
            raise UnknownSetting(Place(file=str(path), variable=name), name, variables)
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for name, key in variables.items():
        place = document.place(key)
        raw = document.values.get(key, settings[key].default)
        if name in environ:
            place, raw = Place(file=str(path), key=key, variable=name), environ[name]
        if raw is None:
            remedy = f"add the key ({settings[key].what}) or set {name}"
            raise MissingSetting(place, "it is missing", remedy=remedy)
        values[key], places[key] = settings[key].read(place, raw, folder), place
    return values, places
