"""What is done to whom and when: a schedule made from a seed alone, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ...channels.errors import LocalError

HUB = "hub"
DEVNET = "devnet"
NETWORK = "network"
"""Who is troubled by a fault of the wire: everybody."""

KILL = "kill"

HUB_SHARE = 0.32
"""Of all kills: a hub takes longer to be back than a wallet, and while it is away nobody pays."""
AGAIN_SHARE = 0.1
"""Of all kills, those that come while the same process starts after the one before."""

GAP_SECONDS = (0.5, 2.3)
"""Between two kills, in working time: enough for some thousand payments."""
DOWN_SECONDS = (0.2, 1.0)
"""How long a killed process stays down."""
AGAIN_SECONDS = (0.1, 1.5)
"""After how much of its start a process is killed again: in its imports, or in its recovery."""
FIRST_SECONDS = 1.5
"""Load alone, before the first kill."""
LAST_SECONDS = 1.5
"""Load alone, after the last one."""


class UnknownFault(LocalError):
    """A kind of fault that there is not."""

    code = "unknown-fault"

    def __init__(self, kind: str) -> None:
        kinds = ", ".join(kind.value for kind in FaultKind)
        super().__init__(f"{kind!r} is no kind of fault", remedy=f"name some of {kinds}, or all")


class FaultKind(StrEnum):
    """What else is done besides killing; each kind has several faults."""

    WIRE = "wire"
    DISK = "disk"
    CHAIN = "chain"
    CLOCK = "clock"


class Fault(StrEnum):
    """One thing that goes wrong."""

    WIRE_DROP = "wire-drop"
    WIRE_CUT = "wire-cut"
    WIRE_DELAY = "wire-delay"
    WIRE_STALL = "wire-stall"
    WIRE_DOUBLE = "wire-double"
    WIRE_SWAP = "wire-swap"
    DISK_FULL = "disk-full"
    DISK_FSYNC = "disk-fsync"
    CHAIN_STALL = "chain-stall"
    CHAIN_REORG = "chain-reorg"
    CHAIN_CUT = "chain-cut"
    CHAIN_HANGING = "chain-hanging"
    CHAIN_LAGGING = "chain-lagging"
    CHAIN_FAR_NUMBER = "chain-far-number"
    CHAIN_CHANGING_HASH = "chain-changing-hash"
    CHAIN_NO_RECEIPTS = "chain-no-receipts"
    CHAIN_ERROR = "chain-error"
    CHAIN_NOT_JSON = "chain-not-json"
    CHAIN_WRONG_TYPE = "chain-wrong-type"
    CLOCK_AHEAD = "clock-ahead"
    CLOCK_BEHIND = "clock-behind"

    @property
    def kind(self) -> FaultKind:
        """The kind that it is one of."""
        return FaultKind(self.value.partition("-")[0])


SECONDS: dict[FaultKind, tuple[float, float]] = {
    FaultKind.WIRE: (0.2, 2.0),
    FaultKind.DISK: (2.0, 4.0),
    FaultKind.CHAIN: (0.5, 4.0),
    FaultKind.CLOCK: (0.5, 3.0),
}
"""How long a fault of a kind lasts."""

JUMP_SECONDS = (2.0, 3_600.0)
"""How far a clock jumps: from a correction to a wrong time zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that is done: at which second of working time, to whom, and for how long.

    Working time stands still while the hub is away, so that a slow machine kills no process more
    often than it can be started. `what` is `kill` or a fault's name; `amount` is how far a clock
    jumps, in seconds. `again` is how long after its start a process is killed a second time; 0 if
    it is not.
    """

    at: float
    what: str
    victim: str
    seconds: float
    amount: float = 0.0
    again: float = 0.0

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Everything that will be done, in order, and how much working time the load lasts."""

    entries: tuple[Entry, ...]
    working_seconds: float


def faults_of(names: str) -> tuple[FaultKind, ...]:
    """Read a list such as `wire,disk`, or `all`; raises `UnknownFault`."""
    if names == "all":
        return tuple(FaultKind)
    found = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in [kind.value for kind in FaultKind]:
            raise UnknownFault(name)
        found.append(FaultKind(name))
    return tuple(dict.fromkeys(found))


def plan(
    kills: int, seed: int, wallets: Sequence[str], kinds: Sequence[FaultKind] = ()
) -> Schedule:
    """Make the schedule of a seed: the same arguments give the same one, on any machine."""
    dice = random.Random(seed)  # noqa: S311 - chance that can be repeated, no secret
    entries = _kills(dice, kills, wallets)
    working_seconds = (entries[-1].at if entries else FIRST_SECONDS) + LAST_SECONDS
    # Chance of their own, so that faults leave the kills of a seed as they are.
    faults = random.Random(f"{seed} faults")  # noqa: S311 - as above
    entries += _faults(faults, kills, working_seconds - LAST_SECONDS, wallets, kinds)
    entries.sort(key=lambda entry: (entry.at, entry.what))
    return Schedule(entries=tuple(entries), working_seconds=working_seconds)


def _kills(dice: random.Random, kills: int, wallets: Sequence[str]) -> list[Entry]:
    """Shares are exact, the order is chance: each wallet is killed as often as another."""
    twice = round(kills * AGAIN_SHARE)
    again = [(victim, True) for victim in _victims(twice, wallets)]
    once = [(victim, False) for victim in _victims(kills - 2 * twice, wallets)]
    victims = again + once
    dice.shuffle(victims)
    entries = []
    at = FIRST_SECONDS
    for victim, is_twice in victims:
        down, after = dice.uniform(*DOWN_SECONDS), dice.uniform(*AGAIN_SECONDS)
        entry = Entry(
            at=round(at, 3),
            what=KILL,
            victim=victim,
            seconds=round(down, 3),
            again=round(after, 3) if is_twice else 0.0,
        )
        entries.append(entry)
        at += dice.uniform(*GAP_SECONDS)
    return entries


def _victims(kills: int, wallets: Sequence[str]) -> list[str]:
    of_hub = round(kills * HUB_SHARE)
    return [HUB] * of_hub + [wallets[n % len(wallets)] for n in range(kills - of_hub)]


def _faults(
    dice: random.Random,
    kills: int,
    until: float,
    wallets: Sequence[str],
    kinds: Sequence[FaultKind],
) -> list[Entry]:
    """About as many faults as there are kills; each one comes up before any comes up again."""
    wanted = [fault for fault in Fault if fault.kind in kinds]
    if not wanted:
        return []
    turns = max(1, round(kills / len(wanted)))
    entries = []
    for _ in range(turns):
        dice.shuffle(wanted)
        entries += [_fault(dice, fault, until, wallets) for fault in wanted]
    return entries


def _fault(dice: random.Random, fault: Fault, until: float, wallets: Sequence[str]) -> Entry:
    at = round(dice.uniform(FIRST_SECONDS / 2, until), 3)
    seconds = round(dice.uniform(*SECONDS[fault.kind]), 3)
    somebody = dice.choice([HUB, *wallets])
    amount = round(dice.uniform(*JUMP_SECONDS), 3)
    match fault.kind:
        case FaultKind.WIRE:
            return Entry(at=at, what=fault, victim=NETWORK, seconds=seconds)
        case FaultKind.CHAIN:
            return Entry(at=at, what=fault, victim=DEVNET, seconds=seconds)
        case FaultKind.DISK:
            return Entry(at=at, what=fault, victim=somebody, seconds=seconds)
        case FaultKind.CLOCK:
            sign = 1 if fault is Fault.CLOCK_AHEAD else -1
            return Entry(at=at, what=fault, victim=somebody, seconds=seconds, amount=sign * amount)
