"""Making a chain in an empty store, or going on with the one that a store holds.

Rule: what a chain was made with is written beside it, and it is never opened as another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from eth.chains.base import Chain

from ..channels.deployment import DEVELOPMENT_CHAIN_ID
from ..channels.ids import Address
from .accounts import ACCOUNTS_DEFAULT, BALANCE_WEI
from .errors import BadSetting, FolderUnusable, OtherBaseFee, OtherChain
from .evm import chain_class, genesis_fields, genesis_state
from .store import FILE_NAME, ChainStore

CHAIN_ID_DEFAULT: Final = DEVELOPMENT_CHAIN_ID
CHAIN_ID_MAX: Final = 2**53 - 1
"""What JavaScript holds exactly, so that no tool misreads it."""
BASE_FEE_WEI_MAX: Final = 10**15
"""A million gwei, of which a transfer costs 21 of an account's 10,000 ether."""
FORMAT: Final = "1"
BASE_FEE: Final = "base fee"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """What a chain is made with. `folder` None keeps it in memory.

    `permissioned`: only senders on the allowlist are taken. `automine`: each transaction is mined
    at once. `base_fee_wei`: 0 for free gas, else the genesis block's, which then moves; None takes
    what the folder says, or 0. `wall_seconds` and `entropy` (the first block's randomness) are for
    tests.
    """

    chain_id: int = CHAIN_ID_DEFAULT
    accounts: int = ACCOUNTS_DEFAULT
    folder: Path | None = None
    permissioned: bool = True
    automine: bool = False
    base_fee_wei: int | None = None
    wall_seconds: Callable[[], float] = time.time
    entropy: bytes | None = None


def check_settings(settings: ChainSettings) -> None:
    """Refuse what no chain can be made with; raises `BadSetting`."""
    if not 1 <= settings.chain_id <= CHAIN_ID_MAX:
        raise BadSetting("chain id", settings.chain_id, f"1 to {CHAIN_ID_MAX}")
    if not 0 <= (settings.base_fee_wei or 0) <= BASE_FEE_WEI_MAX:
        allowed = f"0 for free gas, or up to {BASE_FEE_WEI_MAX} wei"
        raise BadSetting("base fee", settings.base_fee_wei, allowed)


def is_new(store: ChainStore) -> bool:
    """Whether no chain was made in a store."""
    return store.setting("format") is None


def make(store: ChainStore, settings: ChainSettings, accounts: Sequence[Address]) -> Chain:
    """A new chain with its genesis block alone."""
    base_fee_wei = settings.base_fee_wei or 0
    with store.writing():
        chain = chain_class(settings.chain_id, base_fee_wei).from_genesis(
            store,
            genesis_fields(settings.chain_id, base_fee_wei),
            genesis_state(accounts, BALANCE_WEI),
        )
        for name, value in (
            ("format", FORMAT),
            ("chain id", str(settings.chain_id)),
            ("accounts", str(settings.accounts)),
            (BASE_FEE, str(base_fee_wei)),
        ):
            store.put_setting(name, value)
        store.allow(accounts)
    return cast(Chain, chain)


def reopen(store: ChainStore, settings: ChainSettings) -> Chain:
    """The chain that is there; raises `FolderUnusable`, `OtherChain`, `OtherBaseFee`."""
    path = str((settings.folder or Path()) / FILE_NAME)
    stored = store.setting("format")
    if stored != FORMAT:
        raise FolderUnusable(path, f"it was written in format {stored}, this reads {FORMAT}")
    for name, asked in (("chain id", settings.chain_id), ("accounts", settings.accounts)):
        value = store.setting(name) or ""
        if value != str(asked):
            raise OtherChain(path, name, value, str(asked))
    base_fee_wei = stored_base_fee(store)
    if settings.base_fee_wei not in (None, base_fee_wei):
        raise OtherBaseFee(path, base_fee_wei, settings.base_fee_wei or 0)
    return chain_class(settings.chain_id, base_fee_wei)(store)


def stored_base_fee(store: ChainStore) -> int:
    """The genesis block's base fee; 0 where gas is free, as it was before this was written down."""
    return int(store.setting(BASE_FEE) or 0)
