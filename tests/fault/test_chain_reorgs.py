"""Blocks are taken back under a top-up, a withdrawal and a close: nothing is paid twice."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from farthing.channels.client.outbox import KEEP_BLOCKS, Sent
from farthing.channels.events import AskedWithdraw
from farthing.channels.ids import Address, to_hex
from farthing.channels.messages import Update
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.signing import sign_voucher
from farthing.channels.state import OFFER_SECONDS_MAX, ChainStatus, Phase
from farthing.channels.terms import Side
from farthing.channels.voucher import Payment
from farthing.devnet.faults.rpc_faults import RpcFault
from farthing.node import liquidity as liquidity_module
from farthing.node.chain import Web3Chain
from farthing.node.sender import TransactionFailed, TransactionUnknown, connect

from ..chains import served_devnet
from ..hub_world import (
    FLOW_UCENT,
    City,
    TinyWallet,
    build_city,
    running_hub,
)
from .test_chain_trouble import Troubled, troubled

SMALL = {
    "deposit_ucent": 4 * FLOW_UCENT,
    "top_up_below_ucent": 2 * FLOW_UCENT,
    "top_up_to_ucent": 6 * FLOW_UCENT,
    "top_up_member_day_ucent": 20 * FLOW_UCENT,
}
FROZEN = {Phase.FROZEN, Phase.RESTORED}
UNTOPPED = {"top_up_member_day_ucent": 0}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A chain of this module's own: it takes blocks back under everybody."""
    with served_devnet() as url:
        yield build_city(url, tmp_path_factory.mktemp("city"))


def deposit_ucent(world: Troubled) -> int:
    """What the hub believes to stand in its lane."""
    assert world.channel.chain is not None
    return world.channel.chain.deposit_ucent[Side.A]


def promised_ucent(world: Troubled) -> int:
    return world.channel.sent.promised.transferred_ucent


def left_ucent(world: Troubled) -> int:
    """What the hub believes alice to own in the channel."""
    return world.channel.peer_balance_ucent(world.channel.received.claimed.transferred_ucent)


async def tokens(city: City, account: Address) -> int:
    return await trio.to_thread.run_sync(city.treasury.balance_ucent, account)


async def warp(world: Troubled, seconds: int) -> None:
    """A block that much later, which hub and wallet see."""
    await trio.to_thread.run_sync(world.city.warp, seconds)
    await world.hub.follower.catch_up()
    await world.alice.look()


async def topped_up(world: Troubled) -> None:
    """Three of four rewards are paid, and the lane then holds nine."""
    answer = await world.alice.submit("1", "2", "3")
    assert [outcome.code for outcome in answer.outcomes] == [""] * 3
    await world.hub.liquidity.look()
    await world.hub.follower.catch_up()
    assert deposit_ucent(world) == 9 * FLOW_UCENT


# -- top-ups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("noted", [True, False])
async def test_a_top_up_that_vanished_is_not_spent_and_comes_back_once(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, noted: bool
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with troubled(city, tmp_path, **SMALL) as world:
        await topped_up(world)
        if noted:
            await world.hub.liquidity.look()  # the hub has seen that it arrived
        await world.reorganise(1, "dropped")
        assert deposit_ucent(world) == 4 * FLOW_UCENT
        answer = await world.alice.submit("4", "5", "6")
        assert "" not in {outcome.code for outcome in answer.outcomes}
        assert promised_ucent(world) == 3 * FLOW_UCENT
        with pytest.raises(TransactionUnknown):
            await world.hub.liquidity.look()  # the one that vanished is sent again
        await world.mine(1)
        await world.hub.liquidity.look()
        await world.mine(1)
        assert deposit_ucent(world) == (await world.view()).deposit_ucent[Side.A]
        assert deposit_ucent(world) == 9 * FLOW_UCENT
        answer = await world.alice.submit("4", "5", "6")
        assert [outcome.code for outcome in answer.outcomes] == [""] * 3


async def test_after_a_spent_top_up_vanished_nothing_more_is_promised_until_it_is_back(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with troubled(city, tmp_path, **SMALL) as world:
        await topped_up(world)
        await world.alice.submit("4", "5", "6")
        assert promised_ucent(world) == 6 * FLOW_UCENT
        await world.reorganise(1, "dropped")
        assert world.channel.our_balance_ucent() < 0  # what was promised stays promised
        assert world.channel.phase is Phase.LIVE
        answer = await world.alice.submit("7")
        assert "" not in {outcome.code for outcome in answer.outcomes}
        assert promised_ucent(world) == 6 * FLOW_UCENT
        with pytest.raises(TransactionUnknown):
            await world.hub.liquidity.look()
        await world.mine(1)
        await world.hub.liquidity.look()
        assert deposit_ucent(world) == 9 * FLOW_UCENT
        answer = await world.alice.submit("7")
        assert [outcome.code for outcome in answer.outcomes] == [""]


DEEP = KEEP_BLOCKS + 2


def under_way(world: Troubled) -> list[Sent]:
    """The top-ups that the hub's outbox keeps."""
    sender = world.hub.desk._chain._sender
    assert sender is not None
    return [row for row in sender._outbox.rows if row.what == "topping up"]


async def long_ago(world: Troubled) -> str:
    """A top-up arrives, and so many blocks come that nothing sends it again; its bytes."""
    await topped_up(world)
    (sent,) = under_way(world)
    await world.mine(DEEP)
    await world.hub.liquidity.look()
    await world.hub.driver.wait_durable()
    assert states(world) == ["arrived"]
    await world.hub.desk.send(lambda chain: chain.look_back())
    assert under_way(world) == []
    return to_hex(sent.raw)


def states(world: Troubled) -> list[str]:
    return [state for (state,) in world.hub.store.ledger.query("SELECT state FROM top_up")]


async def look_until_quiet(world: Troubled) -> None:
    """Let the hub look, and blocks come, until nothing is on its way."""
    with trio.fail_after(20):
        while True:
            with suppress(TransactionUnknown):
                await world.hub.liquidity.look()
                if world.hub.liquidity.report()["on_their_way"] == 0:
                    return
            await world.mine(1)


@pytest.mark.parametrize("kept_by", ["nobody", "the pool", "mallory"])
async def test_a_top_up_that_arrived_long_ago_and_vanished_is_there_again_once(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_by: str
) -> None:
    """It was the day's whole cap; so it must not count for what it no longer did."""
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    settings = {**SMALL, "top_up_member_day_ucent": 5 * FLOW_UCENT}
    async with troubled(city, tmp_path, **settings) as world:
        raw = await long_ago(world)
        fate = "waiting" if kept_by == "the pool" else "dropped"
        await world.reorganise(DEEP + 1, fate)
        if fate == "dropped":
            assert deposit_ucent(world) == 4 * FLOW_UCENT
        await world.hub.driver.wait_durable()
        assert states(world) == ["sent"]
        await look_until_quiet(world)
        if kept_by == "mallory":
            with suppress(AssertionError):  # which says that the chain refuses it
                await trio.to_thread.run_sync(city.ask, "eth_sendRawTransaction", raw)
            await world.mine(1)
            await look_until_quiet(world)
        assert (await world.view()).deposit_ucent[Side.A] == 9 * FLOW_UCENT
        assert deposit_ucent(world) == 9 * FLOW_UCENT
        await world.hub.driver.wait_durable()
        assert states(world).count("arrived") == 1
        assert world.hub.liquidity.report()["topped_up_today_ucent"] == 5 * FLOW_UCENT


async def test_a_hub_that_was_off_when_a_top_up_vanished_learns_of_it_and_sends_it_once(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with troubled(city, tmp_path, **SMALL) as world:
        await topped_up(world)
        await world.hub.liquidity.look()
        config, channel = world.hub.config, world.channel.id
    await trio.to_thread.run_sync(city.ask, "farthing_reorg", 1, "dropped")
    await trio.to_thread.run_sync(city.mine)
    path = tmp_path / "hub" / "hub.toml"
    path.write_text(path.read_text().replace(config.rpc_url, city.rpc_url))
    async with running_hub(path) as hub:
        world = Troubled(city=city, proxy=world.proxy, hub=hub, alice=world.alice)
        await hub.driver.wait_durable()
        assert states(world) == ["sent"]
        await look_until_quiet(world)
        view = hub.driver.get(channel).chain
        assert view is not None
        assert view.deposit_ucent[Side.A] == 9 * FLOW_UCENT


# -- withdrawals ----------------------------------------------------------------------------------


def spend_all(wallet: TinyWallet) -> None:
    """Say a payment of all that alice earned, whatever her own core thinks of it."""
    channel = wallet.channel
    fields = {"amount": 2 * FLOW_UCENT, "block": 1, "at": 1, "purpose": "parking"}
    receipt = make_receipt(ReceiptType.USAGE, fields, salt=bytes(32))
    payment = Payment(amount_ucent=2 * FLOW_UCENT, receipt=receipt)
    total = channel.sent.total.after(payment)
    signed = sign_voucher(
        wallet.city.deployment.domain().separator(),
        wallet.signer,
        channel=channel.id,
        payer=wallet.account,
        total=total,
    )
    wallet.send(
        Update(
            channel=channel.id,
            first_nonce=total.nonce,
            signature=signed.signature,
            payments=(payment,),
        )
    )


async def submit_withdrawal(world: Troubled) -> None:
    """Bring alice's signed withdrawal to the chain, past the endpoint that misbehaves."""
    city, channel = world.city, world.alice.channel
    chain = Web3Chain(connect(city.rpc_url), city.deployment, signer=world.alice.signer)
    withdrawal = world.alice.withdrawals[-1]
    assert withdrawal.ours is not None
    assert withdrawal.theirs is not None
    signatures = (withdrawal.theirs, withdrawal.ours)  # the hub is A
    await trio.to_thread.run_sync(
        lambda: chain.withdraw(
            channel.terms,
            account=world.alice.account,
            total_ucent=withdrawal.terms.total_ucent,
            expires=withdrawal.terms.expires,
            signatures=signatures,
        )
    )


async def withdrawn(world: Troubled, amount_ucent: int) -> None:
    """Alice has taken that much out, and hub and chain show it."""
    await world.alice.submit("1", "2")
    await world.alice.wait_received(2 * FLOW_UCENT)
    await warp(world, 1)
    withdraw = AskedWithdraw(amount_ucent=amount_ucent)
    world.alice.driver.feed(world.alice.channel.id, withdraw)
    await world.alice.until(lambda: bool(world.alice.withdrawals))
    await warp(world, 40)  # the wallet does not submit it: the hub does
    await world.until_view(lambda view: view.withdrawn_ucent == (0, amount_ucent))
    await world.mine(1)
    await world.alice.look()
    assert world.channel.withdrawals == (None, None)


async def test_a_withdrawal_that_vanished_is_not_free_while_it_can_be_taken_and_is_paid_once(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path, **UNTOPPED) as world:
        alice = world.alice
        await withdrawn(world, FLOW_UCENT)
        assert await tokens(city, alice.account) == FLOW_UCENT
        await world.reorganise(2, "dropped")
        await alice.look()
        assert await tokens(city, alice.account) == 0
        assert world.channel.phase is alice.channel.phase is Phase.RESTORED
        spend_all(alice)  # as a wallet would that does not wait
        await alice.until(lambda: bool(alice.errors("not-now")))
        assert world.channel.received.total.transferred_ucent == 0
        # Whoever kept the signed withdrawal brings it to the chain, as the hub itself does again.
        await submit_withdrawal(world)
        await world.mine(1)
        await alice.look()
        assert await tokens(city, alice.account) == FLOW_UCENT
        with pytest.raises(TransactionFailed, match="total not greater"):
            await submit_withdrawal(world)
        await warp(world, 2 * OFFER_SECONDS_MAX)
        await warp(world, 1)
        assert (await world.view()).withdrawn_ucent == (0, FLOW_UCENT)
        assert left_ucent(world) == FLOW_UCENT  # of two that were earned
        assert await tokens(city, alice.account) == FLOW_UCENT


async def test_a_withdrawal_that_vanished_for_good_is_free_again_once_its_time_is_over(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with troubled(city, tmp_path, **UNTOPPED) as world:
        alice = world.alice
        await withdrawn(world, FLOW_UCENT)
        await world.proxy.set(RpcFault.SEND_FORGOTTEN)  # nothing of the hub's is mined any more
        await world.reorganise(2, "dropped")
        await alice.look()
        assert world.channel.phase in FROZEN
        await warp(world, 2 * OFFER_SECONDS_MAX)
        await warp(world, 1)
        assert world.channel.phase is Phase.LIVE
        with pytest.raises(TransactionFailed, match="expired"):
            await submit_withdrawal(world)
        assert (await world.view()).withdrawn_ucent == (0, 0)
        assert left_ucent(world) == 2 * FLOW_UCENT
        assert await tokens(city, alice.account) == 0


# -- closes ---------------------------------------------------------------------------------------


async def test_a_close_that_vanished_is_submitted_again_and_pays_once(
    city: City, tmp_path: Path
) -> None:
    async with troubled(city, tmp_path, **UNTOPPED) as world:
        alice = world.alice
        await alice.submit("1", "2")
        await alice.wait_received(2 * FLOW_UCENT)
        alice.ask_close()
        await world.until_view(lambda view: view.status is ChainStatus.CLOSED)
        await world.mine(1)
        assert world.channel.phase is Phase.CLOSED
        assert await tokens(city, alice.account) == 2 * FLOW_UCENT
        await world.reorganise(2, "dropped")
        await alice.look()
        assert (await world.view()).status is ChainStatus.OPEN
        assert await tokens(city, alice.account) == 0
        assert world.channel.phase in FROZEN
        before = world.channel.received.total
        spend_all(alice)
        await alice.until(lambda: bool(alice.errors("not-now")))
        assert world.channel.received.total == before  # the close that was signed may come back
        with suppress(TransactionUnknown):
            await world.hub.desk.send(lambda chain: chain.look_back())
        await world.until_view(lambda view: view.status is ChainStatus.CLOSED)
        await world.mine(1)
        assert world.channel.phase is Phase.CLOSED
        assert await tokens(city, alice.account) == 2 * FLOW_UCENT


@pytest.mark.parametrize("fate", ["again", "waiting"])
async def test_a_close_whose_block_was_replaced_pays_once(
    city: City, tmp_path: Path, fate: str
) -> None:
    async with troubled(city, tmp_path, **UNTOPPED) as world:
        alice = world.alice
        await alice.submit("1", "2")
        await alice.wait_received(2 * FLOW_UCENT)
        alice.ask_close()
        await world.until_view(lambda view: view.status is ChainStatus.CLOSED)
        await world.mine(1)
        await world.reorganise(2, fate)
        await world.mine(1)
        assert world.channel.phase is Phase.CLOSED
        assert await tokens(city, alice.account) == 2 * FLOW_UCENT
