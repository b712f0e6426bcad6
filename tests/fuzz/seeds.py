"""The first inputs of each target: what honest software writes, so that fuzzing starts inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from farthing.channels.client.bundle import Bundle
from farthing.channels.client.folder import Settings
from farthing.channels.client.logs import EVENTS
from farthing.channels.codecs import encode_message
from farthing.channels.eip712 import Domain
from farthing.channels.frames import encode_frame
from farthing.channels.handshake import make_hello
from farthing.channels.messages import Authenticate, Challenge, Message, VoucherDeposit
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.terms import Side

from ..people import ALICE, BOB, CAROL, CHANNEL, DEPLOYMENT, DOMAIN, TERMS, lane, voucher
from .targets import ROOT

VECTORS = ROOT / "tests/interop/vectors"


def _hexes(value: Any, key: str) -> Iterable[bytes]:
    """Every hex text under that key, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield bytes.fromhex(inner.removeprefix("0x"))
            yield from _hexes(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _hexes(inner, key)


def _vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def _messages() -> list[bytes]:
    found = {p for p in _hexes(_vectors("wire_messages"), "payload") if len(p) < 1500}
    return sorted(found, key=lambda p: hashlib.sha256(p).digest())[:80]


def _greetings() -> list[bytes]:
    hello = make_hello(DOMAIN, signer=BOB.address, peer=ALICE.address, nonce=bytes(32))
    other = make_hello(
        Domain(chain_id=1, contract=DOMAIN.contract),
        signer=BOB.address,
        peer=ALICE.address,
        nonce=bytes(32),
    )
    challenge = Challenge(version=1, features=0, signer=ALICE.address, nonce=bytes(32))
    proof = Authenticate(signature=bytes(65))
    stories: tuple[list[Message], ...] = ([hello, proof], [other], [challenge, proof], [proof])
    return [b"".join(encode_frame(encode_message(m)) for m in story) for story in stories]


def _senml() -> list[bytes]:
    found: list[bytes] = [
        b'[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.276020076001e+09,"bu":"A","bver":10,"n":"v",'
        b'"u":"V","v":120.1},{"n":"c","t":-5,"v":1.2},{"n":"d","vs":"on"},{"n":"e","vb":true},'
        b'{"n":"f","vd":"aGkgCg"},{"n":"g","s":4,"bs":1,"bv":2}]',
        b'[{"n":"a","v":1e99,"t":NaN},{"n_":1}]',
        bytes.fromhex("81a300616102410103d81801")[:6],
        bytes.fromhex("82a32169" + b"urn:dev:1".hex() + "22fb41d303a15b00106223614102f93e00"),
        bytes.fromhex("81a2006161" + "02c48221196ab3"),
        bytes.fromhex("9fbf006161" + "021aff00ffffffff"),
    ]
    return found


def _receipts() -> list[bytes]:
    fields = {"amount": 5, "block": 100, "at": 1_800_000_000, "purpose": "parking"}
    made = make_receipt(ReceiptType.USAGE, fields, salt=bytes(32)).cbor
    return [made, *list(_hexes(_vectors("receipts"), "cbor"))[:20]]


def _audit_lines() -> list[bytes]:
    fields = {"amount": 5, "block": 100, "at": 1_800_000_000, "purpose": "parking"}
    line = {
        "v": 1,
        "channel": "0x" + "11" * 32,
        "payer": "0x" + "12" * 20,
        "payee": "0x" + "13" * 20,
        "nonce": 1,
        "amount_ucent": 5,
        "type": int(ReceiptType.USAGE),
        "receipt": "0x" + make_receipt(ReceiptType.USAGE, fields, salt=bytes(32)).cbor.hex(),
        "salt": "0x" + "00" * 32,
    }
    other = {**line, "amount_ucent": 6}
    return [
        json.dumps(line).encode(),
        b"\n".join(json.dumps(one).encode() for one in (line, other)),
    ]


def _answer(result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def _rpc_answers() -> list[bytes]:
    block = {"number": "0x1", "hash": "0x" + "11" * 32, "timestamp": "0x5"}
    log = {
        "address": "0x" + DEPLOYMENT.payment_channels.hex(),
        "topics": ["0x" + "22" * 32, "0x" + "11" * 32],
        "data": "0x" + "00" * 64,
        "blockNumber": "0x1",
        "blockHash": "0x" + "11" * 32,
        "transactionHash": "0x" + "00" * 32,
        "transactionIndex": "0x0",
        "logIndex": "0x0",
        "removed": False,
    }
    outcome = {
        "transactionHash": "0x" + "00" * 32,
        "blockNumber": "0x1",
        "blockHash": "0x" + "11" * 32,
        "status": "0x1",
        "gasUsed": "0x5208",
        "logs": [log],
    }
    error = {"code": 3, "message": "reverted", "data": "0x08c379a0" + "00" * 31 + "20"}
    word = "0x" + "00" * 31 + "01"
    every = [
        {
            **log,
            "topics": ["0x" + shape.topic.hex(), *[word] * len(shape.indexed)],
            "data": "0x" + word[2:] * len(shape.data),
        }
        for shape in EVENTS
    ]
    return [
        _answer(block),
        _answer("0x" + "00" * 32),
        _answer("0x" + "00" * 288),
        _answer([log]),
        *(_answer([one]) for one in every),
        _answer(outcome),
        _answer(None),
        json.dumps({"id": 1, "error": error}).encode(),
        json.dumps([{"id": 2, "result": "0x"}, {"id": 3, "result": "0x"}]).encode(),
    ]


def _requests() -> list[bytes]:
    from farthing.devnet.methods import METHODS  # noqa: PLC0415 - loads an EVM

    call = {"from": "0x" + "11" * 20, "to": "0x" + "12" * 20, "data": "0x", "gas": "0x5208"}
    values: tuple[list[Any], ...] = (
        [],
        ["0x1"],
        ["latest", False],
        ["0x" + "11" * 20, "latest"],
        ["0x" + "11" * 32],
        [call, "latest"],
        [{"fromBlock": "0x0", "toBlock": "latest", "address": [], "topics": [None]}],
    )
    return [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        for method in sorted(METHODS)
        for params in values
    ]


def _wallet_settings() -> list[bytes]:
    record = {
        "version": 1,
        "hub": "127.0.0.1:7171",
        "hub_signer": "0x" + "11" * 20,
        "rpc": "http://127.0.0.1:8545",
        "account": "0x" + "12" * 20,
        "policy": {
            "challenge_seconds_min": 3600,
            "challenge_seconds_max": 604800,
            "challenge_blocks_min": 100,
            "challenge_blocks_max": 100000,
            "confirmations": 0,
        },
        "deployment": json.loads(DEPLOYMENT.to_json()),
    }
    return [json.dumps(record).encode()]


def _keystores() -> list[bytes]:
    def record(kdf: str, **parameters: Any) -> bytes:
        crypto = {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "00" * 16},
            "ciphertext": "11" * 32,
            "kdf": kdf,
            "kdfparams": {"dklen": 32, "salt": "22" * 32, **parameters},
            "mac": "33" * 32,
        }
        return json.dumps({"version": 3, "address": "44" * 20, "crypto": crypto}).encode()

    return [record("scrypt", n=2, r=1, p=1), record("pbkdf2", c=1, prf="hmac-sha256")]


def _bundles() -> list[bytes]:
    (settings,) = _wallet_settings()
    of_one = Bundle(
        signer=BOB.address,
        settings=Settings.from_json(settings.decode()),
        database="0123",
        channels=(TERMS, replace(TERMS, sequence=2)),
        keystore=_keystores()[0].decode(),
    )
    return [of_one.to_bytes(), replace(of_one, keystore=None, database=None).to_bytes()]


def _deposits() -> list[bytes]:
    paid = voucher(Side.A, lane(5, 7))
    total = paid.total
    deposit = VoucherDeposit(
        channel=CHANNEL,
        **asdict(TERMS),
        nonce=total.nonce,
        transferred_ucent=total.transferred_ucent,
        history=total.history,
        conditions=bytes(32),
        signature=paid.signature,
    )
    others: list[dict[str, Any]] = [
        {"nonce": 0, "transferred_ucent": 0},
        {"conditions": bytes([1]) * 32},
        {"signature": bytes(65)},
        {"challenge_seconds": 1},
        {"signer_b": CAROL.address},
        {"account_b": TERMS.account_a},
    ]
    return [encode_message(one) for one in (deposit, *(replace(deposit, **o) for o in others))]


def _text(*paths: str) -> Callable[[], list[bytes]]:
    return lambda: [(ROOT / path).read_bytes() for path in paths]


def _hub_settings() -> list[bytes]:
    lines = [
        'listen_host = "127.0.0.1"',
        "listen_port = 0",
        'rpc_url = "http://127.0.0.1:8545"',
        'deployment_file = "deployment.json"',
        'data_dir = "data"',
        'programme_files = ["city-block.toml"]',
        "deposit_ucent = 10000000",
    ]
    return ["\n".join(lines).encode(), b"[hub]\na = 1.5\n", b"listen_port = 1979-05-27T07:32:00Z"]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "frames": lambda: [b"".join(map(encode_frame, _messages()[:4]))],
    "rlp_items": _messages,
    "messages": _messages,
    "handshake": _greetings,
    "terms": _messages,
    "senml": _senml,
    "receipts": _receipts,
    "audit_receipts": _audit_lines,
    "rpc_answers": _rpc_answers,
    "abi_answers": lambda: [bytes(32), bytes(31) + b"\x01", bytes(64), bytes(288)],
    "audit_rpc": _rpc_answers,
    "devnet": _requests,
    "control_request": lambda: [b'{"method":"status","params":{}}\n'],
    "control_answer": lambda: [
        b'{"result":{}}\n',
        b'{"error":{"kind":"chain","code":"c","text":"t","what_to_do":"w"}}\n',
    ],
    "bounded_json": lambda: [b'{"a":[1,2.5,"x\\ud800",null,true],"b":{}}', b"[[[[]]]]"],
    "deployment": lambda: [DEPLOYMENT.to_json().encode()],
    "wallet_settings": _wallet_settings,
    "bundles": _bundles,
    "deposits": _deposits,
    "keystores": _keystores,
    "hub_settings": _hub_settings,
    "programmes": _text("node/city-block.toml"),
}
"""By target; a test compares the keys."""


def _changed(**values: Any) -> bytes:
    (settings,) = _wallet_settings()
    return json.dumps({**json.loads(settings), **values}).encode()


BROKE: dict[str, list[bytes]] = {
    "control_answer": [
        b"[]",
        b"{}",
        b'{"error":{"kind":"chain","code":"","text":"t","what_to_do":""}}',
        b'{"error":{"text":"t"}}',
    ],
    "audit_rpc": [b'{"error": null}', b'[{"id": []}, {"id": {}}]', b"[" * 100_000],
    "devnet": [b'{"id":1e999,"method":"eth_chainId"}', b'{"id":NaN,"method":"eth_chainId"}'],
    "wallet_settings": [
        _changed(policy={"challenge_seconds_max": "long"}),
        _changed(policy={"challenge_blocks_max": []}),
        _changed(hub="127.0.0.1:000001" + "9" * 5000),
        _changed(hub="127.0.0.1:000001999999"),
    ],
}
"""What broke a target once, or was let through; never left out of the corpus."""
