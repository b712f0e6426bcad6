"""`farthing bench settle`: gas, calldata and time for each channel as their number grows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...channels.hashing import keccak256
from ...channels.terms import Side
from ...channels.voucher import LaneTotal
from ...node.administration import Registration, Role
from ...node.chain import OpenedChannel
from ..evm import GAS_LIMIT
from .checked import expect
from .city import FUNDING, MINTED_UCENT, City, open_city
from .pair import open_stand

SIZES = (10, 100, 1_000)
ROWS = 100
"""In one transaction: the default of `settle_rows_max`."""
FIRST, SECOND = 1, 2


def bench_settle(
    *, sizes: Sequence[int] = SIZES, rows: int = ROWS, within: Path | None = None
) -> dict[str, Any]:
    """Settle the reward lanes of so many channels twice; raises `FigureVoid`, `ChainError`.

    All channels are of one wallet: what a row costs depends on its channel alone.
    """
    with open_stand(within, quick=True) as stand, open_city() as city:
        _people(city)
        opened: list[OpenedChannel] = []
        open_gas = 0
        measured = []
        for step, size in enumerate(sizes):
            while len(opened) < size:
                count = min(rows, size - len(opened))
                gas, more = city.open_channels((city.alice,) * count)
                expect("opened channels", len(more), count)
                open_gas += gas
                opened += more
            _settle(city, opened, rows, FIRST + 2 * step)
            measured.append(_settle(city, opened, rows, SECOND + 2 * step))
        return {
            "benchmark": "settle",
            "gas_per_channel": measured[-1]["gas_per_channel"],
            "calldata_bytes_per_channel": measured[-1]["calldata_bytes_per_channel"],
            "rows_in_a_transaction": rows,
            "open_gas_per_channel": round(open_gas / len(opened)),
            "block_gas_limit": GAS_LIMIT,
            "rows": measured,
            "conditions": "reward lanes, the hub's signature, sent by a stranger; py-evm, Prague",
            **stand.record(),
        }


def _people(city: City) -> None:
    registrar = city.administrator(city.registrar)
    registrar.set_members(
        [
            Registration(account=city.treasury.address, role=Role.TREASURY),
            *(
                Registration(account=key.address, role=role)
                for role, party in ((Role.HUB, city.hub), (Role.RESIDENT, city.alice))
                for key in (party.account, party.signer)
            ),
        ]
    )
    treasury = city.administrator(city.treasury)
    treasury.mint(city.hub.account.address, MINTED_UCENT, FUNDING[0])
    city.port(city.hub.account).approve(MINTED_UCENT)


def _settle(city: City, opened: Sequence[OpenedChannel], rows: int, step: int) -> dict[str, Any]:
    """Settle all of them at a total, in as many transactions as it takes; each row is looked up."""
    total = LaneTotal(
        nonce=1_000 * step, transferred_ucent=125_000 * step, history=keccak256(b"%d" % step)
    )
    signed = [city.row(one.terms, Side.A, total) for one in opened]
    anybody = city.port(city.anybody)
    gas = calldata = transactions = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    for start in range(0, len(signed), rows):
        part = signed[start : start + rows]
        mined = anybody.settle(part)
        expect("settled and skipped rows", (mined.settled, mined.skipped), (len(part), 0))
        gas += mined.gas_used
        calldata += city.calldata_bytes(mined.transaction)
        transactions += 1
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    head = anybody.head()
    for one in opened:
        settled = anybody.view(one.channel, head).settled_ucent[Side.A]
        expect("a lane's total on the chain", settled, total.transferred_ucent)
    count = len(opened)
    return {
        "channels": count,
        "transactions": transactions,
        "gas": gas,
        "gas_per_channel": round(gas / count),
        "calldata_bytes_per_channel": round(calldata / count, 1),
        "devnet_ms_per_channel": round(1000 * seconds / count, 3),
        "devnet_cpu_ms_per_channel": round(1000 * cpu_seconds / count, 3),
        "gas_of_block_limit": round(gas / GAS_LIMIT, 4),
    }
