"""The demo from start to audit: what it does in which order, and the figures it ends with."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ...channels.client.exports import export_receipts
from ...channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from ...channels.units import format_cents
from ...node.programme import EXAMPLE
from ..auditing import audit
from ..city import City, Say, Wallet
from ..folders import empty
from ..processes import ProcessFailed
from ..readings import ROOM_OCCUPANCY, WATER_FLOW, read_readings
from .city import open_block
from .replay import (
    POLL_SECONDS,
    Recovery,
    Work,
    collect,
    hub_row,
    kill_in_flight,
    pay_per_use,
    plan,
    submit,
)
from .stage import Part, Stage

PROGRESS_SECONDS = 2
CLOSE_SECONDS_MAX = 60
AUDIT_SECONDS_MAX = 120
RPC_SECONDS_MAX = 30
KILL_AFTER_PART = 3
"""The device is killed once a third of its readings are submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the demo is run; `readings` None replays the two files that come with it."""

    devices: int = 4
    readings: Path | None = None
    keep: Path | None = None


def run_demo(options: Options, stage: Stage) -> dict[str, Any]:
    """Run everything; returns the summary; raises `FarthingError` where it cannot go on."""
    began, say = time.monotonic(), stage.say
    stage.begin(Part.START)
    files = [WATER_FLOW, ROOM_OCCUPANCY] if options.readings is None else [options.readings]
    for file in files:
        next(iter(read_readings(file, now=int(time.time()), base_name="")), None)
    with _folder(options.keep) as folder:
        with (
            open_block(folder, options.devices, EXAMPLE, say) as city,
            stage.watching(city),
        ):
            works, malformed = plan(city, files, int(time.time()), say)
            stage.begin(Part.REPLAY)
            replay_began = time.monotonic()
            recovery, uses = _replay(city, works, stage)
            replay_seconds = time.monotonic() - replay_began
            stage.begin(Part.CLOSE)
            closed = _close_two(city, say)
            city.hub.ask("settle")
            status = city.hub.ask("status")
            stage.begin(Part.AUDIT)
            receipts = folder / "receipts.jsonl"
            _, paid_ucent = export_receipts(folder / "hub/data/hub.sqlite", receipts)
            report = audit(city, receipts, seconds_max=AUDIT_SECONDS_MAX)
        stage.begin(Part.DONE)
        rewarded = sum(work.rewarded for work in works)
        refused = sum(work.refusals.total() for work in works) + len(malformed)
        summary = {
            "readings": rewarded + refused,
            "rewarded": rewarded,
            "refused": refused,
            "refusals": _refusals(works, len(malformed)),
            "payments": report["receipts"],
            "paid_ucent": paid_ucent,
            "rewarded_ucent": sum(work.rewarded_ucent for work in works),
            "uses_paid": uses,
            "settled_ucent": report["settled_ucent"],
            "payments_per_second": int(report["receipts"] / replay_seconds),
            "settlement_transactions": status["settlements"],
            "gas_per_settled_channel": _gas_per_channel(status),
            "channels": status["channels"],
            "channels_closed": closed,
            "killed_and_recovered": recovery,
            "audit": {"ok": report["ok"], "difference_ucent": report["difference_ucent"]},
            "seconds": round(time.monotonic() - began, 1),
            "kept": None if options.keep is None else str(folder),
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="farthing-demo-") as name:
            yield Path(name)
        return
    yield empty(keep)


def _refusals(works: Sequence[Work], malformed: int) -> dict[str, int]:
    counts: dict[str, int] = {"malformed-row": malformed} if malformed else {}
    for work in works:
        for code, count in work.refusals.items():
            counts[code] = counts.get(code, 0) + count
    return counts


def _replay(city: City, works: list[Work], stage: Stage) -> tuple[Recovery, int]:
    """All devices and residents at once; the first device is killed on the way."""
    with ThreadPoolExecutor(max_workers=len(works) + len(city.residents()) + 1) as pool:
        try:
            return _replay_in(pool, city, works, stage)
        except BaseException:  # Ctrl-C and SIGTERM most of all
            city.stop()  # else the pool would wait until everything was replayed
            raise


def _replay_in(
    pool: ThreadPoolExecutor, city: City, works: list[Work], stage: Stage
) -> tuple[Recovery, int]:
    killed = pool.submit(_replay_and_kill, city, works[0], stage.say)
    others = [pool.submit(submit, work, work.packs) for work in works[1:]]
    uses = [pool.submit(pay_per_use, city, resident) for resident in city.residents()]
    pending: list[Future[Any]] = [killed, *others, *uses]
    while not all(future.done() for future in pending):
        time.sleep(PROGRESS_SECONDS)  # between two lines for whoever watches
        _progress(city, stage)
    for future in others:
        future.result()
    recovery, paid_uses = killed.result(), sum(future.result() for future in uses)
    list(pool.map(collect, works))
    _progress(city, stage)
    return recovery, paid_uses


def _replay_and_kill(city: City, work: Work, say: Say) -> Recovery:
    first = len(work.packs) // KILL_AFTER_PART
    submit(work, work.packs[:first])
    return kill_in_flight(city, work, work.packs[first:], say)


def _progress(city: City, stage: Stage) -> None:
    status = city.hub.ask("status")
    stage.progress(
        f"block {status['head_block']}: rewarded {format_cents(status['rewarded_ucent'])},"
        f" received {format_cents(status['received_ucent'])},"
        f" settled {format_cents(status['settled_ucent'])}"
        f" in {status['settlements']} transactions"
    )


def _gas_per_channel(status: dict[str, Any]) -> int:
    """Settlement gas over the channels that settlements raised, each counted in each of them."""
    gas: int = status["settlement_gas"] // max(status["settled_channels"], 1)
    return gas


def _close_two(city: City, say: Say) -> int:
    """One channel closes by agreement, one through its window; returns how many are closed."""
    agreeing, alone = city.residents()[-1], city.devices()[-1]
    agreeing.process.ask("close")
    _wait_closed(city, agreeing)
    say(f"{agreeing.name}'s channel closed by agreement")
    alone.process.ask("start_close")
    say(f"{alone.name} starts a close alone; the devnet's clock moves over its window")
    _rpc(city, "evm_increaseTime", [CHALLENGE_SECONDS_MIN + 1])
    _rpc(city, "anvil_mine", [hex(CHALLENGE_BLOCKS_MIN + 1)])
    _wait_closed(city, alone)
    say(f"{alone.name}'s channel closed and paid out")
    return sum(1 for row in city.hub.ask("channels") if row["phase"] == "closed")


def _wait_closed(city: City, wallet: Wallet) -> None:
    deadline = time.monotonic() + CLOSE_SECONDS_MAX
    while hub_row(city, wallet)["phase"] != "closed":
        if time.monotonic() > deadline:
            raise ProcessFailed(f"the channel of {wallet.name} did not close within a minute")
        time.sleep(POLL_SECONDS)


def _rpc(city: City, method: str, params: list[Any]) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(city.rpc_url, json=request, timeout=RPC_SECONDS_MAX, trust_env=False)
    return answer.json()["result"]


def text_of(summary: dict[str, Any]) -> str:
    """The summary for people."""
    recovery, audit = summary["killed_and_recovered"], summary["audit"]
    verdict = "ties out" if audit["ok"] else "DIFFERS"
    why = ", ".join(f"{count} {code}" for code, count in summary["refusals"].items())
    lines = [
        f"readings     {summary['readings']:,}: {summary['rewarded']:,} rewarded at once,"
        f" {summary['refused']} refused ({why or 'none'})",
        f"payments     {summary['payments']:,}, {summary['payments_per_second']:,} a second,"
        f" each with a receipt",
        f"paid         {summary['paid_ucent']:,} µ¢ = {format_cents(summary['paid_ucent'])},"
        f" of it {summary['uses_paid']} uses paid by residents",
        f"settled      {summary['settled_ucent']:,} µ¢ in {summary['settlement_transactions']}"
        f" transactions, {summary['gas_per_settled_channel']:,} gas a settled channel",
        f"channels     {summary['channels']}, of them {summary['channels_closed']} closed",
        f"killed       {recovery['kills']} device with {recovery['in_flight_at_kill']} payments in"
        f" flight: {recovery['lost']} lost, {recovery['double_counted']} counted twice",
        f"audit        {verdict}, difference {audit['difference_ucent']} µ¢",
        f"took         {summary['seconds']} s",
    ]
    if summary["kept"] is not None:
        lines.append(f"kept in      {summary['kept']}")
    return "\n".join(lines)


def is_good(summary: dict[str, Any]) -> bool:
    """Whether everything held that the demo is there to show."""
    recovery = summary["killed_and_recovered"]
    return bool(
        summary["audit"]["ok"]
        and summary["audit"]["difference_ucent"] == 0
        and recovery["lost"] == 0
        and recovery["double_counted"] == 0
        and summary["settled_ucent"] == summary["paid_ucent"]
    )
