# pragma version 0.4.3
"""
@title Lanes
@license Apache-2.0
@notice How a channel's two lanes are kept in one word each, and what they pay out in the end.
@dev Stateless. A lane's word, from its high end: transferred 96, deposit 76, withdrawn 76, status
     8 bits. The status of the channel stands in lane 0's word; in lane 1's these bits stay 0.
"""

# constants

# Status of a channel.
NEVER: constant(uint256) = 0
OPEN: constant(uint256) = 1
CLOSING: constant(uint256) = 2
CLOSED: constant(uint256) = 3

TRANSFERRED_SHIFT: constant(uint256) = 160
DEPOSIT_SHIFT: constant(uint256) = 84
WITHDRAWN_SHIFT: constant(uint256) = 8
BELOW_TRANSFERRED: constant(uint256) = 2**160 - 1
STATUS_MAX: constant(uint256) = 2**8 - 1
MONEY_MAX: constant(uint256) = 2**76 - 1
TRANSFERRED_MAX: constant(uint256) = 2**96 - 1


# structs

struct Lane:
    transferred: uint256
    deposit: uint256
    withdrawn: uint256


# internal

@internal
@pure
def unpacked(word: uint256) -> Lane:
    return Lane(
        transferred=word >> TRANSFERRED_SHIFT,
        deposit=(word >> DEPOSIT_SHIFT) & MONEY_MAX,
        withdrawn=(word >> WITHDRAWN_SHIFT) & MONEY_MAX,
    )


@internal
@pure
def locked(a: Lane, b: Lane) -> uint256:
    # What the channel holds. Withdrawals never exceed deposits: `withdraw` keeps it so.
    return a.deposit + b.deposit - a.withdrawn - b.withdrawn


@internal
@pure
def payouts(a: Lane, b: Lane) -> (uint256, uint256):
    # What A and B are paid when the channel ends: A its balance, clamped to what is locked, B the
    # rest. Nothing here can overflow or revert: deposits and withdrawals have 76 bits, totals 96.
    total: uint256 = self.locked(a, b)
    balance_a: int256 = (
        convert(a.deposit, int256)
        - convert(a.withdrawn, int256)
        + convert(b.transferred, int256)
        - convert(a.transferred, int256)
    )
    payout_a: uint256 = convert(min(max(balance_a, 0), convert(total, int256)), uint256)
    return payout_a, total - payout_a
