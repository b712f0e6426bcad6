"""What a row of the method table is, and how methods name the block that a caller means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..channels.ids import to_hex
from . import params as read
from .chain import DevChain
from .errors import UnknownBlock
from .evm import DevnetVM
from .overrides import Overrides
from .params import LATEST, BlockAt, Params
from .records import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method's function and the greatest number of arguments it takes."""

    answer: Callable[[DevChain, Params], object]
    most: int


def number_of(chain: DevChain, at: BlockAt) -> int:
    """The number of a block that exists; raises `UnknownBlock`."""
    head = chain.head.number
    if at.hash is not None:
        block = chain.block_by_hash(at.hash)
        if block is None:
            raise UnknownBlock(to_hex(at.hash), head)
        return block.header.number
    number = head if at.number is None else at.number
    if number > head:
        raise UnknownBlock(f"block {number}", head)
    return number


def state_at(chain: DevChain, params: Params, index: int) -> int:
    """The block whose state is asked for; what waits is not executed, so pending is latest."""
    return number_of(chain, params.optional(index, read.block_at, LATEST))


def block_of(chain: DevChain, at: BlockAt) -> Block | None:
    """A mined block, or None where it does not exist."""
    if at.hash is not None:
        return chain.block_by_hash(at.hash)
    return chain.block(chain.head.number if at.number is None else at.number)


def machines(chain: DevChain, at: BlockAt, pretended: Overrides) -> Callable[[], DevnetVM]:
    """Makes machines in a block, each with the same overrides."""
    if at.pending:
        return lambda: pretended.apply(chain.next_machine())
    number = number_of(chain, at)
    return lambda: pretended.apply(chain.machine(number))
