# pragma version 0.4.3
"""
@title Till
@license Apache-2.0
@notice Takes tokens in and pays them out, whatever the token or an account does.
@dev What a token answers counts for nothing, what its books say counts: tokens exist that answer
     nothing, false after a success, or true after a failure. What could not be paid is kept for
     its account, so that one account that cannot be paid never blocks the other.
"""

# interfaces

from ethereum.ercs import IERC20


# constants

# Gas a payout hands to the token: several times what a transfer needs, yet bounded, so that a
# token or account that burns all it is given cannot make a channel impossible to finish. A sender
# cannot make an honest transfer fail by little gas either: where this much is not left, the 64th
# that a call keeps back (2,400) does not pay for crediting, and everything reverts.
_PAYOUT_GAS: constant(uint256) = 150_000


# immutables

TOKEN: public(immutable(IERC20))


# state

# Payouts that the token refused, waiting for claim.
claimable: public(HashMap[address, uint256])


# events

event Credited:
    channel: indexed(bytes32)
    account: indexed(address)
    amount: uint256

event Claimed:
    account: indexed(address)
    amount: uint256


@deploy
def __init__(token: address):
    """
    @notice Creates the till for one token, for ever.
    @param token the ERC-20 token
    """
    assert token.is_contract, "channels: token is no contract"
    TOKEN = IERC20(token)


# external

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


# internal

@internal
def pull(amount: uint256):
    # Fetches from the sender what was just credited; a token that delivers less undoes the call.
    if amount == 0:
        return
    before: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "channels: transfer failed"
    assert staticcall TOKEN.balanceOf(self) - before >= amount, "channels: token took a fee"


@internal
def pay(channel: bytes32, account: address, amount: uint256):
    # Pays now what can be paid now, and keeps the rest for its account.
    if amount == 0:
        return
    unpaid: uint256 = amount - self._send(account, amount)
    if unpaid != 0:
        self.claimable[account] += unpaid
        log Credited(channel=channel, account=account, amount=unpaid)


@internal
def _send(account: address, amount: uint256) -> uint256:
    # Sends tokens and answers how many went. Never reverts because the token or the account does;
    # nothing they return is copied.
    before: uint256 = staticcall TOKEN.balanceOf(self)
    success: bool = raw_call(
        TOKEN.address,
        abi_encode(account, amount, method_id=method_id("transfer(address,uint256)")),
        gas=_PAYOUT_GAS,
        revert_on_failure=False,
    )
    left: uint256 = staticcall TOKEN.balanceOf(self)
    return min(before - min(left, before), amount)
