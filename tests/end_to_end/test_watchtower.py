"""A watchtower on a real chain over real sockets: what it keeps, refuses, and answers."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.messages import Ping, Pong
from farthing.channels.state import ChainStatus
from farthing.channels.terms import Side
from farthing.node.watchtower.tower import Tower

from ..hub_world import City, new_signer, until
from ..tower_world import (
    Street,
    deposit_of,
    depositor,
    make_street,
    running_tower,
    tower_folder,
    voucher_of,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

EARNED_UCENT = 40_000


@pytest.fixture
async def street(hub_city: City) -> Street:
    return await trio.to_thread.run_sync(make_street, hub_city)


@pytest.fixture
async def config(hub_city: City, tmp_path: Path) -> Path:
    return await trio.to_thread.run_sync(tower_folder, hub_city, tmp_path / "tower")


@pytest.fixture
async def tower(config: Path) -> AsyncIterator[Tower]:
    async with running_tower(config) as tower:
        yield tower


async def test_a_sleeping_wallet_whose_hub_closes_with_nothing_settled_is_paid_in_full(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with depositor(hub_city, tower, alice) as wallet:
        await wallet.kept(deposit_of(terms, street.voucher(terms, EARNED_UCENT)))
    await trio.to_thread.run_sync(street.start_close, terms)
    await until(lambda: tower.answerer.answered == 1)
    view = await trio.to_thread.run_sync(street.view, terms)
    assert view.status is ChainStatus.CLOSING
    assert view.settled_ucent == (EARNED_UCENT, 0)
    await trio.to_thread.run_sync(street.pass_window)
    await until(lambda: tower.channel_rows()[0]["status"] == "closed")
    assert await trio.to_thread.run_sync(street.tokens, alice.address) == EARNED_UCENT
