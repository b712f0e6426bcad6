"""The hub's configuration: defaults, overrides, and a clear word for everything that is wrong."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import fields
from pathlib import Path

import pytest

import farthing.contracts
from farthing.channels.client.memory import BYTES_MAX
from farthing.node import config as hub_config
from farthing.node import setting_paths, settings
from farthing.node.config import SETTINGS, HubConfig, load
from farthing.node.limits import DoorLimits
from farthing.node.listening import HalfTls, NotLoopback
from farthing.node.setting_paths import PASSWORD_BYTES_MAX, read_password

TEXT = """rpc_url = "http://127.0.0.1:8545"
deployment_file = "deployment.json"
account_keystore = "account.json"
signer_keystore = "signer.json"
password_file = "password"
programme_files = ["block.toml"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("deployment.json", "account.json", "signer.json", "password", "block.toml"):
        (tmp_path / name).write_text("content\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "hub.toml").write_text(TEXT)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "hub.toml"
    path.write_text(text)
    return path


def test_what_is_left_out_has_a_default(folder: Path, machine: Path) -> None:
    config = load(folder / "hub.toml", {"PATH": "/bin"})
    assert config == HubConfig(
        listen_host="127.0.0.1",
        listen_port=7171,
        tls_certificate_file=None,
        tls_key_file=None,
        rpc_url="http://127.0.0.1:8545",
        deployment_file=folder / "deployment.json",
        data_dir=folder / "hub-data",
        marker_dir=machine / "farthing",
        account_keystore=folder / "account.json",
        signer_keystore=folder / "signer.json",
        password_file=folder / "password",
        programme_files=(folder / "block.toml",),
        challenge_seconds=86_400,
        challenge_blocks=1000,
        deposit_ucent=100_000_000,
        settle_unsettled_ucent=10_000_000,
        settle_age_seconds=3600,
        settle_rows_max=100,
        confirmations=0,
        chain_ahead_seconds_max=900,
        rpc_timeout_seconds=10,
        connections_max=1000,
        guests_max=64,
        strangers_max=256,
        handshakes_per_second=200,
        handshakes_per_address=100,
        queued_mib_max=256,
        channels_max=10_000,
        top_up_below_ucent=25_000_000,
        top_up_to_ucent=100_000_000,
        top_up_member_day_ucent=1_000_000_000,
        top_up_rows_max=100,
        openings_member_day_max=4,
        withdrawal_least_ucent=1_000_000,
        withdrawals_member_day_max=24,
        silent_settle_seconds=86_400,
        silent_close_seconds=2_592_000,
        silent_closes_per_hour=12,
        submissions_per_day=250_000,
        requests_per_day=200,
        keep_days=400,
    )


def test_a_door_s_defaults_are_those_of_the_configuration() -> None:
    limits = DoorLimits(connections_max=1000)
    for field in fields(limits):
        assert SETTINGS[field.name].default == getattr(limits, field.name)
    assert SETTINGS["queued_mib_max"].default * 2**20 == BYTES_MAX


def test_each_field_has_a_setting_with_words_and_a_default_that_is_allowed() -> None:
    assert list(SETTINGS) == [field.name for field in fields(HubConfig)]
    assert all(setting.what for setting in SETTINGS.values())


def test_no_settlement_is_longer_than_the_contract_takes() -> None:
    folder = Path(next(iter(farthing.contracts.__path__)))
    source = (folder / "settlement.vy").read_text()
    rows = re.search(r"^SETTLE_ROWS_MAX: .* = (\d+)$", source, re.MULTILINE)
    assert rows
    assert int(rows[1]) >= hub_config.SETTLE_ROWS_MAX


def test_the_environment_comes_first(folder: Path) -> None:
    environ = {
        "FARTHING_HUB_LISTEN_PORT": "0",
        "FARTHING_HUB_LISTEN_HOST": "::1",
        "FARTHING_HUB_RPC_URL": "https://node.city.example/rpc?key=secret",
        "FARTHING_HUB_PROGRAMME_FILES": "block.toml:deployment.json",
        "FARTHING_HUB_DEPOSIT_UCENT": "12500",
        "FARTHING_HUB_DATA_DIR": "other",
    }
    config = load(write(folder, TEXT + "listen_port = 9\ndeposit_ucent = 1\n"), environ)
    assert (config.listen_host, config.listen_port) == ("::1", 0)
    assert config.rpc_url == "https://node.city.example/rpc?key=secret"
    assert config.programme_files == (folder / "block.toml", folder / "deployment.json")
    assert config.deposit_ucent == 12500
    assert config.data_dir == folder / "other"


def test_the_count_of_signed_offers_is_kept_in_the_folder_that_is_named_or_nowhere(
    folder: Path,
) -> None:
    named = load(folder / "hub.toml", {"FARTHING_HUB_MARKER_DIR": "counts"})
    assert named.marker_dir == folder / "counts"
    assert load(folder / "hub.toml", {"FARTHING_HUB_MARKER_DIR": "none"}).marker_dir is None


def test_paths_start_at_the_file_and_absolute_ones_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "conf").mkdir()
    absolute = TEXT.replace('"block.toml"', f'"{folder}/block.toml"')
    relative = re.sub(r'"(\w+(\.json)?)"', r'"../\1"', absolute)
    path = folder / "conf" / "hub.toml"
    path.write_text(relative)
    monkeypatch.chdir(folder)
    config = load(Path("conf/hub.toml"), {})
    assert config.programme_files == (folder / "block.toml",)
    assert config.account_keystore == folder / "conf" / ".." / "account.json"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_addresses_are_taken(folder: Path, host: str) -> None:
    config = load(write(folder, f'listen_host = "{host}"\n{TEXT}'), {})
    assert config.listen_host == host.replace("localhost", "127.0.0.1")


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.168.0.7", "::ffff:10.0.0.1"],  # noqa: S104 - refused
)
def test_other_addresses_are_refused_without_tls(folder: Path, host: str) -> None:
    text = f'listen_host = "{host}"\n{TEXT}'
    with pytest.raises(NotLoopback, match=r"line 1.*tls_certificate_file"):
        load(write(folder, text), {})
    for name in ("certificate.pem", "key.pem"):
        (folder / name).touch(mode=0o600)
    tls = 'tls_certificate_file = "certificate.pem"\ntls_key_file = "key.pem"\n'
    config = load(write(folder, tls + text), {})
    assert ipaddress.ip_address(config.listen_host) == ipaddress.ip_address(host)
    assert config.tls_key_file == folder / "key.pem"


@pytest.mark.parametrize("host", ["hub.city.example", "127.1", ""])
def test_a_host_to_listen_on_is_an_address(folder: Path, host: str) -> None:
    with pytest.raises(settings.Misconfigured, match=r"line 1"):
        load(write(folder, f'listen_host = "{host}"\n{TEXT}'), {})


@pytest.mark.parametrize("key", ["tls_certificate_file", "tls_key_file"])
def test_a_certificate_and_its_key_are_given_together(folder: Path, key: str) -> None:
    (folder / "half.pem").touch(mode=0o600)
    with pytest.raises(HalfTls, match="both"):
        load(write(folder, f'{key} = "half.pem"\n{TEXT}'), {})


def test_a_key_that_others_may_read_is_refused(folder: Path) -> None:
    for name in ("certificate.pem", "key.pem"):
        (folder / name).touch(mode=0o644)
    tls = 'tls_certificate_file = "certificate.pem"\ntls_key_file = "key.pem"\n'
    with pytest.raises(hub_config.ExposedKey, match=r"0644.*chmod 600"):
        load(write(folder, tls + TEXT), {})


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("listen_port = 65536", settings.SettingOutOfRange, "from 0 to 65535"),
        ('listen_port = "80"', settings.WrongSettingType, "whole number"),
        ("listen_prot = 80", settings.UnknownSetting, "did you mean 'listen_port'?"),
        ("[listen]\nport = 80", settings.UnknownSetting, "key 'listen'"),
        ("challenge_seconds = 599", settings.SettingOutOfRange, "from 600 to 2592000"),
        ("challenge_blocks = 9", settings.SettingOutOfRange, "from 10 to 1000000"),
        ("deposit_ucent = 0.5", settings.WrongSettingType, "whole number"),
        (f"deposit_ucent = {2**76}", settings.SettingOutOfRange, "75557863725914323419135"),
        ("settle_unsettled_ucent = 0", settings.SettingOutOfRange, "from 1"),
        ("settle_rows_max = 129", settings.SettingOutOfRange, "to 128"),
        ("confirmations = -1", settings.SettingOutOfRange, "from 0"),
        ("connections_max = 0", settings.SettingOutOfRange, "from 1"),
        ('data_dir = "account.json"', setting_paths.NotAFolder, "account.json"),
        ('data_dir = "a\\u0000b"', settings.MalformedSetting, "null byte"),
        ('data_dir = "~nobody-of-that-name/x"', settings.MalformedSetting, "tilde"),
        ("data_dir = 5", settings.WrongSettingType, "text"),
    ],
)
def test_a_wrong_value_is_refused_by_key_and_line(
    folder: Path, line: str, kind: type[settings.Misconfigured], said: str
) -> None:
    with pytest.raises(kind) as caught:
        load(write(folder, TEXT + "\n" + line + "\n"), {})
    assert f"{folder}/hub.toml, line 8, key '{re.split('[^a-z_]+', line.strip('['))[0]}'" in str(
        caught.value
    )
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "kind", "said"),
    [
        ('rpc_url = "http://127.0.0.1:8545"', "", settings.MissingSetting, "FARTHING_HUB_RPC_URL"),
        ("http://127.0.0.1:8545", "127.0.0.1:8545", settings.MalformedSetting, "line 1"),
        ("http://127.0.0.1:8545", "http://:8545", settings.MalformedSetting, "line 1"),
        ("http://127.0.0.1:8545", "http://h:99999", settings.MalformedSetting, "line 1"),
        ("http://127.0.0.1:8545", "http://h h/", settings.MalformedSetting, "line 1"),
        ("http://127.0.0.1:8545", "http://[::1", settings.MalformedSetting, "line 1"),
        ("http://127.0.0.1:8545", "ftp://secret@h/", settings.MalformedSetting, "line 1"),
        ("account.json", "gone.json", setting_paths.MissingFile, "line 3, key 'account_keystore'"),
        ("account.json", ".", setting_paths.MissingFile, "line 3"),
        ("account.json", "x" * 4000, setting_paths.MissingFile, "line 3"),
        ('["block.toml"]', '"block.toml"', settings.WrongSettingType, "line 6"),
        ('["block.toml"]', "[]", settings.WrongSettingType, "line 6"),
        ('["block.toml"]', "[5]", settings.WrongSettingType, "line 6"),
        ('["block.toml"]', '["gone.toml"]', setting_paths.MissingFile, "gone.toml"),
    ],
)
def test_a_wrong_or_missing_line_is_refused(
    folder: Path, before: str, after: str, kind: type[settings.Misconfigured], said: str
) -> None:
    assert before in TEXT
    with pytest.raises(kind) as caught:
        load(write(folder, TEXT.replace(before, after)), {})
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.what_to_do


def test_errors_from_the_environment_name_the_variable(folder: Path) -> None:
    path = folder / "hub.toml"
    with pytest.raises(settings.SettingOutOfRange, match="variable FARTHING_HUB_LISTEN_PORT: "):
        load(path, {"FARTHING_HUB_LISTEN_PORT": "99999"})
    with pytest.raises(settings.WrongSettingType, match="FARTHING_HUB_LISTEN_PORT"):
        load(path, {"FARTHING_HUB_LISTEN_PORT": ""})
    with pytest.raises(settings.UnknownSetting, match="mean 'FARTHING_HUB_LISTEN_PORT'"):
        load(path, {"FARTHING_HUB_LISTEN_PROT": "1"})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_password_file_that_others_may_use_is_refused(folder: Path, mode: int) -> None:
    (folder / "password").chmod(mode)
    with pytest.raises(setting_paths.ExposedPassword, match=f"{mode:04o}.*chmod 600") as caught:
        load(folder / "hub.toml", {})
    assert caught.value.place.line == 5


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    for content, password in (
        (b"pa ss\n", "pa ss"),
        (b"pa\r\nsecond", "pa"),
        ("pässe".encode(), "pässe"),
        (b"x" * PASSWORD_BYTES_MAX + b"\n", "x" * PASSWORD_BYTES_MAX),
    ):
        path.write_bytes(content)
        assert read_password(path) == password


@pytest.mark.parametrize(
    "content", [b"", b"\nsecond", b"\xff\xfe", b"x" * 1025, b"x" * 1025 + b"\n"]
)
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(setting_paths.UnusablePassword) as caught:
        read_password(path)
    assert "xxx" not in str(caught.value)
    with pytest.raises(setting_paths.UnusablePassword):
        read_password(tmp_path / "gone")
