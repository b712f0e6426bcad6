"""What a transaction should offer for gas: the tip that is suggested, and fees that are left out.

Source: geth's gas price oracle and its `setFeeDefaults`, with geth's figures. Where gas is free
everything here is 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .records import Block, CallRequest

if TYPE_CHECKING:
    from .chain import DevChain

TIP_DEFAULT_WEI: Final = 1_000_000
"""What an empty block says of tips."""
TIP_MAX_WEI: Final = 500 * 10**9
BLOCKS_LOOKED_AT: Final = 20
TIPS_OF_A_BLOCK: Final = 3
TIPS_PERCENTILE: Final = 60
TIP_COUNTED_MIN_WEI: Final = 2


def suggested_tip(chain: DevChain) -> int:
    """The tip that most of the newest blocks' cheapest transactions did not pay more than."""
    if not chain.moving_base_fee:
        return 0
    newest = chain.head.number
    tips: list[int] = []
    for number in range(newest, max(newest - BLOCKS_LOOKED_AT, 0), -1):
        block = chain.block(number)
        tips += (_lowest_tips(block) if block else []) or [TIP_DEFAULT_WEI]
    tips.sort()
    tip = tips[(len(tips) - 1) * TIPS_PERCENTILE // 100] if tips else TIP_DEFAULT_WEI
    return min(tip, TIP_MAX_WEI)


def _lowest_tips(block: Block) -> list[int]:
    tips = (
        receipt.gas_price_wei - block.header.base_fee
        for receipt in block.receipts
        if receipt.transaction.sender != block.header.miner
    )
    return sorted(tip for tip in tips if tip >= TIP_COUNTED_MIN_WEI)[:TIPS_OF_A_BLOCK]


def gas_price(chain: DevChain) -> int:
    """A price with which a transaction goes into the next block."""
    return chain.next_base_fee + suggested_tip(chain)


def with_fees(chain: DevChain, request: CallRequest) -> CallRequest:
    """A request with the fees that it leaves out: enough for a base fee that doubles."""
    if request.gas_price_wei is not None:
        return request
    tip, most = request.max_priority_fee_wei, request.max_fee_wei
    if tip is None:
        tip = suggested_tip(chain)
        tip = tip if most is None else min(tip, most)
    if most is None:
        most = tip + 2 * chain.next_base_fee
    return replace(request, max_fee_wei=most, max_priority_fee_wei=tip)
