"""What is made is synced: content, name, and the name of the folder that holds it."""

import os
import stat
from pathlib import Path

import pytest

from farthing.channels.client import durable_file as files


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that were synced, in order."""
    paths: list[Path] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    return paths


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_each_new_folder_s_name_is_synced_in_its_parent(tmp_path: Path, synced: list[Path]) -> None:
    files.make_folder(tmp_path / "a" / "b")
    assert sorted(synced) == [tmp_path, tmp_path / "a"]
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_folder_that_is_there_has_its_name_synced_too(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    files.make_folder(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    files.make_folder(Path("a"))
    assert synced == [tmp_path, tmp_path]


def test_only_a_folder_that_somebody_else_made_may_be_in_one_that_we_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(files, "sync_folder", refuse)
    with pytest.raises(PermissionError):
        files.make_folder(tmp_path / "a")
    files.make_folder(tmp_path / "a")  # it is there now


def test_a_new_file_is_synced_before_its_name_and_never_replaces_one(
    tmp_path: Path, synced: list[Path]
) -> None:
    path = tmp_path / "password"
    files.write_new(path, "geheimnis ü\n")
    assert synced == [path, tmp_path]
    assert (path.read_text(encoding="utf-8"), mode(path)) == ("geheimnis ü\n", 0o600)
    with pytest.raises(FileExistsError):
        files.write_new(path, "other\n")
    assert path.read_text(encoding="utf-8") == "geheimnis ü\n"


def test_a_file_is_replaced_by_a_synced_one(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "wallet.json"
    path.write_text("old")
    files.write_whole(path, b"new")
    assert [one.parent for one in synced] == [tmp_path, tmp_path.parent]
    assert (path.read_text(), mode(path), list(tmp_path.iterdir())) == ("new", 0o600, [path])
