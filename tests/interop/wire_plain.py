"""Every message of docs/protocol.md, encoded by plain code that shares nothing with ours.

One row of MESSAGES for each row of the page's table; all bounds follow from the fields' kinds.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from .forms import filled, hexed, unhex
from .make_receipts import PLAIN, cbor_map

Item: TypeAlias = "bytes | list[Item]"
Fields: TypeAlias = dict[str, Any]

CLOSE = (
    "channel bytes32, transferred_a_ucent uint96, transferred_b_ucent uint96, expires uint64, "
    "signature bytes65"
)
WITHDRAWAL = (
    "channel bytes32, account bytes20, total_ucent uint96, expires uint64, signature bytes65"
)
MESSAGES: tuple[tuple[int, str, str], ...] = (
    (
        1,
        "Hello",
        "version uint16, features uint64, chain_id uint64, contract bytes20, signer bytes20, "
        "peer bytes20, nonce bytes32",
    ),
    (2, "Challenge", "version uint16, features uint64, signer bytes20, nonce bytes32"),
    (3, "Authenticate", "signature bytes65"),
    (4, "Error", "code text, channel bytes0or32, text text, what_to_do text"),
    (5, "Ping", "token uint64"),
    (6, "Pong", "token uint64"),
    (8, "ChannelProposal", "account bytes20, challenge_seconds uint64, challenge_blocks uint64"),
    (
        9,
        "ChannelTerms",
        "account_a bytes20, signer_a bytes20, account_b bytes20, signer_b bytes20, "
        "challenge_seconds uint64, challenge_blocks uint64, sequence uint64",
    ),
    (10, "Reestablish", "channel bytes32, sent signed, received signed"),
    (16, "Update", "channel bytes32, first_nonce nonce, signature bytes65, payments payments"),
    (17, "Ack", "channel bytes32, nonce uint64, history bytes32"),
    (24, "SubmitReadings", "id bytes16, format uint8, senml bytes"),
    (25, "ReadingOutcome", "id bytes16, outcomes outcomes"),
    (
        32,
        "PaymentRequest",
        "channel bytes32, id bytes16, amount_ucent uint96, purpose text, expires uint64",
    ),
    (33, "PaymentRefused", "id bytes16, code text, text text"),
    (40, "CloseRequest", "channel bytes32"),
    (41, "CloseOffer", CLOSE),
    (42, "CloseAccept", CLOSE),
    (44, "WithdrawalOffer", WITHDRAWAL),
    (45, "WithdrawalAccept", WITHDRAWAL),
    (
        48,
        "VoucherDeposit",
        "channel bytes32, account_a bytes20, signer_a bytes20, account_b bytes20, "
        "signer_b bytes20, challenge_seconds uint64, challenge_blocks uint64, sequence uint64, "
        "nonce uint64, transferred_ucent uint96, history bytes32, conditions bytes32, "
        "signature bytes65",
    ),
    (49, "VoucherKept", "channel bytes32, nonce uint64, transferred_ucent uint96"),
)
PACKED = ("Update", "Ack")

SIGNED = {
    "nonce": "3",
    "transferred_ucent": "12500",
    "history": filled(7, 32),
    "conditions": filled(0, 32),
    "signature": filled(9, 65),
}
OUTCOME = {
    "amount_ucent": "12500",
    "nonce": "3",
    "code": "",
    "text": "",
    "what_to_do": "",
}
PAYMENT = {
    "amount_ucent": "12500",
    "type": "1",
    "salt": filled(5, 32),
    "receipt": hexed(cbor_map(PLAIN["reward"])),
}


# The values of each kind: a plain one last, its bounds before it.


def numbers(bits: int, seed: int) -> list[Any]:
    values = (0, 1, 127, 128, 255, 2 ** (bits - 8), 2**bits - 2, 2**bits - 1)
    return [str(n) for n in dict.fromkeys((*values, (seed * 7919 + 300) % 2**bits))]


def signed_values() -> list[Any]:
    most = str(2**64 - 1), str(2**96 - 1)
    return [
        None,
        SIGNED | {"nonce": "1", "transferred_ucent": "1"},
        SIGNED | {"nonce": most[0], "transferred_ucent": most[0]},
        SIGNED | {"nonce": most[0], "transferred_ucent": most[1]},
        SIGNED | {"history": filled(0xFF, 32), "conditions": filled(0xFF, 32)},
        {**SIGNED, "nonce": "0", "transferred_ucent": "0", "history": filled(0, 32)},
        SIGNED,
    ]


def payments_values() -> list[Any]:
    short = PAYMENT | {"type": "2", "receipt": "0x"}
    return [
        [PAYMENT | {"amount_ucent": "1"}],
        [PAYMENT | {"amount_ucent": str(2**96 - 1)}],
        [PAYMENT | {"type": "3", "receipt": filled(0x61, 1024)}],
        [short],
        [short | {"amount_ucent": str(n)} for n in range(1, 12)],
        [PAYMENT, short],
    ]


def outcomes_values() -> list[Any]:
    refused = {"code": "too-soon", "text": "zu früh", "what_to_do": "wait", "amount_ucent": "0"}
    return [
        [],
        [OUTCOME | {"amount_ucent": str(2**96 - 1), "nonce": str(2**64 - 1)}],
        [OUTCOME | {"amount_ucent": "0", "nonce": "0"}],
        [OUTCOME] * 64,
        [OUTCOME, OUTCOME | refused],
    ]


def values(kind: str, seed: int) -> list[Any]:
    if kind.startswith("uint"):
        return numbers(int(kind.removeprefix("uint")), seed)
    if kind == "bytes0or32":
        return ["0x", filled(0, 32), filled(0xFF, 32), filled(seed, 32)]
    if kind == "bytes":
        lengths = (0, 1, 55, 56, 255, 256, 1025)
        return ["0x7f", "0x80", "0x00", *(filled(0x5B, n) for n in lengths), hexed(b'[{"v":1}]')]
    if kind.startswith("bytes"):
        size = int(kind.removeprefix("bytes"))
        return [filled(0, size), filled(0xFF, size), filled(seed, size)]
    return {
        "nonce": ["1", "2", str(2**64 - 1), "3"],
        "text": ["", "x", "x" * 55, "x" * 56, "x" * 512, "é" * 256, "€🌳"],
        "signed": signed_values(),
        "payments": payments_values(),
        "outcomes": outcomes_values(),
    }[kind]


def kinds_of(fields: str) -> dict[str, str]:
    return dict(field.split(" ") for field in fields.split(", "))


def values_of(fields: str) -> dict[str, list[Any]]:
    """The values of each field; the seed keeps two fields of a kind from having the same."""
    kinds = kinds_of(fields).items()
    return {name: values(kind, seed) for seed, (name, kind) in enumerate(kinds, 3)}


def plain_of(fields: str) -> Fields:
    return {name: some[-1] for name, some in values_of(fields).items()}


def variants(fields: str) -> Iterator[Fields]:
    """A plain message, each field at each of its bounds, all at the first and at the last."""
    plain = plain_of(fields)
    yield plain
    bounds = {name: some[:-1] for name, some in values_of(fields).items()}
    for name, some in bounds.items():
        for value in some:
            yield plain | {name: value}
    for extreme in (0, -1):
        yield {name: some[extreme] for name, some in bounds.items()}


# Encoding: docs/protocol.md, "Frames" and "Messages".


def integer(text: str) -> bytes:
    number = int(text)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def rlp(item: Item) -> bytes:
    """Ethereum yellow paper, appendix B."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return prefix(0x80, len(item)) + item
    content = b"".join(rlp(one) for one in item)
    return prefix(0xC0, len(content)) + content


def prefix(base: int, size: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    length = integer(str(size))
    return bytes([base + 55 + len(length)]) + length


def item(kind: str, value: Any) -> Item:
    if kind.startswith("uint") or kind == "nonce":
        return integer(value)
    if kind.startswith("bytes"):
        return unhex(value)
    if kind == "text":
        encoded: bytes = value.encode()
        return encoded
    if kind == "signed":
        if value is None:
            return []
        parts = ("history", "conditions", "signature")
        counters = [integer(value["nonce"]), integer(value["transferred_ucent"])]
        return [*counters, *(unhex(value[part]) for part in parts)]
    return [
        [
            integer(row["amount_ucent"]),
            integer(row["nonce"]),
            *(row[name].encode() for name in ("code", "text", "what_to_do")),
        ]
        for row in value
    ]


def packed(name: str, fields: Fields) -> bytes:
    """The record of a hot message: fixed widths, no RLP inside."""
    channel = unhex(fields["channel"])
    if name == "Ack":
        return channel + int(fields["nonce"]).to_bytes(8, "big") + unhex(fields["history"])
    record = channel + int(fields["first_nonce"]).to_bytes(8, "big") + unhex(fields["signature"])
    record += len(fields["payments"]).to_bytes(2, "big")
    for payment in fields["payments"]:
        receipt = unhex(payment["receipt"])
        record += int(payment["amount_ucent"]).to_bytes(12, "big") + bytes([int(payment["type"])])
        record += len(receipt).to_bytes(2, "big") + unhex(payment["salt"]) + receipt
    return record


def items(number: int, name: str, kinds: dict[str, str], fields: Fields) -> list[Item]:
    if name in PACKED:
        return [bytes([number]), packed(name, fields)]
    return [bytes([number]), *(item(kind, fields[field]) for field, kind in kinds.items())]


def payload_of(name: str, fields: Fields) -> bytes:
    """The payload of a frame with this message."""
    number, _, described = next(row for row in MESSAGES if row[1] == name)
    return rlp(items(number, name, kinds_of(described), fields))


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def messages() -> list[dict[str, Any]]:
    found = []
    for number, name, described in MESSAGES:
        seen = set()
        for fields in variants(described):
            payload = payload_of(name, fields)
            if payload not in seen:
                seen.add(payload)
                row = {"number": number, "message": name, "fields": fields}
                found.append(row | {"payload": hexed(payload)})
    return found
