# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title What is proven of lanes.vy
@license Apache-2.0
@notice The module itself, behind external functions, and what must hold of it for every input.
@dev halmos runs each check_ function on symbols. A Panic(1) is a counterexample. The expected
     values are computed here by other means than the module's: divisions and plain comparisons.
"""

import lanes

# A word's parts, by division.
_TRANSFERRED: constant(uint256) = 2**160
_DEPOSIT: constant(uint256) = 2**84
_WITHDRAWN: constant(uint256) = 2**8
_MONEY: constant(uint256) = 2**76


# external: the module

@external
@pure
def unpacked(word: uint256) -> lanes.Lane:
    return lanes.unpacked(word)


@external
@pure
def locked(word_a: uint256, word_b: uint256) -> uint256:
    return lanes.locked(lanes.unpacked(word_a), lanes.unpacked(word_b))


@external
@pure
def payouts(word_a: uint256, word_b: uint256) -> (uint256, uint256):
    return lanes.payouts(lanes.unpacked(word_a), lanes.unpacked(word_b))


# external: what must hold

@external
@view
def check_unpacking_takes_the_fields_that_were_packed(
    transferred: uint96, deposit: uint256, withdrawn: uint256, status: uint8
):
    if deposit >= _MONEY or withdrawn >= _MONEY:
        return
    word: uint256 = unsafe_add(
        unsafe_mul(convert(transferred, uint256), _TRANSFERRED),
        unsafe_add(
            unsafe_mul(deposit, _DEPOSIT),
            unsafe_add(unsafe_mul(withdrawn, _WITHDRAWN), convert(status, uint256)),
        ),
    )
    success: bool = False
    output: Bytes[96] = b""
    success, output = raw_call(
        self,
        abi_encode(word, method_id=method_id("unpacked(uint256)")),
        max_outsize=96,
        is_static_call=True,
        revert_on_failure=False,
    )
    self._must(success)
    self._must(extract32(output, 0, output_type=uint256) == convert(transferred, uint256))
    self._must(extract32(output, 32, output_type=uint256) == deposit)
    self._must(extract32(output, 64, output_type=uint256) == withdrawn)


@external
@view
def check_a_payout_never_reverts_and_shares_exactly_what_is_locked(
    word_a: uint256, word_b: uint256
):
    deposits: uint256 = unsafe_add(self._deposit(word_a), self._deposit(word_b))
    withdrawals: uint256 = unsafe_add(self._withdrawn(word_a), self._withdrawn(word_b))
    if withdrawals > deposits:
        return
    holds: uint256 = unsafe_sub(deposits, withdrawals)
    success: bool = False
    output: Bytes[64] = b""
    success, output = raw_call(
        self,
        abi_encode(word_a, word_b, method_id=method_id("payouts(uint256,uint256)")),
        max_outsize=64,
        is_static_call=True,
        revert_on_failure=False,
    )
    self._must(success)
    payout_a: uint256 = extract32(output, 0, output_type=uint256)
    payout_b: uint256 = extract32(output, 32, output_type=uint256)
    self._must(payout_a <= holds)
    self._must(payout_b == unsafe_sub(holds, payout_a))

    # A's balance, as what it has and what it owes; both have at most 97 bits.
    has: uint256 = unsafe_add(self._deposit(word_a), self._transferred(word_b))
    owes: uint256 = unsafe_add(self._withdrawn(word_a), self._transferred(word_a))
    if has <= owes:
        self._must(payout_a == 0)
    elif unsafe_sub(has, owes) <= holds:
        self._must(payout_a == unsafe_sub(has, owes))
    else:
        self._must(payout_a == holds)


@external
@view
def check_what_is_locked_never_reverts(word_a: uint256, word_b: uint256):
    deposits: uint256 = unsafe_add(self._deposit(word_a), self._deposit(word_b))
    withdrawals: uint256 = unsafe_add(self._withdrawn(word_a), self._withdrawn(word_b))
    if withdrawals > deposits:
        return
    success: bool = False
    output: Bytes[32] = b""
    success, output = raw_call(
        self,
        abi_encode(word_a, word_b, method_id=method_id("locked(uint256,uint256)")),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    self._must(success)
    self._must(extract32(output, 0, output_type=uint256) == unsafe_sub(deposits, withdrawals))


# internal

@internal
@pure
def _must(holds: bool):
    if not holds:
        raw_revert(concat(0x4e487b71, convert(1, bytes32)))


@internal
@pure
def _transferred(word: uint256) -> uint256:
    return word // _TRANSFERRED


@internal
@pure
def _deposit(word: uint256) -> uint256:
    return (word // _DEPOSIT) % _MONEY


@internal
@pure
def _withdrawn(word: uint256) -> uint256:
    return (word // _WITHDRAWN) % _MONEY
