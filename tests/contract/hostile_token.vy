# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that misbehaves towards chosen receivers
@notice For tests only. Its books are true; what it answers and does may not be.
"""

interface Account:
    def called_back(): nonpayable


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
MOVES_PART: constant(uint256) = 10
TAKES_MORE: constant(uint256) = 11
GIVES_BACK: constant(uint256) = 12
CALLS_BACK: constant(uint256) = 13

balanceOf: public(HashMap[address, uint256])
behaviour: HashMap[address, uint256]
target: address
payload: Bytes[2048]
tries: public(uint256)
reentered: public(bool)


@external
def misbehave(receiver: address, behaviour: uint256):
    self.behaviour[receiver] = behaviour


@external
def reenter(target: address, payload: Bytes[2048]):
    self.target = target
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
    return self._move(msg.sender, to, amount, to)


@external
@raw_return
def transferFrom(owner: address, to: address, amount: uint256) -> Bytes[9600]:
    return self._move(owner, to, amount, owner)


@internal
def _move(owner: address, to: address, amount: uint256, hooked: address) -> Bytes[9600]:
    behaviour: uint256 = self.behaviour[to]
    taken: uint256 = amount
    given: uint256 = amount
    if behaviour == REVERTS:
        raise "refused"
    if behaviour == BURNS_ALL_GAS:
        assert amount == max_value(uint256), UNREACHABLE
    if behaviour == ANSWERS_FALSE or behaviour == LIES_TRUE or behaviour == RETURNS_A_BOMB:
        taken = 0
        given = 0
    if behaviour == TAKES_A_FEE:
        given = amount - 1
    if behaviour == MOVES_PART:
        taken = amount - 1
        given = amount - 1
    if behaviour == TAKES_MORE:
        taken = amount + 1
    if behaviour == REENTERS:
        self.tries += 1
        self.reentered = raw_call(self.target, self.payload, revert_on_failure=False)
    if behaviour == CALLS_BACK:
        extcall Account(hooked).called_back()
    self.balanceOf[owner] -= taken
    self.balanceOf[to] += given
    if behaviour == GIVES_BACK:
        self.balanceOf[to] -= amount
        self.balanceOf[owner] += 2 * amount
    if behaviour == ANSWERS_FALSE or behaviour == MOVES_AND_ANSWERS_FALSE:
        return abi_encode(False)
    if behaviour == ANSWERS_NOTHING:
        return b""
    if behaviour == RETURNS_A_BOMB:
        bomb: uint256[300] = empty(uint256[300])
        return abi_encode(bomb)
    return abi_encode(True)
