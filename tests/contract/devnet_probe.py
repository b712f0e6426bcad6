"""A small contract that does what a devnet's tests need: log, revert, fail, burn, look around."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import vyper
from eth_abi.abi import decode, encode
from eth_utils.abi import function_signature_to_4byte_selector

from farthing.channels.ids import Address
from farthing.devnet.chain import DevChain
from farthing.devnet.opening import ChainSettings
from farthing.devnet.records import CallRequest, Receipt

SOURCE = """
# pragma version 0.4.3
event Noted:
    who: indexed(address)
    topic: indexed(uint256)
    amount: uint256

amount: public(uint256)
words: public(HashMap[uint256, uint256])

@external
def note(topic: uint256, amount: uint256):
    self.amount = amount
    log Noted(who=msg.sender, topic=topic, amount=amount)

@external
def note_many(count: uint256):
    for i: uint256 in range(count, bound=1000):
        log Noted(who=msg.sender, topic=i, amount=i)

@external
def fill(first: uint256, count: uint256, word: uint256):
    for i: uint256 in range(count, bound=2000):
        self.words[first + i] = word

@external
def refuse():
    raise "probe: refused"

@external
def refuse_silently():
    assert msg.sender == self

@external
def refuse_with_numbers(have: uint256, want: uint256):
    raw_revert(abi_encode(have, want, method_id=method_id("TooFew(uint256,uint256)")))

@external
def break_down():
    raise UNREACHABLE

@external
def outer(gas_kept: uint256):
    # The inner call gets at most 63 of 64 parts of what is left.
    extcall Probe(self).note_many(40)

@external
def dive() -> uint256:
    # As deep as the gas goes: each level keeps a 64th back. Returns the depth.
    if msg.gas < 5_000:
        return 0
    answer: Bytes[32] = raw_call(self, method_id("dive()"), max_outsize=32)
    return 1 + convert(answer, uint256)

@external
@view
def surroundings() -> (uint256, uint256, bytes32, uint256, uint256, uint256):
    return (
        block.number, block.timestamp, blockhash(block.number - 1),
        block.basefee, block.gaslimit, chain.id,
    )

@external
@payable
def pay() -> uint256:
    return msg.value

interface Probe:
    def note_many(count: uint256): nonpayable
"""


@functools.cache
def compiled() -> tuple[bytes, list[dict[str, Any]]]:
    """The probe's creation code and ABI; compiled once in a test run."""
    output = vyper.compile_code(SOURCE, output_formats=["bytecode", "abi"])
    return bytes.fromhex(output["bytecode"].removeprefix("0x")), output["abi"]


def calldata(signature: str, *values: object) -> bytes:
    """The calldata of a call, from `name(types)` and values."""
    types = signature[signature.index("(") + 1 : -1]
    return function_signature_to_4byte_selector(signature) + encode(
        types.split(",") if types else [], values
    )


def read(chain: DevChain, probe: Address, signature: str, outputs: str, *values: object) -> Any:
    """Call a view and decode what it returns."""
    request = CallRequest(
        sender=chain.accounts[0].address, to=probe, data=calldata(signature, *values)
    )
    result = chain.call(request)
    assert result.succeeded, result
    return decode(outputs.split(","), result.output)


def act(chain: DevChain, probe: Address, signature: str, *values: object) -> Receipt:
    """Send a call from the first account on an automining chain; returns its receipt."""
    request = CallRequest(
        sender=chain.accounts[0].address, to=probe, data=calldata(signature, *values)
    )
    receipt = chain.receipt(chain.send(request))
    assert receipt is not None
    return receipt


def deploy(chain: DevChain) -> Address:
    """Deploy the probe from the first account; on an interval chain this mines one block."""
    code, _ = compiled()
    sent = chain.send(CallRequest(sender=chain.accounts[0].address, data=code))
    if not chain.settings.automine:
        chain.mine()
    receipt = chain.receipt(sent)
    assert receipt is not None
    assert receipt.succeeded
    assert receipt.contract_address is not None
    return receipt.contract_address


class Wall:
    """A wall clock that a test moves."""

    def __init__(self, seconds: float = 1_800_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


_open: list[DevChain] = []


@pytest.fixture
def chains_closed() -> Iterator[None]:
    """Close every chain that the test made."""
    yield
    while _open:
        _open.pop().close()


def made_chain(wall: Wall | None = None, **settings: Any) -> DevChain:
    """A chain in memory, automining, with three accounts and a clock in the test's hand."""
    chosen: dict[str, Any] = {
        "accounts": 3,
        "automine": True,
        "wall_seconds": wall or Wall(),
        "entropy": b"fixed",
        **settings,
    }
    chain = DevChain(ChainSettings(**chosen))
    _open.append(chain)
    return chain
