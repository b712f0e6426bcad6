"""Keys and passwords stay in keystores: nothing else that real commands write or show has them."""

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.channels.client import keystore
from farthing.channels.client.continuity import MARKER_BYTES
from farthing.devnet.processes import Process

from ..agency import Agency, running_agency
from ..hub_world import City, farthing


@pytest.fixture(scope="module")
def agency(hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    """A hub and a wallet, made and run by processes that inherit a umask which forbids nothing."""
    before = os.umask(0)
    try:
        with running_agency(hub_city, tmp_path_factory.mktemp("agency")) as agency:
            yield agency
    finally:
        os.umask(before)


def password_of(agency: Agency) -> str:
    return keystore.read_password_file(agency.folder.path / "password")


def secrets_of(agency: Agency) -> list[bytes]:
    """All keys and passwords of both processes."""
    hub_password = keystore.read_password_file(agency.config.parent / "password")
    keys = [
        keystore.unlock(path, password)._key.secret
        for path, password in (
            (agency.folder.keystore_file, password_of(agency)),
            (agency.config.parent / "account.json", hub_password),
            (agency.config.parent / "signer.json", hub_password),
        )
    ]
    return [*keys, password_of(agency).encode(), hub_password.encode()]


def spellings(secret: bytes) -> Iterator[bytes]:
    """The ways in which a secret is written by accident."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield str(int.from_bytes(secret, "big")).encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield repr(secret).encode()[2:-1]


def shown_in(content: bytes, secrets: list[bytes]) -> bool:
    return any(spelling in content for secret in secrets for spelling in spellings(secret))


def proc(process: Process, name: str) -> bytes:
    return Path(f"/proc/{process._running.pid}/{name}").read_bytes()


def test_a_search_finds_each_spelling_of_a_secret() -> None:
    secret = bytes(range(200, 232))
    for spelling in spellings(secret):
        assert shown_in(b"so " + spelling + b" it is", [secret])
    assert not shown_in(b"nothing of it", [secret])


def use(agency: Agency, tmp_path: Path) -> bytes:
    """What commands write while a wallet is used, well and badly."""
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("another password\n")
    folder = agency.folder.path
    agency.earn(1)
    commands = [
        ("wallet", "pay", "700", "--folder", folder),
        ("wallet", "pay", str(10**12), "--folder", folder),
        ("wallet", "withdraw", "5", "--folder", folder),
        ("wallet", "status", "--folder", folder),
        ("wallet", "history", "--folder", folder, "--json"),
        ("wallet", "receipts", "--folder", folder),
        ("wallet", "run", "--folder", folder),
        (
            *("credit", "mint", "0x" + agency.account.hex(), "1", "--reference", "0x" + "00" * 32),
            *("--rpc", agency.city.rpc_url, "--deployment", agency.city.deployment_file),
            *("--keystore", agency.folder.keystore_file, "--password-file", wrong),
        ),
        ("wallet", "run", "--folder", folder, "--password-file", agency.folder.keystore_file),
        ("wallet", "backup", tmp_path / "bundle", "--folder", folder, "--with-keystore"),
        ("hub", "status", "--config", agency.config),
        ("hub", "serve", "--config", agency.config),
        ("hub", "channels", "--config", agency.config),
    ]
    said = b""
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "farthing.cli.main", *map(str, command)],
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "XDG_STATE_HOME": str(folder.parent / "state")},
        )
        said += done.stdout + done.stderr
    assert b"the password does not open" in said
    assert b"is run by process" in said
    return said + (tmp_path / "bundle").read_bytes()


def test_no_key_or_password_is_in_anything_that_is_said_written_or_shown(
    agency: Agency, tmp_path: Path
) -> None:
    secrets = secrets_of(agency)
    said = use(agency, tmp_path)
    assert not shown_in(said, secrets)
    for process in (agency.hub, agency.wallet):
        assert not shown_in(proc(process, "cmdline"), secrets)
        assert not shown_in(proc(process, "environ"), secrets)
        assert b"farthing" in proc(process, "cmdline")
    files = [path for path in agency.folder.path.parent.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"hub.log", "alice.log", "ledger.sqlite", "hub.sqlite", "wallet.json"} <= names
    for path in files:
        if path.name != "password":
            assert not shown_in(path.read_bytes(), secrets), path
    assert len([path for path in files if path.stat().st_size == MARKER_BYTES]) == 4


def test_files_and_sockets_are_for_their_owner_whatever_the_umask(agency: Agency) -> None:
    looked_at = []
    for folder in (agency.folder.path, agency.config.parent / "data"):
        for path in (folder, *folder.rglob("*")):
            if path.name == "pack.json":  # which this test's own hands have written
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0, f"{path} has mode {mode:04o}"
            looked_at.append(path.name)
    assert {"control.sock", "keystore.json", "password", "ledger.sqlite", "lock"} <= set(looked_at)
    assert {"hub.sqlite", "hub.sqlite-wal", "ledger.sqlite.continuity"} <= set(looked_at)


def test_what_hub_and_wallet_write_on_demand_is_for_their_owner_too(
    agency: Agency, tmp_path: Path
) -> None:
    agency.ask_wallet("receipts", "--out", str(tmp_path / "receipts"))
    agency.ask_hub("receipts", "--out", str(tmp_path / "hub receipts"))
    agency.ask_wallet("backup", str(tmp_path / "bundle"))
    made = farthing(
        *("hub", "init", tmp_path / "other", "--rpc", agency.city.rpc_url),
        *("--deployment", agency.city.deployment_file),
    )
    assert made.code == 0, made.err
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_processes_that_hold_keys_leave_no_core_dump(agency: Agency) -> None:
    for process in (agency.hub, agency.wallet):
        limits = proc(process, "limits").decode().splitlines()
        (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
        assert core[4:6] == ["0", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_processes_that_hold_keys_cannot_be_looked_into() -> None:
    program = (
        "import ctypes\n"
        "from farthing.channels.client.secrecy import harden_process\n"
        "dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "before = dumpable()\n"
        "harden_process()\n"
        "print(before, dumpable())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["1", "0"], done.stderr
