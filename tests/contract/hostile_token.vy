# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that misbehaves towards chosen receivers
@notice For tests only. Its books are true; what it answers and does may not be.
"""

HONEST: constant(uint256) = 0
REVERTS: constant(uint256) = 1
ANSWERS_FALSE: constant(uint256) = 2
LIES_TRUE: constant(uint256) = 3
MOVES_AND_ANSWERS_FALSE: constant(uint256) = 4
BURNS_ALL_GAS: constant(uint256) = 5
RETURNS_A_BOMB: constant(uint256) = 6
REENTERS: constant(uint256) = 7
ANSWERS_NOTHING: constant(uint256) = 8
TAKES_A_FEE: constant(uint256) = 9

balanceOf: public(HashMap[address, uint256])
behaviour: HashMap[address, uint256]
payload: Bytes[1024]
reentered: public(bool)


@external
def misbehave(receiver: address, behaviour: uint256, payload: Bytes[1024]):
    self.behaviour[receiver] = behaviour
    self.payload = payload


@external
def mint(to: address, amount: uint256, reference: bytes32):
    self.balanceOf[to] += amount


@external
def approve(spender: address, amount: uint256) -> bool:
    return True


@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[9600]:
    return self._move(msg.sender, to, amount)


@external
@raw_return
def transferFrom(owner: address, to: address, amount: uint256) -> Bytes[9600]:
    return self._move(owner, to, amount)


@internal
def _move(owner: address, to: address, amount: uint256) -> Bytes[9600]:
    behaviour: uint256 = self.behaviour[to]
    moved: uint256 = amount
    if behaviour == REVERTS:
        raise "refused"
    if behaviour == BURNS_ALL_GAS:
        assert amount == max_value(uint256), UNREACHABLE
    if behaviour == ANSWERS_FALSE or behaviour == LIES_TRUE or behaviour == RETURNS_A_BOMB:
        moved = 0
    if behaviour == TAKES_A_FEE:
        moved = amount - 1
    if behaviour == REENTERS:
        self.reentered = raw_call(msg.sender, self.payload, revert_on_failure=False)
    self.balanceOf[owner] -= moved
    self.balanceOf[to] += moved
    if behaviour == ANSWERS_FALSE or behaviour == MOVES_AND_ANSWERS_FALSE:
        return abi_encode(False)
    if behaviour == ANSWERS_NOTHING:
        return b""
    if behaviour == RETURNS_A_BOMB:
        bomb: uint256[300] = empty(uint256[300])
        return abi_encode(bomb)
    return abi_encode(True)
