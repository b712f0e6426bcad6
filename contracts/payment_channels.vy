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

import books
import lanes
import requests
import settlement
import signatures
import till

initializes: till

exports: (
    till.TOKEN,
    till.claim,
    till.claimable,
    books.DEPLOYMENT,
    settlement.SETTLE_ROWS_MAX,
    settlement.settle,
    settlement.settle_many,
    requests.MIN_CHALLENGE_SECONDS,
    requests.MAX_CHALLENGE_SECONDS,
    requests.MIN_CHALLENGE_BLOCKS,
    requests.MAX_CHALLENGE_BLOCKS,
    requests.UNKNOWN_CHANNEL,
    requests.NOT_OPEN,
    requests.LANE_RANGE,
    requests.NONCE_RANGE,
    requests.TOTAL_RANGE,
    requests.NOT_GREATER,
    requests.BAD_SIGNATURE,
    requests.NOT_DISTINCT,
    requests.WINDOW_RANGE,
    requests.AMOUNT_RANGE,
    requests.NOT_A_MEMBER,
    requests.NOT_A_PARTY,
)


# interfaces

interface MemberRegistry:
    def is_active(account: address) -> bool: view


# constants

# Most rows of one open_many or deposit_many.
ROWS_MAX: public(constant(uint256)) = 256

# A closing channel's deadline word, from its high end: second 64, block 64 bits.
_DEADLINE_SHIFT: constant(uint256) = 64
_DEADLINE_MAX: constant(uint256) = 2**64 - 1


# immutables

REGISTRY: public(immutable(MemberRegistry))

# Here and not above: a contract's immutables stand behind its code in this order, and those who
# check deployed code read token, registry, deployment.
initializes: books
initializes: settlement[books := books]


# state

# Sequence of the next channel; no channel ever has sequence 0.
next_sequence: public(uint64)
_deadlines: HashMap[bytes32, uint256]


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


@deploy
def __init__(token: address, registry: address):
    """
    @notice Creates the contract for one token and one member registry, for ever.
    @param token the ERC-20 token all channels hold
    @param registry the member registry
    """
    till.__init__(token)
    assert registry.is_contract, "channels: registry is no contract"
    REGISTRY = MemberRegistry(registry)
    books.__init__()
    self.next_sequence = 1


# external

@external
@nonreentrant
def open(row: requests.OpenRow) -> bytes32:
    """
    @notice Opens a channel. The sender pays party A's deposit.
    @param row the parties, the challenge window and A's deposit in microcents (0 is allowed)
    @return the channel's id
    """
    reason: uint8 = self._open_refusal(row, False)
    if reason != 0:
        requests.refuse(reason)
    sequence: uint64 = self.next_sequence
    self.next_sequence = sequence + 1
    channel: bytes32 = self._open(row, sequence)
    till.pull(row.deposit)
    return channel


@external
@nonreentrant
def open_many(rows: DynArray[requests.OpenRow, ROWS_MAX]):
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
        row: requests.OpenRow = rows[i]
        known: bool = row.account_a == known_account and row.signer_a == known_signer
        reason: uint8 = self._open_refusal(row, known)
        if reason != 0:
            log books.RowSkipped(index=i, channel=empty(bytes32), reason=reason)
            continue
        known_account = row.account_a
        known_signer = row.signer_a
        self._open(row, sequence)
        sequence += 1
        total += row.deposit
    self.next_sequence = sequence
    till.pull(total)


@external
@nonreentrant
def deposit(terms: requests.Terms, account: address, amount: uint256):
    """
    @notice Adds to a party's deposit in an open channel. The sender pays.
    @param terms the channel's terms
    @param account whose deposit grows: account_a or account_b, an active member with its signer
    @param amount microcents, at least 1
    """
    channel: bytes32 = books.id_of(terms)
    row: requests.DepositRow = requests.DepositRow(terms=terms, account=account, amount=amount)
    reason: uint8 = self._deposit(channel, row)
    if reason != 0:
        requests.refuse(reason)
    till.pull(amount)


@external
@nonreentrant
def deposit_many(rows: DynArray[requests.DepositRow, ROWS_MAX]):
    """
    @notice Adds to many deposits. The sender pays all in one transfer. A bad row is skipped and
            reported by RowSkipped.
    @param rows up to ROWS_MAX rows as for `deposit`
    """
    total: uint256 = 0
    for i: uint256 in range(len(rows), bound=ROWS_MAX):
        row: requests.DepositRow = rows[i]
        channel: bytes32 = books.id_of(row.terms)
        reason: uint8 = self._deposit(channel, row)
        if reason != 0:
            log books.RowSkipped(index=i, channel=channel, reason=reason)
            continue
        total += row.amount
    till.pull(total)


@external
@nonreentrant
def withdraw(
    terms: requests.Terms,
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
    channel: bytes32 = books.id_of(terms)
    word_a: uint256 = books.words_a[channel]
    assert word_a & lanes.STATUS_MAX == lanes.OPEN, "channels: not open"
    assert account == terms.account_a or account == terms.account_b, "channels: not a party"
    assert block.timestamp <= convert(expires, uint256), "channels: expired"
    # One party may withdraw what both deposited: 77 bits, where its field has 76.
    assert total <= lanes.MONEY_MAX, "channels: total out of range"
    digest: bytes32 = signatures.withdrawal_digest(channel, account, total, expires)
    self._check_both(terms, digest, signature_a, signature_b)

    word_b: uint256 = books.words_b[channel]
    a: lanes.Lane = lanes.unpacked(word_a)
    b: lanes.Lane = lanes.unpacked(word_b)
    withdrawn: uint256 = a.withdrawn if account == terms.account_a else b.withdrawn
    assert total > withdrawn, "channels: total not greater"
    amount: uint256 = total - withdrawn
    assert amount <= lanes.locked(a, b), "channels: too much"
    if account == terms.account_a:
        books.words_a[channel] = word_a + (amount << lanes.WITHDRAWN_SHIFT)
    else:
        books.words_b[channel] = word_b + (amount << lanes.WITHDRAWN_SHIFT)
    log Withdrawn(channel=channel, account=account, amount=amount, total=total)
    till.pay(channel, account, amount)


@external
@nonreentrant
def close(
    terms: requests.Terms,
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
    channel: bytes32 = books.id_of(terms)
    word_a: uint256 = books.words_a[channel]
    status: uint256 = word_a & lanes.STATUS_MAX
    assert status == lanes.OPEN or status == lanes.CLOSING, "channels: not open or closing"
    assert block.timestamp <= convert(expires, uint256), "channels: expired"
    assert (
        transferred_a <= lanes.TRANSFERRED_MAX and transferred_b <= lanes.TRANSFERRED_MAX
    ), "channels: total out of range"
    digest: bytes32 = signatures.close_digest(channel, transferred_a, transferred_b, expires)
    self._check_both(terms, digest, signature_a, signature_b)

    a: lanes.Lane = lanes.unpacked(word_a)
    b: lanes.Lane = lanes.unpacked(books.words_b[channel])
    a.transferred = transferred_a
    b.transferred = transferred_b
    if status == lanes.CLOSING:
        self._deadlines[channel] = 0
    books.words_a[channel] = word_a - status + lanes.CLOSED
    self._pay_out(channel, terms, a, b, True)


@external
@nonreentrant
def start_close(terms: requests.Terms, expires: uint64, signature: Bytes[65]):
    """
    @notice Starts the challenge window of an open channel. Never starts one again.
    @param terms the channel's terms
    @param expires last second in which the signature is valid; ignored without one
    @param signature a StartClose signed by an account or signer of either party; empty where the
           sender is one of them
    """
    channel: bytes32 = books.id_of(terms)
    word_a: uint256 = books.words_a[channel]
    assert word_a & lanes.STATUS_MAX == lanes.OPEN, "channels: not open"
    by: address = msg.sender
    if len(signature) != 0:
        assert block.timestamp <= convert(expires, uint256), "channels: expired"
        by = signatures.recovered(signatures.start_close_digest(channel, expires), signature)
        assert by != empty(address), "channels: bad signature"
    assert (
        by == terms.account_a
        or by == terms.signer_a
        or by == terms.account_b
        or by == terms.signer_b
    ), "channels: not a party"

    second: uint256 = block.timestamp + convert(terms.challenge_seconds, uint256)
    number: uint256 = block.number + convert(terms.challenge_blocks, uint256)
    books.words_a[channel] = word_a - lanes.OPEN + lanes.CLOSING
    self._deadlines[channel] = (second << _DEADLINE_SHIFT) | number
    log CloseStarted(
        channel=channel,
        by=by,
        deadline_seconds=convert(second, uint64),
        deadline_block=convert(number, uint64),
    )


@external
@nonreentrant
def finish_close(terms: requests.Terms):
    """
    @notice Ends a closing channel by its settled totals, once both the seconds and the blocks of
            its window have passed. Anyone may call.
    @dev Both, because time passes while validators are stalled, and blocks may come faster or
         slower than planned.
    @param terms the channel's terms
    """
    channel: bytes32 = books.id_of(terms)
    word_a: uint256 = books.words_a[channel]
    assert word_a & lanes.STATUS_MAX == lanes.CLOSING, "channels: not closing"
    deadline: uint256 = self._deadlines[channel]
    assert block.timestamp > deadline >> _DEADLINE_SHIFT, "channels: window still open (seconds)"
    assert block.number > deadline & _DEADLINE_MAX, "channels: window still open (blocks)"
    self._deadlines[channel] = 0
    books.words_a[channel] = word_a - lanes.CLOSING + lanes.CLOSED
    self._pay_out(
        channel, terms, lanes.unpacked(word_a), lanes.unpacked(books.words_b[channel]), False
    )


@external
@view
def channel_id(terms: requests.Terms) -> bytes32:
    """
    @notice The id of the channel with these terms, whether it was opened or not.
    @param terms the terms
    @return keccak256 of chain id, this contract, its deployment and the terms
    """
    return books.id_of(terms)


@external
@view
def domain_separator() -> bytes32:
    """
    @notice The EIP-712 domain separator, made with the chain id of this block.
    @return the separator
    """
    return signatures.domain_separator()


@external
@view
def channel_state(
    channel: bytes32,
) -> (uint256, uint256, uint256, uint256, uint256, uint256, uint256, uint64, uint64):
    """
    @notice What the contract holds about a channel; amounts in microcents.
    @param channel the channel's id
    @return status: 0 never, 1 open, 2 closing, 3 closed
    @return all that A was settled to have paid B
    @return all that was deposited for A
    @return all that A withdrew
    @return all that B was settled to have paid A
    @return all that was deposited for B
    @return all that B withdrew
    @return last second of the challenge window, 0 unless closing
    @return last block of the challenge window, 0 unless closing
    """
    word_a: uint256 = books.words_a[channel]
    deadline: uint256 = self._deadlines[channel]
    a: lanes.Lane = lanes.unpacked(word_a)
    b: lanes.Lane = lanes.unpacked(books.words_b[channel])
    return (
        word_a & lanes.STATUS_MAX,
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
@pure
def _check_both(
    terms: requests.Terms, digest: bytes32, signature_a: Bytes[65], signature_b: Bytes[65]
):
    assert signatures.is_signed(terms.signer_a, digest, signature_a), "channels: bad signature of A"
    assert signatures.is_signed(terms.signer_b, digest, signature_b), "channels: bad signature of B"


@internal
@view
def _open_refusal(row: requests.OpenRow, a_is_known: bool) -> uint8:
    # 0, or why this row cannot be opened. `a_is_known`: A's addresses were found active before.
    reason: uint8 = requests.open_refusal(row)
    if reason != 0:
        return reason
    if not a_is_known and not self._are_active(row.account_a, row.signer_a):
        return requests.NOT_A_MEMBER
    if not self._are_active(row.account_b, row.signer_b):
        return requests.NOT_A_MEMBER
    return 0


@internal
@view
def _are_active(account: address, signer: address) -> bool:
    if not staticcall REGISTRY.is_active(account):
        return False
    return account == signer or staticcall REGISTRY.is_active(signer)


@internal
def _open(row: requests.OpenRow, sequence: uint64) -> bytes32:
    channel: bytes32 = books.id_of(
        requests.Terms(
            account_a=row.account_a,
            signer_a=row.signer_a,
            account_b=row.account_b,
            signer_b=row.signer_b,
            challenge_seconds=row.challenge_seconds,
            challenge_blocks=row.challenge_blocks,
            sequence=sequence,
        )
    )
    books.words_a[channel] = (row.deposit << lanes.DEPOSIT_SHIFT) | lanes.OPEN
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
def _deposit(channel: bytes32, row: requests.DepositRow) -> uint8:
    # Adds the row's amount, which till.pull must fetch, and answers 0, or why it was left out.
    word_a: uint256 = books.words_a[channel]
    status: uint256 = word_a & lanes.STATUS_MAX
    if status == lanes.NEVER:
        return requests.UNKNOWN_CHANNEL
    if status != lanes.OPEN:
        return requests.NOT_OPEN
    is_a: bool = row.account == row.terms.account_a
    if not is_a and row.account != row.terms.account_b:
        return requests.NOT_A_PARTY
    word: uint256 = word_a if is_a else books.words_b[channel]
    before: uint256 = (word >> lanes.DEPOSIT_SHIFT) & lanes.MONEY_MAX
    if row.amount == 0 or row.amount > lanes.MONEY_MAX - before:
        return requests.AMOUNT_RANGE
    if not self._are_active(row.account, row.terms.signer_a if is_a else row.terms.signer_b):
        return requests.NOT_A_MEMBER
    word += row.amount << lanes.DEPOSIT_SHIFT
    if is_a:
        books.words_a[channel] = word
    else:
        books.words_b[channel] = word
    log Deposited(
        channel=channel,
        account=row.account,
        funder=msg.sender,
        amount=row.amount,
        deposit_total=before + row.amount,
    )
    return 0


@internal
def _pay_out(
    channel: bytes32, terms: requests.Terms, a: lanes.Lane, b: lanes.Lane, cooperative: bool
):
    payout_a: uint256 = 0
    payout_b: uint256 = 0
    payout_a, payout_b = lanes.payouts(a, b)
    log Closed(
        channel=channel,
        transferred_a=a.transferred,
        transferred_b=b.transferred,
        payout_a=payout_a,
        payout_b=payout_b,
        cooperative=cooperative,
    )
    till.pay(channel, terms.account_a, payout_a)
    till.pay(channel, terms.account_b, payout_b)
