"""Private keys at rest: keystore v3 files and the password files that unlock them.

Rule: a key is never on disk in clear, never overwritten and never part of an error's text.
Source: Web3 Secret Storage, version 3
(https://ethereum.org/en/developers/docs/data-structures-and-encoding/web3-secret-storage/).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import bounded_json
from ..bounded_json import NotJson
from ..errors import LocalError
from ..ids import ADDRESS_BYTES, Address, address_to_hex
from ..signing import SECRET_BYTES, BadSecret, Signer
from .durable_file import sync_folder
from .secret_storage import WrongCode, seal, unseal

SCRYPT_N: Final = 4096
"""Of the files that are written here: 4 MiB with r = 8, which the smallest devices have."""

MEMORY_BYTES_MAX: Final = 1 << 30
"""No file gets more than this on any machine; geth's standard files need 256 MiB."""

FILE_BYTES_MAX: Final = 64 << 10
"""A keystore is about 500 bytes."""

PASSWORD_BYTES_MAX: Final = 1024
"""Longer is no password but a wrong file."""

_SCRYPT_WORK_MAX: Final = 1 << 24
"""n x r x p; geth's standard is 2**21. More than eight times that is minutes on a device."""

_PBKDF2_ROUNDS_MAX: Final = 10_000_000
_VERSION: Final = 3
_AES_BLOCK_BYTES: Final = 16
_MAC_BYTES: Final = 32
_SALT_BYTES_MAX: Final = 1024


class KeystoreExists(LocalError):
    """There is a file where a new key should go; nothing was written."""

    code = "keystore-exists"
    remedy = "choose another path, or move that file away yourself: it may hold the only key"

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is already a file at {path}")
        self.path = path


class KeystoreNotWritten(LocalError):
    """The new file could not be made durable; no key was created."""

    code = "keystore-not-written"
    remedy = "check that the folder exists, may be written and has space left"

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"the keystore {path} could not be written ({cause.strerror})")
        self.path = path


class KeystoreUnreadable(LocalError):
    """The file is missing or may not be read."""

    code = "keystore-unreadable"
    remedy = "check the path and the file's permissions"

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"the keystore {path} cannot be read ({cause.strerror})")
        self.path = path


class MalformedKeystore(LocalError):
    """The file is no keystore of version 3 that can be used here."""

    code = "malformed-keystore"
    remedy = "restore it from a backup, or check that this is the keystore and not another file"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is not a usable keystore: {reason}")
        self.path = path
        self.reason = reason


class WrongPassword(LocalError):
    """The password does not open this file."""

    code = "wrong-password"
    remedy = "check the password, and that this is the file it belongs to"

    def __init__(self, path: Path) -> None:
        super().__init__(f"the password does not open the keystore {path}")
        self.path = path


class KeystoreTooLarge(LocalError):
    """The file asks for more memory or time to unlock than this machine is to spend."""

    code = "keystore-too-large"
    remedy = "write it anew on a larger machine with light scrypt (n 4096, r 8, p 1: 4 MiB)"

    def __init__(self, path: Path, *, needed: int, allowed: int, what: str) -> None:
        super().__init__(f"unlocking {path} needs {needed:,} {what}, allowed are {allowed:,}")
        self.path = path
        self.needed = needed
        self.allowed = allowed


class EmptyPassword(LocalError):
    """A key was to be kept under no password at all."""

    code = "empty-password"
    remedy = "give a password of at least one character"


class PasswordFileExposed(LocalError):
    """Others than its owner may read or change the password file; it was not read."""

    code = "password-file-exposed"

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(
            f"the password file {path} has mode {mode:04o}: others than its owner have access",
            remedy=f"run `chmod 600 {path}`, and change the password if others may have read it",
        )
        self.path = path
        self.mode = mode


class PasswordFileUnusable(LocalError):
    """The password file cannot be read, or what it holds is no password."""

    code = "password-file-unusable"
    remedy = "write one line of UTF-8 text into a file that only you can read"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the password file {path} is not usable: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keystore:
    record: dict[str, Any]
    address: Address | None


def create(path: Path, password: str, key: bytes | None = None) -> Address:
    """Keep a new key, or the given 32 bytes, in a new file of mode 0600; returns its address.

    The file appears whole and durable or not at all, and never replaces another. Takes about
    20 ms. Raises `KeystoreExists`, `KeystoreNotWritten`, `EmptyPassword`, `BadSecret`.
    """
    if not password:
        raise EmptyPassword("no password was given for the new key")
    if os.path.lexists(path):
        raise KeystoreExists(path)
    # One draw in 2**128 is no key: Signer refuses it, so nothing is written.
    secret = secrets.token_bytes(SECRET_BYTES) if key is None else key
    address = Signer(secret).address

    record = seal(secret, _octets(password), scrypt_n=SCRYPT_N)
    record["address"] = address.hex()  # as geth writes it: lower case, no prefix
    _write_once(path, json.dumps(record, indent=2).encode() + b"\n")
    return address


def unlock(path: Path, password: str, *, memory_bytes_max: int | None = None) -> Signer:
    """Decrypt the key; blocks for as long as its scrypt takes (20 ms for files made here).

    `memory_bytes_max` defaults to half of what the machine has available. Raises
    `KeystoreUnreadable`, `MalformedKeystore`, `KeystoreTooLarge`, `WrongPassword`.
    """
    keystore = _read(path)
    crypto = _field(path, keystore.record, "crypto", dict)
    limit = _memory_limit() if memory_bytes_max is None else memory_bytes_max
    _check_cipher(path, crypto)
    _check_derivation(path, crypto, limit)

    try:
        secret = unseal(crypto, _octets(password))
    except WrongCode:
        raise WrongPassword(path) from None
    except ValueError as error:
        raise MalformedKeystore(path, f"its parameters are refused ({error})") from None
    try:
        signer = Signer(secret)
    except BadSecret:
        raise MalformedKeystore(path, "what it holds is no private key") from None
    if keystore.address not in (None, signer.address):
        raise MalformedKeystore(
            path, f"it names another address than its key's, {address_to_hex(signer.address)}"
        )
    return signer


def address(path: Path) -> Address:
    """The address that the file names, without unlocking it: not proven before `unlock`.

    Raises `KeystoreUnreadable`, `MalformedKeystore`.
    """
    named = _read(path).address
    if named is None:
        raise MalformedKeystore(path, "it names no address")
    return named


def read_password_file(path: Path) -> str:
    """The one line of a file that only its owner can read, without its line end.

    Raises `PasswordFileExposed`, `PasswordFileUnusable`.
    """
    try:
        # Without O_NONBLOCK a named pipe would wait here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)  # of the opened file: the path may change meanwhile
            if not stat.S_ISREG(status.st_mode):
                raise PasswordFileUnusable(path, "it is no regular file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise PasswordFileExposed(path, mode)
            content = file.read(PASSWORD_BYTES_MAX + 1)
    except OSError as error:
        raise PasswordFileUnusable(path, f"{error.strerror}") from None
    if len(content) > PASSWORD_BYTES_MAX:
        raise PasswordFileUnusable(path, f"it is longer than {PASSWORD_BYTES_MAX} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise PasswordFileUnusable(path, "it is not UTF-8 text") from None
    line = text.removesuffix("\n").removesuffix("\r")
    if not line or "\n" in line:
        raise PasswordFileUnusable(path, "it does not hold exactly one line")
    return line


def _octets(password: str) -> bytes:
    # What a command line passes on need not be UTF-8; Python then escapes it, and this undoes it.
    return password.encode(errors="surrogateescape")


def _write_once(path: Path, content: bytes) -> None:
    folder = path.parent
    draft: str | None = None
    try:
        descriptor, draft = tempfile.mkstemp(prefix=".keystore-", dir=folder)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, refuses to replace
        Path(draft).unlink()
        draft = None
        sync_folder(folder)
    except FileExistsError:
        raise KeystoreExists(path) from None
    except OSError as error:
        raise KeystoreNotWritten(path, error) from None
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                Path(draft).unlink()


def _read(path: Path) -> _Keystore:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeystoreUnreadable(path, error) from None
    if len(content) > FILE_BYTES_MAX:
        raise MalformedKeystore(path, f"it is longer than {FILE_BYTES_MAX} bytes")
    try:
        record = bounded_json.parse(content)
    except NotJson:
        raise MalformedKeystore(path, "it is not JSON") from None
    if not isinstance(record, dict):
        raise MalformedKeystore(path, "it is not a JSON object")
    record = _lower_keys(record)  # some writers of version 3 say "Crypto"
    if record.get("version") != _VERSION:
        raise MalformedKeystore(path, f"its version is not {_VERSION}")
    return _Keystore(record=record, address=_named_address(path, record))


def _lower_keys(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key.lower(): _lower_keys(value) if isinstance(value, dict) else value
        for key, value in record.items()
    }


def _named_address(path: Path, record: dict[str, Any]) -> Address | None:
    text = record.get("address")
    if text is None:
        return None  # optional in version 3
    if not isinstance(text, str):
        raise MalformedKeystore(path, "its address is not text")
    return Address(_hex(path, text.removeprefix("0x"), ADDRESS_BYTES, what="address"))


def _check_cipher(path: Path, crypto: dict[str, Any]) -> None:
    if crypto.get("cipher") != "aes-128-ctr":
        raise MalformedKeystore(path, "its cipher is not aes-128-ctr")
    parameters = _field(path, crypto, "cipherparams", dict)
    _hex(path, _field(path, parameters, "iv", str), _AES_BLOCK_BYTES, what="iv")
    _hex(path, _field(path, crypto, "ciphertext", str), SECRET_BYTES, what="ciphertext")
    _hex(path, _field(path, crypto, "mac", str), _MAC_BYTES, what="mac")


def _check_derivation(path: Path, crypto: dict[str, Any], memory_bytes_max: int) -> None:
    kdf = _field(path, crypto, "kdf", str)
    parameters = _field(path, crypto, "kdfparams", dict)
    salt = _field(path, parameters, "salt", str)
    if len(salt) > 2 * _SALT_BYTES_MAX:
        raise MalformedKeystore(path, "its salt is too long")
    _hex(path, salt, len(salt) // 2, what="salt")
    if _count(path, parameters, "dklen") != SECRET_BYTES:
        raise MalformedKeystore(path, f"its dklen is not {SECRET_BYTES}")
    if kdf == "scrypt":
        _check_scrypt(path, parameters, memory_bytes_max)
    elif kdf == "pbkdf2":
        if parameters.get("prf") != "hmac-sha256":
            raise MalformedKeystore(path, "its prf is not hmac-sha256")
        rounds = _count(path, parameters, "c")
        if rounds > _PBKDF2_ROUNDS_MAX:
            raise KeystoreTooLarge(
                path, needed=rounds, allowed=_PBKDF2_ROUNDS_MAX, what="rounds of pbkdf2"
            )
    else:
        raise MalformedKeystore(path, "its kdf is neither scrypt nor pbkdf2")


def _check_scrypt(path: Path, parameters: dict[str, Any], memory_bytes_max: int) -> None:
    n, r, p = (_count(path, parameters, name) for name in ("n", "r", "p"))
    if n < 2 or n & (n - 1):  # noqa: PLR2004 - RFC 7914: a power of two larger than 1
        raise MalformedKeystore(path, "its scrypt n is not a power of two above 1")
    needed = 128 * r * (n + p)  # RFC 7914: n blocks of scratch, p blocks of state
    if needed > memory_bytes_max:
        raise KeystoreTooLarge(
            path, needed=needed, allowed=memory_bytes_max, what="bytes of memory"
        )
    work = n * r * p
    if work > _SCRYPT_WORK_MAX:
        raise KeystoreTooLarge(path, needed=work, allowed=_SCRYPT_WORK_MAX, what="steps of scrypt")


def _memory_limit() -> int:
    """Half of the available memory where Linux tells it, at most `MEMORY_BYTES_MAX`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024 // 2, MEMORY_BYTES_MAX)
    return MEMORY_BYTES_MAX


def _field(path: Path, record: dict[str, Any], key: str, kind: type[Any]) -> Any:
    value = record.get(key)
    if not isinstance(value, kind):
        raise MalformedKeystore(path, f"its {key!r} is missing or of another kind")
    return value


def _count(path: Path, record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if type(value) is not int or value < 1:
        raise MalformedKeystore(path, f"its {key!r} is not a whole number above zero")
    return value


def _hex(path: Path, text: str, size: int, *, what: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or len(text) != 2 * size:
        raise MalformedKeystore(path, f"its {what} is not {size} bytes of hex")
    return value
