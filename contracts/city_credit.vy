# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title City Credit
@license Apache-2.0
@notice The city's money on this chain: an ERC-20 token whose unit is the microcent (10^-8 of a
        currency unit, hence 8 decimals). Each mint names what funds it.
@dev No owner, no proxy, no pause, no freeze: who may mint is asked of the member registry, and
     nobody can stop a transfer. Holding and moving need no membership: money is never trapped.
"""

# interfaces

from ethereum.ercs import IERC20

implements: IERC20

interface MemberRegistry:
    def has_role(account: address, role: uint8) -> bool: view


# constants

name: public(constant(String[11])) = "City Credit"
symbol: public(constant(String[4])) = "CITY"
decimals: public(constant(uint8)) = 8

# The registry's number for the treasury role.
_TREASURY: constant(uint8) = 2


# immutables

REGISTRY: public(immutable(MemberRegistry))


# state

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
# Funding references that tokens were minted under.
reference_used: public(HashMap[bytes32, bool])


# events

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

event Minted:
    to: indexed(address)
    amount: uint256
    funding_reference: indexed(bytes32)

event Burned:
    account: indexed(address)
    amount: uint256
    reference: indexed(bytes32)


@deploy
def __init__(registry: address):
    """
    @notice Creates a token without supply.
    @param registry the member registry that says who the treasury is
    """
    assert registry.is_contract, "credit: registry is no contract"
    REGISTRY = MemberRegistry(registry)


# external

@external
def transfer(to: address, amount: uint256) -> bool:
    """
    @notice Moves the sender's own tokens.
    @param to who receives them
    @param amount microcents
    @return always true; a refusal reverts
    """
    self._transfer(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    """
    @notice Moves tokens that their owner allowed the sender to move.
    @dev An allowance of 2^256 - 1 is never used up.
    @param owner whose tokens
    @param to who receives them
    @param amount microcents
    @return always true; a refusal reverts
    """
    allowed: uint256 = self.allowance[owner][msg.sender]
    if allowed != max_value(uint256):
        assert allowed >= amount, "credit: allowance too small"
        self.allowance[owner][msg.sender] = unsafe_sub(allowed, amount)
    self._transfer(owner, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Lets an address move the sender's tokens, replacing what it was allowed before.
    @param spender who may move them
    @param amount microcents in total; 2^256 - 1 for any amount for ever
    @return always true
    """
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def mint(to: address, amount: uint256, funding_reference: bytes32):
    """
    @notice Creates tokens. Only an active treasury, and only once under each funding reference: a
            treasury that does not know what became of a mint sends it again and risks nothing.
    @param to who receives them
    @param amount microcents, at least 1
    @param funding_reference what funds them, e.g. the hash of a budget decision and an instalment;
           not zero, never used before
    """
    assert staticcall REGISTRY.has_role(msg.sender, _TREASURY), "credit: not the treasury"
    assert to != empty(address), "credit: empty address"
    assert amount != 0, "credit: amount is zero"
    assert funding_reference != empty(bytes32), "credit: no funding reference"
    assert not self.reference_used[funding_reference], "credit: reference used"
    self.reference_used[funding_reference] = True
    self.totalSupply += amount
    self.balanceOf[to] += amount
    log Transfer(sender=empty(address), receiver=to, value=amount)
    log Minted(to=to, amount=amount, funding_reference=funding_reference)


@external
def burn(amount: uint256, reference: bytes32):
    """
    @notice Destroys tokens of the sender, e.g. when they are paid out in another currency.
    @param amount microcents, at least 1
    @param reference what they were destroyed for
    """
    assert amount != 0, "credit: amount is zero"
    balance: uint256 = self.balanceOf[msg.sender]
    assert balance >= amount, "credit: balance too small"
    self.balanceOf[msg.sender] = unsafe_sub(balance, amount)
    self.totalSupply -= amount
    log Transfer(sender=msg.sender, receiver=empty(address), value=amount)
    log Burned(account=msg.sender, amount=amount, reference=reference)


# internal

@internal
def _transfer(owner: address, to: address, amount: uint256):
    assert to != empty(address), "credit: empty address"
    balance: uint256 = self.balanceOf[owner]
    assert balance >= amount, "credit: balance too small"
    self.balanceOf[owner] = unsafe_sub(balance, amount)
    # No overflow: all balances together are the total supply, which fits.
    self.balanceOf[to] = unsafe_add(self.balanceOf[to], amount)
    log Transfer(sender=owner, receiver=to, value=amount)
