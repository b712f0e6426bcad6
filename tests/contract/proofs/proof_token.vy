# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A token and a registry for proofs
@license Apache-2.0
@notice An honest token whose books anyone may write, and a registry of which all are members.
"""

balanceOf: public(HashMap[address, uint256])


@external
def hold(account: address, amount: uint256):
    """
    @notice Sets what an account has.
    """
    self.balanceOf[account] = amount


@external
def transfer(receiver: address, amount: uint256) -> bool:
    """
    @notice Moves tokens of the sender.
    """
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[receiver] += amount
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    """
    @notice Brings tokens of an owner who always has enough and has approved it.
    """
    self.balanceOf[receiver] += amount
    return True


@external
@view
def is_active(account: address) -> bool:
    """
    @notice Says that everybody is a member.
    """
    return True
