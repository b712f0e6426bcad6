# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Payment channels
@license Apache-2.0
@notice Holds the money of two-party channels and settles them by the parties' signed totals.
@dev A channel has two lanes. In lane 0 party A pays B, in lane 1 party B pays A. A lane is one
     counter, the total ever transferred, and only its payer's signature can raise it. The greatest
     total wins, so an old voucher only ever favours the other side: nothing is revoked or punished,
     and every call may be repeated. No owner, no proxy, no pause.
     All amounts are microcents. All times are chain time in seconds or block numbers.
"""

# interfaces

from ethereum.ercs import IERC20

interface MemberRegistry:
    def is_active(account: address) -> bool: view


# constants

# Bounds of a challenge window. The shortest still lets a watchtower answer through a busy mempool,
# the longest does not hold anybody's money for more than a month.
MIN_CHALLENGE_SECONDS: public(constant(uint64)) = 600
MAX_CHALLENGE_SECONDS: public(constant(uint64)) = 30 * 24 * 3600
MIN_CHALLENGE_BLOCKS: public(constant(uint64)) = 10
MAX_CHALLENGE_BLOCKS: public(constant(uint64)) = 1_000_000

# Most rows of one open_many or deposit_many, and of one settle or settle_many. Vyper reserves
# memory for the most rows at each call and memory is dear beyond some kilobytes: with 256 rows a
# settle of one row would cost 45,000 gas more.
ROWS_MAX: public(constant(uint256)) = 256
SETTLE_ROWS_MAX: public(constant(uint256)) = 128

# Status of a channel.
_NEVER: constant(uint256) = 0
_OPEN: constant(uint256) = 1
_CLOSING: constant(uint256) = 2
_CLOSED: constant(uint256) = 3

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

# A lane's word, from its high end: transferred 96, deposit 76, withdrawn 76, status 8 bits. The
# status of the channel stands in lane 0's word; in lane 1's these bits stay 0.
_TRANSFERRED_SHIFT: constant(uint256) = 160
_DEPOSIT_SHIFT: constant(uint256) = 84
_WITHDRAWN_SHIFT: constant(uint256) = 8
_BELOW_TRANSFERRED: constant(uint256) = 2**160 - 1
_STATUS_MAX: constant(uint256) = 2**8 - 1
_MONEY_MAX: constant(uint256) = 2**76 - 1
_TRANSFERRED_MAX: constant(uint256) = 2**96 - 1
_NONCE_MAX: constant(uint256) = 2**64 - 1

# A packed row's statement, from its high end: v 88, lane 8, nonce 64, transferred 96 bits.
_V_SHIFT: constant(uint256) = 168
_LANE_SHIFT: constant(uint256) = 160
_LANE_MAX: constant(uint256) = 2**8 - 1
_NONCE_SHIFT: constant(uint256) = 96

# A closing channel's deadline word, from its high end: second 64, block 64 bits.
_DEADLINE_SHIFT: constant(uint256) = 64
_DEADLINE_MAX: constant(uint256) = 2**64 - 1

# Gas a payout hands to the token: several times what a transfer needs, yet bounded, so that a
# token or account that burns all it is given cannot make a channel impossible to finish. A sender
# cannot make an honest transfer fail by little gas either: where this much is not left, the 64th
# that a call keeps back (2,400) does not pay for crediting, and everything reverts.
_PAYOUT_GAS: constant(uint256) = 150_000

# EIP-712.
_DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_DOMAIN_NAME: constant(bytes32) = keccak256("Farthing")
_DOMAIN_VERSION: constant(bytes32) = keccak256("1")
_VOUCHER_TYPE: constant(bytes32) = keccak256(
    "Voucher(bytes32 channel,address payer,uint64 nonce,uint96 transferred,bytes32 history,bytes32 conditions)"
)
_WITHDRAWAL_TYPE: constant(bytes32) = keccak256(
    "Withdrawal(bytes32 channel,address account,uint96 total,uint64 expires)"
)
_CLOSE_TYPE: constant(bytes32) = keccak256(
    "Close(bytes32 channel,uint96 transferredA,uint96 transferredB,uint64 expires)"
)
_START_CLOSE_TYPE: constant(bytes32) = keccak256("StartClose(bytes32 channel,uint64 expires)")

# Half the order of secp256k1: signatures with a greater s are refused, so that each has one form.
_S_MAX: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168


# immutables

TOKEN: public(immutable(IERC20))
REGISTRY: public(immutable(MemberRegistry))
# Tells this deployment from any other at the same address on a chain with the same id, such as a
# development chain that was reset: a channel id never repeats.
DEPLOYMENT: public(immutable(bytes32))


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

struct Signature:
    r: uint256
    s: uint256
    v: uint256

struct Lane:
    transferred: uint256
    deposit: uint256
    withdrawn: uint256


# state

# Sequence of the next channel; no channel ever has sequence 0.
next_sequence: public(uint64)
_words_a: HashMap[bytes32, uint256]
_words_b: HashMap[bytes32, uint256]
_deadlines: HashMap[bytes32, uint256]
# Payouts that the token refused, waiting for claim.
claimable: public(HashMap[address, uint256])


# events

event Opened:
    channel: indexed(bytes32)
    account_a: indexed(address)
    account_b: indexed(address)
    signer_a: address
    signer_b: address
    challenge_seconds: uint64
    challenge_blocks: uint64
    sequence: uint64
    funder: address
    deposit: uint256

event Deposited:
    channel: indexed(bytes32)
    account: indexed(address)
    funder: address
    amount: uint256
    deposit_total: uint256

event Settled:
    channel: indexed(bytes32)
    payer: indexed(address)
    nonce: uint256
    transferred_before: uint256
    transferred: uint256
    history: bytes32

event RowSkipped:
    index: indexed(uint256)
    channel: indexed(bytes32)
    reason: uint8

event Withdrawn:
    channel: indexed(bytes32)
    account: indexed(address)
    amount: uint256
    total: uint256

event CloseStarted:
    channel: indexed(bytes32)
    by: indexed(address)
    deadline_seconds: uint64
    deadline_block: uint64

event Closed:
    channel: indexed(bytes32)
    transferred_a: uint256
    transferred_b: uint256
    payout_a: uint256
    payout_b: uint256
    cooperative: bool

event Credited:
    channel: indexed(bytes32)
    account: indexed(address)
    amount: uint256

event Claimed:
    account: indexed(address)
    amount: uint256


@deploy
def __init__(token: address, registry: address):
    """
    @notice Creates the contract for one token and one member registry, for ever.
    @param token the ERC-20 token all channels hold
    @param registry the member registry
    """
    assert token.is_contract, "channels: token is no contract"
    assert registry.is_contract, "channels: registry is no contract"
    TOKEN = IERC20(token)
    REGISTRY = MemberRegistry(registry)
    DEPLOYMENT = keccak256(abi_encode(blockhash(block.number - 1), block.timestamp))
    self.next_sequence = 1


# external

@external
@nonreentrant
def open(row: OpenRow) -> bytes32:
    """
    @notice Opens a channel. The sender pays party A's deposit.
    @param row the parties, the challenge window and A's deposit in microcents (0 is allowed)
    @return the channel's id
    """
    reason: uint8 = self._open_refusal(row, False)
    if reason != 0:
        self._refuse(reason)
    sequence: uint64 = self.next_sequence
    self.next_sequence = sequence + 1
    channel: bytes32 = self._open(row, sequence)
    self._pull(row.deposit)
    return channel


@external
@nonreentrant
def open_many(rows: DynArray[OpenRow, ROWS_MAX]):
    """
    @notice Opens many channels. The sender pays all deposits in one transfer. A bad row is skipped
            and reported by RowSkipped with an empty channel id; it takes no sequence number.
    @param rows up to ROWS_MAX rows as for `open`
    """
    sequence: uint64 = self.next_sequence
    total: uint256 = 0
    # A hub stands in each of its rows: the registry is asked about it once in a run of them.
    known_account: address = empty(address)
    known_signer: address = empty(address)
    for i: uint256 in range(len(rows), bound=ROWS_MAX):
        row: OpenRow = rows[i]
        known: bool = row.account_a == known_account and row.signer_a == known_signer
        reason: uint8 = self._open_refusal(row, known)
        if reason != 0:
            log RowSkipped(index=i, channel=empty(bytes32), reason=reason)
            continue
        known_account = row.account_a
        known_signer = row.signer_a
        self._open(row, sequence)
        sequence += 1
        total += row.deposit
    self.next_sequence = sequence
    self._pull(total)


@external
@nonreentrant
def deposit(terms: Terms, account: address, amount: uint256):
    """
    @notice Adds to a party's deposit in an open channel. The sender pays.
    @param terms the channel's terms
    @param account whose deposit grows: account_a or account_b, an active member with its signer
    @param amount microcents, at least 1
    """
    channel: bytes32 = self._channel_id(terms)
    reason: uint8 = self._deposit(channel, DepositRow(terms=terms, account=account, amount=amount))
    if reason != 0:
        self._refuse(reason)
    self._pull(amount)


@external
@nonreentrant
def deposit_many(rows: DynArray[DepositRow, ROWS_MAX]):
    """
    @notice Adds to many deposits. The sender pays all in one transfer. A bad row is skipped and
            reported by RowSkipped.
    @param rows up to ROWS_MAX rows as for `deposit`
    """
    total: uint256 = 0
    for i: uint256 in range(len(rows), bound=ROWS_MAX):
        row: DepositRow = rows[i]
        channel: bytes32 = self._channel_id(row.terms)
        reason: uint8 = self._deposit(channel, row)
        if reason != 0:
            log RowSkipped(index=i, channel=channel, reason=reason)
            continue
        total += row.amount
    self._pull(total)


@external
@nonreentrant
def settle(rows: DynArray[SettleRow, SETTLE_ROWS_MAX]):
    """
    @notice Raises lanes to the totals of their payers' vouchers. Anyone may call. A row takes
            effect if and only if its total exceeds the stored one; any other row is skipped and
            reported by RowSkipped and never disturbs its neighbours.
    @dev A number out of range skips its row; what is no ABI at all (a longer signature, an address
         above 160 bits) reverts the call: who takes rows from others packs them for settle_many.
         Works until the channel is closed, not only until its window ends: whatever a payer signed
         it owes, so a late row can only bring the payout nearer to the truth, and a party that a
         stalled chain kept out is still heard while nobody has called finish_close. Totals are
         not compared with deposits: the other lane may be older here than what the parties know.
         The payout clamps instead. Nonces are not compared either: a payer could otherwise post a
         low total under a high nonce and strand the payee's real voucher.
    @param rows up to SETTLE_ROWS_MAX vouchers; lane 0 is A paying B, lane 1 B paying A; the
           signature is empty where the sender is the lane's payer
    """
    domain: bytes32 = self._domain_separator()
    for i: uint256 in range(len(rows), bound=SETTLE_ROWS_MAX):
        row: SettleRow = rows[i]
        sig: Signature = self._split(row.signature)
        reason: uint8 = self._row_refusal(row, sig)
        if reason != 0:
            log RowSkipped(index=i, channel=self._channel_id(row.terms), reason=reason)
            continue
        self._settle(i, self._packed(row, sig), domain)


@external
@nonreentrant
def settle_many(rows: DynArray[PackedRow, SETTLE_ROWS_MAX]):
    """
    @notice Does what `settle` does, at less gas, for whoever settles many lanes.
    @param rows up to SETTLE_ROWS_MAX vouchers: the seven words of the terms; the statement, which
           is v * 2^168 + lane * 2^160 + nonce * 2^96 + total; history; conditions; r and s. v, r
           and s are 0 where the sender is the lane's payer
    """
    domain: bytes32 = self._domain_separator()
    for i: uint256 in range(len(rows), bound=SETTLE_ROWS_MAX):
        self._settle(i, rows[i], domain)


@external
@nonreentrant
def withdraw(
    terms: Terms,
    account: address,
    total: uint256,
    expires: uint64,
    signature_a: Bytes[65],
    signature_b: Bytes[65],
):
    """
    @notice Pays a party out of an open channel, by agreement of both signers.
    @dev Bounded by what this channel holds, never by what others left in the contract.
    @param terms the channel's terms
    @param account who is paid: account_a or account_b
    @param total all that this account will have withdrawn afterwards, in microcents
    @param expires last second in which this is valid
    @param signature_a signer_a's signature of the Withdrawal
    @param signature_b signer_b's
    """
    channel: bytes32 = self._channel_id(terms)
    word_a: uint256 = self._words_a[channel]
    assert word_a & _STATUS_MAX == _OPEN, "channels: not open"
    assert account == terms.account_a or account == terms.account_b, "channels: not a party"
    assert block.timestamp <= convert(expires, uint256), "channels: expired"
    # One party may withdraw what both deposited: 77 bits, where its field has 76.
    assert total <= _MONEY_MAX, "channels: total out of range"
    digest: bytes32 = self._digest(
        keccak256(abi_encode(_WITHDRAWAL_TYPE, channel, account, total, expires)),
        self._domain_separator(),
    )
    self._check_both(terms, digest, signature_a, signature_b)

    word_b: uint256 = self._words_b[channel]
    a: Lane = self._lane(word_a)
    b: Lane = self._lane(word_b)
    withdrawn: uint256 = a.withdrawn if account == terms.account_a else b.withdrawn
    assert total > withdrawn, "channels: total not greater"
    amount: uint256 = total - withdrawn
    assert amount <= a.deposit + b.deposit - a.withdrawn - b.withdrawn, "channels: too much"
    if account == terms.account_a:
        self._words_a[channel] = word_a + (amount << _WITHDRAWN_SHIFT)
    else:
        self._words_b[channel] = word_b + (amount << _WITHDRAWN_SHIFT)
    log Withdrawn(channel=channel, account=account, amount=amount, total=total)
    self._pay(channel, account, amount)


@external
@nonreentrant
def close(
    terms: Terms,
    transferred_a: uint256,
    transferred_b: uint256,
    expires: uint64,
    signature_a: Bytes[65],
    signature_b: Bytes[65],
):
    """
    @notice Ends a channel at once, by agreement of both signers on the final totals.
    @dev The agreed totals count as they are, above or below what was settled before. They stand in
         the Closed event; the lanes' words keep the last settled totals.
    @param terms the channel's terms
    @param transferred_a all that A ever paid B, in microcents
    @param transferred_b all that B ever paid A, in microcents
    @param expires last second in which this is valid
    @param signature_a signer_a's signature of the Close
    @param signature_b signer_b's
    """
    channel: bytes32 = self._channel_id(terms)
    word_a: uint256 = self._words_a[channel]
    status: uint256 = word_a & _STATUS_MAX
    assert status == _OPEN or status == _CLOSING, "channels: not open or closing"
    assert block.timestamp <= convert(expires, uint256), "channels: expired"
    assert (
        transferred_a <= _TRANSFERRED_MAX and transferred_b <= _TRANSFERRED_MAX
    ), "channels: total out of range"
    digest: bytes32 = self._digest(
        keccak256(abi_encode(_CLOSE_TYPE, channel, transferred_a, transferred_b, expires)),
        self._domain_separator(),
    )
    self._check_both(terms, digest, signature_a, signature_b)

    a: Lane = self._lane(word_a)
    b: Lane = self._lane(self._words_b[channel])
    a.transferred = transferred_a
    b.transferred = transferred_b
    if status == _CLOSING:
        self._deadlines[channel] = 0
    self._words_a[channel] = word_a - status + _CLOSED
    self._pay_out(channel, terms, a, b, True)


@external
@nonreentrant
def start_close(terms: Terms, expires: uint64, signature: Bytes[65]):
    """
    @notice Starts the challenge window of an open channel. Never starts one again.
    @param terms the channel's terms
    @param expires last second in which the signature is valid; ignored without one
    @param signature a StartClose signed by an account or signer of either party; empty where the
           sender is one of them
    """
    channel: bytes32 = self._channel_id(terms)
    word_a: uint256 = self._words_a[channel]
    assert word_a & _STATUS_MAX == _OPEN, "channels: not open"
    by: address = msg.sender
    if len(signature) != 0:
        assert block.timestamp <= convert(expires, uint256), "channels: expired"
        by = self._recover(
            self._digest(
                keccak256(abi_encode(_START_CLOSE_TYPE, channel, expires)),
                self._domain_separator(),
            ),
            signature,
        )
        assert by != empty(address), "channels: bad signature"
    assert (
        by == terms.account_a
        or by == terms.signer_a
        or by == terms.account_b
        or by == terms.signer_b
    ), "channels: not a party"

    second: uint256 = block.timestamp + convert(terms.challenge_seconds, uint256)
    number: uint256 = block.number + convert(terms.challenge_blocks, uint256)
    self._words_a[channel] = word_a - _OPEN + _CLOSING
    self._deadlines[channel] = (second << _DEADLINE_SHIFT) | number
    log CloseStarted(
        channel=channel,
        by=by,
        deadline_seconds=convert(second, uint64),
        deadline_block=convert(number, uint64),
    )


@external
@nonreentrant
def finish_close(terms: Terms):
    """
    @notice Ends a closing channel by its settled totals, once both the seconds and the blocks of
            its window have passed. Anyone may call.
    @dev Both, because time passes while validators are stalled, and blocks may come faster or
         slower than planned.
    @param terms the channel's terms
    """
    channel: bytes32 = self._channel_id(terms)
    word_a: uint256 = self._words_a[channel]
    assert word_a & _STATUS_MAX == _CLOSING, "channels: not closing"
    deadline: uint256 = self._deadlines[channel]
    assert block.timestamp > deadline >> _DEADLINE_SHIFT, "channels: window still open (seconds)"
    assert block.number > deadline & _DEADLINE_MAX, "channels: window still open (blocks)"
    self._deadlines[channel] = 0
    self._words_a[channel] = word_a - _CLOSING + _CLOSED
    self._pay_out(
        channel, terms, self._lane(word_a), self._lane(self._words_b[channel]), False
    )


@external
@nonreentrant
def claim(account: address):
    """
    @notice Pays an account what an earlier payout could not bring it. Anyone may call.
    @param account who is paid
    """
    amount: uint256 = self.claimable[account]
    assert amount != 0, "channels: nothing to claim"
    self.claimable[account] = 0
    log Claimed(account=account, amount=amount)
    assert self._send(account, amount) == amount, "channels: transfer failed"


@external
@view
def channel_id(terms: Terms) -> bytes32:
    """
    @notice The id of the channel with these terms, whether it was opened or not.
    @param terms the terms
    @return keccak256 of chain id, this contract, its deployment and the terms
    """
    return self._channel_id(terms)


@external
@view
def domain_separator() -> bytes32:
    """
    @notice The EIP-712 domain separator, made with the chain id of this block.
    @return the separator
    """
    return self._domain_separator()


@external
@view
def channel_state(
    channel: bytes32,
) -> (uint256, uint256, uint256, uint256, uint256, uint256, uint256, uint64, uint64):
    """
    @notice What the contract holds about a channel.
    @param channel the channel's id
    @return status (0 never, 1 open, 2 closing, 3 closed); transferred, deposit, withdrawn of A;
            the same of B; last second and last block of the window (0 unless closing)
    """
    word_a: uint256 = self._words_a[channel]
    deadline: uint256 = self._deadlines[channel]
    a: Lane = self._lane(word_a)
    b: Lane = self._lane(self._words_b[channel])
    return (
        word_a & _STATUS_MAX,
        a.transferred,
        a.deposit,
        a.withdrawn,
        b.transferred,
        b.deposit,
        b.withdrawn,
        convert(deadline >> _DEADLINE_SHIFT, uint64),
        convert(deadline & _DEADLINE_MAX, uint64),
    )


# internal

@internal
@view
def _channel_id(terms: Terms) -> bytes32:
    return keccak256(abi_encode(chain.id, self, DEPLOYMENT, terms))


@internal
@view
def _domain_separator() -> bytes32:
    # Made anew each time: a cached one would outlive a fork of the chain.
    return keccak256(abi_encode(_DOMAIN_TYPE, _DOMAIN_NAME, _DOMAIN_VERSION, chain.id, self))


@internal
@pure
def _digest(struct_hash: bytes32, domain: bytes32) -> bytes32:
    return keccak256(concat(x"1901", domain, struct_hash))


@internal
@pure
def _split(signature: Bytes[65]) -> Signature:
    # Zeros unless the signature has 65 bytes and a low s. Its v is left to ecrecover, which answers
    # the empty address for any but 27 and 28.
    if len(signature) != 65:
        return empty(Signature)
    r: uint256 = extract32(signature, 0, output_type=uint256)
    s: uint256 = extract32(signature, 32, output_type=uint256)
    v: uint256 = extract32(signature, 33, output_type=uint256) & 255
    if s > _S_MAX:
        return empty(Signature)
    return Signature(r=r, s=s, v=v)


@internal
@pure
def _recover(digest: bytes32, signature: Bytes[65]) -> address:
    # The empty address for anything that is no signature in the one format.
    sig: Signature = self._split(signature)
    return ecrecover(digest, sig.v, sig.r, sig.s)


@internal
@pure
def _is_signed(signer: address, digest: bytes32, signature: Bytes[65]) -> bool:
    # The empty address is ecrecover's answer to garbage: that is nobody's signature.
    return signer != empty(address) and self._recover(digest, signature) == signer


@internal
@pure
def _check_both(
    terms: Terms, digest: bytes32, signature_a: Bytes[65], signature_b: Bytes[65]
):
    assert self._is_signed(terms.signer_a, digest, signature_a), "channels: bad signature of A"
    assert self._is_signed(terms.signer_b, digest, signature_b), "channels: bad signature of B"


@internal
@pure
def _lane(word: uint256) -> Lane:
    return Lane(
        transferred=word >> _TRANSFERRED_SHIFT,
        deposit=(word >> _DEPOSIT_SHIFT) & _MONEY_MAX,
        withdrawn=(word >> _WITHDRAWN_SHIFT) & _MONEY_MAX,
    )


@internal
@view
def _open_refusal(row: OpenRow, a_is_known: bool) -> uint8:
    # 0, or why this row cannot be opened. `a_is_known`: A's addresses were found active before.
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
    if row.deposit > _MONEY_MAX:
        return AMOUNT_RANGE
    if not a_is_known and not self._are_active(row.account_a, row.signer_a):
        return NOT_A_MEMBER
    if not self._are_active(row.account_b, row.signer_b):
        return NOT_A_MEMBER
    return 0


@internal
@view
def _are_active(account: address, signer: address) -> bool:
    if not staticcall REGISTRY.is_active(account):
        return False
    return account == signer or staticcall REGISTRY.is_active(signer)


@internal
def _open(row: OpenRow, sequence: uint64) -> bytes32:
    channel: bytes32 = self._channel_id(
        Terms(
            account_a=row.account_a,
            signer_a=row.signer_a,
            account_b=row.account_b,
            signer_b=row.signer_b,
            challenge_seconds=row.challenge_seconds,
            challenge_blocks=row.challenge_blocks,
            sequence=sequence,
        )
    )
    self._words_a[channel] = (row.deposit << _DEPOSIT_SHIFT) | _OPEN
    log Opened(
        channel=channel,
        account_a=row.account_a,
        account_b=row.account_b,
        signer_a=row.signer_a,
        signer_b=row.signer_b,
        challenge_seconds=row.challenge_seconds,
        challenge_blocks=row.challenge_blocks,
        sequence=sequence,
        funder=msg.sender,
        deposit=row.deposit,
    )
    return channel


@internal
def _deposit(channel: bytes32, row: DepositRow) -> uint8:
    # Adds the row's amount, which _pull must fetch, and answers 0, or why it was left out.
    word_a: uint256 = self._words_a[channel]
    status: uint256 = word_a & _STATUS_MAX
    if status == _NEVER:
        return UNKNOWN_CHANNEL
    if status != _OPEN:
        return NOT_OPEN
    is_a: bool = row.account == row.terms.account_a
    if not is_a and row.account != row.terms.account_b:
        return NOT_A_PARTY
    word: uint256 = word_a if is_a else self._words_b[channel]
    before: uint256 = (word >> _DEPOSIT_SHIFT) & _MONEY_MAX
    if row.amount == 0 or row.amount > _MONEY_MAX - before:
        return AMOUNT_RANGE
    if not self._are_active(row.account, row.terms.signer_a if is_a else row.terms.signer_b):
        return NOT_A_MEMBER
    word += row.amount << _DEPOSIT_SHIFT
    if is_a:
        self._words_a[channel] = word
    else:
        self._words_b[channel] = word
    log Deposited(
        channel=channel,
        account=row.account,
        funder=msg.sender,
        amount=row.amount,
        deposit_total=before + row.amount,
    )
    return 0


@internal
@pure
def _row_refusal(row: SettleRow, sig: Signature) -> uint8:
    # 0, or why this row cannot be packed.
    if row.lane > 1:
        return LANE_RANGE
    if row.nonce > _NONCE_MAX:
        return NONCE_RANGE
    if row.transferred > _TRANSFERRED_MAX:
        return TOTAL_RANGE
    if len(row.signature) != 0 and sig.v == 0:
        return BAD_SIGNATURE
    return 0


@internal
@pure
def _packed(row: SettleRow, sig: Signature) -> PackedRow:
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
        statement=(sig.v << _V_SHIFT)
        | (row.lane << _LANE_SHIFT)
        | (row.nonce << _NONCE_SHIFT)
        | row.transferred,
        history=row.history,
        conditions=row.conditions,
        r=sig.r,
        s=sig.s,
    )


@internal
def _settle(index: uint256, row: PackedRow, domain: bytes32):
    # Written for gas: everything that a good row needs stands in this one function.
    channel: bytes32 = keccak256(abi_encode(chain.id, self, DEPLOYMENT, row.terms))
    word_a: uint256 = self._words_a[channel]
    lane: uint256 = (row.statement >> _LANE_SHIFT) & _LANE_MAX
    transferred: uint256 = row.statement & _TRANSFERRED_MAX
    word: uint256 = word_a
    payer: uint256 = row.terms[0]
    signer: uint256 = row.terms[1]
    if lane != 0:
        word = self._words_b[channel]
        payer = row.terms[2]
        signer = row.terms[3]
    before: uint256 = word >> _TRANSFERRED_SHIFT
    status: uint256 = word_a & _STATUS_MAX
    # In one comparison: neither open (1) nor closing (2).
    if unsafe_sub(status, _OPEN) > 1 or lane > 1 or transferred <= before:
        reason: uint8 = NOT_GREATER
        if status == _NEVER:
            reason = UNKNOWN_CHANNEL
        elif status == _CLOSED:
            reason = NOT_OPEN
        elif lane > 1:
            reason = LANE_RANGE
        log RowSkipped(index=index, channel=channel, reason=reason)
        return

    nonce: uint256 = (row.statement >> _NONCE_SHIFT) & _NONCE_MAX
    v: uint256 = row.statement >> _V_SHIFT
    # Own words need no signature; but a signature that came along must be good.
    if (v | row.r | row.s) != 0 or convert(msg.sender, uint256) != payer:
        digest: bytes32 = keccak256(
            concat(
                x"1901",
                domain,
                keccak256(
                    abi_encode(
                        _VOUCHER_TYPE,
                        channel,
                        payer,
                        nonce,
                        transferred,
                        row.history,
                        row.conditions,
                    )
                ),
            )
        )
        recovered: uint256 = 0
        if row.s <= _S_MAX:
            recovered = convert(ecrecover(digest, v, row.r, row.s), uint256)
        # ecrecover answers the empty address for garbage and for any v but 27 and 28: that is
        # nobody's signature.
        if recovered == 0 or recovered != signer:
            log RowSkipped(index=index, channel=channel, reason=BAD_SIGNATURE)
            return

    word = (word & _BELOW_TRANSFERRED) | (transferred << _TRANSFERRED_SHIFT)
    if lane == 0:
        self._words_a[channel] = word
    else:
        self._words_b[channel] = word
    log Settled(
        channel=channel,
        payer=convert(convert(payer, uint160), address),
        nonce=nonce,
        transferred_before=before,
        transferred=transferred,
        history=row.history,
    )


@internal
def _pay_out(channel: bytes32, terms: Terms, a: Lane, b: Lane, cooperative: bool):
    # Nothing here can overflow or revert: deposits and withdrawals have 76 bits, totals 96, and
    # withdraw keeps all withdrawals at or below all deposits. Payouts add up to what is locked.
    locked: int256 = convert(a.deposit + b.deposit - a.withdrawn - b.withdrawn, int256)
    balance_a: int256 = (
        convert(a.deposit, int256)
        - convert(a.withdrawn, int256)
        + convert(b.transferred, int256)
        - convert(a.transferred, int256)
    )
    payout_a: uint256 = convert(min(max(balance_a, 0), locked), uint256)
    payout_b: uint256 = convert(locked, uint256) - payout_a
    log Closed(
        channel=channel,
        transferred_a=a.transferred,
        transferred_b=b.transferred,
        payout_a=payout_a,
        payout_b=payout_b,
        cooperative=cooperative,
    )
    self._pay(channel, terms.account_a, payout_a)
    self._pay(channel, terms.account_b, payout_b)


@internal
def _pay(channel: bytes32, account: address, amount: uint256):
    # One account that cannot be paid never blocks the other: what did not go out is kept for it.
    if amount == 0:
        return
    unpaid: uint256 = amount - self._send(account, amount)
    if unpaid != 0:
        self.claimable[account] += unpaid
        log Credited(channel=channel, account=account, amount=unpaid)


@internal
def _send(account: address, amount: uint256) -> uint256:
    # Sends tokens and answers how many went. Never reverts because the token or the account does.
    # What the token answers counts for nothing, what its books say counts: tokens exist that
    # answer nothing, false after a success, or true after a failure. Nothing they return is copied.
    before: uint256 = staticcall TOKEN.balanceOf(self)
    success: bool = raw_call(
        TOKEN.address,
        abi_encode(account, amount, method_id=method_id("transfer(address,uint256)")),
        gas=_PAYOUT_GAS,
        revert_on_failure=False,
    )
    left: uint256 = staticcall TOKEN.balanceOf(self)
    return min(before - min(left, before), amount)


@internal
def _pull(amount: uint256):
    # Fetches from the sender what was just credited; a token that delivers less undoes the call.
    if amount == 0:
        return
    before: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "channels: transfer failed"
    assert staticcall TOKEN.balanceOf(self) - before >= amount, "channels: token took a fee"


@internal
@pure
def _refuse(reason: uint8):
    # Turns a row's reason into a revert, where there is only one row.
    assert reason != UNKNOWN_CHANNEL, "channels: unknown channel"
    assert reason != NOT_OPEN, "channels: not open"
    assert reason != NOT_DISTINCT, "channels: not distinct"
    assert reason != WINDOW_RANGE, "channels: window out of range"
    assert reason != AMOUNT_RANGE, "channels: amount out of range"
    assert reason != NOT_A_MEMBER, "channels: not a member"
    raise "channels: not a party"
