"""Reads one process's calls beside the model of its disk: what it said before it was durable."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .disk import SECTORS, Descriptors, Disk, write_image
from .held import Held, missing, read_held
from .said import Mouth, Said
from .trace import Trace

SEED = 20260713

Image = dict[str, bytes]
Kind = Callable[[Disk, random.Random], Image]


def powerless(disk: Disk, _: random.Random) -> Image:
    """Only what was synced."""
    return disk.synced()


def torn(disk: Disk, dice: random.Random) -> Image:
    """What was synced, and any sectors of the rest."""
    return disk.torn(dice, dice.choice(SECTORS))


def killed(disk: Disk, _: random.Random) -> Image:
    """All that was written: the process ended, the power did not."""
    return disk.seen()


@dataclass
class Verdict:
    """What was found in one run of one process."""

    said: list[Said] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    """What had left when only synced bytes would have survived, and they did not cover it."""
    torn: list[str] = field(default_factory=list)
    """What was lost although it was synced, where other bytes were there in part."""
    images: int = 0
    torn_images: int = 0
    syncs: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counter[str]:
        return Counter(said.kind for said in self.said)


class Judge:
    """One disk through one process's life after another."""

    def __init__(self, disk: Disk, database: str, scratch: Path, *, torn_images: int = 0) -> None:
        self.disk = disk
        self._database = database
        self._scratch = scratch
        self._torn_images = torn_images
        self._dice = random.Random(SEED)  # noqa: S311 - the same images each time

    def judge(self, trace: Trace, mouth: Mouth) -> Verdict:
        """Follow a trace to its end."""
        verdict, descriptors = Verdict(), Descriptors(self.disk)
        unjudged: list[Said] = []
        syncs = sum(1 for _ in trace.calls("fsync", "fdatasync"))
        tears = set(self._dice.sample(range(syncs), min(self._torn_images, syncs)))
        begun = 0
        for edge in trace.edges:
            if descriptors.will_sync(edge):
                self._judge(unjudged, verdict)
                name = Path(edge.call.paths()[0]).name
                verdict.syncs[f"{name} {edge.call.error}".strip()] += 1
            is_sync = edge.call.name in ("fsync", "fdatasync") and not edge.is_end
            if is_sync and begun in tears:
                self._tear(verdict)
            begun += is_sync
            descriptors.take(edge)
            if not edge.is_end:
                heard = mouth.take(edge.call)
                unjudged += heard
                verdict.said += heard
        self._judge(unjudged, verdict)
        return verdict

    def images(self, trace: Trace, moments: list[float], kinds: list[Kind]) -> list[Image]:
        """The image of each moment, in order, of the kind that is asked for it."""
        descriptors = Descriptors(self.disk)
        found: list[Image] = []
        for edge in trace.edges:
            while len(found) < len(moments) and edge.at > moments[len(found)]:
                found.append(kinds[len(found)](self.disk, self._dice))
            descriptors.take(edge)
        while len(found) < len(moments):
            found.append(kinds[len(found)](self.disk, self._dice))
        return found

    def held(self, image: Image) -> Held:
        """What an image holds."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        return read_held(write_image(image, self._scratch), self._database)

    def _judge(self, unjudged: list[Said], verdict: Verdict) -> None:
        """Judge what left since the last sync: the image is the same for all of it."""
        if not unjudged:
            return
        held = self.held(self.disk.synced())
        verdict.images += 1
        verdict.early += [lost for said in unjudged if (lost := missing(said, held))]
        unjudged.clear()

    def _tear(self, verdict: Verdict) -> None:
        """Cut the power where most is on its way: everything said so far must be held."""
        held = self.held(torn(self.disk, self._dice))
        verdict.torn_images += 1
        kept = [said for said in verdict.said if said.kind != "transaction"]
        verdict.torn += [lost for said in kept if (lost := missing(said, held))]
