"""`farthing devnet tx | logs`: what transactions did, decoded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..devnet.asking import HASHES, HttpAsk
from .devnet_rpc import HASH, namer, rpc_option, shown_time
from .output import emit, json_option, printable, reports_errors

if TYPE_CHECKING:
    from ..devnet.call_tree import Frame
    from ..devnet.looking import Event, Viewer

POLL_SECONDS = 0.25
"""A devnet's blocks are a second apart, mostly."""
REMEMBERED_BLOCKS = 256
"""How far back a reorganisation is noticed while following."""
SHORT_HEX = 2 + 16
"""Longer hex is shortened in a trace and in the line of an event."""
NO_TRACE = "not served by this devnet"


@click.command(epilog="Example: farthing devnet tx 0x3f1c…9a")
@click.argument("transaction", metavar="HASH", type=HASH)
@click.option("--no-trace", is_flag=True, help="Leave the tree of calls away.")
@rpc_option
@json_option
@reports_errors
def tx(*, transaction: str, no_trace: bool, rpc_url: str, as_json: bool) -> None:
    """Show a transaction: its call, its events and its tree of calls with gas, all decoded.

    What is not of our contracts is shown raw. Without --json, hex in lists, events and calls is
    shortened.
    """
    from ..devnet.looking import Viewer  # noqa: PLC0415 - what decodes takes half a second

    with HttpAsk(rpc_url) as ask:
        viewer = Viewer(ask)
        found, receipt = viewer.transaction(transaction)
        record = _summary(viewer, found, receipt)
        decoded = viewer.call_of(found)
        events = [] if receipt is None else [viewer.event(log) for log in receipt["logs"]]
        calls = None
        if receipt is not None and not no_trace:
            calls = _calls(viewer, transaction)
        if calls and calls[0].error is not None:
            record["reason"] = calls[0].error
        if as_json:
            record["call"] = None if decoded is None else decoded.record()
            record["input"] = found["input"]
            record["events"] = [event.record() for event in events]
            record["trace"] = None if calls is None else [frame.record() for frame in calls]
            emit(record, as_json=True)
            return
        shown = namer(viewer.name)
        for key in ("from", "to", "created"):
            record[key] = shown(record[key])
        if record["timestamp"] is not None:
            record["timestamp"] = f"{record['timestamp']} ({shown_time(record['timestamp'])})"
        emit(record, as_json=False)
        for line in _detail(decoded, found["input"], events, viewer):
            click.echo(printable(line))
        if receipt is not None and not no_trace:
            for line in _trace_lines(calls):
                click.echo(printable(line))


def _summary(viewer: Viewer, found: Any, receipt: Any) -> dict[str, Any]:
    status = "waiting" if receipt is None else "failed"
    if receipt is not None and receipt["status"] == "0x1":
        status = "succeeded"
    block = None if receipt is None else viewer.block(receipt["blockHash"], full=False)
    return {
        "transaction": found["hash"],
        "status": status,
        "block": None if receipt is None else int(receipt["blockNumber"], 16),
        "timestamp": None if block is None else int(block["timestamp"], 16),
        "from": viewer.checksum(found["from"]),
        "to": viewer.checksum(found["to"]),
        "created": None if receipt is None else viewer.checksum(receipt["contractAddress"]),
        "type": int(found["type"], 16),
        "nonce": int(found["nonce"], 16),
        "value_wei": int(found["value"], 16),
        "gas_limit": int(found["gas"], 16),
        "gas_used": None if receipt is None else int(receipt["gasUsed"], 16),
        "gas_price_wei": None if receipt is None else int(receipt["effectiveGasPrice"], 16),
    }


def _calls(viewer: Viewer, transaction: str) -> list[Frame] | None:
    from ..devnet.call_tree import frames  # noqa: PLC0415 - as above

    tree = viewer.trace(transaction)
    return None if tree is None else frames(viewer, tree)


def _detail(decoded: Any, data: str, events: list[Event], viewer: Viewer) -> Iterator[str]:
    yield ""
    if decoded is not None:
        yield f"call {decoded.contract}.{decoded.name}"
        for name, value in decoded.arguments.items():
            yield from _argument(name, value, "  ")
    elif data != "0x":
        yield f"data {data}"
    else:
        yield "no call: a transfer"
    yield ""
    yield f"events: {len(events) or 'none'}"
    for event in events:
        yield f"  {_event_text(event, viewer)}"


def _argument(name: str, value: Any, indent: str) -> Iterator[str]:
    """An argument on its line; a list one line for each."""
    if isinstance(value, list) and value:
        yield f"{indent}{name}: {len(value)}"
        for index, each in enumerate(value):
            yield f"{indent}  [{index}] {text_of(each, shortened=True)}"
    else:
        yield f"{indent}{name}: {text_of(value)}"


def text_of(value: Any, *, shortened: bool = False) -> str:
    """A decoded value in one line."""
    if isinstance(value, dict):
        inner = (f"{key}={text_of(v, shortened=shortened)}" for key, v in value.items())
        return f"({', '.join(inner)})"
    if isinstance(value, list):
        if shortened and len(value) > 1:
            return f"[{text_of(value[0], shortened=True)}, … {len(value)} in all]"
        return f"[{', '.join(text_of(each, shortened=shortened) for each in value)}]"
    text = str(value)
    if shortened and text.startswith("0x") and len(text) > SHORT_HEX:
        return f"{text[:8]}…{text[-4:]}"
    return text


def _event_text(event: Event, viewer: Viewer) -> str:
    if event.decoded is None:
        topics = " ".join(event.log["topics"])
        return f"{viewer.checksum(event.log['address'])} {topics} {event.log['data']}"
    arguments = " ".join(
        f"{name}={text_of(value, shortened=True)}"
        for name, value in event.decoded.arguments.items()
    )
    return f"{event.decoded.contract}.{event.decoded.name} {arguments}"


def _trace_lines(calls: list[Frame] | None) -> Iterator[str]:
    yield ""
    if calls is None:
        yield f"calls: {NO_TRACE}"
        return
    yield f"calls: {len(calls)}, with the gas of each"
    width = max(len(str(frame.gas_used)) for frame in calls)
    for frame in calls:
        yield f"  {frame.gas_used:>{width}}  {'  ' * frame.depth}{_frame_text(frame)}"


def _frame_text(frame: Frame) -> str:
    where = frame.name or (frame.to or "a contract that was not made")
    kind = "" if frame.kind == "CALL" else f" [{frame.kind.lower()}]"
    value = f" with {frame.value_wei} wei" if frame.value_wei else ""
    if frame.decoded is None:
        what = f"{where} {text_of(frame.data, shortened=True)}"
    else:
        arguments = ", ".join(
            text_of(each, shortened=True) for each in frame.decoded.arguments.values()
        )
        what = f"{where}.{frame.decoded.name}({arguments})"
    if frame.error is not None:
        return f"{what}{kind}{value} ✗ {frame.error}"
    if frame.returned:
        answer = ", ".join(text_of(each, shortened=True) for each in frame.returned)
        return f"{what}{kind}{value} → {answer}"
    return f"{what}{kind}{value}"


@click.command(epilog="Example: farthing devnet logs -f --event Settled")
@click.option("-f", "--follow", is_flag=True, help="Go on with new blocks until Ctrl-C.")
@click.option(
    "--from",
    "first",
    metavar="BLOCK",
    type=click.IntRange(0, 2**63 - 1),
    help="First block. Default: 0, or with -f the next one.",
)
@click.option("--event", "names", metavar="NAME", multiple=True, help="Only events of this name.")
@rpc_option
@json_option
@reports_errors
def logs(
    *, follow: bool, first: int | None, names: tuple[str, ...], rpc_url: str, as_json: bool
) -> None:
    """List events, oldest first, decoded where they are of our contracts.

    With -f each is printed as its block comes, with --json one object a line; blocks that a
    reorganisation takes back are told of, and what replaces them follows.
    """
    from ..devnet.decoding import event_names  # noqa: PLC0415 - what decodes takes half a second
    from ..devnet.looking import Viewer  # noqa: PLC0415 - as above

    unknown = sorted(set(names) - set(event_names()))
    if unknown:
        raise click.UsageError(
            f"no contract of ours has an event {unknown[0]!r}: use {', '.join(event_names())}"
        )
    with HttpAsk(rpc_url) as ask:
        viewer = Viewer(ask)
        head = viewer.head()
        begin = first if first is not None else head + 1 if follow else 0
        found = [
            event
            for event in (viewer.events(begin, head) if begin <= head else ())
            if _wanted(event, names)
        ]
        if as_json and not follow:
            click.echo(json.dumps([event.record() for event in found]))
            return
        for event in found:
            _say_event(event, viewer, as_json=as_json)
        if follow:
            _follow(viewer, max(begin, head + 1), names, as_json=as_json)
        elif not found:
            click.echo("none")


def _wanted(event: Event, names: tuple[str, ...]) -> bool:
    return not names or (event.decoded is not None and event.decoded.name in names)


def _say_event(event: Event, viewer: Viewer, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event.record()))
    else:
        click.echo(printable(f"block {event.block}  {_event_text(event, viewer)}"))


def _follow(viewer: Viewer, first: int, names: tuple[str, ...], *, as_json: bool) -> None:
    """Print what new blocks hold until interrupted; goes back where blocks were replaced."""
    seen: dict[int, str] = {}
    if first > 0:
        seen[first - 1] = _hash_of(viewer, first - 1) or ""
    while True:
        fork = _taken_back(viewer, seen)
        if fork is not None:
            for number in [number for number in seen if number >= fork]:
                del seen[number]
            first = min(first, fork)
            if as_json:
                click.echo(json.dumps({"taken_back_from": fork}))
            else:
                click.echo(f"block {fork}  and later ones were taken back")
        head = viewer.head()
        for number in range(first, head + 1):
            seen[number] = _hash_of(viewer, number) or ""
        for event in viewer.events(first, head) if first <= head else ():
            if _wanted(event, names):
                _say_event(event, viewer, as_json=as_json)
        first = max(first, head + 1)
        for number in [number for number in seen if number < first - REMEMBERED_BLOCKS]:
            del seen[number]
        time.sleep(POLL_SECONDS)  # until Ctrl-C: HTTP tells nobody of a new block


def _taken_back(viewer: Viewer, seen: dict[int, str]) -> int | None:
    """The first block of those that were seen which the chain no longer has; None if all are."""
    fork = None
    for number in sorted(seen, reverse=True):
        if _hash_of(viewer, number) == seen[number]:
            break
        fork = number
    return fork


def _hash_of(viewer: Viewer, number: int) -> str | None:
    found = viewer.ask("eth_getBlockByNumber", hex(number), HASHES)
    return None if found is None else str(found["hash"])
