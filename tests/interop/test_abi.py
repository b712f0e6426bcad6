"""The hand-written ABI is the contracts': selectors, topics, encodings, decodings, transactions."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from farthing.channels.client import abi, logs
from farthing.channels.client.abi import NotEncodable, SettleRow
from farthing.channels.client.logs import decode_logs
from farthing.channels.client.rpc import RpcUnusable
from farthing.channels.client.transaction import ContractCalls, Transaction, sign_transaction
from farthing.channels.deployment import Deployment
from farthing.channels.hashing import keccak256
from farthing.channels.ids import Address, address_to_hex, to_hex
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.state import CloseTerms
from farthing.channels.terms import CHALLENGE_BLOCKS_MAX, CHALLENGE_SECONDS_MAX, Side, Terms
from farthing.channels.units import NONCE_MAX, TRANSFERRED_MAX
from farthing.channels.voucher import LaneTotal, Voucher
from farthing.contracts.artifacts import NAMES, load

Entry: TypeAlias = dict[str, Any]

TERMS_TYPE = "(address,address,address,address,uint64,uint64,uint64)"
ALICE, HUB = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
TERMS = Terms(
    account_a=Address(b"\xa0" * 20),
    signer_a=HUB.address,
    account_b=Address(b"\xff" * 20),
    signer_b=ALICE.address,
    challenge_seconds=CHALLENGE_SECONDS_MAX,
    challenge_blocks=CHALLENGE_BLOCKS_MAX,
    sequence=2**64 - 1,
)
DEPLOYMENT = Deployment(
    chain_id=20262026,
    genesis_hash=b"\x11" * 32,
    block=3,
    city_credit=Address(b"\xc1" * 20),
    member_registry=Address(b"\xc2" * 20),
    payment_channels=Address(b"\xc3" * 20),
    deployment=b"\x12" * 32,
)
CHANNEL = DEPLOYMENT.channel_id(TERMS)
SEPARATOR = DEPLOYMENT.domain().separator()
SIGNATURE_A, SIGNATURE_B = b"\xa1" * 65, b"\xb2" * 65


def canonical(member: Entry) -> str:
    kind: str = member["type"]
    if kind.startswith("tuple"):
        return f"({','.join(map(canonical, member['components']))}){kind.removeprefix('tuple')}"
    return kind


def signatures(name: str, kind: str) -> set[str]:
    return {
        f"{entry['name']}({','.join(map(canonical, entry['inputs']))})"
        for entry in load(name).abi
        if entry["type"] == kind
    }


def terms_tuple(terms: Terms) -> tuple[str | int, ...]:
    return (
        address_to_hex(terms.account_a),
        address_to_hex(terms.signer_a),
        address_to_hex(terms.account_b),
        address_to_hex(terms.signer_b),
        terms.challenge_seconds,
        terms.challenge_blocks,
        terms.sequence,
    )


def voucher(signer: Signer, payer: Address, total: LaneTotal) -> Voucher:
    return sign_voucher(SEPARATOR, signer, channel=CHANNEL, payer=payer, total=total)


def test_methods_are_the_contracts_and_their_selectors_are_right() -> None:
    assert set(abi.METHODS) == set(NAMES)
    for name, methods in abi.METHODS.items():
        for method in methods:
            assert method.signature in signatures(name, "function")
            assert method.selector == keccak256(method.signature.encode())[:4]


def test_events_are_the_contracts_and_their_topics_are_right() -> None:
    assert {shape.signature for shape in logs.EVENTS} == signatures("payment_channels", "event")
    for shape in logs.EVENTS:
        assert shape.topic == keccak256(shape.signature.encode())


def test_events_have_the_indexed_fields_of_the_contract_in_its_order() -> None:
    events = {
        entry["name"]: entry for entry in load("payment_channels").abi if entry["type"] == "event"
    }
    for shape in logs.EVENTS:
        inputs = events[shape.signature.split("(")[0]]["inputs"]
        names = [name.removesuffix("_ucent") for name in (*shape.indexed, *shape.data)]
        assert names == [
            *(each["name"] for each in inputs if each["indexed"]),
            *(each["name"] for each in inputs if not each["indexed"]),
        ]


@pytest.mark.parametrize("signature", [b"", SIGNATURE_A])
@pytest.mark.parametrize("expires", [0, 1, 2**64 - 1])
def test_start_close_is_encoded_as_eth_abi_does(expires: int, signature: bytes) -> None:
    expected = encode([TERMS_TYPE, "uint64", "bytes"], [terms_tuple(TERMS), expires, signature])
    found = abi.start_close(TERMS, expires=expires, signature=signature)
    assert found == abi.START_CLOSE.selector + expected


def test_finish_close_and_claim_and_deposit_and_approve_are_encoded_as_eth_abi_does() -> None:
    account = address_to_hex(TERMS.account_a)
    assert abi.finish_close(TERMS) == abi.FINISH_CLOSE.selector + encode(
        [TERMS_TYPE], [terms_tuple(TERMS)]
    )
    assert abi.claim(TERMS.account_a) == abi.CLAIM.selector + encode(["address"], [account])
    for amount in (0, 1, 2**256 - 1):
        assert abi.deposit(
            TERMS, account=TERMS.account_a, amount_ucent=amount
        ) == abi.DEPOSIT.selector + encode(
            [TERMS_TYPE, "address", "uint256"], [terms_tuple(TERMS), account, amount]
        )
        assert abi.approve(TERMS.account_a, amount) == abi.APPROVE.selector + encode(
            ["address", "uint256"], [account, amount]
        )


@pytest.mark.parametrize("total", [0, 1, TRANSFERRED_MAX])
def test_close_is_encoded_as_eth_abi_does(total: int) -> None:
    content = CloseTerms(transferred_a_ucent=total, transferred_b_ucent=7, expires=2**64 - 1)
    found = abi.close(TERMS, content, signature_a=SIGNATURE_A, signature_b=SIGNATURE_B)
    assert found == abi.CLOSE.selector + encode(
        [TERMS_TYPE, "uint256", "uint256", "uint64", "bytes", "bytes"],
        [terms_tuple(TERMS), total, 7, 2**64 - 1, SIGNATURE_A, SIGNATURE_B],
    )


@pytest.mark.parametrize("count", [1, 2, 3, 128])
def test_settle_is_encoded_as_eth_abi_does(count: int) -> None:
    rows: list[SettleRow] = []
    expected: list[tuple[object, ...]] = []
    for number in range(count):
        nonce = NONCE_MAX if number == 1 else number + 1
        transferred = TRANSFERRED_MAX if number == 1 else nonce + 5
        total = LaneTotal(nonce=nonce, transferred_ucent=transferred, history=b"\x31" * 32)
        side = Side(number % 2)
        made = voucher((HUB, ALICE)[side], TERMS.account(side), total)
        signed = number != 2
        rows.append(SettleRow(terms=TERMS, voucher=made, signed=signed))
        signature = made.signature if signed else b""
        expected.append(
            (terms_tuple(TERMS), int(side), nonce, transferred, b"\x31" * 32, bytes(32), signature)
        )
    row_type = f"({TERMS_TYPE},uint256,uint256,uint256,bytes32,bytes32,bytes)[]"
    assert abi.settle(rows) == abi.SETTLE.selector + encode([row_type], [expected])


def test_what_the_contract_cannot_take_is_refused() -> None:
    total = LaneTotal(nonce=1, transferred_ucent=1, history=b"\x31" * 32)
    row = SettleRow(terms=TERMS, voucher=voucher(ALICE, TERMS.account_b, total))
    stranger = SettleRow(terms=TERMS, voucher=voucher(ALICE, ALICE.address, total))
    refusals: tuple[Callable[[], object], ...] = (
        lambda: abi.settle([]),
        lambda: abi.settle([row] * 257),
        lambda: abi.settle([stranger]),
        lambda: abi.start_close(TERMS, expires=2**64, signature=b""),
        lambda: abi.start_close(TERMS, expires=-1, signature=b""),
        lambda: abi.start_close(TERMS, expires=0, signature=bytes(64)),
        lambda: abi.approve(TERMS.account_a, 2**256),
        lambda: abi.approve(Address(b"\x01" * 19), 1),
    )
    for refused in refusals:
        with pytest.raises(NotEncodable):
            refused()


# Each event as the chain would log it: indexed values, other values, and our record's fields.
EVENT_VALUES: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "Opened": (
        [CHANNEL, address_to_hex(TERMS.account_a), address_to_hex(TERMS.account_b)],
        [
            address_to_hex(TERMS.signer_a),
            address_to_hex(TERMS.signer_b),
            TERMS.challenge_seconds,
            TERMS.challenge_blocks,
            TERMS.sequence,
            address_to_hex(HUB.address),
            2**76 - 1,
        ],
        {"terms": TERMS, "funder": HUB.address, "deposit_ucent": 2**76 - 1},
    ),
    "Deposited": (
        [CHANNEL, address_to_hex(TERMS.account_b)],
        [address_to_hex(HUB.address), 5, 9],
        {
            "account": TERMS.account_b,
            "funder": HUB.address,
            "amount_ucent": 5,
            "deposit_total_ucent": 9,
        },
    ),
    "Settled": (
        [CHANNEL, address_to_hex(TERMS.account_a)],
        [NONCE_MAX, 0, TRANSFERRED_MAX, b"\x77" * 32],
        {
            "payer": TERMS.account_a,
            "nonce": NONCE_MAX,
            "transferred_before_ucent": 0,
            "transferred_ucent": TRANSFERRED_MAX,
            "history": b"\x77" * 32,
        },
    ),
    "RowSkipped": ([255, CHANNEL], [7], {"index": 255, "reason": 7}),
    "Withdrawn": (
        [CHANNEL, address_to_hex(TERMS.account_a)],
        [1, 2],
        {"account": TERMS.account_a, "amount_ucent": 1, "total_ucent": 2},
    ),
    "CloseStarted": (
        [CHANNEL, address_to_hex(ALICE.address)],
        [2**64 - 1, 12],
        {"by": ALICE.address, "deadline_seconds": 2**64 - 1, "deadline_block": 12},
    ),
    "Closed": (
        [CHANNEL],
        [1, 2, 3, 4, True],
        {"transferred_a_ucent": 1, "payout_b_ucent": 4, "cooperative": True},
    ),
    "Credited": (
        [CHANNEL, address_to_hex(TERMS.account_a)],
        [6],
        {"account": TERMS.account_a, "amount_ucent": 6},
    ),
    "Claimed": (
        [address_to_hex(TERMS.account_a)],
        [6],
        {"account": TERMS.account_a, "amount_ucent": 6},
    ),
}


def rpc_log(name: str, *, block: int = 9, index: int = 1) -> Entry:
    entry = next(e for e in load("payment_channels").abi if e.get("name") == name)
    indexed, data, _ = EVENT_VALUES[name]
    kinds = [each["type"] for each in entry["inputs"] if each["indexed"]]
    topics = [encode([kind], [value]) for kind, value in zip(kinds, indexed, strict=True)]
    signature = f"{name}({','.join(each['type'] for each in entry['inputs'])})"
    others = [each["type"] for each in entry["inputs"] if not each["indexed"]]
    return {
        "address": address_to_hex(DEPLOYMENT.payment_channels),
        "topics": [to_hex(t) for t in (keccak256(signature.encode()), *topics)],
        "data": to_hex(encode(others, data)),
        "blockNumber": hex(block),
        "blockHash": to_hex(b"\x0b" * 32),
        "transactionHash": to_hex(b"\x0c" * 32),
        "transactionIndex": "0x0",
        "logIndex": hex(index),
        "removed": False,
    }


@pytest.mark.parametrize("name", EVENT_VALUES)
def test_each_event_is_decoded(name: str) -> None:
    (log,) = decode_logs(DEPLOYMENT, [rpc_log(name)], maximum=1)
    assert type(log).__name__ == f"{name}Log"
    assert (log.place.block, log.place.log_index) == (9, 1)
    assert getattr(log, "channel", CHANNEL) == CHANNEL
    for field, value in EVENT_VALUES[name][2].items():
        assert getattr(log, field) == value


def test_every_event_of_the_contract_is_among_the_cases() -> None:
    assert set(EVENT_VALUES) == {shape.signature.split("(")[0] for shape in logs.EVENTS}


def test_logs_come_in_chain_order_and_without_other_contracts() -> None:
    stranger = rpc_log("Claimed") | {"address": address_to_hex(DEPLOYMENT.city_credit)}
    answer = [
        rpc_log("Settled", block=9, index=2),
        rpc_log("Credited", block=10, index=0),
        stranger,
        rpc_log("Opened", block=9, index=1),
    ]
    found = decode_logs(DEPLOYMENT, answer, maximum=4)
    assert [type(log).__name__ for log in found] == ["OpenedLog", "SettledLog", "CreditedLog"]


WORD = "00" * 31


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Settled", {"removed": True}),
        ("Settled", {"topics": []}),
        ("Settled", {"topics": None}),
        ("Settled", {"topics": ["0x" + "12" * 32]}),
        ("Settled", {"topics": rpc_log("Settled")["topics"][:2]}),
        ("Settled", {"topics": rpc_log("Settled")["topics"] * 2}),
        ("Settled", {"data": "0x"}),
        ("Settled", {"data": rpc_log("Settled")["data"] + "00" * 32}),
        ("Settled", {"data": rpc_log("Settled")["data"][:-1]}),
        ("Settled", {"blockNumber": None}),
        ("Settled", {"blockHash": "0x00"}),
        ("Settled", {"logIndex": "1"}),
        ("Settled", {"address": "0x"}),
        ("CloseStarted", {"data": "0x" + "ff" * 64}),
        ("Closed", {"data": "0x" + (WORD + "02") * 5}),
        ("Deposited", {"data": "0x" + "ff" * 96}),
        ("RowSkipped", {"data": "0x" + "00" * 30 + "0100"}),
        ("Opened", {"data": rpc_log("Opened")["data"].replace("ff" * 8, "00" * 7 + "05")}),
        ("Opened", {"data": "0x" + "00" * 32 * 7}),
    ],
)
def test_a_log_that_cannot_be_is_refused(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(RpcUnusable):
        decode_logs(DEPLOYMENT, [rpc_log(name) | change], maximum=1)


@pytest.mark.parametrize("answer", [None, {}, [5], [None], "0x", [rpc_log("Claimed")] * 2])
def test_what_is_no_list_of_logs_is_refused(answer: object) -> None:
    with pytest.raises(RpcUnusable):
        decode_logs(DEPLOYMENT, answer, maximum=1)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"nonce": 0, "gas_limit": 21_000, "fee_per_gas_wei": 0, "data": b""},
        {"nonce": 127, "gas_limit": 128},
        {"nonce": 2**64 - 2, "fee_per_gas_wei": 2**63},
        {"chain_id": 1, "data": bytes(5000)},
    ],
)
def test_a_signed_transaction_is_the_one_that_eth_account_makes(change: dict[str, Any]) -> None:
    fields: Entry = {"chain_id": 20262026, "nonce": 5, "gas_limit": 90_000, "fee_per_gas_wei": 3}
    transaction = Transaction(**({**fields, "to": TERMS.account_a, "data": b"\x01\x02"} | change))
    raw = sign_transaction(transaction, ALICE)
    expected = Account.sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "maxPriorityFeePerGas": transaction.fee_per_gas_wei,
            "maxFeePerGas": transaction.fee_per_gas_wei,
            "gas": transaction.gas_limit,
            "to": address_to_hex(transaction.to),
            "value": 0,
            "data": transaction.data,
        },
        b"\x01" * 32,
    )
    assert raw == bytes(expected.raw_transaction)
    assert keccak256(raw) == bytes(expected.hash)
    assert Account.recover_transaction(raw) == address_to_hex(ALICE.address)
    assert TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["nonce"] == transaction.nonce


def test_each_call_goes_to_its_contract_and_names_itself() -> None:
    calls = ContractCalls(DEPLOYMENT)
    total = LaneTotal(nonce=1, transferred_ucent=1, history=b"\x31" * 32)
    row = SettleRow(terms=TERMS, voucher=voucher(ALICE, TERMS.account_b, total))
    content = CloseTerms(transferred_a_ucent=1, transferred_b_ucent=2, expires=3)
    made = [
        calls.start_close(TERMS),
        calls.finish_close(TERMS),
        calls.settle([row]),
        calls.close(TERMS, content, signature_a=SIGNATURE_A, signature_b=SIGNATURE_B),
        calls.deposit(TERMS, account=TERMS.account_b, amount_ucent=4),
        calls.claim(TERMS.account_b),
        calls.approve(4),
    ]
    by_selector = {m.selector: m for methods in abi.METHODS.values() for m in methods}
    for call in made:
        assert by_selector[call.data[:4]].signature.startswith(call.what + "(")
        token = call.what == "approve"
        assert call.to == (DEPLOYMENT.city_credit if token else DEPLOYMENT.payment_channels)
    (spender, amount) = decode(["address", "uint256"], made[-1].data[4:])
    assert (spender, amount) == (to_hex(DEPLOYMENT.payment_channels), 4)
