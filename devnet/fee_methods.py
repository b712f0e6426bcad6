"""The methods that say what gas costs."""

from __future__ import annotations

from typing import Final

from . import params as read
from .chain import DevChain
from .fees import gas_price, suggested_tip
from .method import Method, state_at
from .params import Params
from .records import Block

FEE_HISTORY_BLOCKS_MAX: Final = 1_024


def _gas_price(chain: DevChain, _params: Params) -> object:
    return hex(gas_price(chain))


def _tip(chain: DevChain, _params: Params) -> object:
    return hex(suggested_tip(chain))


def _blob_fee(_chain: DevChain, _params: Params) -> object:
    return "0x1"


def _fee_history(chain: DevChain, params: Params) -> object:
    wanted = params.required(0, read.amount)
    newest = state_at(chain, params, 1)
    percentiles = params.optional(2, read.percentiles, read.NO_PERCENTILES)
    count = min(wanted, FEE_HISTORY_BLOCKS_MAX, newest + 1)
    blocks = [chain.block(number) for number in range(newest - count + 1, newest + 1)]
    known = [block for block in blocks if block is not None]
    fees = [block.header.base_fee for block in known]
    answer: dict[str, object] = {
        "oldestBlock": hex(newest - count + 1),
        "baseFeePerGas": [hex(fee) for fee in (*fees, chain.base_fee_after(newest))],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in known],
        "baseFeePerBlobGas": ["0x1"] * (count + 1),
        "blobGasUsedRatio": [0] * count,
    }
    if percentiles:
        answer["reward"] = [
            [hex(_tip_at(block, percentile)) for percentile in percentiles] for block in known
        ]
    return answer


def _tip_at(block: Block, percentile: float) -> int:
    """The tip below which this part of the block's gas was bought; 0 for an empty block."""
    tips = sorted(
        (receipt.gas_price_wei - block.header.base_fee, receipt.gas_used)
        for receipt in block.receipts
    )
    passed = 0
    for tip, gas_used in tips:
        passed += gas_used
        if passed * 100 >= percentile * block.header.gas_used:
            return tip
    return 0


METHODS: Final[dict[str, Method]] = {
    "eth_blobBaseFee": Method(answer=_blob_fee, most=0),
    "eth_feeHistory": Method(answer=_fee_history, most=3),
    "eth_gasPrice": Method(answer=_gas_price, most=0),
    "eth_maxPriorityFeePerGas": Method(answer=_tip, most=0),
}
