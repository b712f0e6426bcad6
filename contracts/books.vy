# pragma version 0.4.3
"""
@title Books
@license Apache-2.0
@notice The channels of one deployment: their ids and the words of their lanes.
@dev What the words hold is said in lanes.vy.
"""

import requests


# immutables

# Tells this deployment from any other at the same address on a chain with the same id, such as a
# development chain that was reset: a channel id never repeats.
DEPLOYMENT: public(immutable(bytes32))


# state

words_a: HashMap[bytes32, uint256]
words_b: HashMap[bytes32, uint256]


# events

event RowSkipped:
    index: indexed(uint256)
    channel: indexed(bytes32)
    reason: uint8


@deploy
def __init__():
    """
    @notice Names the deployment after its parent block and its time.
    """
    DEPLOYMENT = keccak256(abi_encode(blockhash(block.number - 1), block.timestamp))


# internal

@internal
@view
def id_of(terms: requests.Terms) -> bytes32:
    return keccak256(abi_encode(chain.id, self, DEPLOYMENT, terms))
