"""What every `farthing wallet` command needs: the folder, its password, the running wallet."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..channels.client.control import NotRunning, call_control
from ..channels.client.durable_file import make_folder, write_new
from ..channels.client.folder import Folder
from ..channels.client.keystore import read_password_file
from ..channels.errors import LocalError
from .keys import FILE

if TYPE_CHECKING:
    from ..channels.client.offline import StoredWallet

PASSWORD_BYTES = 24
CALL_SECONDS = 120
MARGIN_SECONDS = 10
"""A command waits this much longer than the wallet, so that the wallet's own answer arrives."""

folder_option = click.option(
    "--folder",
    metavar="DIR",
    envvar="FARTHING_WALLET",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The wallet's folder; or set FARTHING_WALLET.",
)
password_option = click.option(
    "--password-file", metavar="FILE", type=FILE, help="Mode 600. Default: DIR/password."
)
channel_option = click.option("--channel", metavar="ID", help="Needed where several are open.")


class Seconds(click.FloatRange):
    """A number of seconds within a range, and a number at all: `nan` is in no range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it as a range does, and refuse what is no number."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


timeout_option = click.option(
    "--timeout", "timeout_seconds", type=Seconds(0.1, 600), help="Seconds to wait."
)


def read_password(folder: Path, password_file: Path | None, *, make: bool = False) -> str:
    """Read the password; without an option it is the folder's own file, made with the wallet."""
    path = password_file or folder / "password"
    if make and password_file is None and not path.exists():
        try:
            make_folder(folder)
            write_new(path, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
        except OSError as error:
            raise unwritable(path, error) from None
    return read_password_file(path)


class NotWritable(LocalError):
    """A file that cannot be written or read."""

    code = "file-unusable"
    remedy = "check the path, its permissions and the space left"


def unwritable(path: Path, error: OSError) -> NotWritable:
    """Name the file and the system's reason."""
    return NotWritable(f"{path} cannot be used ({error.strerror})")


def ask(
    folder: Path, method: str, params: Mapping[str, Any], *, seconds: float = CALL_SECONDS
) -> Any:
    """Ask the running wallet; raises `NotRunning`, which says how to start it."""
    home = Folder(path=folder)
    home.settings()  # a folder without a wallet is a clearer reason than one that does not answer
    try:
        return call_control(
            home.control_file, method, params, timeout_seconds=seconds + MARGIN_SECONDS
        )
    except NotRunning as error:
        raise NotRunning(
            f"the wallet in {folder} does not answer ({error.text})",
            remedy=f"start it: farthing wallet run --folder {folder}",
        ) from None


def given(**params: Any) -> dict[str, Any]:
    """Leave out options that were not given."""
    return {key: value for key, value in params.items() if value is not None}


def look(folder: Path, method: str, offline: Callable[[StoredWallet], Any]) -> Any:
    """Ask the running wallet, or read its folder where none runs."""
    try:
        return ask(folder, method, {})
    except NotRunning:
        from ..channels.client.offline import read_folder  # noqa: PLC0415 - not for --help

        with read_folder(Folder(path=folder)) as view:
            return offline(view)
