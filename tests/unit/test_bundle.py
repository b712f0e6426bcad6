"""A recovery bundle is whole, the same for the same wallet, and never replaced by less."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client import durable_file
from farthing.channels.client.bundle import (
    Bundle,
    BundleUnusable,
    FullerBundle,
    MalformedBundle,
    OtherWalletsBundle,
    _checksum,
    bundle_of,
    read_bundle,
    write_bundle,
)
from farthing.channels.client.folder import (
    Folder,
    HubAddress,
    Settings,
    TowerPlace,
    create_folder,
)
from farthing.channels.client.keystore import unlock
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.tls import Trust
from farthing.channels.ids import Address

from ..people import ALICE, BOB, CAROL, DEPLOYMENT, TERMS, channel, terms

PASSWORD = "correct horse"  # noqa: S105 - of a key that guards nothing
SETTINGS = Settings(
    hub=HubAddress(host="127.0.0.1", port=7171),
    hub_signer=ALICE.address,
    rpc_url="http://127.0.0.1:1",
    account=BOB.address,
    deployment=DEPLOYMENT,
)
SECOND = terms(sequence=2)
BUNDLE = Bundle(signer=BOB.address, settings=SETTINGS, database="ab" * 16, channels=(TERMS, SECOND))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bob.bundle"


def test_what_was_written_is_read(path: Path) -> None:
    keystore = json.dumps({"version": 3}, indent=2, sort_keys=True) + "\n"
    for bundle in (BUNDLE, replace(BUNDLE, keystore=keystore)):
        assert write_bundle(path, bundle)
        assert read_bundle(path) == bundle
        assert path.stat().st_mode & 0o777 == 0o600
    assert set(BUNDLE.ids().values()) == {TERMS, SECOND}


def test_towers_and_how_they_are_known_are_carried(path: Path) -> None:
    towers = tuple(
        TowerPlace(
            address=HubAddress(host=host, port=7272), signer=signer.address, trust=Trust(pins=pins)
        )
        for host, signer, pins in (
            ("192.0.2.1", ALICE, (b"\x01" * 32,)),
            ("tower.example", CAROL, (b"\x02" * 32, b"\x03" * 32)),
        )
    )
    bundle = replace(BUNDLE, settings=replace(SETTINGS, towers=towers))
    assert write_bundle(path, bundle)
    assert read_bundle(path).settings.towers == towers


def test_the_same_wallet_makes_the_same_bytes_and_they_are_not_written_twice(path: Path) -> None:
    turned = replace(BUNDLE, channels=BUNDLE.channels[::-1])
    assert turned.to_bytes() == BUNDLE.to_bytes()
    assert write_bundle(path, BUNDLE)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert not write_bundle(path, turned)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_bundle_is_never_replaced_by_one_that_knows_less(path: Path) -> None:
    full = replace(BUNDLE, keystore='{"version": 3}')
    write_bundle(path, full)
    before = path.read_bytes()
    for less, missing in (
        (replace(full, channels=(TERMS,)), "channel 0x"),
        (replace(full, channels=()), "channel 0x"),
        (replace(full, keystore=None), "the keystore"),
        (replace(full, database=None), "the database's id"),
    ):
        with pytest.raises(FullerBundle, match=missing):
            write_bundle(path, less)
        assert path.read_bytes() == before
    more = replace(full, channels=(*full.channels, terms(sequence=3)), database="cd" * 16)
    assert write_bundle(path, more)


@pytest.mark.parametrize(
    "other",
    [
        replace(BUNDLE, signer=CAROL.address),
        replace(BUNDLE, settings=replace(SETTINGS, account=CAROL.address)),
        replace(
            BUNDLE, settings=replace(SETTINGS, deployment=replace(DEPLOYMENT, deployment=b"x" * 32))
        ),
    ],
)
def test_another_wallet_s_bundle_is_never_replaced(path: Path, other: Bundle) -> None:
    write_bundle(path, other)
    before = path.read_bytes()
    with pytest.raises(OtherWalletsBundle):
        write_bundle(path, replace(BUNDLE, channels=()))
    assert path.read_bytes() == before


def test_what_is_no_bundle_is_never_replaced(path: Path) -> None:
    path.write_bytes(b"all my poems")
    with pytest.raises(MalformedBundle):
        write_bundle(path, BUNDLE)
    assert path.read_bytes() == b"all my poems"


def again(change: Callable[[dict[str, Any]], Any], *, summed: bool = True) -> bytes:
    """The bundle with a change, with a checksum that fits it."""
    record = json.loads(BUNDLE.to_bytes())
    change(record)
    if summed:
        record.pop("sha256", None)
        record["sha256"] = _checksum(record)
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "its kind is not"),
        (b"{}" + b" " * (1 << 20), "longer than"),
        (again(lambda r: r.update(kind="x")), "its kind is not"),
        (again(lambda r: r.update(version=2)), "its version is not 1"),
        (again(lambda r: r.update(version=True)), "its version is not 1"),
        (again(lambda r: r.update(more=1)), "missing or unknown: more"),
        (again(lambda r: r.pop("signer")), "missing or unknown: signer"),
        (again(lambda r: r.update(database="x"), summed=False), "checksum differs"),
        (again(lambda r: r.update(signer="0x12")), "bytes"),
        (again(lambda r: r.update(signer=5)), "another kind"),
        (again(lambda r: r.update(database=5)), "another kind"),
        (again(lambda r: r.update(keystore="x")), "another kind"),
        (again(lambda r: r.update(channels=5)), "another kind"),
        (again(lambda r: r.update(channels=[5])), "another kind"),
        (again(lambda r: r["channels"][0].pop("sequence")), "another kind"),
        (again(lambda r: r["channels"][0].update(sequence="1")), "another kind"),
        (again(lambda r: r["channels"][0].update(sequence=0)), "sequence 0"),
        (again(lambda r: r["settings"].update(hub="nowhere")), "no address"),
    ],
)
def test_a_bundle_that_is_damaged_or_of_another_kind_is_refused(
    path: Path, content: bytes, reason: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(MalformedBundle, match=reason):
        read_bundle(path)


def test_each_flipped_byte_is_noticed(path: Path) -> None:
    content = BUNDLE.to_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(MalformedBundle):
            read_bundle(path)


def test_a_path_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no folder" / "bundle"):
        with pytest.raises(BundleUnusable):
            write_bundle(path, BUNDLE)
        with pytest.raises(BundleUnusable):
            read_bundle(path)


def test_a_crash_leaves_the_old_bundle_and_no_draft(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not synced is not renamed: the order is the file, its name, its folder."""
    write_bundle(path, replace(BUNDLE, channels=(TERMS,)))
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BundleUnusable, match="Input/output"):
        write_bundle(path, BUNDLE)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    monkeypatch.undo()
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    monkeypatch.setattr(
        durable_file, "sync_folder", lambda folder: calls.append(f"folder {folder == path.parent}")
    )
    replaced = Path.replace

    def note(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", note)
    write_bundle(path, BUNDLE)
    assert calls == ["fsync", "rename", "folder True"]


def test_a_folder_is_bundled_as_its_files_say(tmp_path: Path) -> None:
    def settings(signer: Address) -> Settings:
        return replace(SETTINGS, account=signer)

    folder = create_folder(tmp_path / "bob", PASSWORD, settings)
    made = bundle_of(folder, with_keystore=False)
    assert (made.database, made.channels, made.keystore) == (None, (), None)
    assert not folder.ledger_file.exists()  # looking makes nothing
    ledger = Ledger(folder.ledger_file)
    ledger.commit([channel()], (), [("INSERT INTO setting VALUES ('database', 'ab')", ())])
    made = bundle_of(Folder(path=folder.path), with_keystore=True)  # beside one who uses it
    ledger.close()
    assert (made.database, made.channels) == ("ab", (TERMS,))
    assert made.keystore is not None
    copy = tmp_path / "copy.json"
    copy.write_text(made.keystore)
    assert unlock(copy, PASSWORD).address == made.signer == made.settings.account
