"""The wallet for code without an event loop, against a hub in another thread."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from farthing.channels.client.blocking import Wallet, WalletStopped
from farthing.channels.client.folder import FolderUnusable, WalletInUse
from farthing.channels.client.ledger import LedgerUnusable
from farthing.channels.client.results import TookTooLong
from farthing.channels.client.taking_out import NothingToClaim
from farthing.channels.messages import SubmitReadings
from farthing.channels.refusals import InsufficientBalance
from farthing.channels.state import ChainStatus
from farthing.channels.units import AmountOutOfRange

from .small_city import PASSWORD, PRICE_UCENT, SmallCity, open_city, reading


@pytest.fixture
def town(tmp_path: Path, quick: None) -> Iterator[SmallCity]:
    """A small city that runs in a thread of its own, as a hub elsewhere would."""
    del quick  # it counts for what it did
    opened: list[SmallCity] = []
    tokens: list[trio.lowlevel.TrioToken] = []
    stop, ready = trio.Event(), threading.Event()

    async def serve() -> None:
        async with open_city(tmp_path) as city:
            opened.append(city)
            tokens.append(trio.lowlevel.current_trio_token())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(10)
    yield opened[0]
    tokens[0].run_sync_soon(stop.set)
    thread.join(10)


def wallet_of(city: SmallCity) -> Wallet:
    return Wallet(city.folder, PASSWORD, chain=city.chain, transactions=city.chain)


def test_a_device_earns_and_pays_without_an_event_loop(town: SmallCity) -> None:
    with wallet_of(town) as wallet:
        channel = wallet.join(timeout_seconds=10)
        payments = wallet.receive(timeout_seconds=10)
        submission = wallet.submit([reading(), reading("2")])
        assert wallet.wait_outcome(submission, timeout_seconds=10).paid_ucent == 2 * PRICE_UCENT
        assert [next(payments).nonce, next(payments).nonce] == [1, 2]
        assert wallet.outcome(submission).outcomes is not None
        wallet.wait_queue_empty(timeout_seconds=10)
        assert wallet.pay(5_000, "parking", timeout_seconds=10).acknowledged
        assert wallet.balance().in_channel_ucent == 2 * PRICE_UCENT - 5_000
        assert wallet.status()["account"] == wallet.status()["wallet"]
        assert len(wallet.receipts()) == 3
        ask = wallet.request(700, "refund")
        assert next(payments).amount_ucent == 700
        assert ask.id in [known.id for known in wallet.requests()]
        assert wallet.close(timeout_seconds=10) == channel
        assert town.chain.view(channel).status is ChainStatus.CLOSED
        assert wallet.channels()[0].id == channel


def test_a_device_takes_its_money_out_without_an_event_loop(town: SmallCity) -> None:
    with wallet_of(town) as wallet:
        channel = wallet.join(timeout_seconds=10)
        wallet.wait_outcome(wallet.submit([reading()]), timeout_seconds=10)
        next(wallet.receive(from_start=True, timeout_seconds=10))
        done = wallet.withdraw(5_000, timeout_seconds=10)
        assert (done.channel, done.total_ucent) == (channel, 5_000)
        assert town.chain.tokens == {wallet.account: 5_000}
        with pytest.raises(InsufficientBalance):
            wallet.withdraw(PRICE_UCENT, channel)
        with pytest.raises(NothingToClaim):
            wallet.claim(timeout_seconds=10)
        town.chain.refused_payouts[wallet.account] = 300
        town.chain.mine()
        assert wallet.claim(timeout_seconds=10) == 300
        assert town.chain.tokens == {wallet.account: 5_300}


def test_receiving_ends_when_nothing_comes(town: SmallCity) -> None:
    with wallet_of(town) as wallet:
        assert list(wallet.receive(from_start=True, timeout_seconds=0.05)) == []


def test_errors_arrive_in_the_calling_thread(town: SmallCity) -> None:
    with wallet_of(town) as wallet:
        wallet.join(timeout_seconds=10)
        with pytest.raises(AmountOutOfRange):
            wallet.pay(0, "nothing")
        town.hub.ignored = (SubmitReadings,)
        submission = wallet.submit([reading()])
        with pytest.raises(TookTooLong):
            wallet.wait_outcome(submission, timeout_seconds=0.05)


def test_many_threads_share_one_wallet(town: SmallCity) -> None:
    with wallet_of(town) as wallet:
        wallet.join(timeout_seconds=10)
        threads = [
            threading.Thread(target=wallet.submit, args=([reading(str(number))],))
            for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        wallet.wait_queue_empty(timeout_seconds=10)
        received = wallet.receive(from_start=True, timeout_seconds=10)
        assert [next(received).nonce for _ in range(20)] == list(range(1, 21))


def test_what_cannot_be_opened_raises_at_once(town: SmallCity, tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable), Wallet(tmp_path / "nobody", "password"):
        pass
    with wallet_of(town), pytest.raises(WalletInUse), wallet_of(town):
        pass


def test_a_wallet_is_not_used_outside_of_its_block(town: SmallCity) -> None:
    wallet = wallet_of(town)
    with pytest.raises(WalletStopped):
        wallet.balance()
    with wallet:
        wallet.balance()
    with pytest.raises(WalletStopped):
        wallet.balance()
    with pytest.raises(WalletStopped), wallet:
        pass


def test_a_wallet_whose_disk_fails_says_so_to_everybody(
    town: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LedgerUnusable("the disk is full", remedy="free space")

    with pytest.raises(LedgerUnusable), wallet_of(town) as wallet:  # noqa: PT012 - as it ends
        wallet.join(timeout_seconds=10)
        assert wallet._wallet is not None
        monkeypatch.setattr(wallet._wallet._ledger, "commit", full)
        with pytest.raises((LedgerUnusable, WalletStopped)):
            wallet.submit([reading()])
        assert wallet._thread is not None
        wallet._thread.join(10)
        with pytest.raises(WalletStopped, match="the disk is full"):
            wallet.balance()
