"""Makes vectors/wire_messages.json: messages, frames, and what is refused of either."""

from collections.abc import Iterator
from typing import Any

from .forms import as_text, filled, hexed, unhex
from .wire_plain import (
    MESSAGES,
    PACKED,
    PAYMENT,
    SIGNED,
    Item,
    framed,
    items,
    kinds_of,
    messages,
    packed,
    payload_of,
    plain_of,
    rlp,
)


def misfits(kind: str, good: Item) -> Iterator[tuple[str, Item]]:
    """Items that do not fit this kind of field."""
    if isinstance(good, list):
        yield "bytes where a list belongs", b"\x01"
        return
    yield "a list where bytes belong", [good]
    if kind.startswith("uint"):
        size = int(kind.removeprefix("uint")) // 8
        yield "a zero that is written", b"\x00"
        yield "a leading zero", b"\x00\x01"
        yield f"2^{8 * size}", b"\x01" + bytes(size)
    elif kind == "text":
        yield "513 bytes", b"x" * 513
        yield "not UTF-8", b"\xff"
        yield "a surrogate", b"\xed\xa0\x80"
        yield "an overlong character", b"\xc0\xaf"
    elif kind == "bytes0or32":
        for size in (1, 31, 33):
            yield f"{size} bytes", bytes(size)
    elif kind != "bytes":
        size = len(good)
        for other in (0, size - 1, size + 1):
            yield f"{other} bytes", b"\x07" * other


def malformed_fields() -> Iterator[tuple[str, bytes]]:
    """Each field of each control message in each wrong form, and one field less and more."""
    for number, name, described in MESSAGES:
        kinds = kinds_of(described)
        good = items(number, name, kinds, plain_of(described))
        yield f"{name}: one item less", rlp(good[:-1])
        yield f"{name}: one item more", rlp([*good, b""])
        if name in PACKED:
            yield f"{name}: a list where bytes belong", rlp([good[0], [good[1]]])
            continue
        for place, (field, kind) in enumerate(kinds.items(), 1):
            for why, wrong in misfits(kind, good[place]):
                yield f"{name} {field}: {why}", rlp([*good[:place], wrong, *good[place + 1 :]])


def plain(name: str) -> Any:
    return plain_of(next(described for _, one, described in MESSAGES if one == name))


def update(**changes: Any) -> bytes:
    return packed("Update", plain("Update") | changes)


def malformed_records() -> Iterator[tuple[str, bytes]]:
    """Packed records whose parts do not agree."""
    good = update()
    head = good[:107]
    one = update(payments=[PAYMENT])[107:]
    count = 105
    for why, record in (
        ("nothing", b""),
        ("shorter than its head", good[:106]),
        ("first nonce 0", update(first_nonce="0")),
        ("no payment", head[:count] + b"\x00\x00"),
        ("a count above its payments", head[:count] + b"\x00\x03" + good[107:]),
        ("a count below its payments", head[:count] + b"\x00\x01" + good[107:]),
        ("a byte left over", good + b"\x00"),
        ("cut in a payment's head", head[:count] + b"\x00\x01" + one[:46]),
        ("cut in a receipt", head[:count] + b"\x00\x01" + one[:-1]),
        ("an amount of 0", update(payments=[PAYMENT | {"amount_ucent": "0"}])),
        ("receipt type 0", update(payments=[PAYMENT | {"type": "0"}])),
        ("receipt type 4", update(payments=[PAYMENT | {"type": "4"}])),
        ("a receipt of 1,025 bytes", update(payments=[PAYMENT | {"receipt": filled(1, 1025)}])),
    ):
        yield f"Update record: {why}", rlp([b"\x10", record])
    ack = packed("Ack", plain("Ack"))
    for why, record in (("nothing", b""), ("71 bytes", ack[:-1]), ("73 bytes", ack + b"\x00")):
        yield f"Ack record: {why}", rlp([b"\x11", record])


def malformed_parts() -> Iterator[tuple[str, bytes]]:
    """Lists inside messages whose values cannot be."""
    for why, change in (
        ("payments without a total", {"transferred_ucent": "2"}),
        ("a total without payments", {"nonce": "0"}),
        ("a history without payments", {"nonce": "0", "transferred_ucent": "0"}),
        ("payments without a history", {"history": filled(0, 32)}),
        ("conditions of 31 bytes", {"conditions": filled(0, 31)}),
        ("a signature of 64 bytes", {"signature": filled(9, 64)}),
    ):
        fields = plain("Reestablish") | {"sent": SIGNED | change}
        yield f"Reestablish sent: {why}", payload_of("Reestablish", fields)
    channel = unhex(plain("Reestablish")["channel"])
    four: list[Item] = [b"\x01", b"\x01", bytes(32), bytes(32)]
    yield "Reestablish sent: four items", rlp([b"\x0a", channel, list(four), []])
    outcome: list[Item] = [b"\x01", b"\x01", b"", b"", b""]
    submission = bytes(16)
    yield "ReadingOutcome: 65 outcomes", rlp([b"\x19", submission, [list(outcome)] * 65])
    yield "ReadingOutcome: four items", rlp([b"\x19", submission, [outcome[:4]]])
    yield "ReadingOutcome: bytes as an outcome", rlp([b"\x19", submission, [b"\x01"]])
    yield "ReadingOutcome: lists too deep", rlp([b"\x19", submission, [[[], b"", b"", b"", b""]]])


def malformed_rlp() -> Iterator[tuple[str, bytes]]:
    """Payloads that are not one canonical list that begins with a number."""
    ping = payload_of("Ping", {"token": "5"})
    long_ping = payload_of("Ping", {"token": str(2**64 - 1)})
    known = {number for number, _, _ in MESSAGES}
    others = {0x7F, 0x80, 0xFF} | {n + step for n in known for step in (-1, 1)} - {0}
    yield "nothing", b""
    yield "bytes instead of a list", b"\x05"
    yield "an empty list", b"\xc0"
    yield "a number that is a list", rlp([[b"\x05"], b"\x05"])
    yield "a number of two bytes", rlp([b"\x01\x05", b"\x05"])
    yield "no number", rlp([b"", b"\x05"])
    yield "number 0", rlp([b"\x00", b"\x05"])
    for number in sorted(others - known):
        yield f"unknown number {number}", rlp([bytes([number]), b"\x05"])
    yield "a byte left over", ping + b"\x00"
    yield "two lists", ping + ping
    yield "cut short", long_ping[:-1]
    yield "only a prefix", long_ping[:1]
    yield "a small byte with a prefix", b"\xc3\x05\x81\x05"
    yield "a short string in the long form", b"\xc5\x05\xb8\x02\x01\x05"
    yield "a short list in the long form", b"\xf8" + ping[:1].replace(b"\xc2", b"\x02") + ping[1:]
    yield "a length with a leading zero", b"\xf9\x00\x02" + ping[1:]
    yield "an item longer than its list", b"\xc2\x05\x82\x01\x01"
    yield "a length of 2^64 - 1", b"\xff" + b"\xff" * 8
    yield "lists nested deep", b"\xc4\xc3\xc2\xc1\xc0"
    yield "513 items", rlp([b"\x05", *[b"\x01"] * 512])


def refused() -> list[dict[str, str]]:
    """Payloads that end the connection, each with its reason."""
    parts = (malformed_rlp, malformed_fields, malformed_records, malformed_parts)
    return [{"why": why, "payload": hexed(payload)} for part in parts for why, payload in part()]


def frames() -> dict[str, Any]:
    """A stream of frames and what it holds, and streams that end the connection."""
    payloads = [payload_of("Ping", {"token": str(n)}) for n in (0, 1, 2**64 - 1)]
    payloads.append(payload_of("Error", plain("Error")))
    most, greeting = 2**20, 1024
    return {
        "stream": hexed(b"".join(framed(payload) for payload in payloads)),
        "payloads": [hexed(payload) for payload in payloads],
        "frame_bytes_max": str(most),
        "greeting_bytes_max": str(greeting),
        "refused": [
            {"why": "an empty frame", "authenticated": True, "stream": hexed(bytes(4))},
            {
                "why": "a frame over 1 MiB",
                "authenticated": True,
                "stream": hexed((most + 1).to_bytes(4, "big")),
            },
            {
                "why": "a frame over 1,024 bytes before authentication",
                "authenticated": False,
                "stream": hexed((greeting + 1).to_bytes(4, "big")),
            },
            {"why": "the longest length", "authenticated": True, "stream": filled(0xFF, 4)},
        ],
    }


def text() -> str:
    table = [
        {"number": number, "message": name, "fields": kinds_of(fields)}
        for number, name, fields in MESSAGES
    ]
    return as_text(
        {"table": table, "messages": messages(), "frames": frames(), "refused": refused()}
    )
