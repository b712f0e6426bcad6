"""Settings that name files and folders, and the file with the password.

Rule: what is wrong with a path is said with the key and line that name it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

from .settings import MalformedSetting, Misconfigured, Place, as_text, shown

PASSWORD_BYTES_MAX: Final = 1024
"""A longer first line is not a password but another file."""

GROUP_OR_WORLD: Final = stat.S_IRWXG | stat.S_IRWXO
"""The permissions of everybody but the owner."""


class MissingFile(Misconfigured):
    """A path where there is no file."""

    code = "missing-file"
    remedy = "create the file or correct the path; relative paths start at the configuration's"


class NotAFolder(Misconfigured):
    """A path of a folder where something else stands."""

    code = "not-a-folder"
    remedy = "choose another path, or move what stands there"


class ExposedPassword(Misconfigured):
    """A password file that others on this machine may read or change."""

    code = "exposed-password"

    def __init__(self, place: Place, path: Path, mode: int) -> None:
        super().__init__(
            place,
            f"{path} has mode {stat.S_IMODE(mode):04o}, so other users may use it",
            remedy=f"run: chmod 600 {path}",
        )


class UnusablePassword(Misconfigured):
    """A password file without a password in it."""

    code = "unusable-password"
    remedy = f"write the password into its first line, at most {PASSWORD_BYTES_MAX} bytes of UTF-8"


def read_path(place: Place, raw: Any, folder: Path) -> Path:
    """Read a path, relative to the folder; raises `MalformedSetting`."""
    text = as_text(place, raw, characters_max=4096)
    if "\0" in text:
        raise MalformedSetting(place, "a path cannot hold a null byte", remedy="correct the path")
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:
        raise MalformedSetting(
            place, f"{shown(text)} names no home folder", remedy="write the path without a tilde"
        ) from None


def mode_of(path: Path) -> int:
    """Return what stands at a path as in `stat`, or 0 if nothing does that we may see."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def read_file(place: Place, raw: Any, folder: Path) -> Path:
    """Read the path of a file that is there; raises `MissingFile`."""
    path = read_path(place, raw, folder)
    if not stat.S_ISREG(mode_of(path)):
        raise MissingFile(place, f"there is no file {shown(str(path), characters_max=300)}")
    return path


def read_folder(place: Place, raw: Any, folder: Path) -> Path:
    """Read the path of a folder that is there or can be made; raises `NotAFolder`."""
    path = read_path(place, raw, folder)
    mode = mode_of(path)
    if mode and not stat.S_ISDIR(mode):
        raise NotAFolder(place, f"{path} is not a folder")
    return path


def read_password_path(place: Place, raw: Any, folder: Path) -> Path:
    """Read the path of a file for its owner alone; raises `MissingFile`, `ExposedPassword`."""
    path = read_file(place, raw, folder)
    mode = mode_of(path)
    if os.name == "posix" and mode & GROUP_OR_WORLD:
        raise ExposedPassword(place, path, mode)
    return path


def read_password(path: Path) -> str:
    """Return the first line of a password file; raises `UnusablePassword`.

    The password is never part of an error or of `HubConfig`.
    """
    place = Place(file=str(path))
    try:
        with path.open("rb") as file:
            line = file.readline(PASSWORD_BYTES_MAX + 2).rstrip(b"\r\n")
        password = line.decode()
    except OSError as error:
        raise UnusablePassword(place, f"it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UnusablePassword(place, "it is not UTF-8") from None
    if not password or len(line) > PASSWORD_BYTES_MAX:
        raise UnusablePassword(place, "its first line is empty or too long")
    return password
