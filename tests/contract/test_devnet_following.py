"""Admission that follows the member registry: who may send, whatever happens to the chain."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_abi.abi import encode
from eth_utils.abi import function_signature_to_4byte_selector

from farthing.channels.ids import Address, address_to_hex, to_hex
from farthing.contracts.artifacts import load
from farthing.contracts.members import MemberStatus
from farthing.devnet.asking import HttpAsk
from farthing.devnet.chain import DevChain
from farthing.devnet.following import NotARegistry
from farthing.devnet.opening import ChainSettings
from farthing.devnet.records import CallRequest
from farthing.devnet.up import DevnetConfig, serve

from .devnet_probe import chains_closed, made_chain, read
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

BOB = Address(b"\xb0" * 20)
ROW = "(address,uint8,uint8,uint64,bytes32,bytes32)"
RESIDENT = 4
LONG_AGO = 1_000_000_000


def registrar_sends(chain: DevChain, to: Address | None, data: bytes) -> Any:
    sent = chain.send(CallRequest(sender=chain.accounts[0].address, to=to, data=data, gas=900_000))
    return chain.receipt(sent)


def followed(**settings: Any) -> tuple[DevChain, Address]:
    """A chain that follows a registry in which its first account alone is a member."""
    chain = made_chain(accounts=2, **settings)
    registrar = encode(["address"], [chain.accounts[0].address])
    made = registrar_sends(chain, None, load("member_registry").bytecode + registrar)
    chain.follow(made.contract_address)
    for address in (BOB, chain.accounts[0].address):
        call(chain, "anvil_impersonateAccount", to_hex(address))
    return chain, made.contract_address


def member(status: MemberStatus, account: Address = BOB, valid_until: int = 0) -> bytes:
    row = (account, RESIDENT, status, valid_until, bytes(32), bytes(32))
    return function_signature_to_4byte_selector(f"set_member({ROW})") + encode([ROW], [row])


def enrol(chain: DevChain, registry: Address, *row: Any) -> None:
    assert registrar_sends(chain, registry, member(*row)).succeeded


def empty(account: Address) -> dict[str, Any]:
    """An empty transaction of somebody."""
    return {"from": to_hex(account), "to": to_hex(BOB), "gas": "0x5208"}


def send(chain: DevChain, account: Address = BOB) -> str:
    return str(call(chain, "eth_sendTransaction", empty(account)))


def is_admitted(chain: DevChain, account: Address = BOB) -> bool:
    """Whether it may send: the list says so, and a transaction shows it."""
    listed = to_hex(account) in call(chain, "perm_getAccountsAllowlist")
    if listed:
        send(chain, account)
    else:
        assert refusal(chain, "eth_sendTransaction", empty(account))["code"] == -32007
    return listed


@pytest.mark.parametrize(
    ("status", "valid_until"),
    [(MemberStatus.ACTIVE, 0), (MemberStatus.ACTIVE, LONG_AGO), (MemberStatus.SUSPENDED, 0)],
)
def test_whom_the_registry_holds_may_send_also_when_suspended_or_past_its_time(
    status: MemberStatus, valid_until: int
) -> None:
    chain, registry = followed()
    assert not is_admitted(chain)
    enrol(chain, registry, status, BOB, valid_until)
    word = read(chain, registry, "member(address)", "uint8,uint8,uint64,bytes32", BOB)
    assert word == (RESIDENT, chain.following.status(chain.machine(None).state, BOB), *word[2:])
    assert is_admitted(chain)


def test_whom_the_registry_removed_may_not_send_whatever_the_allowlist_says() -> None:
    chain, registry = followed()
    call(chain, "perm_addAccountsToAllowlist", [to_hex(BOB)])
    assert is_admitted(chain)
    enrol(chain, registry, MemberStatus.REMOVED)
    assert not is_admitted(chain)
    hint = refusal(chain, "eth_sendTransaction", empty(BOB))["data"]
    assert address_to_hex(registry) in hint
    call(chain, "farthing_followRegistry")
    assert is_admitted(chain)


def test_about_those_whom_the_registry_never_held_the_allowlist_decides() -> None:
    chain, registry = followed()
    other = chain.accounts[1].address
    assert is_admitted(chain, other)
    chain.disallow([other])
    assert not is_admitted(chain, other)
    enrol(chain, registry, MemberStatus.ACTIVE, BOB)
    assert not is_admitted(chain, other)
    assert is_admitted(chain)


def test_an_account_and_its_signer_are_two_members() -> None:
    chain, registry = followed()
    signer = Address(b"\xb1" * 20)
    call(chain, "anvil_impersonateAccount", to_hex(signer))
    enrol(chain, registry, MemberStatus.ACTIVE, BOB)
    assert is_admitted(chain)
    assert not is_admitted(chain, signer)
    enrol(chain, registry, MemberStatus.ACTIVE, signer)
    assert is_admitted(chain, signer)


def _revert(chain: DevChain, snapshot: str) -> None:
    assert call(chain, "evm_revert", snapshot)


def _reorganise(chain: DevChain, _snapshot: str) -> None:
    call(chain, "farthing_reorg", 2, "dropped")


@pytest.mark.parametrize("take_back", [_revert, _reorganise])
def test_a_membership_that_the_chain_takes_back_is_none(
    take_back: Callable[[DevChain, str], None],
) -> None:
    chain, registry = followed()
    snapshot = call(chain, "evm_snapshot")
    enrol(chain, registry, MemberStatus.ACTIVE)
    assert is_admitted(chain)
    take_back(chain, snapshot)
    assert not is_admitted(chain)


def test_a_reorganisation_mines_a_new_member_and_what_it_sent_in_one_block() -> None:
    chain, registry = followed()
    enrol(chain, registry, MemberStatus.ACTIVE)
    sent = send(chain)
    call(chain, "farthing_reorg", 2, "again")
    receipt = call(chain, "eth_getTransactionReceipt", sent)
    assert (receipt["transactionIndex"], receipt["status"]) == ("0x1", "0x1")
    assert int(receipt["blockNumber"], 16) == chain.head.number - 1


@pytest.mark.parametrize("bob_first", [True, False])
def test_what_waits_from_somebody_is_mined_before_the_removal_and_dropped_after_it(
    bob_first: bool,
) -> None:
    chain, registry = followed()
    enrol(chain, registry, MemberStatus.ACTIVE)
    chain.automine = False
    sent = send(chain) if bob_first else None
    removal = CallRequest(
        sender=chain.accounts[0].address,
        to=registry,
        data=member(MemberStatus.REMOVED),
        gas=900_000,
    )
    chain.send(removal)
    sent = sent or send(chain)
    chain.mine()
    mined = call(chain, "eth_getTransactionByHash", sent)
    assert (mined is not None) is bob_first
    assert len(chain.pool) == 0
    block = chain.block(chain.head.number)
    assert block is not None
    assert len(block.transactions) == 1 + bob_first


def test_a_killed_chain_follows_on(tmp_path: Path) -> None:
    chain, registry = followed(folder=tmp_path / "chain")
    enrol(chain, registry, MemberStatus.ACTIVE)
    # What a process that is killed now would leave: its files, never closed.
    shutil.copytree(tmp_path / "chain", tmp_path / "copy")
    again = made_chain(accounts=2, folder=tmp_path / "copy")
    call(again, "anvil_impersonateAccount", to_hex(BOB))
    assert again.following.registry == registry
    assert is_admitted(again)
    enrol(again, registry, MemberStatus.REMOVED)
    assert not is_admitted(again)


def test_who_leaves_the_allowlist_and_is_a_member_keeps_what_waits() -> None:
    chain, registry = followed()
    chain.allow([BOB])
    enrol(chain, registry, MemberStatus.ACTIVE)
    chain.automine = False
    send(chain)
    chain.disallow([BOB])
    assert len(chain.pool) == 1
    call(chain, "farthing_followRegistry", None)
    chain.mine()
    assert (len(chain.pool), chain.nonce(BOB)) == (0, 0)


def test_what_is_no_registry_is_not_followed() -> None:
    chain, registry = followed()
    with pytest.raises(NotARegistry):
        chain.follow(BOB)
    assert chain.following.registry == registry
    assert "no member registry" in refusal(chain, "farthing_followRegistry", to_hex(BOB))["message"]
    open_chain = made_chain(permissioned=False)
    said = refusal(open_chain, "farthing_followRegistry", to_hex(registry))["message"]
    assert said == "Account allowlist has not been enabled"


def test_a_devnet_follows_from_its_start(tmp_path: Path) -> None:
    chain, registry = followed(folder=tmp_path)
    chain.follow(None)
    chain.close()
    config = DevnetConfig(port=0, block_time_ms=0, accounts=2, folder=tmp_path, registry=registry)

    def status(url: str) -> Any:
        with HttpAsk(url) as ask:
            return ask("farthing_status")["follows_registry"]

    async def main() -> Any:
        async with trio.open_nursery() as nursery:
            running = await nursery.start(serve, config)
            found = await trio.to_thread.run_sync(status, running.rpc_url)
            nursery.cancel_scope.cancel()
        return found

    assert trio.run(main) == address_to_hex(registry)


async def test_a_devnet_that_cannot_follow_leaves_nothing_open(tmp_path: Path) -> None:
    config = DevnetConfig(port=0, folder=tmp_path, registry=BOB)
    with pytest.raises(NotARegistry, match="there is no member registry"):
        await serve(config)
    DevChain(ChainSettings(folder=tmp_path)).close()  # its folder is free again
