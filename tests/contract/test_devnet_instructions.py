"""The instructions that are run quickly, one by one against py-evm's own."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from eth.exceptions import VMError
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.message import Message
from eth_typing import Address as EvmAddress
from hypothesis import example, given
from hypothesis import strategies as st

from farthing.devnet.instructions import QUICK, QuickComputation

from .devnet_probe import act, chains_closed, deploy, made_chain

ADDRESS = EvmAddress(b"\xb0" * 20)
NO_STATE = SimpleNamespace(coinbase=ADDRESS, mark_address_warm=lambda _: None)
"""What a computation asks for when it is made; these instructions ask for nothing."""
WORDS = st.one_of(
    st.integers(0, 2**256 - 1),
    st.integers(0, 300),
    st.binary(max_size=32),
    st.sampled_from([0, 1, 31, 32, 33, 64, 255, 256, 2**255, 2**256 - 1]),
)


@dataclass(frozen=True, kw_only=True)
class Before:
    """What an instruction finds: the stack's words from the bottom, and the rest of the machine."""

    stack: list[int | bytes]
    memory: bytes = b""
    gas: int = 1_000
    code: bytes = b"\x5b" * 40
    at: int = 1


def after(kind: Any, opcode: int, before: Before) -> dict[str, Any]:
    """What an instruction leaves."""
    message = Message(
        gas=before.gas, to=ADDRESS, sender=ADDRESS, value=0, data=b"", code=before.code
    )
    computation: Any = kind(NO_STATE, message, None)
    computation._stack.values.extend(before.stack)
    computation._memory._bytes.extend(before.memory)
    computation.code.program_counter = before.at
    try:
        computation.opcodes[opcode](computation=computation)
    except VMError as error:
        return {"error": (type(error), str(error))}
    words = computation._stack.values
    return {
        "stack": [int.from_bytes(each) if isinstance(each, bytes) else each for each in words],
        "memory": bytes(computation._memory._bytes),
        "gas": computation.get_gas_remaining(),
        "at": computation.code.program_counter,
    }


@given(
    opcode=st.sampled_from(sorted(QUICK)),
    before=st.builds(
        Before,
        stack=st.lists(WORDS, max_size=20),
        memory=st.integers(0, 3).flatmap(
            lambda words: st.binary(min_size=32 * words).map(lambda filler: filler[: 32 * words])
        ),
        gas=st.integers(0, 30),
        code=st.binary(min_size=1, max_size=40),
        at=st.integers(1, 40),
    ),
)
@example(opcode=0x57, before=Before(stack=[1, 5]))
@example(opcode=0x57, before=Before(stack=[1, 50]))
@example(opcode=0x52, before=Before(stack=[b"\x07", 0], memory=bytes(32)))
@example(opcode=0x52, before=Before(stack=[7, 1], memory=bytes(32)))
@example(opcode=0x1B, before=Before(stack=[3, 256]))
@example(opcode=0x1C, before=Before(stack=[2**255, 255]))
def test_an_instruction_leaves_what_py_evms_own_leaves(opcode: int, before: Before) -> None:
    assert after(QuickComputation, opcode, before) == after(PragueComputation, opcode, before)


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 16, 17, 1_023, 1_024])
def test_so_it_does_with_each_depth_of_the_stack_and_with_each_lack_of_gas(depth: int) -> None:
    stack: list[int | bytes] = list(range(depth))
    for opcode in QUICK:
        for gas in (0, 1, 2, 3, 4, 9, 10):
            before = Before(stack=stack, memory=bytes(64), gas=gas)
            quick, own = (
                after(kind, opcode, before) for kind in (QuickComputation, PragueComputation)
            )
            assert quick == own, (hex(opcode), gas)


@pytest.mark.usefixtures(chains_closed.__name__)
def test_the_chain_runs_them() -> None:
    chain = made_chain()
    assert chain.machine(None).state.computation_class is QuickComputation
    assert act(chain, deploy(chain), "note(uint256,uint256)", 1, 2).succeeded
