"""A wallet takes money out of its open channel in agreement with the hub, whatever goes wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from farthing.channels.client import taking_out
from farthing.channels.client.ledger import Statement
from farthing.channels.client.results import NotJoined, TookTooLong
from farthing.channels.client.rpc import RpcUnreachable
from farthing.channels.client.taking_out import (
    NothingToClaim,
    WithdrawalNotTaken,
    WithdrawalRefused,
    Withdrawn,
)
from farthing.channels.client.wallet import Wallet
from farthing.channels.errors import LocalError
from farthing.channels.events import ObservedChannel
from farthing.channels.ids import to_hex
from farthing.channels.messages import Error, WithdrawalOffer
from farthing.channels.refusals import InsufficientBalance, NotNow
from farthing.channels.state import (
    ACT_AGAIN_SECONDS,
    OFFER_SECONDS,
    Channel,
    Moment,
    Phase,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Terms
from farthing.channels.withdrawing import WithdrawalPending
from farthing.node.allowances import TooManyWithdrawals

from .small_city import (
    ALICE,
    DEPOSIT_UCENT,
    HUB_ACCOUNT,
    PRICE_UCENT,
    WINDOW_SECONDS,
    SmallCity,
    earn,
    until,
)

EARNED_UCENT = 4 * PRICE_UCENT


@asynccontextmanager
async def earned(city: SmallCity) -> AsyncIterator[Wallet]:
    """A wallet that has joined and was paid for four records."""
    async with city.wallet() as wallet:
        await earn(wallet)
        yield wallet


def pending(wallet: Wallet) -> Withdrawal | None:
    channel = wallet.channels()[0]
    return channel.withdrawals[channel.side]


def both_signed(wallet: Wallet) -> bool:
    withdrawal = pending(wallet)
    return withdrawal is not None and withdrawal.theirs is not None


async def pass_time(city: SmallCity, wallet: Wallet, seconds: int) -> None:
    """A block that much later, taken in by the hub and then by the wallet."""
    city.chain.mine(seconds=seconds)
    for channel in list(city.hub.driver.channels):
        city.hub.hold(channel)
    await wallet._follower.refresh()


@asynccontextmanager
async def withdrawing(
    wallet: Wallet, amount_ucent: int
) -> AsyncIterator[list[Withdrawn | LocalError]]:
    """A withdrawal in the background; the list holds how it ended once the block has ended."""
    ended: list[Withdrawn | LocalError] = []

    async def withdraw() -> None:
        try:
            ended.append(await wallet.withdraw(amount_ucent, timeout_seconds=10))
        except LocalError as error:
            ended.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(withdraw)
        await until(wallet, lambda: pending(wallet) is not None)
        yield ended


def drop_offers(city: SmallCity, monkeypatch: pytest.MonkeyPatch) -> list[WithdrawalOffer]:
    """Let the hub hear no offer of a withdrawal; returns those that came."""
    dropped: list[WithdrawalOffer] = []
    receive = city.hub.driver.receive

    def hear(events: Any) -> None:
        heard = list(events)
        offers = [e.message for _, e in heard if isinstance(e.message, WithdrawalOffer)]
        dropped.extend(offers)
        receive([(c, e) for c, e in heard if not isinstance(e.message, WithdrawalOffer)])
        city.hub.heard.beat()

    monkeypatch.setattr(city.hub.driver, "receive", hear)
    return dropped


def let_hub_submit_nothing(city: SmallCity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(city.hub, "on_submit_withdrawal", lambda channel, withdrawal: None)


def let_wallet_submit_nothing(city: SmallCity, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the chain, and no transaction of its own gets there."""

    async def withdraw(terms: Terms, withdrawal: Withdrawal, *, ours_is_a: bool) -> None:
        raise RpcUnreachable("http://127.0.0.1:1", "it is down")

    monkeypatch.setattr(city.chain, "withdraw", withdraw)


# -- what is taken ------------------------------------------------------------------------------


async def test_a_withdrawal_brings_tokens_into_the_account(city: SmallCity) -> None:
    async with earned(city) as wallet:
        notices = wallet.listen()
        done = await wallet.withdraw(20_000, timeout_seconds=10)
        (channel,) = wallet.channels()
        assert done == Withdrawn(channel=channel.id, amount_ucent=20_000, total_ucent=20_000)
        assert done.record()["channel"] == to_hex(channel.id)
        assert city.chain.tokens == {ALICE.address: 20_000}
        await wallet._follower.refresh()
        balance = wallet.balance()
        assert balance.in_channel_ucent == EARNED_UCENT - 20_000
        assert (balance.withdrawing_ucent, balance.token_ucent) == (0, 20_000)
        assert channel.phase is Phase.LIVE
        with trio.fail_after(10):
            notice = await notices.receive()
            while notice.kind != "withdrawn":
                notice = await notices.receive()
        assert notice.values == {"channel": to_hex(channel.id), "total_ucent": 20_000}


async def test_totals_of_withdrawals_add_up(city: SmallCity) -> None:
    async with earned(city) as wallet:
        first = await wallet.withdraw(20_000, timeout_seconds=10)
        await pass_time(city, wallet, 1)
        second = await wallet.withdraw(5_000, timeout_seconds=10)
        await pass_time(city, wallet, 1)
        assert (first.total_ucent, second.total_ucent) == (20_000, 25_000)
        assert city.chain.view(first.channel).withdrawn_ucent == (0, 25_000)
        third = await wallet.withdraw(EARNED_UCENT - 25_000, timeout_seconds=10)
        assert third.total_ucent == EARNED_UCENT
        assert wallet.balance().in_channel_ucent == 0
        with pytest.raises(InsufficientBalance):
            await wallet.withdraw(1)
        await wallet.close(timeout_seconds=10)
    assert city.chain.tokens[ALICE.address] == EARNED_UCENT
    assert city.chain.tokens[HUB_ACCOUNT.address] == DEPOSIT_UCENT - EARNED_UCENT


async def test_payments_go_on_beside_a_withdrawal(city: SmallCity) -> None:
    async with earned(city) as wallet:
        await wallet.withdraw(20_000, timeout_seconds=10)
        await wallet.pay(EARNED_UCENT - 20_000, "parking", timeout_seconds=10)
        with pytest.raises(InsufficientBalance):
            await wallet.pay(1, "parking")


async def test_the_wallet_submits_where_the_hub_does_not(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_hub_submit_nothing(city, monkeypatch)
    async with earned(city) as wallet:
        await wallet.withdraw(20_000, timeout_seconds=10)
    assert city.chain.tokens == {ALICE.address: 20_000}


async def test_the_hub_submits_where_the_wallet_cannot(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_wallet_submit_nothing(city, monkeypatch)
    async with earned(city) as wallet, withdrawing(wallet, 20_000) as ended:
        await until(wallet, lambda: both_signed(wallet))
        assert city.chain.tokens == {}
        await pass_time(city, wallet, ACT_AGAIN_SECONDS)
        await wallet._follower.refresh()
    assert [one.total_ucent for one in ended if isinstance(one, Withdrawn)] == [20_000]
    assert city.chain.tokens == {ALICE.address: 20_000}


async def test_where_no_submission_gets_through_it_is_tried_until_it_does(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_hub_submit_nothing(city, monkeypatch)
    with monkeypatch.context() as down:
        async with earned(city) as wallet, withdrawing(wallet, 20_000) as ended:
            notices = wallet.listen()
            let_wallet_submit_nothing(city, down)
            with trio.fail_after(10):
                while (await notices.receive()).kind != "withdrawal-not-submitted":
                    pass
            assert city.chain.tokens == {}
            down.undo()
            await pass_time(city, wallet, ACT_AGAIN_SECONDS)
    assert [one.total_ucent for one in ended if isinstance(one, Withdrawn)] == [20_000]
    assert city.chain.tokens == {ALICE.address: 20_000}


# -- what is not taken, or not at once ----------------------------------------------------------


async def test_what_is_under_way_is_shown_and_reserved(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_offers(city, monkeypatch)
    async with earned(city) as wallet:
        with pytest.raises(TookTooLong, match="taken in time or free again"):
            await wallet.withdraw(20_000, timeout_seconds=0.05)
        balance = wallet.balance()
        assert balance.in_channel_ucent == EARNED_UCENT - 20_000
        assert balance.record()["withdrawing_ucent"] == 20_000
        assert balance.settled_ucent + balance.unsettled_ucent == balance.in_channel_ucent
        with pytest.raises(InsufficientBalance):
            await wallet.pay(EARNED_UCENT - 19_999, "parking")
        await wallet.pay(EARNED_UCENT - 20_000, "parking", timeout_seconds=10)
        with pytest.raises(WithdrawalPending) as caught:
            await wallet.withdraw(1)
        assert caught.value.pending.total_ucent == 20_000


async def test_an_offer_that_nobody_answers_dies_and_its_amount_is_free_again(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = drop_offers(city, monkeypatch)
    async with earned(city) as wallet:
        async with withdrawing(wallet, 20_000) as ended:
            with trio.fail_after(10):
                await city.hub.heard.until(lambda: bool(dropped))
            await pass_time(city, wallet, OFFER_SECONDS)
            assert ended == []  # the last second in which the chain takes it
            assert wallet.balance().withdrawing_ucent == 20_000
            await city.hub.cut()
            await pass_time(city, wallet, 1)
        (error,) = ended
        assert isinstance(error, WithdrawalNotTaken)
        assert "free again" in error.what_to_do
        assert wallet.balance().in_channel_ucent == EARNED_UCENT
        await until(wallet, lambda: wallet._connection.usable() is not None)
        monkeypatch.undo()
        assert (await wallet.withdraw(20_000, timeout_seconds=10)).total_ucent == 20_000


async def test_what_the_hub_refuses_is_named_and_stays_reserved(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has not seen a deposit that the wallet has, for longer than a view lags."""
    monkeypatch.setattr(taking_out, "OFFER_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(taking_out, "LAGGING_SECONDS", 0.2)
    async with earned(city) as wallet:
        channel = wallet.channels()[0].id
        city.chain._change(channel, deposit_ucent=(DEPOSIT_UCENT, 1_000))
        await wallet._follower.refresh()
        with pytest.raises(WithdrawalRefused, match="51000 µ¢ are needed and 50000") as caught:
            await wallet.withdraw(EARNED_UCENT + 1_000, timeout_seconds=10)
        expires = caught.value.terms.expires
        assert f"until chain time {expires} has passed" in caught.value.what_to_do
        assert wallet.balance().withdrawing_ucent == EARNED_UCENT + 1_000
        assert wallet.balance().in_channel_ucent == 0
        # Its offer lives: once the hub has seen the deposit, it is taken after all.
        await pass_time(city, wallet, ACT_AGAIN_SECONDS)
        await until(wallet, lambda: wallet.balance().withdrawing_ucent == 0)
        assert city.chain.tokens == {ALICE.address: EARNED_UCENT + 1_000}


class Stingy:
    """A hub that has countersigned as many withdrawals today as it does."""

    def refusal(self, channel: Channel, terms: WithdrawalTerms) -> LocalError:
        del channel, terms
        return TooManyWithdrawals(10)

    def countersigned(self, channel: Channel) -> list[Statement]:
        raise AssertionError(f"{channel.id.hex()} was countersigned")


async def test_what_a_hub_signs_no_more_of_today_is_said_at_once(city: SmallCity) -> None:
    async with earned(city) as wallet:
        city.hub.driver.countersigning = Stingy()
        with pytest.raises(WithdrawalRefused, match="this hub signs 10 withdrawals"):
            await wallet.withdraw(20_000, timeout_seconds=10)


async def test_a_hub_with_a_stale_view_is_asked_again(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = city.hub.moment

    def stale() -> Moment:
        return replace(fresh(), head_seen=fresh().now - WINDOW_SECONDS)

    async with earned(city) as wallet:
        notices = wallet.listen()
        city.hub.driver._moment = stale
        async with withdrawing(wallet, 20_000) as ended:
            with trio.fail_after(10):
                while (await notices.receive()).values.get("code") != "stale-view":
                    pass
            city.hub.driver._moment = fresh
            assert ended == []
            await pass_time(city, wallet, ACT_AGAIN_SECONDS - 1)
            assert pending(wallet) is not None
            await pass_time(city, wallet, 1)
        assert [one.total_ucent for one in ended if isinstance(one, Withdrawn)] == [20_000]


async def test_a_second_withdrawal_does_not_wait_for_a_hub_that_has_not_seen_the_first(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answer is that the first is pending: that passes, and the offer is sent again."""
    let_hub_submit_nothing(city, monkeypatch)
    async with earned(city) as wallet:
        await wallet.withdraw(20_000, timeout_seconds=10)  # submitted by the wallet alone
        notices = wallet.listen()
        async with withdrawing(wallet, 5_000) as ended:
            with trio.fail_after(10):
                while (await notices.receive()).values.get("code") != "withdrawal-pending":
                    pass
            await pass_time(city, wallet, ACT_AGAIN_SECONDS)
        assert [one.total_ucent for one in ended if isinstance(one, Withdrawn)] == [25_000]
        assert city.chain.tokens == {ALICE.address: 25_000}


async def test_a_second_asker_does_not_hide_the_refusal_of_the_first(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_out, "OFFER_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(taking_out, "LAGGING_SECONDS", 0.2)
    async with earned(city) as wallet:
        channel = wallet.channels()[0].id
        city.chain._change(channel, deposit_ucent=(DEPOSIT_UCENT, 1_000))
        await wallet._follower.refresh()
        async with withdrawing(wallet, EARNED_UCENT + 1_000) as ended:
            with pytest.raises(WithdrawalPending):
                await wallet.withdraw(1)
        assert [type(one) for one in ended] == [WithdrawalRefused]


async def test_a_hub_that_sees_a_deposit_late_takes_the_withdrawal_without_another_block(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_out, "OFFER_AGAIN_SECONDS", 0.05)
    async with earned(city) as wallet:
        channel = wallet.channels()[0].id
        city.chain._change(channel, deposit_ucent=(DEPOSIT_UCENT, 1_000))
        await wallet._follower.refresh()
        notices = wallet.listen()
        block = city.chain.block
        async with withdrawing(wallet, EARNED_UCENT + 1_000) as ended:
            with trio.fail_after(10):
                while (await notices.receive()).values.get("code") != "insufficient-balance":
                    pass
            assert city.chain.block == block  # no time passes on this chain
            city.hub.driver.feed(channel, ObservedChannel(view=city.chain.view(channel)))
        assert [one.total_ucent for one in ended if isinstance(one, Withdrawn)] == [51_000]


async def test_an_error_about_something_else_of_the_channel_is_no_refusal(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_out, "OFFER_AGAIN_SECONDS", 0.05)
    dropped = drop_offers(city, monkeypatch)
    async with earned(city) as wallet:
        channel = wallet.channels()[0].id
        async with withdrawing(wallet, 20_000) as ended:
            await until(wallet, lambda: bool(dropped))
            error = Error(code="false-receipt", channel=channel, text="", what_to_do="")
            city.hub.wires[-1].send(error)
            await until(wallet, lambda: len(dropped) > 1)  # it is offered again
            assert ended == []
            await pass_time(city, wallet, OFFER_SECONDS + 1)
        assert [type(one) for one in ended] == [WithdrawalNotTaken]


# -- where there is nothing to take out of --------------------------------------------------------


async def test_without_a_channel_there_is_nothing_to_withdraw_from(empty_city: SmallCity) -> None:
    async with empty_city.wallet() as wallet:
        with pytest.raises(NotJoined):
            await wallet.withdraw(1)


async def test_a_closing_and_a_closed_channel_give_nothing(city: SmallCity) -> None:
    async with earned(city) as wallet:
        channel = await wallet.start_close(timeout_seconds=10)
        with pytest.raises(NotNow, match=r"a withdrawal is not possible while .* closing"):
            await wallet.withdraw(1)
        city.chain._end(channel, city.chain.view(channel).settled_ucent)
        await wallet._follower.refresh()
        with pytest.raises(NotNow, match="closed"):
            await wallet.withdraw(1, channel)
        with pytest.raises(NotJoined):
            await wallet.withdraw(1)


async def test_without_a_connection_nothing_is_offered(city: SmallCity) -> None:
    async with earned(city) as wallet:
        await city.hub.cut()
        await until(wallet, lambda: wallet.channels()[0].phase is not Phase.LIVE)
        with pytest.raises(NotNow):
            await wallet.withdraw(1)
        assert wallet.balance().withdrawing_ucent == 0


# -- beside a close -------------------------------------------------------------------------------


async def test_a_close_ends_a_withdrawal_that_nobody_signed(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_offers(city, monkeypatch)
    async with earned(city) as wallet:
        async with withdrawing(wallet, 20_000) as ended:
            await wallet.close(timeout_seconds=10)
        assert isinstance(ended[0], WithdrawalNotTaken)
        assert wallet.balance().withdrawing_ucent == 0
    assert city.chain.tokens[ALICE.address] == EARNED_UCENT
    assert sum(city.chain.tokens.values()) == DEPOSIT_UCENT


async def test_a_close_beside_a_withdrawal_that_both_signed_pays_everything_once(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_hub_submit_nothing(city, monkeypatch)
    with monkeypatch.context() as down:
        let_wallet_submit_nothing(city, down)
        async with earned(city) as wallet, withdrawing(wallet, 20_000):
            await until(wallet, lambda: both_signed(wallet))
            signed = pending(wallet)
            channel = await wallet.close(timeout_seconds=10)
    assert signed is not None
    city.chain.take_out(channel, signed)  # too late: it is closed
    assert city.chain.tokens[ALICE.address] == EARNED_UCENT
    assert sum(city.chain.tokens.values()) == DEPOSIT_UCENT


async def test_a_withdrawal_that_arrives_before_the_close_is_no_second_payout(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    closes = []
    monkeypatch.setattr(city.hub, "on_submit_close", lambda channel, close: closes.append(close))
    async with earned(city) as wallet:
        async with withdrawing(wallet, 20_000) as ended:
            with pytest.raises(TookTooLong):
                await wallet.close(timeout_seconds=0.05)
        assert [type(one) for one in ended] == [Withdrawn]
        await until(wallet, lambda: wallet.channels()[0].close is not None)
        while wallet.channels()[0].phase is not Phase.CLOSED:
            await pass_time(city, wallet, 5)
    assert closes
    assert city.chain.tokens[ALICE.address] == EARNED_UCENT
    assert sum(city.chain.tokens.values()) == DEPOSIT_UCENT


# -- refused payouts ------------------------------------------------------------------------------


async def test_a_refused_payout_is_claimed(city: SmallCity) -> None:
    async with earned(city) as wallet:
        with pytest.raises(NothingToClaim):
            await wallet.claim(timeout_seconds=10)
        city.chain.refused_payouts[ALICE.address] = 7_000
        city.chain.mine()
        await wallet._follower.refresh()
        assert wallet.balance().claimable_ucent == 7_000
        assert await wallet.claim(timeout_seconds=10) == 7_000
        assert city.chain.tokens == {ALICE.address: 7_000}
        assert (wallet.balance().claimable_ucent, wallet.balance().token_ucent) == (0, 7_000)
        with pytest.raises(NothingToClaim):
            await wallet.claim(timeout_seconds=10)


async def test_a_claim_that_the_chain_does_not_take_is_an_error_and_harmless(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(account: object) -> None:
        raise RpcUnreachable("http://127.0.0.1:1", "it is down")

    city.chain.refused_payouts[ALICE.address] = 7_000
    async with earned(city) as wallet:
        with monkeypatch.context() as down:
            down.setattr(city.chain, "claim", claim)
            with pytest.raises(RpcUnreachable):
                await wallet.claim(timeout_seconds=10)
        assert await wallet.claim(timeout_seconds=10) == 7_000


async def test_a_hub_s_errors_about_channels_that_are_not_ours_are_not_kept(
    city: SmallCity,
) -> None:
    async with earned(city) as wallet:
        channel = wallet.channels()[0].id
        for number in (*range(100), None):
            named = channel if number is None else number.to_bytes(32, "big")
            city.hub.wires[-1].send(Error(code="x", channel=named, text="", what_to_do=""))
        await until(wallet, lambda: channel in wallet._connection.refused)
        assert set(wallet._connection.refused) == {channel}
