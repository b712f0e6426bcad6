"""A wallet ends its channels: in agreement, alone, and against a hub that closes dishonestly."""

import pytest
import trio

from farthing.channels.client.driver import UnknownChannel
from farthing.channels.client.guard import AlreadyClosed, NotClosing, WindowNotOver
from farthing.channels.client.results import NotJoined, TookTooLong
from farthing.channels.client.rpc import RpcUnreachable
from farthing.channels.messages import CloseRequest
from farthing.channels.refusals import NotNow
from farthing.channels.state import ChainStatus, Phase
from farthing.channels.terms import Terms
from farthing.channels.voucher import Voucher

from .small_city import (
    ALICE,
    DEPOSIT_UCENT,
    HUB_ACCOUNT,
    PRICE_UCENT,
    TERMS,
    WINDOW_BLOCKS,
    WINDOW_SECONDS,
    SmallCity,
    earn,
    reading,
    until,
)


async def test_a_channel_closes_in_agreement_and_pays_out(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.pay(20_000, "parking", timeout_seconds=10)
        channel = await wallet.close(timeout_seconds=10)
        assert city.chain.view(channel).status is ChainStatus.CLOSED
        assert city.chain.tokens[ALICE.address] == 4 * PRICE_UCENT - 20_000
        assert city.chain.tokens[HUB_ACCOUNT.address] == DEPOSIT_UCENT - 4 * PRICE_UCENT + 20_000
        await wallet._follower.refresh()
        balance = wallet.balance()
        assert balance.in_channel_ucent == 0
        assert balance.token_ucent == 4 * PRICE_UCENT - 20_000
        with pytest.raises(NotJoined):
            await wallet.pay(1, "parking")
        with pytest.raises(AlreadyClosed):
            await wallet.start_close(channel)
        assert await wallet.finish_close(channel) == channel


async def test_the_wallet_brings_an_agreed_close_to_the_chain_if_the_hub_does_not(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(city.hub, "on_submit_close", lambda channel, close: None)
    async with city.wallet() as wallet, trio.open_nursery() as nursery:
        await earn(wallet)
        nursery.start_soon(wallet.close)
        await until(wallet, lambda: wallet.channels()[0].phase is Phase.FROZEN)
        while wallet.channels()[0].phase is not Phase.CLOSED:
            city.chain.mine(seconds=5)
            await wallet._follower.refresh()
    assert city.chain.tokens[ALICE.address] == 4 * PRICE_UCENT


async def test_closing_without_an_answer_says_how_to_go_on(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.driver.receive = lambda events: None  # type: ignore[method-assign]
        with pytest.raises(TookTooLong, match="close --unilateral"):
            await wallet.close(timeout_seconds=0.05)
        with pytest.raises(NotNow):
            await wallet.pay(1, "parking")
    assert not any(isinstance(message, CloseRequest) for message in city.hub.seen)


async def test_a_wallet_closes_alone_through_the_window(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        with pytest.raises(NotClosing):
            await wallet.finish_close()
        channel = await wallet.start_close(timeout_seconds=10)
        assert city.chain.settled[0].total.transferred_ucent == 4 * PRICE_UCENT
        assert await wallet.start_close(timeout_seconds=10) == channel
        with pytest.raises(WindowNotOver) as caught:
            await wallet.finish_close(timeout_seconds=10)
        assert caught.value.seconds > WINDOW_SECONDS - 10
        city.chain.mine(seconds=WINDOW_SECONDS + 1)
        with pytest.raises(WindowNotOver) as caught:
            await wallet.finish_close(timeout_seconds=10)
        assert (caught.value.seconds, caught.value.blocks > 0) == (0, True)
        city.chain.mine(blocks=WINDOW_BLOCKS + 1)
        assert await wallet.finish_close(timeout_seconds=10) == channel
    assert city.chain.tokens[ALICE.address] == 4 * PRICE_UCENT


async def test_a_close_that_hides_payments_is_answered_at_once(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await city.chain.start_close(TERMS)
        await until(wallet, lambda: city.chain.settled != [])
        await until(wallet, lambda: wallet.balance().unsettled_ucent == 0)
        assert city.chain.settled[0].total == wallet.channels()[0].received.total


async def test_an_answer_that_failed_is_tried_again(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = city.chain.settle
    failures = [RpcUnreachable("http://127.0.0.1:1", "it is down") for _ in range(2)]

    async def settle_later(terms: Terms, voucher: Voucher) -> None:
        if failures:
            raise failures.pop()
        await settle(terms, voucher)

    monkeypatch.setattr(city.chain, "settle", settle_later)
    async with city.wallet() as wallet:
        await earn(wallet)
        notices = wallet.listen()
        await city.chain.start_close(TERMS)
        await until(wallet, lambda: wallet.balance().unsettled_ucent == 0)
        assert failures == []
        with trio.fail_after(10):
            while (await notices.receive()).kind != "answer-failed":
                pass


async def test_nothing_is_accepted_on_a_closing_channel(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        before = wallet.channels()[0].received.total
        await city.chain.start_close(TERMS)
        await until(wallet, lambda: wallet.channels()[0].phase is Phase.CLOSING)
        await wallet.submit([reading()])
        await wallet._follower.refresh()
        assert wallet.channels()[0].received.total == before
        with pytest.raises(NotNow):
            await wallet.pay(1, "parking")


async def test_a_close_asked_for_while_away_is_finished_after_a_restart(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        receive = city.hub.driver.receive
        city.hub.driver.receive = lambda events: None  # type: ignore[method-assign]
        with pytest.raises(TookTooLong):
            await wallet.close(timeout_seconds=0.05)
    city.hub.driver.receive = receive  # type: ignore[method-assign]
    async with city.wallet() as wallet:
        await until(wallet, lambda: wallet.channels()[0].phase is Phase.CLOSED)
    assert city.chain.tokens[ALICE.address] == 4 * PRICE_UCENT


async def test_after_a_close_another_channel_is_opened_only_when_asked_for(
    city: SmallCity,
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        first = await wallet.close(timeout_seconds=10)
        await wallet.submit([reading()])
        await wallet._follower.refresh()
        assert [channel.id for channel in wallet.channels()] == [first]
        second = await wallet.join(timeout_seconds=10)
        assert second != first
        await wallet.wait_queue_empty(timeout_seconds=10)
        await until(wallet, lambda: wallet.balance().in_channel_ucent == PRICE_UCENT)


async def test_which_channel_to_close_is_asked_where_several_are_open(city: SmallCity) -> None:
    second = city.chain.open()
    city.hub.hold(second)
    async with city.wallet() as wallet:
        await until(wallet, lambda: len(wallet.channels()) == 2)
        with pytest.raises(UnknownChannel, match="several channels are open"):
            await wallet.start_close()
        assert await wallet.start_close(second, timeout_seconds=10) == second


async def test_a_wallet_that_closed_joins_again_without_a_restart(empty_city: SmallCity) -> None:
    async with empty_city.wallet() as wallet:
        first = await wallet.join(timeout_seconds=10)
        await wallet.close(timeout_seconds=10)
        second = await wallet.join(timeout_seconds=10)
        assert second != first
        assert empty_city.chain.view(second).status is ChainStatus.OPEN
