"""A run of chaos: start, load, kill and trouble by the schedule, rest, settle, compare, audit."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...channels.client.exports import export_receipts
from ...channels.client.folder import Folder
from ...channels.client.keystore import address as address_of
from ...channels.signing import SECRET_BYTES, Signer
from ...node.administration import Role
from ...node.home import DATABASE_NAME, OUTBOX_NAME
from ..auditing import audit
from ..city import City, Person, Plan, Say, open_city
from ..folders import empty
from ..processes import FARTHING
from .compare import Comparison, compare_all, promised
from .conserved import Conservation, judge, read_chain
from .gauge import PERIOD_SECONDS_MIN, SAMPLES, Gauge
from .lives import Life
from .schedule import HUB, FaultKind, Schedule, plan
from .storm import Storm
from .tally import Reported, Tally
from .troubles import Troubles

PROGRAMME = Path(__file__).with_name("programme.toml")
WALLETS_DEFAULT = 4
RATE_DEFAULT = 1_100.0
"""Payments a second of all wallets together, both directions."""
READ_SHARE = 0.2
"""Of the payments, those that the hub makes, for readings."""

BASE_SECONDS = 30 * 86_400
"""How long before the run the first reading was taken: room for two hundred lives of a wallet."""
SETTLE_SECONDS = 10
AUDIT_SECONDS_MAX = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How chaos is run; `hub_program` is what tests put in the hub's place."""

    kills: int
    seed: int
    wallets: int = WALLETS_DEFAULT
    rate: float = RATE_DEFAULT
    faults: tuple[FaultKind, ...] = ()
    minutes: float = 0.0
    """How long the load lasts at least, of working time: what makes a soak."""
    hub_program: str = FARTHING

    def names(self) -> tuple[str, ...]:
        """The wallets' names."""
        first = ("alice", "bob", "carol", "dave")
        return tuple(first[n] if n < len(first) else f"wallet-{n + 1}" for n in range(self.wallets))

    def schedule(self) -> Schedule:
        """What is done when: the same for the same options."""
        planned = plan(self.kills, self.seed, self.names(), self.faults)
        return replace(planned, working_seconds=max(planned.working_seconds, self.minutes * 60))


def chaos_in(keep: Path | None, options: Options, say: Say) -> dict[str, Any]:
    """Run in a folder that is kept if it was asked for, or if anything is wrong.

    Raises `FolderNotEmpty`, and as `run_chaos`; the folder is kept then, too.
    """
    folder = Path(tempfile.mkdtemp(prefix="farthing-chaos-")) if keep is None else empty(keep)
    good = False
    try:
        summary = run_chaos(options, folder, say)
        good = is_good(summary)
    finally:
        if good and keep is None:
            shutil.rmtree(folder)
        elif not good:
            say(f"kept everything in {folder}")
    return {**summary, "ok": good, "kept": str(folder) if folder.exists() else None}


def run_chaos(options: Options, folder: Path, say: Say) -> dict[str, Any]:
    """Run everything in an empty folder and return the summary; raises `FarthingError`."""
    began = time.monotonic()
    schedule = options.schedule()
    (folder / "schedule.json").write_text(_schedule_text(schedule))
    with ExitStack() as stack:
        tally = Tally(options.names(), folder / "acknowledged.jsonl")
        stack.callback(tally.close)
        troubles = Troubles(folder, options.faults)
        stack.callback(troubles.close)
        troubles.make_clocks((HUB, *options.names()))
        city = stack.enter_context(open_city(folder, _plan(options, tally, troubles), say))
        since = time.monotonic()
        lives = _lives(city, tally, since)
        troubles.attach(city, lives)
        gauge = _gauge(folder, options, schedule)
        storm = Storm(city, tally, troubles, lives, gauge, say)
        for wallet in city.wallets.values():
            wallet.process.ask("begin", since=since)
        storm.carry_out(schedule)
        acknowledged, seconds = tally.counts()[1], time.monotonic() - since
        storm.calm_down()
        load_seconds = storm.rest() - since
        say("at rest: nothing is outstanding; settling")
        settlements = _settle_and_close(city, say)
        for life in lives.values():  # what counts is what the files hold
            life.process.kill()
        loaded = {
            "seed": options.seed,
            "kills": storm.kills.total(),
            "kills_hub": storm.kills[HUB],
            "kills_wallet": storm.kills.total() - storm.kills[HUB],
            "offered": tally.counts()[0],
            "acknowledged": tally.counts()[1],
            "offered_per_second": round(tally.counts()[0] / load_seconds),
            "acknowledged_per_second": round(acknowledged / seconds),
            "refused": _refusals(tally),
            "channels": len(city.wallets),
            "settlements": settlements,
            "faults": troubles.counts(),
            "not_available": troubles.not_available(),
            "died": storm.died,
            **gauge.summary(),
        }
        summary = {
            **loaded,
            **_examined(city, options, folder, tally, say),
            "load_seconds": round(load_seconds, 1),
            "seconds": round(time.monotonic() - began, 1),
        }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _examined(city: City, options: Options, folder: Path, tally: Tally, say: Say) -> dict[str, Any]:
    """Compare what was acknowledged with the files, the files with the chain, and audit."""
    say("comparing what was acknowledged with what both sides hold")
    hub = _hub_database(folder)
    found, held = compare_all(hub, _wallet_databases(folder, options), tally.wallets)
    conservation = judge(held, read_chain(city, _hub_account(folder), held))
    say("auditing")
    receipts = folder / "receipts.jsonl"
    export_receipts(hub, receipts)
    report = audit(city, receipts, seconds_max=AUDIT_SECONDS_MAX)
    return {
        "kills_in_flight": tally.in_flight(promised(held).__contains__),
        "lost": found.lost,
        "double_counted": found.double_counted,
        "unbalanced": found.unbalanced,
        "conserved": conservation.conserved,
        "audit_ok": report["ok"],
        "problems": _problems(found, conservation, report),
    }


def _schedule_text(schedule: Schedule) -> str:
    return json.dumps([entry.record() for entry in schedule.entries], indent=1) + "\n"


def _plan(options: Options, tally: Tally, troubles: Troubles) -> Plan:
    people = [
        Person(
            name=name,
            role=Role.RESIDENT,
            account=Signer(secrets.token_bytes(SECRET_BYTES)).address,
            key=secrets.token_bytes(SECRET_BYTES),
        )
        for name in options.names()
    ]
    each = options.rate / options.wallets
    rates = ("--pay-rate", repr(each * (1 - READ_SHARE)), "--read-rate", repr(each * READ_SHARE))
    base = int(time.time()) - BASE_SECONDS
    return Plan(
        people=people,
        programme=PROGRAMME,
        hub_settings={"listen_port": troubles.hub_port, "settle_age_seconds": SETTLE_SECONDS},
        hub_program=options.hub_program,
        wallet_program="farthing.devnet.chaos.wallet",
        wallet_arguments=lambda name: ["--name", name, *rates, "--base", str(base)],
        rpc_front=troubles.rpc_front,
        hub_front=troubles.hub_front,
        clocks=troubles.clocks,
        on_line=tally.take,
    )


def _lives(city: City, tally: Tally, since: float) -> dict[str, Life]:
    lives = {HUB: Life(name=HUB, process=city.hub, is_wallet=False)}
    for wallet in city.wallets.values():
        lives[wallet.name] = Life(
            name=wallet.name,
            process=wallet.process,
            is_wallet=True,
            resume=partial(_resume, tally.wallets[wallet.name], since),
        )
    return lives


def _resume(reported: Reported, since: float) -> tuple[str, ...]:
    """Where a wallet's load stands: what fell due since then, less what was ordered of it."""
    ordered, submitted = str(reported.ordered), str(len(reported.submitted))
    return ("--since", repr(since), "--ordered", ordered, "--submitted", submitted)


def _gauge(folder: Path, options: Options, schedule: Schedule) -> Gauge:
    wallets = {name: Folder(path=folder / "wallets" / name).outbox for name in options.names()}
    return Gauge(
        databases={HUB: _hub_database(folder), **_wallet_databases(folder, options)},
        outboxes={HUB: _hub_database(folder).with_name(OUTBOX_NAME), **wallets},
        record=folder / "samples.jsonl",
        period_seconds=max(PERIOD_SECONDS_MIN, schedule.working_seconds / SAMPLES),
    )


def _hub_database(folder: Path) -> Path:
    return folder / "hub/data" / DATABASE_NAME


def _hub_account(folder: Path) -> Any:
    return address_of(folder / "hub/account.json")


def _wallet_databases(folder: Path, options: Options) -> dict[str, Path]:
    return {name: Folder(path=folder / "wallets" / name).ledger_file for name in options.names()}


def _settle_and_close(city: City, say: Say) -> int:
    """Settle everything, then close all channels but the first; how many settlements there were."""
    city.hub.ask("settle")
    first, *others = city.wallets.values()
    with ThreadPoolExecutor(max_workers=len(city.wallets)) as pool:
        list(pool.map(lambda wallet: wallet.process.ask("close"), others))
    say(f"{len(others)} channels closed by agreement, {first.name}'s stays open")
    settlements: int = city.hub.ask("status")["settlements"]
    return settlements


def _refusals(tally: Tally) -> dict[str, int]:
    """How many orders and readings were refused, by reason: nothing was promised for them."""
    refusals: Counter[str] = Counter()
    for reported in tally.wallets.values():
        refusals += reported.refusals
    return dict(refusals)


def _problems(
    found: Comparison, conservation: Conservation, report: dict[str, Any]
) -> list[dict[str, Any]]:
    """Everything that is wrong, with its reference and channel where it has them."""
    problems = [asdict(problem) for problem in found.problems]
    problems += [
        {"wrong": "not-conserved", "channel": "", "reference": "", "text": text}
        for text in conservation.problems
    ]
    if not report["ok"]:
        problems += [
            {
                "wrong": f"audit: {finding['code']}",
                "channel": finding["channel"] or "",
                "reference": "",
                "text": finding["text"],
            }
            for finding in report["findings"]
        ] or [{"wrong": "audit", "channel": "", "reference": "", "text": report["text"]}]
    return problems


def is_good(summary: dict[str, Any]) -> bool:
    """Whether nothing was lost, counted twice or created, and the audit ties out."""
    return bool(
        summary["lost"] == 0
        and summary["double_counted"] == 0
        and summary["unbalanced"] == 0
        and summary["conserved"]
        and summary["audit_ok"]
        and not summary["died"]
        and summary["memory_flat"] is not False
    )
