"""Reads receipts files (JSON lines, one payment a line) into lanes, naming every bad line.

The format is in docs/protocol.md. Several files may tell of the same payment, as a hub's and a
wallet's do: the same content counts once, different content is an equivocation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from ...channels import bounded_json
from ...channels.bounded_json import NotJson
from ...channels.errors import FarthingError
from ...channels.ids import (
    WORD_BYTES,
    Address,
    address_from_hex,
    address_to_hex,
    bytes_from_hex,
    channel_from_hex,
    to_hex,
)
from ...channels.receipt import RECEIPT_BYTES_MAX, MalformedReceipt, Receipt, ReceiptType
from ...channels.units import NONCE_MAX, TRANSFERRED_MAX
from .errors import UnreadableFile
from .records import Code, Finding, LaneId, LaneReceipts, ReceiptRecord, Receipts

LINE_BYTES_MAX = 16 * 1024
"""Several times the longest line that the format allows; a longer one is not read into memory."""

MALFORMED_MAX = 100
"""Lines of one file named one by one; more of them mean that it is not a receipts file."""

LINE_VERSION = 1
_KEYS = frozenset(
    {"v", "channel", "payer", "payee", "nonce", "amount_ucent", "type", "receipt", "salt"}
)


class _BadLine(Exception):
    """Why a line is no payment; never leaves this module."""


def read_receipts(paths: Sequence[Path]) -> Receipts:
    """Read all files; raises `UnreadableFile` for one that cannot be opened and read."""
    reader = ReceiptsReader()
    for path in paths:
        try:
            with path.open("rb") as file:
                reader.add(str(path), _lines(file))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UnreadableFile(f"the receipts file {path} cannot be read ({reason})") from None
    return reader.receipts()


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    # Bounded pieces: a file without line ends must not fill the memory.
    while line := file.readline(LINE_BYTES_MAX):
        yield line
        while len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)


class ReceiptsReader:
    """Takes the lines of one file after the other and gives back what all of them tell."""

    def __init__(self) -> None:
        self._lanes: dict[LaneId, LaneReceipts] = {}
        self._findings: list[Finding] = []
        self._count = 0
        self._paid_ucent = 0
        self._blocks: set[int] = set()

    def add(self, name: str, lines: Iterable[bytes]) -> None:
        """Take the lines of the file of that name; blank ones count for nothing."""
        malformed = 0
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            try:
                self._add_line(place, line)
            except _BadLine as problem:
                malformed += 1
                if malformed <= MALFORMED_MAX:
                    self._find(Code.MALFORMED_LINE, place, f"{place}: {problem}")
        if malformed > MALFORMED_MAX:
            rest = malformed - MALFORMED_MAX
            self._find(Code.MALFORMED_LINE, name, f"{name}: {rest} more lines are no payments")

    def receipts(self) -> Receipts:
        """All that was read so far."""
        return Receipts(
            lanes=self._lanes,
            findings=tuple(self._findings),
            count=self._count,
            paid_ucent=self._paid_ucent,
            blocks=frozenset(self._blocks),
        )

    def _find(self, code: Code, place: str, text: str) -> None:
        self._findings.append(Finding(code=code, subject=place, text=text))

    def _add_line(self, place: str, line: bytes) -> None:
        lane, record, problem = _parse(place, line)
        known = self._lanes.setdefault(lane, {}).get(record.nonce, ())
        if any(_same(record, other) for other in known):
            return
        self._lanes[lane][record.nonce] = (*known, record)
        self._findings += _judge(lane, record, problem, known)
        if record.block is not None:
            self._blocks.add(record.block)
        if not known:
            self._count += 1
            self._paid_ucent += record.amount_ucent


def _same(one: ReceiptRecord, other: ReceiptRecord) -> bool:
    return (
        one.amount_ucent == other.amount_ucent
        and one.payee == other.payee
        and one.receipt == other.receipt
    )


def _judge(
    lane: LaneId, record: ReceiptRecord, problem: str, known: tuple[ReceiptRecord, ...]
) -> Iterator[Finding]:
    def found(code: Code, what: str) -> Finding:
        return Finding(
            code=code,
            subject=record.place,
            channel=lane.channel,
            payer=lane.payer,
            nonce=record.nonce,
            text=f"{record.place}: nonce {record.nonce} of payer {address_to_hex(lane.payer)} in "
            f"channel {to_hex(lane.channel)}: {what}",
        )

    if problem:
        yield found(Code.MALFORMED_RECEIPT, problem)
    elif record.stated_ucent != record.amount_ucent:
        yield found(
            Code.AMOUNT_DIFFERS,
            f"the line says {record.amount_ucent} µ¢, its receipt says {record.stated_ucent} µ¢",
        )
    if known:
        yield found(
            Code.EQUIVOCATION,
            f"it tells another payment than {', '.join(other.place for other in known)}",
        )


def _parse(place: str, line: bytes) -> tuple[LaneId, ReceiptRecord, str]:
    """The lane, the payment, and what is wrong with the content of its receipt, if anything is."""
    fields = _fields(line)
    try:
        lane = LaneId(
            channel=_channel(_text(fields, "channel")), payer=_address(_text(fields, "payer"))
        )
        payee = _address(_text(fields, "payee"))
        receipt = Receipt(
            type=ReceiptType(_number(fields, "type", max(ReceiptType))),
            cbor=_cbor(_text(fields, "receipt")),
            salt=bytes_from_hex(_text(fields, "salt"), WORD_BYTES, what="salt"),
        )
    except FarthingError as error:
        raise _BadLine(error.text) from None
    content: dict[str, Any] = {}
    problem = ""
    try:
        content = receipt.fields()
    except MalformedReceipt as error:
        problem = error.text
    record = ReceiptRecord(
        place=place,
        payee=payee,
        nonce=_number(fields, "nonce", NONCE_MAX),
        amount_ucent=_number(fields, "amount_ucent", TRANSFERRED_MAX),
        receipt=receipt,
        stated_ucent=content.get("amount"),
        block=content.get("block"),
        at=content.get("at"),
    )
    return lane, record, problem


def _fields(line: bytes) -> dict[str, Any]:
    if len(line) >= LINE_BYTES_MAX:
        raise _BadLine(f"the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        fields = bounded_json.parse(line, object_pairs_hook=_unique)
    except NotJson:
        raise _BadLine("the line is not JSON") from None
    if not isinstance(fields, dict):
        raise _BadLine("the line is not a JSON object")
    if fields.keys() != _KEYS:
        odd = sorted(fields.keys() ^ _KEYS)
        raise _BadLine(f"these fields are missing or unknown: {', '.join(odd)[:200]}")
    if type(fields["v"]) is not int or fields["v"] != LINE_VERSION:
        raise _BadLine(f"the line has no version {LINE_VERSION}")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers disagree on which of two equal keys counts, so a line with two tells two payments.
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        raise _BadLine(f"the field {twice[0]!r} stands there twice")
    return fields


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise _BadLine(f"{key!r} is not a text")
    return value


def _number(fields: dict[str, Any], key: str, maximum: int) -> int:
    value = fields[key]
    if type(value) is not int or not 1 <= value <= maximum:
        raise _BadLine(f"{key!r} is not a whole number between 1 and {maximum}")
    return value


def _cbor(text: str) -> bytes:
    size = (len(text) - 2) // 2
    if size > RECEIPT_BYTES_MAX:
        raise _BadLine(f"the receipt is longer than {RECEIPT_BYTES_MAX} bytes")
    return bytes_from_hex(text, size, what="receipt")


# Few channels and accounts stand on many lines: each is decoded once and held once.
_channel = lru_cache(maxsize=65_536)(channel_from_hex)


@lru_cache(maxsize=65_536)
def _address(text: str) -> Address:
    return address_from_hex(text)
