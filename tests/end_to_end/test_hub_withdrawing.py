"""Withdrawals at a hub on a real chain: a wallet's, the hub's own, and what cannot be taken."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.control import MalformedRequest
from farthing.channels.client.driver import UnknownChannel
from farthing.channels.events import AskedWithdraw
from farthing.channels.ids import Address, to_hex
from farthing.channels.messages import Error, WithdrawalAccept, WithdrawalOffer
from farthing.channels.refusals import InsufficientBalance, NotNow
from farthing.channels.state import (
    ACT_AGAIN_SECONDS,
    OFFER_SECONDS,
    ChainView,
    Channel,
    Phase,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.units import AmountOutOfRange
from farthing.channels.withdrawing import WithdrawalPending
from farthing.node.control import Operator
from farthing.node.hub import Hub

from ..hub_world import (
    DEPOSIT_UCENT,
    FLOW_UCENT,
    City,
    TinyWallet,
    hub_folder,
    running_hub,
    tiny_wallet,
    until,
)
from ..real_wallet import make_device
from ..real_wallet import pass_time as pass_time_of

pytestmark = pytest.mark.usefixtures("quick_hub")


@asynccontextmanager
async def joined_hub(
    city: City, folder: Path, **settings: Any
) -> AsyncIterator[tuple[Hub, TinyWallet]]:
    """A hub and alice, who is connected and has a channel with it; lanes are not topped up."""
    settings = {"top_up_member_day_ucent": 0, **settings}
    config = await trio.to_thread.run_sync(lambda: hub_folder(city, folder / "hub", **settings))
    async with (
        running_hub(config) as hub,
        tiny_wallet(city, folder) as alice,
        alice.connected(hub),
    ):
        channel = await alice.join()
        await until(lambda: hub.driver.get(channel.id).phase is Phase.LIVE)
        yield hub, alice


async def ask(hub: Hub, method: str, **params: Any) -> Any:
    """Ask as the operator's commands do."""
    return await Operator(hub).methods()[method](params)


async def pass_time(city: City, hub: Hub, wallet: TinyWallet, seconds: int) -> None:
    """A block that much later, taken in by hub and wallet."""
    await trio.to_thread.run_sync(city.warp, seconds)
    await hub.follower.catch_up()
    await wallet.look()


async def view(city: City, channel: Channel) -> ChainView:
    chain = city.chain
    return await trio.to_thread.run_sync(lambda: chain.view(channel.id, chain.head()))


async def tokens(city: City, account: Address) -> int:
    return await trio.to_thread.run_sync(city.treasury.balance_ucent, account)


async def rewarded(wallet: TinyWallet) -> Channel:
    """Alice after two rewards."""
    await wallet.submit("1", "2")
    await wallet.wait_received(2 * FLOW_UCENT)
    return wallet.channel


def both_signed(hub: Hub, channel: Channel, side: Side) -> bool:
    withdrawal = hub.driver.get(channel.id).withdrawals[side]
    return withdrawal is not None and withdrawal.theirs is not None


def withdraw(wallet: TinyWallet, amount_ucent: int) -> None:
    wallet.driver.feed(wallet.channel.id, AskedWithdraw(amount_ucent=amount_ucent))


# -- a wallet's -----------------------------------------------------------------------------------


async def test_the_hub_signs_a_withdrawal_and_submits_it_where_the_wallet_does_not(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        channel = await rewarded(alice)
        await pass_time(hub_city, hub, alice, 1)
        withdraw(alice, 20_000)
        await alice.until(lambda: bool(alice.withdrawals))
        signed = alice.withdrawals[0]
        assert (signed.ours is None, signed.theirs is None) == (False, False)
        await pass_time(hub_city, hub, alice, ACT_AGAIN_SECONDS - 1)
        assert not hub.engine.withdrawals  # it is the wallet's turn
        assert await tokens(hub_city, alice.account) == 0
        await pass_time(hub_city, hub, alice, 1)
        await until(lambda: hub.driver.get(channel.id).withdrawals[Side.B] is None)
        assert (await view(hub_city, channel)).withdrawn_ucent == (0, 20_000)
        assert await tokens(hub_city, alice.account) == 20_000
        await alice.look()
        assert alice.channel.our_balance_ucent() == 2 * FLOW_UCENT - 20_000
        withdraw(alice, 2 * FLOW_UCENT - 20_000)
        totals = [20_000, 2 * FLOW_UCENT]
        await alice.until(
            lambda: sorted({w.terms.total_ucent for w in alice.withdrawals}) == totals
        )


async def test_a_withdrawal_submitted_twice_is_paid_once(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        channel = await rewarded(alice)
        await pass_time(hub_city, hub, alice, 1)
        withdraw(alice, 20_000)
        await alice.until(lambda: bool(alice.withdrawals))
        held = hub.driver.get(channel.id)
        signed = held.withdrawals[Side.B]
        assert signed is not None
        with caplog.at_level(logging.INFO, "farthing.hub.settler"):
            await hub.watcher.withdraw(held, signed)
            assert not caplog.records
            await hub.watcher.withdraw(held, signed)
        assert "total not greater" in caplog.text
        assert await tokens(hub_city, alice.account) == 20_000
        assert (await view(hub_city, channel)).withdrawn_ucent == (0, 20_000)


async def test_a_wallet_gets_no_more_than_it_has_and_hears_why(
    hub_city: City, tmp_path: Path
) -> None:
    """A wallet that believes to be richer than it is, or lies."""
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        channel = await rewarded(alice)
        await pass_time(hub_city, hub, alice, 1)
        too_much = WithdrawalOffer(
            channel=channel.id,
            account=alice.account,
            total_ucent=2 * FLOW_UCENT + 1,
            expires=alice.moment().head_timestamp + OFFER_SECONDS,
            signature=bytes(65),
        )
        alice.send(too_much)
        await alice.until(lambda: bool(alice.errors("insufficient-balance")))
        assert hub.driver.get(channel.id).withdrawals == (None, None)
        assert not [m for m in alice.heard if isinstance(m, WithdrawalAccept)]


async def test_a_real_wallet_withdraws_by_its_own_transaction(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub:
        device = await make_device(hub_city, hub, tmp_path / "alice")
        async with device.wallet() as wallet:
            await wallet.join(timeout_seconds=20)
            await wallet.request(FLOW_UCENT, "refund")
            await until(lambda: bool(hub.engine.requests.listed()))
            (asked,) = await ask(hub, "requests")
            await ask(hub, "answer", id=asked["id"], pay=True)
            with trio.fail_after(20):
                await wallet._pulse.until(lambda: wallet.balance().in_channel_ucent == FLOW_UCENT)
            await pass_time_of(hub_city, hub, wallet, 1)
            notices = wallet.listen()
            first = await wallet.withdraw(1_000, timeout_seconds=20)
            await hub.follower.catch_up()
            second = await wallet.withdraw(2_000, timeout_seconds=20)
            assert (first.total_ucent, second.total_ucent) == (1_000, 3_000)
            assert await device.tokens() == 3_000
            assert (await device.view(wallet)).withdrawn_ucent == (0, 3_000)
            await pass_time_of(hub_city, hub, wallet, ACT_AGAIN_SECONDS)
            kinds = []
            while True:
                try:
                    kinds.append(notices.receive_nowait().kind)
                except trio.WouldBlock:
                    break
            assert kinds == ["withdrawn", "withdrawn"]


# -- the hub's own --------------------------------------------------------------------------------


async def test_a_hub_takes_its_surplus_out_of_an_open_channel(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        channel = await rewarded(alice)
        await pass_time(hub_city, hub, alice, 1)
        before = await tokens(hub_city, hub.account)
        with caplog.at_level(logging.INFO, "farthing.hub"):
            asked = await ask(hub, "withdraw", channel=to_hex(channel.id), amount_ucent=1_000_000)
            assert asked["asked"] is True
            assert (asked["amount_ucent"], asked["total_ucent"]) == (1_000_000, 1_000_000)
            await until(lambda: "up to 1000000 µ¢ in total, is on-chain" in caplog.text)
        assert hub.channel_rows()[0]["withdrawn_ucent"] == 1_000_000
        assert await tokens(hub_city, hub.account) == before + 1_000_000
        assert (await view(hub_city, channel)).withdrawn_ucent == (1_000_000, 0)
        (row,) = hub.channel_rows()
        assert row["available_ucent"] == DEPOSIT_UCENT - 2 * FLOW_UCENT - 1_000_000
        await alice.look()
        assert alice.channel.withdrawals == (None, None)
        await alice.submit("3")
        await alice.wait_received(3 * FLOW_UCENT)


async def test_a_hub_can_leave_nothing_for_rewards_and_no_less_than_it_owes(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        channel = await rewarded(alice)
        await pass_time(hub_city, hub, alice, 1)
        rest = DEPOSIT_UCENT - 2 * FLOW_UCENT
        name = to_hex(channel.id)
        with pytest.raises(InsufficientBalance):
            await ask(hub, "withdraw", channel=name, amount_ucent=rest + 1)
        await ask(hub, "withdraw", channel=name, amount_ucent=rest)
        refused = await alice.submit("3")
        assert [o.code for o in refused.outcomes] == ["insufficient-balance"]
        with pytest.raises(WithdrawalPending):
            await ask(hub, "withdraw", channel=name, amount_ucent=1)
        await until(lambda: hub.channel_rows()[0]["withdrawn_ucent"] == rest)
        await alice.look()
        alice.ask_close()
        await until(lambda: hub.channel_rows()[0]["phase"] == "closed")
        assert await tokens(hub_city, alice.account) == 2 * FLOW_UCENT


async def test_the_wallet_submits_what_the_hub_could_not(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        await pass_time(hub_city, hub, alice, 1)
        monkeypatch.setattr(hub.engine, "on_submit_withdrawal", lambda channel, withdrawal: None)
        name = to_hex(alice.channel.id)
        await ask(hub, "withdraw", channel=name, amount_ucent=1_000)
        await until(lambda: both_signed(hub, alice.channel, Side.A))
        assert not alice.withdrawals
        await pass_time(hub_city, hub, alice, ACT_AGAIN_SECONDS)
        await alice.until(lambda: bool(alice.withdrawals))
        assert alice.withdrawals[0].terms.side is Side.A


async def test_a_hubs_offer_that_no_wallet_answers_dies(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        await pass_time(hub_city, hub, alice, 1)
        alice.driver.receive = lambda events: None  # type: ignore[method-assign]
        await ask(hub, "withdraw", channel=to_hex(alice.channel.id), amount_ucent=1_000)
        assert hub.channel_rows()[0]["available_ucent"] == DEPOSIT_UCENT - 1_000
        with caplog.at_level(logging.INFO, "farthing.hub"):
            await pass_time(hub_city, hub, alice, OFFER_SECONDS + 1)
            await until(lambda: "was not taken in time and is free again" in caplog.text)
        assert hub.channel_rows()[0]["available_ucent"] == DEPOSIT_UCENT


async def test_a_hub_withdraws_from_no_wallet_that_is_away(hub_city: City, tmp_path: Path) -> None:
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub, tiny_wallet(hub_city, tmp_path) as alice:
        async with alice.connected(hub):
            await alice.join()
            name = to_hex(alice.channel.id)
        await until(lambda: hub.server.connections == 0)
        with pytest.raises(NotNow, match="connection to the peer"):
            await ask(hub, "withdraw", channel=name, amount_ucent=1)
        for params, error in (
            ({"amount_ucent": 1}, MalformedRequest),
            ({"channel": name}, MalformedRequest),
            ({"channel": name, "amount_ucent": True}, MalformedRequest),
            ({"channel": name, "amount_ucent": "1"}, MalformedRequest),
            ({"channel": "0x" + "00" * 32, "amount_ucent": 1}, UnknownChannel),
        ):
            with pytest.raises(error):
                await ask(hub, "withdraw", **params)


@pytest.mark.parametrize("amount_ucent", [0, -1, 2**96])
async def test_an_amount_that_no_channel_holds_is_refused(
    hub_city: City, tmp_path: Path, amount_ucent: int
) -> None:
    async with joined_hub(hub_city, tmp_path) as (hub, alice):
        with pytest.raises(AmountOutOfRange):
            await ask(hub, "withdraw", channel=to_hex(alice.channel.id), amount_ucent=amount_ucent)
        assert not [m for m in alice.heard if isinstance(m, Error)]


# -- what a member may cost the hub ---------------------------------------------------------------


async def offered(wallet: TinyWallet, amount_ucent: int) -> WithdrawalOffer:
    """An offer of that much, as a wallet of another make would send it."""
    driver = wallet.driver
    expires = driver._moment().head_timestamp + OFFER_SECONDS
    total = wallet.channel.withdrawn_ucent(Side.B) + amount_ucent
    terms = WithdrawalTerms(side=Side.B, total_ucent=total, expires=expires)
    signature = wallet.signer.sign_digest(driver._withdrawal_digest(wallet.channel, terms))
    return WithdrawalOffer(
        channel=wallet.channel.id,
        account=wallet.account,
        total_ucent=total,
        expires=expires,
        signature=signature,
    )


async def test_a_member_cannot_cost_the_hub_a_transaction_for_each_microcent(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined_hub(hub_city, tmp_path, withdrawal_least_ucent=20_000) as (hub, alice):
        channel = await rewarded(alice)
        await pass_time(hub_city, hub, alice, 1)
        alice.send(await offered(alice, 1))
        await alice.until(lambda: bool(alice.errors("withdrawal-too-small")))
        assert "at least 20000" in alice.errors("withdrawal-too-small")[0].what_to_do
        assert hub.driver.get(channel.id).withdrawals == (None, None)
        withdraw(alice, 20_000)
        await alice.until(lambda: bool(alice.withdrawals))
        await pass_time(hub_city, hub, alice, ACT_AGAIN_SECONDS)
        await until(lambda: hub.driver.get(channel.id).withdrawals[Side.B] is None)
        await alice.look()
        withdraw(alice, 2 * FLOW_UCENT - 20_000)  # less, and all that is left
        total = 2 * FLOW_UCENT
        await alice.until(lambda: any(w.terms.total_ucent == total for w in alice.withdrawals))


async def test_a_member_has_so_many_withdrawals_a_day_and_a_restart_forgets_none(
    hub_city: City, tmp_path: Path
) -> None:
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(hub_city, tmp_path / "hub", withdrawals_member_day_max=1)
    )
    async with tiny_wallet(hub_city, tmp_path) as alice:
        async with running_hub(config) as hub, alice.connected(hub):
            channel = await alice.join()
            await until(lambda: hub.driver.get(channel.id).phase is Phase.LIVE)
            await rewarded(alice)
            await pass_time(hub_city, hub, alice, 1)
            withdraw(alice, 1_000)
            await alice.until(lambda: bool(alice.withdrawals))
            await pass_time(hub_city, hub, alice, ACT_AGAIN_SECONDS)
            await until(lambda: hub.driver.get(channel.id).withdrawals[Side.B] is None)
            await alice.look()
            alice.send(await offered(alice, 1_000))
            await alice.until(lambda: bool(alice.errors("too-many-withdrawals")))
        async with running_hub(config) as hub, alice.connected(hub):
            await alice.wait_live()
            await until(lambda: hub.driver.get(channel.id).phase is Phase.LIVE)
            alice.heard.clear()
            alice.send(await offered(alice, 1_000))
            await alice.until(lambda: bool(alice.errors("too-many-withdrawals")))
            await pass_time(hub_city, hub, alice, 86_400)
            withdraw(alice, 1_000)
            await alice.until(lambda: len(alice.withdrawals) == 2)
