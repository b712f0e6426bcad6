"""File descriptors: room for every connection that the configuration allows, or no start.

Without room for one more, accepting a connection fails while all others go on, and so might a
commit that needs a new file.
"""

from __future__ import annotations

import resource
from typing import Final

from ..channels.errors import LocalError

OTHERS: Final = 128
"""Database, control socket and its commands, chain calls, log, and what Python opens itself."""


class TooFewDescriptors(LocalError):
    """The system gives this process fewer open files than it may need."""

    code = "too-few-descriptors"

    def __init__(self, needed: int, allowed: int) -> None:
        super().__init__(
            f"the configured connections need {needed} open files, the system allows {allowed}",
            remedy="raise the hard limit (ulimit -Hn, LimitNOFILE=) or lower connections_max",
        )
        self.needed = needed
        self.allowed = allowed


def make_room(connections: int) -> int:
    """Raise the soft limit where it is too low; returns it, or raises `TooFewDescriptors`."""
    needed = connections + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return soft
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TooFewDescriptors(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return needed
