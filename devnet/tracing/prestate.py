"""The prestate tracer: the accounts that a transaction touches, before it or before and after.

Source: geth's prestateTracer; accounts that did not exist before are left away, as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from eth.abc import StateAPI
from eth_typing import Address as EvmAddress

from ...channels.ids import to_hex
from ..evm import DevnetVM
from .hooks import Budget
from .touched import Touched

Account = dict[str, object]

ACCOUNT_BYTES: Final = 200
WORD_BYTES: Final = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class PrestateOptions:
    """Whether changes are asked for, and what is left away."""

    diff: bool = False
    code: bool = True
    storage: bool = True
    empty: bool = False


def prestate(
    options: PrestateOptions, budget: Budget, touched: Touched, before: DevnetVM, after: DevnetVM
) -> dict[str, object]:
    """What stood there before; with `diff` only what changed, and what stands there after."""
    pre = {
        address: _account(options, budget, before.state, address, words)
        for address, words in sorted(touched.words.items())
    }
    if not options.diff:
        return {
            to_hex(address): account
            for address, account in pre.items()
            if options.empty or _exists(before.state, address)
        }
    changed_pre: dict[str, object] = {}
    changed_post: dict[str, object] = {}
    for address, account in pre.items():
        post = _account(options, budget, after.state, address, touched.words[address])
        if not _exists(after.state, address) and _exists(before.state, address):
            changed_pre[to_hex(address)] = account  # destroyed: it has no state afterwards
            continue
        old, new = _difference(account, post)
        if not new and "storage" not in old:
            continue
        changed_post[to_hex(address)] = new  # empty where words were deleted and nothing else
        if options.empty or _exists(before.state, address):
            changed_pre[to_hex(address)] = old
    return {"pre": changed_pre, "post": changed_post}


def _exists(state: StateAPI, address: bytes) -> bool:
    return not state.account_is_empty(EvmAddress(address))


def _account(
    options: PrestateOptions,
    budget: Budget,
    state: StateAPI,
    address: bytes,
    words: Iterable[int],
) -> Account:
    place = EvmAddress(address)
    account: Account = {"balance": hex(state.get_balance(place))}
    nonce, code = state.get_nonce(place), state.get_code(place)
    if nonce:
        account["nonce"] = nonce
    if code and options.code:
        account["code"] = to_hex(code)
    if options.storage:
        storage = {
            to_hex(slot.to_bytes(32)): to_hex(state.get_storage(place, slot).to_bytes(32))
            for slot in sorted(words)
        }
        if storage:
            account["storage"] = storage
    budget.spend(ACCOUNT_BYTES + 2 * len(code) + WORD_BYTES * len(account.get("storage", ())))  # type: ignore[arg-type]
    return account


_ZERO: Final = "0x" + "00" * 32


def _difference(pre: Account, post: Account) -> tuple[Account, Account]:
    """An account as it was, its storage cut to the words that changed, and what is new about it."""
    old = {name: value for name, value in pre.items() if name != "storage"}
    new: Account = {
        name: post.get(name, 0 if name == "nonce" else "0x")
        for name in ("balance", "nonce", "code")
        if pre.get(name) != post.get(name)
    }
    was, became = pre.get("storage", {}), post.get("storage", {})
    if not isinstance(was, dict) or not isinstance(became, dict):
        raise TypeError("storage is an object")
    changed = [slot for slot, value in was.items() if value != became[slot]]
    lost = {slot: was[slot] for slot in changed if was[slot] != _ZERO}
    gained = {slot: became[slot] for slot in changed if became[slot] != _ZERO}
    if lost:
        old["storage"] = lost
    if gained:
        new["storage"] = gained
    return old, new
