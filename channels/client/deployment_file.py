"""Reads the deployment record that `farthing deploy` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..deployment import Deployment, MalformedDeployment

FILE_BYTES_MAX: Final = 64 << 10
"""A record is half a kilobyte; a longer file is another one."""


class UnreadableDeployment(MalformedDeployment):
    """The file is missing, may not be read, or is not text."""

    code = "unreadable-deployment"
    remedy = "check the path; the file is what `farthing deploy` wrote"


def read_deployment(path: Path) -> Deployment:
    """Read a record; raises `UnreadableDeployment`, `MalformedDeployment`."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        raise UnreadableDeployment(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UnreadableDeployment(f"{path} is not UTF-8 text") from None
    if len(content) > FILE_BYTES_MAX:
        raise UnreadableDeployment(f"{path} is too long for a deployment record")
    return Deployment.from_json(text)
