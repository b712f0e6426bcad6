# pragma version 0.4.3
# pragma evm-version cancun
"""
@title An account that is a contract and calls back when tokens touch it
@notice For tests only.
"""

target: address
payload: Bytes[2048]
tries: public(uint256)
reentered: public(bool)


@external
def reenter(target: address, payload: Bytes[2048]):
    self.target = target
    self.payload = payload


@external
def act(target: address, data: Bytes[2048]):
    raw_call(target, data)


@external
def called_back():
    self.tries += 1
    self.reentered = raw_call(self.target, self.payload, revert_on_failure=False)
