"""A watchtower's configuration: a hub's rules on other keys."""

from pathlib import Path

import pytest

from farthing.node.config import ExposedKey
from farthing.node.listening import HalfTls, NotLoopback
from farthing.node.setting_paths import ExposedPassword, MissingFile
from farthing.node.settings import (
    Misconfigured,
    MissingSetting,
    SettingOutOfRange,
    UnknownSetting,
)
from farthing.node.watchtower.config import SETTINGS, VARIABLE_PREFIX, load

LINES = {
    "rpc_url": '"http://127.0.0.1:8545"',
    "deployment_file": '"deployment.json"',
    "keystore": '"keystore.json"',
    "password_file": '"password"',
}


def written(folder: Path, **changes: str) -> Path:
    for name in ("deployment.json", "keystore.json", "password", "key.pem", "certificate.pem"):
        (folder / name).touch(mode=0o600)
    lines = [f"{key} = {value}\n" for key, value in {**LINES, **changes}.items() if value]
    path = folder / "watchtower.toml"
    path.write_text("".join(lines))
    return path


def test_what_must_be_given_is_enough(tmp_path: Path) -> None:
    config = load(written(tmp_path), {})
    assert config.listen_port == 7272
    assert config.data_dir == tmp_path / "watchtower-data"
    assert config.keystore == tmp_path / "keystore.json"
    assert config.silence_seconds == 86_400
    assert set(SETTINGS) == set(type(config).__dataclass_fields__)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {VARIABLE_PREFIX + "CHANNELS_MAX": "7", "FARTHING_HUB_CHANNELS_MAX": "8"}
    assert load(written(tmp_path, channels_max="9"), environ).channels_max == 7


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"keystore": ""}, MissingSetting, "keystore"),
        ({"keystore": '"nowhere.json"'}, MissingFile, "'keystore'"),
        ({"listen_host": '"192.0.2.1"'}, NotLoopback, "'listen_host'"),
        ({"listen_host": '"0.0.0.0"'}, NotLoopback, "tls_certificate_file"),
        ({"listen_host": '"::"', "tls_key_file": '"key.pem"'}, HalfTls, "'tls_certificate_file'"),
        ({"tls_certificate_file": '"certificate.pem"'}, HalfTls, "'tls_key_file'"),
        ({"tls_key_file": '"nowhere.pem"'}, MissingFile, "'tls_key_file'"),
        ({"silence_seconds": "59"}, SettingOutOfRange, "'silence_seconds'"),
        ({"channels_max": "0"}, SettingOutOfRange, "'channels_max'"),
        ({"settle_rows_max": "129"}, SettingOutOfRange, "'settle_rows_max'"),
        ({"signer_keystore": '"keystore.json"'}, UnknownSetting, "signer_keystore"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, str], error: type[Misconfigured], what: str
) -> None:
    with pytest.raises(error, match=what):
        load(written(tmp_path, **changes), {})


def test_a_mistyped_variable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownSetting, match="CHANELS_MAX"):
        load(written(tmp_path), {VARIABLE_PREFIX + "CHANELS_MAX": "7"})


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(ExposedPassword, match="chmod 600"):
        load(path, {})


TLS = {"tls_certificate_file": '"certificate.pem"', "tls_key_file": '"key.pem"'}


def test_with_a_certificate_and_its_key_other_machines_are_listened_to(tmp_path: Path) -> None:
    config = load(written(tmp_path, listen_host='"0.0.0.0"', **TLS), {})
    assert config.listen_host == "0.0.0.0"  # noqa: S104 - with TLS
    assert config.tls_certificate_file == tmp_path / "certificate.pem"
    assert config.tls_key_file == tmp_path / "key.pem"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, **TLS)
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(ExposedKey, match="chmod 600"):
        load(path, {})
