"""The development chain in the same process: blocks, state, pool and allowlist."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from eth.db.atomic import AtomicDB
from eth_abi.abi import encode
from eth_account import Account
from eth_typing import BlockNumber

from farthing.channels.ids import Address
from farthing.devnet import calls, errors
from farthing.devnet import pool as pool_module
from farthing.devnet.accounts import BALANCE_WEI, dev_accounts
from farthing.devnet.calls import revert_reason
from farthing.devnet.chain import BLOCKS_AT_ONCE_MAX, DevChain
from farthing.devnet.evm import (
    GAS_LIMIT,
    GENESIS_SECONDS,
    DevnetVM,
    ZeroBaseFeeVM,
    chain_class,
    genesis_fields,
    genesis_state,
)
from farthing.devnet.records import CallRequest, LogQuery
from farthing.devnet.store import FILE_NAME

from .devnet_probe import Wall, act, calldata, chains_closed, deploy, made_chain, read

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

ANVIL_FIRST = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
ANVIL_FIRST_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


def signed(chain: DevChain, **changes: Any) -> bytes:
    """A signed transfer of 1 wei from the first account to the second."""
    alice, bob, *_ = chain.accounts
    fields: dict[str, Any] = {
        "chainId": chain.chain_id,
        "nonce": chain.pending_nonce(alice.address),
        "gas": 21_000,
        "value": 1,
        "to": bob.address,
        **({} if "maxFeePerGas" in changes else {"gasPrice": 0}),
        **changes,
    }
    return bytes(alice.signer().sign_transaction(fields).raw_transaction)


def burn_gas(chain: DevChain, probe: Address, gas: int, nonce: int | None = None) -> bytes:
    """A transaction that fails in a way that uses up all its gas at once."""
    sender = chain.accounts[0].address
    request = CallRequest(sender=sender, to=probe, data=calldata("break_down()"), gas=gas)
    return chain.send(request, nonce=nonce)


def reimported(chain: DevChain) -> Any:
    """Every block of the chain executed and validated again by a fresh py-evm chain."""
    state = genesis_state([account.address for account in chain.accounts], BALANCE_WEI)
    fresh = chain_class(chain.chain_id, chain.base_fee_at_genesis).from_genesis(
        AtomicDB(), genesis_fields(chain.chain_id, chain.base_fee_at_genesis), state
    )
    for number in range(1, chain.head.number + 1):
        block = chain._chain.get_canonical_block_by_number(BlockNumber(number))
        fresh.import_block(block, perform_validation=True)
    return fresh


def test_the_accounts_are_those_of_anvil() -> None:
    first = dev_accounts(1)[0]
    assert first.checksum_address == ANVIL_FIRST
    assert first.private_key.hex() == ANVIL_FIRST_KEY


@pytest.mark.parametrize("count", [0, -1, 1_001])
def test_a_number_of_accounts_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(errors.BadSetting, match="give 1 to 1000"):
        made_chain(accounts=count)


@pytest.mark.parametrize("chain_id", [0, -5, 2**53])
def test_a_chain_id_out_of_bounds_is_refused(chain_id: int) -> None:
    with pytest.raises(errors.BadSetting, match="chain id"):
        made_chain(chain_id=chain_id)


def test_the_genesis_hash_follows_from_chain_id_and_accounts_alone() -> None:
    first = made_chain(Wall(1_900_000_000.0), entropy=b"one")
    again = made_chain(Wall(1_950_000_000.0), entropy=b"two")
    assert first.genesis_hash == again.genesis_hash
    assert first.header(0) == again.header(0)
    assert first.genesis_hash != made_chain(chain_id=7).genesis_hash
    assert first.genesis_hash != made_chain(accounts=4).genesis_hash


def test_the_default_genesis_hash_never_changes() -> None:
    chain = made_chain(accounts=10)
    expected = "21c7eb409a706dd1a2606d39392b80113a61a809101b0d5aa2ce1a31de2a6ea4"
    assert chain.genesis_hash.hex() == expected


def test_a_chain_that_is_made_anew_in_the_same_second_has_other_blocks() -> None:
    one, other = made_chain(entropy=None), made_chain(entropy=None)
    assert one.head.timestamp == other.head.timestamp
    assert one.head.hash != other.head.hash


def test_a_new_chain_has_mined_a_first_block_at_the_time_of_the_wall_clock() -> None:
    chain = made_chain(Wall(1_800_000_123.9))
    assert chain.head.number == 1
    assert chain.head.timestamp == 1_800_000_123
    genesis = chain.header(0)
    assert genesis is not None
    assert genesis.timestamp == GENESIS_SECONDS


def test_every_mined_block_is_imported_by_a_fresh_chain_with_equal_roots() -> None:
    wall = Wall()
    chain = made_chain(wall)
    alice, bob, *_ = chain.accounts
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 1, 2)
    chain.submit(signed(chain))
    chain.submit(
        signed(
            chain,
            type=1,
            gas=40_000,
            accessList=[{"address": bob.checksum_address, "storageKeys": ["0x" + "00" * 32]}],
        )
    )
    # Priced, and reverting: the tip goes to the miner, whose account is the zero address.
    priced = {"maxFeePerGas": 10**9, "maxPriorityFeePerGas": 10**9}
    raw = alice.signer().sign_transaction(
        {
            "type": 2,
            "chainId": chain.chain_id,
            "nonce": chain.pending_nonce(alice.address),
            "gas": 100_000,
            "to": probe,
            "data": calldata("refuse()"),
            "value": 0,
            **priced,
        }
    )
    failed = chain.receipt(chain.submit(bytes(raw.raw_transaction)))
    assert failed is not None
    assert not failed.succeeded
    chain.mine(3, 100)
    wall.seconds += 50
    # More than half of the block's gas: here other chains would raise the base fee.
    burn_gas(chain, probe, GAS_LIMIT)
    act(chain, probe, "fill(uint256,uint256,uint256)", 0, 20, 1)
    act(chain, probe, "fill(uint256,uint256,uint256)", 0, 20, 0)
    chain.mine()

    fresh = reimported(chain)

    assert fresh.get_canonical_head().hash == chain.head.hash
    assert fresh.get_canonical_head().state_root == chain.head.state_root


def test_the_base_fee_stays_zero_and_the_gas_limit_stays_after_a_full_block() -> None:
    chain = made_chain()
    probe = deploy(chain)
    burnt = chain.receipt(burn_gas(chain, probe, GAS_LIMIT))
    assert burnt is not None
    assert burnt.gas_used == chain.head.gas_used == GAS_LIMIT
    for _ in range(3):
        chain.mine()
        assert chain.head.base_fee == 0
        assert chain.head.gas_limit == GAS_LIMIT


def test_a_header_with_a_base_fee_or_another_gas_limit_is_no_block_of_this_chain() -> None:
    chain = made_chain()
    parent = chain._head
    header = chain._next_header()
    ZeroBaseFeeVM.validate_header(header, parent)
    for change in ({"base_fee_per_gas": 1}, {"gas_limit": GAS_LIMIT * 2}):
        with pytest.raises(Exception, match=r"(base fee|[Gg]as limit)"):
            ZeroBaseFeeVM.validate_header(header.copy(**change), parent)


def test_transactions_are_mined_in_the_order_in_which_they_came() -> None:
    chain = made_chain(automine=False)
    alice, bob, carol = chain.accounts
    sent = [
        chain.send(CallRequest(sender=sender.address, to=alice.address, gas=21_000))
        for sender in (carol, alice, bob, alice, carol)
    ]
    assert chain.receipt(sent[0]) is None
    chain.mine()
    block = chain.block(chain.head.number)
    assert block is not None
    assert [transaction.hash for transaction in block.transactions] == sent
    assert [receipt.transaction_index for receipt in block.receipts] == [0, 1, 2, 3, 4]
    assert [receipt.gas_used for receipt in block.receipts] == [21_000] * 5
    assert block.receipts[-1].cumulative_gas_used == 105_000
    assert len(chain.pool) == 0


def test_a_block_takes_no_more_gas_than_its_limit() -> None:
    chain = made_chain(automine=False)
    probe = deploy(chain)
    alice, bob, _ = chain.accounts
    heavy = [burn_gas(chain, probe, GAS_LIMIT // 2 - 50_000) for _ in range(3)]
    light = chain.send(CallRequest(sender=bob.address, to=alice.address, gas=21_000))
    chain.mine()
    receipts = [chain.receipt(each) for each in heavy]
    assert [receipt is not None for receipt in receipts] == [True, True, False]
    assert chain.receipt(light) is not None
    assert chain.head.gas_used <= GAS_LIMIT
    chain.mine()
    assert chain.receipt(heavy[2]) is not None


def test_a_transaction_whose_money_went_meanwhile_is_dropped_and_the_rest_is_mined() -> None:
    chain = made_chain(automine=False)
    alice, bob, _ = chain.accounts
    most = BALANCE_WEI - 1_000
    first, second = (
        chain.send(CallRequest(sender=alice.address, to=bob.address, value_wei=most, gas=21_000))
        for _ in range(2)
    )
    third = chain.send(CallRequest(sender=bob.address, to=alice.address, gas=21_000))
    chain.mine()
    assert chain.receipt(first) is not None
    assert chain.receipt(third) is not None
    assert chain.transaction(second) is None
    assert chain.nonce(alice.address) == 1


def test_a_transaction_on_which_the_machine_fails_does_not_stop_the_chain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chain = made_chain(automine=False)
    alice, bob, _ = chain.accounts
    poison = chain.send(
        CallRequest(sender=alice.address, to=bob.address, value_wei=666, gas=21_000)
    )
    good = chain.send(CallRequest(sender=bob.address, to=alice.address, gas=21_000))
    apply = DevnetVM.apply_transaction

    def failing(self: DevnetVM, header: Any, transaction: Any) -> Any:
        if transaction.value == 666:
            raise ArithmeticError("a fault of the machine")
        return apply(self, header, transaction)

    monkeypatch.setattr(DevnetVM, "apply_transaction", failing)
    chain.mine()
    assert chain.receipt(good) is not None
    assert chain.transaction(poison) is None
    assert "the machine failed" in caplog.text


def test_a_block_that_cannot_be_kept_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = made_chain(automine=False)
    probe = deploy(chain)
    before = chain.head
    request = CallRequest(
        sender=chain.accounts[0].address,
        to=probe,
        data=calldata("note(uint256,uint256)", 3, 4),
    )
    sent = chain.send(request)

    def full(_logs: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(chain._store, "add_logs", full)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            chain.mine()
    assert chain.head == before
    assert chain.receipt(sent) is None
    assert read(chain, probe, "amount()", "uint256") == (0,)
    chain.mine()
    assert chain.receipt(sent) is not None
    assert read(chain, probe, "amount()", "uint256") == (4,)
    assert reimported(chain).get_canonical_head().hash == chain.head.hash


def test_a_nonce_from_the_future_waits_until_the_gap_is_filled() -> None:
    chain = made_chain()
    alice, *_ = chain.accounts
    later = chain.submit(signed(chain, nonce=2))
    middle = chain.submit(signed(chain, nonce=1))
    assert chain.receipt(later) is None
    assert chain.transaction(later) is not None
    assert chain.pending_nonce(alice.address) == 0
    first = chain.submit(signed(chain, nonce=0))
    numbers = {chain.receipt(each).block_number for each in (first, middle, later)}  # type: ignore[union-attr]
    assert len(numbers) == 1
    assert chain.pending_nonce(alice.address) == 3


def test_automining_goes_on_until_nothing_that_could_be_mined_waits() -> None:
    chain = made_chain()
    probe = deploy(chain)
    alice, *_ = chain.accounts
    nonce = chain.nonce(alice.address)
    for ahead in (2, 1):
        burn_gas(chain, probe, GAS_LIMIT, nonce=nonce + ahead)
    chain.submit(signed(chain, nonce=nonce))
    assert len(chain.pool) == 0
    assert chain.nonce(alice.address) == nonce + 3


def test_a_replacement_has_to_pay_more() -> None:
    chain = made_chain(automine=False)
    old = chain.submit(signed(chain, gasPrice=100, nonce=0))
    with pytest.raises(errors.ReplacementUnderpriced):
        chain.submit(signed(chain, gasPrice=109, nonce=0))
    new = chain.submit(signed(chain, gasPrice=110, nonce=0))
    assert chain.transaction(old) is None
    chain.mine()
    assert chain.receipt(new) is not None


def test_a_free_transaction_is_replaced_by_one_that_pays_a_wei() -> None:
    chain = made_chain(automine=False)
    chain.submit(signed(chain, nonce=0))
    with pytest.raises(errors.ReplacementUnderpriced):
        chain.submit(signed(chain, nonce=0, value=2))
    chain.submit(signed(chain, nonce=0, value=2, gasPrice=1))
    assert len(chain.pool) == 1


def test_the_same_transaction_twice_is_refused_while_it_waits_and_after() -> None:
    chain = made_chain(automine=False)
    raw = signed(chain, nonce=0)
    chain.submit(raw)
    with pytest.raises(errors.AlreadyKnown):
        chain.submit(raw)
    chain.mine()
    with pytest.raises(errors.AlreadyKnown):
        chain.submit(raw)


def test_a_nonce_too_far_ahead_and_a_full_pool_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = made_chain(automine=False)
    with pytest.raises(errors.NonceTooHigh, match="next nonce 0, tx nonce 1024"):
        chain.submit(signed(chain, nonce=1_024))
    monkeypatch.setattr(pool_module, "WAITING_MAX", 2)
    chain.submit(signed(chain, nonce=0))
    chain.submit(signed(chain, nonce=1))
    with pytest.raises(errors.PoolFull) as refused:
        chain.submit(signed(chain, nonce=2))
    assert refused.value.retryable
    # A replacement takes no new place.
    chain.submit(signed(chain, nonce=1, gasPrice=5))


def test_the_state_of_every_block_can_be_read_later() -> None:
    chain = made_chain()
    alice, bob, _ = chain.accounts
    probe = deploy(chain)
    deployed_in = chain.head.number
    act(chain, probe, "note(uint256,uint256)", 0, 5)
    act(chain, probe, "note(uint256,uint256)", 0, 6)
    chain.send(CallRequest(sender=alice.address, to=bob.address, value_wei=9))
    assert chain.code(probe, deployed_in - 1) == b""
    assert chain.code(probe, deployed_in) != b""
    words = [chain.storage(probe, 0, deployed_in + index)[-1] for index in range(3)]
    assert words == [0, 5, 6]
    assert chain.balance(bob.address, deployed_in) == BALANCE_WEI
    assert chain.balance(bob.address) == BALANCE_WEI + 9
    assert [chain.nonce(alice.address, number) for number in (1, deployed_in)] == [0, 1]
    result = chain.call(
        CallRequest(sender=alice.address, to=probe, data=calldata("amount()")), deployed_in + 1
    )
    assert int.from_bytes(result.output, "big") == 5
    with pytest.raises(errors.UnknownBlock):
        chain.balance(bob.address, chain.head.number + 1)


def test_a_call_runs_in_the_newest_block_and_a_pending_one_in_the_next() -> None:
    wall = Wall()
    chain = made_chain(wall)
    probe = deploy(chain)
    outputs = "uint256,uint256,bytes32,uint256,uint256,uint256"
    seen = read(chain, probe, "surroundings()", outputs)
    head = chain.head
    assert seen == (head.number, head.timestamp, head.parent_hash, 0, GAS_LIMIT, chain.chain_id)
    wall.seconds += 100
    request = CallRequest(
        sender=chain.accounts[0].address, to=probe, data=calldata("surroundings()")
    )
    pending = calls.run(chain.next_machine(), request).output
    assert int.from_bytes(pending[:32], "big") == head.number + 1
    assert int.from_bytes(pending[32:64], "big") == wall.seconds
    assert pending[64:96] == head.hash


def test_a_call_changes_nothing() -> None:
    chain = made_chain()
    probe = deploy(chain)
    before = chain.head
    request = CallRequest(
        sender=chain.accounts[0].address, to=probe, data=calldata("note(uint256,uint256)", 1, 2)
    )
    assert chain.call(request).succeeded
    assert chain.estimate_gas(request) > 40_000
    assert chain.storage(probe, 0) == bytes(32)
    assert chain.head == before


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("note(uint256,uint256)", (1, 2)),
        ("note_many(uint256)", (30,)),
        ("outer(uint256)", (0,)),
        ("fill(uint256,uint256,uint256)", (0, 20, 0)),
        ("fill(uint256,uint256,uint256)", (100, 20, 1)),
    ],
)
def test_an_estimate_is_enough_and_hardly_more_than_that(
    signature: str, values: tuple[int, ...]
) -> None:
    chain = made_chain()
    probe = deploy(chain)
    # Clearing these words gives gas back: what is needed is more than what is paid in the end.
    act(chain, probe, "fill(uint256,uint256,uint256)", 0, 20, 1)
    request = CallRequest(
        sender=chain.accounts[0].address, to=probe, data=calldata(signature, *values)
    )
    gas = chain.estimate_gas(request)
    assert calls.run(chain.next_machine(), dataclasses.replace(request, gas=gas)).succeeded
    less = dataclasses.replace(request, gas=gas - max(2, gas // 500))
    assert not calls.run(chain.next_machine(), less).succeeded


def test_an_estimate_covers_the_calldata_floor_and_a_plain_transfer() -> None:
    chain = made_chain()
    alice, bob, _ = chain.accounts
    assert chain.estimate_gas(CallRequest(sender=alice.address, to=bob.address)) == 21_000
    data = bytes([1]) * 1_000
    request = CallRequest(sender=alice.address, to=bob.address, data=data)
    assert chain.estimate_gas(request) == 21_000 + 40 * 1_000
    receipt = chain.receipt(chain.send(request))
    assert receipt is not None
    assert receipt.gas_used == 61_000


def test_an_estimate_can_be_made_on_an_older_block() -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 0, 5)
    request = CallRequest(
        sender=chain.accounts[0].address, to=probe, data=calldata("note(uint256,uint256)", 0, 6)
    )
    head = chain.head.number
    # The word is zero in the older state and costs more to set.
    assert chain.estimate_gas(request, head - 1) > chain.estimate_gas(request) + 15_000
    with pytest.raises(errors.UnknownBlock):
        chain.estimate_gas(request, head + 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", None),
        (b"\x08\xc3", None),
        (bytes.fromhex("08c379a0"), None),
        (bytes.fromhex("08c379a0") + b"\xff" * 64, None),
        (bytes.fromhex("08c379a0") + encode(["bytes"], [b"\xff\xfe"]), None),
        (bytes.fromhex("08c379a0") + encode(["string"], ["why not"]), "why not"),
        (bytes.fromhex("4e487b71") + bytes(32), None),
    ],
)
def test_a_reason_is_read_from_what_a_contract_reverted_with(
    data: bytes, reason: str | None
) -> None:
    assert revert_reason(data) == reason


def test_an_estimate_of_what_reverts_says_why() -> None:
    chain = made_chain()
    probe = deploy(chain)
    sender = chain.accounts[0].address
    with pytest.raises(errors.ExecutionReverted, match="execution reverted: probe: refused"):
        chain.estimate_gas(CallRequest(sender=sender, to=probe, data=calldata("refuse()")))
    with pytest.raises(errors.ExecutionFailed, match="out of gas"):
        chain.estimate_gas(
            CallRequest(
                sender=sender,
                to=probe,
                data=calldata("fill(uint256,uint256,uint256)", 0, 100, 1),
                gas=60_000,
            )
        )


def test_logs_are_found_by_address_topic_and_block() -> None:
    chain = made_chain()
    one, other = deploy(chain), deploy(chain)
    first = chain.head.number + 1
    for probe, topic in ((one, 1), (other, 2), (one, 2)):
        act(chain, probe, "note(uint256,uint256)", topic, 0)
    act(chain, one, "note_many(uint256)", 3)
    last = chain.head.number
    event = chain.logs(LogQuery(first_block=first, last_block=first))[0].topics[0]
    two = (2).to_bytes(32, "big")

    def found(**query: Any) -> list[tuple[int, int]]:
        logs = chain.logs(LogQuery(**{"first_block": first, "last_block": last, **query}))
        return [(log.block_number - first, log.log_index) for log in logs]

    assert found() == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]
    assert found(addresses=(other,)) == [(1, 0)]
    assert found(addresses=(one, other), topics=((), (), (two,))) == [(1, 0), (2, 0), (3, 2)]
    assert found(topics=((event,), (), (two, bytes(32)))) == [(1, 0), (2, 0), (3, 0), (3, 2)]
    assert found(topics=((two,),)) == []
    assert found(topics=((), (), (), ())) == []
    assert found(first_block=first + 2, last_block=first + 2) == [(2, 0)]
    assert found(first_block=last + 1) == []
    receipt = chain.block(last)
    assert receipt is not None
    assert receipt.receipts[0].logs == chain.logs(LogQuery(first_block=last, last_block=last))


def test_too_many_logs_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note_many(uint256)", 5)
    monkeypatch.setattr("farthing.devnet.chain.LOGS_MAX", 4)
    with pytest.raises(errors.TooManyLogs, match="ask for a shorter range"):
        chain.logs(LogQuery(first_block=0, last_block=99))


def test_only_allowlisted_senders_are_taken_and_the_list_is_kept(tmp_path: Path) -> None:
    mallory = Account.from_key(b"\x07" * 32)
    address = Address(bytes.fromhex(mallory.address[2:]))
    chain = made_chain(folder=tmp_path)
    raw = bytes(
        mallory.sign_transaction(
            {"chainId": chain.chain_id, "nonce": 0, "gas": 21_000, "gasPrice": 0, "to": address}
        ).raw_transaction
    )
    with pytest.raises(errors.SenderNotAllowed) as refused:
        chain.submit(raw)
    assert refused.value.text == "Sender account not authorized to send transactions"
    assert mallory.address in (refused.value.hint or "")
    chain.allow([address])
    chain.close()

    chain = made_chain(folder=tmp_path)
    assert set(chain.allowed()) == {address, *(each.address for each in chain.accounts)}
    assert chain.receipt(chain.submit(raw)) is not None
    chain.disallow([address])
    chain.close()
    assert address not in made_chain(folder=tmp_path).allowed()


def test_taking_a_sender_off_the_list_forgets_what_waits_from_it() -> None:
    chain = made_chain(automine=False)
    alice, bob, _ = chain.accounts
    sent = chain.submit(signed(chain))
    kept = chain.send(CallRequest(sender=bob.address, to=alice.address, gas=21_000))
    chain.disallow([alice.address])
    assert chain.transaction(sent) is None
    chain.mine()
    assert chain.receipt(kept) is not None


def test_changes_of_the_allowlist_are_all_or_nothing_and_refused_in_besus_words() -> None:
    chain = made_chain()
    alice = chain.accounts[0].address
    bob, carol = Address(b"\x01" * 20), Address(b"\x02" * 20)
    before = chain.allowed()
    for change, addresses, text in (
        (chain.allow, [], "Request contains an empty list of accounts"),
        (chain.allow, [bob, bob], "Request contains duplicate accounts"),
        (chain.allow, [bob, alice], "Cannot add an existing account to allowlist"),
        (chain.disallow, [alice, carol], "Cannot remove an absent account from allowlist"),
    ):
        with pytest.raises(errors.AllowlistRefused) as refused:
            change(addresses)
        assert str(refused.value) == text
        assert refused.value.rpc_code == -32000
        assert chain.allowed() == before


def test_an_open_chain_takes_anybody_and_has_no_allowlist() -> None:
    chain = made_chain(permissioned=False)
    mallory = Account.from_key(b"\x07" * 32)
    raw = mallory.sign_transaction(
        {"chainId": chain.chain_id, "nonce": 0, "gas": 53_000, "gasPrice": 0, "data": b""}
    ).raw_transaction
    assert chain.receipt(chain.submit(bytes(raw))) is not None
    with pytest.raises(errors.AllowlistRefused, match="has not been enabled"):
        chain.allowed()


def test_a_chain_in_a_folder_comes_back_at_its_last_block(tmp_path: Path) -> None:
    chain = made_chain(folder=tmp_path / "deep" / "folder")
    probe = deploy(chain)
    receipt = act(chain, probe, "note(uint256,uint256)", 1, 77)
    waiting = chain.submit(signed(chain, nonce=50))
    head, block = chain.head, chain.block(chain.head.number)
    chain.close()

    chain = made_chain(folder=tmp_path / "deep" / "folder")
    assert chain.head == head
    assert chain.block(head.number) == block
    assert chain.receipt(receipt.transaction.hash) == receipt
    assert read(chain, probe, "amount()", "uint256") == (77,)
    assert chain.transaction(waiting) is None
    act(chain, probe, "note(uint256,uint256)", 1, 78)
    assert reimported(chain).get_canonical_head().hash == chain.head.hash


def test_a_folder_of_another_chain_is_refused(tmp_path: Path) -> None:
    made_chain(folder=tmp_path).close()
    with pytest.raises(errors.OtherChain, match="start it with chain id 20262026"):
        made_chain(folder=tmp_path, chain_id=5)
    with pytest.raises(errors.OtherChain, match="start it with accounts 3"):
        made_chain(folder=tmp_path, accounts=4)
    made_chain(folder=tmp_path).close()


def test_a_folder_that_is_in_use_or_holds_something_else_is_refused(tmp_path: Path) -> None:
    chain = made_chain(folder=tmp_path / "used")
    with pytest.raises(errors.FolderInUse):
        made_chain(folder=tmp_path / "used")
    chain.close()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(errors.FolderUnusable):
        made_chain(folder=tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE_NAME).write_bytes(b"no database" * 100)
    with pytest.raises(errors.FolderUnusable, match="not a database"):
        made_chain(folder=tmp_path / "other")


def test_a_folder_written_in_a_later_format_is_refused(tmp_path: Path) -> None:
    chain = made_chain(folder=tmp_path)
    with chain._store.writing():
        chain._store.put_setting("format", "2")
    chain.close()
    with pytest.raises(errors.FolderUnusable, match="format 2, this reads 1"):
        made_chain(folder=tmp_path)


def test_nothing_is_written_outside_a_transaction() -> None:
    chain = made_chain()
    with pytest.raises(RuntimeError, match="inside `writing` only"):
        chain._store[b"key"] = b"value"
    with pytest.raises(RuntimeError, match="inside `writing` only"):
        del chain._store[b"key"]


def test_the_store_forgets_what_is_deleted_and_knows_what_it_never_had() -> None:
    store = made_chain()._store
    with store.writing():
        store[b"key"] = b"value"
        assert store[b"key"] == b"value"
        del store[b"key"]
        with pytest.raises(KeyError):
            del store[b"key"]
    with pytest.raises(KeyError):
        store[b"key"]
    assert b"key" not in store


@pytest.mark.parametrize("count", [0, -1, BLOCKS_AT_ONCE_MAX + 1])
def test_a_number_of_blocks_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(errors.TooManyBlocks, match="ask for 1 to 10000"):
        made_chain().mine(count)
