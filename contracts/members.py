"""What the member registry's words mean."""

from __future__ import annotations

from enum import IntEnum


class MemberStatus(IntEnum):
    """A member's status in the registry; NONE where it never held the address."""

    NONE = 0
    ACTIVE = 1
    SUSPENDED = 2
    REMOVED = 3
