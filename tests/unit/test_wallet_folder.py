"""A wallet's folder: its settings, its modes, and who may hold it."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.channels.client.folder import (
    Folder,
    FolderExists,
    FolderUnusable,
    HubAddress,
    MalformedSettings,
    NotLoopback,
    Policy,
    Settings,
    TowerPlace,
    WalletInUse,
    create_folder,
    parse_hub_address,
    write_settings,
)
from farthing.channels.client.keystore import address, unlock
from farthing.channels.client.tls import MalformedTrust, Trust
from farthing.channels.deployment import Deployment, MalformedDeployment
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, ChecksumMismatch, MalformedHex, address_to_hex

HUB_SIGNER = Address(keccak256(b"hub")[12:])
DEPLOYMENT = Deployment(
    chain_id=7,
    genesis_hash=bytes(32),
    block=1,
    city_credit=Address(keccak256(b"token")[12:]),
    member_registry=Address(keccak256(b"registry")[12:]),
    payment_channels=Address(keccak256(b"channels")[12:]),
    deployment=keccak256(b"deployment"),
)


def settings(account: Address) -> Settings:
    return Settings(
        hub=HubAddress(host="127.0.0.1", port=7171),
        hub_signer=HUB_SIGNER,
        rpc_url="http://127.0.0.1:8545",
        account=account,
        deployment=DEPLOYMENT,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return create_folder(tmp_path / "alice", "password", settings)


def test_a_new_folder_holds_a_key_and_its_settings_for_its_owner_alone(folder: Folder) -> None:
    signer = unlock(folder.keystore_file, "password")
    assert folder.settings() == settings(signer.address)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for file in folder.path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_given_key_is_kept(tmp_path: Path) -> None:
    made = create_folder(tmp_path / "bob", "password", settings, key=keccak256(b"bob"))
    assert address(made.keystore_file) == made.settings().account


def test_a_wallet_is_never_made_over_another(folder: Folder) -> None:
    before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
    with pytest.raises(FolderExists):
        create_folder(folder.path, "password", settings)
    assert {file.name: file.read_bytes() for file in folder.path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match="cannot be made"):
        create_folder(tmp_path / "file" / "alice", "password", settings)


def test_settings_that_cannot_be_written_are_named(folder: Folder) -> None:
    with pytest.raises(FolderUnusable, match="cannot be written"):
        write_settings(Folder(path=folder.path / "nowhere"), folder.settings())


def test_settings_survive_being_written(folder: Folder) -> None:
    policy = Policy(challenge_seconds_min=1000, confirmations=3)
    changed = Settings(
        hub=HubAddress(host="::1", port=1),
        hub_signer=HUB_SIGNER,
        rpc_url="https://rpc.example/key",
        account=HUB_SIGNER,
        deployment=DEPLOYMENT,
        policy=policy,
        towers=(
            TowerPlace(address=HubAddress(host="127.0.0.1", port=7272), signer=HUB_SIGNER),
            TowerPlace(address=HubAddress(host="::1", port=7273), signer=HUB_SIGNER),
            TowerPlace(
                address=HubAddress(host="192.0.2.1", port=7272),
                signer=HUB_SIGNER,
                trust=Trust(pins=(b"\x5a" * 32, b"\x5b" * 32)),
            ),
            TowerPlace(
                address=HubAddress(host="tower.example", port=7272),
                signer=HUB_SIGNER,
                trust=Trust(ca="system"),
            ),
        ),
    )
    write_settings(folder, changed)
    assert folder.settings() == changed
    assert Settings.from_json(changed.to_json()) == changed


def changed(folder: Folder, **values: object) -> str:
    return json.dumps({**json.loads(folder.settings_file.read_text()), **values})


@pytest.mark.parametrize(
    ("values", "error", "what"),
    [
        ({"version": 2}, MalformedSettings, "'version'"),
        ({"hub": "127.0.0.1"}, MalformedSettings, "'hub'"),
        ({"hub": 7}, MalformedSettings, "'hub'"),
        ({"hub": "hub.example:7171"}, NotLoopback, "hub.example"),
        ({"hub_signer": "0x00"}, MalformedHex, "address"),
        ({"account": "0x" + "aB" * 20}, ChecksumMismatch, "checksum"),
        ({"rpc": ""}, MalformedSettings, "'rpc'"),
        ({"deployment": {}}, MalformedDeployment, "version"),
        ({"policy": {"patience": 1}}, MalformedSettings, "'policy'"),
        ({"policy": []}, MalformedSettings, "'policy'"),
        ({"policy": {"challenge_seconds_min": 1}}, MalformedSettings, "challenge_seconds_min"),
        ({"policy": {"challenge_seconds_max": 10**9}}, MalformedSettings, "seconds_max"),
        ({"policy": {"challenge_seconds_max": "1 h"}}, MalformedSettings, "seconds_max"),
        ({"policy": {"challenge_blocks_max": []}}, MalformedSettings, "blocks_max"),
        ({"hub": "127.0.0.1:000001999999"}, MalformedSettings, "'hub'"),
        ({"hub": "127.0.0.1:" + "1" * 5000}, MalformedSettings, "'hub'"),
        ({"policy": {"challenge_blocks_min": "10"}}, MalformedSettings, "challenge_blocks_min"),
        ({"policy": {"confirmations": -1}}, MalformedSettings, "confirmations"),
        ({"policy": {"confirmations": True}}, MalformedSettings, "confirmations"),
        ({"towers": {}}, MalformedSettings, "'towers'"),
        ({"towers": [{"address": "127.0.0.1:1"}]}, MalformedSettings, "'towers'"),
        ({"towers": [{"address": "x", "signer": "0x00"}]}, MalformedSettings, "'tower'"),
        (
            {"towers": [{"address": "192.0.2.1:1", "signer": "0x" + "11" * 20}]},
            NotLoopback,
            "the tower's.*--certificate",
        ),
        (
            {"towers": [{"address": "t.example:1", "signer": "0x" + "11" * 20, "ca": 7}]},
            MalformedSettings,
            "'certificates'",
        ),
        (
            {"towers": [{"address": "t.example:1", "signer": "0x" + "11" * 20, "ca": ""}]},
            MalformedTrust,
            "by its certificate or by a CA",
        ),
        (
            {"towers": [{"address": "t.example:1", "signer": "0x" + "11" * 20, "hub_ca": "x"}]},
            MalformedSettings,
            "'towers'",
        ),
        ({"towers": [{"address": "127.0.0.1:1", "signer": "0x00"}]}, MalformedHex, "address"),
        ({"towers": [{"address": "127.0.0.1:1", "signer": "0x00"}] * 5}, MalformedSettings, "to 4"),
        ({"colour": "blue"}, MalformedSettings, "'colour'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    folder: Folder, values: dict[str, object], error: type[Exception], what: str
) -> None:
    folder.settings_file.write_text(changed(folder, **values))
    with pytest.raises(error, match=what):
        folder.settings()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 30_000, b"\xff", b" " * (1 << 17)])
def test_a_settings_file_that_is_none_is_refused(folder: Folder, content: bytes) -> None:
    folder.settings_file.write_bytes(content)
    with pytest.raises((MalformedSettings, FolderUnusable)):
        folder.settings()


def test_settings_without_a_tower_are_those_that_older_software_reads(folder: Folder) -> None:
    assert "towers" not in json.loads(folder.settings_file.read_text())


def test_a_tower_of_before_tls_is_read_and_written_as_it_was(folder: Folder) -> None:
    rows = [{"address": "127.0.0.1:7272", "signer": address_to_hex(HUB_SIGNER)}]
    settings = Settings.from_json(changed(folder, towers=rows))
    assert settings.towers[0].trust is None
    assert json.loads(settings.to_json())["towers"] == rows


def test_settings_are_for_their_owner_alone_from_the_first_byte(folder: Folder) -> None:
    written: list[int] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        written.extend(stat.S_IMODE(d.stat().st_mode) for d in folder.path.glob(".draft-*"))
        original(descriptor)

    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            write_settings(folder, folder.settings())
    finally:
        os.umask(before)
    assert written == [0o600]
    assert stat.S_IMODE(folder.settings_file.stat().st_mode) == 0o600


def test_a_folder_without_a_wallet_says_how_to_make_one(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "nobody")
    with pytest.raises(FolderUnusable, match="farthing wallet init"):
        folder.settings()
    with pytest.raises(FolderUnusable), folder.locked():
        pass


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7171", "127.0.0.1", 7171),
        ("localhost:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_a_hubs_address_is_read_and_written(text: str, host: str, port: int) -> None:
    read = parse_hub_address(text)
    assert (read.host, read.port) == (host, port)
    assert parse_hub_address(str(read)) == read


@pytest.mark.parametrize(
    "text", ["", ":", "127.0.0.1", "127.0.0.1:", ":7171", "127.0.0.1:0", "127.0.0.1:65536", "a:b"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedSettings, match="HOST:PORT"):
        parse_hub_address(text)


@pytest.mark.parametrize("text", ["192.0.2.1:1", "hub.example:1", "[2001:db8::1]:1", "0.0.0.0:1"])
def test_a_hub_elsewhere_needs_something_to_know_it_by(folder: Folder, text: str) -> None:
    elsewhere = parse_hub_address(text)
    with pytest.raises(NotLoopback, match="--hub-certificate"):
        replace(folder.settings(), hub=elsewhere)
    for trust in (Trust(pins=(b"\x01" * 32,)), Trust(ca="system")):
        known = replace(folder.settings(), hub=elsewhere, trust=trust)
        assert Settings.from_json(known.to_json()) == known


@pytest.mark.parametrize("text", ["a b:1", "-hub.example:1", "a/b:1", "hub_1:1"])
def test_a_host_that_no_name_can_be_is_refused(text: str) -> None:
    with pytest.raises(MalformedSettings, match="host"):
        parse_hub_address(text)


PIN = "sha256:" + "5a" * 32


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"hub_certificates": PIN}, MalformedSettings),
        ({"hub_certificates": [7]}, MalformedSettings),
        ({"hub_ca": 7}, MalformedSettings),
        ({"hub_certificates": [PIN[:-2]]}, MalformedTrust),
        ({"hub_certificates": [PIN[7:]]}, MalformedTrust),
        ({"hub_certificates": [PIN] * 3}, MalformedTrust),
        ({"hub_certificates": []}, MalformedTrust),
        ({"hub_certificates": [PIN], "hub_ca": "system"}, MalformedTrust),
    ],
)
def test_trust_that_cannot_be_used_is_refused(
    folder: Folder, values: dict[str, object], error: type[Exception]
) -> None:
    folder.settings_file.write_text(changed(folder, **values))
    with pytest.raises(error):
        folder.settings()


def test_settings_of_before_tls_are_read_and_stay_as_they_were(folder: Folder) -> None:
    text = folder.settings_file.read_text()
    assert "hub_c" not in text
    assert folder.settings().trust is None
    assert folder.settings().to_json() == text


HOLD = """
import sys, pathlib
from farthing.channels.client.folder import Folder
with Folder(path=pathlib.Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_keeps_the_folder_until_it_ends(folder: Folder) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WalletInUse) as caught, folder.locked():
            pass
        assert caught.value.holder == str(holder.pid)
        holder.stdin.close()
    with folder.locked():
        pass
