"""A wallet whose hub is silent: it settles, tells its owner, and closes where it is told to."""

import pytest

from farthing.channels.client import connection, tls
from farthing.channels.client.folder import Folder, MalformedSettings, Policy, write_settings
from farthing.channels.client.tls import Dialled
from farthing.channels.client.wallet import Wallet
from farthing.channels.state import ChainStatus, Channel

from .small_city import (
    ALICE,
    PRICE_UCENT,
    WINDOW_BLOCKS,
    WINDOW_SECONDS,
    SmallCity,
    earn,
    settings,
    until,
)

SETTLE, CLOSE = 1000, 5000


def told(city: SmallCity, *, close_seconds: int) -> None:
    """Alice's owner writes this policy."""
    policy = Policy(hub_silent_settle_seconds=SETTLE, hub_silent_close_seconds=close_seconds)
    write_settings(Folder(path=city.folder), settings(city.hub.port, policy))


async def goes_silent(city: SmallCity, wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's machine is gone: nothing answers at its address."""

    async def nobody(*_: object) -> Dialled:
        raise OSError("nothing answers")

    monkeypatch.setattr(connection, "dial", nobody)
    for wire in city.hub.wires:
        wire.close_soon()
    await until(wallet, lambda: wallet._connection.failures >= 3)
    assert wallet._hub_silence.since is not None


async def passes(city: SmallCity, wallet: Wallet, seconds: int) -> None:
    city.chain.mine(seconds=seconds)
    await wallet._follower.refresh()


async def test_what_was_received_is_settled_once_the_hub_is_silent_for_long(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(city, close_seconds=0)
    async with city.wallet() as wallet:
        await earn(wallet)
        notices = wallet.listen()
        await goes_silent(city, wallet, monkeypatch)
        await passes(city, wallet, SETTLE - 1)
        assert city.chain.settled == []
        await passes(city, wallet, 2)
        await until(wallet, lambda: bool(city.chain.settled))
        assert city.chain.settled[0].total.transferred_ucent == 4 * PRICE_UCENT
        assert wallet.status()["hub"]["silent_seconds"] >= SETTLE
        await passes(city, wallet, 10**6)
        assert len(city.chain.settled) == 1
        assert city.chain.view(wallet.channels()[0].id).status is ChainStatus.OPEN
        kinds = []
        while notices.statistics().current_buffer_used:
            kinds.append(notices.receive_nowait().kind)
        assert kinds.count("hub-silent") == 1
        await notices.aclose()


async def test_a_wallet_that_is_told_to_closes_without_the_hub_and_is_paid(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(city, close_seconds=CLOSE)
    async with city.wallet() as wallet:
        await earn(wallet)
        channel = wallet.channels()[0].id
        await goes_silent(city, wallet, monkeypatch)
        await passes(city, wallet, CLOSE + 1)
        await until(wallet, lambda: city.chain.view(channel).status is ChainStatus.CLOSING)
        city.chain.mine(blocks=WINDOW_BLOCKS)
        await passes(city, wallet, WINDOW_SECONDS)
        await until(wallet, lambda: city.chain.view(channel).status is ChainStatus.CLOSED)
        assert city.chain.tokens[ALICE.address] == 4 * PRICE_UCENT


async def test_a_hub_that_comes_back_while_the_wallet_settles_is_not_left(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(city, close_seconds=CLOSE)
    async with city.wallet() as wallet:
        await earn(wallet)
        settle = wallet._guard.settle

        async def slowly(channel: Channel) -> None:
            await settle(channel)
            monkeypatch.setattr(connection, "dial", tls.dial)
            await until(wallet, lambda: wallet._connection.usable() is not None)

        monkeypatch.setattr(wallet._guard, "settle", slowly)
        await goes_silent(city, wallet, monkeypatch)
        await passes(city, wallet, CLOSE + 1)
        await until(wallet, lambda: wallet._hub_silence.since is None)
        assert len(city.chain.settled) == 1
        assert city.chain.view(wallet.channels()[0].id).status is ChainStatus.OPEN


@pytest.mark.parametrize("what", ["hangs_up", "is_mute"])
async def test_a_hub_that_proves_who_it_is_and_does_no_more_is_silent(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(connection, "GREETING_SECONDS_MAX", 0.05)
    told(city, close_seconds=CLOSE)
    async with city.wallet() as wallet:
        await earn(wallet)
        channel, before = wallet.channels()[0].id, len(city.hub.wires)
        setattr(city.hub, what, True)
        for wire in list(city.hub.wires):
            wire.close_soon()
        await until(wallet, lambda: wallet._connection.fruitless >= 3)
        assert len(city.hub.wires) > before  # it is there, and says so
        since = wallet._hub_silence.since
        assert since is not None
        await passes(city, wallet, SETTLE + 1)
        await until(wallet, lambda: bool(city.chain.settled))
        assert wallet._hub_silence.since == since
        await passes(city, wallet, CLOSE + 1)
        await until(wallet, lambda: city.chain.view(channel).status is ChainStatus.CLOSING)


async def test_a_hub_that_answers_again_after_it_hung_up_is_not_silent(city: SmallCity) -> None:
    told(city, close_seconds=CLOSE)
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.hangs_up = True
        for wire in list(city.hub.wires):
            wire.close_soon()
        await until(wallet, lambda: wallet._connection.fruitless >= 3)
        city.hub.hangs_up = False
        await until(wallet, lambda: wallet._connection.usable() is not None)
        await until(wallet, lambda: wallet._hub_silence.since is None)
        assert wallet._connection.fruitless == 0
        await passes(city, wallet, 2 * CLOSE)
        await wallet._hub_silence.look()
        assert city.chain.settled == []


async def test_a_wallet_that_was_off_does_not_take_that_for_the_hubs_silence(
    city: SmallCity,
) -> None:
    told(city, close_seconds=CLOSE)
    async with city.wallet() as wallet:
        await earn(wallet)
    city.chain.mine(seconds=10 * CLOSE)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await wallet._hub_silence.look()
        assert wallet._hub_silence.since is None
        assert city.chain.settled == []


async def test_silence_is_remembered_by_a_device_that_wakes_up_now_and_then(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(city, close_seconds=0)
    async with city.wallet() as wallet:
        await earn(wallet)
        await goes_silent(city, wallet, monkeypatch)
        since = wallet._hub_silence.since
    city.chain.mine(seconds=SETTLE + 1)
    async with city.wallet() as wallet:
        assert wallet._hub_silence.since == since
        await until(wallet, lambda: bool(city.chain.settled))


@pytest.mark.parametrize("seconds", [-1, 10**9, True])
def test_a_silence_that_makes_no_sense_is_refused(seconds: int) -> None:
    with pytest.raises(MalformedSettings, match="hub_silent_close_seconds"):
        Policy(hub_silent_close_seconds=seconds)
