"""A watchtower's configuration: one TOML file, any key of it overridden from the environment.

Rule: as with a hub's (node/config.py), whose readers it shares: it is checked whole before the
watchtower does anything, and each error names the key and line or the variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import SETTINGS as HUB_SETTINGS
from ..config import Setting, read_settings
from ..listening import check_tls
from ..settings import Place, as_integer

VARIABLE_PREFIX = "FARTHING_WATCHTOWER_"
"""FARTHING_WATCHTOWER_LISTEN_PORT overrides the key listen_port, and so on."""

_DAY_SECONDS = 86_400
_SILENCE_SECONDS_MIN = 60
_SILENCE_SECONDS_MAX = 366 * _DAY_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """Everything a watchtower is told; paths are absolute, times in seconds."""

    listen_host: str
    listen_port: int
    tls_certificate_file: Path | None
    tls_key_file: Path | None
    rpc_url: str
    deployment_file: Path
    data_dir: Path
    keystore: Path
    password_file: Path
    confirmations: int
    rpc_timeout_seconds: int
    settle_rows_max: int
    connections_max: int
    guests_max: int
    strangers_max: int
    handshakes_per_second: int
    handshakes_per_address: int
    queued_mib_max: int
    channels_max: int
    silence_seconds: int


def _silence(place: Place, raw: Any, _: Path) -> int:
    return as_integer(place, raw, low=_SILENCE_SECONDS_MIN, high=_SILENCE_SECONDS_MAX)


def _like_the_hub_s(key: str, default: Any, what: str) -> Setting:
    return Setting(read=HUB_SETTINGS[key].read, default=default, what=what)


SETTINGS: Mapping[str, Setting] = {
    "listen_host": HUB_SETTINGS["listen_host"],
    "listen_port": _like_the_hub_s("listen_port", 7272, "its port; 0 takes any that is free"),
    "tls_certificate_file": HUB_SETTINGS["tls_certificate_file"],
    "tls_key_file": HUB_SETTINGS["tls_key_file"],
    "rpc_url": HUB_SETTINGS["rpc_url"],
    "deployment_file": HUB_SETTINGS["deployment_file"],
    "data_dir": _like_the_hub_s(
        "data_dir", "watchtower-data", "folder of the watchtower's database; made if missing"
    ),
    "keystore": _like_the_hub_s(
        "account_keystore", None, "keystore v3 of the key that wallets know and that answers closes"
    ),
    "password_file": _like_the_hub_s(
        "password_file", None, "file with the keystore's password, mode 600"
    ),
    "confirmations": HUB_SETTINGS["confirmations"],
    "rpc_timeout_seconds": HUB_SETTINGS["rpc_timeout_seconds"],
    "settle_rows_max": _like_the_hub_s("settle_rows_max", 100, "vouchers in one answer"),
    "connections_max": HUB_SETTINGS["connections_max"],
    "guests_max": _like_the_hub_s(
        "guests_max",
        HUB_SETTINGS["guests_max"].default,
        "connected wallets of which nothing is held yet",
    ),
    "strangers_max": HUB_SETTINGS["strangers_max"],
    "handshakes_per_second": HUB_SETTINGS["handshakes_per_second"],
    "handshakes_per_address": HUB_SETTINGS["handshakes_per_address"],
    "queued_mib_max": HUB_SETTINGS["queued_mib_max"],
    "channels_max": _like_the_hub_s(
        "channels_max", 10_000, "channels that are watched; bounds memory and disk"
    ),
    "silence_seconds": Setting(
        read=_silence,
        default=_DAY_SECONDS,
        what="a wallet that was not seen for this long is named in the log",
    ),
}
"""Every key that a file may hold, and the only ones."""


def load(path: Path, environ: Mapping[str, str]) -> TowerConfig:
    """Read a watchtower's configuration; raises a `Misconfigured`, changes nothing."""
    values, places = read_settings(path, environ, SETTINGS, VARIABLE_PREFIX)
    config = TowerConfig(**values)
    check_tls(config.listen_host, config.tls_certificate_file, config.tls_key_file, places)
    return config
