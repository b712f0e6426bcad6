"""Keystore files: whole or absent, never overwritten, and refused with the reason."""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from eth_keyfile.keyfile import KDFType, create_keyfile_json, decode_keyfile_json

from farthing.channels.client import keystore
from farthing.channels.client.secret_storage import seal
from farthing.channels.ids import address_to_hex
from farthing.channels.signing import BadSecret, Signer

Record: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Record], None]

KEY = b"\x17" * 32
PASSWORD = "correct horse µ¢"  # noqa: S105 - of keys that exist only here


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alice.json"


@pytest.fixture
def kept(path: Path) -> Path:
    keystore.create(path, PASSWORD, KEY)
    return path


def rewrite(path: Path, change: Change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_kept_key_is_unlocked_by_its_password(path: Path) -> None:
    address = keystore.create(path, PASSWORD, KEY)
    signer = keystore.unlock(path, PASSWORD)
    assert signer.address == address == Signer(KEY).address == keystore.address(path)


def test_each_new_key_is_another(tmp_path: Path) -> None:
    addresses = {keystore.create(tmp_path / f"{i}.json", PASSWORD) for i in range(3)}
    assert len(addresses) == 3
    assert keystore.unlock(tmp_path / "0.json", PASSWORD).address in addresses


def test_the_file_is_its_owners_alone_and_the_only_one_written(kept: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["alice.json"]
    assert KEY.hex() not in kept.read_text()


def test_other_software_reads_the_file(kept: Path) -> None:
    record = json.loads(kept.read_text())
    assert decode_keyfile_json(record, PASSWORD.encode()) == KEY
    assert record["crypto"]["kdfparams"]["n"] == 4096


@pytest.mark.parametrize("kdf", ["pbkdf2", "scrypt"])
def test_files_of_other_software_are_read(path: Path, kdf: KDFType) -> None:
    record = create_keyfile_json(KEY, PASSWORD.encode(), kdf=kdf, iterations=1024)
    path.write_text(json.dumps(record))
    assert keystore.unlock(path, PASSWORD).address == Signer(KEY).address


def test_upper_case_names_and_a_missing_address_are_read(kept: Path) -> None:
    def change(record: Record) -> None:
        record["Crypto"] = record.pop("crypto")
        del record["address"]

    rewrite(kept, change)
    assert keystore.unlock(kept, PASSWORD).address == Signer(KEY).address
    with pytest.raises(keystore.MalformedKeystore, match="names no address"):
        keystore.address(kept)


def test_a_keystore_is_never_overwritten(kept: Path) -> None:
    before = kept.read_bytes()
    with pytest.raises(keystore.KeystoreExists, match=r"alice\.json"):
        keystore.create(kept, PASSWORD, b"\x18" * 32)
    assert kept.read_bytes() == before


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(source: str, target: Path) -> None:
        path.write_text("somebody else's")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(keystore.KeystoreExists):
        keystore.create(path, PASSWORD, KEY)
    assert path.read_text() == "somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["alice.json"]


def test_a_dangling_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(keystore.KeystoreExists):
        keystore.create(path, PASSWORD, KEY)
    assert not (tmp_path / "elsewhere.json").exists()


def test_a_full_disk_leaves_nothing_behind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(keystore.KeystoreNotWritten, match="No space left"):
        keystore.create(path, PASSWORD, KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(keystore.KeystoreNotWritten, match="No such file"):
        keystore.create(tmp_path / "nowhere" / "alice.json", PASSWORD, KEY)


def test_file_and_folder_are_synced_before_the_key_is_in_use(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    keystore.create(path, PASSWORD, KEY)
    assert synced == [False, True]


def test_a_password_that_is_not_utf_8_works_too(path: Path) -> None:
    keystore.create(path, os.fsdecode(b"\xff\xfe"), KEY)
    assert keystore.unlock(path, os.fsdecode(b"\xff\xfe")).address == Signer(KEY).address


def test_an_empty_password_and_a_bad_key_are_refused(path: Path) -> None:
    with pytest.raises(keystore.EmptyPassword):
        keystore.create(path, "", KEY)
    with pytest.raises(BadSecret):
        keystore.create(path, PASSWORD, bytes(32))
    assert not path.exists()


@pytest.mark.parametrize("password", ["", "Correct horse µ¢", PASSWORD + " "])
def test_a_wrong_password_is_named_and_not_shown(kept: Path, password: str) -> None:
    with pytest.raises(keystore.WrongPassword, match="check the password") as caught:
        keystore.unlock(kept, password)
    assert not password or password not in str(caught.value)


def test_a_missing_file_is_named(path: Path) -> None:
    reads: tuple[Callable[[Path], object], ...] = (
        keystore.address,
        lambda p: keystore.unlock(p, PASSWORD),
    )
    for read in reads:
        with pytest.raises(keystore.KeystoreUnreadable, match=r"alice\.json.*No such file"):
            read(path)


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"version": 4}', "[" * 60_000, '"' + "a" * 70_000, "\udcff"],
)
def test_a_file_that_is_no_keystore_is_refused(path: Path, text: str) -> None:
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(keystore.MalformedKeystore):
        keystore.unlock(path, PASSWORD)


def place(*names: str, value: object) -> Change:
    def change(record: Record) -> None:
        for name in names[:-1]:
            record = record[name]
        if value is None:
            del record[names[-1]]
        else:
            record[names[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        place("crypto", value=None),
        place("crypto", value=3),
        place("crypto", "kdf", value="argon2"),
        place("crypto", "kdf", value=None),
        place("crypto", "kdf", value="pbkdf2"),  # without a prf
        place("crypto", "cipher", value="aes-128-cbc"),
        place("crypto", "cipherparams", "iv", value="00"),
        place("crypto", "ciphertext", value="zz" * 32),
        place("crypto", "ciphertext", value="00" * 33),
        place("crypto", "mac", value=None),
        place("crypto", "kdfparams", "salt", value="0"),
        place("crypto", "kdfparams", "salt", value="00" * 5000),
        place("crypto", "kdfparams", "dklen", value=16),
        place("crypto", "kdfparams", "n", value=4095),
        place("crypto", "kdfparams", "n", value=1),
        place("crypto", "kdfparams", "n", value="4096"),
        place("crypto", "kdfparams", "n", value=True),
        place("crypto", "kdfparams", "r", value=0),
        place("crypto", "kdfparams", "p", value=-1),
        place("address", value=5),
        place("address", value="00"),
        place("address", value="00" * 20),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(kept: Path, change: Change) -> None:
    rewrite(kept, change)
    with pytest.raises(keystore.MalformedKeystore, match=r"alice\.json is not a usable keystore"):
        keystore.unlock(kept, PASSWORD)


def test_a_changed_ciphertext_is_a_wrong_password_or_file(kept: Path) -> None:
    rewrite(kept, place("crypto", "ciphertext", value="00" * 32))
    with pytest.raises(keystore.WrongPassword):
        keystore.unlock(kept, PASSWORD)


def test_a_kept_zero_is_no_key(path: Path) -> None:
    path.write_text(json.dumps(seal(bytes(32), PASSWORD.encode(), scrypt_n=2)))
    with pytest.raises(keystore.MalformedKeystore, match="no private key"):
        keystore.unlock(path, PASSWORD)


def test_a_file_that_needs_more_memory_than_allowed_is_refused(kept: Path) -> None:
    with pytest.raises(keystore.KeystoreTooLarge, match=r"4,195,328 bytes of memory") as caught:
        keystore.unlock(kept, PASSWORD, memory_bytes_max=4 << 20)
    assert (caught.value.needed, caught.value.allowed) == (128 * 8 * 4097, 4 << 20)
    keystore.unlock(kept, PASSWORD, memory_bytes_max=128 * 8 * 4097)


@pytest.mark.parametrize(
    "change",
    [
        place("crypto", "kdfparams", "n", value=2**60),
        place("crypto", "kdfparams", "r", value=2**30),
        place("crypto", "kdfparams", "p", value=2**30),
        place("crypto", "kdfparams", "p", value=2**16),
    ],
)
def test_a_file_that_would_take_for_ever_is_refused_at_once(kept: Path, change: Change) -> None:
    rewrite(kept, change)
    with pytest.raises(keystore.KeystoreTooLarge):
        keystore.unlock(kept, PASSWORD)


def test_whatever_else_the_library_refuses_is_no_wrong_password(kept: Path) -> None:
    # RFC 7914: with r = 1, n is below 2**16.
    rewrite(kept, place("crypto", "kdfparams", "n", value=2**17))
    rewrite(kept, place("crypto", "kdfparams", "r", value=1))
    with pytest.raises(keystore.MalformedKeystore, match="its parameters are refused"):
        keystore.unlock(kept, PASSWORD)


def test_a_machine_that_does_not_tell_its_memory_reads_files(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: Path, **_options: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert keystore.unlock(kept, PASSWORD).address == Signer(KEY).address


def test_too_many_rounds_of_pbkdf2_are_refused(path: Path) -> None:
    record = create_keyfile_json(KEY, PASSWORD.encode(), kdf="pbkdf2", iterations=1)
    record["crypto"]["kdfparams"]["c"] = 10**12
    path.write_text(json.dumps(record))
    with pytest.raises(keystore.KeystoreTooLarge, match="rounds of pbkdf2"):
        keystore.unlock(path, PASSWORD)


def test_an_address_of_another_key_is_noticed(kept: Path) -> None:
    rewrite(kept, place("address", value="11" * 20))
    with pytest.raises(keystore.MalformedKeystore, match=address_to_hex(Signer(KEY).address)):
        keystore.unlock(kept, PASSWORD)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    return file


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_file_gives_its_line_without_the_line_end(password_file: Path, end: str) -> None:
    password_file.write_bytes((" µ¢ x " + end).encode())
    assert keystore.read_password_file(password_file) == " µ¢ x "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_password_file_that_others_may_touch_is_refused(password_file: Path, mode: int) -> None:
    password_file.write_text("secret")
    password_file.chmod(mode)
    with pytest.raises(keystore.PasswordFileExposed, match="chmod 600") as caught:
        keystore.read_password_file(password_file)
    assert caught.value.mode == mode
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff", b"a" * 1025])
def test_a_password_file_without_one_line_of_text_is_refused(
    password_file: Path, content: bytes
) -> None:
    password_file.write_bytes(content)
    with pytest.raises(keystore.PasswordFileUnusable):
        keystore.read_password_file(password_file)


def test_a_password_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "pipe"):
        with pytest.raises(keystore.PasswordFileUnusable):
            keystore.read_password_file(path)
