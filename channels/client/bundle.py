"""The recovery bundle: all of a wallet that stays as it is, in one small file to keep elsewhere.

Rule: it never holds lanes' states, which go stale, nor a key in clear. A bundle is never replaced
by one that knows less. The format is in docs/recovery.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .. import bounded_json
from ..bounded_json import NotJson
from ..errors import FarthingError, LocalError
from ..ids import Address, ChannelId, address_from_hex, address_to_hex, to_hex
from ..terms import Terms
from . import keystore
from .durable_file import write_whole
from .folder import Folder, Settings
from .peek import peek

KIND: Final = "farthing-recovery-bundle"
VERSION: Final = 1
BUNDLE_BYTES_MAX: Final = 1 << 20
"""A bundle is 2 KB and half a kilobyte a channel; a wallet has a few dozen in its life."""

_NUMBERS: Final = ("challenge_seconds", "challenge_blocks", "sequence")
_KEYS: Final = frozenset(
    {"kind", "version", "signer", "settings", "database", "channels", "keystore", "sha256"}
)


class MalformedBundle(LocalError):
    """A file that is no recovery bundle, was damaged, or was written by newer software."""

    code = "malformed-bundle"
    remedy = "use another copy of the bundle; without one, recover with `farthing wallet init`"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is no recovery bundle that can be used: {reason}")
        self.path = path
        self.reason = reason


class BundleUnusable(LocalError):
    """The file cannot be read or written."""

    code = "bundle-unusable"
    remedy = "check the path, its permissions and the space left"


class OtherWalletsBundle(LocalError):
    """The file is the bundle of another wallet, or of this one on another deployment."""

    code = "other-wallets-bundle"
    remedy = "give another path: that file may be all that somebody has of a wallet"

    def __init__(self, path: Path, what: str, theirs: str, ours: str) -> None:
        super().__init__(f"{path} is the bundle of {what} {theirs}, not of {ours}")
        self.what = what
        self.theirs = theirs
        self.ours = ours


class FullerBundle(LocalError):
    """The file knows more than what was to replace it."""

    code = "fuller-bundle"

    def __init__(self, path: Path, missing: Iterable[str], *, remedy: str) -> None:
        self.missing = tuple(missing)
        super().__init__(
            f"{path} holds what the new bundle does not: {', '.join(self.missing)}", remedy=remedy
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a wallet is made of again; `database` names the one it had, None if it never ran.

    `keystore` is the text of the key's file, encrypted under the wallet's password, or None.
    """

    signer: Address
    settings: Settings
    database: str | None = None
    channels: tuple[Terms, ...] = ()
    keystore: str | None = None

    def ids(self) -> dict[ChannelId, Terms]:
        """The channels' ids, as their terms imply them on this deployment."""
        return {self.settings.deployment.channel_id(terms): terms for terms in self.channels}

    def to_bytes(self) -> bytes:
        """The file's content: the same bundle is always the same bytes."""
        record = {
            "kind": KIND,
            "version": VERSION,
            "signer": address_to_hex(self.signer),
            "settings": json.loads(self.settings.to_json()),
            "database": self.database,
            "channels": [_terms_record(terms) for terms in _in_order(self.channels)],
            "keystore": None if self.keystore is None else json.loads(self.keystore),
        }
        record["sha256"] = _checksum(record)
        return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def bundle_of(folder: Folder, *, with_keystore: bool) -> Bundle:
    """What a folder's files say, whether its wallet runs or not; changes nothing.

    Raises `FolderUnusable`, `LedgerUnusable`, what `Settings.from_json` and `keystore.address`
    raise.
    """
    settings = folder.settings()
    signer = keystore.address(folder.keystore_file)
    channels: list[Terms] = []
    database: str | None = None
    with peek(folder.ledger_file) as ledger:
        if ledger is not None:
            channels = [channel.terms for channel in ledger.channels()]
            database = ledger.settings().get("database")
    return Bundle(
        signer=signer,
        settings=settings,
        database=database,
        channels=tuple(channels),
        keystore=folder.keystore_file.read_text(encoding="utf-8") if with_keystore else None,
    )


def _in_order(channels: Iterable[Terms]) -> list[Terms]:
    return sorted(channels, key=lambda terms: (terms.sequence, terms.account_a, terms.account_b))


def _checksum(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _terms_record(terms: Terms) -> dict[str, Any]:
    return {
        key: address_to_hex(value) if isinstance(value, bytes) else value
        for key, value in asdict(terms).items()
    }


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check it whole; raises `BundleUnusable`, `MalformedBundle`."""
    try:
        with path.open("rb") as file:
            content = file.read(BUNDLE_BYTES_MAX + 1)
    except OSError as error:
        raise BundleUnusable(f"{path} cannot be read ({error.strerror})") from None
    return _parse(path, content)


def _parse(path: Path, content: bytes) -> Bundle:
    if len(content) > BUNDLE_BYTES_MAX:
        raise MalformedBundle(path, f"it is longer than {BUNDLE_BYTES_MAX} bytes")
    try:
        record = bounded_json.parse(content)
    except NotJson:
        raise MalformedBundle(path, "it is not JSON") from None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise MalformedBundle(path, f"its kind is not {KIND}")
    if record.get("version") != VERSION or type(record["version"]) is not int:
        raise MalformedBundle(path, f"its version is not {VERSION}")
    if record.keys() != _KEYS:
        odd = ", ".join(sorted(map(str, record.keys() ^ _KEYS)))[:200]
        raise MalformedBundle(path, f"these keys are missing or unknown: {odd}")
    if record.pop("sha256") != _checksum(record):
        raise MalformedBundle(path, "it was damaged or changed: its checksum differs")
    try:
        return _bundle(record)
    except (FarthingError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = error.text if isinstance(error, FarthingError) else "a value is of another kind"
        raise MalformedBundle(path, reason) from None


def _bundle(record: dict[str, Any]) -> Bundle:
    database, stored = record["database"], record["keystore"]
    if not isinstance(database, str | None) or not isinstance(stored, dict | None):
        raise TypeError("of a key's value")
    return Bundle(
        signer=address_from_hex(record["signer"]),
        settings=Settings.from_json(json.dumps(record["settings"])),
        database=database,
        channels=tuple(_terms(one) for one in record["channels"]),
        keystore=None if stored is None else json.dumps(stored, indent=2, sort_keys=True) + "\n",
    )


def _terms(record: dict[str, Any]) -> Terms:
    if any(type(record[key]) is not int for key in _NUMBERS):
        raise TypeError("of a number")
    return Terms(
        account_a=address_from_hex(record["account_a"]),
        signer_a=address_from_hex(record["signer_a"]),
        account_b=address_from_hex(record["account_b"]),
        signer_b=address_from_hex(record["signer_b"]),
        challenge_seconds=record["challenge_seconds"],
        challenge_blocks=record["challenge_blocks"],
        sequence=record["sequence"],
    )


def write_bundle(path: Path, bundle: Bundle) -> bool:
    """Write the bundle, or leave the file as it is where it says the same; whether it was written.

    Raises `OtherWalletsBundle`, `FullerBundle`, `MalformedBundle` (what stands there is something
    else and is not touched), `BundleUnusable`.
    """
    content = bundle.to_bytes()
    try:
        before = path.read_bytes() if path.exists() else None
        if before == content:
            return False
        if before is not None:
            _check_replaces(path, _parse(path, before), bundle)
        write_whole(path, content)
    except OSError as error:
        raise BundleUnusable(f"{path} cannot be used ({error.strerror})") from None
    return True


def _check_replaces(path: Path, before: Bundle, after: Bundle) -> None:
    for what, theirs, ours in (
        ("signer", address_to_hex(before.signer), address_to_hex(after.signer)),
        ("account", *(address_to_hex(one.settings.account) for one in (before, after))),
        ("deployment", *(to_hex(one.settings.deployment.deployment) for one in (before, after))),
    ):
        if theirs != ours:
            raise OtherWalletsBundle(path, what, theirs, ours)
    missing = list(_missing(before, after))
    if missing:
        remedy = "give another path, or run the wallet until it holds its channels again"
        if missing == ["the keystore"]:
            remedy = "add --with-keystore, or give another path"
        raise FullerBundle(path, missing, remedy=remedy)


def _missing(before: Bundle, after: Bundle) -> Iterator[str]:
    """What an older bundle has and a newer one has not."""
    for channel in before.ids().keys() - after.ids().keys():
        yield f"channel {to_hex(channel)}"
    if before.keystore is not None and after.keystore is None:
        yield "the keystore"
    if before.database is not None and after.database is None:
        yield "the database's id"
