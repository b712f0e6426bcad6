"""A token that refuses payouts at first, so that there is something to claim.

City Credit never refuses a transfer. This gate stands in front of it: up to a given second it
reverts `transfer`; every other call it runs by City Credit's code on its own storage.
"""

from __future__ import annotations

from ...channels.ids import Address

SECOND_BYTES = 5
"""A timestamp's, until the year 36812."""

_RETURNED, _REFUSED = 0x41, 0x45
"""Where the two jumps of the code land."""


def gate_code(credit: Address, until: int) -> bytes:
    """Creation code of a gate before `credit` that refuses payouts up to the second `until`."""
    runtime = b"".join(
        (
            # Is it a call of transfer(address,uint256), by its first four bytes,
            bytes.fromhex("5f 35 60e0 1c 63a9059cbb 14"),
            # and is the block's time not yet above `until`? Then refuse.
            b"\x64" + until.to_bytes(SECOND_BYTES, "big") + bytes.fromhex("42 11 15 16"),
            bytes((0x60, _REFUSED, 0x57)),
            # Take the calldata to memory
            bytes.fromhex("36 5f 5f 37"),
            # and run City Credit's code with it, here.
            bytes.fromhex("5f 5f 36 5f 73") + credit + bytes.fromhex("5a f4"),
            # Whatever that gave, return it or revert with it.
            bytes.fromhex("3d 5f 5f 3e"),
            bytes((0x60, _RETURNED, 0x57)),
            bytes.fromhex("3d 5f fd"),
            bytes.fromhex("5b 3d 5f f3"),  # _RETURNED
            bytes.fromhex("5b 5f 5f fd"),  # _REFUSED
        )
    )
    # Creation code: the runtime starts at its byte 9, copy and return it.
    return bytes((0x60, len(runtime))) + bytes.fromhex("80 6009 5f 39 5f f3") + runtime
