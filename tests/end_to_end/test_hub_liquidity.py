"""A hub's lanes are topped up on a real chain, within its means; what it cannot cover it says."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.messages import PaymentRefused, PaymentRequest
from farthing.channels.state import Channel, Phase
from farthing.channels.terms import Side
from farthing.node import liquidity as liquidity_module
from farthing.node.chain import Mined, Web3Chain
from farthing.node.control import Operator
from farthing.node.hub import Hub
from farthing.node.liquidity import OutOfFunds
from farthing.node.sender import ChainUnreachable, TransactionUnknown, connect
from farthing.node.shortage import NotCovered
from farthing.node.top_ups import TopUpState

from ..hub_world import (
    FLOW_UCENT,
    PROGRAMME,
    City,
    TinyWallet,
    hub_folder,
    running_hub,
    tiny_wallet,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

DEPOSIT, BELOW, TARGET = 4 * FLOW_UCENT, 2 * FLOW_UCENT, 6 * FLOW_UCENT
SMALL = {
    "deposit_ucent": DEPOSIT,
    "top_up_below_ucent": BELOW,
    "top_up_to_ucent": TARGET,
    "top_up_member_day_ucent": 20 * FLOW_UCENT,
}


@asynccontextmanager
async def hub_with(
    city: City, folder: Path, *names: str, minted_ucent: int | None = None, **settings: Any
) -> AsyncIterator[tuple[Hub, list[TinyWallet]]]:
    """A hub of small lanes and a wallet of each name with a channel; it owns what is said."""
    values = {**SMALL, **settings}
    config = await trio.to_thread.run_sync(
        lambda: hub_folder(city, folder / "hub", minted_ucent=minted_ucent, **values)
    )
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(config))
        wallets = []
        for name in names or ("alice",):
            wallet = await stack.enter_async_context(tiny_wallet(city, folder, name=name))
            await stack.enter_async_context(wallet.connected(hub))
            channel = await wallet.join()
            await until(lambda c=channel: hub.driver.get(c.id).phase is Phase.LIVE)  # type: ignore[misc]
            wallets.append(wallet)
        yield hub, wallets


def deposit_ucent(hub: Hub, wallet: TinyWallet) -> int:
    view = hub.driver.get(wallet.channel.id).chain
    assert view is not None
    return view.deposit_ucent[Side.A]


async def use_up(wallet: TinyWallet, readings: int) -> list[str]:
    """Submit readings, each paid or refused; the codes."""
    answer = await wallet.submit(*["1"] * readings)
    return [outcome.code for outcome in answer.outcomes]


def sent(hub: Hub) -> list[tuple[Any, ...]]:
    """The hub's top-ups as they stand on disk."""
    return hub.store.ledger.query("SELECT amount_ucent, nonce, block, state FROM top_up")


def no_promise_is_uncovered(hub: Hub) -> bool:
    return all(c.our_balance_ucent() >= 0 for c in hub.driver.channels.values())


# -- topping up -----------------------------------------------------------------------------------


async def test_lanes_that_run_low_are_topped_up_in_one_transaction(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with hub_with(hub_city, tmp_path, "alice", "bob", "carol") as (hub, wallets):
        alice, bob, carol = wallets
        assert await use_up(alice, 3) == [""] * 3
        assert await use_up(bob, 3) == [""] * 3
        await hub.liquidity.look()
        assert {(amount, state) for amount, _, _, state in sent(hub)} == {
            (str(5 * FLOW_UCENT), "sent")
        }
        assert len({(nonce, block) for _, nonce, block, _ in sent(hub)}) == 1
        await hub.follower.catch_up()
        assert [deposit_ucent(hub, w) for w in wallets] == [9 * FLOW_UCENT] * 2 + [DEPOSIT]
        await hub.liquidity.look()
        assert len(sent(hub)) == 2
        assert not hub.liquidity.report()["on_their_way"]
        rows = {row["channel"]: row for row in await Operator(hub).methods()["liquidity"]({})}
        row = rows[to_hex(alice.channel.id)]
        assert row["topped_up_today_ucent"] == row["member_today_ucent"] == 5 * FLOW_UCENT
        assert (row["low"], row["available_ucent"]) == (False, TARGET)
        assert rows[to_hex(carol.channel.id)]["topped_up_today_ucent"] == 0


async def test_a_pack_that_the_lane_does_not_hold_is_paid_after_its_top_up(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with hub_with(hub_city, tmp_path) as (hub, (alice,)):
        pack = b"\1" * 16
        first = await alice.submit(*["1"] * 8, submission=pack)
        assert [o.code for o in first.outcomes] == ["topping-up"]
        assert hub.driver.get(alice.channel.id).sent.promised.transferred_ucent == 0
        await hub.liquidity.look()
        await hub.follower.catch_up()
        again = await alice.submit(*["1"] * 8, submission=pack)
        assert [o.amount_ucent for o in again.outcomes] == [FLOW_UCENT] * 8
        assert deposit_ucent(hub, alice) == 8 * FLOW_UCENT
        assert no_promise_is_uncovered(hub)


async def test_a_pack_that_no_lane_is_ever_given_enough_for_is_refused_for_good(
    hub_city: City, tmp_path: Path
) -> None:
    async with hub_with(hub_city, tmp_path) as (hub, (alice,)):
        assert await use_up(alice, 25) == ["too-much-at-once"]
        assert hub.liquidity.refusals == {"too-much-at-once": 1}
        assert await use_up(alice, 2) == ["", ""]


async def test_without_top_ups_the_core_says_what_is_missing(
    hub_city: City, tmp_path: Path
) -> None:
    async with hub_with(hub_city, tmp_path, top_up_member_day_ucent=0) as (hub, (alice,)):
        assert await use_up(alice, 5) == ["insufficient-balance"]
        assert await use_up(alice, 4) == [""] * 4
        await hub.liquidity.look()
        assert sent(hub) == []


async def test_a_poisoned_row_does_not_stop_its_neighbours(
    hub_city: City,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bob starts a close in the block before; the hub has not read it yet."""
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with hub_with(hub_city, tmp_path, "alice", "bob") as (hub, (alice, bob)):
        await use_up(alice, 3)
        await use_up(bob, 3)
        real = Web3Chain.deposit_many

        def closing_first(chain: Web3Chain, rows: Any, *, nonce: int) -> Mined:
            own = Web3Chain(connect(hub_city.rpc_url), hub_city.deployment, signer=bob.signer)
            own.start_close(bob.channel.terms)
            return real(chain, rows, nonce=nonce)

        monkeypatch.setattr(Web3Chain, "deposit_many", closing_first)
        await hub.liquidity.look()
        await hub.follower.catch_up()
        assert deposit_ucent(hub, alice) == 9 * FLOW_UCENT
        assert deposit_ucent(hub, bob) == DEPOSIT
        assert sorted(state for *_, state in sent(hub)) == ["sent", "skipped"]
        assert "the channel is not open" in caplog.text
        await hub.liquidity.look()
        assert len(sent(hub)) == 2  # bob's is not tried again at once


# -- money that is not there ----------------------------------------------------------------------


async def test_a_dry_account_refuses_before_it_signs_and_recovers_once_it_has_credit(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with hub_with(hub_city, tmp_path, minted_ucent=DEPOSIT + 1) as (hub, (alice,)):
        with caplog.at_level(logging.INFO, "farthing.hub.liquidity"):
            assert await use_up(alice, 4) == [""] * 4
            await until(lambda: "hub-out-of-funds" in hub.liquidity.report()["trouble"])
            pack = b"\2" * 16
            for _ in range(3):
                answer = await alice.submit("1", submission=pack)
                assert [o.code for o in answer.outcomes] == ["hub-out-of-funds"]
            assert hub.driver.get(alice.channel.id).sent.promised.transferred_ucent == DEPOSIT
            report = hub.status()["liquidity"]
            assert report["refusals"] == {"hub-out-of-funds": 3}
            assert (report["account_ucent"], report["channels_low"]) == (1, 1)
            assert caplog.text.count("out of funds") == 1
            await trio.to_thread.run_sync(hub_city.fund, hub.account)
            await until(lambda: deposit_ucent(hub, alice) == DEPOSIT + TARGET)
            answer = await alice.submit("1", submission=pack)
            assert [o.amount_ucent for o in answer.outcomes] == [FLOW_UCENT]
            await until(lambda: not hub.liquidity.report()["trouble"])
        assert "hub-out-of-funds: over" in caplog.text
        assert sent(hub)[0][0] == str(TARGET)


async def test_channels_are_opened_only_where_the_account_can_fund_them(
    hub_city: City, tmp_path: Path
) -> None:
    async with (
        hub_with(hub_city, tmp_path, minted_ucent=DEPOSIT) as (hub, _),
        tiny_wallet(hub_city, tmp_path, name="bob") as bob,
        bob.connected(hub),
    ):
        bob.propose()
        await bob.until(lambda: bool(bob.errors("hub-out-of-funds")))
        pair = [address_to_hex(bob.account)] * 2
        with pytest.raises(OutOfFunds, match="the account can fund 0"):
            await Operator(hub).methods()["open"]({"pairs": [pair]})
        assert len(hub.driver.channels) == 1
        await trio.to_thread.run_sync(hub_city.fund, hub.account)
        await hub.follower.catch_up()
        await bob.join()


async def test_top_ups_never_pass_what_programmes_have_left(hub_city: City, tmp_path: Path) -> None:
    budget = PROGRAMME.replace("\n[[tariff]]", f"budget_ucent = {7 * FLOW_UCENT}\n[[tariff]]", 1)
    async with hub_with(hub_city, tmp_path, programme=budget) as (hub, (alice,)):
        assert await use_up(alice, 4) == [""] * 4
        await until(lambda: deposit_ucent(hub, alice) == 7 * FLOW_UCENT)
        assert await use_up(alice, 4) == ["", "", "", "budget-spent"]
        await until(lambda: "budget-exhausted" in hub.liquidity.report()["trouble"])
        assert deposit_ucent(hub, alice) == 7 * FLOW_UCENT
        programmes = hub.status()["liquidity"]["programmes"]
        assert programmes["test-block"]["left_ucent"] == 0
        asked = request(alice.channel, FLOW_UCENT)
        alice.send(asked)
        await alice.until(lambda: any(isinstance(m, PaymentRefused) for m in alice.heard))
        refused = next(m for m in alice.heard if isinstance(m, PaymentRefused))
        assert (refused.id, refused.code) == (asked.id, "budget-exhausted")
        assert hub.engine.requests.listed() == []


async def test_one_member_gets_no_more_than_its_cap_of_the_day(
    hub_city: City, tmp_path: Path
) -> None:
    cap = {"top_up_member_day_ucent": 6 * FLOW_UCENT}
    async with hub_with(hub_city, tmp_path, "alice", "bob", **cap) as (hub, (alice, bob)):
        assert await use_up(alice, 4) == [""] * 4
        await until(lambda: deposit_ucent(hub, alice) == 10 * FLOW_UCENT)
        await until(lambda: hub.liquidity.report()["on_their_way"] == 0)
        assert await use_up(alice, 6) == [""] * 6
        pack = b"\3" * 16
        answer = await alice.submit("1", submission=pack)
        assert [o.code for o in answer.outcomes] == ["member-day-cap"]
        assert await use_up(bob, 4) == [""] * 4
        await until(lambda: deposit_ucent(hub, bob) == 10 * FLOW_UCENT)
        assert deposit_ucent(hub, alice) == 10 * FLOW_UCENT
        await trio.to_thread.run_sync(hub_city.warp, 86_400)
        await hub.follower.catch_up()
        await until(lambda: deposit_ucent(hub, alice) == 16 * FLOW_UCENT)
        await alice.look()
        answer = await alice.submit("1", submission=pack)
        assert [o.amount_ucent for o in answer.outcomes] == [FLOW_UCENT]


async def test_what_an_operator_pays_beyond_a_lane_waits_for_its_top_up(
    hub_city: City, tmp_path: Path
) -> None:
    async with hub_with(hub_city, tmp_path) as (hub, (alice,)):
        asked = request(alice.channel, 9 * FLOW_UCENT)
        alice.send(asked)
        await until(lambda: bool(hub.engine.requests.listed()))
        answer = Operator(hub).methods()["answer"]
        with pytest.raises(NotCovered, match="topping-up"):
            await answer({"id": to_hex(asked.id), "pay": True})
        await until(lambda: deposit_ucent(hub, alice) == 9 * FLOW_UCENT)
        await alice.look()
        assert await answer({"id": to_hex(asked.id), "pay": True}) == {
            "id": to_hex(asked.id),
            "state": "paid",
        }
        await alice.wait_received(9 * FLOW_UCENT)


def request(channel: Channel, amount_ucent: int) -> PaymentRequest:
    return PaymentRequest(
        channel=channel.id,
        id=b"\7" * 16,
        amount_ucent=amount_ucent,
        purpose="good-deed",
        expires=2**40,
    )


# -- crashes and answers that do not come ---------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("reaches_the_chain", [True, False])
async def test_a_hub_that_dies_between_sending_and_confirmation_tops_up_once(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reaches_the_chain: bool
) -> None:
    real = Web3Chain.deposit_many

    def dies(chain: Web3Chain, rows: Any, *, nonce: int) -> Mined:
        if reaches_the_chain:
            real(chain, rows, nonce=nonce)
        raise Killed

    channels: list[Channel] = []

    async def until_it_dies() -> None:
        async with hub_with(hub_city, tmp_path) as (_, (alice,)):
            channels.append(alice.channel)
            monkeypatch.setattr(Web3Chain, "deposit_many", dies)
            await use_up(alice, 3)
            await trio.sleep_forever()

    with pytest.raises(Killed):
        await until_it_dies()
    (channel,) = channels
    monkeypatch.setattr(Web3Chain, "deposit_many", real)
    async with running_hub(tmp_path / "hub" / "hub.toml") as hub:
        await until(lambda: not hub.liquidity.report()["on_their_way"] and len(sent(hub)) > 0)
        await until(lambda: chain_deposit(hub, channel) == DEPOSIT + 5 * FLOW_UCENT)
        states = [state for *_, state in sent(hub)]
        assert states.count(TopUpState.ARRIVED.value) <= 1
        await until(
            lambda: (
                [s for *_, s in sent(hub)].count("arrived") == 1
                and hub.liquidity.report()["on_their_way"] == 0
            )
        )
        assert hub.liquidity.report()["topped_up_today_ucent"] == 5 * FLOW_UCENT


def chain_deposit(hub: Hub, channel: Channel) -> int:
    view = hub.driver.get(channel.id).chain
    return 0 if view is None else view.deposit_ucent[Side.A]


async def test_a_top_up_without_an_answer_is_not_sent_again_while_it_may_be_mined(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with hub_with(hub_city, tmp_path) as (hub, (alice,)):
        await use_up(alice, 3)
        real = Web3Chain.deposit_many

        def answer_lost(chain: Web3Chain, rows: Any, *, nonce: int) -> Mined:
            real(chain, rows, nonce=nonce)
            raise TransactionUnknown("topping up: no answer")

        monkeypatch.setattr(Web3Chain, "deposit_many", answer_lost)
        with pytest.raises(TransactionUnknown):
            await hub.liquidity.look()
        monkeypatch.setattr(Web3Chain, "deposit_many", real)
        assert [state for *_, state in sent(hub)] == ["sent"]
        await hub.follower.catch_up()
        for _ in range(3):
            await hub.liquidity.look()
        await hub.driver.wait_durable()
        assert [state for *_, state in sent(hub)] == ["arrived"]
        assert deposit_ucent(hub, alice) == 9 * FLOW_UCENT


async def test_a_top_up_that_never_left_is_sent_again_under_its_own_nonce(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidity_module, "GATHER_SECONDS", float("inf"))
    async with hub_with(hub_city, tmp_path) as (hub, (alice,)):
        await use_up(alice, 3)
        real = Web3Chain.deposit_many

        def never_left(chain: Web3Chain, rows: Any, *, nonce: int) -> Mined:
            raise ChainUnreachable("topping up: the endpoint does not answer")

        monkeypatch.setattr(Web3Chain, "deposit_many", never_left)
        with pytest.raises(ChainUnreachable):
            await hub.liquidity.look()
        monkeypatch.setattr(Web3Chain, "deposit_many", real)
        await hub.liquidity.look()
        await hub.follower.catch_up()
        await hub.liquidity.look()
        await hub.driver.wait_durable()
        (_, nonce, _, lost), (_, again, _, arrived) = sent(hub)
        assert (nonce, lost, arrived) == (again, "lost", "arrived")
        assert deposit_ucent(hub, alice) == 9 * FLOW_UCENT
