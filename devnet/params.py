"""Reading the parameters of a JSON-RPC call: every value is checked before the chain sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..channels.ids import ADDRESS_BYTES, WORD_BYTES, ZERO_ADDRESS, Address
from .errors import CallRefused
from .records import Authorization, CallRequest

Read = TypeVar("Read")

UINT256_MAX = 2**256 - 1
UINT64_MAX = 2**64 - 1
UINT8_MAX = 2**8 - 1
TOPIC_PLACES_MAX = 4
TOPIC_CHOICES_MAX = 1_000
ADDRESSES_MAX = 1_000
AUTHORIZATIONS_MAX = 1_000
"""A block's gas pays for 2,400."""
BLOCK_TAGS = ("latest", "pending", "earliest", "safe", "finalized")

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,63})")
_SLOT = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_SHOWN_MAX = 60


class BadParams(CallRefused):
    """A parameter that is missing, too many, or not of its kind."""

    code = "devnet-bad-params"
    rpc_code = -32602


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAt:
    """A block that a caller names: by number, by hash, or the one that would be mined now."""

    number: int | None = None
    hash: bytes | None = None
    pending: bool = False


NO_PERCENTILES: tuple[float, ...] = ()
LATEST = BlockAt()
PENDING = BlockAt(pending=True)


class Params:
    """A call's positional parameters; every reader raises `BadParams` naming the argument."""

    def __init__(self, values: Sequence[object], most: int) -> None:
        if len(values) > most:
            raise BadParams(
                f"too many arguments, want at most {most}", remedy="leave the later ones away"
            )
        self._values = values

    def required(self, index: int, read: Callable[[object], Read]) -> Read:
        """Read an argument that must be there."""
        if index >= len(self._values):
            raise BadParams(f"missing value for required argument {index}")
        try:
            return read(self._values[index])
        except BadParams as error:
            raise BadParams(f"invalid argument {index}: {error.text}") from error

    def optional(self, index: int, read: Callable[[object], Read], default: Read) -> Read:
        """Read an argument that may be absent or null."""
        if index >= len(self._values) or self._values[index] is None:
            return default
        return self.required(index, read)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


def quantity(value: object) -> int:
    """A number as 0x hex without leading zeros, at most 256 bits."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise BadParams(f"{_shown(value)} is not a hex number such as 0x1f (no leading zeros)")
    return int(value, 16)


def amount(value: object) -> int:
    """A number as 0x hex, decimal text or a JSON integer: what the time and mining tools send."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= UINT256_MAX:
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < WORD_BYTES:
        return int(value)
    return quantity(value)


def slot(value: object) -> int:
    """A storage position, with or without leading zeros."""
    if not isinstance(value, str) or not _SLOT.fullmatch(value):
        raise BadParams(f"{_shown(value)} is not a storage position of up to 32 bytes of hex")
    return int(value, 16)


def data(value: object) -> bytes:
    """Bytes as 0x hex."""
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise BadParams(f"{_shown(value)} is not hex data with a 0x prefix and whole bytes")
    return bytes.fromhex(value[2:])


def word(value: object) -> bytes:
    """32 bytes: a hash or a topic."""
    read = data(value)
    if len(read) != WORD_BYTES:
        raise BadParams(f"{_shown(value)} is {len(read)} bytes long, want {WORD_BYTES}")
    return read


def address(value: object) -> Address:
    """20 bytes; letters of either case."""
    read = data(value)
    if len(read) != ADDRESS_BYTES:
        raise BadParams(f"{_shown(value)} is {len(read)} bytes long, want {ADDRESS_BYTES}")
    return Address(read)


def addresses(value: object) -> tuple[Address, ...]:
    """A list of addresses."""
    return tuple(address(each) for each in _sequence(value, ADDRESSES_MAX))


def flag(value: object) -> bool:
    """Either true or false."""
    if not isinstance(value, bool):
        raise BadParams(f"{_shown(value)} is not true or false")
    return value


def percentiles(value: object) -> tuple[float, ...]:
    """Up to 100 rising numbers from 0 to 100."""
    read = tuple(_percentile(each) for each in _sequence(value, 100))
    if list(read) != sorted(read):
        raise BadParams("the percentiles do not rise")
    return read


def _percentile(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004 - per cent
        raise BadParams(f"{_shown(value)} is not a percentile from 0 to 100")
    return float(value)


def _sequence(value: object, most: int) -> list[object]:
    if not isinstance(value, list):
        raise BadParams(f"{_shown(value)} is not a list")
    if len(value) > most:
        raise BadParams(f"the list has {len(value)} entries, want at most {most}")
    return value


def mapping(value: object) -> dict[str, object]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise BadParams(f"{_shown(value)} is not an object")
    return value


def block_at(value: object) -> BlockAt:
    """A block: a tag, a hex number, or an object with blockHash or blockNumber (EIP-1898)."""
    if isinstance(value, dict):
        return _block_object(value)
    if value == "pending":
        return PENDING
    if value == "earliest":
        return BlockAt(number=0)
    if value in BLOCK_TAGS:
        # Blocks here are final when they are mined.
        return LATEST
    try:
        number = quantity(value)
    except BadParams:
        raise BadParams(
            f"{_shown(value)} is not a block: a hex number or one of {BLOCK_TAGS}"
        ) from None
    if number > UINT64_MAX:
        raise BadParams(f"block number {_shown(value)} is larger than 64 bits")
    return BlockAt(number=number)


def _block_object(value: dict[str, object]) -> BlockAt:
    named = [key for key in ("blockHash", "blockNumber") if value.get(key) is not None]
    if named == ["blockHash"]:
        return BlockAt(hash=word(value["blockHash"]))
    if named == ["blockNumber"]:
        return (
            block_at(value["blockNumber"])
            if not isinstance(value["blockNumber"], dict)
            else (_refuse_block(value))
        )
    return _refuse_block(value)


def _refuse_block(value: object) -> BlockAt:
    raise BadParams(f"{_shown(value)} names no block: give blockHash or blockNumber, one of them")


def field(fields: dict[str, object], name: str, read: Callable[[object], Read]) -> Read | None:
    """Read a field of an object that may be absent or null; raises `BadParams` naming it."""
    value = fields.get(name)
    return None if value is None else named(name, read, value)


def named(name: str, read: Callable[[object], Read], value: object) -> Read:
    """Read a value; raises `BadParams` naming it."""
    try:
        return read(value)
    except BadParams as error:
        raise BadParams(f"{name}: {error.text}") from error


def access_list(value: object) -> tuple[tuple[Address, tuple[bytes, ...]], ...]:
    """An EIP-2930 access list."""
    entries = []
    for each in _sequence(value, ADDRESSES_MAX):
        fields = mapping(each)
        keys = _sequence(fields.get("storageKeys") or [], ADDRESSES_MAX)
        entries.append((address(fields.get("address")), tuple(word(key) for key in keys)))
    return tuple(entries)


def authorization_list(value: object) -> tuple[Authorization, ...]:
    """The signed authorizations of a transaction of type 4 (EIP-7702), at least one."""
    entries = []
    for each in _sequence(value, AUTHORIZATIONS_MAX):
        fields = mapping(each)
        entries.append(
            Authorization(
                chain_id=named("chainId", quantity, fields.get("chainId")),
                address=named("address", address, fields.get("address")),
                nonce=named("nonce", _up_to(UINT64_MAX), fields.get("nonce")),
                y_parity=named("yParity", _up_to(UINT8_MAX), fields.get("yParity")),
                r=named("r", slot, fields.get("r")),
                s=named("s", slot, fields.get("s")),
            )
        )
    if not entries:
        raise BadParams("the list is empty: give at least one authorization, or leave it away")
    return tuple(entries)


def _up_to(most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = quantity(value)
        if number > most:
            raise BadParams(f"{_shown(value)} is larger than {most:#x}")
        return number

    return read


def call_request(value: object) -> CallRequest:
    """The object of eth_call and its like; fields that are not known are passed over."""
    fields = mapping(value)
    given = field(fields, "data", data)
    payload = field(fields, "input", data)
    if given is not None and payload is not None and given != payload:
        raise BadParams('both "data" and "input" are set and not equal')
    price = field(fields, "gasPrice", quantity)
    max_fee = field(fields, "maxFeePerGas", quantity)
    max_priority_fee = field(fields, "maxPriorityFeePerGas", quantity)
    if price is not None and (max_fee is not None or max_priority_fee is not None):
        raise BadParams("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
    authorizations = field(fields, "authorizationList", authorization_list) or ()
    to = field(fields, "to", address)
    if authorizations and to is None:
        raise BadParams("a transaction with authorizations makes no contract: it names a to")
    return CallRequest(
        sender=field(fields, "from", address) or ZERO_ADDRESS,
        to=to,
        data=payload if payload is not None else given or b"",
        value_wei=field(fields, "value", quantity) or 0,
        gas=field(fields, "gas", quantity),
        gas_price_wei=price,
        max_fee_wei=max_fee,
        max_priority_fee_wei=max_priority_fee,
        access_list=field(fields, "accessList", access_list) or (),
        authorizations=authorizations,
    )


def call_nonce(value: object) -> int | None:
    """The nonce of a transaction object, or None."""
    return field(mapping(value), "nonce", quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What eth_getLogs is asked for, before block names are looked up."""

    first: BlockAt
    last: BlockAt
    block: bytes | None
    addresses: tuple[Address, ...]
    topics: tuple[tuple[bytes, ...], ...]


def log_filter(value: object) -> Filter:
    """The filter object of eth_getLogs."""
    fields = mapping(value)
    block = field(fields, "blockHash", word)
    first = field(fields, "fromBlock", block_at)
    last = field(fields, "toBlock", block_at)
    if block is not None and (first is not None or last is not None):
        raise BadParams("blockHash goes without fromBlock and toBlock")
    if first and last and (first.number or 0) > (last.number or first.number or 0):
        raise BadParams(f"invalid block range: {first.number} is after {last.number}")
    return Filter(
        first=first or LATEST,
        last=last or LATEST,
        block=block,
        addresses=field(fields, "address", _one_or_many) or (),
        topics=field(fields, "topics", _topics) or (),
    )


def ranged_filter(value: object) -> Filter:
    """The filter object of eth_newFilter and of a subscription: of a range, not of one block."""
    read = log_filter(value)
    if read.block is not None:
        raise BadParams("a filter listens to new blocks: give no blockHash")
    return read


def hashes_only(value: object) -> None:
    """The flag that asks for whole transactions where hashes are sent; only false is taken."""
    if flag(value):
        raise BadParams("whole transactions are not sent here: ask for each by its hash")


def _one_or_many(value: object) -> tuple[Address, ...]:
    return addresses(value) if isinstance(value, list) else (address(value),)


def _topics(value: object) -> tuple[tuple[bytes, ...], ...]:
    return tuple(_topic(each) for each in _sequence(value, TOPIC_PLACES_MAX))


def _topic(value: object) -> tuple[bytes, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        return (word(value),)
    choices = _sequence(value, TOPIC_CHOICES_MAX)
    # A null among the choices means any topic, as in geth.
    return () if None in choices else tuple(word(each) for each in choices)
