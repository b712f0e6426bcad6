"""The contract's events, decoded by hand from an endpoint's logs into checked records.

Rule: one table row per event; topics are golden-tested against the shipped artifact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..deployment import Deployment
from ..errors import LocalError
from ..ids import ADDRESS_BYTES, WORD_BYTES, Address, ChannelId
from ..terms import Terms
from .abi import address_of, bool_of, uint_of, words
from .rpc import RpcUnusable, fields, items, octets, quantity

_TOPICS_MAX: Final = 4  # of the EVM


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where on the chain a log stands."""

    block: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLog:
    """A channel was opened; the deposit is party A's."""

    place: Place
    channel: ChannelId
    terms: Terms
    funder: Address
    deposit_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositedLog:
    """An account's deposit grew by `amount_ucent` to `deposit_total_ucent`."""

    place: Place
    channel: ChannelId
    account: Address
    funder: Address
    amount_ucent: int
    deposit_total_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledLog:
    """A lane's total on the chain rose; nonce and history are its payer's claim."""

    place: Place
    channel: ChannelId
    payer: Address
    nonce: int
    transferred_before_ucent: int
    transferred_ucent: int
    history: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSkippedLog:
    """A row of a batch took no effect; the reasons are numbered in the contract."""

    place: Place
    index: int
    channel: ChannelId
    reason: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnLog:
    """An account took money out of an open channel; `total_ucent` is cumulative."""

    place: Place
    channel: ChannelId
    account: Address
    amount_ucent: int
    total_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStartedLog:
    """A challenge window began; it lasts through both this second and this block."""

    place: Place
    channel: ChannelId
    by: Address
    deadline_seconds: int
    deadline_block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLog:
    """A channel ended for ever."""

    place: Place
    channel: ChannelId
    transferred_a_ucent: int
    transferred_b_ucent: int
    payout_a_ucent: int
    payout_b_ucent: int
    cooperative: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditedLog:
    """A payout that the token refused waits for `claim`."""

    place: Place
    channel: ChannelId
    account: Address
    amount_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLog:
    """What waited was paid."""

    place: Place
    account: Address
    amount_ucent: int


ChainLog: TypeAlias = (
    OpenedLog
    | DepositedLog
    | SettledLog
    | RowSkippedLog
    | WithdrawnLog
    | CloseStartedLog
    | ClosedLog
    | CreditedLog
    | ClaimedLog
)

_Reader: TypeAlias = Callable[[bytes, str], Any]


def _bits(bits: int) -> _Reader:
    return lambda word, what: uint_of(word, what, bits=bits)


def _word(word: bytes, _what: str) -> bytes:
    return word


_MONEY, _TIME, _BYTE = _bits(256), _bits(64), _bits(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventShape:
    """An event: canonical signature, topic, and a reader for each indexed and other field."""

    signature: str
    topic: bytes
    record: Callable[..., ChainLog]
    indexed: dict[str, _Reader]
    data: dict[str, _Reader]


def _opened(**values: Any) -> OpenedLog:
    kept = ("place", "channel", "funder", "deposit_ucent")
    try:
        terms = Terms(**{key: value for key, value in values.items() if key not in kept})
    except LocalError as error:
        raise RpcUnusable(f"a channel with terms that cannot be: {error.text}") from None
    return OpenedLog(terms=terms, **{key: values[key] for key in kept})


def _shape(
    signature: str,
    topic: str,
    record: Callable[..., ChainLog],
    indexed: dict[str, _Reader],
    data: dict[str, _Reader],
) -> EventShape:
    return EventShape(
        signature=signature,
        topic=bytes.fromhex(topic),
        record=record,
        indexed=indexed,
        data=data,
    )


EVENTS: Final = (
    _shape(
        "Opened(bytes32,address,address,address,address,uint64,uint64,uint64,address,uint256)",
        "30c851078857b27bf3e2da1fec7f9c779058e1a0b5882ef5356356fa318ac80c",
        _opened,
        {"channel": _word, "account_a": address_of, "account_b": address_of},
        {
            "signer_a": address_of,
            "signer_b": address_of,
            "challenge_seconds": _TIME,
            "challenge_blocks": _TIME,
            "sequence": _TIME,
            "funder": address_of,
            "deposit_ucent": _MONEY,
        },
    ),
    _shape(
        "Deposited(bytes32,address,address,uint256,uint256)",
        "e3ad398758b9cbdf4196c5d060a1aebae967b4f9115c7394e937cbb46f449587",
        DepositedLog,
        {"channel": _word, "account": address_of},
        {"funder": address_of, "amount_ucent": _MONEY, "deposit_total_ucent": _MONEY},
    ),
    _shape(
        "Settled(bytes32,address,uint256,uint256,uint256,bytes32)",
        "0c067ec806c36f9feee60d95219c09793c0d7bd76e6a58a03f53e7f5eb24c2f9",
        SettledLog,
        {"channel": _word, "payer": address_of},
        {
            "nonce": _TIME,
            "transferred_before_ucent": _MONEY,
            "transferred_ucent": _MONEY,
            "history": _word,
        },
    ),
    _shape(
        "RowSkipped(uint256,bytes32,uint8)",
        "f5d55156b866b8e7442336e1eac44d2d1fa1364132fde66328df72cd167d018e",
        RowSkippedLog,
        {"index": _MONEY, "channel": _word},
        {"reason": _BYTE},
    ),
    _shape(
        "Withdrawn(bytes32,address,uint256,uint256)",
        "ad382ae4a0a8c252d70b902c9cc346f3e881ad505df3f728122a01006bb88f09",
        WithdrawnLog,
        {"channel": _word, "account": address_of},
        {"amount_ucent": _MONEY, "total_ucent": _MONEY},
    ),
    _shape(
        "CloseStarted(bytes32,address,uint64,uint64)",
        "f35c6c4c237d238bf7bf369c950ff16792b61fe05cdaeb236c1f146013611f71",
        CloseStartedLog,
        {"channel": _word, "by": address_of},
        {"deadline_seconds": _TIME, "deadline_block": _TIME},
    ),
    _shape(
        "Closed(bytes32,uint256,uint256,uint256,uint256,bool)",
        "51aa722cbfbe6cc46e5dc077508597d8d75d888f1755e8093a910f4d8662c230",
        ClosedLog,
        {"channel": _word},
        {
            "transferred_a_ucent": _MONEY,
            "transferred_b_ucent": _MONEY,
            "payout_a_ucent": _MONEY,
            "payout_b_ucent": _MONEY,
            "cooperative": bool_of,
        },
    ),
    _shape(
        "Credited(bytes32,address,uint256)",
        "018ebeb0b47d6b51edd49e863b83fc8e4a257babf59cc01d51921250795f57a3",
        CreditedLog,
        {"channel": _word, "account": address_of},
        {"amount_ucent": _MONEY},
    ),
    _shape(
        "Claimed(address,uint256)",
        "d8138f8a3f377c5259ca548e70e4c2de94f129f5a11036a15b69513cba2b426a",
        ClaimedLog,
        {"account": address_of},
        {"amount_ucent": _MONEY},
    ),
)

_BY_TOPIC: Final = {shape.topic: shape for shape in EVENTS}
OPENED_TOPIC: Final = EVENTS[0].topic
SETTLED_TOPIC: Final = next(shape.topic for shape in EVENTS if shape.record is SettledLog)
CLOSED_TOPIC: Final = next(shape.topic for shape in EVENTS if shape.record is ClosedLog)


def decode_logs(deployment: Deployment, value: object, *, maximum: int) -> tuple[ChainLog, ...]:
    """Decode an endpoint's list of logs of this contract, in chain order; raises `RpcUnusable`.

    An opened channel's id must be that of its terms; logs of other contracts are left out (a
    transaction's receipt holds them too).
    """
    logs: list[ChainLog] = []
    for item in items(value, "the list of logs", maximum=maximum):
        entry = fields(item, "a log")
        emitter = octets(entry.get("address"), "a log's address", size=ADDRESS_BYTES)
        if emitter == deployment.payment_channels:
            logs.append(_decode(deployment, entry))
    return tuple(sorted(logs, key=lambda log: (log.place.block, log.place.log_index)))


def _decode(deployment: Deployment, entry: dict[str, Any]) -> ChainLog:
    if entry.get("removed"):
        raise RpcUnusable("it holds a log that the chain has dropped")
    topics = [
        octets(topic, "a topic", size=WORD_BYTES)
        for topic in items(entry.get("topics"), "a log's topics", maximum=_TOPICS_MAX)
    ]
    shape = _BY_TOPIC.get(topics[0]) if topics else None
    if shape is None:
        raise RpcUnusable("it holds an event that the contract does not have")
    if len(topics) != 1 + len(shape.indexed):
        raise RpcUnusable(f"{shape.signature} with {len(topics)} topics")
    data = words(octets(entry.get("data"), "a log's data"), len(shape.data), shape.signature)
    readers = [*shape.indexed.items(), *shape.data.items()]
    values = {
        name: read(word, name)
        for (name, read), word in zip(readers, (*topics[1:], *data), strict=True)
    }
    log = shape.record(place=_place(entry), **values)
    if isinstance(log, OpenedLog) and deployment.channel_id(log.terms) != log.channel:
        raise RpcUnusable("an opened channel's id is not that of its terms")
    return log


def _place(entry: dict[str, Any]) -> Place:
    return Place(
        block=quantity(entry.get("blockNumber"), "a log's block number"),
        block_hash=octets(entry.get("blockHash"), "a log's block hash", size=WORD_BYTES),
        transaction_hash=octets(
            entry.get("transactionHash"), "a log's transaction hash", size=WORD_BYTES
        ),
        log_index=quantity(entry.get("logIndex"), "a log's index"),
    )
