# pragma version 0.4.3
"""
@title Settlement
@license Apache-2.0
@notice Raises lanes to their payers' signed totals, many in one call, while their channels stay
        open or are closing.
"""

import books
import lanes
import requests
import signatures

uses: books


# constants

# Most rows of one settle or settle_many. Vyper reserves memory for the most rows at each call and
# memory is dear beyond some kilobytes: with 256 rows a settle of one row would cost 45,000 gas more.
SETTLE_ROWS_MAX: public(constant(uint256)) = 128


# events

event Settled:
    channel: indexed(bytes32)
    payer: indexed(address)
    nonce: uint256
    transferred_before: uint256
    transferred: uint256
    history: bytes32


# external

@external
@nonreentrant
def settle(rows: DynArray[requests.SettleRow, SETTLE_ROWS_MAX]):
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
    domain: bytes32 = signatures.domain_separator()
    for i: uint256 in range(len(rows), bound=SETTLE_ROWS_MAX):
        row: requests.SettleRow = rows[i]
        sig: signatures.Signature = signatures.split(row.signature)
        reason: uint8 = requests.packing_refusal(row, sig)
        if reason != 0:
            log books.RowSkipped(index=i, channel=books.id_of(row.terms), reason=reason)
            continue
        self._settle(i, requests.packed(row, sig), domain)


@external
@nonreentrant
def settle_many(rows: DynArray[requests.PackedRow, SETTLE_ROWS_MAX]):
    """
    @notice Does what `settle` does, at less gas, for whoever settles many lanes.
    @param rows up to SETTLE_ROWS_MAX vouchers: the seven words of the terms; the statement, which
           is v * 2^168 + lane * 2^160 + nonce * 2^96 + total; history; conditions; r and s. v, r
           and s are 0 where the sender is the lane's payer
    """
    domain: bytes32 = signatures.domain_separator()
    for i: uint256 in range(len(rows), bound=SETTLE_ROWS_MAX):
        self._settle(i, rows[i], domain)


# internal

@internal
def _settle(index: uint256, row: requests.PackedRow, domain: bytes32):
    # Written for gas: everything that a good row needs stands in this one function.
    channel: bytes32 = keccak256(abi_encode(chain.id, self, books.DEPLOYMENT, row.terms))
    word_a: uint256 = books.words_a[channel]
    lane: uint256 = (row.statement >> requests.LANE_SHIFT) & requests.LANE_MAX
    transferred: uint256 = row.statement & lanes.TRANSFERRED_MAX
    word: uint256 = word_a
    payer: uint256 = row.terms[0]
    signer: uint256 = row.terms[1]
    if lane != 0:
        word = books.words_b[channel]
        payer = row.terms[2]
        signer = row.terms[3]
    before: uint256 = word >> lanes.TRANSFERRED_SHIFT
    status: uint256 = word_a & lanes.STATUS_MAX
    # In one comparison: neither open (1) nor closing (2).
    if unsafe_sub(status, lanes.OPEN) > 1 or lane > 1 or transferred <= before:
        reason: uint8 = requests.NOT_GREATER
        if status == lanes.NEVER:
            reason = requests.UNKNOWN_CHANNEL
        elif status == lanes.CLOSED:
            reason = requests.NOT_OPEN
        elif lane > 1:
            reason = requests.LANE_RANGE
        log books.RowSkipped(index=index, channel=channel, reason=reason)
        return

    nonce: uint256 = (row.statement >> requests.NONCE_SHIFT) & requests.NONCE_MAX
    v: uint256 = row.statement >> requests.V_SHIFT
    # Own words need no signature; but a signature that came along must be good.
    if (v | row.r | row.s) != 0 or convert(msg.sender, uint256) != payer:
        digest: bytes32 = keccak256(
            concat(
                x"1901",
                domain,
                keccak256(
                    abi_encode(
                        signatures.VOUCHER_TYPE,
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
        if row.s <= signatures.S_MAX:
            recovered = convert(ecrecover(digest, v, row.r, row.s), uint256)
        # ecrecover answers the empty address for garbage and for any v but 27 and 28: that is
        # nobody's signature.
        if recovered == 0 or recovered != signer:
            log books.RowSkipped(index=index, channel=channel, reason=requests.BAD_SIGNATURE)
            return

    word = (word & lanes.BELOW_TRANSFERRED) | (transferred << lanes.TRANSFERRED_SHIFT)
    if lane == 0:
        books.words_a[channel] = word
    else:
        books.words_b[channel] = word
    log Settled(
        channel=channel,
        payer=convert(convert(payer, uint160), address),
        nonce=nonce,
        transferred_before=before,
        transferred=transferred,
        history=row.history,
    )
