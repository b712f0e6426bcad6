"""What one account has sent and the chain may still take or give back: on disk before it is sent.

Rule: one transaction for each nonce is ever meant, and nothing new is sent while an earlier one is
under way. So whatever was sent, lost, sent again or mined late takes effect once; who wants the
same again looks at the chain first, which by then shows what became of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import bounded_json
from ..bounded_json import NotJson
from ..errors import LocalError
from ..hashing import keccak256
from ..ids import Address, to_hex
from .durable_file import make_folder, write_whole

KEEP_BLOCKS: Final = 12
"""Blocks on top of a transaction after which it is forgotten, where more do not confirm it: a
reorganisation that gives it back is deeper than any that a proof-of-authority chain has shown."""
ROWS_MAX: Final = 1_000
"""Transactions kept at one time: each is in one of the newest blocks, so a few at most."""
FILE_BYTES_MAX: Final = 2 << 20
"""Four times the largest transaction that a node takes, as hex and as its parts."""


class OutboxUnusable(LocalError):
    """What was sent cannot be written down or read, so nothing is sent."""

    code = "outbox-unusable"
    remedy = "repair the disk or the folder's permissions; a damaged file may be moved away"


@dataclass(slots=True, kw_only=True)
class Sent:
    """A signed transaction of ours. `block` is where it was seen mined, or its nonce used up."""

    what: str
    nonce: int
    transaction_hash: bytes
    raw: bytes
    to: Address
    data: bytes
    gas_limit: int
    fee_per_gas_wei: int
    block: int | None = None

    def to_json(self) -> bytes:
        """Everything but the block, which the chain is asked for."""
        record = {
            "what": self.what,
            "nonce": self.nonce,
            "hash": to_hex(self.transaction_hash),
            "raw": to_hex(self.raw),
            "to": to_hex(self.to),
            "data": to_hex(self.data),
            "gas_limit": self.gas_limit,
            "fee_per_gas_wei": self.fee_per_gas_wei,
        }
        return json.dumps(record).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Sent:
        """Read what `to_json` wrote; raises `ValueError`, `LookupError`, `TypeError`."""
        record: Any = bounded_json.parse(content)
        raw, transaction_hash = _octets(record["raw"]), _octets(record["hash"])
        if keccak256(raw) != transaction_hash:
            raise ValueError("the hash is that of another transaction")
        return cls(
            what=str(record["what"]),
            nonce=int(record["nonce"]),
            transaction_hash=transaction_hash,
            raw=raw,
            to=Address(_octets(record["to"])),
            data=_octets(record["data"]),
            gas_limit=int(record["gas_limit"]),
            fee_per_gas_wei=int(record["fee_per_gas_wei"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a look at the chain says of what was sent.

    `under_way` may still be mined, and belongs to be sent again; `returned` are those of them that
    a block held before; `strange` says that a nonce was used by a transaction that is none of ours;
    `block` is the newest at which something of ours took its place, 0 if nothing did.
    """

    under_way: tuple[Sent, ...] = ()
    returned: tuple[Sent, ...] = ()
    strange: bool = False
    block: int = 0


class Outbox:
    """One account's transactions; `folder` None keeps them in memory, for tools that run once."""

    def __init__(self, folder: Path | None = None, *, keep_blocks: int = KEEP_BLOCKS) -> None:
        """Read what an earlier process left; raises `OutboxUnusable`."""
        self._folder = folder
        self._keep_blocks = keep_blocks
        self._rows: dict[bytes, Sent] = {}
        if folder is not None:
            for sent in _read(folder):
                self._rows[sent.transaction_hash] = sent

    @property
    def rows(self) -> tuple[Sent, ...]:
        """All that are kept, by nonce."""
        return tuple(sorted(self._rows.values(), key=lambda sent: sent.nonce))

    def add(self, sent: Sent) -> None:
        """Write one down, durably, before it is sent; raises `OutboxUnusable`."""
        if len(self._rows) >= ROWS_MAX:
            raise OutboxUnusable(f"{ROWS_MAX} transactions are kept and none is final")
        if self._folder is not None:
            _write(self._folder, self._name(sent), sent.to_json())
        self._rows[sent.transaction_hash] = sent

    def forget(self, sent: Sent) -> None:
        """Forget one that is final, or that no node holds. One that comes back is judged again."""
        self._rows.pop(sent.transaction_hash, None)
        if self._folder is not None:
            (self._folder / self._name(sent)).unlink(missing_ok=True)

    @staticmethod
    def _name(sent: Sent) -> str:
        return f"{sent.nonce:012d}-{sent.transaction_hash[:8].hex()}.json"

    def judge(self, *, count: int, head: int, mined: Mapping[bytes, int]) -> Judgement:
        """Compare with the chain: the account's nonce `count`, then the newest block `head`.

        `mined` says in which block each of ours is that any block holds. A nonce that is used
        although no receipt is ours was used by another transaction, or its receipt is kept back:
        the state at `head` shows what it did either way.
        """
        under_way: list[Sent] = []
        returned: list[Sent] = []
        newest, strange = 0, False
        expected = max((sent.nonce + 1 for sent in self._rows.values()), default=count)
        placed = {s.nonce for s in self._rows.values() if s.transaction_hash in mined}
        for sent in self.rows:
            block = mined.get(sent.transaction_hash)
            if block is None and sent.nonce >= count:
                if sent.nonce in placed:
                    continue  # replaced by one of ours, of which the account's count lags
                if sent.block is not None:
                    returned.append(sent)
                    sent.block = None
                under_way.append(sent)
                continue
            if block is None and sent.nonce not in placed and sent.block is None:
                strange = True
            sent.block = block or sent.block or head
            newest = max(newest, sent.block)
            if sent.block + self._keep_blocks <= head:
                self.forget(sent)
        return Judgement(
            under_way=tuple(under_way),
            returned=tuple(returned),
            strange=strange or count > expected,
            block=newest,
        )


@dataclass(slots=True)
class Quarrel:
    """Whether somebody else sends from the account: said once, until it has been quiet again."""

    told: bool = False

    def tells(self, *, strange: bool) -> bool:
        """Whether this look is the first that shows it."""
        first = strange and not self.told
        self.told = strange
        return first


def _read(folder: Path) -> list[Sent]:
    try:
        make_folder(folder)
        return [_read_one(path) for path in sorted(folder.glob("*.json"))]
    except OSError as error:
        raise OutboxUnusable(f"{folder} cannot be read ({error.strerror})") from error


def _read_one(path: Path) -> Sent:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX)
    try:
        return Sent.from_json(content)
    except (NotJson, ValueError, LookupError, TypeError) as error:
        raise OutboxUnusable(f"{path} is damaged") from error


def _write(folder: Path, name: str, content: bytes) -> None:
    try:
        write_whole(folder / name, content)
    except OSError as error:
        raise OutboxUnusable(f"{folder} cannot be written ({error.strerror})") from error


def _octets(text: object) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"{text!r} is not hex data")
    return bytes.fromhex(text[2:])
