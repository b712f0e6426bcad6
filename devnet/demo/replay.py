"""Replays readings through the devices, pays per use, and kills a device in the middle."""

from __future__ import annotations

import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from ...channels.client.exports import receipt_lines
from ...channels.client.ledger import Ledger
from ...channels.ids import address_to_hex
from ...channels.messages import SUBMISSION_BYTES
from ...channels.receipt import Receipt, ReceiptType
from ...channels.senml import PackFormat
from ...channels.senml_record import Record, encode_json
from ...channels.units import UCENT_PER_CENT
from ..city import City, Say, Wallet
from ..processes import ProcessFailed
from ..readings import Reading, RefusedRow, read_readings

BURST_SUBMISSIONS = 40
"""Sent just before the kill: enough that the hub's answers are still under way."""
BURSTS_MAX = 20
ANSWER_SECONDS_MAX = 60
POLL_SECONDS = 0.1
USES = 60
USE_UCENT = 20_000
"""0.02 ¢ for one use, such as a minute of charging."""
GOOD_DEED_UCENT = 5 * UCENT_PER_CENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The readings of one row, submitted under one id."""

    id: str
    senml: str
    records: int


@dataclass(slots=True, kw_only=True)
class Work:
    """What one device submits, and what became of it."""

    wallet: Wallet
    packs: list[Pack] = field(default_factory=list)
    rewarded: int = 0
    rewarded_ucent: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


Recovery = dict[str, int]
"""What a killed device held before and after, by the hub's record and its own database."""


def plan(
    city: City, files: Sequence[Path], now: int, say: Say
) -> tuple[list[Work], list[RefusedRow]]:
    """Share the files' rows among the devices; rows that cannot be read are reported, not lost."""
    works = [Work(wallet=wallet) for wallet in city.devices()]
    malformed: list[RefusedRow] = []
    turn = 0
    for path in files:
        for row in _rows(path, now):
            readable = [cell.record for cell in row if isinstance(cell, Reading)]
            for cell in row:
                if isinstance(cell, RefusedRow):
                    malformed.append(cell)
                    where = f"{cell.file.name}, line {cell.line}"
                    say(f"refused: {where}: {cell.reason}: {cell.remedy}")
            if readable:
                works[turn % len(works)].packs.append(_pack(readable))
                turn += 1
    return works, malformed


def _rows(path: Path, now: int) -> Iterator[list[Reading | RefusedRow]]:
    cells = read_readings(path, now=now, base_name=f"{path.stem}/")
    for _, row in groupby(cells, key=lambda cell: cell.line):
        yield list(row)


def _pack(records: Sequence[Record]) -> Pack:
    return Pack(
        id="0x" + secrets.token_hex(SUBMISSION_BYTES),
        senml=encode_json(records).decode(),
        records=len(records),
    )


def submit(work: Work, packs: Sequence[Pack]) -> None:
    """Put packs into the device's queue; each is durable when its call returns."""
    for pack in packs:
        work.wallet.process.ask("submit", id=pack.id, senml=pack.senml, format=int(PackFormat.JSON))


def collect(work: Work) -> None:
    """Wait until every pack has its outcomes, and count them; raises `ProcessFailed`."""
    wait_answered(work)
    for pack in work.packs:
        for outcome in outcomes(work, pack):
            if "amount_ucent" in outcome:
                work.rewarded += 1
                work.rewarded_ucent += outcome["amount_ucent"]
            else:
                work.refusals[outcome["code"]] += 1


def outcomes(work: Work, pack: Pack) -> list[dict[str, Any]]:
    """The outcomes of a pack that was answered."""
    answer: dict[str, Any] = work.wallet.process.ask("outcome", id=pack.id)
    found: list[dict[str, Any]] = answer["outcomes"]
    return found


def wait_answered(work: Work) -> None:
    """Wait until the device's queue is empty; raises `FarthingError`."""
    work.wallet.process.ask("wait_queue_empty", timeout_seconds=ANSWER_SECONDS_MAX)


def hub_row(city: City, wallet: Wallet) -> dict[str, Any]:
    """The hub's view of a wallet's channel."""
    account = address_to_hex(wallet.account)
    row: dict[str, Any] = next(r for r in city.hub.ask("channels") if r["account"] == account)
    return row


def kill_in_flight(city: City, work: Work, packs: Sequence[Pack], say: Say) -> Recovery:
    """SIGKILL the device while updates of the hub are unacknowledged, restart it, and compare.

    The device is stopped first (SIGSTOP) at a moment when the hub waits for its acknowledgement,
    so that an update surely is in flight when the kill comes.
    """
    process = work.wallet.process
    at_kill: dict[str, Any] = {}
    remaining = list(packs)
    for _ in range(BURSTS_MAX):
        burst, remaining = remaining[:BURST_SUBMISSIONS], remaining[BURST_SUBMISSIONS:]
        submit(work, burst)
        process.signal(signal.SIGSTOP)
        at_kill = hub_row(city, work.wallet)
        if at_kill["unacknowledged"] or not remaining:
            break
        process.signal(signal.SIGCONT)
    process.kill()
    at_kill = hub_row(city, work.wallet)
    say(
        f"{work.wallet.name} killed with SIGKILL, {at_kill['unacknowledged']} payments in flight,"
        f" {at_kill['acknowledged_nonce']} acknowledged"
    )
    process.start()
    process.wait_ready()
    submit(work, remaining)
    wait_answered(work)
    after = _wait_acknowledged(city, work.wallet)
    held = [line["nonce"] for line in _held(city, work.wallet)]
    acknowledged = set(range(1, at_kill["acknowledged_nonce"] + 1))
    say(f"{work.wallet.name} is back and holds {len(held)} payments")
    return {
        "kills": 1,
        "acknowledged_before": at_kill["acknowledged_nonce"],
        "acknowledged_after_restart": after["acknowledged_nonce"],
        "in_flight_at_kill": at_kill["unacknowledged"],
        "lost": len(acknowledged - set(held)),
        "double_counted": len(held) - len(set(held)) + _twice_rewarded(city, work.wallet),
    }


def _wait_acknowledged(city: City, wallet: Wallet) -> dict[str, Any]:
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while True:
        row = hub_row(city, wallet)
        if not row["unacknowledged"]:
            return row
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{wallet.name} has not acknowledged what the hub sent")
        time.sleep(POLL_SECONDS)


def _held(city: City, wallet: Wallet) -> list[dict[str, Any]]:
    """The payments to a wallet that its own database holds."""
    ledger = Ledger(city.folder / "wallets" / wallet.name / "ledger.sqlite")
    try:
        account = address_to_hex(wallet.account)
        return [line for line in receipt_lines(ledger) if line["payee"] == account]
    finally:
        ledger.close()


def _twice_rewarded(city: City, wallet: Wallet) -> int:
    """How many readings of a wallet were paid for more than once, by its receipts."""
    readings = Counter(_commitment(line) for line in _held(city, wallet))
    return sum(count - 1 for count in readings.values())


def _commitment(line: dict[str, Any]) -> bytes:
    receipt = Receipt(
        type=ReceiptType(line["type"]),
        cbor=bytes.fromhex(line["receipt"][2:]),
        salt=bytes.fromhex(line["salt"][2:]),
    )
    commitment: bytes = receipt.fields().get("reading", receipt.salt)
    return commitment


def pay_per_use(city: City, resident: Wallet) -> int:
    """A resident asks for the reward of a good deed, then pays use after use; returns the uses."""
    asked = resident.process.ask("request", amount_ucent=GOOD_DEED_UCENT, purpose="good-deed")
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while asked["id"] not in {r["id"] for r in city.hub.ask("requests")}:
        if time.monotonic() > deadline:
            raise ProcessFailed(f"the hub never saw the request of {resident.name}")
        time.sleep(POLL_SECONDS)
    city.hub.ask("answer", id=asked["id"], pay=True)
    while resident.process.ask("balance")["in_channel_ucent"] < GOOD_DEED_UCENT:
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{resident.name} never got the reward of its good deed")
        time.sleep(POLL_SECONDS)
    for _ in range(USES):
        resident.process.ask("pay", amount_ucent=USE_UCENT, purpose="charging")
    return USES
