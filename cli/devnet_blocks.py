"""`farthing devnet mine | warp | snapshot | revert | reorg | block`: blocks and the clock."""

from __future__ import annotations

import time
from typing import Any

import click

from ..channels.errors import LocalError
from ..devnet.asking import HttpAsk
from .devnet_rpc import BLOCK, DURATION, head_of, namer, rpc_option, shown_time
from .output import Form, emit, emit_rows, json_option, reports_errors

FATES = ("again", "waiting", "dropped")
TRANSACTION_COLUMNS = ("index", "status", "gas_used", "from", "to", "call", "transaction")


class NoSnapshot(LocalError):
    """There is nothing to return to under that number."""

    code = "devnet-no-snapshot"
    remedy = "take one with `farthing devnet snapshot`; each can be returned to once"


@click.command(epilog="Example: farthing devnet mine 12")
@click.argument("count", default=1, type=click.IntRange(1, 10_000))
@rpc_option
@json_option
@reports_errors
def mine(*, count: int, rpc_url: str, as_json: bool) -> None:
    """Mine COUNT blocks now, one second of chain time apart."""
    with HttpAsk(rpc_url) as ask:
        ask("anvil_mine", hex(count))
        emit(head_of(ask), as_json=as_json)


@click.command(epilog="Example: farthing devnet warp 1h30m")
@click.argument("duration", type=DURATION)
@rpc_option
@json_option
@reports_errors
def warp(*, duration: int, rpc_url: str, as_json: bool) -> None:
    """Move the chain's clock DURATION forward and mine a block at the new time.

    DURATION is in seconds, or with units: 90, 15m, 1h30m, 2d, 1w. The new block is at least that
    much later than the newest, which a burst of blocks may have taken ahead of the clock.
    """
    with HttpAsk(rpc_url) as ask:
        clock = int(time.time()) + int(ask("evm_increaseTime", "0x0"), 16)
        ahead = max(0, head_of(ask)["timestamp"] - clock)
        ask("evm_increaseTime", hex(duration + ahead))
        ask("evm_mine")
        emit(head_of(ask), as_json=as_json)


@click.command(epilog="Example: farthing devnet snapshot")
@rpc_option
@json_option
@reports_errors
def snapshot(*, rpc_url: str, as_json: bool) -> None:
    """Remember blocks, clock and what waits as they are now; prints the number for `revert`.

    Snapshots live as long as the devnet's process.
    """
    with HttpAsk(rpc_url) as ask:
        taken = int(ask("evm_snapshot"), 16)
        emit({"snapshot": taken, **head_of(ask)}, as_json=as_json)


@click.command(epilog="Example: farthing devnet revert 1")
@click.argument("number", metavar="SNAPSHOT", type=click.IntRange(1, 2**63 - 1))
@rpc_option
@json_option
@reports_errors
def revert(*, number: int, rpc_url: str, as_json: bool) -> None:
    """Return to a snapshot, which is used up with all that were taken after it."""
    with HttpAsk(rpc_url) as ask:
        if ask("evm_revert", hex(number)) is not True:
            raise NoSnapshot(f"there is no snapshot {number}")
        emit({"reverted_to": number, **head_of(ask)}, as_json=as_json)


@click.command(epilog="Example: farthing devnet reorg --depth 3 --fate waiting")
@click.option("--depth", type=click.IntRange(1, 10_000), required=True, help="How many blocks.")
@click.option(
    "--fate",
    type=click.Choice(FATES),
    default="again",
    show_default=True,
    help="Of the transactions: mined again, waiting for the next block, or dropped.",
)
@rpc_option
@json_option
@reports_errors
def reorg(*, depth: int, fate: str, rpc_url: str, as_json: bool) -> None:
    """Replace the newest blocks by as many others, as a chain whose validators disagreed does."""
    with HttpAsk(rpc_url) as ask:
        before = head_of(ask)["hash"]
        ask("farthing_reorg", hex(depth), fate)
        emit({"replaced": depth, "hash_before": before, **head_of(ask)}, as_json=as_json)


@click.command(epilog="Example: farthing devnet block 12")
@click.argument("at", metavar="BLOCK", default="latest", type=BLOCK)
@rpc_option
@json_option
@reports_errors
def block(*, at: str, rpc_url: str, as_json: bool) -> None:
    """Show a block by number or hash, the newest unless told, and what its transactions call."""
    from ..devnet.looking import Viewer  # noqa: PLC0415 - what decodes takes half a second

    with HttpAsk(rpc_url) as ask:
        viewer = Viewer(ask)
        found = viewer.block(at, full=True)
        receipts = {each["transactionHash"]: each for each in viewer.receipts(found)}
        shown = namer(viewer.name)
        rows = [_row(viewer, each, receipts[each["hash"]]) for each in found["transactions"]]
        record: dict[str, Any] = {
            "block": int(found["number"], 16),
            "hash": found["hash"],
            "parent": found["parentHash"],
            "timestamp": int(found["timestamp"], 16),
            "gas_used": int(found["gasUsed"], 16),
            "gas_limit": int(found["gasLimit"], 16),
            "base_fee_wei": int(found.get("baseFeePerGas") or "0x0", 16),
            "size_bytes": int(found["size"], 16),
        }
        if as_json:
            emit({**record, "transactions": rows}, as_json=True)
            return
        record["timestamp"] = f"{record['timestamp']} ({shown_time(record['timestamp'])})"
        emit({**record, "transactions": len(rows)}, as_json=False)
        if rows:
            click.echo()
            for row in rows:
                row["from"], row["to"] = shown(row["from"]), shown(row["to"] or row["created"])
            emit_rows(rows, TRANSACTION_COLUMNS, Form.TABLE)


def _row(viewer: Any, transaction: Any, receipt: Any) -> dict[str, Any]:
    decoded = viewer.call_of(transaction)
    return {
        "index": int(transaction["transactionIndex"], 16),
        "transaction": transaction["hash"],
        "status": "succeeded" if receipt["status"] == "0x1" else "failed",
        "gas_used": int(receipt["gasUsed"], 16),
        "from": viewer.checksum(transaction["from"]),
        "to": viewer.checksum(transaction["to"]),
        "created": viewer.checksum(receipt["contractAddress"]),
        "call": None if decoded is None else f"{decoded.contract}.{decoded.name}",
    }
