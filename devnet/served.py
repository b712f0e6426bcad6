"""What is known of a chain that is served by this process: where, since when, and how to end it."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from .. import __version__
from ..channels.ids import address_to_hex
from .chain import DevChain
from .errors import CallRefused
from .params import Params


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One chain's server. `stop` may be called from any thread; the server ends soon after."""

    rpc_url: str
    started_seconds: float
    stop: Callable[[], None]


class NotServed(CallRefused):
    """A chain without a server was asked to stop."""

    code = "devnet-not-served"
    remedy = "close it where it was opened"


_of_chains: weakref.WeakKeyDictionary[DevChain, Served] = weakref.WeakKeyDictionary()


def is_served(chain: DevChain, served: Served) -> None:
    """Say that a chain is served; once for each chain."""
    _of_chains[chain] = served


def status(chain: DevChain, _params: Params) -> object:
    """`farthing_status`: what this devnet is and how far it has come."""
    served = _of_chains.get(chain)
    folder = chain.settings.folder
    head = chain.head
    registry = chain.following.registry if chain.settings.permissioned else None
    return {
        "rpc": None if served is None else served.rpc_url,
        "version": __version__,
        "chain_id": chain.chain_id,
        "block": head.number,
        "timestamp": head.timestamp,
        "clock_ahead_seconds": chain.clock.offset_seconds,
        "block_time_seconds": _seconds(chain.interval_ms),
        "waiting": sum(1 for _ in chain.pool.all()),
        "base_fee_wei": chain.next_base_fee,
        "base_fee_moves": chain.moving_base_fee,
        "permissioned": chain.settings.permissioned,
        "follows_registry": None if registry is None else address_to_hex(registry),
        "accounts": len(chain.accounts),
        "folder": None if folder is None else str(folder.resolve()),
        "pid": os.getpid(),
        "up_seconds": None if served is None else int(time.monotonic() - served.started_seconds),
    }


def _seconds(milliseconds: int) -> float | int:
    whole, rest = divmod(milliseconds, 1_000)
    return milliseconds / 1_000 if rest else whole


def stop(chain: DevChain, _params: Params) -> object:
    """`farthing_stop`: answer, finish what is under way, close the chain and end."""
    served = _of_chains.get(chain)
    if served is None:
        raise NotServed("this chain has no server")
    served.stop()
    return True
