"""What one account has sent and the chain may still take or give back: on disk before it is sent.

Rule: one transaction for each nonce is ever meant, and nothing new is sent while an earlier one is
under way. So whatever was sent, lost, sent again or mined late takes effect once; who wants the
same again looks at the chain first, which by then shows what became of it.

What an endpoint says of the account's nonce may be wrong. A call is therefore signed only where the
outbox knows the nonce before it; any other is tried with an empty transaction first, and a gap in
front of a call is filled with empty ones. An empty one does nothing, whenever it is mined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import bounded_json
from ..bounded_json import NotJson
from ..errors import ChainError, LocalError
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
GAP_MAX: Final = 64
"""Nonces before a call that are filled with empty transactions: no reorganisation gives back more
that the outbox has forgotten. What is further ahead was put there by a lie."""
IDLE_MAX: Final = 2 * GAP_MAX
"""Empty transactions kept that no block holds: each new lie adds one, and any may be forgotten."""
EMPTY_GAS: Final = 21_000
"""What an empty transaction costs (EIP-2028's base)."""

_NEXT: Final = "next"
"""The file with the nonce after the newest forgotten transaction of ours that a block held."""
_DIGITS_MAX: Final = 20
"""Of a nonce below 2**64 (EIP-2681)."""


class OutboxUnusable(LocalError):
    """What was sent cannot be written down or read, so nothing is sent."""

    code = "outbox-unusable"
    remedy = "repair the disk or the folder's permissions; a damaged file may be moved away"
    retryable = True


NOT_SENT: Final = (ChainError, OutboxUnusable)
"""Why a transaction did not take effect, or may not have: what a task that sends in the background
says and tries again later. Nothing is lost meanwhile: what is not written down is not sent."""


@dataclass(slots=True, kw_only=True)
class Sent:
    """A signed transaction of ours. `block` is where it was seen mined, or its nonce used up.

    `is_shown` says that a receipt showed it, or one of ours with its nonce; a count alone may lie.
    """

    what: str
    nonce: int
    transaction_hash: bytes
    raw: bytes
    to: Address
    data: bytes
    gas_limit: int
    fee_per_gas_wei: int
    block: int | None = None
    is_shown: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it does nothing but use up its nonce."""
        return not self.data

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
    a block held before; `missing` are nonces in front of one of them that an empty transaction has
    to fill; `stranded` are calls too far ahead to be reached, whose nonces belong to empty ones;
    `strange` says that a nonce was used by a transaction that is none of ours; `block` is the
    newest at which something of ours took its place, 0 if nothing did.
    """

    under_way: tuple[Sent, ...] = ()
    returned: tuple[Sent, ...] = ()
    missing: tuple[int, ...] = ()
    stranded: tuple[Sent, ...] = ()
    strange: bool = False
    block: int = 0


class Outbox:
    """One account's transactions; `folder` None keeps them in memory, for tools that run once."""

    def __init__(self, folder: Path | None = None, *, keep_blocks: int = KEEP_BLOCKS) -> None:
        """Read what an earlier process left; raises `OutboxUnusable`."""
        self._folder = folder
        self._keep_blocks = keep_blocks
        self._rows: dict[bytes, Sent] = {}
        self._forgotten_nonce = 0
        self.trouble: OutboxUnusable | None = None
        """Why the last write failed, so that nothing is sent; None where it did not."""
        if folder is not None:
            for sent in _read(folder):
                self._rows[sent.transaction_hash] = sent
            self._forgotten_nonce = _read_next(folder)

    @property
    def rows(self) -> tuple[Sent, ...]:
        """All that are kept, by nonce."""
        return tuple(sorted(self._rows.values(), key=lambda sent: sent.nonce))

    def vouches_for(self, nonce: int) -> bool:
        """Whether a call may be signed under a nonce: a block held one of ours just before it.

        Without a folder nothing is known of the account, which others use too: any may be.
        """
        shown = (sent.nonce + 1 for sent in self._rows.values() if sent.is_shown)
        return self._folder is None or nonce <= max(self._forgotten_nonce, *shown, 0)

    def add(self, sent: Sent) -> None:
        """Write one down, durably, before it is sent; raises `OutboxUnusable`."""
        idle = [each for each in self.rows if each.is_empty and each.block is None]
        if len(idle) > IDLE_MAX:
            self.forget(idle[-1])  # the furthest ahead
        if len(self._rows) >= ROWS_MAX:
            raise OutboxUnusable(f"{ROWS_MAX} transactions are kept and none is final")
        with self._writing():
            if self._folder is not None:
                write_whole(self._folder / self._name(sent), sent.to_json())
        self._rows[sent.transaction_hash] = sent

    def forget(self, sent: Sent) -> None:
        """Forget one that is final, or that no node holds; raises `OutboxUnusable`.

        The nonce after one that a block held is kept.
        """
        with self._writing():
            if self._folder is not None:
                if sent.is_shown and sent.nonce >= self._forgotten_nonce:
                    write_whole(self._folder / _NEXT, str(sent.nonce + 1).encode())
                    self._forgotten_nonce = sent.nonce + 1
                (self._folder / self._name(sent)).unlink(missing_ok=True)
        self._rows.pop(sent.transaction_hash, None)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"{self._folder} cannot be written ({error.strerror})"
            self.trouble = OutboxUnusable(text)
            raise self.trouble from error
        self.trouble = None

    @staticmethod
    def _name(sent: Sent) -> str:
        return f"{sent.nonce:012d}-{sent.transaction_hash[:8].hex()}.json"

    def judge(self, *, count: int, head: int, mined: Mapping[bytes, int]) -> Judgement:
        """Compare with the chain: the account's nonce `count`, then the newest block `head`.

        `mined` says in which block each of ours is that any block holds. A nonce that is used
        although no receipt is ours was used by another transaction, or its receipt is kept back:
        the state at `head` shows what it did either way.
        """
        waiting: list[Sent] = []
        returned: list[Sent] = []
        newest, strange = 0, False
        known = [s for s in self._rows.values() if not (s.is_empty and s.block is None)]
        known += [s for s in self._rows.values() if s.transaction_hash in mined]
        expected = max((sent.nonce + 1 for sent in known), default=count)
        placed = {s.nonce for s in self._rows.values() if s.transaction_hash in mined}
        for sent in self.rows:
            block = mined.get(sent.transaction_hash)
            if block is None and sent.nonce >= count:
                if sent.nonce in placed:
                    continue  # replaced by one of ours, of which the account's count lags
                if sent.block is not None:
                    returned.append(sent)
                    sent.block, sent.is_shown = None, False
                waiting.append(sent)
                continue
            if block is None and sent.nonce not in placed and sent.block is None:
                strange = True
            sent.block = block or sent.block or head
            sent.is_shown = sent.is_shown or sent.nonce in placed
            newest = max(newest, sent.block)
            if sent.block + self._keep_blocks <= head:
                self.forget(sent)
        calls = [sent for sent in waiting if not sent.is_empty]
        ahead = [sent.nonce for sent in calls if sent.nonce - count <= GAP_MAX]
        reach = max(ahead, default=count)
        held = placed | {sent.nonce for sent in waiting}
        return Judgement(
            under_way=tuple(sent for sent in waiting if sent.nonce <= reach),
            returned=tuple(returned),
            missing=tuple(n for n in range(count, reach) if n not in held),
            stranded=tuple(sent for sent in calls if sent.nonce > reach),
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


def _read_next(folder: Path) -> int:
    path = folder / _NEXT
    try:
        with path.open("rb") as file:
            content = file.read(_DIGITS_MAX + 1)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise OutboxUnusable(f"{path} cannot be read ({error.strerror})") from error
    if not content.isdigit() or len(content) > _DIGITS_MAX:
        raise OutboxUnusable(f"{path} is damaged")
    return int(content)


def _octets(text: object) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"{text!r} is not hex data")
    return bytes.fromhex(text[2:])
