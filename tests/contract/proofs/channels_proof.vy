# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title What is proven of payment_channels.vy
@license Apache-2.0
@notice The whole contract, with every external function of it, and what must hold of each that
        writes a lane's word, whatever stands in the words before.
@dev halmos runs each check_ function on symbols. A Panic(1) is a counterexample. The channel's
     terms are constants; its words, the call's numbers and the signatures are symbols. ecrecover is
     any function, so a signature may be anybody's.
"""

import lanes
import payment_channels
import requests

initializes: payment_channels

exports: payment_channels.__interface__

interface Token:
    def hold(account: address, amount: uint256): nonpayable
    def balanceOf(account: address) -> uint256: view

_TOKEN: constant(Bytes[TOKEN_BYTES]) = x"TOKEN_CODE"

_A: constant(address) = 0x0000000000000000000000000000000000000011
_SIGNER_A: constant(address) = 0x0000000000000000000000000000000000000012
_B: constant(address) = 0x0000000000000000000000000000000000000021
_SIGNER_B: constant(address) = 0x0000000000000000000000000000000000000022

# A word's parts, by division.
_TRANSFERRED: constant(uint256) = 2**160
_DEPOSIT: constant(uint256) = 2**84
_WITHDRAWN: constant(uint256) = 2**8
_MONEY: constant(uint256) = 2**76

_OPEN: constant(uint256) = 1
_CLOSING: constant(uint256) = 2
_CLOSED: constant(uint256) = 3


@deploy
def __init__():
    token: address = raw_create(_TOKEN)
    payment_channels.__init__(token, token)


# external: what must hold

@external
def check_finish_close_never_reverts_and_pays_what_lanes_gives(
    word_a: uint256, word_b: uint256, donation: uint128
):
    if self._status(word_a) != _CLOSING:
        return
    due_a: uint256 = 0
    due_b: uint256 = 0
    due_a, due_b = lanes.payouts(lanes.unpacked(word_a), lanes.unpacked(word_b))
    # Proven of lanes.vy, and so no case is lost by it: both are below 2^77.
    if due_a >= 2**77 or due_b >= 2**77:
        return
    balance: uint256 = unsafe_add(unsafe_add(due_a, due_b), convert(donation, uint256))
    channel: bytes32 = self._begin(word_a, word_b, balance)
    success: bool = raw_call(
        self,
        abi_encode(
            self._terms(),
            method_id=method_id(
                "finish_close((address,address,address,address,uint64,uint64,uint64))"
            ),
        ),
        revert_on_failure=False,
    )
    self._must(success)
    self._must(self._word_a(channel) == unsafe_add(word_a, _CLOSED - _CLOSING))
    self._must(self._word_b(channel) == word_b)
    self._must(self._holds(_A) == due_a and self._holds(_B) == due_b)
    self._must(self._holds(self) == convert(donation, uint256))


@external
def check_no_row_reverts_or_touches_anything_but_its_own_total(
    word_a: uint256,
    word_b: uint256,
    statement: uint256,
    history: bytes32,
    conditions: bytes32,
    r: uint256,
    s: uint256,
):
    channel: bytes32 = self._begin(word_a, word_b, 0)
    terms: requests.Terms = self._terms()
    row: requests.PackedRow = requests.PackedRow(
        terms=[
            convert(terms.account_a, uint256),
            convert(terms.signer_a, uint256),
            convert(terms.account_b, uint256),
            convert(terms.signer_b, uint256),
            convert(terms.challenge_seconds, uint256),
            convert(terms.challenge_blocks, uint256),
            convert(terms.sequence, uint256),
        ],
        statement=statement,
        history=history,
        conditions=conditions,
        r=r,
        s=s,
    )
    rows: DynArray[requests.PackedRow, 1] = [row]
    success: bool = raw_call(
        self,
        abi_encode(
            rows,
            method_id=method_id(
                "settle_many((uint256[7],uint256,bytes32,bytes32,uint256,uint256)[])"
            ),
        ),
        revert_on_failure=False,
    )
    self._must(success)
    after_a: uint256 = self._word_a(channel)
    after_b: uint256 = self._word_b(channel)
    if after_a == word_a and after_b == word_b:
        return
    # It took effect: on a channel that is open or closing, on one lane, upwards, to its total.
    self._must(self._status(word_a) == _OPEN or self._status(word_a) == _CLOSING)
    total: uint256 = statement % 2**96
    if after_b == word_b:
        self._must((statement // 2**160) % 2**8 == 0)
        self._must(total > self._transferred(word_a) and self._transferred(after_a) == total)
        self._must(after_a % _TRANSFERRED == word_a % _TRANSFERRED)
    else:
        self._must(after_a == word_a)
        self._must((statement // 2**160) % 2**8 == 1)
        self._must(total > self._transferred(word_b) and self._transferred(after_b) == total)
        self._must(after_b % _TRANSFERRED == word_b % _TRANSFERRED)


@external
def check_a_deposit_touches_nothing_but_its_own_field(
    word_a: uint256, word_b: uint256, of_a: bool, amount: uint256
):
    channel: bytes32 = self._begin(word_a, word_b, 0)
    account: address = _A if of_a else _B
    success: bool = raw_call(
        self,
        abi_encode(
            self._terms(),
            account,
            amount,
            method_id=method_id(
                "deposit((address,address,address,address,uint64,uint64,uint64),address,uint256)"
            ),
        ),
        revert_on_failure=False,
    )
    after_a: uint256 = self._word_a(channel)
    after_b: uint256 = self._word_b(channel)
    before: uint256 = self._deposit(word_a if of_a else word_b)
    fits: bool = amount > 0 and amount < _MONEY and unsafe_add(before, amount) < _MONEY
    self._must(success == (fits and self._status(word_a) == _OPEN))
    if not success:
        self._must(after_a == word_a and after_b == word_b)
        return
    rest: uint256 = unsafe_mul(amount, _DEPOSIT)
    if of_a:
        self._must(unsafe_sub(after_a, word_a) == rest and after_b == word_b)
        self._must(self._same_but_deposit(word_a, after_a))
        self._must(self._deposit(after_a) == unsafe_add(before, amount))
    else:
        self._must(unsafe_sub(after_b, word_b) == rest and after_a == word_a)
        self._must(self._same_but_deposit(word_b, after_b))
        self._must(self._deposit(after_b) == unsafe_add(before, amount))


@external
def check_a_withdrawal_touches_nothing_but_its_own_field_and_is_covered(
    word_a: uint256,
    word_b: uint256,
    of_a: bool,
    total: uint256,
    expires: uint64,
    r_a: bytes32,
    s_a: bytes32,
    v_a: bytes1,
    r_b: bytes32,
    s_b: bytes32,
    v_b: bytes1,
):
    deposits: uint256 = unsafe_add(self._deposit(word_a), self._deposit(word_b))
    withdrawals: uint256 = unsafe_add(self._withdrawn(word_a), self._withdrawn(word_b))
    if withdrawals > deposits:
        return
    holds: uint256 = unsafe_sub(deposits, withdrawals)
    channel: bytes32 = self._begin(word_a, word_b, holds)
    account: address = _A if of_a else _B
    success: bool = raw_call(
        self,
        abi_encode(
            self._terms(),
            account,
            total,
            expires,
            concat(r_a, s_a, v_a),
            concat(r_b, s_b, v_b),
            method_id=method_id(
                "withdraw((address,address,address,address,uint64,uint64,uint64),address,uint256,uint64,bytes,bytes)"
            ),
        ),
        revert_on_failure=False,
    )
    after_a: uint256 = self._word_a(channel)
    after_b: uint256 = self._word_b(channel)
    if not success:
        self._must(after_a == word_a and after_b == word_b)
        return
    self._must(self._status(word_a) == _OPEN)
    before: uint256 = self._withdrawn(word_a if of_a else word_b)
    self._must(total > before)
    if of_a:
        self._must(after_b == word_b)
        self._must(self._same_but_withdrawn(word_a, after_a))
        self._must(self._withdrawn(after_a) == total)
    else:
        self._must(after_a == word_a)
        self._must(self._same_but_withdrawn(word_b, after_b))
        self._must(self._withdrawn(after_b) == total)
    # What finish_close rests on holds again: no more is withdrawn than was deposited.
    amount: uint256 = unsafe_sub(total, before)
    self._must(unsafe_add(withdrawals, amount) <= deposits)
    self._must(self._holds(account) == amount)
    self._must(self._holds(self) == unsafe_sub(holds, amount))


@external
def check_starting_a_close_touches_nothing_but_the_status(
    word_a: uint256, word_b: uint256, expires: uint64, r: bytes32, s: bytes32, v: bytes1
):
    channel: bytes32 = self._begin(word_a, word_b, 0)
    success: bool = raw_call(
        self,
        abi_encode(
            self._terms(),
            expires,
            concat(r, s, v),
            method_id=method_id(
                "start_close((address,address,address,address,uint64,uint64,uint64),uint64,bytes)"
            ),
        ),
        revert_on_failure=False,
    )
    after_a: uint256 = self._word_a(channel)
    self._must(self._word_b(channel) == word_b)
    if not success:
        self._must(after_a == word_a)
        return
    self._must(self._status(word_a) == _OPEN)
    self._must(after_a == unsafe_add(word_a, _CLOSING - _OPEN))


@external
def check_a_close_touches_nothing_but_the_status_and_pays_what_lanes_gives(
    word_a: uint256,
    word_b: uint256,
    transferred_a: uint256,
    transferred_b: uint256,
    expires: uint64,
    r_a: bytes32,
    s_a: bytes32,
    v_a: bytes1,
    r_b: bytes32,
    s_b: bytes32,
    v_b: bytes1,
):
    a: lanes.Lane = lanes.unpacked(word_a)
    b: lanes.Lane = lanes.unpacked(word_b)
    a.transferred = transferred_a % 2**96
    b.transferred = transferred_b % 2**96
    due_a: uint256 = 0
    due_b: uint256 = 0
    due_a, due_b = lanes.payouts(a, b)
    # Proven of lanes.vy, and so no case is lost by it: both are below 2^77.
    if due_a >= 2**77 or due_b >= 2**77:
        return
    channel: bytes32 = self._begin(word_a, word_b, unsafe_add(due_a, due_b))
    success: bool = raw_call(
        self,
        abi_encode(
            self._terms(),
            transferred_a,
            transferred_b,
            expires,
            concat(r_a, s_a, v_a),
            concat(r_b, s_b, v_b),
            method_id=method_id(
                "close((address,address,address,address,uint64,uint64,uint64),uint256,uint256,uint64,bytes,bytes)"
            ),
        ),
        revert_on_failure=False,
    )
    after_a: uint256 = self._word_a(channel)
    self._must(self._word_b(channel) == word_b)
    if not success:
        self._must(after_a == word_a)
        return
    self._must(transferred_a < 2**96 and transferred_b < 2**96)
    self._must(self._status(word_a) == _OPEN or self._status(word_a) == _CLOSING)
    self._must(after_a // 2**8 == word_a // 2**8 and self._status(after_a) == _CLOSED)
    self._must(self._holds(_A) == due_a and self._holds(_B) == due_b)
    self._must(self._holds(self) == 0)


# internal

@internal
def _begin(word_a: uint256, word_b: uint256, balance: uint256) -> bytes32:
    # Lets the channel have these words, a window that is over, and the contract this much money.
    channel: bytes32 = payment_channels.books.id_of(self._terms())
    payment_channels.books.words_a[channel] = word_a
    payment_channels.books.words_b[channel] = word_b
    extcall self._token().hold(self, balance)
    return channel


@internal
@view
def _token() -> Token:
    return Token(payment_channels.till.TOKEN.address)


@internal
@view
def _holds(account: address) -> uint256:
    return staticcall self._token().balanceOf(account)


@internal
@view
def _word_a(channel: bytes32) -> uint256:
    return payment_channels.books.words_a[channel]


@internal
@view
def _word_b(channel: bytes32) -> uint256:
    return payment_channels.books.words_b[channel]


@internal
@pure
def _terms() -> requests.Terms:
    return requests.Terms(
        account_a=_A,
        signer_a=_SIGNER_A,
        account_b=_B,
        signer_b=_SIGNER_B,
        challenge_seconds=3600,
        challenge_blocks=20,
        sequence=1,
    )


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


@internal
@pure
def _status(word: uint256) -> uint256:
    return word % 2**8


@internal
@pure
def _same_but_deposit(word: uint256, other: uint256) -> bool:
    return word // _TRANSFERRED == other // _TRANSFERRED and word % _DEPOSIT == other % _DEPOSIT


@internal
@pure
def _same_but_withdrawn(word: uint256, other: uint256) -> bool:
    return word // _DEPOSIT == other // _DEPOSIT and word % _WITHDRAWN == other % _WITHDRAWN
