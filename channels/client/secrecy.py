"""Keeps the keys of a process out of what its end or its neighbours could show.

What is left: whoever is root, or has this process's privileges by other means, can read its memory.
"""

from __future__ import annotations

import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def harden_process() -> None:
    """Write no core dump, and let no other process of this user look into this one's memory.

    The second is Linux's alone: `/proc/PID` then belongs to root, and a debugger must be root's.
    A child process that runs another program starts with the memory rule of any other.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) was refused")
