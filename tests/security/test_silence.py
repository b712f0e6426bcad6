"""Silence that is made up: floods, a deaf hub, a mistake, and a hub that only proves who it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from farthing.channels.client import connection, follower
from farthing.channels.client.folder import Folder, Policy, write_settings
from farthing.channels.state import Channel
from farthing.channels.terms import Side
from farthing.node import silence as silence_module
from farthing.node.settler import Watcher
from farthing.node.silence import Silence, SilenceLimits

from ..end_to_end.small_city import earn, open_city, settings, until
from ..hub_parts import Parts, parts
from ..people import BOB, CAROL, DEPLOYMENT, terms

DAY = 86_400
LIMITS = SilenceLimits(settle_seconds=DAY, close_seconds=30 * DAY, closes_per_hour=2)
LOOK_SECONDS = 600


@dataclass
class Listening:
    """A hub that looks every ten minutes; bob has four channels and is away, carol has one."""

    hub: Parts
    now: list[float]
    closed: list[Channel] = field(default_factory=list)
    hears_carol: bool = True
    turned_away: int = 0

    def __post_init__(self) -> None:
        for number, wallet in ((1, BOB), (2, CAROL), (3, BOB), (4, BOB), (5, BOB)):
            made = terms(wallet, number)
            channel = Channel(id=DEPLOYMENT.channel_id(made), terms=made, side=Side.A)
            self.hub.hold(channel)
            if wallet is BOB:
                self.bob = channel.id
        self.silence = Silence(
            self.hub.store.ledger,
            self.hub.driver,
            cast("Watcher", self),
            lambda: {CAROL.address} if self.hears_carol else set(),
            LIMITS,
        )
        self.silence.turned_away = lambda: self.turned_away

    async def start_close(self, channel: Channel) -> None:
        """Stand in for the watcher."""
        self.closed.append(channel)

    async def goes_on(self, seconds: float, *, flooded: bool = False) -> None:
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.now[0] += LOOK_SECONDS
            self.turned_away += flooded
            await self.silence.look()

    @property
    def silent_seconds(self) -> int:
        """How long bob is taken to have been silent."""
        return self.silence.silent_seconds(self.bob)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    now = [0.0]
    fake = SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0])
    monkeypatch.setattr(silence_module, "time", fake)
    with parts(tmp_path) as made:
        yield Listening(made, now)


async def test_wallets_that_were_turned_away_are_not_silent(hub: Listening) -> None:
    await hub.silence.look()
    await hub.goes_on(40 * DAY, flooded=True)
    assert (hub.silent_seconds, hub.closed) == (0, [])


async def test_a_hub_that_heard_nobody_was_the_silent_one(hub: Listening) -> None:
    await hub.silence.look()
    hub.hears_carol = False
    await hub.goes_on(40 * DAY)
    hub.hears_carol = True
    await hub.goes_on(LOOK_SECONDS)
    assert (hub.silent_seconds, hub.closed) == (0, [])


async def test_a_hub_whose_wallets_are_all_gone_ends_their_channels_one_after_another(
    hub: Listening,
) -> None:
    await hub.silence.look()
    hub.hears_carol = False
    await hub.goes_on(60 * DAY - LOOK_SECONDS)
    assert (hub.silent_seconds, hub.closed) == (0, [])
    await hub.goes_on(2 * LOOK_SECONDS)
    assert hub.silent_seconds >= 60 * DAY
    assert len(hub.closed) == 1
    await hub.goes_on(3600)
    assert len(hub.closed) == 3
    hub.hears_carol = True
    await hub.goes_on(LOOK_SECONDS)
    hub.hears_carol = False
    before = hub.silent_seconds
    await hub.goes_on(40 * DAY)
    assert hub.silent_seconds <= before + LOOK_SECONDS


async def test_channels_that_look_silent_are_not_closed_all_at_once(hub: Listening) -> None:
    await hub.silence.look()
    await hub.goes_on(30 * DAY)
    assert len(hub.closed) == 1
    await hub.goes_on(1200)
    assert len(hub.closed) == 1
    await hub.goes_on(3600)
    assert len({channel.id for channel in hub.closed}) == len(hub.closed) == 3


async def test_a_hub_that_only_proves_who_it_is_has_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (connection, "BACKOFF_SECONDS_MIN"),
        (connection, "BACKOFF_SECONDS_MAX"),
        (follower, "POLL_SECONDS_MIN"),
        (follower, "POLL_SECONDS_MAX"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    async with open_city(tmp_path) as city:
        policy = Policy(hub_silent_settle_seconds=DAY)
        write_settings(Folder(path=city.folder), settings(city.hub.port, policy))
        async with city.wallet() as wallet:
            await earn(wallet)
            city.hub.hangs_up = True
            for wire in list(city.hub.wires):
                wire.close_soon()
            before = len(city.hub.wires)
            await until(wallet, lambda: len(city.hub.wires) >= before + 5)
            city.chain.mine(seconds=DAY + 1)
            await wallet._follower.refresh()
            await until(wallet, lambda: bool(city.chain.settled))
