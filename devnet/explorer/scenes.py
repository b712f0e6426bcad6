"""What each page of the explorer shows: plain data, read while the chain stands still.

Rule: every number on one page is of the same block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode

from ...channels.hashing import keccak256
from ..asking import HASHES, Ask
from ..call_tree import Frame, count, frames
from ..decoding import topic_of
from ..looking import Event, NotThere, Viewer, number

BLOCKS_SHOWN = 25
EVENTS_SHOWN = 25
CHANNELS_SHOWN = 25
OVERVIEW_SHOWN = 8
TRANSACTION_BLOCKS = 100
"""Blocks that are searched for the newest transactions: a tenth of a second of work."""

CHANNELS = "payment_channels"
CHANNEL_EVENTS = (
    *("Opened", "Deposited", "Settled", "Withdrawn", "CloseStarted", "Closed", "Credited"),
    *("Claimed", "RowSkipped"),
)
STATUSES = ("never", "open", "closing", "closed")

_STATE = keccak256(b"channel_state(bytes32)")[:4]
_STATE_TYPES = (*("uint256",) * 7, *("uint64",) * 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One direction of a channel, as the chain has it; amounts in µ¢.

    `spendable` is all that its payer had to pay with: deposits, less withdrawals, and what the
    other lane brought. More may be paid where the other lane was not settled yet.
    """

    name: str
    payer: str
    signer: str
    payee: str
    transferred: int
    deposit: int
    withdrawn: int
    spendable: int
    nonce: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelView:
    """A channel: its terms, its state, and both lanes."""

    id: str
    contract: str
    status: str
    opened_block: int
    terms: Mapping[str, Any]
    lanes: tuple[Lane, Lane]
    deadline_seconds: int
    deadline_block: int
    closed: Mapping[str, Any] | None = None


Context = dict[str, Any]
Scene = Callable[[Ask], Context]


def overview(ask: Ask) -> Context:
    """The newest of everything."""
    viewer = Viewer(ask)
    status = ask("farthing_status")
    events, _ = viewer.newest_events(OVERVIEW_SHOWN, topics=[_channel_topics()])
    return {
        "status": status,
        "blocks": _blocks(viewer, status["block"], OVERVIEW_SHOWN),
        "transactions": _newest_transactions(viewer, status["block"]),
        "searched_blocks": TRANSACTION_BLOCKS,
        "events": events[:OVERVIEW_SHOWN],
        "name": viewer.name,
    }


def blocks(ask: Ask, before: int | None) -> Context:
    """Blocks, newest first."""
    viewer = Viewer(ask)
    head = viewer.head()
    newest = head if before is None else min(before - 1, head)
    shown = _blocks(viewer, newest, BLOCKS_SHOWN)
    older = shown[-1]["number"] if shown and shown[-1]["number"] > 0 else None
    return {"blocks": shown, "head": head, "older": older}


def block(ask: Ask, at: str) -> Context:
    """One block and its transactions; raises `NotThere`."""
    viewer = Viewer(ask)
    found = viewer.block(at, full=True)
    receipts = viewer.receipts(found)
    return {
        "block": _block(found),
        "raw": found,
        "head": viewer.head(),
        "transactions": [
            _transaction(viewer, each, receipt)
            for each, receipt in zip(found["transactions"], receipts, strict=True)
        ],
        "name": viewer.name,
    }


def transaction(ask: Ask, hash_: str) -> Context:
    """One transaction with its call, events and calls; raises `NotThere`."""
    viewer = Viewer(ask)
    found, receipt = viewer.transaction(hash_)
    tree = None if receipt is None else viewer.trace(hash_)
    calls: list[Frame] = [] if tree is None else frames(viewer, tree)
    at = None if receipt is None else viewer.block(receipt["blockHash"], full=False)
    return {
        "transaction": _transaction(viewer, found, receipt),
        "raw": found,
        "gas_limit": number(found["gas"]),
        "timestamp": None if at is None else number(at["timestamp"]),
        "events": [] if receipt is None else [viewer.event(log) for log in receipt["logs"]],
        "calls": calls,
        "calls_in_all": 0 if tree is None else count(tree),
        "name": viewer.name,
    }


def events(ask: Ask, before: int | None) -> Context:
    """Events of the channels, newest first."""
    viewer = Viewer(ask)
    found, older = viewer.newest_events(EVENTS_SHOWN, before=before, topics=[_channel_topics()])
    return {"events": found, "older": older, "before": before, "name": viewer.name}


def channels(ask: Ask, before: int | None) -> Context:
    """Channels, newest first."""
    viewer = Viewer(ask)
    opened, older = viewer.newest_events(CHANNELS_SHOWN, before=before, topics=[_opened_topic()])
    found = [_channel(viewer, event) for event in opened if event.decoded is not None]
    return {"channels": found, "older": older, "before": before, "name": viewer.name}


def channel(ask: Ask, id_: str) -> Context:
    """One channel with its terms, lanes and events; raises `NotThere`."""
    viewer = Viewer(ask)
    head = viewer.head()
    opened = [
        event
        for event in viewer.events(0, head, topics=[_opened_topic(), id_])
        if event.decoded is not None
    ]
    if not opened:
        raise NotThere(f"there is no channel {id_}")
    contract = opened[0].log["address"]
    happened = [
        *viewer.events(0, head, address=contract, topics=[None, id_]),
        *viewer.events(0, head, address=contract, topics=[None, None, id_]),  # RowSkipped
    ]
    happened.sort(key=lambda event: (event.block, event.index))
    head_block = viewer.block("latest", full=False)
    return {
        "channel": _channel(viewer, opened[0], happened),
        "events": list(reversed(happened)),
        "chain_seconds": number(head_block["timestamp"]),
        "head": head,
        "name": viewer.name,
    }


def find(ask: Ask, text: str) -> str:
    """The page of a block, transaction or channel; raises `NotThere`."""
    if text.isascii() and text.isdecimal():
        Viewer(ask).block(hex(int(text)), full=False)
        return f"/block/{int(text)}"
    if ask("eth_getTransactionByHash", text) is not None:
        return f"/tx/{text}"
    if ask("eth_getBlockByHash", text, HASHES) is not None:
        return f"/block/{text}"
    viewer = Viewer(ask)
    if any(viewer.events(0, viewer.head(), topics=[_opened_topic(), text])):
        return f"/channel/{text}"
    raise NotThere(f"no block, transaction or channel has the hash {text}")


# Parts


def _channel_topics() -> list[str]:
    return ["0x" + topic_of(CHANNELS, name).hex() for name in CHANNEL_EVENTS]


def _opened_topic() -> str:
    return "0x" + topic_of(CHANNELS, "Opened").hex()


def _blocks(viewer: Viewer, newest: int, most: int) -> list[Context]:
    numbers = range(newest, max(-1, newest - most), -1)
    return [_block(viewer.block(hex(n), full=False)) for n in numbers]


def _block(found: Mapping[str, Any]) -> Context:
    return {
        "number": number(found["number"]),
        "hash": found["hash"],
        "timestamp": number(found["timestamp"]),
        "transactions": len(found["transactions"]),
        "gas_used": number(found["gasUsed"]),
        "gas_limit": number(found["gasLimit"]),
        "size": number(found["size"]),
    }


def _newest_transactions(viewer: Viewer, head: int) -> list[Context]:
    found: list[Context] = []
    for at in range(head, max(-1, head - TRANSACTION_BLOCKS), -1):
        header = viewer.block(hex(at), full=False)
        if header["transactions"]:
            full = viewer.block(hex(at), full=True)
            both = zip(full["transactions"], viewer.receipts(full), strict=True)
            found += reversed([_transaction(viewer, each, receipt) for each, receipt in both])
        if len(found) >= OVERVIEW_SHOWN:
            break
    return found[:OVERVIEW_SHOWN]


def _transaction(
    viewer: Viewer, found: Mapping[str, Any], receipt: Mapping[str, Any] | None
) -> Context:
    status = "waiting"
    if receipt is not None:
        status = "succeeded" if receipt["status"] == "0x1" else "failed"
    created = None if receipt is None else viewer.checksum(receipt["contractAddress"])
    return {
        "hash": found["hash"],
        "status": status,
        "block": None if receipt is None else number(receipt["blockNumber"]),
        "from": viewer.checksum(found["from"]),
        "to": viewer.checksum(found["to"]),
        "created": created,
        "call": viewer.call_of(found),
        "value_wei": number(found["value"]),
        "gas_used": None if receipt is None else number(receipt["gasUsed"]),
    }


def _channel(viewer: Viewer, opened: Event, happened: list[Event] | None = None) -> ChannelView:
    """A channel out of the event that opened it; `happened` adds what its events alone know."""
    terms: Context = dict(opened.decoded.arguments) if opened.decoded is not None else {}
    contract = opened.log["address"]
    data = "0x" + (_STATE + bytes.fromhex(terms["channel"][2:])).hex()
    answer = viewer.ask("eth_call", {"to": contract, "data": data}, "latest")
    state = decode(_STATE_TYPES, bytes.fromhex(answer[2:]))
    past = [event.decoded for event in happened or () if event.decoded is not None]
    nonces = {
        str(each.arguments["payer"]): int(str(each.arguments["nonce"]))
        for each in past
        if each.name == "Settled"
    }
    a = _lane("A to B", terms, ("a", "b"), state[1:4], state[4], nonces)
    b = _lane("B to A", terms, ("b", "a"), state[4:7], state[1], nonces)
    closed = [each.arguments for each in past if each.name == "Closed"]
    return ChannelView(
        id=terms["channel"],
        contract=str(viewer.checksum(contract)),
        status=STATUSES[state[0]],
        opened_block=opened.block,
        terms=terms,
        lanes=(a, b),
        deadline_seconds=state[7],
        deadline_block=state[8],
        closed=closed[0] if closed else None,
    )


def _lane(
    name: str,
    terms: Mapping[str, Any],
    sides: tuple[str, str],
    words: tuple[int, int, int],
    received: int,
    nonces: Mapping[str, int],
) -> Lane:
    transferred, deposit, withdrawn = words
    return Lane(
        name=name,
        payer=terms[f"account_{sides[0]}"],
        signer=terms[f"signer_{sides[0]}"],
        payee=terms[f"account_{sides[1]}"],
        transferred=transferred,
        deposit=deposit,
        withdrawn=withdrawn,
        spendable=deposit - withdrawn + received,
        nonce=nonces.get(terms[f"account_{sides[0]}"]),
    )
