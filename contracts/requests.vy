# pragma version 0.4.3
"""
@title Requests
@license Apache-2.0
@notice What callers hand over, one row for each channel or lane, and why a row may be refused.
@dev Stateless: what is checked here needs nothing but the row.
"""

import lanes
import signatures


# constants

# Bounds of a challenge window. The shortest still lets a watchtower answer through a busy mempool,
# the longest does not hold anybody's money for more than a month.
MIN_CHALLENGE_SECONDS: public(constant(uint64)) = 600
MAX_CHALLENGE_SECONDS: public(constant(uint64)) = 30 * 24 * 3600
MIN_CHALLENGE_BLOCKS: public(constant(uint64)) = 10
MAX_CHALLENGE_BLOCKS: public(constant(uint64)) = 1_000_000

# Why a row was skipped (RowSkipped.reason). Part of the interface: never renumbered.
UNKNOWN_CHANNEL: public(constant(uint8)) = 1  # no channel has these terms
NOT_OPEN: public(constant(uint8)) = 2  # settle: closed; deposit: closing or closed
LANE_RANGE: public(constant(uint8)) = 3  # the lane is neither 0 nor 1
NONCE_RANGE: public(constant(uint8)) = 4  # the nonce is above 2^64 - 1
TOTAL_RANGE: public(constant(uint8)) = 5  # the total is above 2^96 - 1
NOT_GREATER: public(constant(uint8)) = 6  # the lane already stands at this total or above
BAD_SIGNATURE: public(constant(uint8)) = 7  # not the lane's signer, or not in the one format
NOT_DISTINCT: public(constant(uint8)) = 8  # an address is empty or stands on both sides
WINDOW_RANGE: public(constant(uint8)) = 9  # a challenge window is out of bounds
AMOUNT_RANGE: public(constant(uint8)) = 10  # zero, or deposits would pass 2^76 - 1
NOT_A_MEMBER: public(constant(uint8)) = 11  # an account or signer is not an active member
NOT_A_PARTY: public(constant(uint8)) = 12  # the account is neither party's

# A packed row's statement, from its high end: v 88, lane 8, nonce 64, transferred 96 bits.
V_SHIFT: constant(uint256) = 168
LANE_SHIFT: constant(uint256) = 160
LANE_MAX: constant(uint256) = 2**8 - 1
NONCE_SHIFT: constant(uint256) = 96
NONCE_MAX: constant(uint256) = 2**64 - 1


# structs

struct Terms:
    account_a: address
    signer_a: address
    account_b: address
    signer_b: address
    challenge_seconds: uint64
    challenge_blocks: uint64
    sequence: uint64

struct OpenRow:
    account_a: address
    signer_a: address
    account_b: address
    signer_b: address
    challenge_seconds: uint64
    challenge_blocks: uint64
    deposit: uint256

struct DepositRow:
    terms: Terms
    account: address
    amount: uint256

# What a peer chose is a full word here: a value out of range skips its row. Were it decoded as a
# narrow type, it would revert the whole call.
struct SettleRow:
    terms: Terms
    lane: uint256
    nonce: uint256
    transferred: uint256
    history: bytes32
    conditions: bytes32
    signature: Bytes[65]

# The same in twelve plain words, which need no decoding: nothing in such a row can revert its
# neighbours, and settling it is cheaper. A word that is no address makes an id that no channel has.
struct PackedRow:
    terms: uint256[7]
    statement: uint256
    history: bytes32
    conditions: bytes32
    r: uint256
    s: uint256


# internal

@internal
@pure
def open_refusal(row: OpenRow) -> uint8:
    # 0, or why this row cannot be opened, whoever its members are.
    if (
        row.account_a == empty(address)
        or row.signer_a == empty(address)
        or row.account_b == empty(address)
        or row.signer_b == empty(address)
        or row.account_a == row.account_b
        or row.account_a == row.signer_b
        or row.signer_a == row.account_b
        or row.signer_a == row.signer_b
    ):
        return NOT_DISTINCT
    if (
        row.challenge_seconds < MIN_CHALLENGE_SECONDS
        or row.challenge_seconds > MAX_CHALLENGE_SECONDS
        or row.challenge_blocks < MIN_CHALLENGE_BLOCKS
        or row.challenge_blocks > MAX_CHALLENGE_BLOCKS
    ):
        return WINDOW_RANGE
    if row.deposit > lanes.MONEY_MAX:
        return AMOUNT_RANGE
    return 0


@internal
@pure
def packing_refusal(row: SettleRow, sig: signatures.Signature) -> uint8:
    # 0, or why this row cannot be packed.
    if row.lane > 1:
        return LANE_RANGE
    if row.nonce > NONCE_MAX:
        return NONCE_RANGE
    if row.transferred > lanes.TRANSFERRED_MAX:
        return TOTAL_RANGE
    if len(row.signature) != 0 and sig.v == 0:
        return BAD_SIGNATURE
    return 0


@internal
@pure
def packed(row: SettleRow, sig: signatures.Signature) -> PackedRow:
    return PackedRow(
        terms=[
            convert(row.terms.account_a, uint256),
            convert(row.terms.signer_a, uint256),
            convert(row.terms.account_b, uint256),
            convert(row.terms.signer_b, uint256),
            convert(row.terms.challenge_seconds, uint256),
            convert(row.terms.challenge_blocks, uint256),
            convert(row.terms.sequence, uint256),
        ],
        statement=(sig.v << V_SHIFT)
        | (row.lane << LANE_SHIFT)
        | (row.nonce << NONCE_SHIFT)
        | row.transferred,
        history=row.history,
        conditions=row.conditions,
        r=sig.r,
        s=sig.s,
    )


@internal
@pure
def refuse(reason: uint8):
    # Turns a row's reason into a revert, where there is only one row.
    assert reason != UNKNOWN_CHANNEL, "channels: unknown channel"
    assert reason != NOT_OPEN, "channels: not open"
    assert reason != NOT_DISTINCT, "channels: not distinct"
    assert reason != WINDOW_RANGE, "channels: window out of range"
    assert reason != AMOUNT_RANGE, "channels: amount out of range"
    assert reason != NOT_A_MEMBER, "channels: not a member"
    raise "channels: not a party"
